# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A register of exemptions: a reviewed list, read by Custodian's own reader of URLs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from c7n.cache import NullCache
from c7n.resolver import URIResolver

from c7n_keyrot.core.rotation import last_day
from c7n_keyrot.core.text import one_line, url_name

COLUMNS = ("account", "user", "until", "reason", "approved by")
# A plain http answer could come from anybody.
SCHEMES = ("", "file", "https", "s3")
ACCOUNT = re.compile(r"\d{12}")
USER = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)

Place = tuple[str, str]


class RegisterError(Exception):
    """The register can't be read as a whole, so nobody knows who is exempt."""


@dataclass(frozen=True)
class Exempted:
    """One exemption; ``until`` is its last day (UTC)."""

    until: date
    reason: str
    approved_by: str


def read(url: str, session_factory: Any) -> dict[Place, Exempted]:
    """Read a register: the exemptions, by account id and user name in lower case.

    :param url: ``s3://``, ``https://``, ``file://``, or a path, from the current folder on.
    :raises RegisterError: it can't be read, or one of its lines isn't whole.
    """
    parts = urlsplit(url)
    where = url if parts.scheme else Path(url).resolve().as_uri()
    try:
        # Never out of Custodian's cache: who was exempted a minute ago is exempt.
        found = URIResolver(session_factory, NullCache({})).resolve(where, {})
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be taken for not exempt
        # Its text may quote the URL, which may be a signed one.
        response = getattr(error, "response", None) or {}
        code = response.get("Error", {}).get("Code") or getattr(error, "code", "")
        why = one_line(code or type(error).__name__, 100)
        raise RegisterError(
            f"the register {url_name(url)} can't be read ({why}); nobody knows who is exempt, so "
            "nothing is done"
        ) from None
    try:
        return _lines(found)
    except ValueError as error:
        raise RegisterError(
            f"the register {url_name(url)}: {error}; correct it. Nothing is done until then"
        ) from None


def _lines(text: str) -> dict[Place, Exempted]:
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    found: dict[Place, Exempted] = {}
    places: list[int] = []
    try:
        for number, cells in enumerate(rows, 1):
            values = [cell.strip() for cell in cells]
            if not places:
                places = _places(values)
            elif any(values):
                if len(values) < len(places) or max(places) >= len(values):
                    raise ValueError(f"line {number} has {len(values)} cells")
                place, line = _line(number, *(values[at] for at in places))
                if place in found:
                    raise ValueError(f"line {number}: {place[1]!r} of {place[0]} is there twice")
                found[place] = line
    except csv.Error:
        raise ValueError(f"line {rows.line_num} isn't CSV") from None
    if not places:
        raise ValueError("it is empty")
    return found


def _places(head: list[str]) -> list[int]:
    names = [re.sub(r"[\s_-]+", " ", name.lower()) for name in head]
    missing = [name for name in COLUMNS if names.count(name) != 1]
    if missing:
        raise ValueError(
            f"its first line must name the columns {', '.join(COLUMNS)}, each once; not so: "
            f"{', '.join(missing)}"
        )
    return [names.index(name) for name in COLUMNS]


def _line(
    number: int, account: str, user: str, until: str, reason: str, approved_by: str
) -> tuple[Place, Exempted]:
    day = last_day(until)
    for what in _problems(account, user, reason, approved_by):
        raise ValueError(f"line {number}: {what}")
    if day is None:
        raise ValueError(f"line {number}: until must be a date (YYYY-MM-DD)")
    return (account, user.lower()), Exempted(day, one_line(reason), one_line(approved_by))


def _problems(account: str, user: str, reason: str, approved_by: str) -> Iterator[str]:
    if not ACCOUNT.fullmatch(account):
        yield "account must be an id of 12 digits (a spreadsheet may have cut off a 0 in front)"
    if not USER.fullmatch(user):
        yield "user must be the name of an IAM user"
    for name, value in (("reason", reason), ("approved by", approved_by)):
        if not value:
            yield f"{name} is empty"
