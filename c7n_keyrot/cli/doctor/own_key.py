# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether a policy would come to the access key that the run itself works with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from botocore.exceptions import BotoCoreError

from c7n_keyrot.aws import calls, listings, own_keys
from c7n_keyrot.aws.credentials import Access
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.own_keys import Own
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context, Planned, Target
from c7n_keyrot.core import rotation
from c7n_keyrot.core.credential_report import ReportError, Row, parse
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.evidence.accounts import take

NAME = "own key"
FIX = "start the run with a role, or rotate this key and start it with the new one"


def checks(context: Context) -> Checks:
    """Check the key that these credentials are, in each account whose keys policies take."""
    if context.own is None:
        return  # an earlier check said why
    seen: set[str] = set()
    for target in context.targets:
        policies = [policy for policy in target.policies if policy.runs and policy.takes]
        if policies and target.account_id not in seen:
            seen.add(target.account_id)
            yield from _in_account(context.own, target, policies)


def _in_account(start: Access, target: Target, policies: list[Planned]) -> Checks:
    account = target.account
    try:
        own = own_keys.of(start.session)
        user = own_keys.user_in(start.arn)
        if account is not None and account.profile and not account.roles:
            access = take(start, account)
            own, user = own_keys.of(access.session), own_keys.user_in(access.arn)
        users = own.users | ({user} if user else set())
        names = sorted(name for number, name in users if number == target.account_id)
        if not users and any(key_id.startswith("AKIA") for key_id in own.ids):
            access = take(start, account) if account else start
            names = list(_names(access, own))
        if not names:
            return
        access = take(start, account) if account else start
        for name in names:
            yield from _of_user(access, name, own, target, policies)
    except (CallError, CommandError, BotoCoreError) as error:
        what = f"whether it is a key that the policies take can't be found out: {error}"
        yield Check(NOT_CHECKED, NAME, what, account=account)


def _names(access: Access, own: Own) -> Iterator[str]:
    """Yield whose keys they are; the keys of another account aren't found, or are denied."""
    for key_id in sorted(own.ids):
        try:
            yield calls.call(access.client(), "get_access_key_last_used", AccessKeyId=key_id)[
                "UserName"
            ]
        except CallError as error:
            if not (error.gone or error.denied):
                raise


def _of_user(
    access: Access, name: str, own: Own, target: Target, policies: list[Planned]
) -> Checks:
    try:
        live = listings.live_keys(access.client(), name)
    except CallError as error:
        if error.gone:
            return  # nothing can be taken from a user who doesn't exist
        raise
    mine = [key for key in live if own.has(target.account_id, name, key["AccessKeyId"])]
    now = datetime.now(timezone.utc)
    old = {key["AccessKeyId"]: key for key in mine if _takers(policies, key, None, now)}
    try:
        row = _row_of(access, name) if old else None
    except (CallError, ReportError, KeyError):
        what = f"a key of user {name} is over the limit; its slot isn't known without a report"
        yield Check(NOT_CHECKED, NAME, what, FIX, target.account)
        return
    slots = _slots_of(row, live) if row else {}
    failed = False
    for key_id, key in old.items():
        takers = _takers(policies, key, slots.get(key_id), now)
        if takers:
            failed = True
            what = (
                f"these credentials are of user {name}, key {key_id}, which {', '.join(takers)} "
                "would take: it is skipped, and stays against the rule"
            )
            yield Check(FAIL, NAME, what, FIX, target.account)
    if not failed:
        yield Check(OK, NAME, f"of user {name}; no policy would take it now", "", target.account)


def _row_of(access: Access, name: str) -> Row:
    """Return a user's row of the credential report.

    :raises CallError: there is no report, or it can't be fetched.
    :raises ReportError: it can't be read.
    :raises KeyError: the user isn't in it.
    """
    answer = calls.call(access.client(), "get_credential_report")
    return parse(answer["Content"], answer["GeneratedTime"]).rows[name]


def _slots_of(row: Row, live: list[dict[str, Any]]) -> dict[str, int]:
    """Return the slots of a user's live keys by their ids, as far as the report tells them."""
    slots: dict[str, int] = {}
    for slot in (1, 2):
        found, _ = rotation.identify(row, slot, live)
        if found is not None:
            slots[found["AccessKeyId"]] = slot
    return slots


def _takers(
    policies: list[Planned], key: dict[str, Any], its_slot: int | None, now: datetime
) -> list[str]:
    """Return the names of the policies that would take a key; without its slot, in any."""
    return [
        policy.name
        for policy in policies
        if any(
            its_slot in (None, slot)
            and key["Status"] == status
            and rotation.is_older(rotation.created(key), now, days)
            for slot, days, status in policy.takes
        )
    ]
