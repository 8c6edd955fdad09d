# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Over several runs: all keys of the newest credential report settle what older lists say."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from output_tree import NOW, Run
from pytest_mock import MockerFixture
from report_test import keys, report

from c7n_keyrot.cli.report import view
from c7n_keyrot.core.records import ExemptUser
from c7n_keyrot.core.rotation import ExemptionState

HOUR = timedelta(hours=1)
Keys = list[tuple[str, int, str, float]]


@pytest.fixture(autouse=True)
def _clock(mocker: MockerFixture) -> None:
    mocker.patch("c7n_keyrot.cli.report.build.clock", return_value=NOW + 500 * HOUR)


def later(out: Path, found: Keys, hours: float = 24, **changes: Any) -> None:
    """A run of the policy that lists expiring keys alone, by a report that has these keys."""
    stale = sum(status == "Active" and slot == 2 and age > 90 for _, slot, status, age in found)
    run = Run(kind="expiring", time=NOW + hours * HOUR, population=found, **changes)
    run.counts = {"fresh": 4, "stale": stale}
    run.write(out)


def listed_before(out: Path, *names: str) -> None:
    run = Run(counts={"fresh": 4, "stale": len(names)})
    for number, name in enumerate(names):
        run.match(name, 100 + number)
    run.write(out)


def test_new_stale_keys_have_names_though_no_policy_lists_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(counts={"fresh": 4}).write(tmp_path)
    later(tmp_path, [("ana", 2, "Active", 91), ("ben", 1, "Active", 200), ("eve", 2, "Active", 5)])
    found = report(capsys, tmp_path)
    assert keys(found, "state") == {"ana": "open"}
    assert (found["keys"][0]["days"], found["keys"][0]["slot"]) == (90, 2)
    assert found["totals"]["open"] == 1
    assert not [one for one in found["warnings"] if "no list names" in one]
    assert view.headline(found["totals"]).startswith("Not in compliance: 1 key")


@pytest.mark.parametrize(("until", "state"), [("2026-09-30", "exempt"), ("2026-07-21", "open")])
def test_a_new_stale_key_of_an_exempt_user_is_exempt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], until: str, state: str
) -> None:
    """While the exemption lasts; the run that saw it judged no stale key."""
    exempt = ExemptUser("ana", "keyrot-exempt-until", ExemptionState.VALID, until, "", "", None)
    Run(counts={"fresh": 4}, exempt=[exempt]).write(tmp_path)
    later(tmp_path, [("ana", 2, "Active", 91)])
    assert keys(report(capsys, tmp_path), "state") == {"ana": state}


@pytest.mark.parametrize("days", [1, 6, 20])
def test_the_policy_of_stale_keys_may_run_once_a_week(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days: int
) -> None:
    """What became of each key since is known by the daily report of all keys."""
    listed_before(tmp_path, "stays", "rotated", "deactivated", "renamed", "unread", "deleted")
    now: Keys = [
        ("stays", 2, "Active", 100),
        ("rotated", 2, "Active", 3),
        ("deactivated", 2, "Inactive", 102),
        ("renamed.new", 2, "Active", 103),
        ("unread", 2, "unknown", 104),
    ]
    later(tmp_path, now, days * 24)
    found = report(capsys, tmp_path)
    assert {user: how for user, how in keys(found, "closed").items() if how} == {
        "rotated": "rotated",
        "deactivated": "deactivated",
        "deleted": "removed",
    }
    assert keys(found, "state") == {
        "stays": "open",
        "rotated": "fixed",
        "deactivated": "fixed",
        "deleted": "fixed",
        "renamed": "unclear",
        "renamed.new": "open",
        "unread": "unclear",
    }


def test_a_key_that_somebody_switched_on_again_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(counts={"stale": 2}).match("ana", 100).outcome("ana").match("ben", 100).outcome(
        "ben"
    ).write(tmp_path)
    later(tmp_path, [("ana", 2, "Active", 100), ("ben", 2, "Inactive", 100)])
    found = report(capsys, tmp_path)
    assert keys(found, "state") == {"ana": "open", "ben": "fixed"}
    assert keys(found, "outcome") == {"ana": "disabled", "ben": "disabled"}
    assert keys(found, "closed") == {"ana": None, "ben": "disabled"}


def test_a_report_made_minutes_after_the_disabling_does_not_show_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(counts={"stale": 1}).match("ana", 100).outcome("ana").write(tmp_path)
    later(tmp_path, [("ana", 2, "Active", 100)], hours=1.1)
    assert keys(report(capsys, tmp_path), "state") == {"ana": "fixed"}


@pytest.mark.parametrize("outcome", ["unknown", "intended"])
@pytest.mark.parametrize(("status", "state"), [("Active", "open"), ("Inactive", "fixed")])
def test_a_doubt_ends_with_the_next_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], outcome: str, status: str, state: str
) -> None:
    run = Run(counts={"stale": 1}).match("ana", 100)
    run.outcome("ana", outcome, intent=outcome == "intended").write(tmp_path)
    assert keys(report(capsys, tmp_path), "state") == {"ana": "unclear"}
    later(tmp_path, [("ana", 2, status, 100)])
    assert keys(report(capsys, tmp_path), "state") == {"ana": state}


@pytest.mark.parametrize("stale", [1, 0])
def test_a_newer_report_whose_keys_were_not_kept_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stale: int
) -> None:
    """It has fewer stale keys than the kept one: nobody knows which of them, or all ended."""
    listed_before(tmp_path, "ana")
    later(tmp_path, [("ana", 2, "Active", 100), ("ben", 2, "Active", 91)])
    assert keys(report(capsys, tmp_path), "state") == {"ana": "open", "ben": "open"}
    run = Run(kind="expiring", time=NOW + 48 * HOUR, counts={"fresh": 5, "stale": stale})
    run.write(tmp_path)
    found = report(capsys, tmp_path)
    assert keys(found, "state") == {"ana": "open" if stale else "fixed"}
    assert found["totals"]["open"] == stale


def test_two_users_of_one_name_are_a_doubt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed_before(tmp_path, "ana")
    later(tmp_path, [("ana", 2, "Active", 100), ("ana", 2, "Active", 5)])
    assert keys(report(capsys, tmp_path), "state")["ana"] == "unclear"


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_file_that_is_not_what_the_run_left_settles_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    listed_before(tmp_path, "ana")
    later(tmp_path, [("ana", 2, "Inactive", 100), ("ben", 2, "Active", 91)])
    (file,) = tmp_path.glob("*/keyrot-population-*")
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "changed" else file.read_bytes()[:-12])
    found = report(capsys, tmp_path)
    assert found["totals"]["open"] + found["totals"]["unclear"] >= 1
    named = [one for one in found["warnings"] if "keyrot-population-" in one]
    assert bool(named) is (damage != "gone")
    assert "ben" not in keys(found, "state")
