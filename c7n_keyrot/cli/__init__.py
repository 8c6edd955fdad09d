# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The `c7n-keyrot` command: one module a sub-command, all of them in `COMMANDS`."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from c7n_keyrot import __version__

# Each is a module here with `add_parser(subparsers)`, which sets `run(args) -> int`, its exit code.
COMMANDS = ("doctor", "init", "reactivate", "templates")


class CommandError(Exception):
    """Ends a command with exit code 1 and one line: what is wrong, where, what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (1: it failed; 2: wrong arguments)."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help()
        return 2
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except CommandError as error:
        print(f"c7n-keyrot {args.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        # Else Python complains when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell says it
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="c7n-keyrot",
        description="Sets up the policies of the pack for Cloud Custodian, and looks after them.",
    )
    parser.add_argument("--version", action="version", version=f"c7n-keyrot {__version__}")
    parser.set_defaults(run=None)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"{__name__}.{name}").add_parser(subparsers)
    return parser
