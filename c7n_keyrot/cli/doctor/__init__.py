# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot doctor``: check all that the pack needs, one line a check.

It only reads. Its calls to AWS are named Get, List or Simulate, except for AssumeRole, which makes
credentials for this process alone, as c7n-org does, and changes nothing.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import boto3

from c7n_keyrot.cli.doctor import (
    coverage,
    credentials,
    installation,
    mailer,
    organization,
    own_key,
    permissions,
    policies,
    queues,
    recipients,
    templates,
)
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks, lines
from c7n_keyrot.cli.doctor.context import Context

# In this order: later checks use what earlier ones found out.
CHECKS: dict[str, Callable[[Context], Checks]] = {
    "plugin": installation.checks,
    "credentials": credentials.checks,
    "accounts": organization.checks,
    "policies": policies.checks,
    "own key": own_key.checks,
    "templates": templates.checks,
    "mailer": mailer.checks,
    "queue": queues.checks,
    "permissions": permissions.checks,
    "coverage": coverage.checks,
    "recipients": recipients.checks,
}
PATIENCE = 2  # seconds, after which a line says so


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "doctor",
        description="Checks all that the pack needs, one line a check: ok, FAIL "
        "(and what to do), or not checked. It only reads. Exit code 0 if nothing fails.",
        epilog="examples:\n"
        "  c7n-keyrot doctor     # this account, with ./policies\n"
        "  c7n-keyrot doctor --policies examples/notify-only.yml --mailer mailer.yml\n"
        "  c7n-keyrot doctor --accounts accounts.yml --mailer mailer.yml --output-dir out\n"
        "  c7n-keyrot doctor --accounts accounts.yml -t env:prod     # these accounts only",
    )
    parser.add_argument(
        "--policies",
        metavar="DIR",
        type=Path,
        help=f"the folder of policies, or one file (default: ./{policies.DEFAULT})",
    )
    parser.add_argument("--accounts", metavar="FILE", type=Path, help="c7n-org's accounts.yml")
    parser.add_argument("--mailer", metavar="FILE", type=Path, help="c7n-mailer's mailer.yml")
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        help="the -s of the last run: which accounts and policies did it cover?",
    )
    parser.add_argument(
        "--without",
        metavar="CHECK",
        choices=CHECKS,
        action="append",
        default=[],
        help="a check that isn't made, such as permissions; can be repeated",
    )
    chosen = parser.add_argument_group(
        "what the run is for", "as given to c7n-org run or custodian run; can be repeated"
    )
    for flags, name, metavar, text in (
        (("-a",), "account", "NAME", "only this account, by its name or id"),
        (("--not-accounts",), "not_accounts", "NAME", "not this account"),
        (("-t", "--tags"), "tags", "TAG", "only accounts with this tag"),
        (("-r", "--region"), "region", "REGION", "in place of the regions in accounts.yml"),
        (("-p", "--policy"), "policy", "NAME", "only this policy"),
        (("-l", "--policytags"), "policytags", "TAG", "only policies with this tag"),
    ):
        chosen.add_argument(
            *flags, dest=name, metavar=metavar, action="append", default=[], help=text
        )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the lines of all checks; return 1 if anything fails."""
    boto3.Session()  # if none can be made, Custodian can't even start; main() says why
    counts: Counter[str] = Counter()
    context = Context(args)
    before = logging.root.manager.disable
    # Custodian's own log lines about policies would come between ours.
    logging.disable(logging.CRITICAL)
    try:
        for name, checks in CHECKS.items():
            if name in args.without:
                continue
            for status, line in lines(safely(name, checks, context), len(context.accounts)):
                print(line, flush=True)
                counts[status] += 1
    finally:
        logging.disable(before)
    # Not in the table, so that a search for a status finds checks only.
    total = f"{counts[OK]} ok, {counts[FAIL]} failed, {counts[NOT_CHECKED]} not checked"
    print(total, file=sys.stderr)
    return 1 if counts[FAIL] else 0


def safely(name: str, checks: Callable[[Context], Checks], context: Context) -> list[Check]:
    """Return the lines of a check; print a line if it takes long, and never a traceback."""
    timer = threading.Timer(
        PATIENCE, lambda: print(f"still checking: {name} ...", file=sys.stderr, flush=True)
    )
    timer.daemon = True
    timer.start()
    found: list[Check] = []
    try:
        for check in checks(context):
            found.append(check)
    except Exception as error:  # noqa: BLE001 - a bug in one check ends no other
        # Not the error's text: it may contain secrets.
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f" in {Path(trace.tb_frame.f_code.co_filename).name}" if trace else ""
        what = f"a bug in doctor, {type(error).__name__}{where}"
        found.append(Check(FAIL, name, what, f"try again; if it stays, report it with this {name}"))
    finally:
        timer.cancel()
    return found
