# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot templates``: print the folder of the notices' templates, for ``c7n-mailer -t``."""

import argparse
from pathlib import Path

import c7n_keyrot
from c7n_keyrot.core.errors import CommandError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "templates",
        description="Prints the folder of the notices' templates, and nothing else.",
        epilog="examples:\n"
        '  c7n-mailer --run -c mailer.yml -t "$(c7n-keyrot templates)"\n'
        '  ls "$(c7n-keyrot templates)"     # to see them, or to copy one',
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    print(folder())
    return 0


def folder() -> Path:
    """Return the folder of the templates, in the wheel or in a checkout.

    :raises CommandError: it has no templates; c7n-mailer would send empty mails.
    """
    path = Path(c7n_keyrot.__file__).resolve().parent / "msg-templates"
    if not any(path.glob("*.j2")):
        raise CommandError(f"the templates are missing in {path}; reinstall c7n-keyrot")
    return path
