# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot runner look|tell|act``: a whole run, unwatched, that does no more than its mode."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone
from pathlib import Path

from c7n_keyrot.cli.runner import place, processes
from c7n_keyrot.cli.runner.settings import read
from c7n_keyrot.cli.runner.steps import Code, Runner
from c7n_keyrot.core.errors import CommandError

EXIT_CODES = """\
exit codes; if several are true, the first one of 2, 4, 3, 1:
  0   each step was done, and nothing is in doubt
  1   a step failed; the summary names it, and what was done all the same
  2   wrong arguments, or the configuration isn't right: nothing was run
  3   a check failed or a signal came before the run: nothing was sent, no key was changed
  4   not all is known: keys are in doubt, or outputs of the run can't be read
Whatever else it is (a signal that can't be caught, such as 137), nothing is known: treat
it as 4.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "runner",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Runs the pack over an organization, unwatched: what deploy/runner.yml does\n"
        "once a day, and a container or cron can do as well. look changes and sends nothing; tell\n"
        "sends notices; act disables keys, too. All is checked before anything is done.",
        epilog=EXIT_CODES + "\n"
        "examples:\n"
        "  c7n-keyrot runner look --config . --out /srv/keyrot\n"
        "  c7n-keyrot runner tell --config . --out /srv/keyrot\n"
        "  c7n-keyrot runner act --config . --out s3://BUCKET --max-keys 50 --max-percent 10",
    )
    parser.add_argument("mode", metavar="MODE", help="look, tell or act: the most that may be done")
    parser.add_argument(
        "--config",
        metavar="DIR",
        type=Path,
        default=Path("config"),
        help="the folder with accounts.yml, mailer.yml and the policies (default: ./config)",
    )
    parser.add_argument(
        "--out",
        metavar="PLACE",
        required=True,
        help="s3://BUCKET or a folder: outputs go to runs/DATE/ there, the last ones to latest/",
    )
    parser.add_argument(
        "--policies",
        metavar="FILE",
        default="policies/second-access-key.yml",
        help="below --config: what look and act run (default: %(default)s)",
    )
    parser.add_argument(
        "--tell-policies",
        metavar="FILE",
        default="examples/notify-only.yml",
        help="below --config: what tell runs; no action but notify (default: %(default)s)",
    )
    parser.add_argument(
        "--max-keys",
        metavar="N",
        action="append",
        default=[],
        help="if more keys would be disabled or deleted, none is; the lowest of several counts; "
        "act needs it",
    )
    parser.add_argument(
        "--max-percent",
        metavar="P",
        action="append",
        default=[],
        help="the same in percent of the active keys; the lowest of several counts; act needs it",
    )
    parser.add_argument(
        "--asked",
        metavar="MODE",
        help="what whoever started this run asked for: a lower mode is done, a higher one refused",
    )
    parser.add_argument(
        "--topic", metavar="ARN", help="who hears of failures and of keys that were changed"
    )
    parser.add_argument(
        "--mailer-project",
        metavar="NAME",
        help="the CodeBuild project that sends the mails (without it, they are sent from here)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; return one of its exit codes."""
    settings = read(args)
    for line in settings.problems:
        print(f"c7n-keyrot runner: {line}", file=sys.stderr)
    if not settings.out:
        return Code.REFUSED
    try:
        where = place.make(settings.out, settings.bucket, datetime.now(timezone.utc))
    except CommandError as error:
        print(f"c7n-keyrot runner: {error}", file=sys.stderr)
        return Code.REFUSED
    try:
        with processes.caught():
            return Runner(settings, where).go()
    finally:
        where.close()
