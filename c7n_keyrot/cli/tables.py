# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables and paragraphs that fit a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest

from c7n_keyrot.core.text import LONGEST_CELL, one_line

NARROWEST, WIDEST = 80, 120  # columns of a table or a paragraph
GAP = 2  # blanks between two cells


def table(head: Sequence[str], rows: Iterable[Sequence[str]], wraps: bool = True) -> str:
    """Return a whole table.

    :param head: the header of each column.
    :param rows: cells, which it cleans.
    :param wraps: whether it fits a terminal: a cell that is too long goes on in the next line.
        Otherwise each row is one line.
    """
    import tabulate  # type: ignore[import-untyped]  # here, since most commands need no table

    lines = [[one_line(cell, LONGEST_CELL) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    while wraps and sum(widths) + GAP * (len(widths) - 1) > _wide():
        widths[widths.index(max(widths))] -= 1
    # Not by its own `maxcolwidths`, which prints the user "False" as True.
    cells = (map("\n".join, map(_wrapped, line, widths)) for line in lines)
    text: str = tabulate.tabulate(cells, tablefmt="plain", disable_numparse=True)
    return text


def row_by_row(columns: Mapping[str, int]) -> Callable[..., str]:
    """Return what lays out one row of a table that fits a terminal, before the next is known.

    :param columns: the headers of all columns but the last, and the length of the longest cell in
        each. The last one has the rest of the width. A cell that is longer goes on in the next
        line.
    :returns: makes the lines of a row out of its cells, which it cleans.
    """
    wide = _wide()
    widths = [min(max(len(name), most), wide // 3) for name, most in columns.items()]
    while sum(widths) + GAP * len(widths) > wide * 3 // 4:
        widths[widths.index(max(widths))] -= 1
    widths.append(wide - sum(widths) - GAP * len(widths))

    def row(*cells: str) -> str:
        lines = [one_line(cell, LONGEST_CELL) for cell in cells]
        parts = [_wrapped(line, width) for line, width in zip(lines, widths, strict=True)]
        return "\n".join(
            (" " * GAP)
            .join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            .rstrip()
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


def _wrapped(line: str, width: int) -> list[str]:
    return [line] if len(line) <= width else textwrap.wrap(line, width)
