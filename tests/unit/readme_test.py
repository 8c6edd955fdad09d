# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The tables of README and docs say what the schemas and the package say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from c7n.resources import load_resources
from c7n.resources.iam import User

from c7n_keyrot.cli import COMMANDS

pytestmark = pytest.mark.repository

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
POLICIES = (ROOT / "docs" / "policies.md").read_text("utf-8")


def rows() -> Iterator[tuple[str, ...]]:
    """(word, option, default, meaning) of each row of the options' table."""
    _, found, rest = POLICIES.partition("<!-- options:")
    assert found, "docs/policies.md lost the line <!-- options: ... --> above its table of options"
    table = rest.split("\n\n")[0]
    word = ""
    for line in table.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[0] not in ("word", "---"):
            word = cells[0] or word
            yield word, *cells[1:]


load_resources(("aws.iam-user",))
OURS = {
    name: element
    for registry in (User.filter_registry, User.action_registry)
    for name, element in registry.items()
    if element.__module__.startswith("c7n_keyrot.")
}


def test_each_word_of_policies_has_a_row() -> None:
    assert {name for name, *_ in rows()} == OURS.keys(), (
        f"the table of options in docs/policies.md must have rows of exactly {sorted(OURS)}"
    )


@pytest.mark.parametrize(("word", "element"), OURS.items(), ids=OURS)
def test_options_are_those_that_are_declared(word: str, element: Any) -> None:
    said = {option: cells for name, option, *cells in rows() if name == word and option}
    declared = {
        name: [
            "" if option.default is None else str(option.default).replace("False", "false"),
            option.meaning.replace("`", ""),
        ]
        for name, option in getattr(element, "options", {}).items()
    }
    assert said == declared, (
        f"the rows of {word} in the table of options in docs/policies.md must be: {declared}"
    )


def test_every_command_is_in_the_readme() -> None:
    for name in COMMANDS:
        assert re.search(rf"`(c7n-keyrot )?{name}\b", README), (
            f"add `{name}` to the table of commands in README.md"
        )
