# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The `c7n-keyrot` command: one module a sub-command, all of them in `COMMANDS`."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from c7n_keyrot import __version__, autoload

# In workers of c7n-org that are started afresh as well, since these import what the script of their
# parent imports; and where something has taken away what the startup file installed.
autoload.install()

# With what --help says of it. Each is a module here with `add_parser(subparsers)`, which sets
# `run(args) -> int`, its exit code; but these three are other programs, in `programs`.
PROGRAMS = {
    "custodian": "Custodian's own command line, with the pack; no startup file is needed",
    "org": "c7n-org's own command line, with the pack; no startup file is needed",
    "mailer": "c7n-mailer's own command line, with the notices' templates",
}
COMMANDS = {
    **PROGRAMS,
    "doctor": "check the installation, credentials, permissions, queue, templates and coverage",
    "init": "write the policies, examples and deploy files into a folder",
    "reactivate": "switch on again the keys that the pack disabled",
    "templates": "print the folder of the notices' templates",
}


class CommandError(Exception):
    """Ends a command with exit code 1 and one line: what is wrong, where, what to do."""


def main(argv: Sequence[str] | None = None) -> Any:
    """Runs one command; returns its exit code (1: it failed; 2: wrong arguments).

    Of another program it returns what that one's script hands to `sys.exit`.
    """
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As Python has it for errors: no name may end a command half-way that is at work.
        sys.stdout.reconfigure(errors="backslashreplace")
    command = argv[0] if argv and argv[0] in COMMANDS else ""
    program: Callable[[], Any] | None = None
    try:
        if "_ARGCOMPLETE" in os.environ:
            _programs().complete(_parser)
            return 0
        if command in PROGRAMS:
            program = _programs().entry(command, argv[1:])
        else:
            parser = _parser(command)
            args = parser.parse_args(argv)
            if args.run is None:
                parser.print_help()
                return 2
            code: int = args.run(args)
            sys.stdout.flush()
    except CommandError as error:
        print(f"c7n-keyrot {command}: {_clean(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        # Else Python complains when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell says it
    except Exception as error:
        if not _is_of_the_aws_configuration(error):
            raise
        where = "AWS_PROFILE or your AWS configuration (~/.aws/config, or AWS_CONFIG_FILE)"
        print(f"c7n-keyrot {command}: {_clean(error)}; correct {where}", file=sys.stderr)
        return 2
    # Out here its errors and its exit code are its own, as in its own script.
    return program() if program else code


def _programs() -> Any:
    return importlib.import_module(f"{__name__}.programs")


def _clean(error: Exception) -> str:
    """Return an error's words as one line: names of files and profiles are in them."""
    from c7n_keyrot.cli.text import one_line  # here, since botocore takes long to import

    return one_line(error, 2000)


def _is_of_the_aws_configuration(error: Exception) -> bool:
    """No session can be made at all, and Custodian makes one when it is imported."""
    from botocore.exceptions import ConfigNotFound, ConfigParseError, ProfileNotFound

    return isinstance(error, ConfigNotFound | ConfigParseError | ProfileNotFound)


def _parser(command: str) -> argparse.ArgumentParser:
    """The parser; only this command's module is loaded, as the others' may need an AWS."""
    parser = argparse.ArgumentParser(
        prog="c7n-keyrot",
        description="Sets up the policies of the pack for Cloud Custodian, and looks after them.",
    )
    parser.add_argument("--version", action="version", version=f"c7n-keyrot {__version__}")
    parser.set_defaults(run=None)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in COMMANDS.items():
        if name == command and name not in PROGRAMS:
            importlib.import_module(f"{__name__}.{name}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=text)
    return parser
