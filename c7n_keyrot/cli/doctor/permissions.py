# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether roles can be taken, and calls are allowed: by calls that only read, and the simulator."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from c7n_keyrot.aws import calls, listings
from c7n_keyrot.aws.credentials import Access
from c7n_keyrot.aws.errors import CallError, ErrorKind
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context, Target
from c7n_keyrot.cli.doctor.credentials import UNREACHED, fix_of
from c7n_keyrot.core import denials
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.evidence.accounts import Account, take

IMPORT, FINDINGS = "securityhub:BatchImportFindings", "securityhub:GetFindings"
# Not a user's name, nor a key's id; they are in calls that only read.
NOBODY, NO_KEY = "c7n-keyrot-doctor", "AKIAIOSFODNN7EXAMPLE"
# Calls that answer whether they are allowed without doing anything.
READS: dict[str, tuple[str, dict[str, Any]]] = {
    "iam:GetCredentialReport": ("get_credential_report", {}),
    "iam:ListAccountAliases": ("list_account_aliases", {}),
    "iam:GetUser": ("get_user", {"UserName": NOBODY}),
    "iam:ListAccessKeys": ("list_access_keys", {"UserName": NOBODY}),
    "iam:ListUsers": ("list_users", {"MaxItems": 1}),
    "iam:GetAccessKeyLastUsed": ("get_access_key_last_used", {"AccessKeyId": NO_KEY}),
    "iam:GetLoginProfile": ("get_login_profile", {"UserName": NOBODY}),
    "iam:ListAttachedUserPolicies": ("list_attached_user_policies", {"UserName": NOBODY}),
    "iam:ListGroupsForUser": ("list_groups_for_user", {"UserName": NOBODY}),
    "iam:ListUserPolicies": ("list_user_policies", {"UserName": NOBODY}),
    "cloudtrail:LookupEvents": ("lookup_events", {"MaxResults": 1}),
    FINDINGS: ("get_findings", {"MaxResults": 1}),
}
# What Security Hub answers where nobody has enabled it.
NOT_ENABLED = "InvalidAccessException"
DISABLED = "Security Hub isn't enabled"
ENABLE = "enable Security Hub in this account and region, or leave out post-key-finding there"
# Answers that only allowed callers get.
ALLOWED = {"NoSuchEntity", "ReportNotPresent", "ReportInProgress", "ReportExpired"}
UNSEEN = "only the call itself, or iam:SimulatePrincipalPolicy, could show it"
ROLE_TEMPLATE = "deploy/member-role.yml"
# The parameters of that template which allow what it doesn't allow otherwise.
PARAMETERS = {
    "iam:UpdateAccessKey": "Mode=enforcing",
    "iam:TagUser": "Mode=enforcing and Example=graceful-rollout (or delete-stage)",
    "iam:UntagUser": "Mode=enforcing and Example=graceful-rollout (or delete-stage)",
    "iam:GetAccessKeyLastUsed": "Mode=enforcing and Example=superseded-first (or delete-stage)",
    "iam:DeleteAccessKey": "Mode=enforcing and Example=delete-stage",
    "cloudtrail:LookupEvents": "Usage=true",
    IMPORT: "Example=security-hub",
    FINDINGS: "Example=security-hub",
    "iam:ListGroupsForUser": "StockFilters=group (or all)",
    **dict.fromkeys(
        (
            "iam:GenerateServiceLastAccessedDetails",
            "iam:GetLoginProfile",
            "iam:GetPolicy",
            "iam:GetPolicyVersion",
            "iam:GetServiceLastAccessedDetails",
            "iam:ListAttachedGroupPolicies",
            "iam:ListAttachedUserPolicies",
            "iam:ListMFADevices",
            "iam:ListSSHPublicKeys",
            "iam:ListServiceSpecificCredentials",
            "iam:ListUserPolicies",
            "iam:SimulatePrincipalPolicy",
        ),
        "StockFilters=all",
    ),
}
SEND = "sqs:SendMessage"
# By permission: ok, FAIL or not checked, and why.
Answers = dict[str, tuple[str, str]]


def how_to_allow(permission: str, target: Target) -> str:
    """Return how to allow a call in a place."""
    if target.account is None:
        line = f'{{"Effect": "Allow", "Action": "{permission}", "Resource": "*"}}'
        return f"allow {permission} for these credentials, in a Statement of their policy: {line}"
    if target.account.profile and not target.account.roles:
        return f"allow {permission} for the profile"
    if permission in PARAMETERS:
        return f"update the role's stack ({ROLE_TEMPLATE}) with {PARAMETERS[permission]}"
    return f"add to the Statement of {ROLE_TEMPLATE}, and update its stack: {statement(permission)}"


def statement(permission: str) -> str:
    """Return the line of YAML that allows a call to the role of an account."""
    action = permission.partition(":")[2]
    reads = re.match("Get|List|Describe|Lookup|Simulate|Generate", action)
    of_user = permission.startswith("iam:") and re.search("User|AccessKey|LoginProfile", action)
    place = '"*"'
    if of_user and not reads:
        place = "!Sub 'arn:${AWS::Partition}:iam::${AWS::AccountId}:user/*'"
    return f"- {{Effect: Allow, Action: {permission}, Resource: {place}}}"


def checks(context: Context) -> Checks:
    """Check that the policies may do what they need, in each account."""
    if not context.targets:
        return  # an earlier check said why
    if context.own is None:
        yield Check(NOT_CHECKED, "permissions", "no credentials to ask with")
        return
    own = context.own
    if not context.org:
        if context.known:
            yield from _of(context, None, own)
        return

    def progress(done: int, total: int) -> None:
        print(f"permissions: {done} of {total} accounts", file=sys.stderr, flush=True)

    def member(account: Account) -> list[Check]:
        return list(_member(context, account, own))

    for account, lines, error in calls.side_by_side(member, context.accounts, progress):
        if error is not None:
            yield Check(FAIL, "permissions", str(error), "run doctor again", account)
        yield from lines or ()
    notices = list(context.notices())
    if any(not target.sends_as_member(notice) for target, _, notice in notices):
        queues = [queue.arn(own.partition) for queue in context.queues()]
        answers = simulate(own, {SEND: queues})
        fix = f"attach the policy RunnerPolicy of deploy/hub.yml to {own.arn}"
        yield from lines_of(f"permissions of the hub ({own.account_id})", answers, lambda _: fix)


def _member(context: Context, account: Account, own: Access) -> Checks:
    way = f"role {account.roles[-1].rpartition('/')[2]}" if account.roles else "profile"
    try:
        access = take(own, account)
    except CommandError as error:
        cause = error.__cause__
        fix = (
            f"make the role with {ROLE_TEMPLATE} and the external_id of accounts.yml, and let "
            f"{own.arn} take it"
            if account.roles
            else "correct the profile in your AWS configuration, or its entry in accounts.yml"
        )
        if isinstance(cause, CallError):
            fix = fix_of(cause, fix)
            # Without its ARN, so that what is the same in many accounts is one line.
            yield Check(FAIL, "permissions", f"{way} can't be used: {cause}", fix, account)
        else:
            fix = "correct its entry in accounts.yml" if "leads to" in str(error) else fix
            yield Check(FAIL, "permissions", str(error), fix, account)
        return
    yield Check(OK, way, "can be used", account=account)
    yield from _of(context, account, access)


def _of(context: Context, account: Account | None, access: Access) -> Checks:
    """Yield the lines of an account; what its policies need they may need in several regions."""
    targets = [target for target in context.targets if target.account is account]
    needed: set[str] = set()
    sends = False
    for target in targets:
        for policy in target.policies:
            if policy.runs:
                needed |= policy.permissions
                sends |= any(target.sends_as_member(notice) for notice in policy.notices)
    if account is not None and not sends:
        needed.discard(SEND)  # the hub does
    answers: Answers = {}
    try:
        for permission in sorted((needed & READS.keys()) - {FINDINGS}):
            answers[permission] = _read_in(access, permission)
        if IMPORT in needed:
            hub = _read_in(access, FINDINGS, _regions(targets, IMPORT))
            # Custodian's own post-finding doesn't read any.
            if hub[1].startswith(DISABLED):
                answers[IMPORT] = hub
            elif FINDINGS in needed:
                answers[FINDINGS] = hub
    except CallError as error:
        yield Check(FAIL, "permissions", str(error), fix_of(error, "run doctor again"), account)
        return
    user = f"arn:{access.partition}:iam::{access.account_id}:user/{NOBODY}"
    queues = [queue.arn(access.partition) for queue in context.queues()]
    rest = {
        permission: [user]
        if re.search("AccessKey|User", permission)
        else (queues if permission == SEND else [])
        for permission in sorted(needed - answers.keys())
    }
    answers.update(simulate(access, rest))
    yield from lines_of(
        "permissions", answers, lambda permission: how_to_allow(permission, targets[0]), account
    )


def _regions(targets: list[Target], permission: str) -> list[str]:
    """Return the regions in which policies need a call."""
    return list(
        dict.fromkeys(
            target.region
            for target in targets
            if any(policy.runs and permission in policy.permissions for policy in target.policies)
        )
    )


def _read_in(
    access: Access, permission: str, regions: Iterable[str | None] = (None,)
) -> tuple[str, str]:
    """Return the answer of the first region that doesn't allow a call that only reads.

    :param regions: where to ask; None is the region of the credentials.
    """
    for region in regions:
        status, why = read_call(access.client(permission.partition(":")[0], region), permission)
        if why == DISABLED:
            why = f"{DISABLED} in {region}"
        if status != OK:
            return status, why
    return OK, ""


def read_call(client: Any, permission: str) -> tuple[str, str]:
    """Make a call that only reads; return whether it was allowed, or why that isn't known.

    :raises CallError: AWS couldn't be reached, or refuses the credentials, so other calls would
        fail as well.
    """
    method, params = READS[permission]
    try:
        calls.call(client, method, **params)
    except CallError as error:
        if error.kind in (*UNREACHED, ErrorKind.CREDENTIALS):
            raise
        if error.code in ALLOWED:
            return OK, ""
        if error.code == NOT_ENABLED:
            return FAIL, DISABLED
        if not error.denied:
            return NOT_CHECKED, f"failed ({error.code})"
        cause = denials.cause(error.reason)
        # For a key that doesn't exist AWS denies the call to everybody.
        by_nature = permission == "iam:GetAccessKeyLastUsed" and not cause
        return (NOT_CHECKED, "denied") if by_nature else (FAIL, cause)
    return OK, ""


def simulate(access: Access, asked: dict[str, list[str]]) -> Answers:
    """Ask IAM's policy simulator, which makes none of the calls, if it may be asked."""
    principal = access.arn
    taken = re.fullmatch(r"arn:([^:]+):sts::(\d+):assumed-role/([^/]+)/.*", principal)
    source = f"arn:{taken[1]}:iam::{taken[2]}:role/{taken[3]}" if taken else principal
    together: dict[tuple[str, ...], list[str]] = {}
    for permission, resources in asked.items():
        together.setdefault(tuple(resources), []).append(permission)
    answers: Answers = dict.fromkeys(asked, (NOT_CHECKED, UNSEEN))
    for places, permissions in together.items():
        on: dict[str, Any] = {"ResourceArns": list(places)} if places else {}
        try:
            found = listings.pages(
                access.client(),
                "simulate_principal_policy",
                PolicySourceArn=source,
                ActionNames=permissions,
                **on,
            )
            results = [one for page in found for one in page.get("EvaluationResults", ())]
        except CallError:
            break
        for result in results:
            permission, allowed = result["EvalActionName"], result["EvalDecision"] == "allowed"
            if answers[permission][0] != FAIL:
                answers[permission] = (OK, "") if allowed else (FAIL, _cause_of(result))
    return answers


def _cause_of(result: dict[str, Any]) -> str:
    """Return which other policy denies a call, if the simulator knows it."""
    for name, detail, kind in (
        ("OrganizationsDecisionDetail", "AllowedByOrganizations", "service control policy"),
        (
            "PermissionsBoundaryDecisionDetail",
            "AllowedByPermissionsBoundary",
            "permissions boundary",
        ),
    ):
        if result.get(name, {}).get(detail) is False:
            return f"no {kind} allows it"
    denied = result["EvalDecision"] == "explicitDeny"
    return "explicit deny in an identity-based policy" if denied else ""


def lines_of(
    name: str, answers: Answers, fix: Callable[[str], str], account: Account | None = None
) -> Checks:
    """Yield a line for all that is allowed, one for each that isn't, one for what can't be asked.

    :param fix: what to do about a permission that is missing.
    """
    there = [permission for permission, (status, _) in answers.items() if status == OK]
    if there:
        yield Check(OK, name, ", ".join(there), account=account)
    for permission, (status, why) in answers.items():
        if status == FAIL:
            if why.startswith(DISABLED):
                yield Check(FAIL, name, f"{why}, so no finding can be posted", ENABLE, account)
                continue
            what = f"{permission} is denied" + (why and f" ({why})")
            yield Check(
                FAIL, name, what, denials.advice(why, permission) or fix(permission), account
            )
    reasons: dict[str, list[str]] = {}
    for permission, (status, why) in answers.items():
        if status == NOT_CHECKED:
            reasons.setdefault(why, []).append(permission)
    for why, unknown in reasons.items():
        yield Check(NOT_CHECKED, name, f"{', '.join(unknown)}: {why}", account=account)
