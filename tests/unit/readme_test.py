# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The tables of README and docs say what the schemas and the package say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from c7n.resources import load_resources

from c7n_keyrot.cli import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
POLICIES = (ROOT / "docs" / "policies.md").read_text("utf-8")


def rows() -> Iterator[tuple[str, ...]]:
    """(word, option, default, meaning) of each row of the options' table."""
    table = POLICIES.split("<!-- options:")[1].split("\n\n")[0]
    word = ""
    for line in table.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[0] not in ("word", "---"):
            word = cells[0] or word
            yield word, *cells[1:]


@pytest.mark.parametrize(
    "word",
    [
        "stale-access-key",
        "expiring-access-key",
        "unclear-access-key",
        "rotation-exempt",
        "time-window",
        "disable-access-key",
        "delete-access-key",
    ],
)
def test_options_are_those_that_are_declared(word: str) -> None:
    load_resources(("aws.iam-user",))
    from c7n.resources.iam import User

    element = User.filter_registry.get(word) or User.action_registry.get(word)
    said = {option: cells for name, option, *cells in rows() if name == word and option}
    declared = {
        name: [
            "" if option.default is None else str(option.default).replace("False", "false"),
            option.meaning,
        ]
        for name, option in getattr(element, "options", {}).items()
    }
    assert said == declared


def test_every_command_is_in_the_readme() -> None:
    for name in COMMANDS:
        assert re.search(rf"`(c7n-keyrot )?{name}\b", README), name
