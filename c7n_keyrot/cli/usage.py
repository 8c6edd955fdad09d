# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot usage KEY_ID… | OUTPUT_DIR``: who uses these keys, by CloudTrail's event history.

It only reads. Nothing it prints says that a key isn't used, since the history lacks some calls.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from c7n_keyrot.aws import calls, credentials, event_history
from c7n_keyrot.aws.credentials import Access, part_of
from c7n_keyrot.aws.errors import CallError
from c7n_keyrot.aws.event_history import DAYS_KEPT, REGION, Question
from c7n_keyrot.cli.tables import paragraph, table
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import counted, disarmed, one_line, utc
from c7n_keyrot.core.usage import Group, Usage
from c7n_keyrot.core.usage_words import in_words, times
from c7n_keyrot.evidence import accounts
from c7n_keyrot.evidence.accounts import Account, split
from c7n_keyrot.evidence.files import Damage
from c7n_keyrot.evidence.gather import gather

# What is taken for a key's id and not for a folder: narrower than what an id can be.
TYPED_KEY_ID = re.compile(r"[A-Z0-9]{16,128}")
# Seconds. Somebody waits for it, and nothing else does; Ctrl-C ends it earlier.
LONGEST = 1800.0
NOTE = (
    "CloudTrail's event history has no data events, such as reads of S3 objects and invocations of "
    "Lambda functions, and nothing of the last minutes: a key without a call here may be in use "
    "all the same."
)
COLUMNS = (
    "account_id",
    "user",
    "access_key_id",
    *(field.name for field in dataclasses.fields(Group)),
    "note",
)


@dataclass(frozen=True)
class AskedKey:
    """A key to ask about: its account, its user ("" if not known), where it may have been used."""

    account_id: str
    user: str
    id: str
    regions: tuple[str, ...]


Found = list[tuple[AskedKey, Usage]]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "usage",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Prints who uses access keys: which calls, from where, by which program.\n"
        "It asks CloudTrail's event history, which has the management events of 90 days, at\n"
        "two calls a second.",
        epilog="examples:\n"
        "  c7n-keyrot usage AKIAIOSFODNN7EXAMPLE --days 30\n"
        "  c7n-keyrot usage out\n"
        "  c7n-keyrot usage out --accounts accounts.yml --format csv > usage.csv",
    )
    parser.add_argument(
        "what",
        metavar="KEY_ID | OUTPUT_DIR",
        nargs="+",
        help="ids of keys of your credentials' account; or the -s of custodian run or c7n-org run, "
        "for all keys that its policies matched, dry runs included",
    )
    parser.add_argument(
        "--accounts",
        metavar="FILE",
        type=Path,
        help="c7n-org's accounts.yml: take each account's role, for the keys of many accounts",
    )
    parser.add_argument(
        "--days",
        metavar="N",
        type=_days,
        default=7,
        help=f"how far back, 1 to {DAYS_KEPT} (default: 7)",
    )
    parser.add_argument(
        "--region",
        metavar="R",
        action="append",
        help="ask in this region (can be repeated); default: where the key was used last, and "
        "where global services are recorded, us-east-1",
    )
    parser.add_argument("--profile", help="a profile of your AWS configuration (or AWS_PROFILE)")
    parser.add_argument("--format", choices=tuple(FORMATS), default="table", help="default: table")
    parser.set_defaults(run=run)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0
    if not 1 <= days <= DAYS_KEPT:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {DAYS_KEPT}")
    return days


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code: 1 if anything isn't known."""
    regions = split(args.region)
    for region in regions:
        if not REGION.fullmatch(region):
            raise CommandError(f"--region {one_line(region, 40)}: not a region, such as us-east-1")
    problems: list[str] = []
    entries = accounts.load(args.accounts) if args.accounts else []
    folder = _folder(args.what, args.accounts is not None)
    keys = _of_runs(folder, entries, problems) if folder else []
    if folder and not keys:
        _tell(problems)
        print(f"No key was matched by the runs in {one_line(folder)}.")
        return 1 if problems else 0
    own = _own(args.profile)
    if folder:
        ways = _ways(own, entries, {key.account_id for key in keys}, problems)
    else:
        ways = {own.account_id: own}
        keys = list(_of_ids(own, args.what, bool(regions), problems))
    if regions:
        keys = [dataclasses.replace(key, regions=regions) for key in keys]
    questions = {
        key: Question(key.account_id, key.id, args.days, key.regions)
        for key in keys
        if key.account_id in ways
    }
    now = datetime.now(timezone.utc).replace(microsecond=0)
    answers = event_history.ask(
        questions.values(),
        lambda account, region: ways[account].client("cloudtrail", region),
        now,
        lambda done, of: print(f"keys read: {done} of {of}", file=sys.stderr, flush=True),
        longest=LONGEST,
    )
    problems += (f"account {account}: {line}" for account, line in answers.failures)
    FORMATS[args.format]([(key, answers.usage[q]) for key, q in questions.items()], now, args.days)
    sys.stdout.flush()
    _tell(problems)
    _tell(f"account {account}: {line}" for account, line in answers.cuts)
    return 1 if problems else 0


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        print(one_line(line, 1000), file=sys.stderr)


# -- which keys


def _folder(what: Sequence[str], many: bool) -> str | None:
    """Return the one folder that is named; None if ids of keys are.

    :raises CommandError: it is neither, or both.
    """
    ids = [one for one in what if TYPED_KEY_ID.fullmatch(one) and not Path(one).is_dir()]
    if len(ids) == len(what):
        if many:
            raise CommandError(
                "--accounts is for the keys of an OUTPUT_DIR; for the id of a key use credentials "
                "of its account (AWS_PROFILE or --profile)"
            )
        return None
    if len(what) > 1:
        other = next(one for one in what if one not in ids)
        raise CommandError(
            f"{one_line(other, 100)} isn't the id of an access key; give ids, or one OUTPUT_DIR"
        )
    return what[0]


def _of_runs(folder: str, entries: Sequence[Account], problems: list[str]) -> list[AskedKey]:
    """Return the keys that our policies matched, each once, with the regions of all uses."""
    found: dict[tuple[str, str], AskedKey] = {}
    damage: list[Damage] = []
    for policy in gather([folder], damage, entries):
        for user, record in policy.records:
            if record.access_key_id is None:
                continue
            place = policy.account_id, record.access_key_id
            key = found.get(place) or AskedKey(
                policy.account_id, user.name, record.access_key_id, ()
            )
            partition = part_of(user.arn, 1)
            regions = event_history.regions_of(partition, record.last_used_region)
            found[place] = dataclasses.replace(
                key, regions=tuple(dict.fromkeys([*key.regions, *regions]))
            )
    problems += map(str, damage)
    return list(found.values())


def _of_ids(
    own: Access, ids: Sequence[str], has_regions: bool, problems: list[str]
) -> Iterator[AskedKey]:
    """Yield keys of the credentials' account, with the user and the region of the last use."""
    for key_id in dict.fromkeys(ids):
        user, last = "", None
        try:
            answer = calls.call(own.client(), "get_access_key_last_used", AccessKeyId=key_id)
        except CallError as error:
            where = "" if has_regions else "; asking where global services are recorded only"
            problems.append(
                f"{key_id}: {error}: it is not a key of account {own.account_id}, or the call is "
                f"not allowed{where}"
            )
        else:
            user, last = answer.get("UserName") or "", answer["AccessKeyLastUsed"].get("Region")
        regions = event_history.regions_of(own.partition, last)
        yield AskedKey(own.account_id, user, key_id, tuple(regions))


# -- ways into the accounts


def _own(profile: str | None) -> Access:
    try:
        return credentials.own(profile)
    except CallError as error:
        raise CommandError(
            f"no AWS credentials that work: {error}; set AWS_PROFILE, or give --profile"
        ) from None


def _ways(
    own: Access, entries: Sequence[Account], wanted: Iterable[str], problems: list[str]
) -> dict[str, Access]:
    """Return the way into each account that there is one into."""
    by_id = {entry.id: entry for entry in entries}

    def way(account_id: str) -> Access:
        if account_id in by_id:
            return accounts.take(own, by_id[account_id])
        if account_id == own.account_id:
            return own
        raise CommandError(
            f"your credentials are for account {own.account_id}; take its role with --accounts "
            "accounts.yml, or use credentials of it (AWS_PROFILE or --profile)"
        )

    def found(account_id: str) -> Access | str:
        try:
            return way(account_id)
        except CommandError as error:
            return str(error)

    def progress(done: int, total: int) -> None:
        print(f"accounts: {done} of {total}", file=sys.stderr, flush=True)

    ways = {}
    for account_id, access, error in calls.side_by_side(found, sorted(wanted), progress):
        if isinstance(access, Access):
            ways[account_id] = access
        else:
            problems.append(f"account {account_id}: its keys aren't asked about: {access or error}")
    return ways


# -- formats


def _as_table(found: Found, now: datetime, days: float) -> None:
    if not found:
        return
    rows = []
    for key, usage in found:
        who = (key.account_id, key.id, key.user)
        for group in usage.groups:
            failed = ", ".join(f"{count} {code}" for code, count in group.errors.items())
            what = f"{group.action} from {group.source} by {group.agent}"
            last = utc(datetime.fromisoformat(group.last)).removesuffix(" UTC")
            what += f" (failed: {failed})" if failed else ""
            rows.append((*who, str(group.count), last, what))
            who = ("", "", "")
        for note in _notes(usage, now):
            rows.append((*who, "", "", note))
            who = ("", "", "")
    what = "WHAT, FROM WHERE, BY WHICH PROGRAM"
    print(table(("ACCOUNT", "KEY", "USER", "CALLS", "LAST (UTC)", what), rows))
    print()
    print(paragraph(f"{counted(len(found), 'key')}, {days:g} days. {NOTE}"))


def _notes(usage: Usage, now: datetime) -> Iterator[str]:
    """Yield what the groups don't say."""
    words = in_words(usage, now, 0)
    if not usage.groups:
        yield words["said"]
    if usage.other_events:
        yield f"and {times(usage.other_events)} in {counted(usage.other_groups, 'other group')}"
    if usage.cut:
        yield "only the latest calls were read; there are older ones"
    if "gap" in words:
        yield words["gap"]


def _as_json(found: Found, now: datetime, days: float) -> None:
    keys = [
        {
            "account_id": key.account_id,
            "user": key.user or None,
            "access_key_id": key.id,
            "usage": dataclasses.asdict(usage),
        }
        for key, usage in found
    ]
    print(json.dumps({"time": now.isoformat(), "days": days, "keys": keys, "note": NOTE}, indent=1))


def _as_csv(found: Found, now: datetime, _: float) -> None:
    """Print a group a row; a key's first row has what its groups don't say."""
    writer = csv.DictWriter(sys.stdout, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for key, usage in found:
        note = "; ".join(_notes(usage, now))
        groups: list[Mapping[str, Any]] = [dataclasses.asdict(group) for group in usage.groups]
        for group in groups or [{}]:
            row = {
                "account_id": key.account_id,
                "user": key.user,
                "access_key_id": key.id,
                **group,
                "errors": ", ".join(f"{code}: {n}" for code, n in group.get("errors", {}).items()),
                "note": note,
            }
            writer.writerow({name: disarmed(str(value)) for name, value in row.items()})
            note = ""


FORMATS: dict[str, Callable[[Found, datetime, float], None]] = {
    "table": _as_table,
    "json": _as_json,
    "csv": _as_csv,
}
