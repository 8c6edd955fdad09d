# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`c7n-keyrot explain REPORT.csv`: what the rule says of each slot of a credential report, and why.

It needs no credentials and makes no calls. The report is read twice. The first time tells whether
it is whole and which names appear twice, so that nothing of a broken one is printed. The second
time prints row by row.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from c7n_keyrot import credential_report, rotation
from c7n_keyrot.cli import CommandError, peers
from c7n_keyrot.cli.text import counted, disarmed, listed, one_line, table, utc
from c7n_keyrot.credential_report import ROOT, ReportError, Row, Slot
from c7n_keyrot.rotation import DAY, Verdict

SCHEMA = "https://c7n-keyrot.example/schemas/explain.schema.json"
# In a row of the root user, which the rule isn't about.
NOT_JUDGED = peers.NOT_JUDGED
WHOLE_DAYS = 2
# ISO 8601. Without a zone it is UTC, without a time the beginning of the day.
AT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII
)
MOST_DAYS = 36525  # a hundred years, as in a policy
COLUMNS = (
    "user",
    "arn",
    "slot",
    "verdict",
    "active",
    "last_rotated",
    "age_days",
    "deadline",
    "days_left",
    "reason",
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "explain",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Prints what the rule says of every user and slot of a credential report, and "
        "why.\nIt needs no credentials and no network.",
        epilog="examples:\n"
        "  aws iam get-credential-report --query Content --output text | base64 -d > report.csv\n"
        "  c7n-keyrot explain report.csv\n"
        "  c7n-keyrot explain report.csv --slot 2 --compare\n"
        "  c7n-keyrot explain report.csv --at 2026-12-24 --format csv > christmas.csv",
    )
    parser.add_argument("report", metavar="REPORT.csv", help="the credential report; - for stdin")
    parser.add_argument(
        "--at",
        metavar="INSTANT",
        type=instant,
        help="judge at this instant (ISO 8601; UTC unless it names a zone; default: now)",
    )
    parser.add_argument(
        "--days",
        metavar="N",
        type=days,
        default=90,
        help="days after which an active key is stale (default: 90)",
    )
    parser.add_argument(
        "--notice",
        metavar="N",
        type=days,
        default=14,
        help="a key counts as expiring in so many last days before that (default: 14)",
    )
    parser.add_argument(
        "--slot",
        choices=("1", "2", "both"),
        default="both",
        help="which access key; the rule is about 2 (default: both)",
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="add what other tools say of each key, by their own boundaries, and why they differ",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="table", help="default: table")
    parser.set_defaults(run=run)


def instant(text: str) -> datetime:
    """Read the value of ``--at``; return it in UTC, to the second."""
    found = AT.fullmatch(text)
    if found:
        day, minute, second, zone = found.groups()
        seconds = (second or ":00")[:3]
        read = credential_report.instant(f"{day}T{minute or '00:00'}{seconds}{zone or 'Z'}")
        if read:
            return read
    raise argparse.ArgumentTypeError(
        f"{one_line(text, 60)!r} isn't an instant such as 2026-11-26T10:00:00Z or 2026-11-26"
    )


def days(text: str) -> float:
    """Read a number of days, fractions allowed."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{one_line(text, 60)!r} isn't a number of days > 0")
    return number


@dataclass(frozen=True)
class Report:
    """What is known of the whole report before a row of it is printed.

    :ivar users: names, each counted once; the root user isn't one.
    :ivar twice: names that appear more than once.
    :ivar longest: characters of the longest name.
    """

    content: bytes
    account_id: str
    users: int
    twice: frozenset[str]
    longest: int

    def rows(self) -> Iterator[Row]:
        """Yield the rows in their order, the root user's included."""
        yield from credential_report.read(credential_report.lines(self.content))


@dataclass(frozen=True)
class Explained:
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


def run(args: argparse.Namespace) -> int:
    """Run the command; return 0, whatever the verdicts are."""
    if args.notice >= args.days:
        raise CommandError(
            f"--notice {args.notice:g} must be less than --days {args.days:g}: a new key would "
            "count as expiring"
        )
    at = args.at or datetime.now(timezone.utc).replace(microsecond=0)
    report = read(args.report)
    FORMATS[args.format](report, explain(report, at, args), at, args)
    return 0


def read(path: str) -> Report:
    """Read a report, and check the whole of it.

    :param path: of a file; ``-`` for the standard input.
    :raises CommandError: it can't be read, or isn't a whole report.
    """
    name = "the report on stdin" if path == "-" else path
    try:
        if path == "-":
            content = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                content = file.read()
    except OSError as error:
        raise CommandError(f"{name} can't be read: {error.strerror or error}") from None
    accounts, names, twice = set(), set(), set()
    longest = 0
    try:
        for row in credential_report.read(credential_report.lines(content)):
            accounts.add(credential_report.account_of(row))
            if row.user == ROOT:
                continue
            if row.user in names:
                twice.add(row.user)
            names.add(row.user)
            longest = max(longest, len(row.user))
        account = credential_report.the_account(accounts)
    except ReportError as error:
        raise CommandError(
            f"{name} isn't a whole credential report of one account: {error}; get it anew with "
            "aws iam get-credential-report --query Content --output text | base64 -d"
        ) from None
    return Report(content, account, len(names), frozenset(twice), longest)


def explain(report: Report, at: datetime, args: argparse.Namespace) -> Iterator[Explained]:
    """Yield each slot in question of each row, in the report's order.

    The root user's keys aren't the rule's subject. They are here only to be compared, since some
    peers judge them.
    """
    numbers = (1, 2) if args.slot == "both" else (int(args.slot),)
    for row in report.rows():
        for number in numbers:
            slot = row.slots[number - 1]
            if row.user == ROOT and not (args.compare and slot.has_key):
                continue
            verdict, reason = judge(report, row, number, at, args)
            rotated = slot.last_rotated
            yield Explained(
                row=row,
                number=number,
                verdict=verdict,
                age_days=round((at - rotated) / DAY, 1) if rotated else None,
                deadline=rotation.deadline(rotated, args.days) if rotated else None,
                days_left=rotation.days_left(rotated, at, args.days) if rotated else None,
                reason=reason,
                peers=peers.ask(row, number, at) if args.compare else None,
            )


def judge(
    report: Report, row: Row, number: int, at: datetime, args: argparse.Namespace
) -> tuple[str, str]:
    """Return the verdict of a slot, and its reason in words."""
    if row.user == ROOT:
        return NOT_JUDGED, "the root user isn't an IAM user, so the rule doesn't judge its keys"
    if row.user in report.twice:
        return Verdict.UNKNOWN.value, (
            "the name appears more than once in the report, and nothing tells which row is right"
        )
    slot = row.slots[number - 1]
    verdict = rotation.verdict(slot, at, args.days, args.notice)
    return verdict.value, _reason(verdict, slot, at, args.days)


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
    # Close to it the second decides.
    near = abs(end - at) < WHOLE_DAYS * DAY
    day = utc(end, seconds=True) if near else f"{end:%Y-%m-%d}"
    if verdict is Verdict.STALE:
        return f"{past}: stale since {day}"
    return f"{past}: stale after {day}, in {counted(rotation.days_left(rotated, at, limit), 'day')}"


# -- the formats


def _as_json(
    report: Report, found: Iterator[Explained], at: datetime, args: argparse.Namespace
) -> None:
    """Print JSON, a key a line."""
    about = {
        "generated": None,  # the CSV doesn't say
        "at": at.isoformat(),
        "account_id": report.account_id,
        "users": report.users,
        "days": args.days,
        "notice": args.notice,
        "appear_twice": sorted(report.twice),
    }
    print(
        f'{{"$schema": {json.dumps(SCHEMA)},\n "report": {json.dumps(about)},\n "keys": [', end=""
    )
    for number, one in enumerate(found):
        print(",\n  " if number else "\n  ", json.dumps(one.fields()), sep="", end="")
    print("\n ]}")


def _as_csv(
    report: Report, found: Iterator[Explained], at: datetime, args: argparse.Namespace
) -> None:
    """Print CSV, a key a row; spreadsheets take no field for a formula."""
    names = [peer.name for peer in peers.PEERS] if args.compare else []
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*COLUMNS, *names])
    for one in found:
        fields = one.fields()
        said = fields.pop("peers") or {}
        cells = [_plain(fields[column]) for column in COLUMNS] + [said[name] for name in names]
        writer.writerow([disarmed(cell) if isinstance(cell, str) else cell for cell in cells])


def _plain(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _as_table(
    report: Report, found: Iterator[Explained], at: datetime, args: argparse.Namespace
) -> None:
    """Print a table for a terminal, and a line that counts the verdicts."""
    longest = max(report.longest, len(ROOT) if args.compare else 0)
    say = table({"USER": longest, "SLOT": 4, "VERDICT": 10 if args.compare else 8})
    print(say("USER", "SLOT", "VERDICT", "WHY"))
    verdicts: Counter[str] = Counter()
    for one in found:
        verdicts[one.verdict] += 1
        print(say(one.row.user, str(one.number), one.verdict, one.reason))
        for line in differences(one):
            print(say("", "", "", line))
    order = [each.value for each in Verdict] + [NOT_JUDGED]
    counts = ", ".join(f"{verdicts[name]} {name}" for name in reversed(order) if verdicts[name])
    print(
        f"\nAccount {one_line(report.account_id)} at {utc(at, seconds=True)}, "
        f"stale after {args.days:g} days: {counted(report.users, 'user')}, "
        f"{counted(sum(verdicts.values()), 'slot')}" + (f": {counts}." if counts else ".")
    )
    if report.twice:
        print(f"Appear more than once: {listed(sorted(report.twice))}.")
    if args.compare:
        print(
            "Peers judge by their own 90 days. Those that use CreateDate are given last rotated, "
            "since the report has no other date."
        )


def differences(one: Explained) -> Iterator[str]:
    """Say which peers judge a key otherwise than we do, and why."""
    if one.peers is None:
        return
    ours = {
        Verdict.STALE.value: peers.FAIL,
        Verdict.FRESH.value: peers.PASS,
        Verdict.EXPIRING.value: peers.PASS,
    }.get(one.verdict, NOT_JUDGED)
    others: dict[peers.Judged, list[str]] = {}
    for name, judged in one.peers.items():
        if judged.word != ours:
            others.setdefault(judged, []).append(name)
    for judged, names in others.items():
        yield f"- {', '.join(names)}: {judged.word}: {judged.why}"


FORMATS = {"table": _as_table, "json": _as_json, "csv": _as_csv}
