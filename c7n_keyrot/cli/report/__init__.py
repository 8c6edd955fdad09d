# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot report OUTPUT_DIR...``: what runs found and did, out of what they left on disk."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from c7n_keyrot.cli.report import difference, formats, verify
from c7n_keyrot.cli.report.build import build_report
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import counted, listed, one_line
from c7n_keyrot.evidence.accounts import Account, load, read_yaml
from c7n_keyrot.evidence.files import Damage
from c7n_keyrot.evidence.gather import PolicyFolder, gather

WITH_ALL = ("csv", "ocsf", "oscal")  # formats that can have all keys
SINCE = ("text", "json")  # formats of a difference
PAGE = "keyrot-report.html"
EXAMPLES = """\
examples:
  c7n-keyrot report out --accounts accounts.yml -o report.html
  c7n-keyrot report june july --format json | jq .runs  # several runs: the trend
  c7n-keyrot report out --verify report.json  # are its lines still as they were?
  c7n-keyrot report today --since yesterday  # what is new, closed, changed
  aws s3 sync s3://BUCKET/keyrot copy && c7n-keyrot report copy --format csv -o keys.csv

Ages are those at each run, not now. Nothing is fetched, and no credentials are needed.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "report",
        description="Reports what runs of the pack found and did: which accounts are covered and\n"
        "compliant, each key that isn't, what was done, and what comes next.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "dirs",
        metavar="OUTPUT_DIR",
        nargs="+",
        help="the -s of custodian run or c7n-org run, a folder in it, or a copy of a bucket",
    )
    parser.add_argument(
        "--accounts",
        metavar="FILE",
        type=Path,
        help="c7n-org's accounts.yml: also report the accounts that no run has covered",
    )
    parser.add_argument(
        "--mailer",
        metavar="FILE",
        type=Path,
        help="c7n-mailer's mailer.yml: its contact_tags say which tags of a user name the owner "
        "(default: OwnerContact, OwnerEmail, Owner)",
    )
    parser.add_argument(
        "--format",
        choices=tuple(formats.FORMATS),
        help="html (default): a page; json: all of it; csv: the keys; ocsf: a Compliance Finding "
        "for each key, as lines of JSON; oscal: assessment-results",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="csv, ocsf and oscal: also a passing result for each other key of a covered account, "
        "by the credential report that its runs kept",
    )
    parser.add_argument(
        "--since",
        metavar="OUTPUT_DIR",
        action="append",
        default=[],
        help="in place of the report: what is new, closed or changed since the runs in that "
        "folder, as a table, or as JSON with --format json",
    )
    parser.add_argument(
        "--verify",
        metavar="REPORT",
        type=Path,
        help="in place of a report: whether what an earlier one (--format json) stands on is still "
        "in OUTPUT_DIR as it was; the exit code is 1 if it isn't",
    )
    parser.add_argument(
        "-o",
        metavar="FILE",
        dest="output",
        help=f"where to write it; - is the standard output (default: {PAGE} for html, else -)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    if args.verify:
        return verify.verify(args.verify, args.dirs)
    accounts = load(args.accounts) if args.accounts else []
    damage: list[Damage] = []
    args.format = args.format or ("text" if args.since else "html")
    if args.since and args.format not in SINCE:
        raise CommandError("--since makes a table; leave --format away, or give --format json")
    if args.all and args.format not in WITH_ALL:
        raise CommandError(f"--all needs --format {listed(WITH_ALL)}; add one of them")
    tags = _contact_tags(args.mailer) if args.mailer else []
    folders = _with_progress(gather(args.dirs, damage, accounts))
    report = build_report(folders, damage, accounts, tags, args.all or bool(args.since))
    if report["as_of"] is None and not any(row["failed"] for row in report["accounts"]):
        for text in report["warnings"]:
            print(one_line(text, 1000), file=sys.stderr)
        raise CommandError(
            f"no policy of the pack has run into {listed(args.dirs)}; name the -s of a run"
        )
    if args.since:
        written: str | Iterable[str] = _difference(args, accounts, tags, report)
    else:
        written = formats.FORMATS[args.format](report)
    parts = (written,) if isinstance(written, str) else written
    target = args.output or (PAGE if args.format == "html" else "-")
    if target == "-":
        sys.stdout.writelines(parts)
    else:
        formats.write_whole(Path(target), parts)
        print(_about(report, target), file=sys.stderr)
    if report["warnings"]:
        many = counted(len(report["warnings"]), "warning")
        print(f"{many}, the first: {report['warnings'][0]}", file=sys.stderr)
    return 0


def _difference(
    args: argparse.Namespace, accounts: Sequence[Account], tags: Sequence[str], now: formats.Report
) -> str:
    """Return what became of keys since earlier runs, as text or JSON.

    :raises CommandError: no policy of the pack has run into the folder of ``--since``.
    """
    damage: list[Damage] = []
    folders = _with_progress(gather(args.since, damage, accounts))
    before = build_report(folders, damage, accounts, tags)
    if before["as_of"] is None:
        raise CommandError(
            f"no policy of the pack has run into {listed(args.since)}; name the -s of a run"
        )
    found = difference.difference(before, now)
    if args.format == "json":
        return difference.as_json(found)
    return "\n".join([*difference.as_text(found), ""])


def _contact_tags(file: Path) -> list[str]:
    """Return the tags by which c7n-mailer finds owners.

    :raises CommandError: the file can't be read, or names none.
    """
    found = read_yaml(file).get("contact_tags")
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise CommandError(f"{file} has no contact_tags, so no owner is found; add them there")
    return found


def _about(report: formats.Report, target: str) -> str:
    totals, share = report["totals"], report["totals"]["compliant_percent"]
    known = any(row["users"] is not None for row in report["accounts"])
    judged = f"{share}% of {counted(totals['active_keys'], 'key')} compliant"
    none = "no active keys" if known else "no key judged"
    return (
        f"{one_line(target, 1000)}: {totals['covered']} of {counted(totals['accounts'], 'account')}"
        f" covered, {none if share is None else judged}, "
        f"{counted(len(report['keys']), 'key')} listed"
    )


def _with_progress(folders: Iterable[PolicyFolder]) -> Iterator[PolicyFolder]:
    """Say every two seconds how many folders are read."""
    told = time.monotonic()
    for number, folder in enumerate(folders, 1):
        yield folder
        if time.monotonic() - told > 2:
            told = time.monotonic()
            print(f"read {counted(number, 'policy folder')}", file=sys.stderr)
