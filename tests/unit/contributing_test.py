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

from c7n_keyrot.cli.doctor import CHECKS
from c7n_keyrot.cli.report.formats import FORMATS

pytestmark = pytest.mark.repository

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


def texts(*paths: str) -> str:
    return "".join((ROOT / path).read_text("utf-8") for path in paths)


@pytest.mark.parametrize("name", CHECKS)
def test_each_check_of_doctor_has_a_test_and_a_line_in_the_documents(name: str) -> None:
    table = f"\n| `{name}` |"
    assert table in texts("docs/commands.md"), (
        f"add a line {table.strip()} to the table of doctor's checks in docs/commands.md"
    )
    # A test is named after the check, or compares its line: "ok  plugin", "FAIL  queue of ...".
    files = sorted(ROOT.glob("tests/*/doctor_test.py")) + sorted(
        ROOT.glob("tests/*/own_key_test.py")
    )
    word = re.sub("(ie|y)?s$", "", name.replace(" ", "_"))
    found = re.search(rf'def test_\w*{word}|"(FAIL +)?{name}\b', texts(*map(str, files)))
    assert found, (
        f"add a test of the check '{name}', with {word} in its name, to tests/unit/doctor_test.py "
        "or tests/end_to_end/doctor_test.py"
    )


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_of_report_has_a_test_and_a_line_in_the_documents(name: str) -> None:
    row = f"\n| `{name}`"
    assert row in texts("docs/commands.md"), (
        f"add a line {row.strip()} | to the table of --format in docs/commands.md"
    )
    files = ("tests/unit/report_formats_test.py", "tests/unit/page_test.py")
    assert f'"{name}"' in texts(*files), (
        f'add a test of the format "{name}" to {files[0]}, against its published schema'
    )


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
