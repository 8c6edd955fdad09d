# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML page: self-contained, without any network, most of it without script.

The page's Content Security Policy allows its own style sheet and script by their hashes, and
nothing else: markup that slipped in could neither run nor load anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from c7n_keyrot.cli.report import view

HERE = Path(__file__).parent
FAVICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath fill='%231f55c0' fill-rule='evenodd' d='M10.5 1a4.500 4.500 0 1 1-1.500 8.700L7.400 "
    "11.300H6v1.500H4.500v1.500H1v-2.900L6.300 6A4.500 4.500 0 0 1 10.500 1Zm1 2.500a1.200 1.200 "
    "0 1 0 0 2.400 1.200 1.200 0 0 0 0-2.400Z'/%3E%3C/svg%3E"
)
# What would end the script element, or be read as markup, outside of a string of JSON.
UNSAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
# Few values are in many rows: they are written once, and rows have their numbers.
CODED = ("state", "outcome", "done", "why", "reason", "owner", "used_by")
COLUMNS = (
    "account",
    "user",
    "slot",
    "key",
    "age",
    "deadline",
    "left",
    "used",
    "note",
    "history",
    *CODED,
)


def render(report: Mapping[str, Any]) -> str:
    """Return the page of a report as ``--format json`` writes it.

    :param report: what ``schemas/report.schema.json`` describes.
    """
    css, js = (_asset(f"page.{kind}") for kind in ("css", "js"))
    csp = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _hash(css),
        "script-src": _hash(js),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        page=view.page(report),
        csp="; ".join(f"{name} {value}" for name, value in csp.items()),
        css=css,
        js=js,
        data=_json(packed(view.keys(report))),
        favicon=FAVICON,
    )


def packed(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows as lists of values, and each value of a coded column once, in ``words``."""
    words: dict[Any, int] = {}

    def code(name: str, value: Any) -> Any:
        if name not in CODED or value is None:
            return value
        return words.setdefault(value, len(words))

    lists = [[code(name, row[name]) for name in COLUMNS] for row in rows]
    return {"columns": COLUMNS, "coded": CODED, "words": list(words), "rows": lists}


def _json(value: object) -> Markup:
    """Return JSON in ASCII without ``<``, ``>``, ``&``: in a script element it stays text."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).translate(UNSAFE)
    return Markup(text)  # noqa: S704  made safe just above


def _asset(name: str) -> Markup:
    """Return a file of this package as it is: it comes from nobody else."""
    return Markup((HERE / name).read_text("utf-8"))  # noqa: S704


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


__all__: Sequence[str] = ["packed", "render"]
