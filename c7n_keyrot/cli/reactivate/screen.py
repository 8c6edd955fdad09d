# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the user sees, and is asked."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence

from c7n_keyrot.cli.reactivate.live_keys import Finding
from c7n_keyrot.cli.tables import table
from c7n_keyrot.core.text import counted, one_line, utc

# Where CloudTrail records IAM's calls, by partition.
TRAIL_REGIONS = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}


def say(finding: Finding) -> None:
    """Print a finding in one line."""
    text = f"{finding.key}: {finding.outcome}" + (finding.reason and f": {finding.reason}")
    print(one_line(text, 1000), file=sys.stderr if finding.bad else sys.stdout, flush=True)


def todo(findings: Sequence[Finding]) -> str:
    """Return the keys that are to be switched on, a row each."""
    rows = []
    for finding in findings:
        key, last, notes = finding.key, finding.key.last, []
        if key.doubt:
            notes.append(f"in doubt: {key.doubt}")
        if finding.user != last.user:
            notes.append(f"the user was {last.user}")
        disabled = utc(key.disabled or key.time)
        cells = (last.account_id, finding.user, str(last.slot), key.id, disabled, last.policy)
        rows.append((*cells, ", ".join(notes)))
    return table(("ACCOUNT", "USER", "SLOT", "KEY", "DISABLED", "BY POLICY", ""), rows, wraps=False)


def say_doubts(findings: Sequence[Finding], args: Namespace) -> None:
    """Print the keys that are left because they are in doubt, and how to find out about them."""
    for finding in findings:
        say(finding)
        print(f"  {trail(finding)}", file=sys.stderr)
    print(
        "CloudTrail says who switched a key off last. This command takes the keys in doubt; "
        f"leave out those that somebody else switched off:\n  {command(findings, args)}",
        file=sys.stderr,
        flush=True,
    )


def trail(finding: Finding) -> str:
    """Return a command that asks CloudTrail who switched the key on and off."""
    access = finding.access
    region = TRAIL_REGIONS.get(access.partition, access.region)
    return (
        f"aws cloudtrail lookup-events --region {shlex.quote(region)} --lookup-attributes "
        f"AttributeKey=ResourceName,AttributeValue={shlex.quote(finding.key.id)} "
        "--query \"Events[?EventName=='UpdateAccessKey'].CloudTrailEvent\" --output text"
    )


def command(findings: Sequence[Finding], args: Namespace) -> str:
    """Return the command that takes these keys, too."""
    parts = ["c7n-keyrot", "reactivate", args.dir]
    if args.profile:
        parts += ["--profile", args.profile]
    if args.accounts:
        parts += ["--accounts", str(args.accounts)]
    for key_id in dict.fromkeys(finding.key.id for finding in findings):
        parts += ["--key", key_id]
    return shlex.join(parts)


def confirmed(count: int, yes: bool) -> bool:
    """Ask, unless the answer is given already.

    :param count: number of keys to switch on; for none there is no question.
    :param yes: the answer, given before.
    """
    if yes:
        return True
    what = counted(count, "key")
    if not sys.stdin.isatty():
        if count:
            print(f"Nothing done. To reactivate {what}, run the same again with --yes.")
        return False
    if not count:
        return True
    try:
        answer = input(f"Reactivate {what}? Type yes: ").strip()
    except (EOFError, KeyboardInterrupt):
        answer = ""
        print()
    except UnicodeDecodeError:
        answer = "(no text)"
    if answer.lower() in ("y", "yes"):
        return True
    if answer.lower() in ("", "n", "no"):
        print("Nothing done.")
    else:
        print(f"Nothing done: {one_line(answer, 40)!r} is neither yes nor no.")
    return False
