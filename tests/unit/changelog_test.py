# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""CHANGELOG.md has its form, and `make release-check` says why a commit is no release."""

from __future__ import annotations

import re
import zipfile
from datetime import date
from pathlib import Path

import pytest
import release_check
from pytest_mock import MockerFixture

import c7n_keyrot

pytestmark = pytest.mark.repository

ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
VERSION = c7n_keyrot.__version__
GOOD = """# Changelog

## [Unreleased]

## [0.2.0] - 2026-12-24

### Added

- One thing.

### Fixed

- Another
  thing.

## [0.1.0] - 2026-11-26

### Added

- The first.
"""


def test_it_has_the_form_of_keep_a_changelog() -> None:
    assert list(release_check.malformed(CHANGELOG)) == []


def test_its_newest_version_is_this_one() -> None:
    newest = next(one for one in release_check.sections(CHANGELOG) if one.day)
    assert newest.name == VERSION


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("", "", None),
        ("# Changelog", "# Changes", "the first line isn't"),
        ("## [Unreleased]\n", "", "the first section isn't"),
        ("[Unreleased]", "[Unreleased] - 2026-12-25", "the first section isn't"),
        ("[0.2.0]", "0.2.0", "isn't '## [1.2.3] - YYYY-MM-DD'"),
        ("[0.2.0]", "[0.2]", "isn't '## [1.2.3] - YYYY-MM-DD'"),
        ("2026-12-24", "2026-02-30", "isn't '## [1.2.3] - YYYY-MM-DD'"),
        (" - 2026-12-24", " (unreleased)", "isn't '## [1.2.3] - YYYY-MM-DD'"),
        ("[0.2.0]", "[0.0.9]", "the newest version isn't first"),
        ("2026-12-24", "2026-11-25", None),
        ("### Fixed", "### Mended", "Added, Mended must be some of"),
        ("### Fixed", "### Added", "once each"),
        ("- One thing.", "", "0.2.0: Added has no entry"),
        ("### Added\n\n- The first.\n", "", "0.1.0 has no entry"),
    ],
)
def test_what_has_another_form(before: str, after: str, problem: str | None) -> None:
    found = list(release_check.malformed(GOOD.replace(before, after, 1)))
    assert [problem in text for text in found] == [True] if problem else found == []


@pytest.mark.parametrize(
    ("before", "after", "version", "tags", "problem"),
    [
        ("", "", "0.2.0", [], None),
        ("", "", "0.2.0", ["v0.2.0"], None),
        ("", "", "0.2.0", ["v0.1.0"], "the commit's tag is v0.1.0, not v0.2.0"),
        ("", "", "0.3.0", [], "its newest version is 0.2.0, but c7n_keyrot.__version__ is 0.3.0"),
        ("2026-12-24", "2026-12-26", "0.2.0", [], "which is to come"),
        ("[Unreleased]", "[Unreleased]\n\n### Added\n\n- New.", "0.2.0", [], "entries are under"),
        (GOOD, "# Changelog\n", "0.2.0", [], "it has no version"),
    ],
)
def test_what_announces_no_release(
    before: str, after: str, version: str, tags: list[str], problem: str | None
) -> None:
    text = GOOD.replace(before, after, 1)
    found = list(release_check.unready(text, version, tags, date(2026, 12, 25)))
    assert [problem in one for one in found] == [True] if problem else found == []


def test_the_version_is_in_one_place() -> None:
    """Besides CHANGELOG.md. A second place would be forgotten."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'version = { attr = "c7n_keyrot.__version__" }\n' in project
    number = re.compile(rf"(?<![\d.]){re.escape(VERSION)}(?![\d.])")
    files = [ROOT / name for name in ("README.md", "setup.cfg", "setup.py", "pyproject.toml")]
    for folder, suffix in (("c7n_keyrot", "*.py"), ("deploy", "*.yml"), ("docs", "*.md")):
        files += (ROOT / folder).rglob(suffix)
    places = [path for path in files if number.search(path.read_text("utf-8"))]
    assert places == [ROOT / "c7n_keyrot" / "__init__.py"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"c7n_keyrot.pth": None}, "c7n_keyrot.pth is missing in the wheel"),
        ({"c7n_keyrot/aws/gate.py": b"x"}, "c7n_keyrot/aws/gate.py is another one in the wheel"),
        ({"c7n_keyrot/x.py": b""}, "c7n_keyrot/x.py is in the wheel, but not in the commit"),
    ],
)
def test_a_wheel_with_other_files(
    change: dict[str, bytes | None], problem: str | None, tmp_path: Path, mocker: MockerFixture
) -> None:
    sources = {
        "c7n_keyrot.pth": b"import c7n_keyrot.autoload\n",
        "c7n_keyrot/aws/gate.py": b"",
        "c7n_keyrot/msg-templates/a.j2": b"",
        "policies/a.yml": b"policies: []\n",
    }
    for name, content in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    packed = {
        name.replace("policies/", "c7n_keyrot/pack/policies/"): sources[name] for name in sources
    }
    with zipfile.ZipFile(tmp_path / "c7n_keyrot-0.2.0-py3-none-any.whl", "w") as wheel:
        for name, content in {
            **packed,
            "c7n_keyrot-0.2.0.dist-info/METADATA": b"",
            **change,
        }.items():
            if content is not None:
                wheel.writestr(name, content)
    mocker.patch.object(release_check, "ROOT", tmp_path)
    mocker.patch.object(release_check, "output", return_value="\n".join(sources).encode())
    found = list(release_check.missing_files(tmp_path, "0.2.0"))
    assert found == ([problem] if problem else [])
