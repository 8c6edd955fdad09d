# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot plan OUTPUT_DIR``: what a dry run would do, over all accounts, before it is done."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from c7n_keyrot.cli import acting
from c7n_keyrot.cli.plan.figures import (
    DELETE,
    DISABLE,
    LEAVE,
    NOTIFY,
    UNKNOWN,
    AccountPlan,
    Plan,
    PlannedKey,
    make,
)
from c7n_keyrot.cli.tables import paragraph, table
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import counted, how_long, listed, one_line, utc
from c7n_keyrot.evidence.accounts import Account, load, select
from c7n_keyrot.evidence.files import Damage
from c7n_keyrot.evidence.gather import PolicyFolder, gather

MOST_ROWS = 40
MOST_KEYS = 1_000_000_000  # of --max-keys
# Exit codes, the gravest first: the first one that is true is returned. 0 is a promise.
NOT_ONLY_NOTICES, NOT_KNOWN, TOO_MANY, TOO_LARGE = 6, 3, 4, 5
MOST_AGE = timedelta(days=1)  # of a plan; older reports aren't acted on either


EXIT_CODES = """\
exit codes; if several are true, the first one of 6, 3, 4, 5:
  0   everything was checked, and is within all limits that are given
  1   there is no plan: no dry run, or a file that can't be read
  2   wrong arguments
  3   not all is known: an account isn't covered, a policy may disable or delete keys
      that can't be counted, policies share a name, a file can't be read, or the dry
      run is over a day old
  4   more keys would be disabled or deleted than --max-keys
  5   a larger share of the active keys would be disabled than --max-percent
  6   --only-notices: a policy of --policies does more than notify
Whatever else it is (a signal ended it, such as 137), nothing is known: treat it as 1.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "plan",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Prints which keys a dry run would disable, delete, notify about and leave,\n"
        "by account, and in total. It makes no calls. Its exit code stops a pipeline before\n"
        "anything happens.",
        epilog=EXIT_CODES + "\n"
        "examples:\n"
        "  custodian run --dryrun -s look policies/ && c7n-keyrot plan look\n"
        "  c7n-org run --dryrun -c accounts.yml -s look -u policies/second-access-key.yml\n"
        "  c7n-keyrot plan look --accounts accounts.yml --max-keys 50 --max-percent 5\n"
        "  c7n-keyrot plan look --policies examples/notify-only.yml --only-notices",
    )
    parser.add_argument(
        "dir", metavar="OUTPUT_DIR", help="the -s of custodian run --dryrun or c7n-org run --dryrun"
    )
    parser.add_argument(
        "--accounts",
        metavar="FILE",
        type=Path,
        help="c7n-org's accounts.yml: each account in it must be covered",
    )
    parser.add_argument(
        "--policies",
        metavar="FILE",
        type=Path,
        help="the file of policies that is to be run: exit 3 if two of them share a name, or if "
        "one may disable or delete keys that can't be counted",
    )
    parser.add_argument(
        "--only-notices",
        action="store_true",
        help="exit 6 if a policy of --policies has any action but notify",
    )
    parser.add_argument(
        "--max-keys",
        metavar="N",
        type=_count,
        help="exit 4 if more keys would be disabled or deleted, in all accounts together",
    )
    parser.add_argument(
        "--max-percent",
        metavar="P",
        type=_percent,
        help="exit 5 if a larger share of the active keys in the slot would be disabled",
    )
    parser.add_argument(
        "--all", action="store_true", help=f"name all keys, not only {MOST_ROWS} of each kind"
    )
    chosen = parser.add_argument_group(
        "which accounts of --accounts must be covered", "as given to c7n-org run; can be repeated"
    )
    for flags, name, metavar, text in (
        (("-a",), "account", "NAME", "only this account, by its name or id"),
        (("--not-accounts",), "not_accounts", "NAME", "not this account"),
        (("-t", "--tags"), "tags", "TAG", "only accounts with this tag"),
    ):
        chosen.add_argument(
            *flags, dest=name, metavar=metavar, action="append", default=[], help=text
        )
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    # Python refuses to read thousands of digits.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 30 else -1
    if not 0 <= number <= MOST_KEYS:
        raise argparse.ArgumentTypeError(
            f"{one_line(text, 60)!r} isn't a whole number of keys from 0 to {MOST_KEYS}"
        )
    return number


def _percent(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{one_line(text, 60)!r} isn't a percentage from 0 to 100")
    return number


def run(args: argparse.Namespace) -> int:
    """Run the command; return one of its exit codes."""
    if args.only_notices and not args.policies:
        raise CommandError("--only-notices needs --policies FILE, the file that is to be run")
    policies = acting.policies_of(args.policies) if args.policies else []
    beyond = list(acting.beyond_notices(policies)) if args.only_notices else []
    if beyond:  # whatever a dry run of them says
        for line in beyond:
            print(f"c7n-keyrot plan: {line}: more than notices", file=sys.stderr)
        return NOT_ONLY_NOTICES
    accounts = load(args.accounts) if args.accounts else []
    wanted = _wanted(accounts, args)
    damage: list[Damage] = []
    now = datetime.now(timezone.utc)
    folders = list(gather([args.dir], damage, accounts, now, acting.is_of_keys))
    limit = sys.maxsize if args.all else MOST_ROWS
    for line in cut(map(str, damage), limit, "warnings"):
        print(one_line(line, 1000), file=sys.stderr)
    _check_dry_run(folders, args.dir)
    plan = make(folders, wanted)
    for line in lines(plan, now, limit):
        print(line)
    stops = list(reasons_to_stop(plan, policies, args.max_keys, args.max_percent))
    if now - plan.begun > MOST_AGE:
        what = f"the dry run is {how_long(now - plan.begun)} old; make a new one"
        stops.insert(0, (NOT_KNOWN, what))
    if damage:
        many = counted(len(damage), "warning")
        stops.insert(0, (NOT_KNOWN, f"{many} (see above): what can't be read may hide keys"))
    sys.stdout.flush()
    for _, line in stops:
        print(f"c7n-keyrot plan: {one_line(line, 1000)}", file=sys.stderr)
    # What isn't known comes first: then the figures are too small, if anything.
    return min((code for code, _ in stops), default=0)


def _wanted(accounts: Sequence[Account], args: argparse.Namespace) -> list[Account]:
    """Return the accounts that must be covered.

    :raises CommandError: -a, -t and --not-accounts leave none.
    """
    wanted = select(accounts, args.account, args.tags, args.not_accounts)
    if not wanted and (accounts or args.account or args.tags or args.not_accounts):
        what = "-a, -t and --not-accounts leave no account of" if accounts else "-a and -t need"
        raise CommandError(f"{what} {args.accounts or '--accounts'}; correct them")
    return wanted


def _check_dry_run(folders: Sequence[PolicyFolder], output_dir: str) -> None:
    """Check that a dry run of the pack left one of the folders.

    :raises CommandError: none did.
    """
    if not any(one.ours for one in folders):
        raise CommandError(
            f"no policy of the pack has run into {output_dir}; give the -s of custodian run "
            "--dryrun or c7n-org run --dryrun"
        )
    if not any(one.dry_run for one in folders if one.ours):
        raise CommandError(
            f"{output_dir} has no dry run: run custodian or c7n-org with --dryrun and a new -s"
        )


def reasons_to_stop(
    plan: Plan,
    policies: Sequence[Mapping[str, Any]],
    max_keys: int | None,
    max_percent: float | None,
) -> Iterator[tuple[int, str]]:
    """Yield why nothing should be done: exit code and line.

    :param policies: those that are to be run, as far as they are known.
    """
    disabled, deleted = len(plan.keys(DISABLE)), len(plan.keys(DELETE))
    if max_keys is not None and disabled + deleted > max_keys:
        what = f"{counted(disabled + deleted, 'key')} would be disabled or deleted"
        yield TOO_MANY, f"{what}, more than --max-keys {max_keys}"
    if max_percent is not None and plan.percent > max_percent:
        yield (
            TOO_LARGE,
            f"{disabled} of {counted(plan.active_keys, 'active key')} would be disabled: "
            f"{plan.percent:.1f}%, more than --max-percent {max_percent:g}",
        )
    for line in acting.bad_names(policies):
        yield NOT_KNOWN, line
    found = dict(plan.uncounted.keys())
    found |= {acting.name_of(one): why for one in policies if (why := acting.uncounted(one))}
    for name, why in found.items():
        yield NOT_KNOWN, f"{name} {why}; it can't be counted"
    missing = [account for account in plan.accounts if account.problems]
    if missing:
        what = f"{len(missing)} of {counted(len(plan.accounts), 'account')} not covered"
        yield NOT_KNOWN, what


def lines(plan: Plan, now: datetime, most: int) -> Iterator[str]:
    """Yield what the command prints.

    :param most: rows of each part.
    """
    yield f"Dry run that began {utc(plan.begun)}, {how_long(now - plan.begun)} ago."
    if plan.oldest:
        older = plan.begun - plan.oldest
        yield (
            f"Oldest credential report: {utc(plan.oldest)}, "
            + (f"{how_long(older)} before it." if older > timedelta(0) else "made for it.")
        )
    yield ""
    yield from _by_account(plan, most)
    yield from _not_covered(plan, most)
    yield from _not_counted(plan, most)
    for title, fate in (("Would disable", DISABLE), ("Would delete", DELETE)):
        yield from _named(f"{title}", plan.keys(fate), most)
    yield from _named("Would notify only", plan.keys(NOTIFY), most)
    yield from _named("Not known", plan.keys(UNKNOWN), most)
    yield from _named("Would leave", plan.keys(LEAVE), most)
    if plan.others:
        yield ""
        yield paragraph(
            f"Other actions of these policies, which aren't in this plan: {listed(plan.others)}."
        )


def cut(some: Iterable[str], most: int, noun: str) -> Iterator[str]:
    """Yield the first lines, and how many more there are."""
    more = 0
    for number, line in enumerate(some):
        if number < most:
            yield line
        else:
            more += 1
    if more:
        yield f"... and {more} more {noun} (--all)"


def _by_account(plan: Plan, most: int) -> Iterator[str]:
    """Yield the table of accounts: those that aren't covered first, then by their keys."""
    fates = (DISABLE, DELETE, NOTIFY, LEAVE, *([UNKNOWN] if plan.keys(UNKNOWN) else []))
    found = []
    for account in plan.accounts:
        counts = Counter(key.fate for key in account.keys.values())
        counts[NOTIFY] = account.told
        found.append((account, [counts[fate] for fate in fates]))
    found.sort(key=lambda one: (not one[0].problems, [-n for n in one[1]], one[0].label))
    rows = [
        (account.label, *map(str, figures), "not covered" if account.problems else "")
        for account, figures in found[:most]
    ]
    totals = [sum(column) for column in zip(*(figures for _, figures in found), strict=True)]
    head = ("ACCOUNT", *map(str.upper, fates), "")
    *lines, last = table(head, [*rows, ("Total", *map(str, totals), "")]).splitlines()
    yield from lines
    if len(found) > most:
        yield f"... and {len(found) - most} more accounts (--all)"
    yield last


def _not_covered(plan: Plan, most: int) -> Iterator[str]:
    """Yield why accounts aren't covered, if there are any."""
    found = [account for account in plan.accounts if account.problems]
    if not found:
        return
    yield f"\nNot covered: {counted(len(found), 'account')}; the figures are without these policies"
    problems = [f"{account.label}: {problem}" for account in found for problem in account.problems]
    for line in cut(problems, most, "lines"):
        yield paragraph(line, indent=2)


def _not_counted(plan: Plan, most: int) -> Iterator[str]:
    """Yield the policies whose keys aren't in the figures, if there are any."""
    if not plan.uncounted:
        return
    names = {name for name, _ in plan.uncounted}
    count = f"{len(names)} {'policy' if len(names) == 1 else 'policies'}"
    yield f"\nCan't be counted: {count}; the figures are without their keys"
    found = (
        f"{name} {why} (in {listed(labels, 5)})" for (name, why), labels in plan.uncounted.items()
    )
    for line in cut(found, most, "lines"):
        yield paragraph(line, indent=2)


def _named(title: str, keys: list[tuple[AccountPlan, PlannedKey]], most: int) -> Iterator[str]:
    """Yield a list of keys, if there are any."""
    if not keys:
        return
    yield f"\n{title}: {counted(len(keys), 'key')}"
    for text, count in Counter(
        key.reason for _, key in keys if key.fate in (LEAVE, UNKNOWN)
    ).most_common():
        yield f"  {count} {text or 'selected by a policy that does nothing to it'}"
    keys = sorted(keys, key=lambda one: (one[0].label, one[1].user, one[1].slot or 0))
    rows = []
    for account, key in keys[:most]:
        age = f"{key.age_days:.1f} days old" if key.age_days is not None else ""
        notes: Iterable[str] = filter(None, (age, key.why if not key.acts else "", key.usage))
        cells = (account.label, key.user, str(key.slot or ""), key.key_id or "")
        rows.append((*cells, "; ".join(notes)))
    yield table(("ACCOUNT", "USER", "SLOT", "KEY", ""), rows)
    if len(keys) > most:
        yield f"... and {len(keys) - most} more keys (--all)"
