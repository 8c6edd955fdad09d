# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Verdicts to the second, and a live key that is the slot's own one or none at all."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c7n_keyrot.core import rotation
from c7n_keyrot.core.credential_report import Row, Slot
from c7n_keyrot.core.rotation import Exemption, ExemptionState, Identified, Verdict

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=timezone.utc)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def slot(rotated: datetime | None, active: bool | None = True, has_key: bool | None = None) -> Slot:
    there = active is not False or rotated is not None if has_key is None else has_key
    return Slot(active, there, rotated, None, None, None)


def key(name: str, made: datetime, status: str = "Active") -> dict[str, Any]:
    return {"UserName": "u", "AccessKeyId": name, "Status": status, "CreateDate": made}


EMPTY = slot(None, active=False)


@pytest.mark.parametrize(
    ("age", "days", "notice", "expected"),
    [
        (90 * DAY, 90, 0, Verdict.FRESH),
        (90 * DAY + SECOND, 90, 0, Verdict.STALE),
        (90 * DAY - SECOND, 90, 0, Verdict.FRESH),
        (90 * DAY + timedelta(hours=1), 90, 0, Verdict.STALE),
        (90 * DAY, 90, 14, Verdict.EXPIRING),
        (90 * DAY + SECOND, 90, 14, Verdict.STALE),
        (76 * DAY, 90, 14, Verdict.EXPIRING),
        (76 * DAY - SECOND, 90, 14, Verdict.FRESH),
        (0.5 * DAY, 0.5, 0, Verdict.FRESH),
        (0.5 * DAY + SECOND, 0.5, 0, Verdict.STALE),
        (timedelta(0), 90, 14, Verdict.FRESH),
        (timedelta(0), 90, 90, Verdict.EXPIRING),
        (-SECOND, 90, 90, Verdict.FRESH),
        (-400 * DAY, 90, 14, Verdict.FRESH),
        (9000 * DAY, 90, 14, Verdict.STALE),
        (9000 * DAY, 365_000, 14, Verdict.FRESH),
        (0 * DAY, 365_000, 365_000, Verdict.EXPIRING),
    ],
)
def test_verdict_of_an_active_key_is_by_age_to_the_second(
    age: timedelta, days: float, notice: float, expected: Verdict
) -> None:
    assert rotation.verdict(slot(NOW - age), NOW, days, notice) is expected


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (EMPTY, Verdict.ABSENT),
        (slot(NOW - 500 * DAY, active=False), Verdict.INACTIVE),
        (slot(None, active=False, has_key=True), Verdict.INACTIVE),
        (slot(None, active=True), Verdict.UNKNOWN),
        (slot(None, active=None), Verdict.UNKNOWN),
        (slot(NOW - 500 * DAY, active=None), Verdict.UNKNOWN),
    ],
)
def test_verdict_of_a_key_that_is_not_active_or_has_no_date(one: Slot, expected: Verdict) -> None:
    assert rotation.verdict(one, NOW, 90, 14) is expected


@given(
    days=st.floats(0.001, 4000),
    off=st.integers(-100_000, 100_000),
    zones=st.tuples(OFFSETS, OFFSETS),
    micros=st.integers(0, 999_999),
)
def test_the_same_instants_get_the_same_verdict_in_any_time_zone(
    days: float, off: int, zones: tuple[timezone, timezone], micros: int
) -> None:
    rotated = NOW - timedelta(days=days) + timedelta(seconds=off)
    rotated = rotated.replace(microsecond=0)
    plain = rotation.verdict(slot(rotated), NOW, days, 3)
    moved = rotation.verdict(
        slot(rotated.astimezone(zones[0])),
        NOW.astimezone(zones[1]).replace(microsecond=micros),
        days,
        3,
    )
    assert moved is plain
    assert (plain is Verdict.STALE) == (rotated < NOW - timedelta(days=days))


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Pacific/Kiritimati", "XYZ+11:30"])
def test_the_machines_time_zone_changes_nothing(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert rotation.verdict(slot(NOW - 90 * DAY), NOW, 90) is Verdict.FRESH
        assert rotation.verdict(slot(NOW - 90 * DAY - SECOND), NOW, 90) is Verdict.STALE
        assert rotation.created(key("A", NOW)) == NOW
        today = [{"Key": "t", "Value": "2026-11-24"}]
        late = datetime(2026, 11, 24, 23, 59, 59, tzinfo=timezone.utc)
        for now, state in ((late, "valid"), (late + SECOND, "expired")):
            found = rotation.exemption(today, "t", now)
            assert found == Exemption("t", "2026-11-24", ExemptionState(state), NOW.date())
        assert rotation.utc_days_left(NOW - 80 * DAY, late, 90) == 10
        assert rotation.utc_days_left(NOW - 80 * DAY, late + SECOND, 90) == 9
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_keys_date_is_utc_whatever_the_machines_time_zone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    try:
        made = datetime(2026, 5, 1, 3, 0, 0, 123, timezone(timedelta(hours=-7)))
        assert rotation.created({"CreateDate": made}).isoformat() == "2026-05-01T10:00:00+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@given(days=st.integers(1, 4000), age=st.integers(0, 4001 * 86400), notice=st.integers(1, 100))
def test_every_active_dated_key_is_exactly_one_of_fresh_expiring_and_stale(
    days: int, age: int, notice: int
) -> None:
    rotated = NOW - age * SECOND
    expected = Verdict.FRESH
    if age > days * 86400:
        expected = Verdict.STALE
    elif age >= (days - notice) * 86400:
        expected = Verdict.EXPIRING
    assert rotation.verdict(slot(rotated), NOW, days, notice) is expected


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (76 * DAY, 14),
        (76 * DAY + SECOND, 14),
        (77 * DAY - SECOND, 14),
        (77 * DAY, 13),
        (83 * DAY, 7),
        (83.5 * DAY, 7),
        (89 * DAY, 1),
        (90 * DAY - SECOND, 1),
        (90 * DAY, 0),
        (90 * DAY + SECOND, 0),
        (91 * DAY, -1),
        (91.5 * DAY, -1),
    ],
)
def test_days_left_are_rounded_up(age: timedelta, expected: int) -> None:
    assert rotation.days_left(NOW - age, NOW, 90) == expected


def test_days_of_an_option_count_to_the_microsecond() -> None:
    """Though the dates of keys are whole seconds."""
    nearly = 1.999999 / 86400
    assert timedelta(days=nearly) == timedelta(microseconds=1_999_999)
    assert rotation.is_older(NOW - 2 * SECOND, NOW, nearly)
    assert not rotation.is_older(NOW - SECOND, NOW, nearly)
    little_more = 1 + 1e-6 / 86400
    assert timedelta(days=little_more) == timedelta(days=1, microseconds=1)
    assert rotation.days_left(NOW, NOW, little_more) == 2
    assert rotation.days_left(NOW, NOW, 1) == 1


@pytest.mark.parametrize(
    ("rotated", "now", "days", "expected"),
    [
        # The deadline is on 24 November, at 08:00 UTC.
        (NOW - 90 * DAY, datetime(2026, 11, 24, 0, 0, 0), 90, 0),
        (NOW - 90 * DAY, datetime(2026, 11, 24, 23, 59, 59), 90, 0),
        (NOW - 90 * DAY, datetime(2026, 11, 25, 0, 0, 0), 90, -1),
        (NOW - 90 * DAY, datetime(2026, 11, 23, 23, 59, 59), 90, 1),
        (NOW - 90 * DAY, datetime(2026, 11, 23, 0, 0, 0), 90, 1),
        (NOW - 90 * DAY, datetime(2026, 11, 10, 0, 0, 0), 90, 14),
        (NOW - 90 * DAY, datetime(2026, 11, 9, 23, 59, 59), 90, 15),
        # Fractions of days move the deadline, here over midnight.
        (NOW - 90 * DAY, datetime(2026, 11, 24, 12, 0, 0), 90.5, 0),
        (NOW - 90 * DAY, datetime(2026, 11, 24, 12, 0, 0), 90.7, 1),
        # The deadline at midnight, and a second before it.
        (NOW - 90 * DAY - 8 * 3600 * SECOND, datetime(2026, 11, 23, 8, 0, 0), 90, 1),
        (NOW - 90 * DAY - 8 * 3600 * SECOND - SECOND, datetime(2026, 11, 23, 8, 0, 0), 90, 0),
    ],
)
def test_utc_days_left_are_of_the_calendar(
    rotated: datetime, now: datetime, days: float, expected: int
) -> None:
    utc = now.replace(tzinfo=timezone.utc)
    assert rotation.utc_days_left(rotated, utc, days) == expected
    elsewhere = timezone(timedelta(hours=13))
    moved = rotated.astimezone(elsewhere), utc.astimezone(timezone(timedelta(hours=-9)))
    assert rotation.utc_days_left(*moved, days) == expected


@pytest.mark.parametrize(
    ("left", "at_hour", "expected"),
    [
        # (days to the deadline at 08:00, hour of the run): by the calendar it is day 14, or not.
        (14, 0, Verdict.EXPIRING),
        (14, 23, Verdict.EXPIRING),
        (15, 23, Verdict.FRESH),
        (13, 0, Verdict.EXPIRING),
        (1, 23, Verdict.EXPIRING),
        (0, 0, Verdict.EXPIRING),
        (0, 8, Verdict.EXPIRING),
        # The deadline of today is over: whatever the day, the key is stale.
        (0, 9, Verdict.STALE),
        (-1, 0, Verdict.STALE),
    ],
)
def test_by_utc_day_a_notice_begins_with_its_first_day_and_ends_at_the_deadline(
    left: int, at_hour: int, expected: Verdict
) -> None:
    now = NOW.replace(hour=at_hour)
    rotated = NOW - 90 * DAY + left * DAY
    assert rotation.verdict(slot(rotated), now, 90, 14, by_utc_day=True) is expected


def test_a_deadline_beyond_all_dates_is_the_last_second_there_is() -> None:
    late = datetime(9999, 12, 1, tzinfo=timezone.utc)
    assert rotation.deadline(late, 365_000).isoformat() == "9999-12-31T23:59:59+00:00"
    assert rotation.deadline(NOW, 90.5) == NOW + 90.5 * DAY


# Identification

T1, T2, T3 = NOW - 300 * DAY, NOW - 200 * DAY, NOW - DAY


@pytest.mark.parametrize(
    ("slots", "live", "expected"),
    [
        ((slot(T1), slot(T2)), [key("A", T1), key("B", T2)], ("B", Identified.DATE)),
        ((slot(T1), slot(T2)), [key("B", T2), key("A", T1)], ("B", Identified.DATE)),
        # The slot, not the age: slot 2 may hold the older one.
        ((slot(T2), slot(T1)), [key("A", T2), key("B", T1)], ("B", Identified.DATE)),
        ((EMPTY, slot(T2)), [key("B", T2)], ("B", Identified.DATE)),
        ((slot(T1), slot(T2)), [key("B", T2)], ("B", Identified.DATE)),
        # moto's, and nobody's harm: parts of a second.
        ((slot(T1), slot(T2)), [key("B", T2.replace(microsecond=9))], ("B", Identified.DATE)),
        # The date differs, but the other one is known.
        ((slot(T1), slot(T2)), [key("A", T1), key("C", T3)], ("C", Identified.ELIMINATION)),
        # Slots without a key have no date either.
        ((slot(T1), EMPTY), [key("A", T1), key("C", T3)], ("C", Identified.ELIMINATION)),
        # Nothing tells which one is left.
        ((slot(T1), slot(T2)), [key("C", T3)], (None, Identified.UNMATCHED)),
        ((EMPTY, slot(T2)), [key("C", T3)], (None, Identified.UNMATCHED)),
        ((slot(T1), slot(T2)), [key("C", T3), key("D", T3)], (None, Identified.UNMATCHED)),
        ((slot(T1), slot(T2)), [key("A", T1)], (None, Identified.GONE)),
        ((slot(T1), slot(T2)), [], (None, Identified.GONE)),
        ((EMPTY, slot(T2)), [], (None, Identified.GONE)),
        # One second: two, or the one that is left of two, whatever their status says.
        ((slot(T1), slot(T1)), [key("A", T1), key("B", T1)], (None, Identified.AMBIGUOUS)),
        (
            (slot(T1, active=False), slot(T1)),
            [key("A", T1, "Inactive"), key("B", T1)],
            (None, Identified.AMBIGUOUS),
        ),
        ((slot(T1), slot(T1)), [key("A", T1)], (None, Identified.AMBIGUOUS)),
        ((slot(T1), slot(T1)), [key("A", T1), key("C", T3)], (None, Identified.AMBIGUOUS)),
        ((slot(T1), slot(T2)), [key("A", T2), key("B", T2)], (None, Identified.AMBIGUOUS)),
        ((slot(T1), slot(T1)), [key("C", T3)], (None, Identified.UNMATCHED)),
        # More keys than AWS allows: no elimination among several.
        (
            (slot(T1), slot(T2)),
            [key("A", T1), key("C", T3), key("D", T3 - DAY)],
            (None, Identified.UNMATCHED),
        ),
        # A key without a date may be of the other one's second, and that one may be gone.
        ((slot(None), slot(T1)), [key("A", T1)], (None, Identified.UNMATCHED)),
        ((slot(T1), slot(None)), [key("A", T1), key("C", T3)], (None, Identified.UNMATCHED)),
        (
            (slot(None, active=False, has_key=True), slot(T1)),
            [key("A", T1)],
            (None, Identified.UNMATCHED),
        ),
        ((slot(None), slot(T1)), [], (None, Identified.GONE)),
        # Two live keys have the other slot's date: which of them is it?
        ((slot(T1), slot(T2)), [key("A", T1), key("B", T1)], (None, Identified.UNMATCHED)),
    ],
)
def test_identify(
    slots: tuple[Slot, Slot],
    live: list[dict[str, Any]],
    expected: tuple[str | None, Identified],
) -> None:
    found, how = rotation.identify(Row("u", "arn", slots), 2, live)
    assert (found and found["AccessKeyId"], how) == expected
    mirrored = Row("u", "arn", (slots[1], slots[0]))
    assert rotation.identify(mirrored, 1, live) == (found, how)


SECONDS = st.integers(0, 5).map(lambda seconds: NOW - 300 * DAY + seconds * SECOND)
EVENTS = st.lists(st.sampled_from(["delete 1", "delete 2", "create", "switch 1", "switch 2"]))


@given(
    first=st.none() | SECONDS,
    second=st.none() | SECONDS,
    events=EVENTS,
    wanted=st.sampled_from([1, 2]),
    flip=st.booleans(),
    zone=OFFSETS,
    undated=st.sampled_from([0, 0, 0, 1, 2]),
)
def test_the_identified_key_is_the_true_one_of_the_slot_or_none(
    first: datetime | None,
    second: datetime | None,
    events: list[str],
    wanted: int,
    flip: bool,
    zone: timezone,
    undated: int,
) -> None:
    """A model of an account: what the report saw, and what happened to the user since."""
    truth: dict[int, dict[str, Any]] = {
        n: key(f"old-{n}", made) for n, made in ((1, first), (2, second)) if made
    }
    slots = [slot(first, bool(first)), slot(second, bool(second))]
    if undated in truth:
        slots[undated - 1] = slot(None, has_key=True)
    row = Row("u", "arn", (slots[0], slots[1]))
    clock = NOW - DAY
    for number, event in enumerate(events):
        clock += SECOND
        verb, _, which = event.partition(" ")
        if verb == "delete":
            truth.pop(int(which), None)
        elif verb == "switch" and int(which) in truth:
            truth[int(which)]["Status"] = "Inactive"
        elif verb == "create" and len(truth) < 2:
            truth[2 if 1 in truth else 1] = key(f"new-{number}", clock)
    live = [{**one, "CreateDate": one["CreateDate"].astimezone(zone)} for one in truth.values()]
    live.sort(key=lambda one: one["AccessKeyId"], reverse=flip)
    found, how = rotation.identify(row, wanted, live)
    assert (found is None) == (how not in (Identified.DATE, Identified.ELIMINATION))
    if found is not None:
        assert found in live
        assert found["AccessKeyId"] == truth[wanted]["AccessKeyId"]
    reported = row.slots[wanted - 1].last_rotated
    kept = truth.get(wanted)
    telling = first != second and undated not in (1 * bool(first), 2 * bool(second))
    if reported and kept and kept["AccessKeyId"].startswith("old") and telling:
        assert found is not None, "a key that can be told for sure was forgotten"


@given(
    made=st.lists(SECONDS, max_size=3),
    first=st.none() | SECONDS,
    second=st.none() | SECONDS,
)
def test_both_slots_are_never_given_one_and_the_same_key(
    made: list[datetime], first: datetime | None, second: datetime | None
) -> None:
    live = [key(f"k{number}", one) for number, one in enumerate(made)]
    row = Row("u", "arn", (slot(first, bool(first)), slot(second, bool(second))))
    one, _ = rotation.identify(row, 1, live)
    two, _ = rotation.identify(row, 2, live)
    assert one is None or one != two


# Exemptions


@pytest.mark.parametrize(
    ("value", "until"),
    [
        ("2026-11-24", date(2026, 11, 24)),
        (" 2027-03-31 ", date(2027, 3, 31)),
        ("9999-12-31", date(9999, 12, 31)),
        ("0001-01-01", date(1, 1, 1)),
        ("2028-02-29", date(2028, 2, 29)),
        # A date-time means the UTC day that it lies in.
        ("2027-03-31T00:00:00Z", date(2027, 3, 31)),
        ("2027-03-31T23:59:59Z", date(2027, 3, 31)),
        ("2027-03-31T23:59Z", date(2027, 3, 31)),
        ("2027-03-31T23:59:59.999999+00:00", date(2027, 3, 31)),
        ("2027-03-31T00:00:00+02:00", date(2027, 3, 30)),
        ("2027-03-31T02:00:00+02:00", date(2027, 3, 31)),
        ("2027-03-31T18:29:59-05:30", date(2027, 3, 31)),
        ("2027-03-31T18:30:00-05:30", date(2027, 4, 1)),
        ("2027-03-31T23:59:59-23:59", date(2027, 4, 1)),
        ("9999-12-31T23:59:59Z", date(9999, 12, 31)),
        ("9999-12-31T23:59:59-14:00", date(9999, 12, 31)),
        ("0001-01-01T00:00:00+14:00", date(1, 1, 1)),
        # Whose midnight?
        ("2027-03-31T00:00:00", None),
        ("2027-03-31T00:00", None),
        ("2027-03-31 00:00:00Z", None),
        ("2027-03-31t00:00:00z", None),
        ("2027-03-31T24:00:00Z", None),
        ("2027-03-31T00:60:00Z", None),
        ("2027-03-31T00:00:60Z", None),
        ("2027-03-31T00:00:00+24:00", None),
        ("2027-03-31T00:00:00+02:60", None),
        ("2027-03-31T00:00:00+0200", None),
        ("2027-03-31T00Z", None),
        ("2027-03-31Z", None),
        ("20270331T000000Z", None),
        ("", None),
        ("next spring", None),
        ("2027-02-30", None),
        ("2027-02-29", None),
        ("2027-13-01", None),
        ("2027-00-01", None),
        ("0000-01-01", None),
        ("10000-01-01", None),
        ("2027-3-31", None),
        ("2027-03-1", None),
        ("27-03-31", None),
        ("31-03-2027", None),
        ("03/31/2027", None),
        ("20270331", None),
        ("2027-W13-3", None),
        ("2027-090", None),
        ("2027-03-31 or later", None),
        ("until 2027-03-31", None),
        ("\uff12\uff10\uff12\uff17-03-31", None),
        ("true", None),
        ("0", None),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/St_Johns"])
def test_the_last_day_of_an_exemption(
    value: str, until: date | None, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert rotation.last_day(value) == until
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ("2026-11-24", "valid"),
        ("2026-11-25", "valid"),
        ("9999-12-31", "valid"),
        ("2026-11-24T00:00:00Z", "valid"),
        ("2026-11-24T23:00:00-02:00", "valid"),
        ("2026-11-23", "expired"),
        ("2026-11-23T23:59:59Z", "expired"),
        ("2026-11-24T00:00:00+02:00", "expired"),
        ("0001-01-01", "expired"),
        ("next spring", "unreadable"),
    ],
)
def test_the_whole_last_day_of_an_exemption_counts(value: str, state: str) -> None:
    tags = [{"Key": "other", "Value": "2030-01-01"}, {"Key": "t", "Value": value}]
    expected = Exemption("t", value, ExemptionState(state), rotation.last_day(value))
    for now in (NOW.replace(hour=0), NOW, NOW.replace(hour=23, minute=59, second=59)):
        assert rotation.exemption(tags, "t", now) == expected


@pytest.mark.parametrize("tags", [[], [{"Key": "tt", "Value": "2030-01-01"}]])
def test_no_tag_is_no_exemption(tags: list[dict[str, str]]) -> None:
    assert rotation.exemption(tags, "t", NOW) is None


def test_case_of_a_tag_does_not_count_as_in_iam() -> None:
    found = rotation.exemption([{"Key": "Keyrot", "Value": "2030-01-01"}], "keyrot", NOW)
    assert found == Exemption("keyrot", "2030-01-01", ExemptionState.VALID, date(2030, 1, 1))


@given(st.text() | st.from_regex(rotation.LAST_DAY, fullmatch=True))
def test_any_value_of_a_tag_can_be_read(value: str) -> None:
    found = rotation.exemption([{"Key": "t", "Value": value}], "t", NOW)
    assert found is not None
    assert (found.until is None) == (found.state is ExemptionState.UNREADABLE)


@given(st.dates())
def test_every_day_that_there_is_can_be_written(day: date) -> None:
    assert rotation.last_day(day.isoformat()) == day
    assert rotation.last_day(f"{day}T12:00:00Z") == day
