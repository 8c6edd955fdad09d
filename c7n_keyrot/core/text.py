# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The wording of what people read; ``one_line`` cleans text from outside."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import zip_longest

# A spreadsheet takes a cell that begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four are wide
LONGEST_CELL = 5000
NARROWEST, WIDEST = 80, 120  # columns of a table or a paragraph


def one_line(text: object, limit: int = 300) -> str:
    """Return text from outside as one bounded line without control characters."""
    line = str(text)
    if not line.isprintable():  # seldom, and slow
        line = "".join(c if c.isprintable() else " " for c in line)
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


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


def json_parts(value: object) -> Iterator[str]:
    """Write JSON part by part, so that a long list needn't be in memory as text.

    :param value: an iterator in it is written as a list, with a line for each entry.
    """
    yield from _parts(value)
    yield "\n"


def _parts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        between = "{\n"
        for name, one in value.items():
            yield f"{between}{json.dumps(name)}: "
            yield from _parts(one)
            between = ",\n"
        yield "\n}" if value else "{}"
    elif isinstance(value, Iterator):
        between = "["
        for one in value:
            yield f"{between}\n{json.dumps(one)}"
            between = ","
        yield "[]" if between == "[" else "\n]"
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        between = "["
        for one in value:
            yield between
            yield from _parts(one)
            between = ","
        yield "]"
    else:
        yield json.dumps(value)


def disarmed(text: str) -> str:
    """Return a cell of a CSV file: one clean line, which no spreadsheet takes for a formula.

    An apostrophe in front makes it text, as OWASP's page "CSV Injection" has it.
    """
    line = one_line(text, LONGEST_CELL)
    return f"'{line}" if line.startswith(FORMULA) else line


def table(columns: Mapping[str, int]) -> Callable[..., str]:
    """Return what lays out a row of a table that fits a terminal.

    :param columns: the headers of all columns but the last, and the length of the longest cell in
        each. The last one has the rest of the width. A cell that is longer goes on in the next
        line.
    :returns: makes the lines of a row out of its cells, which it cleans.
    """
    wide = _wide()
    widths = [min(max(len(name), most), wide // 3) for name, most in columns.items()]
    while sum(widths) + 2 * len(widths) > wide * 3 // 4:
        widths[widths.index(max(widths))] -= 1
    widths.append(wide - sum(widths) - 2 * len(widths))

    def row(*cells: str) -> str:
        parts = [_wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in zip_longest(*parts, fillvalue="")
        )

    return row


def paragraph(text: str, indent: int = 0) -> str:
    """Return a cleaned text as lines that fit a terminal.

    :param indent: blanks in front of each line but the first, which has two less.
    """
    first, others = " " * max(indent - 2, 0), " " * indent
    return textwrap.fill(
        one_line(text, LONGEST_CELL), _wide(), initial_indent=first, subsequent_indent=others
    )


def _wide() -> int:
    """Return the width of what is printed: the terminal's, within bounds."""
    if not sys.stdout.isatty():
        return WIDEST
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)


def _wrapped(cell: str, width: int) -> list[str]:
    line = one_line(cell, LONGEST_CELL)
    return [line] if len(line) <= width else textwrap.wrap(line, width)
