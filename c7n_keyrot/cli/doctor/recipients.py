# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Who gets the notices: placeholders, and addresses that make c7n-mailer lose mails.

c7n-mailer sends the mails of a message one after the other. An address that can't be encoded, or
that the mail server refuses, stops it: the mails after it are lost, though keys are disabled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parseaddr
from pathlib import Path
from typing import Any

from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context
from c7n_keyrot.core.text import counted, one_line
from c7n_keyrot.evidence.accounts import Account
from c7n_keyrot.evidence.files import mapping
from c7n_keyrot.evidence.gather import begun_of

# RFC 2606 keeps these for examples, so nobody reads what is sent there.
PLACEHOLDER = re.compile(r"(^|[@.])example(\.(com|net|org|edu))?$|\.invalid$", re.IGNORECASE)
ADDRESS = re.compile(r"[!-?A-~]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
# Words in to and cc that stand for an address, or for another way to reach somebody.
WORDS = ("resource-owner", "event-owner", "account-emails")
OTHER_WAYS = re.compile(r"[a-z]+://|arn:|https?:")
LOST = "the mails after it in the message are lost"
YOURS = "replace it with your own"
SHOWN = 10  # users that get their own line


def checks(context: Context) -> Checks:
    """Check that somebody reads each address, and that c7n-mailer can send to it."""
    wrong = [*_in_policies(context), *_in_mailer(context), *_in_slack(context)]
    yield from wrong
    addresses = len(set(_addresses(context)))
    if addresses and not wrong:
        yield Check(OK, "recipients", counted(addresses, "address") + " in the policies")
    yield from _owners(context)


def fault_of(address: str) -> str:
    """Return what is wrong with an address; "" if nothing is."""
    name = parseaddr(address)[1] or address
    if PLACEHOLDER.search(name):
        return "is a placeholder: nobody reads what is sent there"
    if not address.isascii():
        return f"has letters that aren't ASCII, so it can't be sent to: {LOST}"
    if not ADDRESS.fullmatch(name) or address.count("@") != 1:
        return f"isn't one address, so a mail server may refuse it: {LOST}"
    return ""


def _addresses(context: Context) -> Iterator[tuple[str, str]]:
    """Yield (file, address) of the policies that run."""
    for _, policy, notice in context.notices():
        for word in ("to", "cc", "owner_absent_contact"):
            for address in notice.get(word) or ():
                if address not in WORDS and not OTHER_WAYS.match(str(address)):
                    yield policy.file, str(address)


def _in_policies(context: Context) -> Checks:
    # With these it makes addresses of other words, too.
    makes = any(context.mailer.get(word) for word in ("email_base_url", "ldap_uri"))
    for file, address in dict.fromkeys(_addresses(context)):
        fault = fault_of(address)
        if "@" not in address:
            fault = "" if makes else "isn't an address, so c7n-mailer leaves it out"
        if fault:
            where = place(Path(file), address)
            yield Check(FAIL, "recipients", f"{address} {fault}", f"{YOURS} in {where}")


def _in_mailer(context: Context) -> Checks:
    path, config = context.args.mailer, context.mailer
    for word in ("from_address", "smtp_server"):
        value = config.get(word)
        if not isinstance(value, str):
            continue
        fault = fault_of(value if word == "from_address" else f"x@{value}")
        if fault and (word == "from_address" or "placeholder" in fault):
            where = place(path, value)
            yield Check(FAIL, "recipients", f"{word} {value} {fault}", f"{YOURS} in {where}")


def _in_slack(context: Context) -> Checks:
    """Find what makes c7n-mailer send messages in Slack to the wrong people, or to nobody."""
    found: dict[str, str] = {}
    for _, policy, notice in context.notices():
        to = [str(word) for word in notice.get("to") or ()]
        for word in to:
            where = place(Path(policy.file), word)
            if word.startswith("slack://tag/"):
                what = f"{word} sends all users of a notice to the owner of the first one"
                found[what] = f"replace it with slack://owners in {where}"
            elif word.startswith("slack://") and context.mailer and not _has_slack(context, word):
                what = f"{word} needs slack_token, so c7n-mailer stops at each of these notices"
                found[what] = f"add slack_token to {context.args.mailer}, or remove {word}"
        if "slack://owners" in to and "resource-owner" not in to:
            what = "slack://owners without resource-owner finds no owner"
            found[what] = (
                f"add resource-owner to it in {place(Path(policy.file), 'slack://owners')}"
            )
    for what, fix in found.items():
        yield Check(FAIL, "recipients", what, fix)


def _has_slack(context: Context, word: str) -> bool:
    by_webhook = word.startswith("slack://webhook/")
    return bool(context.mailer.get("slack_webhook" if by_webhook else "slack_token"))


def place(file: Path, text: str) -> str:
    """Return a file, and its first line with a text that isn't in a comment."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for number, line in enumerate(lines, 1):
        if text in line.partition("#")[0]:
            return f"{file}, line {number}"
    return str(file)


# -- owners, by what the last run selected


def _owners(context: Context) -> Checks:
    tags = context.mailer.get("contact_tags")
    if not context.left or not tags:
        if context.left and context.args.mailer is None:
            what = "the tags of the last run's users: --mailer says which ones count"
            yield Check(NOT_CHECKED, "owners", what)
        return
    found = list(dict.fromkeys(_faults(context, [str(tag) for tag in tags])))
    accounts = {account.id: account for account in context.accounts}
    for account_id, user, what, tag in found[:SHOWN]:
        fix = f"correct the tag {tag} of user {user}"
        account: Account | None = accounts.get(account_id)
        yield Check(FAIL, "owners", f"user {user}: {what}", fix, account)
    if len(found) > SHOWN:
        what = f"{len(found) - SHOWN} more users of the last run have such tags"
        yield Check(FAIL, "owners", what, "correct those above, and run doctor again")


def _faults(context: Context, tags: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (account id, user, what is wrong, tag) of owners that the last run's notices go to."""
    config, begun = context.mailer, begun_of(context.left)
    # With these it makes an address of any word.
    makes = any(config.get(word) for word in ("org_domain", "email_base_url", "ldap_uri"))
    for left in context.left:
        if not left.start or left.start < begun or not tells_owners(left.policy):
            continue
        for user in left.resources:
            name = one_line(user.get("UserName"), 100)
            values = {tag: value for tag, value in _tags(user) if tag in tags}
            told = [value for value in values.values() if "@" in value and "." in value]
            for tag, value in values.items():
                shown = one_line(value, 100)
                if value in told:
                    fault = fault_of(value)
                elif not told and not makes:
                    fault = "isn't an address, so the owner gets no notice"
                else:
                    fault = ""
                if fault:
                    yield left.account_id, name, f"{tag} {shown!r} {fault}", tag


def tells_owners(policy: Mapping[str, Any]) -> bool:
    """Tell whether a notice of the policy goes to the owners of what it selects."""
    actions: Iterable[Any] = policy.get("actions") or ()
    return any("resource-owner" in (mapping(action).get("to") or ()) for action in actions)


def _tags(user: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for tag in user.get("Tags") or ():
        yield str(mapping(tag).get("Key")), str(mapping(tag).get("Value"))
