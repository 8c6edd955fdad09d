# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""keyrot-summary.jsonl: each stale key of the report is matched, or it says why not."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest
from c7n.exceptions import PolicyExecutionError
from in_memory import CALLER, Custodian, Iam, outcomes_in
from pytest_mock import MockerFixture

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.records import RunSummary, Why

NEW, OLD = 10, 200
STALE = {"type": "stale-access-key"}
UNEXEMPT = {"not": ["rotation-exempt"]}
UNCLEAR = {"not": ["unclear-access-key"]}
DISABLE = "disable-access-key"


def summaries(custodian: Custodian, name: str = "test") -> list[RunSummary]:
    path = custodian.folder / name / outcomes.SUMMARY_FILE
    return [RunSummary.parse(line) for line in path.read_bytes().splitlines()]


def why(summary: RunSummary) -> dict[str, str]:
    return {left.user: left.why.value for left in summary.not_matched}


@pytest.mark.parametrize(
    ("given", "warned"),
    [("", False), ("/{account_id}", True), ("/{account_id}/{policy_name}", False)],
)
def test_policies_that_share_a_folder_are_warned_of(
    iam: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture, given: str, warned: bool
) -> None:
    iam.add("ana", NEW, OLD)
    custodian.options["output_dir"] = f"{custodian.folder}{given}"
    custodian.run([STALE])
    assert ("write {policy_name} into -s" in caplog.text) == warned


def test_every_stale_key_is_matched_or_says_why_not(iam: Iam, custodian: Custodian) -> None:
    for name in ("well", "exempt", "changed", "off", "gone", "other", "left", "twice"):
        iam.add(name, NEW, OLD)
    iam.add("fresh", OLD, NEW)
    iam.add("none")
    iam.add("twins", OLD, OLD)
    iam.add("odd", NEW, OLD)
    until = f"{iam.now + timedelta(days=60):%Y-%m-%d}"
    iam.tag("exempt", keyrot_exempt_until=until)
    iam.keys["changed"].pop()
    iam.add_key("changed", "changed-new")
    iam.key("off-2")["Status"] = "Inactive"
    del iam.users["gone"]
    iam.users["other"]["CreateDate"] += timedelta(seconds=1)
    iam.rows["odd"][7] = "Expired"
    iam.rows["again"] = iam.rows["twice"]
    others = {"type": "value", "key": "UserName", "op": "ne", "value": "left"}
    custodian.run([UNEXEMPT, STALE, UNCLEAR, others], [DISABLE])
    (summary,) = summaries(custodian)
    assert why(summary) == {
        "exempt": "exempt",
        "changed": "changed",
        "off": "changed",
        "gone": "not found",
        "other": "other user",
        "left": "other filter",
        "twice": "appears twice",
        "twins": "unclear",
        "odd": "unknown",
    }
    assert {left.user: left.exempt_until for left in summary.not_matched if left.exempt_until} == {
        "exempt": until
    }
    assert (summary.users, summary.candidates, summary.matched) == (12, 8, 1)
    assert summary.verdicts == {"stale": 8, "fresh": 1, "absent": 1, "unknown": 1}
    assert summary.active_keys == 9, "by the report, whatever was done since"
    assert summary.filters == [
        {
            "filter": "stale-access-key",
            "slot": 2,
            "days": 90,
            "status": "Active",
            "superseded": False,
            "report-max-age": 24,
        }
    ]
    assert (summary.account_id, summary.policy, summary.dry_run) == (
        "123456789012",
        "test",
        False,
    )
    generated = iam.now - timedelta(hours=iam.age_hours)
    assert summary.report_generated == generated.isoformat()


OLDER = (
    b'{"time": "2026-11-24T08:00:00.000+00:00", "account_id": "123456789012", "policy": "p", '
    b'"run": "r", "dry_run": false, "filters": [{"filter": "stale-access-key", "days": 90}], '
    b'"report_generated": null, "users": null, "active_keys": 0, "verdicts": {}, "candidates": 0, '
    b'"matched": 0, "not_matched": [{"user": "ana", "slot": 2, "verdict": "stale", "why": "gone", '
    b'"exempt_until": null, "last_rotated": null}], "version": 1}'
)


def test_a_line_of_an_older_release_is_read() -> None:
    line = RunSummary.parse(OLDER)
    assert (line.not_matched[0].user, line.caller) == ("ana", None)


def test_who_ran_is_asked_once_for_all_policies(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD, {"OwnerEmail": "ana@example.com"})
    custodian.run([STALE], name="first")
    custodian.run([STALE], [DISABLE])
    assert [line.caller for line in summaries(custodian)] == [CALLER]
    assert iam.calls["GetCallerIdentity"] == 1
    (line,) = outcomes_in(custodian.outcomes)
    made = iam.key("ana-2")["CreateDate"]
    assert (line.caller, line.owner, line.days) == (CALLER, "ana@example.com", 90)
    assert (line.verdict, line.last_rotated) == ("stale", made.isoformat())
    assert line.age_days == pytest.approx(OLD, abs=0.1)
    assert line.deadline == (made + timedelta(days=90)).isoformat()
    (intent,) = outcomes_in(custodian.folder / "test" / outcomes.INTENTS_FILE)
    assert dataclasses.replace(intent, time="", outcome=line.outcome) == dataclasses.replace(
        line, time=""
    )


def test_nobody_waits_where_nobody_says_who_runs(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    iam.errors["GetCallerIdentity", "*"] = "AccessDenied"
    custodian.run([STALE], name="first")
    custodian.run([STALE], [DISABLE])
    assert [line.caller for line in summaries(custodian)] == [None]
    assert [line.caller for line in outcomes_in(custodian.outcomes)] == [None]
    assert iam.statuses()["ana-2"] == "Inactive"
    assert iam.calls["GetCallerIdentity"] == 1


def test_a_key_that_is_still_used_says_so(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    iam.used["ana-2"] = iam.now
    custodian.run([{**STALE, "unused-days": 30}])
    assert why(summaries(custodian)[0]) == {"ana": "used"}


def test_a_user_who_cannot_be_read_is_matched_or_says_so(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    iam.errors["GetUser", "ana"] = "Throttling"
    with pytest.raises(PolicyExecutionError):
        custodian.run([STALE])
    with pytest.raises(PolicyExecutionError):
        custodian.run([{"tag:team": "shop"}, STALE])
    first, second = summaries(custodian)
    assert (first.matched, why(first)) == (1, {})
    assert (second.matched, why(second)) == (0, {"ana": "unread"})


def test_each_run_adds_a_line_and_dry_runs_do_so_too(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    for dryrun in (True, False, False):
        custodian.options["dryrun"] = dryrun
        custodian.run([STALE], [DISABLE])
    lines = summaries(custodian)
    assert [(line.dry_run, line.matched) for line in lines] == [(True, 1), (False, 1), (False, 0)]
    assert len({line.run for line in lines}) == 3


@pytest.mark.parametrize("source", ["credential-report", "describe"])
@pytest.mark.parametrize(
    ("filters", "matched", "candidates", "active"),
    [
        ([{"or": [STALE, {**STALE, "slot": 1}]}], 2, 2, 4),
        ([{**STALE, "slot": 1}], 1, 1, 2),
        ([{"type": "expiring-access-key", "days": OLD + 5}], 1, 1, 2),
        ([{"not": [STALE]}], 1, 0, 0),
    ],
)
def test_it_speaks_of_the_slots_of_the_filters(
    iam: Iam,
    custodian: Custodian,
    source: str,
    filters: list[Any],
    matched: int,
    candidates: int,
    active: int,
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", OLD, NEW)
    custodian.run(filters, source=source)
    (line,) = summaries(custodian)
    assert (line.matched, line.candidates, line.active_keys) == (matched, candidates, active)


@pytest.mark.parametrize(("remind_at", "matched"), [([5], 1), ([7], 0)])
def test_a_key_whose_reminder_is_not_due_says_so(
    iam: Iam, custodian: Custodian, remind_at: list[int], matched: int
) -> None:
    iam.add("ana", None, 85)
    iam.add("bob", None, 20)
    custodian.run([{"type": "expiring-access-key", "notice": 14, "remind-at": remind_at}])
    (line,) = summaries(custodian)
    assert (line.matched, line.candidates, line.verdicts["expiring"]) == (matched, matched, 1)
    assert why(line) == ({} if matched else {"ana": "not due"})
    made = [iam.key("ana-2")["CreateDate"].isoformat()]
    assert [left.last_rotated for left in line.not_matched] == ([] if matched else made)


def test_a_policy_on_exemptions_alone_counts_its_users(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD, {"keyrot-exempt-until": "9999-12-31"})
    custodian.run(["rotation-exempt"], source="describe")
    (line,) = summaries(custodian)
    assert (line.matched, line.users, line.report_generated) == (1, None, None)
    assert line.filters[0]["filter"] == "rotation-exempt"


def test_a_summary_that_cannot_be_written_is_an_error(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    iam.add("ana", NEW, OLD)
    (custodian.folder / "test" / outcomes.SUMMARY_FILE).mkdir(parents=True)
    with pytest.raises(PolicyExecutionError, match="keyrot-summary.jsonl can't be written"):
        custodian.run([STALE])


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(RunSummary)])
@pytest.mark.parametrize("value", [[1], {"a": []}, 1.5, "x"])
def test_what_is_read_back_is_checked_field_by_field(
    iam: Iam, custodian: Custodian, field: str, value: Any
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("odd", NEW, OLD)
    iam.rows["odd"][7] = "Expired"
    custodian.run([STALE])
    whole = json.loads((custodian.folder / "test" / outcomes.SUMMARY_FILE).read_bytes())
    kind = next(one.type for one in dataclasses.fields(RunSummary) if one.name == field)
    if value == "x" and "str" in str(kind).split(" | "):
        return
    with pytest.raises(ValueError, match="not a"):
        RunSummary.parse(json.dumps({**whole, field: value}).encode())


@pytest.mark.parametrize("field", ["verdict", "why"])
def test_unknown_words_are_refused(iam: Iam, custodian: Custodian, field: str) -> None:
    iam.add("odd", NEW, OLD)
    iam.rows["odd"][7] = "Expired"
    custodian.run([STALE])
    whole = json.loads((custodian.folder / "test" / outcomes.SUMMARY_FILE).read_bytes())
    assert whole["not_matched"] == [
        {
            "user": "odd",
            "slot": 2,
            "verdict": "unknown",
            "why": Why.UNKNOWN.value,
            "exempt_until": None,
            "last_rotated": iam.key("odd-2")["CreateDate"].isoformat(),
            "access_key_id": None,
        }
    ]
    whole["not_matched"][0][field] = "x"
    with pytest.raises(ValueError, match="'x'"):
        RunSummary.parse(json.dumps(whole).encode())


def metrics(custodian: Custodian) -> dict[str, int]:
    """Ours among those in the metadata."""
    data = json.loads((custodian.folder / "test" / "metadata.json").read_bytes())
    return {
        one["MetricName"]: one["Value"]
        for one in data["metrics"]
        if one["MetricName"].startswith(("Keys", "Users"))
    }


DONE = {"KeysDisabled": 1, "KeysSkipped": 0, "KeysDenied": 1, "KeysFailed": 0, "KeysUnknown": 0}


@pytest.mark.parametrize(
    ("filters", "dryrun", "expected"),
    [
        ([STALE], False, {"Users": 4, "KeysActive": 3, "KeysStale": 2, **DONE}),
        ([STALE], True, {"Users": 4, "KeysActive": 3, "KeysStale": 2}),
        ([{"type": "expiring-access-key"}], True, {}),
    ],
)
def test_a_run_counts_in_the_metrics(
    iam: Iam, custodian: Custodian, filters: list[Any], dryrun: bool, expected: dict[str, int]
) -> None:
    for name, age in (("ana", OLD), ("bob", OLD), ("eve", NEW), ("sam", None)):
        iam.add(name, None, age)
    iam.errors["UpdateAccessKey", "bob-2"] = "AccessDenied"
    custodian.options["dryrun"] = dryrun
    if dryrun:
        custodian.run(filters)
    else:
        with pytest.raises(PolicyExecutionError):
            custodian.run(filters, [DISABLE])
    assert metrics(custodian) == expected


def test_metrics_that_cannot_be_put_stop_nothing(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    iam.add("ana", NEW, OLD)
    policy = custodian.policy([STALE], [DISABLE])
    put = mocker.patch("c7n.output.Metrics.put_metric", autospec=True)
    put.side_effect = lambda metrics, key, *more, **dimensions: 1 / (not key.startswith("Keys"))
    policy.validate()
    policy.run()
    assert iam.changed == [("ana", "ana-2", "Inactive")]
    assert "metrics can't be sent (division by zero)" in caplog.text
