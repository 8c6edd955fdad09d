# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What AWS's message about a denied call says of its cause, and nothing else of the message.

Kept are AWS's fixed words for the kind of policy, as its page "Troubleshoot access denied error
messages" has them, and the authorization id that its Access Troubleshooter reads.
"""

from __future__ import annotations

import re

# What to do, by the kind of policy; {call} is such as iam:UpdateAccessKey.
KINDS = {
    "service control policy": "have the organization's administrators let {call} through that "
    "policy: the role's own policies can't",
    "resource control policy": "have the organization's administrators let {call} through that "
    "policy: the role's own policies can't",
    "permissions boundary": "allow {call} in the permissions boundary as well",
    "session policy": "allow {call} in the policy that the session is made with as well",
    "VPC endpoint policy": "allow {call} in the policy of the VPC endpoint that calls go through",
    "resource-based policy": "allow {call} in the policy of what it is about, such as a queue's "
    "policy or a role's trust policy",
    "identity-based policy": "look for the Deny of {call} in the policies of who calls; one may be "
    "meant, such as ProtectedPath of deploy/member-role.yml",
}
_KIND = "|".join(KINDS)
_EXPLICIT = re.compile(rf"\bexplicit deny in an? ({_KIND})\b")
_MISSING = re.compile(rf"\bno ({_KIND}) allows\b")
# Its pattern is of AWS's model of GetRequestAuthorizationDetails.
_ID = re.compile(r"\bauthorization id:? ([0-9A-Za-z]{1,128})\b", re.IGNORECASE)
# What boto's own text of an error begins with.
_ERROR = re.compile(r"An error occurred \(([\w.]+)\) when calling the (\w+) operation")
_CALL = re.compile(r"\bnot authorized to perform: ([a-z0-9-]+:\w+)")


def cause(message: str) -> str:
    """Return why a call is denied, in AWS's words; "" if its own policies just don't allow it.

    :param message: AWS's message, or a line that already has these words.
    """
    explicit, missing = _EXPLICIT.search(message), _MISSING.search(message)
    if explicit:
        return explicit[0]
    if missing and missing[1] != "identity-based policy":
        return f"{missing[0]} it"
    return ""


def said_of(message: str) -> str:
    """Return the cause of a denied call, and the authorization id if there is one."""
    found = _ID.search(message)
    return ", ".join(
        part for part in (cause(message), found and f"authorization id {found[1]}") if part
    )


def advice(message: str, call: str) -> str:
    """Return what to do about a denied call; "" if its own policies just don't allow it.

    :param message: AWS's message, or a line that has its words.
    :param call: such as ``iam:UpdateAccessKey``.
    """
    found = _EXPLICIT.search(message) or _MISSING.search(message)
    return KINDS[found[1]].format(call=call) if found and cause(message) else ""


def of_boto(text: str) -> str:
    """Return boto's text of an error of AWS without AWS's message; "" for any other text."""
    found, named = _ERROR.search(text), _CALL.search(text)
    if not found:
        return ""
    code, call = found[1], named[1] if named else found[2]
    said = said_of(text)
    verb = "is denied" if named else "failed"
    return f"{call} {verb} ({code}{said and f': {said}'})"
