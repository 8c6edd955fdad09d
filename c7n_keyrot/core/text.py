# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The wording of what people read; ``one_line`` cleans text from outside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

# A spreadsheet takes a cell that begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four are wide
LONGEST_CELL = 5000
# An absolute path of some depth; not what is in a URL, an ARN or the key of an object.
MACHINE_PATH = re.compile(
    r"""(?<![\w.:/*+%@=~-])~?(?:/[^\s/'":,;()\[\]<>]+)+(/[^\s/'":,;()\[\]<>]+)"""
)


def one_line(text: object, limit: int = 300) -> str:
    """Return text from outside as one bounded line without control characters."""
    line = str(text)
    if not line.isprintable():  # seldom, and slow
        line = "".join(c if c.isprintable() else " " for c in line)
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def without_paths(text: str) -> str:
    """Return text without the folders of a machine: of each absolute path its last name stays."""
    return MACHINE_PATH.sub(lambda found: found[1].removeprefix("/"), text)


def url_name(url: str) -> str:
    """Return a URL as one line without user and query, which may be secret; a file by its name."""
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return one_line(parts.path.rpartition("/")[2], 200)
    host = parts.netloc.rpartition("@")[2]
    return one_line(f"{parts.scheme}://{host}{parts.path}", 200)


def counted(number: int, noun: str) -> str:
    """Return a count and its noun, such as ``1 key`` or ``2 keys``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return the cleaned names with commas; after ``most`` of them only the count."""
    shown = ", ".join(one_line(name, 100) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def utc(time: datetime | float, seconds: bool = False) -> str:
    """Return a time in UTC, such as ``2026-05-01 10:00 UTC``.

    :param time: a time with its zone, or seconds since 1970.
    :param seconds: whether to name the second.
    """
    if not isinstance(time, datetime):
        time = datetime.fromtimestamp(time, timezone.utc)
    form = "%Y-%m-%d %H:%M:%S UTC" if seconds else "%Y-%m-%d %H:%M UTC"
    return time.astimezone(timezone.utc).strftime(form)


def how_long(time: timedelta) -> str:
    """Return a time in whole minutes, hours or days, such as ``47 hours``; 0 for one below."""
    minutes = max(int(time / timedelta(minutes=1)), 0)
    if minutes < 60:
        return counted(minutes, "minute")
    hours = minutes // 60
    return counted(hours, "hour") if hours < 48 else counted(hours // 24, "day")


def disarmed(text: str) -> str:
    """Return a cell of a CSV file: one clean line, which no spreadsheet takes for a formula.

    An apostrophe in front makes it text, as OWASP's page "CSV Injection" has it.
    """
    line = one_line(text, LONGEST_CELL)
    return f"'{line}" if line.startswith(FORMULA) else line
