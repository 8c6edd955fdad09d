# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Who is exempt, which exemptions end soon or last too long, and which exempt nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from c7n.exceptions import PolicyExecutionError
from in_memory import Custodian, Iam
from pytest_mock import MockerFixture

NEW, OLD = 10, 200
TAG = "keyrot-exempt-until"


def stale() -> dict[str, Any]:
    return {"type": "stale-access-key"}


def exempt(**options: Any) -> dict[str, Any]:
    data = {name.replace("_", "-"): value for name, value in options.items()}
    return {"type": "rotation-exempt", **data}


def day(days: int) -> str:
    return f"{datetime.now(timezone.utc) + timedelta(days=days):%Y-%m-%d}"


@pytest.mark.parametrize("source", ["credential-report", "describe"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("value", "state"),
    [
        # (the tag, or days from today; what it is)
        (None, None),
        (0, "valid"),
        (30, "valid"),
        (-1, "expired"),
        ("x", "unreadable"),
    ],
)
def test_exempt_users_are_left_alone_and_ended_exemptions_are_told(
    iam: Iam,
    custodian: Custodian,
    caplog: pytest.LogCaptureFixture,
    source: str,
    first: bool,
    value: str | int | None,
    state: str | None,
) -> None:
    value = day(value) if isinstance(value, int) else value
    iam.add("u", NEW, OLD, {"a": "b", **({"keyrot-exempt-until": value} if value else {})})
    filters = [{"not": ["rotation-exempt"]}, stale()]
    users = custodian.run(filters if first else filters[::-1], source=source)
    assert bool(users) is (state != "valid")
    if users:
        told = users[0]["c7n:keyrot"][0]["exemption"]
        assert told == (state and {"tag": "keyrot-exempt-until", "value": value, "state": state})
    warned = [record.getMessage() for record in caplog.records if "not exempt" in record.message]
    assert len(warned) == (state in ("expired", "unreadable"))


@pytest.mark.parametrize("order", [1, -1])
def test_the_exemption_that_is_told_is_todays_not_the_caches(
    iam: Iam, custodian: Custodian, order: int
) -> None:
    custodian.options.update(cache="memory", cache_period=15)
    iam.add("u", NEW, OLD)
    filters = [{"not": ["rotation-exempt"]}, stale()][::order]
    custodian.run(filters, source="describe")
    iam.tag("u", keyrot_exempt_until="2020-01-01")
    (user,) = custodian.run(filters, source="describe")
    told = user["c7n:keyrot"][0]["exemption"]
    assert told == {"tag": "keyrot-exempt-until", "value": "2020-01-01", "state": "expired"}


def test_another_tag(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD, {"keyrot-exempt-until": day(9)})
    iam.add("bob", NEW, OLD, {"leave": day(9)})
    filters = [stale(), {"not": [{"type": "rotation-exempt", "tag": "leave"}]}]
    assert custodian.matched(filters) == {"ana": ["ana-2"]}


def test_exempt_users_can_be_listed(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD, {"keyrot-exempt-until": day(9)})
    iam.add("bob", NEW, OLD)
    assert custodian.matched(["rotation-exempt"]) == {"ana": []}


@pytest.mark.parametrize("source", ["credential-report", "describe"])
@pytest.mark.parametrize("order", [1, -1])
def test_who_is_exempted_while_aws_makes_the_report_is_exempt(
    iam: Iam, custodian: Custodian, source: str, order: int, mocker: MockerFixture
) -> None:
    """Which may take minutes."""
    iam.add("ana", NEW, OLD)

    def made() -> dict[str, str]:
        iam.tag("ana", keyrot_exempt_until="2999-01-01")
        return {"State": "COMPLETE"}

    mocker.patch.object(iam, "generate_credential_report", made)
    filters = [{"not": ["rotation-exempt"]}, stale()][::order]
    assert custodian.run(filters, ["disable-access-key"], source=source) == []
    assert iam.changed == []


@pytest.mark.parametrize("order", [1, -1])
def test_exempt_users_stay_exempt_though_the_tags_of_others_cannot_be_read(
    iam: Iam, custodian: Custodian, order: int
) -> None:
    for name in ("ana", "bob", "cleo", "dan"):
        iam.add(name, NEW, OLD, {"keyrot-exempt-until": "2999-01-01"})
    iam.later_errors.update(ana="AccessDenied", bob="NoSuchEntity")
    filters = [stale(), {"not": ["rotation-exempt"]}][::order]
    with pytest.raises(PolicyExecutionError) as caught:
        custodian.run(filters, ["disable-access-key"], source="describe")
    assert str(caught.value) == (
        "user 'ana': user and tags not read, iam:GetUser is denied (AccessDenied)"
    )
    assert iam.changed == []


def test_a_user_without_any_tag_has_an_empty_list_of_tags(iam: Iam, custodian: Custodian) -> None:
    """IAM's answer has no list then."""
    iam.add("ana", NEW, OLD)
    del iam.users["ana"]["Tags"]
    (ana,) = custodian.run([stale(), {"not": ["rotation-exempt"]}])
    assert ana["Tags"] == []


def test_the_words_about_exemptions_that_exempt_nobody(
    iam: Iam, custodian: Custodian, told: Callable[[], list[str]]
) -> None:
    iam.add("past", NEW, OLD, {TAG: "2020-01-01"})
    iam.add("vague", NEW, OLD, {TAG: "spring"})
    custodian.run([stale(), {"not": ["rotation-exempt"]}], ["disable-access-key"])
    here = "account 123456789012 (policy test): user"
    assert f"{here} 'past': {TAG} '2020-01-01' has passed: not exempt" in told()
    assert f"{here} 'vague': {TAG} 'spring' is not a date (YYYY-MM-DD): not exempt" in told()


# Which exemptions match

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=timezone.utc)
DATES = {
    "none": None,
    "long-ago": "2020-01-01",
    "yesterday": "2026-11-24",
    "today": "2026-11-25",
    "in-14": "2026-12-09",
    "in-15": "2026-12-10",
    "in-365": "2027-11-25",
    "in-366": "2027-11-26",
    "for-ever": "9999-12-31",
    "as-time": "2026-12-09T23:59:59Z",
    "words": "next spring 2050",
    "us-date": "12/31/2050",
}
VALID = {"today", "in-14", "in-15", "in-365", "in-366", "for-ever", "as-time"}
EXPIRED, UNREADABLE = {"long-ago", "yesterday"}, {"words", "us-date"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, VALID),
        ({"state": "valid"}, VALID),
        ({"state": "expired"}, EXPIRED),
        ({"state": "unreadable"}, UNREADABLE),
        ({"state": "any"}, VALID | EXPIRED | UNREADABLE),
        ({"ends_within": 14}, {"today", "in-14", "as-time"}),
        ({"ends_within": 13.9}, {"today"}),
        ({"ends_within": 15}, {"today", "in-14", "in-15", "as-time"}),
        ({"longer_than": 365}, {"in-366", "for-ever"}),
        ({"longer_than": 364.9}, {"in-365", "in-366", "for-ever"}),
        ({"longer_than": 366}, {"for-ever"}),
        ({"longer_than": 365_000}, {"for-ever"}),
        ({"ends_within": 365, "longer_than": 14}, {"in-15", "in-365"}),
        ({"state": "any", "ends_within": 14}, {"today", "in-14", "as-time"} | EXPIRED),
        ({"state": "any", "longer_than": 365}, {"in-366", "for-ever"}),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/St_Johns"])
def test_states_and_lengths(
    iam: Iam,
    custodian: Custodian,
    clock: Callable[[datetime], datetime],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    expected: set[str],
    zone: str,
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for now in (NOW.replace(hour=0), NOW, NOW.replace(hour=23, minute=59, second=59)):
            iam.now = clock(now)
            for name, value in DATES.items():
                iam.add(name, NEW, OLD, {TAG: value} if value else {})
            assert custodian.matched([exempt(**options)]).keys() == expected
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("state", ["valid", "expired", "unreadable", "any"])
def test_other_tags_have_states_as_well(iam: Iam, custodian: Custodian, state: str) -> None:
    iam.add("ana", NEW, OLD, {"leave": "2020-01-01", TAG: "2999-01-01"})
    found = custodian.matched([exempt(tag="leave", state=state)])
    assert list(found) == (["ana"] if state in ("expired", "any") else [])


def test_a_date_time_exempts_until_the_end_of_its_utc_day(
    iam: Iam, custodian: Custodian, clock: Callable[[datetime], datetime]
) -> None:
    iam.now = clock(NOW)
    iam.add("until-today", NEW, OLD, {TAG: "2026-11-25T00:00:00Z"})
    iam.add("until-yesterday", NEW, OLD, {TAG: "2026-11-25T01:00:00+02:00"})
    iam.add("whose-day", NEW, OLD, {TAG: "2027-11-25T00:00:00"})
    custodian.run([stale(), {"not": ["rotation-exempt"]}], ["disable-access-key"])
    assert {name for name, _, _ in iam.changed} == {"until-yesterday", "whose-day"}
