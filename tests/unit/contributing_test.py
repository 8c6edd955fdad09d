# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What contributors are told is there: files, targets of make, words of the code; and the forms."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
TEXTS = {
    path.name: path.read_text("utf-8")
    for path in (ROOT / "CONTRIBUTING.md", GITHUB / "PULL_REQUEST_TEMPLATE.md")
}
CONTRIBUTING = TEXTS["CONTRIBUTING.md"]
FORMS = sorted(
    set((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) - {GITHUB / "ISSUE_TEMPLATE/config.yml"}
)
each_text = pytest.mark.parametrize("name", TEXTS)
each_form = pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)


@each_text
def test_the_targets_of_make_are_there(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    commands = re.findall(r"^    (make .+)|`(make .+?)`", TEXTS[name], re.MULTILINE)
    words = [word for pair in commands for word in shlex.split("".join(pair), comments=True)[1:]]
    assert words
    assert {word for word in words if "=" not in word} <= targets


@each_text
def test_the_files_are_there(name: str) -> None:
    named = set(re.findall(r"\]\(([\w./-]+)\)", TEXTS[name]))
    named |= set(
        re.findall(r"[`=]([\w.-]*/[\w./-]+\.(?:py|yml|md)|[\w.-]+/[\w./-]*)[` ]", TEXTS[name])
    )
    assert name != "CONTRIBUTING.md" or len(named) > 10
    missing = [one for one in named if not (ROOT / one).exists()]
    assert not missing


@pytest.mark.parametrize(
    ("word", "file"),
    [
        ("@declare", "custodian/elements/filters.py"),
        ("weekdays", "custodian/elements/filters.py"),
        ("validate", "custodian/elements/filters.py"),
        ("wanted_key", "custodian/elements/slots.py"),
        ("refine", "custodian/elements/slots.py"),
        ("add_parser", "cli/__init__.py"),
        ("COMMANDS", "cli/__init__.py"),
        ("CommandError", "cli/__init__.py"),
        ("one_line", "core/text.py"),
    ],
)
def test_the_words_of_the_code_are_there(word: str, file: str) -> None:
    assert word in CONTRIBUTING
    assert re.search(rf"{re.escape(word)}\b", (ROOT / "c7n_keyrot" / file).read_text("utf-8"))


@each_form
def test_a_form_asks_for_something(path: Path) -> None:
    form: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    fields = [one for one in form["body"] if one["type"] != "markdown"]
    assert form["name"]
    assert form["description"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_whoever_reports_a_bug_is_told_where_vulnerabilities_go() -> None:
    assert "../security/policy" in (GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text("utf-8")
    assert "SECURITY.md" in CONTRIBUTING
    assert "## Reporting a vulnerability" in (ROOT / "SECURITY.md").read_text("utf-8")
