# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes the report in each format.

Each function returns the whole file, or its parts one after the other: it may be long.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from c7n_keyrot.cli.report import ocsf, oscal
from c7n_keyrot.core.errors import CommandError
from c7n_keyrot.core.text import disarmed
from c7n_keyrot.evidence.ledger import FIELDS

Report = dict[str, Any]


def as_json(report: Report) -> Iterator[str]:
    """Return the report itself; each entry of a list is a line, for ``grep``."""
    for number, (name, value) in enumerate(report.items()):
        yield f"{',' if number else '{'}\n{json.dumps(name)}: "
        if value and isinstance(value, list):
            yield "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        else:
            yield json.dumps(value)
    yield "\n}\n"


def as_csv(report: Report) -> str:
    """Return the keys."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for key in chain(report["keys"], report.get("passed", ()), _exempt_users(report)):
        # A number is written as it is: a negative one is no formula.
        writer.writerow(
            disarmed(value) if isinstance(value, str) else value
            for value in (key[name] for name in FIELDS)
        )
    return text.getvalue()


def _exempt_users(report: Report) -> Iterator[dict[str, Any]]:
    """Yield a row for each exempt user without a key in the list: without a verdict."""
    passed = {(key["account_id"], key["user"]) for key in report.get("passed", ())}
    for one in report["exemptions"]:
        if one["key"] is None and (one["account_id"], one["user"]) not in passed:
            yield dict.fromkeys(FIELDS) | {
                **{name: one[name] for name in ("account_id", "account", "user", "owner")},
                "exemption": one["state"],
                "exempt_until": one["until"],
                "exempt_reason": one["reason"],
                "exempt_approved_by": one["approved_by"],
            }


def as_html(report: Report) -> str:
    """Return the page.

    :raises CommandError: Jinja2 isn't there: the package was installed without what it needs.
    """
    try:
        page = importlib.import_module("c7n_keyrot.cli.report.page")  # Jinja2 takes long to import
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the page needs {error.name}; reinstall c7n-keyrot with what it depends on, or use"
            " --format json"
        ) from None
    text: str = page.render(report)
    return text


FORMATS: dict[str, Callable[[Report], str | Iterator[str]]] = {
    "html": as_html,
    "json": as_json,
    "csv": as_csv,
    "ocsf": ocsf.render,
    "oscal": oscal.render,
}


def write_whole(file: Path, parts: Iterable[str]) -> None:
    """Write a file, whole or not at all: a reader sees the old one or the new one.

    :param parts: what the file has, one after the other.
    :raises CommandError: it can't be written.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        try:
            with part.open("x", encoding="utf-8") as stream:
                stream.writelines(parts)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"can't write {file}: {error.strerror}") from None
