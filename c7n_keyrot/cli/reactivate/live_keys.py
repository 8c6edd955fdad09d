# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What AWS says of the keys, each read with its account's credentials."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

from c7n_keyrot.aws import calls, credentials, gate, listings
from c7n_keyrot.aws.credentials import Access
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.one_key import GONE, NOT_FOUND, OneKey, looks, outcome_of
from c7n_keyrot.cli.reactivate.history import KeyHistory
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.outcomes import Result, Word
from c7n_keyrot.core.text import listed, one_line
from c7n_keyrot.evidence import accounts
from c7n_keyrot.evidence.accounts import Account

ASK = "allow iam:GetAccessKeyLastUsed and run this again, or check the key by hand"
LAGS = "IAM still shows it Active; its listings lag: run this again in a few minutes"


class NotTouched(Word):
    """Why nothing is done about a key, and nothing is recorded of it."""

    NOT_CHANGED = "not changed"
    IN_DOUBT = "left in doubt"
    UNSETTLED = "not settled"


@dataclass(frozen=True)
class Finding:
    """What AWS shows now: ``outcome`` is ``reactivated`` where that is to be done."""

    key: KeyHistory
    access: Access
    user: str
    outcome: Result | NotTouched
    reason: str = ""

    @property
    def bad(self) -> bool:
        """Whether the command couldn't do its work."""
        failed = self.outcome in (Result.DENIED, Result.FAILED, Result.UNKNOWN)
        return failed or not self.recorded

    @property
    def recorded(self) -> bool:
        return isinstance(self.outcome, Result)

    @property
    def to_do(self) -> bool:
        return self.outcome == Result.REACTIVATED


def look(
    keys: Sequence[KeyHistory], profile: str | None, accounts_file: Path | None
) -> tuple[list[Finding], bool]:
    """Return what is to be done about each key, and whether any account was left out.

    :param profile: of the AWS configuration; None for the usual credentials.
    :param accounts_file: c7n-org's accounts.yml, for the outcomes of several accounts.
    :raises CommandError: there are no credentials, or none for any of the accounts.
    """
    by_account: dict[str, list[KeyHistory]] = {}
    for key in keys:
        by_account.setdefault(key.last.account_id, []).append(key)
    ways = _connect(by_account, profile, accounts_file)
    users: dict[tuple[str, str], list[KeyHistory]] = {}
    for account, of_account in by_account.items():
        way = ways[account]
        if isinstance(way, CommandError):
            are = "key is left as it is" if len(of_account) == 1 else "keys are left as they are"
            text = f"account {account}: {len(of_account)} {are}: {way}"
            print(one_line(text, 1000), file=sys.stderr)
            continue
        for key in of_account:
            users.setdefault((account, key.last.user), []).append(key)
    for way in ways.values():
        if isinstance(way, Access):
            gate.renew(way.client("iam"))  # another account may have taken its time
    found = []
    for place, findings, error in calls.side_by_side(
        lambda place: look_at_user(cast(Access, ways[place[0]]), place[1], users[place]),
        users,
        _progress("users looked at"),
    ):
        if error is None:
            found += findings or []
        else:  # a bug; a failed call is a finding already
            way = cast(Access, ways[place[0]])
            found += [Finding(key, way, place[1], *failure(error)) for key in users[place]]
    return found, any(isinstance(way, CommandError) for way in ways.values())


def _progress(what: str) -> Callable[[int, int], None]:
    return lambda done, of: print(f"{what}: {done} of {of}", file=sys.stderr, flush=True)


def _connect(
    wanted: Iterable[str], profile: str | None, accounts_file: Path | None
) -> dict[str, Access | CommandError]:
    """Return the way into each account, or why there is none."""
    wanted = list(wanted)
    entries: dict[str, Account] = {}
    if accounts_file:
        entries = {account.id: account for account in accounts.load(accounts_file)}
    try:
        own = credentials.own(profile)
    except CallError as error:
        # STS answers so in a region of another partition.
        elsewhere = error.code == "InvalidClientTokenId"
        where = "; those of China or GovCloud need AWS_DEFAULT_REGION, too" if elsewhere else ""
        raise CommandError(
            f"no AWS credentials that work: {error}; set AWS_PROFILE, or give --profile{where}"
        ) from None
    current = own.account_id
    if not accounts_file and current not in wanted:
        named = listed(wanted)
        raise CommandError(
            f"the outcomes are of account {named}, but your credentials are for {current}; use "
            f"credentials of {named} (AWS_PROFILE or --profile), or take its role with --accounts "
            "accounts.yml"
        )

    def connect(account: str) -> Access | CommandError:
        try:
            if account in entries:
                access = accounts.take(own, entries[account])
            elif account == current:
                access = own
            elif accounts_file:
                return CommandError(
                    f"it isn't in {accounts_file}; add it there, or use credentials of {account} "
                    "(AWS_PROFILE or --profile)"
                )
            else:
                return CommandError(
                    f"your credentials are for {current}; for these, use credentials of {account} "
                    "(AWS_PROFILE or --profile), or take its role with --accounts accounts.yml"
                )
            access.client("iam")  # made here, so that it is available later
        except CommandError as error:
            return error
        return access

    return {
        account: way or CommandError(str(error))
        for account, way, error in calls.side_by_side(connect, wanted, _progress("accounts"))
    }


def look_at_user(access: Access, user: str, keys: Sequence[KeyHistory]) -> list[Finding]:
    """Check a user's keys; again for a few seconds if the listing may lag."""
    findings: list[Finding] = []
    for _ in looks():
        try:
            live = statuses(access, user)
        except CallError as error:
            return [Finding(key, access, user, *failure(error)) for key in keys]
        findings = [_look_at_key(access, user, key, live.get(key.id)) for key in keys]
        if not any(finding.outcome is NotTouched.UNSETTLED for finding in findings):
            break
    return findings


def _look_at_key(access: Access, user: str, key: KeyHistory, status: str | None) -> Finding:
    if status is None:
        # Keys stay when a user gets another name, and the old name can be given away again.
        try:
            place = listings.whereabouts(access.client("iam"), key.id, user, key.last.user_id)
            if place.user:
                user, status = place.user, statuses(access, place.user).get(key.id)
        except CallError as error:
            return Finding(key, access, user, *failure(error))
        if place.is_gone:
            return Finding(key, access, user, Result.GONE, GONE)
    if status is None:
        return Finding(key, access, user, Result.UNKNOWN, f"{NOT_FOUND}; {ASK}")
    if status == "Inactive":
        return Finding(key, access, user, Result.REACTIVATED)
    if status != "Active":
        what = f"the key is {one_line(status)}, neither Active nor Inactive: check it by hand"
        return Finding(key, access, user, Result.FAILED, what)
    if key.may_lag(datetime.now(timezone.utc)):
        return Finding(key, access, user, NotTouched.UNSETTLED, LAGS)
    return Finding(key, access, user, Result.SKIPPED, f"the key is {one_line(status)} already")


def statuses(access: Access, user: str) -> dict[str, str]:
    """Return the status of each of a user's keys by its id; none if the user doesn't exist.

    :raises CallError: the call failed.
    """
    try:
        live = listings.live_keys(access.client("iam"), user)
    except CallError as error:
        if error.gone:
            return {}
        raise
    return {key["AccessKeyId"]: key["Status"] for key in live}


def one_key(access: Access, user: str, key: KeyHistory) -> OneKey:
    """Return where to look for a key.

    :param user: who has it now.
    """
    return OneKey(access.client("iam"), key.id, user, key.last.user_id)


def failure(error: CallError) -> tuple[Result, str]:
    """Return the outcome and reason of a call that took no effect."""
    return outcome_of(error), str(error)
