# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot reactivate OUTPUT_DIR``: switch on again what the pack switched off.

The outcomes on disk say what the pack did last to a key; AWS says whether the key still exists and
is inactive. Both must allow it, and so must the user. Both are checked again after the user's
answer, which can come hours later. Only the user can decide about a key in doubt, and must name it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from c7n_keyrot.cli.reactivate import screen, work
from c7n_keyrot.cli.reactivate.history import KeyHistory, key_histories
from c7n_keyrot.cli.reactivate.live_keys import Finding, NotTouched, look
from c7n_keyrot.core import outcomes
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.outcomes import Result
from c7n_keyrot.core.text import one_line, utc
from c7n_keyrot.evidence.accounts import load
from c7n_keyrot.evidence.files import Damage, ids_of, owner
from c7n_keyrot.evidence.outcome_files import OutcomeFile, read_tree

LOST = "restore the file or fetch it again, or ask CloudTrail before you switch on a key of it"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "reactivate",
        description="Switches on again the keys that disable-access-key switched off last, by the "
        "outcomes in OUTPUT_DIR. It shows them, and asks, before it does anything.",
        epilog="The next run disables a stale key again, unless its user is exempt.\n\n"
        "examples:\n"
        "  c7n-keyrot reactivate out     # shows what it would do, and asks\n"
        "  c7n-keyrot reactivate out --user ana --user finn\n"
        "  c7n-keyrot reactivate out --key AKIAIOSFODNN7EXAMPLE     # also if it is in doubt\n"
        "  c7n-keyrot reactivate out --accounts accounts.yml --yes",
    )
    parser.add_argument(
        "dir",
        metavar="OUTPUT_DIR",
        help="the -s of custodian run or c7n-org run, or a folder in it",
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        action="append",
        default=[],
        help="only this user's keys (can be repeated)",
    )
    parser.add_argument(
        "--key",
        metavar="ID",
        action="append",
        default=[],
        help="only this key, even if it is in doubt whether the pack switched it off "
        "(can be repeated)",
    )
    parser.add_argument("--yes", action="store_true", help="don't ask")
    parser.add_argument("--profile", help="a profile of your AWS configuration (or AWS_PROFILE)")
    parser.add_argument(
        "--accounts",
        metavar="FILE",
        type=Path,
        help="c7n-org's accounts.yml: take each account's role, for the outcomes of many accounts",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit code: 1 if anything isn't done or isn't known."""
    ids = ids_of(load(args.accounts)) if args.accounts else {}

    lost: list[Damage] = []

    def read(problem: Callable[[Damage], None]) -> list[OutcomeFile]:
        return read_tree(args.dir, lambda at: owner(Path(args.dir), at, ids), problem)

    found = read(lost.append)
    for damage in lost:
        advice = f"what it says is lost: {LOST}" if damage.loses else "ask who wrote it"
        print(one_line(f"{damage}; {advice}", 5000), file=sys.stderr)
    wanted = list(_to_undo(key_histories(found), args))
    if not wanted:
        print(f"Nothing to reactivate by the outcomes in {args.dir}.")
        return 1 if lost else 0
    findings, left_out = look(wanted, args.profile, args.accounts)
    findings = [_unless_in_doubt(finding, args.key) for finding in findings]
    todo = [finding for finding in findings if finding.to_do]
    _show(findings, todo, args)
    work.check_writable(findings)
    incomplete = bool(left_out or lost)
    if not screen.confirmed(len(todo), args.yes):
        return 1 if todo or incomplete or any(finding.bad for finding in findings) else 0
    done = work.carry_out(findings, key_histories(read(lambda _: None)), screen.say)
    _sum_up(done, found, args.dir)
    failed = any(finding.bad for finding in done) or len(done) < len(findings)
    return 1 if incomplete or failed else 0


def _to_undo(keys: Sequence[KeyHistory], args: argparse.Namespace) -> Iterator[KeyHistory]:
    """Yield the keys that the pack switched off last, or may have; say what was named in vain."""
    for key in _chosen(keys, args):
        if key.ours or key.doubt:
            yield key
        elif args.user or args.key:
            why = key.last.reason and f" ({key.last.reason})"
            text = f"{key}: {key.last.outcome} at {utc(key.time)}{why}: nothing to undo"
            print(one_line(text, 1000))


def _show(findings: Sequence[Finding], todo: Sequence[Finding], args: argparse.Namespace) -> None:
    """Print what would be done about each key, before the question."""
    in_doubt = [finding for finding in findings if finding.outcome is NotTouched.IN_DOUBT]
    for finding in findings:
        if not finding.to_do and finding.outcome is not NotTouched.IN_DOUBT:
            screen.say(finding)
    if in_doubt:
        screen.say_doubts(in_doubt, args)
    if todo:
        print(screen.todo(todo), flush=True)


def _sum_up(done: Sequence[Finding], found: Sequence[OutcomeFile], output_dir: str) -> None:
    """Print what was done, and what is left to the reader."""
    counts = Counter(finding.outcome for finding in done)
    result = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "nothing done"
    print(f"Result: {result}.", flush=True)
    if counts[Result.REACTIVATED]:
        print(
            "A later run of the policy disables them again, unless their users are exempt:\n"
            "  aws iam tag-user --user-name USER --tags Key=keyrot-exempt-until,Value=YYYY-MM-DD "
            "Key=keyrot-exempt-reason,Value=REASON"
        )
    copies = [f for f in found if f.path.name not in (outcomes.FILE, outcomes.INTENTS_FILE)]
    if copies and any(finding.recorded for finding in done):
        print(
            "The outcomes are a bucket's copy; so that others know what was done, copy them back: "
            f"aws s3 sync {output_dir} s3://BUCKET/PREFIX"
        )


def _unless_in_doubt(finding: Finding, named: Sequence[str]) -> Finding:
    """Leave a key that is in doubt, unless --key names it."""
    key = finding.key
    if not finding.to_do or not key.doubt or key.id in named:
        return finding
    return replace(finding, outcome=NotTouched.IN_DOUBT, reason=f"{key.doubt}; only --key takes it")


def _chosen(keys: Sequence[KeyHistory], args: argparse.Namespace) -> Iterator[KeyHistory]:
    """Yield the requested keys. A name that matches none stops everything: it may be a typo.

    :raises CommandError: a name matches no key.
    """
    for option, wanted, known in (
        ("--user", args.user, {key.last.user for key in keys}),
        ("--key", args.key, {key.id for key in keys}),
    ):
        for value in wanted:
            if value not in known:
                raise CommandError(
                    f"{option} {one_line(value)}: no outcome in {args.dir} mentions it; "
                    "nothing done"
                )
    found = [
        key
        for key in keys
        if (not args.user or key.last.user in args.user) and (not args.key or key.id in args.key)
    ]
    if keys and not found:
        raise CommandError("no key of --key belongs to a user of --user; nothing done")
    yield from found
