# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables have each cell as it is, in one clean line of text or in several that fit."""

from __future__ import annotations

import os
import sys

import pytest
from pytest_mock import MockerFixture

from c7n_keyrot.cli import tables


def test_cells_stand_below_their_headers() -> None:
    text = tables.table(("USER", "SLOT", ""), [("ann", "1", ""), ("a-longer-name", "2", "why")])
    assert text.split("\n") == [
        "USER           SLOT",
        "ann            1",
        "a-longer-name  2     why",
    ]


@pytest.mark.parametrize("cell", ["False", "True", "None", "007", "1e5", "nan", "inf", "0x10"])
def test_no_cell_is_taken_for_a_value(cell: str) -> None:
    """`tabulate` prints some of these otherwise, if it wraps columns itself."""
    for other in ("x", "y " * 200):
        first = tables.table(("USER", "WHY"), [(cell, other)]).split("\n")[1]
        assert first.split()[0] == cell


@pytest.mark.parametrize("columns", [40, 80, 100, 300])
@pytest.mark.parametrize("rows", [[("u" * 64, "word " * 100)], [("u" * 300, "v" * 300), ("", "")]])
def test_a_long_cell_goes_on_below(
    columns: int, rows: list[tuple[str, str]], mocker: MockerFixture
) -> None:
    mocker.patch("shutil.get_terminal_size", return_value=os.terminal_size((columns, 24)))
    mocker.patch.object(sys.stdout, "isatty", return_value=True)
    wide = min(max(columns, tables.NARROWEST), tables.WIDEST)
    row = tables.row_by_row({"USER": max(len(user) for user, _ in rows)})
    for text in (tables.table(("USER", ""), rows), "\n".join(row(*cells) for cells in rows)):
        assert max(map(len, text.split("\n"))) <= wide
        for letter in "uvw":
            assert text.count(letter) == "".join(map("".join, rows)).count(letter)


def test_a_row_is_one_line_if_it_is_to_be() -> None:
    text = tables.table(("USER", ""), [("u" * 300, "v " * 300)], wraps=False)
    assert len(text.split("\n")) == 2


def test_text_from_outside_stays_in_its_cell() -> None:
    name = "a\n\x1b[31mb\x01\u202ec"
    for text in (
        tables.table(("USER", ""), [(name, "x")]),
        tables.row_by_row({"USER": 20})(name, "x"),
        tables.paragraph(name),
    ):
        assert text.replace("\n", "").isprintable()
        assert "a [31mb c" in text
