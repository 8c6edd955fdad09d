# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""c7n-keyrot report: what runs left becomes one report, whose schema is the contract."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import MagicMock

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from output_tree import NOW, PACK, A, B, C, Run, accounts_yml, key_id
from pytest_mock import MockerFixture

import c7n_keyrot
from c7n_keyrot.cli import main
from c7n_keyrot.cli.report import formats, view
from c7n_keyrot.core import outcomes
from c7n_keyrot.core.outcomes import Action, Result
from c7n_keyrot.core.records import Why
from c7n_keyrot.core.rotation import DAY, ExemptionState, Identified, Verdict
from c7n_keyrot.core.usage import Group, Usage

SCHEMA = json.loads(
    (Path(c7n_keyrot.__file__).parent / "schemas" / "report.schema.json").read_text("utf-8")
)
STALE, EXPIRING = PACK["stale"]["name"], PACK["expiring"]["name"]
COUNTS = {"fresh": 10, "expiring": 2, "stale": 4, "unknown": 1, "absent": 5, "inactive": 3}


def report(
    capsys: pytest.CaptureFixture[str], *folders: Path, accounts: Path | None = None
) -> dict[str, Any]:
    """The report as JSON, which its schema holds of."""
    args = ["report", *map(str, folders), "--format", "json"]
    args += ["--accounts", str(accounts)] if accounts else []
    assert main(args) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA, format_checker=FormatChecker()).validate(found)
    return found


def keys(found: dict[str, Any], *fields: str) -> dict[str, Any]:
    """Fields of each key, by its user."""
    return {
        key["user"]: key[fields[0]] if len(fields) == 1 else tuple(key[name] for name in fields)
        for key in found["keys"]
    }


@pytest.fixture(autouse=True)
def clock(mocker: MockerFixture) -> Any:
    """Reports are made four days after the first run, whatever the day is."""
    return mocker.patch("c7n_keyrot.cli.report.build.clock", return_value=NOW + 4 * DAY)


def days_ago(days: float) -> str:
    return (NOW - days * DAY).isoformat()


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A run of the pack in two accounts of three, with a key in every state."""
    out = tmp_path / "out"
    stale = Run(counts={**COUNTS, "fresh": 12, "expiring": 0})
    stale.match("ana", 100, {"OwnerContact": "ana@corp.test"}).outcome("ana")
    stale.match("eve", 120).outcome("eve", "denied", reason="AccessDenied")
    stale.leave("sam", last_rotated=days_ago(200))
    stale.leave("twins", why=Why.UNCLEAR, last_rotated=days_ago(150))
    stale.leave("odd", Verdict.UNKNOWN, Why.UNKNOWN)
    stale.write(out, "payments")
    expiring = Run(kind="expiring", counts=COUNTS).match("bob", 83)
    expiring.leave("zoe", Verdict.EXPIRING, Why.NOT_DUE, last_rotated=days_ago(85))
    expiring.write(out, "payments")
    Run(account_id=B, counts={"fresh": 5, "absent": 1}).write(out, "web")
    return out


@pytest.mark.parametrize(
    ("why", "state"),
    [
        (Why.CHANGED, "fixed"),
        (Why.GONE, "fixed"),
        (Why.NOT_FOUND, "unclear"),  # renamed, perhaps
        (Why.OTHER_USER, "unclear"),
        (Why.UNKNOWN, "unclear"),
        (Why.UNREAD, "unclear"),
        (Why.UNCLEAR, "unclear"),
        (Why.TWICE, "unclear"),
        (Why.EXEMPT, "exempt"),
        (Why.USED, "open"),
        (Why.OWN, "open"),
        (Why.NOT_DUE, "open"),
        (Why.OTHER_FILTER, "open"),
    ],
)
def test_why_a_stale_key_was_left_says_its_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], why: Why, state: str
) -> None:
    """Only what is proven not to be there any more is fixed."""
    run = Run(counts=COUNTS)
    run.leave("ana", why=why, last_rotated=days_ago(200))
    run.write(tmp_path)
    assert keys(report(capsys, tmp_path), "state") == {"ana": state}


def test_every_reason_has_its_state_in_a_test() -> None:
    (mark,) = test_why_a_stale_key_was_left_says_its_state.pytestmark  # type: ignore[attr-defined]
    assert {why for why, _ in mark.args[1]} == set(Why)


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("verdict", Verdict),
        ("why", Why),
        ("identified", Identified),
        ("exemption", ExemptionState),
        ("outcome", Result),
        ("action", Action),
    ],
)
def test_the_schema_has_the_words_of_the_code(field: str, words: Iterable[Any]) -> None:
    allowed = SCHEMA["properties"]["keys"]["items"]["properties"][field]["enum"]
    # A notice does nothing to a key: it is in the key's history only.
    words = {word.value for word in words} - {"notify", "notified"}
    assert set(allowed) == words | {None}


def test_a_run_of_the_pack(pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accounts = accounts_yml(tmp_path, {"payments": A, "web": B, "sandbox": C})
    found = report(capsys, pack, accounts=accounts)
    assert {row["name"]: (row["covered"], row["why"]) for row in found["accounts"]} == {
        "payments": (True, None),
        "sandbox": (False, "never run"),
        "web": (True, None),
    }
    payments = found["accounts"][0]
    assert {name: payments[name] for name in COUNTS if name in payments} == {
        name: count for name, count in COUNTS.items() if name in payments
    }
    assert payments["compliant_percent"] == 70.5, "12 of 17, rounded down"
    assert keys(found, "state") == {
        "ana": "fixed",
        "bob": "expiring",
        "eve": "open",
        "odd": "unclear",
        "sam": "exempt",
        "twins": "unclear",
        "zoe": "expiring",
    }
    assert keys(found, "verdict", "age_days", "days_left")["sam"] == ("stale", 200, -110)
    assert keys(found, "outcome", "reason")["eve"] == ("denied", "AccessDenied")
    assert keys(found, "owner", "access_key_id")["ana"] == ("ana@corp.test", key_id(A, "ana"))
    assert found["outcomes"] == {"disabled": 1, "denied": 1}
    coming = {
        day["date"]: [found["keys"][place]["user"] for place in day["becoming_stale"]]
        for day in found["upcoming"]
    }
    assert {day: users for day, users in coming.items() if users} == {
        "2026-07-24": ["zoe"],
        "2026-07-26": ["bob"],
    }
    assert len(coming) == 15
    (exemption,) = found["exemptions"]
    assert (exemption["user"], exemption["until"], exemption["days_left"]) == (
        "sam",
        "2026-07-29",
        10,
    )
    totals = found["totals"]
    assert (totals["accounts"], totals["covered"], totals["not_covered"]) == (3, 2, 1)
    assert (totals["fresh"], totals["stale"], totals["compliant_percent"]) == (15, 4, 77.2)
    states = Counter(key["state"] for key in found["keys"])
    assert all(totals[state] == states[state] for state in ("open", "unclear", "exempt", "fixed"))
    assert found["rule"]["id"] == "D9.AWS.IAM.07"
    assert len(found["rule"]["frameworks"]) == 19
    assert found["warnings"] == []


def test_accounts_are_named_by_their_folders_without_accounts_yml(
    pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report(capsys, pack)
    assert [(row["name"], row["account_id"]) for row in found["accounts"]] == [
        ("payments", A),
        ("web", B),
    ]
    assert {key["account"] for key in found["keys"]} == {"payments"}


def test_every_figure_names_its_line_on_disk(
    pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report(capsys, pack)
    lines = {
        json.loads(line)["run"]: json.loads(line)
        for file in pack.rglob("keyrot-summary.jsonl")
        for line in file.read_text("utf-8").splitlines()
    }
    for row in found["accounts"]:
        (line,) = (lines[run] for run in row["run_ids"])
        assert {name: row[name] for name in ("users", "active_keys")} == {
            name: line[name] for name in ("users", "active_keys")
        }
        assert row["stale"] == line["verdicts"].get("stale", 0)
    assert {key["run"] for key in found["keys"]} <= lines.keys()


LATER = NOW + timedelta(days=1)


def disabled_yesterday(out: Path, folder: str = "") -> Run:
    run = Run(counts={"fresh": 2, "stale": 1}).match("ana", 100).outcome("ana")
    run.write(out / folder if folder else out)
    return run


def test_a_key_that_was_disabled_stays_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next run finds nothing; what was known of the key is in the earlier folder."""
    disabled_yesterday(tmp_path / "first")
    Run(time=LATER, counts={"fresh": 2, "inactive": 1}).write(tmp_path / "second")
    found = report(capsys, tmp_path / "first", tmp_path / "second")
    (key,) = found["keys"]
    assert (key["state"], key["verdict"], key["outcome"]) == ("fixed", None, "disabled")
    assert (key["age_days"], key["as_of"][:10]) == (100, "2026-07-19")
    (row,) = found["accounts"]
    assert (row["stale"], row["fixed"], row["compliant_percent"]) == (0, 1, 100)
    assert [(day["date"], day["stale"], day["outcomes"]) for day in found["runs"]] == [
        ("2026-07-19", 1, {"disabled": 1}),
        ("2026-07-20", 0, {}),
    ]


@pytest.mark.parametrize(
    ("outcome", "action", "hours", "state"),
    [
        ("reactivated", "reactivate", 25, "open"),
        ("reactivated", "reactivate", 5, "fixed"),  # before the last report, which doesn't show it
        ("unknown", "reactivate", 25, "unclear"),
        ("intended", "reactivate", 25, "unclear"),
        ("deleted", "delete-access-key", 25, "fixed"),
        ("skipped", "delete-access-key", 25, None),
        ("denied", "delete-access-key", 25, None),
    ],
)
def test_the_newest_outcome_counts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    outcome: str,
    action: str,
    hours: float,
    state: str | None,
) -> None:
    disabled_yesterday(tmp_path)
    when = (NOW + timedelta(hours=hours)).isoformat()
    run = Run(time=LATER, counts={"fresh": 2, "inactive": 1}, id="2")
    run.outcome("ana", outcome, action, run="3", time=when)
    run.write(tmp_path)
    found = report(capsys, tmp_path)
    assert keys(found, "state", "outcome") == ({"ana": (state, outcome)} if state else {})


def test_an_outcome_after_the_last_run_changes_its_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(counts={"stale": 3})
    for name in ("ana", "bob", "eve"):
        run.match(name, 100).outcome(name)
    run.outcome("ana", "reactivated", "reactivate", run="x", time=LATER.isoformat())
    run.outcome("eve", "intended", intent=True, run="y", time=LATER.isoformat())
    run.write(tmp_path)
    assert keys(report(capsys, tmp_path), "state", "outcome") == {
        "ana": ("open", "reactivated"),
        "bob": ("fixed", "disabled"),
        "eve": ("unclear", "intended"),
    }


@pytest.mark.parametrize("name", ["ana", "anna"])
@pytest.mark.parametrize("verdict", [Verdict.STALE, Verdict.INACTIVE])
def test_a_key_that_was_reactivated_after_a_run_that_left_it_is_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verdict: Verdict, name: str
) -> None:
    """That run saw it inactive: by an older report it was stale. Its user may be renamed since."""
    disabled_yesterday(tmp_path / "first")
    why = Why.CHANGED if verdict is Verdict.STALE else Why.OTHER_FILTER
    later = Run(time=LATER, counts={verdict.value: 1})
    later.leave("ana", verdict, why, last_rotated=days_ago(100))
    done = {"time": (LATER + timedelta(hours=1)).isoformat(), "access_key_id": key_id(A, "ana")}
    later.outcome(name, "reactivated", "reactivate", run="x", **done).write(tmp_path / "second")
    found = report(capsys, tmp_path / "first", tmp_path / "second")
    assert keys(found, "state", "outcome") == {"ana": ("open", "reactivated")}


@pytest.mark.parametrize(
    ("why", "state"),
    [
        (Why.UNKNOWN, "unclear"),  # its status is neither
        (Why.CHANGED, "unclear"),  # it is active
        (Why.GONE, "fixed"),
        (Why.USED, "fixed"),
    ],
)
def test_an_inactive_key_of_the_report_that_is_not_inactive_now_is_not_fixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], why: Why, state: str
) -> None:
    run = Run(counts={"inactive": 1}).leave("ana", Verdict.INACTIVE, why)
    run.write(tmp_path)
    assert keys(report(capsys, tmp_path), "state") == {"ana": state}


@pytest.mark.parametrize(("age", "merged"), [(200, True), (1, False)])
def test_a_key_that_is_exempt_since_it_was_reactivated_is_one_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], age: float, merged: bool
) -> None:
    """The slot's key is as old as that, so it is the one that was reactivated."""
    disabled_yesterday(tmp_path)
    later = Run(time=NOW + timedelta(days=3), counts={"stale": 1})
    later.leave("ana", last_rotated=(later.time - age * DAY).isoformat())
    run, when = "x", (NOW + timedelta(hours=1)).isoformat()
    later.outcome("ana", "reactivated", "reactivate", run=run, time=when)
    later.write(tmp_path)
    found = [(key["state"], key["outcome"]) for key in report(capsys, tmp_path)["keys"]]
    one = ("exempt", "reactivated")
    assert found == ([one] if merged else [("exempt", None), ("fixed", "reactivated")])


def test_two_regions_are_one_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of c7n-org with -r a -r b: IAM is the same in both."""
    for region in ("us-east-1", "eu-west-1"):
        run = Run(region=region, counts={"fresh": 3, "stale": 1}).match("ana", 100).outcome("ana")
        run.write(tmp_path, "payments")
    found = report(capsys, tmp_path)
    (row,) = found["accounts"]
    assert (row["users"], row["stale"], len(row["run_ids"]), len(found["keys"])) == (4, 1, 1, 1)
    assert found["runs"][0]["stale"] == 1
    assert found["runs"][0]["outcomes"] == {"disabled": 1}


def test_a_run_that_is_in_two_folders_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(counts={"stale": 1}).match("ana", 100).outcome("ana")
    for name in ("one", "copy"):
        run.write(tmp_path / name)
    once = report(capsys, tmp_path / "one")
    twice = report(capsys, tmp_path / "one", tmp_path / "copy")
    assert {**once, "generated": ""} == {**twice, "generated": ""}


def test_dry_runs_and_real_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disabled_yesterday(tmp_path)
    Run(time=LATER, dry_run=True, counts={"stale": 1}).match("bob", 95).write(tmp_path)
    found = report(capsys, tmp_path)
    assert keys(found, "state", "dry_run")["bob"] == ("open", True)
    assert keys(found, "state", "outcome")["ana"] == ("fixed", "disabled")
    assert found["accounts"][0]["dry_run"] is True
    assert [day["dry_run"] for day in found["runs"]] == [False, True]


def test_slots_of_two_policies_are_added_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(counts={"fresh": 2, "stale": 1}).match("ana", 100).write(tmp_path)
    first = Run(counts={"fresh": 3, "stale": 2}, options={"slot": 1})
    first.policy = {**PACK["stale"], "name": "first"}
    first.match("ana", 110, slot=1, access_key_id="AKIA1").match("bob", 95, slot=1).write(tmp_path)
    found = report(capsys, tmp_path)
    (row,) = found["accounts"]
    assert (row["fresh"], row["stale"], row["active_keys"], row["users"]) == (5, 3, 8, 5)
    assert found["rule"]["slots"] == [1, 2]
    assert [(key["user"], key["slot"]) for key in found["keys"]] == [
        ("ana", 1),
        ("ana", 2),
        ("bob", 1),
    ]


def test_the_limit_of_most_counts_and_an_account_may_have_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(counts={"fresh": 9}).write(tmp_path, "payments")
    Run(options={"days": 30}, counts={"stale": 9}, policy={**PACK["stale"], "name": "30"}).write(
        tmp_path, "payments"
    )
    Run(account_id=C, counts={"fresh": 1}).write(tmp_path, "shop")
    Run(account_id=B, options={"days": 30}, counts={"fresh": 2}).write(tmp_path, "web")
    found = report(capsys, tmp_path)
    assert found["rule"]["days"] == 90
    assert {row["name"]: (row["days"], row["stale"]) for row in found["accounts"]} == {
        "payments": (90, 0),
        "shop": (90, 0),
        "web": (30, 0),
    }


@pytest.mark.parametrize(("hours", "expiring"), [(1, 2), (5, 2), (20, 0)])
def test_the_line_that_knows_what_expires_counts_if_it_is_of_the_same_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hours: float, expiring: int
) -> None:
    Run(kind="expiring", counts={"fresh": 3, "expiring": 2}, report_hours=hours).write(tmp_path)
    Run(counts={"fresh": 5, "stale": 1}, report_hours=0.5).match("ana", 91).write(tmp_path)
    (row,) = report(capsys, tmp_path)["accounts"]
    assert (row["expiring"], row["stale"]) == (expiring, 0 if expiring else 1)


@pytest.mark.parametrize("identified", Identified)
def test_a_key_that_is_not_identified_needs_a_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], identified: Identified
) -> None:
    known = identified in (Identified.DATE, Identified.ELIMINATION)
    which = {"identified": identified, "access_key_id": "AKIA1" if known else None}
    Run(counts={"stale": 1}).match("ana", 100, **which).write(tmp_path)
    assert keys(report(capsys, tmp_path), "state") == {"ana": "open" if known else "unclear"}


def test_stale_keys_that_no_policy_lists_are_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(kind="expiring", counts={"fresh": 3, "stale": 2}).write(tmp_path)
    found = report(capsys, tmp_path)
    assert (found["accounts"][0]["open"], found["totals"]["open"], found["keys"]) == (2, 2, [])
    text = "2 stale keys of the credential report of 2026-07-19 08:00 UTC counted as open, though"
    assert text in found["warnings"][0]


def five_disabled(out: Path, **changes: Any) -> None:
    run = Run(counts={"fresh": 9, "stale": 5}, **changes)
    for number in range(5):
        run.match(f"old{number}", 100).outcome(f"old{number}")
    run.write(out)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("hours", [3, 8, 30])
def test_new_stale_keys_that_only_a_newer_count_knows_are_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hours: float, dry_run: bool
) -> None:
    """The policy that lists them ran before; those that it disabled aren't among the new ones."""
    five_disabled(tmp_path)
    later = Run(kind="expiring", time=NOW + timedelta(hours=hours), dry_run=dry_run)
    later.counts, later.report_hours = {"fresh": 4, "stale": 5}, 0.5
    later.write(tmp_path)
    found = report(capsys, tmp_path)
    assert (found["totals"]["open"], found["totals"]["fixed"]) == (5, 5)
    assert view.headline(found["totals"]).startswith("Not in compliance: 5 keys")
    (text,) = (one for one in found["warnings"] if "the newest run," not in one)
    assert "5 stale keys of the credential report of 2026-07-" in text
    assert "though no list names which" in text


@pytest.mark.parametrize("stale", [5, 0])
def test_keys_that_were_disabled_after_the_newest_report_are_not_counted_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stale: int
) -> None:
    """By the same report they were stale; by a newer one they aren't any more."""
    five_disabled(tmp_path)
    later = Run(kind="expiring", time=NOW + timedelta(hours=3), counts={"stale": stale})
    later.report_hours = 4 if stale else 0.5
    later.write(tmp_path)
    found = report(capsys, tmp_path)
    assert (found["totals"]["open"], found["totals"]["fixed"]) == (0, 5)
    assert not any("no list names which" in text for text in found["warnings"])


def test_stale_keys_of_one_slot_do_not_hide_those_of_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Run(options={"slot": 1}, counts={"stale": 1}, policy={**PACK["stale"], "name": "1"})
    first.match("ana", 110, slot=1).match("bob", 110, slot=1).write(tmp_path)
    Run(kind="expiring", counts={"stale": 1}).write(tmp_path)
    found = report(capsys, tmp_path)
    assert found["totals"]["open"] == 3


@pytest.mark.parametrize(("days", "covered"), [(1, True), (3, False)])
def test_a_run_of_one_slot_covers_nothing_of_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days: float, covered: bool
) -> None:
    Run(counts={"stale": 1}).match("ana", 100).write(tmp_path)
    later = Run(options={"slot": 1}, counts={"fresh": 1}, time=NOW + days * DAY)
    later.policy = {**PACK["stale"], "name": "first"}
    later.write(tmp_path)
    found = report(capsys, tmp_path)
    (row,) = found["accounts"]
    why = "no run judged the keys of slot 2 since 2026-07-19 09:00 UTC"
    assert (row["covered"], row["why"]) == ((True, None) if covered else (False, why))
    assert not view.headline(found["totals"]).startswith("In compliance")


@pytest.mark.parametrize(
    ("counts", "hours", "states"),
    [
        ({"fresh": 2}, 24, ["fixed", "fixed"]),
        ({"fresh": 1, "stale": 1}, 24, ["unclear", "unclear"]),  # one ended: nobody knows which
        ({"fresh": 1, "unknown": 1}, 24, ["unclear", "unclear"]),
        ({"stale": 2}, 24, ["open", "open"]),
        ({"fresh": 2}, 0, ["open", "open"]),  # its report is older than the list
    ],
)
def test_a_newer_count_ends_keys_only_where_it_proves_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    counts: dict[str, int],
    hours: float,
    states: list[str],
) -> None:
    """The policy that lists stale keys runs more seldom than the others."""
    Run(counts={"stale": 2}).match("ana", 100).match("bob", 100).write(tmp_path)
    Run(kind="expiring", counts=counts, time=NOW + timedelta(hours=hours)).write(tmp_path)
    assert [key["state"] for key in report(capsys, tmp_path)["keys"]] == states


@pytest.mark.parametrize("change", [{"days": 365}, {"slot": 1}])
def test_a_count_of_another_slot_or_limit_ends_no_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    Run(counts={"stale": 1}).match("ana", 100).write(tmp_path)
    Run(kind="expiring", counts={"fresh": 2}, time=LATER, options=change).write(tmp_path)
    assert keys(report(capsys, tmp_path), "state") == {"ana": "open"}


def test_a_key_that_was_switched_on_after_the_newer_count_stays_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(counts={"stale": 1}).match("ana", 100).outcome("ana")
    when = (LATER + timedelta(hours=1)).isoformat()
    run.outcome("ana", "reactivated", "reactivate", run="x", time=when).write(tmp_path)
    Run(kind="expiring", counts={"inactive": 1}, time=LATER).write(tmp_path)
    assert keys(report(capsys, tmp_path), "state") == {"ana": "open"}


def test_without_an_active_key_there_is_no_percentage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(counts={"absent": 3}).write(tmp_path / "out")
    found = report(capsys, tmp_path / "out")
    assert found["totals"]["compliant_percent"] is None
    assert found["accounts"][0]["compliant_percent"] is None
    assert found["runs"][0]["compliant_percent"] is None
    for form in formats.FORMATS:
        path = tmp_path / form
        assert main(["report", str(tmp_path / "out"), "--format", form, "-o", str(path)]) == 0
        told = capsys.readouterr().err
        assert "1 of 1 account covered, no active keys, 0 keys listed" in told
        text = re.sub(r"(?s)<(style|script).*?</\1>", "", path.read_text("utf-8"))
        assert not re.search(r">100<|100(\.0)?%|None|compliant.percent\W+100", text)


def test_a_delete_stage_alone_covers_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its limit is of inactive keys."""
    Run(options={"days": 180, "status": "Inactive"}, counts={"fresh": 3}).write(tmp_path)
    found = report(capsys, tmp_path)
    assert found["accounts"][0]["why"] == "no run judged its keys by a credential report"
    assert found["totals"]["compliant_percent"] is None


def test_the_longest_limit_of_two_slots_is_the_one_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key of 200 days in slot 1 is fresh by a limit of 365: not by one of 90."""
    folder = (run := Run(counts={"fresh": 3})).write(tmp_path)
    other = {**run.summary.filters[0], "slot": 1, "days": 365}
    (folder / outcomes.SUMMARY_FILE).unlink()
    summary = dataclasses.replace(run.summary, filters=[*run.summary.filters, other])
    outcomes.append(folder / outcomes.SUMMARY_FILE, summary)
    found = report(capsys, tmp_path)
    assert (found["accounts"][0]["days"], found["rule"]["days"]) == (365, 365)


@pytest.mark.parametrize("form", formats.FORMATS)
def test_without_a_judged_key_there_is_no_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    (Run(failed=True).write(tmp_path / "out") / outcomes.SUMMARY_FILE).unlink()
    path = tmp_path / "report"
    assert main(["report", str(tmp_path / "out"), "--format", form, "-o", str(path)]) == 0
    told = capsys.readouterr().err
    assert "0 of 1 account covered, no key judged, 0 keys listed" in told
    text = re.sub(r"(?s)<(style|script).*?</\1>", "", path.read_text("utf-8"))
    assert not re.search(r">100<|100(\.0)?%|None|compliant.percent\W+100", text)


@pytest.mark.parametrize(("slot", "state"), [(2, "fixed"), (1, "open")])
def test_a_key_is_fixed_only_if_a_later_report_of_its_slot_has_been_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], slot: int, state: str
) -> None:
    """The policy of slot 1 isn't run any more; a key reactivated there is as active as before."""
    before = Run(time=NOW - 5 * DAY, counts={"stale": 1}, options={"slot": slot})
    before.policy = {**PACK["stale"], "name": "before"}
    before.match("ana", 110, slot=slot)
    before.outcome("ana", "reactivated", "reactivate", slot=slot).write(tmp_path)
    Run(counts={"fresh": 1}).write(tmp_path)
    assert keys(report(capsys, tmp_path), "state") == {"ana": state}


def folder_of_nothing(out: Path, account: str = "payments", name: str = STALE) -> Path:
    folder = out / account / "us-east-1" / name
    folder.mkdir(parents=True)
    (folder / "custodian-run.log").touch()
    return folder


def test_why_an_account_is_not_covered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    ids = {name: f"{number:012}" for number, name in enumerate(("good", "error", "limit"), 1)}
    ids |= {name: f"{number:012}" for number, name in enumerate(("killed", "denied"), 4)}
    ids |= {name: f"{number:012}" for number, name in enumerate(("old", "never", "unjudged"), 6)}
    Run(account_id=ids["good"]).write(out, "good")
    error = Run(account_id=ids["error"], failed=True).write(out, "error")
    stamp = NOW.astimezone().strftime("%Y-%m-%d %H:%M:%S,000")
    line = f"{stamp} - custodian.policy - ERROR - iam:GetUser is \x1b[31mdenied"
    (error / "custodian-run.log").write_text(line, "utf-8")
    limit = Run(account_id=ids["limit"], failed=True)
    path = limit.write(out, "limit") / "metadata.json"
    data = limit.metadata
    data["metrics"].append({"MetricName": "ResourceLimitExceeded", "Value": 40})
    path.write_text(json.dumps(data), "utf-8")
    killed = Run(account_id=ids["killed"], time=NOW - timedelta(hours=1)).write(out, "killed")
    before = (killed / "metadata.json").read_bytes()
    Run(account_id=ids["killed"]).write(out, "killed")
    (killed / "metadata.json").write_bytes(before)
    folder_of_nothing(out, "denied")
    Run(account_id=ids["old"], time=NOW - timedelta(days=4)).write(out, "old")
    exempt = {"name": "exempt", "resource": "aws.iam-user", "filters": ["rotation-exempt"]}
    folder = Run(account_id=ids["unjudged"], policy=exempt).write(out, "unjudged") / "exempt"
    (folder.parent / "keyrot-summary.jsonl").unlink()
    found = report(capsys, out, accounts=accounts_yml(tmp_path, ids))
    assert {row["name"]: row["why"] for row in found["accounts"]} == {
        "good": None,
        "error": f"run failed: {STALE} ended with an error: iam:GetUser is [31mdenied",
        "limit": f"run failed: {STALE} was stopped by max-resources",
        "killed": f"run failed: {STALE} left no metadata: it was stopped, or still runs",
        "denied": f"run failed: {STALE} left no metadata: it was stopped, or still runs",
        "old": "credential report too old: made 2026-07-15 08:00 UTC, the newest run is of "
        "2026-07-19 09:00 UTC",
        "never": "never run",
        "unjudged": "no run judged its keys by a credential report",
    }
    assert (found["totals"]["covered"], found["totals"]["not_covered"]) == (1, 7)
    assert {row["name"] for row in found["accounts"] if row["failed"]} == {
        "error",
        "limit",
        "killed",
        "denied",
    }


def test_an_account_that_the_newest_run_left_out_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A role that can't be taken leaves no trace beside what an earlier run has left."""
    Run(time=LATER).write(tmp_path, "payments")
    Run(account_id=B).write(tmp_path, "web")
    found = report(capsys, tmp_path)
    assert [row["covered"] for row in found["accounts"]] == [True, False]
    assert "left it out: it was for other accounts only, or the role" in found["accounts"][1]["why"]
    assert view.headline(found["totals"]).endswith("but 1 account is not covered")
    (text,) = found["warnings"]
    assert "the newest run, which began 2026-07-20 08:59 UTC, left out" in text
    assert f"in 1 account: account web ({B});" in text


def test_a_policy_that_runs_once_a_week_does_not_leave_its_account_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run().write(tmp_path, "payments")
    Run(time=LATER, kind="expiring").write(tmp_path, "payments")
    assert report(capsys, tmp_path)["accounts"][0]["covered"]


@pytest.mark.parametrize("folder", ["", "web"])
def test_runs_of_their_own_do_not_leave_each_other_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    """Custodian alone, or c7n-org for a part of the accounts, each into a folder of its own."""
    Run(time=LATER).write(tmp_path / "a", "payments")
    Run(account_id=B).write(tmp_path / "b", folder)
    found = report(capsys, tmp_path / "a", tmp_path / "b")
    assert [row["covered"] for row in found["accounts"]] == [True, True]


@pytest.mark.parametrize(("days", "state"), [(7, "expiring"), (7.001, "open"), (20, "open")])
def test_a_key_whose_deadline_has_passed_is_not_expiring(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    clock: MagicMock,
    days: float,
    state: str,
) -> None:
    """No run has looked since; by all that is known it is too old, and active."""
    run = Run(kind="expiring", counts={"expiring": 2}).match("bob", 83)
    run.leave("zoe", Verdict.EXPIRING, Why.NOT_DUE, last_rotated=days_ago(83)).write(tmp_path)
    clock.return_value = NOW + days * DAY
    found = report(capsys, tmp_path)
    assert keys(found, "state") == {"bob": state, "zoe": state}
    assert found["totals"]["open"] == (0 if state == "expiring" else 2)
    due = sum(len(day["becoming_stale"]) for day in found["upcoming"])
    assert due == (2 if state == "expiring" else 0)


@pytest.mark.parametrize(("days", "state"), [(10, "exempt"), (11, "open")])
def test_an_exemption_ends_with_its_last_day(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    clock: MagicMock,
    days: float,
    state: str,
) -> None:
    Run(counts={"stale": 1}).leave("sam", last_rotated=days_ago(200)).write(tmp_path)
    clock.return_value = NOW + days * DAY
    assert keys(report(capsys, tmp_path), "state") == {"sam": state}


@pytest.mark.parametrize(("days", "old"), [(30, False), (30.1, True), (400, True)])
def test_old_runs_answer_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    clock: MagicMock,
    days: float,
    old: bool,
) -> None:
    Run().write(tmp_path)
    clock.return_value = NOW + days * DAY
    found = report(capsys, tmp_path)
    page = view.page(found)
    assert (page["headline"] == "Not known: no run since 2026-07-19 09:00 UTC") is old
    assert page["headline"].startswith("In compliance") is not old
    assert [card.state for card in page["cards"]] == (
        ["bad", "none", "none"] if old else 3 * ["good"]
    )
    (row,) = found["accounts"]
    assert row["covered"] is not old
    since = "no run since 2026-07-19 09:00 UTC"
    assert row["why"] == (since if old else None)
    assert found["warnings"] == ([f"{since}: how things are now isn't known"] if old else [])


def test_folders_of_failed_policies_alone_are_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of_nothing(tmp_path / "out")
    found = report(capsys, tmp_path / "out")
    (row,) = found["accounts"]
    assert (row["account_id"], row["name"], row["covered"]) == (None, "payments", False)
    assert (found["as_of"], found["keys"], found["upcoming"]) == (None, [], [])


def test_accounts_under_two_names_and_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("payments", "pay"):
        Run(counts={"fresh": 4}).write(tmp_path / "out", name)
    Run(account_id=C).write(tmp_path / "out", "stranger")
    listed = accounts_yml(tmp_path, [("payments", A), ("pay", A), ("odd", "12")])
    found = report(capsys, tmp_path / "out", accounts=listed)
    assert [(row["name"], row["users"]) for row in found["accounts"]] == [
        ("odd", None),
        ("payments", 4),
        ("stranger", 10),
    ]
    assert found["warnings"] == [
        f"account pay ({A}): accounts.yml has this id twice; the first name counts",
        "account odd (12): accounts.yml has no account_id of 12 digits for it",
        f"account {A} has several folders: pay, payments",
        f"account {C} isn't in accounts.yml",
    ]


def test_what_is_in_the_wrong_folder_does_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither for the account that it names, nor for the one whose folder it is."""
    out = tmp_path / "out"
    mine, other = Run(counts={"stale": 1}).match("ana", 100), Run(account_id=B)
    folders = [mine.write(out, "payments"), other.write(out, "web")]
    files = [folder / "keyrot-summary.jsonl" for folder in folders]
    texts = [file.read_text("utf-8") for file in files]
    for file, text in zip(files, reversed(texts), strict=True):
        file.write_text(text, "utf-8")
    users = folders[0] / "resources.json"
    (folders[1] / "resources.json").write_bytes(users.read_bytes())
    found = report(capsys, out, accounts=accounts_yml(tmp_path, {"payments": A, "web": B}))
    assert {row["name"]: row["covered"] for row in found["accounts"]} == {
        "payments": False,
        "web": False,
    }
    assert found["keys"] == []
    assert sum("in a folder of account" in text for text in found["warnings"]) == 2


def test_other_packs_and_the_future_do_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"name": "other", "resource": "aws.iam-user", "filters": ["credential"]}
    (Run(policy=other, account_id=B).write(tmp_path) / "keyrot-summary.jsonl").unlink()
    ahead = Run(time=NOW.replace(year=2100), counts={"stale": 5}).match("bob", 100)
    ahead.outcome("bob").write(tmp_path)
    Run(kind="expiring", counts={"fresh": 2}).write(tmp_path)
    found = report(capsys, tmp_path)
    assert [(row["account_id"], row["users"]) for row in found["accounts"]] == [(A, 2)]
    assert (found["as_of"][:4], found["keys"], len(found["runs"])) == ("2026", [], 1)
    assert sum("future" in text for text in found["warnings"]) == 4


HOSTILE = "<script>\x1b[31m\u202e\x00 =1+1"


def test_names_from_outside_are_one_clean_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = {**PACK["stale"], "metadata": {"rule-id": HOSTILE, "frameworks": [HOSTILE, 5]}}
    run = Run(counts={"stale": 2}, policy=policy, id=HOSTILE)
    run.match("ana", 100, {"Owner": HOSTILE}, description=HOSTILE, last_used_service=HOSTILE)
    run.leave(HOSTILE).outcome("ana", "denied", reason=HOSTILE * 500)
    run.write(tmp_path, "\x1b[31mpay")
    found = report(capsys, tmp_path)

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return [text for one in value for text in texts(one)]
        return [value] if isinstance(value, str) else []

    assert [text for text in texts(found) if not text.isprintable() or len(text) > 500] == []
    assert found["rule"]["id"] == "<script> [31m =1+1"
    assert len(found["keys"]) == 2


def changed(out: Path, random: Random) -> None:
    """Put a wrong value somewhere into a file that a run left."""
    files = [path for path in out.rglob("*") if path.suffix in (".json", ".jsonl")]
    file = random.choice(sorted(files))
    *before, last = file.read_text("utf-8").splitlines()
    place: Any = json.loads(last)
    whole = place
    while True:
        name = random.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not place[name] or not isinstance(place[name], dict | list) or random.random() < 0.2:
            break
        place = place[name]
    place[name] = random.choice(WRONG)
    file.write_text("\n".join([*before, json.dumps(whole), ""]), "utf-8")


WRONG = [None, True, 0, 1, 2, 3, -1, 10**300, 1e308, float("nan"), "", "x", HOSTILE, "\ud800"]
WRONG += [[], {}, [1], {"a": 1}, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", A, B]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_file_claims_the_report_is_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    run = Run(counts={"fresh": 2, "stale": 2, "unknown": 1}).match("ana", 100).outcome("ana")
    run.leave("sam", last_rotated=days_ago(200)).leave("odd", Verdict.UNKNOWN, Why.UNKNOWN)
    run.write(tmp_path)
    Run(kind="expiring", counts={"expiring": 1}).match("bob", 83).write(tmp_path)
    random = Random(seed)
    for _ in range(3):
        changed(tmp_path, random)
    report(capsys, tmp_path)
    for kind in ("csv", "ocsf", "oscal", "html"):
        assert main(["report", str(tmp_path), "--format", kind, "-o", "-"]) == 0


def test_a_key_of_a_slot_that_no_filter_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(counts={"stale": 1}).leave("ana", slot=1, last_rotated=days_ago(200)).write(tmp_path)
    assert keys(report(capsys, tmp_path), "age_days", "deadline") == {"ana": (200, None)}


@pytest.mark.parametrize("files", [[], ["other/metadata.json"], ["x/resources.json"]])
def test_nothing_to_report_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: Sequence[str]
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text('{"policy": {"name": "x", "filters": []}}', "utf-8")
    assert main(["report", str(tmp_path), "--format", "json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no policy of the pack has run into" in err.splitlines()[-1]


def test_a_file_is_written_whole_or_not_at_all(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "keys.csv"
    target.write_text("before", "utf-8")
    args = ["report", str(pack), "--format", "csv", "-o"]
    assert main([*args, str(target)]) == 0
    assert target.read_text("utf-8").startswith("account_id,account,user,")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{target}: 2 of 2 accounts covered, 77.2% of 22 keys compliant, 7 keys listed\n"
    assert main([*args, str(tmp_path / "missing" / "x")]) == 1
    assert "can't write" in capsys.readouterr().err
    assert main([*args, str(pack)]) == 1, "a folder"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys.csv", "out"]
    assert pack.is_dir()
    assert main([*args, "-"]) == 0
    assert capsys.readouterr().out == target.read_text("utf-8")


def test_a_long_read_says_how_far_it_is(
    pack: Path, capsys: pytest.CaptureFixture[str], mocker: MockerFixture
) -> None:
    mocker.patch("time.monotonic", side_effect=range(0, 1000, 3))
    assert main(["report", str(pack), "--format", "csv"]) == 0
    assert capsys.readouterr().err.splitlines()[0] == "read 1 policy folder"


def test_who_used_a_key_is_in_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    until = NOW.isoformat()
    group = Group("s3:ListBuckets", "203.0.113.7", "aws-cli/2.15", 60, until, until, {})
    usage = Usage(7, until, ["us-east-1"], {}, 60, [group], 0, 0, False)
    run = Run(counts={"stale": 3}).match("ana", 100, usage=usage).match("bob", 100)
    run.match("eve", 100, usage=dataclasses.replace(usage, until="yesterday"))
    run.write(tmp_path / "out", "payments")
    assert keys(report(capsys, tmp_path / "out"), "usage") == {
        "ana": "Used 60 times in 7 days: s3:ListBuckets from 203.0.113.7 by aws-cli/2.15, "
        "last 0 minutes ago",
        "bob": None,
    }
