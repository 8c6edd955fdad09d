# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the filters select, what they leave on the user, and which options they refuse."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from c7n.exceptions import PolicyExecutionError, PolicyValidationError
from c7n.resources.iam import User
from in_memory import Custodian, Iam
from pytest_mock import MockerFixture

from c7n_keyrot.core.records import NUMERIC_OPTIONS, KeyRecord, Why
from c7n_keyrot.custodian import lifecycle, shared_report
from c7n_keyrot.custodian.elements.options import HOURS, NUMBER

NEW, OLD, OLDER = 10, 200, 300
SECOND = 1 / 86400
STALE, EXPIRING, UNCLEAR = "stale-access-key", "expiring-access-key", "unclear-access-key"
EXEMPT = "rotation-exempt"
ON, OFF = "Active", "Inactive"
HERE = "account 123456789012 (policy test)"


def stale(**options: Any) -> dict[str, Any]:
    return {"type": STALE, **{name.replace("_", "-"): value for name, value in options.items()}}


def expiring(**options: Any) -> dict[str, Any]:
    return {**stale(**options), "type": EXPIRING}


def unclear(**options: Any) -> dict[str, Any]:
    return {**stale(**options), "type": UNCLEAR}


def exempt(**options: Any) -> dict[str, Any]:
    return {**stale(**options), "type": EXEMPT}


# stale-access-key


@pytest.mark.parametrize(
    ("slot1", "slot2", "options", "expected"),
    [
        (NEW, OLD, {}, ["u-2"]),
        (None, OLD, {}, ["u-2"]),
        (OLD, NEW, {}, None),
        (OLD, None, {}, None),
        (None, None, {}, None),
        (NEW, (OLD, OFF), {}, None),
        (OLD, NEW, {"slot": 1}, ["u-1"]),
        (OLD, None, {"slot": 1}, ["u-1"]),
        (NEW, OLD, {"slot": 1}, None),
        (NEW, (OLD, OFF), {"status": OFF}, ["u-2"]),
        (NEW, OLD, {"status": OFF}, None),
        (NEW, (60, OFF), {"status": OFF}, None),
        (NEW, (60, OFF), {"status": OFF, "days": 30}, ["u-2"]),
        (NEW, OLD, {"days": 250}, None),
        (NEW, 1, {"days": 0.5}, ["u-2"]),
        (NEW, OLD, {"days": 365_000}, None),
        (NEW, -5, {}, None),  # a date in the future
    ],
)
@pytest.mark.parametrize("source", ["credential-report", "describe"])
def test_stale(
    iam: Iam,
    custodian: Custodian,
    slot1: Any,
    slot2: Any,
    options: dict[str, Any],
    expected: list[str] | None,
    source: str,
) -> None:
    iam.add("u", slot1, slot2)
    assert custodian.matched([stale(**options)], source=source).get("u") == expected


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Pacific/Kiritimati"])
@pytest.mark.parametrize(
    ("past", "options", "found"),
    [
        (timedelta(days=90), {}, False),
        (timedelta(days=90, seconds=1), {}, True),
        (timedelta(days=90, seconds=-1), {}, False),
        (timedelta(days=7.5), {"days": 7.5}, False),
        (timedelta(days=7.5, seconds=1), {"days": 7.5}, True),
    ],
)
def test_the_boundary_is_exact_to_the_second_in_any_time_zone(
    iam: Iam,
    custodian: Custodian,
    at: datetime,
    monkeypatch: pytest.MonkeyPatch,
    past: timedelta,
    options: dict[str, Any],
    found: bool,
    zone: str,
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        iam.add("u", None, (at - past).astimezone(timezone(timedelta(hours=5, minutes=30))))
        assert bool(custodian.matched([stale(**options)])) is found
    finally:
        monkeypatch.undo()
        time.tzset()


def delete(iam: Iam, key_id: str) -> None:
    iam.keys["u"].remove(iam.key(key_id))


def rotate(iam: Iam, key_id: str) -> None:
    delete(iam, key_id)
    iam.add_key("u", "new")


def disable(iam: Iam, key_id: str) -> None:
    iam.key(key_id)["Status"] = OFF


def swap(iam: Iam, key_id: str) -> None:
    iam.keys["u"].clear()
    iam.add_key("u", "new")


def delete_user(iam: Iam, key_id: str) -> None:
    del iam.users["u"]


def redate(iam: Iam, key_id: str) -> None:
    """Leave the user one key, of a date that isn't in the report."""
    iam.key(key_id)["CreateDate"] -= timedelta(days=1)
    iam.keys["u"] = [iam.key(key_id)]


@pytest.mark.parametrize(
    ("change", "key_id", "level", "found"),
    [
        (rotate, "u-2", logging.INFO, None),
        (delete, "u-2", logging.INFO, None),
        (disable, "u-2", logging.INFO, None),
        (swap, "u-2", logging.INFO, None),
        (delete_user, "u-2", logging.WARNING, None),  # or renamed: nobody knows
        (redate, "u-2", logging.WARNING, []),
        (delete, "u-1", None, ["u-2"]),
        (rotate, "u-1", None, ["u-2"]),
        (disable, "u-1", None, ["u-2"]),
    ],
)
def test_what_changed_since_the_report_counts(
    iam: Iam,
    custodian: Custodian,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Iam, str], None],
    key_id: str,
    level: int | None,
    found: list[str] | None,
) -> None:
    iam.add("u", OLDER, OLD)
    change(iam, key_id)
    with caplog.at_level(logging.INFO, "custodian.keyrot"):
        assert custodian.matched([stale()]).get("u") == found
    about = [record.levelno for record in caplog.records if "user 'u'" in record.getMessage()]
    assert about == ([level] if level else [])


def test_a_key_told_by_elimination_is_matched_and_marked_as_drifted(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("u", NEW, OLD)
    iam.key("u-2")["CreateDate"] += timedelta(seconds=1)
    (user,) = custodian.run([stale()])
    (record,) = user["c7n:keyrot"]
    assert (record["access_key_id"], record["identified"]) == ("u-2", "elimination")
    assert record["drift"] is True
    assert record["last_rotated"] == iam.key("u-2")["CreateDate"].isoformat()


def test_two_keys_of_one_second_are_reported_without_a_key(iam: Iam, custodian: Custodian) -> None:
    iam.add("u", OLD, OLD)
    (user,) = custodian.run([stale()])
    (record,) = user["c7n:keyrot"]
    assert user["c7n:matched-keys"] == []
    assert (record["verdict"], record["identified"]) == ("stale", "ambiguous")
    assert record["access_key_id"] is record["status"] is None
    assert record["age_days"] == OLD


@pytest.mark.parametrize(
    ("date", "active"), [("N/A", "true"), ("last year", "true"), (None, "perhaps"), ("", "TRUE")]
)
@pytest.mark.parametrize("data", [stale(), stale(status=OFF), expiring(days=1000, notice=999)])
def test_unknown_ones_are_warned_of_and_never_selected(
    iam: Iam,
    custodian: Custodian,
    caplog: pytest.LogCaptureFixture,
    date: str | None,
    active: str,
    data: dict[str, Any],
) -> None:
    iam.add("u", NEW, OLD)
    iam.rows["u"][7] = active
    iam.rows["u"][8] = iam.rows["u"][8] if date is None else date
    assert custodian.run([data], ["disable-access-key"] if data == stale() else []) == []
    warned = [record for record in caplog.records if record.name == "custodian.keyrot"]
    assert len(warned) == 1
    assert warned[0].levelno == logging.WARNING
    assert "'u': key 2 is unknown" in warned[0].getMessage()
    assert iam.changed == []


def test_a_name_that_stands_twice_is_warned_of_and_the_run_goes_on(
    iam: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture
) -> None:
    iam.add("twin", NEW, OLD)
    iam.add("ana", NEW, OLD)
    iam.rows["again"] = iam.rows["twin"]
    custodian.run([stale()], ["disable-access-key"])
    assert iam.changed == [("ana", "ana-2", "Inactive")]
    (warned,) = [record for record in caplog.records if record.name == "custodian.keyrot"]
    assert "'twin' appears twice" in warned.getMessage()


def test_the_words_about_users_who_are_left_alone(
    iam: Iam, custodian: Custodian, told: Callable[[], list[str]]
) -> None:
    iam.add("twins", OLD, OLD)
    iam.add("lost", None, OLD)
    iam.keys["lost"][0]["CreateDate"] -= timedelta(days=7)
    iam.add("odd", NEW, OLD)
    iam.rows["odd"][7] = "Expired"
    custodian.run([stale()], ["disable-access-key"])
    why = {
        "twins": "two keys were created in the same second",
        "lost": "no live key fits the credential report's dates",
    }
    for name, words in why.items():
        line = f"{HERE}: user '{name}': key 2 can't be identified ({words}): skipped"
        assert line in told()
    assert (
        f"{HERE}: user 'odd': key 2 is unknown: the credential report has it, but its status "
        "or last rotation can't be read; check it by hand; no action is taken"
    ) in told()


def test_users_who_are_not_in_the_report_are_not_matched(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("new", NEW, OLD)
    del iam.rows["new"]
    assert list(custodian.matched([stale()], source="describe")) == ["ana"]


# unused-days and superseded: (last use of key 2, last use of key 1) in days ago


@pytest.mark.parametrize(
    ("used2", "expected"),
    [(None, True), (31, True), (30 + SECOND, True), (30, False), (29, False), (0, False)],
)
def test_unused_days(
    iam: Iam, custodian: Custodian, at: datetime, used2: float | None, expected: bool
) -> None:
    iam.add("u", at - timedelta(days=NEW), at - timedelta(days=OLD))
    if used2 is not None:
        iam.used["u-2"] = at - timedelta(days=used2)
    assert bool(custodian.matched([stale(unused_days=30)])) is expected


@pytest.mark.parametrize(
    ("slot1", "used1", "used2", "expected"),
    [
        (NEW, 1, 2, True),
        (NEW, 1, None, True),
        (NEW, 2, 1, False),  # the old key was used last
        (NEW, 1, 1, False),  # at the same instant
        (NEW, None, 1, False),
        (NEW, None, None, False),
        ((NEW, OFF), 1, 2, False),
        (OLDER, 1, 2, False),  # an older one doesn't supersede
        (None, None, 2, False),
    ],
)
def test_superseded(
    iam: Iam,
    custodian: Custodian,
    at: datetime,
    slot1: Any,
    used1: float | None,
    used2: float | None,
    expected: bool,
) -> None:
    iam.add("u", slot1, OLD)
    for key_id, used in (("u-1", used1), ("u-2", used2)):
        if used is not None:
            iam.used[key_id] = at - timedelta(days=used)
    assert bool(custodian.matched([stale(superseded=True)])) is expected


@pytest.mark.parametrize(
    ("options", "used1", "used2", "matched"),
    [
        # Of two keys of one second neither is younger, whichever of them is the slot's.
        ({"superseded": True}, 1, 60, False),
        ({"superseded": True}, 60, 1, False),
        ({"superseded": True}, 1, None, False),
        ({"superseded": True, "unused_days": 30}, 1, 60, False),
        # One of them is unused: it may be the slot's, and nobody knows.
        ({"unused_days": 30}, 1, 60, True),
        ({"unused_days": 30}, 1, None, True),
        ({"unused_days": 30}, 1, 2, False),
        ({}, 1, 2, True),
    ],
)
@pytest.mark.parametrize("slot", [1, 2])
def test_in_doubt_a_user_matches_only_if_one_of_the_possible_keys_does(
    iam: Iam,
    custodian: Custodian,
    at: datetime,
    options: dict[str, Any],
    used1: float | None,
    used2: float | None,
    matched: bool,
    slot: int,
) -> None:
    iam.add("u", OLD, OLD)
    for key_id, used in (("u-1", used1), ("u-2", used2)):
        if used is not None:
            iam.used[key_id] = at - timedelta(days=used)
    assert custodian.matched([stale(slot=slot, **options)]) == ({"u": []} if matched else {})


@pytest.mark.parametrize("turned", [False, True])
def test_the_successor_is_found_in_any_order_of_the_keys(
    iam: Iam, custodian: Custodian, turned: bool
) -> None:
    iam.add("ana", NEW, OLD)
    iam.used["ana-1"] = iam.now
    if turned:
        iam.keys["ana"].reverse()
    assert custodian.matched([stale(superseded=True)]) == {"ana": ["ana-2"]}


def test_in_doubt_a_possible_key_may_be_superseded_by_the_other_one(
    iam: Iam, custodian: Custodian
) -> None:
    """Neither of the live keys has a date of the report's."""
    iam.add("u", 400, 300)
    for number, days in ((1, 250), (2, 200)):
        iam.key(f"u-{number}")["CreateDate"] = iam.now - timedelta(days=days)
    iam.used["u-2"] = iam.now
    assert custodian.matched([stale(superseded=True)]) == {"u": []}
    iam.used = {"u-1": iam.now}
    assert custodian.matched([stale(superseded=True)]) == {}


def test_without_a_younger_key_nobody_asks_for_last_uses(iam: Iam, custodian: Custodian) -> None:
    iam.add("u", OLDER, OLD)
    iam.add("v", OLD, OLD)
    iam.add("w", (NEW, OFF), OLD)
    assert custodian.matched([stale(superseded=True)]) == {}
    assert iam.calls["GetAccessKeyLastUsed"] == 0


@pytest.mark.parametrize(
    ("used1", "used2", "expected"),
    [(1, 60, True), (1, 5, False), (70, 60, False), (None, 60, False), (1, None, True)],
)
def test_superseded_and_unused_days_both_count(
    iam: Iam,
    custodian: Custodian,
    at: datetime,
    used1: float | None,
    used2: float | None,
    expected: bool,
) -> None:
    iam.add("u", 100, OLD)
    for key_id, used in (("u-1", used1), ("u-2", used2)):
        if used is not None:
            iam.used[key_id] = at - timedelta(days=used)
    filters = [stale(superseded=True, unused_days=30)]
    assert bool(custodian.matched(filters)) is expected


def test_the_live_last_use_decides_not_the_reports(iam: Iam, custodian: Custodian) -> None:
    iam.add("u", NEW, OLD)
    iam.rows["u"][9] = (iam.now - timedelta(days=100)).isoformat()
    iam.used["u-2"] = iam.now - timedelta(days=1)
    assert custodian.matched([stale(unused_days=30)]) == {}
    iam.used["u-2"] = iam.now - timedelta(days=60)
    (user,) = custodian.run([stale(unused_days=30)])
    assert user["c7n:keyrot"][0]["last_used_date"] == iam.used["u-2"].isoformat()


def test_without_these_options_nobody_asks_for_last_uses(iam: Iam, custodian: Custodian) -> None:
    iam.add("u", NEW, OLD)
    custodian.run([stale(superseded=False)])
    assert iam.calls["GetAccessKeyLastUsed"] == 0


@pytest.mark.parametrize("options", [{"unused_days": 30}, {"superseded": True}])
def test_a_last_use_that_cannot_be_read_is_no_never_used(
    iam: Iam, custodian: Custodian, options: dict[str, Any]
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, OLD)
    iam.used["bob-1"] = iam.now
    iam.errors["GetAccessKeyLastUsed", "ana-2"] = "AccessDenied"
    with pytest.raises(PolicyExecutionError, match="'ana': last use not read"):
        custodian.run([stale(**options)], ["disable-access-key"])
    assert iam.changed == [("bob", "bob-2", "Inactive")]


def test_a_key_that_vanishes_while_its_use_is_read_is_gone(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    iam.errors["GetAccessKeyLastUsed", "ana-2"] = "NoSuchEntity"
    assert custodian.run([stale(unused_days=30)], ["disable-access-key"]) == []


def test_a_successor_that_vanishes_says_nothing_of_the_key_itself(
    iam: Iam, custodian: Custodian
) -> None:
    """The stale key is there and active: it is no longer superseded, and no less stale."""
    iam.add("ana", NEW, OLD)
    iam.used["ana-1"] = iam.now
    iam.errors["GetAccessKeyLastUsed", "ana-1"] = "NoSuchEntity"
    policy = custodian.policy([stale(superseded=True)])
    assert policy.run() == []
    run = lifecycle.run_of(policy.resource_manager)
    assert run.left.why == {("ana", 2): Why.USED}


@pytest.mark.parametrize(
    ("status", "why"), [("Inactive", Why.CHANGED), ("Expired", Why.UNKNOWN), ("", Why.UNKNOWN)]
)
def test_a_live_status_that_nobody_knows_is_no_change_for_the_better(
    iam: Iam, custodian: Custodian, status: str, why: Why
) -> None:
    iam.add("ana", NEW, OLD)
    iam.key("ana-2")["Status"] = status
    policy = custodian.policy([stale()])
    assert policy.run() == []
    assert lifecycle.run_of(policy.resource_manager).left.why == {("ana", 2): why}


@pytest.mark.parametrize("created", [True, False])
def test_a_key_that_is_not_there_is_gone_only_if_the_user_is_the_reports(
    iam: Iam, custodian: Custodian, created: bool
) -> None:
    iam.add("ana", NEW, OLD)
    iam.keys["ana"].pop()
    if not created:
        iam.rows["ana"][-1] = "N/A"
    policy = custodian.policy([stale()])
    assert policy.run() == []
    why = Why.GONE if created else Why.NOT_FOUND
    assert lifecycle.run_of(policy.resource_manager).left.why == {("ana", 2): why}


def test_the_words_about_last_uses_that_are_not_read(
    iam: Iam, custodian: Custodian, told: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("ana", "bob"):
        iam.add(name, NEW, OLD)
    iam.errors["GetAccessKeyLastUsed", "ana-2"] = "NoSuchEntity"
    iam.errors["GetAccessKeyLastUsed", "bob-2"] = "AccessDenied"
    with pytest.raises(PolicyExecutionError) as caught:
        custodian.run([stale(unused_days=30)], ["disable-access-key"])
    assert f"{HERE}: user 'ana': a key no longer exists" in told()
    # Nothing to look at.
    assert {r.levelname for r in caplog.records if "'ana'" in r.getMessage()} == {"INFO"}
    assert str(caught.value) == (
        "user 'bob': last use not read, iam:GetAccessKeyLastUsed is denied (AccessDenied)"
    )


# expiring-access-key


@pytest.mark.parametrize(
    ("age", "options", "expected"),
    [
        (76, {}, True),
        (76 - SECOND, {}, False),
        (83, {}, True),
        (90, {}, True),
        (90 + SECOND, {}, False),
        (200, {}, False),
        (10, {}, False),
        (25, {"days": 30, "notice": 5}, True),
        (24, {"days": 30, "notice": 5}, False),
        (1, {"days": 30, "notice": 29}, True),
        (1 - SECOND, {"days": 30, "notice": 29}, False),
        (29.8, {"days": 30, "notice": 0.25}, True),
        (29.7, {"days": 30, "notice": 0.25}, False),
    ],
)
def test_expiring(
    iam: Iam,
    custodian: Custodian,
    at: datetime,
    age: float,
    options: dict[str, Any],
    expected: bool,
) -> None:
    iam.add("u", None, at - timedelta(days=age))
    found = custodian.matched([expiring(**options)])
    assert found == ({"u": []} if expected else {})


NOON = datetime(2026, 11, 25, 12, 0, 0, tzinfo=timezone.utc)
TO_MIDNIGHT = timedelta(hours=12)
REMINDERS = [14, 7, 3, 1]


@pytest.mark.parametrize(
    ("deadline", "reminders", "expected"),
    [
        # From today's noon on: what counts is the deadline's day in UTC, not the time left.
        (timedelta(days=14), REMINDERS, True),
        (timedelta(days=14, hours=11, minutes=59, seconds=59), REMINDERS, True),
        (timedelta(days=14, hours=12), REMINDERS, False),
        (timedelta(days=13, hours=12), REMINDERS, True),
        (timedelta(days=13, hours=11, minutes=59, seconds=59), REMINDERS, False),
        (timedelta(days=8), REMINDERS, False),
        (timedelta(days=7, hours=-12), REMINDERS, True),
        (timedelta(days=7, hours=11), REMINDERS, True),
        (timedelta(days=6, hours=11), REMINDERS, False),
        (timedelta(hours=36) - timedelta(seconds=1), REMINDERS, True),
        (timedelta(hours=36), REMINDERS, False),
        (timedelta(hours=12), REMINDERS, True),
        (timedelta(hours=12) - timedelta(seconds=1), REMINDERS, False),
        # 0 is the deadline's own day, until the key is stale.
        (timedelta(hours=12) - timedelta(seconds=1), [0], True),
        (timedelta(hours=12), [0], False),
        (timedelta(0), [0], True),
        (timedelta(seconds=-1), [0], False),
        (timedelta(hours=-12), [0], False),
        (timedelta(days=-1), [1, 0], False),
    ],
)
def test_reminders_come_on_the_utc_days_before_the_deadlines_day(
    iam: Iam,
    custodian: Custodian,
    clock: Callable[[datetime], datetime],
    deadline: timedelta,
    reminders: list[int],
    expected: bool,
) -> None:
    iam.now = clock(NOON)
    iam.add("u", None, NOON + deadline - timedelta(days=90))
    assert bool(custodian.matched([expiring(remind_at=reminders)])) is expected


def test_each_reminder_comes_once_to_a_daily_run_that_starts_ever_later(
    iam: Iam, custodian: Custodian, clock: Callable[[datetime], datetime]
) -> None:
    """Seventeen runs, up to three hours late, and a key for each hour of the day."""
    first = datetime(2026, 11, 25, 6, 0, 0, tzinfo=timezone.utc)
    deadlines = {f"u{hour:02}": first.replace(hour=hour) + timedelta(days=15) for hour in range(24)}
    for name, deadline in deadlines.items():
        iam.add(name, None, deadline - timedelta(days=90))
    told: dict[str, list[int]] = {name: [] for name in deadlines}
    stale_since: dict[str, int] = {}
    for number in range(17):
        iam.now = clock(first + timedelta(days=number, minutes=number * 180 / 16))
        days_left = 15 - number
        shared_report.reports.clear()
        for name in custodian.matched([expiring(remind_at=REMINDERS)]):
            told[name].append(days_left)
        for name in custodian.matched([stale()]):
            stale_since.setdefault(name, days_left)
    assert told == dict.fromkeys(deadlines, REMINDERS)
    # And each is found to be stale by the first run after its deadline.
    assert set(stale_since.values()) == {0, -1}
    assert stale_since.keys() == told.keys()


def test_a_reminder_that_is_not_due_costs_no_call(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, 83.5)
    custodian.run([expiring(remind_at=[1])])
    its = {"GenerateCredentialReport", "GetCredentialReport", "GetCallerIdentity"}
    assert iam.calls.keys() == its


@pytest.mark.parametrize(("notice", "expected"), [(14, True), (13.9, False), (13, False)])
def test_without_remind_at_the_notice_is_to_the_second(
    iam: Iam,
    custodian: Custodian,
    clock: Callable[[datetime], datetime],
    notice: float,
    expected: bool,
) -> None:
    iam.now = clock(NOON)
    iam.add("u", None, NOON + timedelta(days=14) - timedelta(days=90))
    iam.add("later", None, NOON + timedelta(days=14, seconds=1) - timedelta(days=90))
    assert custodian.matched([expiring(notice=notice)]) == ({"u": []} if expected else {})


@pytest.mark.parametrize("options", [{}, {"remind_at": [7]}])
def test_who_cannot_be_identified_is_not_reminded(
    iam: Iam,
    custodian: Custodian,
    clock: Callable[[datetime], datetime],
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
) -> None:
    """Of something that won't be done; nor is the user's other key taken for it."""
    iam.now = clock(NOON)
    for name in ("twins", "lost", "known"):
        iam.add(name, 83 if name == "twins" else NEW, 83)
    for key in iam.keys["lost"]:
        key["CreateDate"] -= timedelta(seconds=5)
    assert list(custodian.matched([expiring(**options)])) == ["known"]
    for name in ("twins", "lost"):
        assert f"'{name}': key 2 can't be identified" in caplog.text


def test_whose_keys_cannot_be_read_is_not_taken_for_reminded(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("u", NEW, 83)
    iam.errors["ListAccessKeys", "u"] = "AccessDenied"
    with pytest.raises(PolicyExecutionError, match="'u': keys not read"):
        custodian.run([expiring()])


@pytest.mark.parametrize("status", [OFF])
def test_inactive_keys_do_not_expire(iam: Iam, custodian: Custodian, status: str) -> None:
    iam.add("u", None, (80, status))
    iam.add("v", None, 80)
    iam.key("v-2")["Status"] = status
    assert custodian.matched([expiring()]) == {}


# Who is exempt, and who somebody is


def test_exemptions_count_whatever_aws_config_says(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    """Its item, which starts a policy of mode config-rule, may be a day old."""
    iam.add("ana", NEW, OLD, {"keyrot-exempt-until": "2999-01-01"})
    mode = {**GOOD_MODE, "type": "config-rule", "role": "arn:aws:iam::123456789012:role/x"}
    filters = [{"not": ["rotation-exempt"]}, stale()]
    policy = custodian.policy(filters, ["disable-access-key"], mode=mode)
    policy.validate()
    configuration = {"userName": "ana", "arn": iam.users["ana"]["Arn"], "tags": []}
    item = {
        "configurationItemStatus": "OK",
        "resourceType": "AWS::IAM::User",
        "resourceId": "AIDAana",
        "configurationItemCaptureTime": "2026-11-24T00:00:00Z",
        "configuration": configuration,
        "supplementaryConfiguration": {},
        "tags": {},
    }
    client = custodian.session.client
    mocker.patch.object(
        custodian.session,
        "client",
        lambda service, **more: mocker.Mock() if service == "config" else client(service, **more),
    )
    event = {"invokingEvent": json.dumps({"configurationItem": item}), "resultToken": "x"}
    policy.push(event, None)
    assert iam.calls["GetUser"] == 1
    assert iam.changed == []
    iam.tag("ana")
    policy = custodian.policy(filters, ["disable-access-key"], mode=mode)
    policy.validate()
    policy.push(event, None)
    assert iam.changed == [("ana", "ana-2", "Inactive")]


@pytest.mark.parametrize("source", ["credential-report", "describe"])
def test_who_has_got_the_name_since_the_report_is_left_alone(
    iam: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture, source: str
) -> None:
    """One script made keys of one second for two users; then their names changed."""
    caplog.set_level("INFO")
    second = iam.now - timedelta(days=OLD)
    iam.add("alice", NEW, second)
    iam.add("bob", second, NEW)
    iam.users["bob"]["CreateDate"] -= timedelta(seconds=1)
    for old, new in (("alice", "carol"), ("bob", "alice")):
        iam.users[new] = {**iam.users.pop(old), "UserName": new}
        iam.keys[new] = iam.keys.pop(old)
    assert custodian.run([stale()], ["disable-access-key"], source=source) == []
    assert iam.changed == []
    assert "user 'alice' was replaced after the credential report: skipped" in caplog.text


def test_another_user_of_the_name_is_no_warning(
    iam: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "custodian.keyrot")
    iam.add("ana", NEW, OLD)
    iam.users["ana"]["CreateDate"] += timedelta(seconds=1)
    assert custodian.run([stale()], ["disable-access-key"]) == []
    (record,) = [record for record in caplog.records if "was replaced" in record.message]
    assert record.levelno == logging.INFO


@pytest.mark.parametrize("created", ["", "N/A", "yesterday"])
def test_a_report_without_a_users_date_is_taken_as_before(
    iam: Iam, custodian: Custodian, created: str
) -> None:
    iam.add("ana", NEW, OLD)
    iam.rows["ana"][-1] = created
    assert custodian.matched([stale()]) == {"ana": ["ana-2"]}


def test_the_next_policy_gets_no_annotations_out_of_the_cache(
    iam: Iam, custodian: Custodian
) -> None:
    """Stock's remove-keys with matched would act on what another policy meant."""
    custodian.options.update(cache="memory", cache_period=15)
    iam.add("ana", OLD, OLD + 1)
    assert custodian.matched([stale(slot=1)], source="describe") == {"ana": ["ana-1"]}
    (user,) = custodian.run([{"type": "value", "key": "UserName", "value": "ana"}], source=None)
    assert not {"c7n:keyrot", "c7n:matched-keys", "c7n:AccessKeys"} & user.keys()


@pytest.mark.parametrize("order", [1, -1])
def test_tags_that_cannot_be_read_are_no_permission(
    iam: Iam, custodian: Custodian, order: int
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, OLD)
    iam.later_errors["ana"] = "Throttling"
    filters = [stale(), {"not": ["rotation-exempt"]}][::order]
    with pytest.raises(PolicyExecutionError, match="'ana': user and tags not read"):
        custodian.run(filters, ["disable-access-key"], source="describe")
    assert iam.changed == [("bob", "bob-2", "Inactive")]


# Which users are looked at at all


@pytest.mark.parametrize("whole", ["reduce", "count"])
def test_a_filter_on_all_users_sees_them_all(iam: Iam, custodian: Custodian, whole: str) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, NEW)
    first = {
        "reduce": {"type": "reduce", "limit": 9},
        "count": {"type": "value", "value_type": "resource_count", "op": "eq", "value": 2},
    }[whole]
    assert custodian.matched([first, stale()]) == {"ana": ["ana-2"]}
    assert iam.calls["GetUser"] == 2


@pytest.mark.parametrize(
    ("filters", "users"),
    [
        ([{"and": [stale()]}], {"ana"}),
        ([{"or": [stale(), stale(slot=1)]}], {"ana", "cleo"}),
        ([{"or": [stale(), {"tag:x": "y"}]}], {"ana", "bob", "cleo"}),
    ],
)
def test_blocks_narrow_the_candidates(
    iam: Iam, custodian: Custodian, filters: list[Any], users: set[str]
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, NEW)
    iam.add("cleo", OLD, NEW)
    custodian.run(filters)
    assert iam.calls["GetUser"] == len(users)


# What is left on the user


def test_the_record(iam: Iam, custodian: Custodian, at: datetime) -> None:
    iam.add("u", at - timedelta(days=NEW), at - timedelta(days=207.4), {"u-2": "build server"})
    iam.rows["u"][9:12] = ["2026-11-20T00:00:00+00:00", "eu-west-1", "s3"]
    (user,) = custodian.run([{"or": [stale(), stale(slot=1)]}])
    (record,) = user["c7n:keyrot"]
    run, generated = record.pop("run"), record.pop("report_generated")
    assert len(run) == 36
    assert datetime.fromisoformat(generated).utcoffset() == timedelta(0)
    made = iam.key("u-2")["CreateDate"]
    other = iam.key("u-1")["CreateDate"]
    assert record == {
        "version": 1,
        "filter": STALE,
        "path": "0.0",
        "verdict": "stale",
        "slot": 2,
        "access_key_id": "u-2",
        "status": "Active",
        "identified": "date",
        "drift": False,
        "last_rotated": made.isoformat(),
        "age_days": 207.4,
        "days": 90,
        "deadline": (made + timedelta(days=90)).isoformat(),
        "days_left": -117,
        "last_used_date": "2026-11-20T00:00:00+00:00",
        "last_used_service": "s3",
        "last_used_region": "eu-west-1",
        "exemption": None,
        "description": "build server",
        "usage": None,
        "other_key": {
            "access_key_id": "u-1",
            "status": "Active",
            "created": other.isoformat(),
            "age_days": float(NEW),
            "in_report": True,
            "last_used_date": None,
            "last_used_service": None,
            "last_used_region": None,
            "description": None,
        },
    }
    assert KeyRecord.parse({**record, "run": run, "report_generated": generated})


@pytest.mark.parametrize("days", [365_000, 100_000.5])
def test_a_deadline_beyond_all_dates_is_no_crash(
    iam: Iam, custodian: Custodian, days: float
) -> None:
    iam.add("u", None, OLD)
    assert len(custodian.run([expiring(days=days, notice=days - 1)])) == 1
    iam.add("v", None, datetime(9500, 1, 1, tzinfo=timezone.utc))
    shared_report.reports.clear()
    assert len(custodian.run([expiring(days=days, notice=days - 1, remind_at=[1, 2])])) == 0


def test_the_figures_of_a_record(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD + 0.26)
    iam.add("far", None, 1)
    (user,) = custodian.run([stale()])
    assert user["c7n:keyrot"][0]["age_days"] == 200.3
    (user,) = custodian.run(
        [expiring(days=365_000, notice=364_999.5, slot=2)],
        name="other",
    )[1:]
    assert (
        user["c7n:keyrot"][0]["deadline"]
        == (iam.now + timedelta(days=364_999)).replace(microsecond=0).isoformat()
    )


# Validation: the schema and, for c7n-org, which checks none, validate() itself

WRONG_NUMBERS = [
    True,
    False,
    0,
    -1,
    -0.5,
    float("nan"),
    float("inf"),
    float("-inf"),
    "90",
    "90 days",
    "",
    [90],
    {},
    None,
    365_001,
    10**400,
    1e300,
]
NUMBERS = [
    (STALE, "days"),
    (STALE, "unused-days"),
    (STALE, "report-max-age"),
    (EXPIRING, "days"),
    (EXPIRING, "notice"),
    (EXPIRING, "report-max-age"),
    (UNCLEAR, "days"),
    (UNCLEAR, "report-max-age"),
    (EXEMPT, "longest"),
    (EXEMPT, "ends-within"),
    (EXEMPT, "longer-than"),
]


def test_each_number_of_a_filter_is_tried_with_wrong_and_right_values() -> None:
    missing = {
        (word, name)
        for word, element in User.filter_registry.items()
        if element.__module__.startswith("c7n_keyrot.")
        for name, option in element.options.items()
        if option.kind in (NUMBER, HOURS)
    } - set(NUMBERS)
    assert not missing, f"add to NUMBERS in tests/unit/filters_test.py: {sorted(missing)}"


def test_the_numbers_in_a_summary_are_read_back_as_numbers() -> None:
    """Of the filters on a slot: a summary has their options."""
    declared = {
        name
        for word in (STALE, EXPIRING, UNCLEAR)
        for name, option in User.filter_registry[word].options.items()
        if option.kind.schema.get("type") == "number"
    }
    assert set(NUMERIC_OPTIONS) == declared, (
        "NUMERIC_OPTIONS in c7n_keyrot/core/records.py must have exactly the options of the "
        f"filters on a slot that are numbers: {sorted(declared)}"
    )


def refused(custodian: Custodian, data: Any, says: str) -> None:
    with pytest.raises(PolicyValidationError) as caught:
        custodian.policy([data]).validate()
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"policy test: {data['type']}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", WRONG_NUMBERS, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize(("kind", "option"), NUMBERS)
def test_wrong_numbers_are_refused(
    custodian: Custodian, kind: str, option: str, value: Any
) -> None:
    refused(custodian, {"type": kind, option: value}, f"{option} must be a number > 0")


@pytest.mark.parametrize("value", [1, 0.25, 90, 365_000, 1e-3])
@pytest.mark.parametrize(("kind", "option"), NUMBERS)
def test_right_numbers_are_taken(custodian: Custodian, kind: str, option: str, value: Any) -> None:
    more = {"days": {"notice": value / 2}, "notice": {"days": 365_000}} if kind == EXPIRING else {}
    if (option, value) != ("notice", 365_000):
        custodian.policy([{"type": kind, option: value, **more.get(option, {})}]).validate()


@pytest.mark.parametrize("kind", [STALE, EXPIRING, UNCLEAR])
@pytest.mark.parametrize(
    "value", [0, 3, -1, 1.5, "2", True, None, [2], {}, float("nan"), 10**30, "second"]
)
def test_wrong_slots_are_refused(custodian: Custodian, kind: str, value: Any) -> None:
    refused(custodian, {"type": kind, "slot": value}, "slot must be 1 or 2")


@pytest.mark.parametrize("kind", [STALE, EXPIRING, UNCLEAR])
@pytest.mark.parametrize("value", [1.0, 2.0])
def test_a_slot_is_an_integer(custodian: Custodian, kind: str, value: float) -> None:
    """JSON Schema takes 2.0 for 2, and no list has an element 1.0."""
    refused(custodian, {"type": kind, "slot": value}, f"slot must be 1 or 2, not {value}")


@pytest.mark.parametrize("value", ["active", "ACTIVE", "Disabled", "", True, None, 1, ["Active"]])
def test_wrong_statuses_are_refused(custodian: Custodian, value: Any) -> None:
    refused(custodian, {"type": STALE, "status": value}, "status must be Active or Inactive")


@pytest.mark.parametrize("value", ["true", "yes", 1, 0, None, [], "no"])
def test_superseded_is_true_or_false(custodian: Custodian, value: Any) -> None:
    refused(custodian, {"type": STALE, "superseded": value}, "superseded must be true or false")


@pytest.mark.parametrize(
    "value",
    [
        [],
        7,
        "14, 7",
        {},
        None,
        [-1],
        [True],
        [False],
        ["7"],
        [None],
        [float("nan")],
        [float("inf")],
        [1.5],
        [14, 7, 1.5],
        [365_001],
        [[7]],
    ],
    ids=repr,
)
def test_wrong_reminders_are_refused(custodian: Custodian, value: Any) -> None:
    says = "remind-at must be a list of whole days, 0 or more, not "
    refused(custodian, {"type": EXPIRING, "remind-at": value}, says)


@pytest.mark.parametrize(
    ("notice", "reminders", "good"),
    [
        (14, [14, 7, 3, 1], True),
        (14, [7.0], True),
        (14, [14, 0], True),
        (0.5, [0], True),
        (13.5, [13], True),
        (30, [30], True),
        (14, [15], False),
        (14, [14, 7, 3, 1, 30], False),
        (13.5, [14], False),
        (0.5, [1], False),
    ],
)
def test_reminders_are_at_most_the_notice(
    custodian: Custodian, notice: float, reminders: list[float], good: bool
) -> None:
    data = expiring(notice=notice, remind_at=reminders)
    if good:
        custodian.policy([data]).validate()
    else:
        refused(custodian, data, f"is never reached, since notice is {notice} days")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"days": 7, "notice": 14}, "notice is 14 and must be less than days (7)"),
        ({"days": 14, "notice": 14}, "notice is 14 and must be less than days (14)"),
        ({"notice": 90}, "notice is 90 and must be less than days (90)"),
        ({"days": 14}, "notice is 14, its default, and must be less than days (14)"),
        ({"days": 7, "remind_at": [3]}, "notice is 14, its default, and must be less than days"),
        ({"days": 14.5}, None),
        ({"days": 14, "notice": 13.9}, None),
        ({"notice": 89}, None),
    ],
)
def test_a_notice_is_shorter_than_the_days(
    custodian: Custodian, options: dict[str, Any], says: str | None
) -> None:
    """Else owners would be told of keys that are minutes old."""
    if says:
        refused(custodian, expiring(**options), says)
    else:
        custodian.policy([expiring(**options)]).validate()


@pytest.mark.parametrize("value", ["", None, 5, True, ["t"], {}, "Valid", "none"])
def test_wrong_states_are_refused(custodian: Custodian, value: Any) -> None:
    says = "state must be valid, expired, unreadable, too-long or any, not "
    refused(custodian, {"type": EXEMPT, "state": value}, says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"state": "expired", "ends_within": 14}, "ends-within has no meaning with state: expired"),
        ({"state": "expired", "longer_than": 1}, "longer-than has no meaning with state: expired"),
        ({"state": "unreadable", "ends_within": 14}, "no meaning with state: unreadable"),
        ({"state": "unreadable", "longer_than": 14}, "no meaning with state: unreadable"),
        ({"ends_within": 14, "longer_than": 14}, "can never both match"),
        (
            {"ends_within": 14, "longer_than": 365},
            "longer-than 365 and ends-within 14 can never both match",
        ),
        ({"ends_within": 365, "longer_than": 14}, None),
        ({"ends_within": 14, "longer_than": 13.5}, None),
        ({"state": "valid", "ends_within": 14}, None),
        ({"state": "any", "ends_within": 14}, None),
        ({"state": "any", "longer_than": 365}, None),
        ({"state": "expired"}, None),
        ({"state": "unreadable"}, None),
    ],
)
def test_options_of_exemptions_that_exclude_each_other_are_refused(
    custodian: Custodian, options: dict[str, Any], says: str | None
) -> None:
    if says:
        refused(custodian, exempt(**options), says)
    else:
        custodian.policy([exempt(**options)]).validate()


@pytest.mark.parametrize(
    "value",
    [[], "Mon", None, ["mon"], ["Monday"], [1], [True], ["Mon", "X"], {"Mon": 1}, [["Mon"]]],
)
def test_wrong_weekdays_are_refused(custodian: Custodian, value: Any) -> None:
    says = "weekdays must be a list of some of Mon, Tue, Wed, Thu, Fri, Sat, Sun, not "
    refused(custodian, {"type": UNCLEAR, "weekdays": value}, says)


@pytest.mark.parametrize(
    ("filters", "good"),
    [
        ([unclear(weekdays=["Mon"])], True),
        ([{"or": [STALE, unclear(weekdays=["Mon"])]}, {"not": [EXEMPT]}], True),
        ([{"not": [UNCLEAR]}], True),
        ([{"not": [unclear(weekdays=["Mon"])]}], False),
        ([{"not": [{"or": [STALE, unclear(weekdays=["Mon"])]}]}], False),
        ([{"or": [{"not": [{"and": [unclear(weekdays=["Mon"])]}]}]}], False),
        ([*[STALE] * 10, unclear(weekdays=["Mon"]), {"not": [STALE]}], True),
        ([{"not": [STALE]}, *[STALE] * 10, unclear(weekdays=["Mon"])], True),
    ],
)
def test_users_are_not_left_out_on_some_weekdays_only(
    custodian: Custodian, filters: list[Any], good: bool
) -> None:
    policy = custodian.policy(filters)
    if good:
        policy.validate()
    else:
        with pytest.raises(PolicyValidationError, match="weekdays has no meaning inside of a not"):
            policy.validate()


@pytest.mark.parametrize("value", ["", None, 5, True, ["t"], {}])
def test_wrong_tags_are_refused(custodian: Custodian, value: Any) -> None:
    refused(custodian, {"type": "rotation-exempt", "tag": value}, "tag must be the key of a tag")


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (STALE, "day"),
        (STALE, "notice"),
        (STALE, "unused_days"),
        (STALE, "Slot"),
        (STALE, "remind-at"),
        (EXPIRING, "status"),
        (EXPIRING, "unused-days"),
        (EXPIRING, "weekdays"),
        (UNCLEAR, "status"),
        (UNCLEAR, "superseded"),
        (EXEMPT, "days"),
        (EXEMPT, "until"),
    ],
)
def test_unknown_options_are_refused_and_the_known_ones_named(
    custodian: Custodian, kind: str, option: str
) -> None:
    known = {
        STALE: "days, report-max-age, slot, status, superseded, unused-days, usage",
        EXPIRING: "days, notice, remind-at, report-max-age, slot, usage",
        UNCLEAR: "days, report-max-age, slot, weekdays",
        EXEMPT: "ends-within, longer-than, longest, register, state, tag",
    }
    with pytest.raises(PolicyValidationError) as caught:
        custodian.policy([{"type": kind, option: 5}]).validate()
    says = f"policy test: {kind}: unknown option '{option}'; valid options: {known[kind]}"
    assert str(caught.value) == says


@pytest.mark.parametrize("block", [{"and": []}, {"or": []}, {"not": []}])
def test_filters_inside_of_blocks_are_validated_as_well(
    custodian: Custodian, block: dict[str, list[Any]]
) -> None:
    (operator,) = block
    with pytest.raises(PolicyValidationError, match="days must be a number"):
        custodian.policy([{operator: [stale(days=-1)]}]).validate()


GOOD_MODE = {
    "type": "periodic",
    "schedule": "rate(1 day)",
    "role": "arn:aws:iam::123456789012:role/x",
    "packages": ["c7n_keyrot"],
    "handler": "c7n_keyrot.handler.run",
}


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"packages": ["other", "c7n_keyrot"]}, True),
        ({"packages": None}, False),
        ({"packages": []}, False),
        ({"packages": ["c7n-keyrot"]}, False),
        ({"handler": None}, False),
        ({"handler": "custodian_policy.run"}, False),
        ({"type": "cloudtrail", "packages": None}, False),
        ({"type": "pull", "packages": None, "handler": None}, True),
    ],
)
@pytest.mark.parametrize(
    ("data", "more"),
    [
        ([stale()], {"source": "describe"}),
        ([expiring()], {"source": "describe"}),
        (["rotation-exempt"], {"source": "describe"}),
        ([{"not": [unclear()]}], {"source": "describe"}),
        ([{"or": [{"not": [stale()]}]}], {"source": "describe"}),
        ([], {}),
        ([stale()], {"actions": ["disable-access-key"]}),
    ],
)
def test_a_lambda_without_our_package_and_handler_is_refused(
    custodian: Custodian, change: dict[str, Any], good: bool, data: list[Any], more: dict[str, Any]
) -> None:
    """Loading is enough to refuse it, or validating: what dies in Lambda gets never so far."""
    mode = {key: value for key, value in {**GOOD_MODE, **change}.items() if value is not None}

    def build() -> None:
        policy = custodian.policy(data, mode=mode, **more)
        for element in policy.resource_manager.iter_filters():
            element.validate()
        policy.resource_manager.source  # noqa: B018
        for action in policy.resource_manager.actions:
            action.validate()

    if good:
        build()
    else:
        with pytest.raises(PolicyValidationError, match=r"packages: \[c7n_keyrot\] and handler"):
            build()


# Permissions


@pytest.mark.parametrize(
    ("data", "source", "expected"),
    [
        (stale(), None, {"GetUser", "ListAccessKeys"}),
        (stale(superseded=False), None, {"GetUser", "ListAccessKeys"}),
        (stale(unused_days=3), None, {"GetUser", "ListAccessKeys", "GetAccessKeyLastUsed"}),
        (stale(superseded=True), None, {"GetUser", "ListAccessKeys", "GetAccessKeyLastUsed"}),
        (stale(usage=7), None, {"GetUser", "ListAccessKeys", "LookupEvents"}),
        (expiring(), None, {"GetUser", "ListAccessKeys"}),
        (expiring(usage=7), None, {"GetUser", "ListAccessKeys", "LookupEvents"}),
        (unclear(), None, {"GetUser", "ListAccessKeys"}),
        ({"type": "rotation-exempt"}, "describe", {"GetUser"}),
        ({"type": "rotation-exempt"}, "credential-report", {"GetUser"}),
    ],
)
def test_permissions_are_those_of_the_calls_that_are_made(
    custodian: Custodian, data: dict[str, Any], source: str | None, expected: set[str]
) -> None:
    (element,) = custodian.policy([data], source=source).resource_manager.filters
    report = {"iam:GenerateCredentialReport", "iam:GetCredentialReport"}
    asked = set(element.get_permissions())
    assert {name.partition(":")[2] for name in asked - report} == expected
    assert ("cloudtrail:LookupEvents" in asked) is ("LookupEvents" in expected)
    assert (asked >= report) is (data["type"] != "rotation-exempt")
