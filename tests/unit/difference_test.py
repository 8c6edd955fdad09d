# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""`report today --since yesterday`: what is new, closed, changed, and what isn't known."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from output_tree import NOW, Run
from pytest_mock import MockerFixture

from c7n_keyrot import cli
from c7n_keyrot.core.records import Why
from c7n_keyrot.core.rotation import Verdict

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _clock(mocker: MockerFixture) -> None:
    mocker.patch("c7n_keyrot.cli.report.build.clock", return_value=NOW + 2 * DAY)


def since(tmp_path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> Any:
    args = [str(tmp_path / "today"), "--since", str(tmp_path / "yesterday"), *flags]
    assert cli.main(["report", *args]) == 0
    return capsys.readouterr().out


def names(found: Any, kind: str) -> dict[str, Any]:
    return {one["user"]: one["closed"] or one["now"] for one in found[kind]}


def days(tmp_path: Path, keep: bool = True, **today: Any) -> None:
    """Yesterday five stale keys; today one of them, a new one, and all keys if they are kept."""
    run = Run(counts={"fresh": 4, "stale": 6})
    for number, name in enumerate(("same", "rotated", "off", "removed", "renamed", "back")):
        run.match(name, 100 + number)
    run.outcome("back").write(tmp_path / "yesterday")
    run = Run(time=NOW + DAY, counts={"fresh": 4, "stale": 4}, **today)
    # The same keys, a day older.
    run.match("same", 101).match("new", 91).match("renamed.new", 105).match("back", 106)
    if keep:
        run.population = [
            ("same", 2, "Active", 100),
            ("rotated", 2, "Active", 1),
            ("off", 2, "Inactive", 102),
            ("renamed.new", 2, "Active", 104),
            ("back", 2, "Active", 105),
            ("new", 2, "Active", 90),
            ("fresh", 2, "Active", 9),
        ]
    run.write(tmp_path / "today")


def test_what_is_new_closed_and_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days(tmp_path)
    found = json.loads(since(tmp_path, capsys, "--format", "json"))
    assert names(found, "new") == {"new": "open", "renamed.new": "open"}
    assert names(found, "closed") == {
        "rotated": "rotated",
        "off": "deactivated",
        "removed": "removed",
    }
    assert names(found, "changed") == {"back": "open"}
    assert names(found, "not_known") == {"renamed": None}
    assert (found["since"][:10], found["as_of"][:10]) == ("2026-07-19", "2026-07-20")


@pytest.mark.parametrize(("keep", "failed"), [(False, False), (True, True)])
def test_without_a_proof_nothing_is_closed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: bool, failed: bool
) -> None:
    days(tmp_path, keep, failed=failed)
    found = json.loads(since(tmp_path, capsys, "--format", "json"))
    assert names(found, "closed") == {}
    assert {"rotated", "off", "removed", "renamed"} <= names(found, "not_known").keys()


def test_the_same_runs_differ_in_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in a key without a date and an id either."""
    for day in ("yesterday", "today"):
        run = Run(counts={"stale": 1, "unknown": 1}, id="one").match("ana", 100)
        run.leave("tomas", Verdict.UNKNOWN, Why.UNCLEAR, exempt_until=None)
        run.write(tmp_path / day)
    found = json.loads(since(tmp_path, capsys, "--format", "json"))
    assert [found[kind] for kind in ("new", "closed", "changed", "not_known")] == [[], [], [], []]


def test_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days(tmp_path)
    text = since(tmp_path, capsys)
    first = "From 2026-07-19 09:00 UTC to 2026-07-20 09:00 UTC: 2 new, 3 closed, 1 changed"
    assert text.startswith(first)
    (line,) = [line for line in text.splitlines() if " rotated " in line]
    assert (
        line.split()[-4:] == ["replaced", "by", "a", "newer"] or "replaced by a newer key" in line
    )


@pytest.mark.parametrize("flags", [["--format", "html"], ["--format", "csv"]])
def test_other_formats_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    days(tmp_path)
    args = [str(tmp_path / "today"), "--since", str(tmp_path / "yesterday"), *flags]
    assert cli.main(["report", *args]) == 1
    assert "--since makes a table" in capsys.readouterr().err


def test_a_folder_without_a_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days(tmp_path)
    (tmp_path / "empty").mkdir()
    args = [str(tmp_path / "today"), "--since", str(tmp_path / "empty")]
    assert cli.main(["report", *args]) == 1
    assert "no policy of the pack has run into" in capsys.readouterr().err
