# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether c7n-mailer finds the notices' templates: without one its mails are empty."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from c7n_keyrot.cli import templates
from c7n_keyrot.cli.doctor.checks import FAIL, NOT_CHECKED, OK, Check, Checks
from c7n_keyrot.cli.doctor.context import Context
from c7n_keyrot.core.errors import CommandError


def checks(context: Context) -> Checks:
    """Check that each template is where c7n-mailer looks for it."""
    names = {
        notice[word]: None
        for _, _, notice in context.notices()
        for word in ("template", "slack_template")
        if isinstance(notice.get(word), str)
    }
    if not names:
        if context.known:
            yield Check(NOT_CHECKED, "templates", "no policy with a notice")
        return
    try:
        ours = templates.folder()
    except CommandError as error:
        yield Check(FAIL, "templates", str(error), "install c7n-keyrot again")
        return
    spec = importlib.util.find_spec("c7n_mailer")
    folders = [Path(), ours]
    if spec and spec.origin:
        folders.append(Path(spec.origin).parent / "msg-templates")
    places: dict[Path, list[str]] = {}
    for name in names:
        found = next((folder for folder in folders if (folder / f"{name}.j2").is_file()), None)
        if found is not None:
            places.setdefault(found, []).append(name)
            continue
        what = f"no {name}.j2 in {ours}: its mails would be empty"
        fix = f"correct the name in the policy, or give c7n-mailer -t the folder of {name}.j2"
        yield Check(FAIL, f"template {name}", what, fix)
    for folder, found_there in places.items():
        yield Check(OK, "templates", f"{', '.join(found_there)}, in {folder}")
    if ours in places:
        what = "no file says whether it is given, and without it mails are empty"
        config = context.args.mailer or "mailer.yml"
        fix = f'run c7n-mailer --run -c {config} -t "$(c7n-keyrot templates)"'
        yield Check(NOT_CHECKED, "c7n-mailer -t", what, fix)
