# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The ``c7n-keyrot`` command: one module a sub-command, all of them in ``COMMANDS``."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from c7n_keyrot import __version__, autoload
from c7n_keyrot.core.errors import CommandError

# Workers of c7n-org that start afresh need it, too: they import what their parent's script imports.
# It also helps if something removed what the startup file installed.
autoload.install()

# Each with its line in --help. A command is a module here with `add_parser(subparsers)`, which sets
# `run(args) -> int`, its exit code. These three are other programs, in `programs`.
PROGRAMS = {
    "custodian": "Custodian's own command line, with the pack; no startup file is needed",
    "org": "c7n-org's own command line, with the pack; no startup file is needed",
    "mailer": "c7n-mailer's own command line, with the notices' templates",
}
COMMANDS = {
    **PROGRAMS,
    "doctor": "check the installation, credentials, permissions, queue, templates and coverage",
    "explain": "say what the rule makes of each key of a credential report, and why",
    "init": "write the policies, examples and deploy files into a folder",
    "plan": "say what a dry run would do, over all accounts, and stop at a limit",
    "reactivate": "switch on again the keys that the pack disabled",
    "report": "report what runs found and did: a page, JSON, CSV, OCSF or OSCAL",
    "runner": "run the pack over an organization, unwatched: look, tell or act",
    "templates": "print the folder of the notices' templates",
    "usage": "print who uses access keys, by CloudTrail's event history",
}


EPILOG = """\
examples:
  c7n-keyrot init .     # writes policies/, examples/, deploy/
  c7n-keyrot doctor     # is anything missing?
  c7n-keyrot custodian run --dryrun -s look examples/notify-only.yml
  c7n-keyrot org run --dryrun -c accounts.yml -s look -u examples/notify-only.yml
  c7n-keyrot mailer --run -c mailer.yml

Each command's --help has more of them. Completion with Tab, for bash and zsh:

  eval "$(register-python-argcomplete c7n-keyrot)"
"""


class _Help(argparse.HelpFormatter):
    """Fills paragraphs as usual, but keeps those that consist of lines, such as examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(
            part if "\n" in part or part.startswith(" ") else fill(part, width, indent)
            for part in text.rstrip().split("\n\n")
        )


class _Parser(argparse.ArgumentParser):
    """The parser of all commands; each gives ``epilog="examples:..."``, one example a line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": _Help, **settings})


def main(argv: Sequence[str] | None = None) -> Any:
    """Run one command; return its exit code (1: it failed; 2: wrong arguments).

    For another program, return what its script passes to ``sys.exit``.
    """
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As on stderr: a name that can't be encoded must not end a command half-way.
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
        # Otherwise Python complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130  # as in a shell
    except Exception as error:
        if not _is_of_the_aws_configuration(error):
            raise
        where = "AWS_PROFILE or your AWS configuration (~/.aws/config, or AWS_CONFIG_FILE)"
        print(f"c7n-keyrot {command}: {_clean(error)}; correct {where}", file=sys.stderr)
        return 2
    # Outside of the try: its errors and its exit code are its own.
    return program() if program else code


def _programs() -> Any:
    return importlib.import_module(f"{__name__}.programs")


def _clean(error: Exception) -> str:
    """Return an error's text as one line: it contains names of files and profiles."""
    from c7n_keyrot.core.text import one_line  # here, since botocore takes long to import

    return one_line(error, 2000)


def _is_of_the_aws_configuration(error: Exception) -> bool:
    """Tell whether no session can be made at all; Custodian makes one when it is imported."""
    from botocore.exceptions import ConfigNotFound, ConfigParseError, ProfileNotFound

    return isinstance(error, ConfigNotFound | ConfigParseError | ProfileNotFound)


def _parser(command: str) -> argparse.ArgumentParser:
    """Return the parser; load this command's module only, since another's may need AWS."""
    parser = _Parser(
        prog="c7n-keyrot",
        description="Sets up the pack for Cloud Custodian, checks it, reports and undoes runs.",
        epilog=EPILOG,
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
