# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot explain REPORT.csv``: what the rule says of each slot of a report, and why.

It needs no credentials and makes no calls.
"""

from __future__ import annotations

import argparse
import math
import re
from datetime import datetime, timezone

from c7n_keyrot.cli.explain.formats import FORMATS
from c7n_keyrot.cli.explain.verdicts import Options, read
from c7n_keyrot.core import credential_report
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.rotation import MOST_DAYS
from c7n_keyrot.core.text import one_line

# ISO 8601. Without a zone it is UTC, without a time the beginning of the day.
AT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII
)
SLOTS = {"1": (1,), "2": (2,), "both": (1, 2)}
EXAMPLES = """\
examples:
  aws iam get-credential-report > report.json && c7n-keyrot explain report.json
  c7n-keyrot explain report.csv --slot 2 --compare
  c7n-keyrot explain report.csv --at 2026-12-24 --format csv > christmas.csv
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "explain",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Prints what the rule says of every user and slot of a credential report, and "
        "why.\nIt needs no credentials and no network.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "report",
        metavar="REPORT.csv",
        help="the credential report, or what aws iam get-credential-report prints; - for stdin",
    )
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
        type=notice,
        default=14,
        help="a key counts as expiring in this many days before that; 0: never (default: 14)",
    )
    parser.add_argument(
        "--slot",
        choices=tuple(SLOTS),
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
        f"{one_line(text, 60)!r} isn't an instant such as 2026-11-26T10:00:00Z or 2026-11-26, from "
        "year 1 to 9999"
    )


def days(text: str) -> float:
    """Read a number of days, fractions allowed; 0 isn't one."""
    number = _number(text)
    if not 0 < number <= MOST_DAYS:
        raise argparse.ArgumentTypeError(
            f"{one_line(text, 60)!r} isn't a number of days above 0 and up to {MOST_DAYS}"
        )
    return number


def notice(text: str) -> float:
    """Read a number of days, or 0 for none."""
    number = _number(text)
    if not 0 <= number <= MOST_DAYS:
        raise argparse.ArgumentTypeError(
            f"{one_line(text, 60)!r} isn't a number of days from 0 to {MOST_DAYS}"
        )
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def run(args: argparse.Namespace) -> int:
    """Run the command; return 0, whatever the verdicts are."""
    if args.notice >= args.days:
        raise CommandError(
            f"--notice {args.notice:g} must be less than --days {args.days:g}, or a new key would "
            "count as expiring; give both"
        )
    at = args.at or datetime.now(timezone.utc).replace(microsecond=0)
    options = Options(at, args.days, args.notice, SLOTS[args.slot], args.compare)
    FORMATS[args.format](read(args.report), options)
    return 0
