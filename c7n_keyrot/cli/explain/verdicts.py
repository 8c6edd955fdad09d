# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads a credential report, and says of each slot what the rule makes of it, and why.

The report is read twice. The first time tells whether it is whole and which names appear twice, so
that nothing of a broken one is printed. The second time goes row by row.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from c7n_keyrot.cli.explain import peers
from c7n_keyrot.core import credential_report, rotation
from c7n_keyrot.core.credential_report import ROOT, ReportError, Row, Slot
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.rotation import DAY, Verdict
from c7n_keyrot.core.text import counted, utc
from c7n_keyrot.evidence.files import MOST

# Of the root user, whom the rule isn't about.
NOT_JUDGED = peers.NOT_JUDGED
NEAR = 2 * DAY  # so close to a deadline its second is named


@dataclass(frozen=True)
class Options:
    """How to judge: the instant (UTC), the days of the rule, the slots, and whether to compare."""

    at: datetime
    days: float
    notice: float
    slots: tuple[int, ...]
    compare: bool


@dataclass(frozen=True)
class ReportInfo:
    """What is known of the whole report before a row of it is printed.

    :ivar generated: when AWS made it, UTC; None for a CSV, which doesn't say it.
    :ivar users: names, each counted once; the root user isn't one.
    :ivar twice: names that appear more than once.
    :ivar longest: characters of the longest name; of the root user's, too, if it has keys.
    """

    content: bytes
    generated: datetime | None
    account_id: str
    users: int
    twice: frozenset[str]
    longest: int

    def rows(self) -> Iterator[Row]:
        """Yield the rows in their order, the root user's included."""
        yield from credential_report.read(credential_report.lines(self.content))


@dataclass(frozen=True)
class SlotVerdict:
    """One slot of one row. ``verdict`` is a ``Verdict``'s value, or ``not judged`` for the root.

    ``age_days`` has one decimal; ``deadline`` is the last instant at which the key isn't stale;
    ``days_left`` are the days until then, rounded up. They are None without a date.
    """

    row: Row
    number: int
    verdict: str
    age_days: float | None
    deadline: datetime | None
    days_left: int | None
    reason: str
    peers: dict[str, peers.Judged] | None

    @property
    def slot(self) -> Slot:
        return self.row.slots[self.number - 1]

    def fields(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        rotated = self.slot.last_rotated
        return {
            "user": self.row.user,
            "arn": self.row.arn,
            "slot": self.number,
            "verdict": self.verdict,
            "active": self.slot.active,
            "last_rotated": rotated.isoformat() if rotated else None,
            "age_days": self.age_days,
            "deadline": self.deadline.isoformat() if self.deadline else None,
            "days_left": self.days_left,
            "reason": self.reason,
            "peers": None if self.peers is None else {n: j.word for n, j in self.peers.items()},
        }


def read(path: str) -> ReportInfo:
    """Read a report, and check the whole of it.

    :param path: of a file; ``-`` for the standard input.
    :raises CommandError: it can't be read, or isn't a whole report.
    """
    name = "the report on stdin" if path == "-" else path
    try:
        if path == "-":
            content = sys.stdin.buffer.read(MOST + 1)
        else:
            with open(path, "rb") as file:
                content = file.read(MOST + 1)
    except OSError as error:
        raise CommandError(f"{name} can't be read: {error.strerror or error}") from None
    if len(content) > MOST:
        raise CommandError(f"{name} is longer than {MOST >> 20} MB: not a credential report")
    content, generated = unwrapped(content)
    accounts, names, twice = set(), set(), set()
    longest = 0
    try:
        for row in credential_report.read(credential_report.lines(content)):
            accounts.add(credential_report.account_of(row))
            if row.user != ROOT:
                if row.user in names:
                    twice.add(row.user)
                names.add(row.user)
            elif not any(slot.has_key for slot in row.slots):
                continue
            longest = max(longest, len(row.user))
        account = credential_report.the_account(accounts)
    except ReportError as error:
        raise CommandError(
            f"{name} isn't a whole credential report of one account: {error}; get it again with "
            "aws iam get-credential-report"
        ) from None
    return ReportInfo(content, generated, account, len(names), frozenset(twice), longest)


def unwrapped(content: bytes) -> tuple[bytes, datetime | None]:
    """Return the CSV out of the answer that ``aws iam get-credential-report`` prints as JSON.

    :returns: the CSV, and when AWS made the report; what isn't such an answer as it is.
    """
    if not content.lstrip().startswith(b"{"):
        return content, None
    try:
        answer = json.loads(content)
        report = base64.b64decode(answer["Content"], validate=True)
        return report, credential_report.instant(answer.get("GeneratedTime"))
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return content, None


def explain(report: ReportInfo, options: Options) -> Iterator[SlotVerdict]:
    """Yield each slot in question of each row, in the report's order.

    The root user's keys aren't the rule's subject. They are here only to be compared, since some
    peers judge them.
    """
    for row in report.rows():
        for number in options.slots:
            slot = row.slots[number - 1]
            if row.user == ROOT and not (options.compare and slot.has_key):
                continue
            verdict, reason = judge(report, row, number, options)
            rotated, at, days = slot.last_rotated, options.at, options.days
            yield SlotVerdict(
                row=row,
                number=number,
                verdict=verdict,
                age_days=round((at - rotated) / DAY, 1) if rotated else None,
                deadline=rotation.deadline(rotated, days) if rotated else None,
                days_left=rotation.days_left(rotated, at, days) if rotated else None,
                reason=reason,
                peers=peers.ask(row, number, at) if options.compare else None,
            )


def judge(report: ReportInfo, row: Row, number: int, options: Options) -> tuple[str, str]:
    """Return the verdict of a slot (1 or 2), and its reason in words."""
    if row.user == ROOT:
        return NOT_JUDGED, "the root user isn't an IAM user, so the rule doesn't judge its keys"
    if row.user in report.twice:
        return Verdict.UNKNOWN.value, (
            "the name appears more than once in the report, and nothing tells which row is right"
        )
    slot = row.slots[number - 1]
    verdict = rotation.verdict(slot, options.at, options.days, options.notice)
    return verdict.value, _reason(verdict, slot, options.at, options.days)


def _reason(verdict: Verdict, slot: Slot, at: datetime, limit: float) -> str:
    if verdict is Verdict.ABSENT:
        return "no key in this slot"
    if verdict is Verdict.UNKNOWN:
        if slot.active is None:
            return "the report says neither that the key is active nor that it isn't"
        return "active, but its date is missing or can't be read"
    rotated = slot.last_rotated
    if rotated is None:
        return "not active, and the rule judges active keys only"
    ago = (at - rotated) / DAY
    when = f"{ago:.1f} days ago" if ago >= 0 else f"{-ago:.1f} days ahead"
    past = f"rotated {rotated:%Y-%m-%d}, {when}"
    if verdict is Verdict.INACTIVE:
        return f"{past}: not active, and the rule judges active keys only"
    end = rotation.deadline(rotated, limit)
    day = utc(end, seconds=True) if abs(end - at) < NEAR else f"{end:%Y-%m-%d}"
    if verdict is Verdict.STALE:
        return f"{past}: stale since {day}"
    return f"{past}: stale after {day}, in {counted(rotation.days_left(rotated, at, limit), 'day')}"
