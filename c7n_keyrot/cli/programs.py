# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""``c7n-keyrot custodian``, ``org``, ``mailer``: the programs' own command lines, with the pack.

No startup file is needed for these. ``c7n_keyrot.cli`` has installed the import hook, in c7n-org's
worker processes as well. Output, behaviour and exit codes are the programs' own, except for the
mailer (``mailing``): it runs nothing that a message brings, and its errors quote no password; and
for c7n-org's ``run`` (``org_runs``): it ends with 1 if an account or a policy wasn't done.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from c7n_keyrot.cli import PROGRAMS
from c7n_keyrot.cli.templates import folder
from c7n_keyrot.core.errors import CommandError

# Distribution, module and function of each one's own console script.
SCRIPTS = {
    "custodian": ("c7n", "c7n.cli", "main"),
    "org": ("c7n-org", "c7n_org.cli", "cli"),
    "mailer": ("c7n-mailer", "c7n_mailer.cli", "main"),
}


def entry(command: str, args: Sequence[str]) -> Callable[[], Any]:
    """Return what the program's own console script calls, and set ``sys.argv`` for it.

    :param command: a name in ``PROGRAMS``.
    :param args: its arguments, without a program's name.
    :raises CommandError: it isn't installed here.
    """
    distribution, module, function = SCRIPTS[command]
    if find_spec(module.partition(".")[0]) is None:
        raise CommandError(
            f"{distribution} isn't installed in {sys.prefix}, where c7n-keyrot is; "
            f"add the package {distribution} there"
        )
    if command == "mailer":
        # First, so that the user's own -t replaces it.
        args = ["-t", str(folder()), *args]
    sys.argv = [f"c7n-keyrot {command}", *args]  # its name in usage texts
    found: Callable[[], Any] = getattr(importlib.import_module(module), function)
    if command == "mailer":
        from c7n_keyrot.cli import mailing  # c7n-mailer brings Jinja

        return partial(mailing.run, found)
    if command == "org" and "_ARGCOMPLETE" not in os.environ:
        from c7n_keyrot.cli import org_runs  # c7n-org brings click

        return partial(org_runs.run, found)
    return found


def complete(own_parser: Callable[[str], Any]) -> None:
    """Answer what a shell asks when the user presses Tab, and exit.

    The shell asks by variables, as ``register-python-argcomplete c7n-keyrot`` sets it up, without
    arguments; the answer goes to file descriptor 8.

    :param own_parser: returns the parser for one of our commands, or for none.
    """
    import argcomplete
    from argcomplete.lexers import split_line

    start = int(os.environ["_ARGCOMPLETE"])  # the place of the first word after c7n-keyrot
    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    _, prefix, _, words, _ = split_line(line, point)
    command, *before = words[start:] or [""]
    if command not in PROGRAMS:
        argcomplete.autocomplete(own_parser(command))
        return
    os.environ["_ARGCOMPLETE"] = str(start + 1)
    program: Any = entry(command, [])
    if command == "custodian":
        program()
    elif command == "mailer":
        argcomplete.autocomplete(sys.modules["c7n_mailer.cli"].get_c7n_mailer_parser())
    else:
        from click.shell_completion import ShellComplete

        items = ShellComplete(program, {}, "c7n-org", "").get_completions(before, prefix)
        values = [item.value for item in items if item.type == "plain"]
        if any(item.type != "plain" for item in items):
            values += argcomplete.completers.FilesCompleter()(prefix)
        with os.fdopen(8, "w") as shell:
            shell.write(os.environ.get("_ARGCOMPLETE_IFS", "\013").join(values))
