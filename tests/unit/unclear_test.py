# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""unclear-access-key: who needs a look, and that a policy which disables can leave them out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from c7n.exceptions import PolicyExecutionError, ResourceLimitExceeded
from in_memory import Custodian, Iam

from c7n_keyrot.core.records import KeyRecord

NEW, OLD, OLDER = 10, 200, 300
SECOND = 1 / 86400
ON, OFF = "Active", "Inactive"
STALE, EXEMPT, DISABLE = "stale-access-key", {"not": ["rotation-exempt"]}, "disable-access-key"
LEAVE_OUT = {"not": ["unclear-access-key"]}


def unclear(**options: Any) -> dict[str, Any]:
    return {"type": "unclear-access-key", **options}


def says(iam: Iam, name: str, active: str | None = None, rotated: str | None = None) -> None:
    """Let the report say something else of the user's second key."""
    for column, value in ((7, active), (8, rotated)):
        if value is not None:
            iam.rows[name][column] = value


ACCOUNT = {
    # name: keys, what the report says of the second one, whether it is unclear
    "twins": ((OLD, OLD), {}, True),
    "twins-one-off": (((OLD, OFF), OLD), {}, True),
    "twins-young": ((NEW, NEW), {}, False),
    "stale": ((NEW, OLD), {}, False),
    "fresh": ((OLD, NEW), {}, False),
    "inactive": ((NEW, (OLD, OFF)), {}, False),
    "no-second": ((OLD, None), {}, False),
    "no-keys": ((None, None), {}, False),
    "no-date": ((NEW, OLD), {"rotated": "N/A"}, True),
    "odd-date": ((NEW, OLD), {"rotated": "last year"}, True),
    "young-without-date": ((None, NEW), {"rotated": "N/A"}, True),
    "odd-status": ((NEW, OLD), {"active": "Expired"}, True),
    "odd-status-young": ((OLD, NEW), {"active": "Expired"}, True),
    "odd-status-off": ((NEW, (OLD, OFF)), {"active": "Expired"}, False),
    "off-without-date": ((NEW, (OLD, OFF)), {"rotated": "?"}, False),
    "all-off-without-date": (((NEW, OFF), (OLD, OFF)), {"active": "true", "rotated": "?"}, False),
}


@pytest.fixture
def account(iam: Iam) -> Iam:
    for name, (keys, report, _) in ACCOUNT.items():
        iam.add(name, *keys)
        says(iam, name, **report)
    return iam


@pytest.mark.parametrize("source", ["credential-report", "describe"])
def test_who_is_unclear(account: Iam, custodian: Custodian, source: str) -> None:
    expected = {name for name, (_, _, is_unclear) in ACCOUNT.items() if is_unclear}
    found = custodian.matched([unclear()], source=source)
    assert found == {name: [] for name in expected}


@pytest.mark.parametrize("order", [1, -1])
def test_who_is_unclear_is_left_out_and_all_others_are_done(
    account: Iam, custodian: Custodian, order: int
) -> None:
    filters = [STALE, LEAVE_OUT, EXEMPT][::order]
    users = custodian.run(filters, [DISABLE])
    assert [user["UserName"] for user in users] == ["stale"]
    assert account.changed == [("stale", "stale-2", OFF)]
    (record,) = users[0]["c7n:keyrot"]
    assert record["filter"] == STALE


# What may happen to user "u" since the report.
CHANGES: dict[str, Callable[[Iam], object]] = {
    "nothing": lambda iam: None,
    "one is deleted": lambda iam: iam.keys["u"].pop(),
    "one is disabled": lambda iam: iam.keys["u"][0].update(Status=OFF),
    "both are deleted": lambda iam: iam.keys["u"].clear(),
    "both are disabled": lambda iam: [key.update(Status=OFF) for key in iam.keys["u"]],
    "both are rotated": lambda iam: [key.update(CreateDate=iam.now) for key in iam.keys["u"]],
    "the user is gone": lambda iam: iam.users.pop("u"),
    "the name is another user's": lambda iam: iam.users["u"].update(
        CreateDate=iam.users["u"]["CreateDate"] + timedelta(seconds=1)
    ),
}
# Of one key that is left it isn't known which of the two it was.
STILL_UNCLEAR = {"nothing", "one is deleted", "one is disabled"}


@pytest.mark.parametrize("change", CHANGES)
def test_what_happened_since_the_report_counts(iam: Iam, custodian: Custodian, change: str) -> None:
    iam.add("u", OLD, OLD)
    CHANGES[change](iam)
    assert bool(custodian.matched([unclear()])) is (change in STILL_UNCLEAR)


@pytest.mark.parametrize(
    ("report", "change", "expected"),
    [
        ({"active": "Expired"}, "delete", False),
        ({"active": "Expired"}, "disable", False),
        ({"active": "Expired"}, "delete other", True),
        ({"active": "Expired"}, "disable other", True),
        ({"rotated": "?"}, "delete", True),  # it may be the other one that is gone
        ({"rotated": "?"}, "disable", True),
        ({"rotated": "?"}, "delete other", True),
        ({"rotated": "?"}, "disable other", True),
    ],
)
def test_what_happened_to_a_key_that_the_report_does_not_tell_readably(
    iam: Iam, custodian: Custodian, report: dict[str, str], change: str, expected: bool
) -> None:
    iam.add("u", OLDER, OLD)
    says(iam, "u", **report)
    verb, _, other = change.partition(" ")
    key = iam.key("u-1" if other else "u-2")
    if verb == "delete":
        iam.keys["u"].remove(key)
    else:
        key["Status"] = OFF
    assert custodian.matched([unclear()]) == ({"u": []} if expected else {})


@pytest.mark.parametrize(
    ("age", "options", "expected"),
    [
        (timedelta(days=90, seconds=1), {}, True),
        (timedelta(days=90), {}, False),
        (timedelta(days=7, seconds=1), {"days": 7}, True),
        (timedelta(days=7), {"days": 7}, False),
    ],
)
@pytest.mark.parametrize("slot", [1, 2])
def test_stale_is_to_the_second(
    iam: Iam,
    custodian: Custodian,
    at: datetime,
    age: timedelta,
    options: dict[str, Any],
    expected: bool,
    slot: int,
) -> None:
    iam.add("u", at - age, at - age)
    assert bool(custodian.matched([unclear(slot=slot, **options)])) is expected


def test_dates_that_fit_no_live_key_are_unclear(iam: Iam, custodian: Custodian) -> None:
    iam.add("lost", None, OLD)
    iam.add("drifted", NEW, OLD)
    for name in ("lost", "drifted"):
        iam.key(f"{name}-2")["CreateDate"] -= timedelta(days=1)
    # The other slot's key is identified, so the one that is left is known.
    assert custodian.matched([unclear()]) == {"lost": []}
    assert custodian.matched([STALE, LEAVE_OUT]) == {"drifted": ["drifted-2"]}


MONDAY = datetime(2026, 11, 23, 0, 0, 0, tzinfo=timezone.utc)
DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


@pytest.mark.parametrize("weekdays", [["Mon"], ["Tue", "Sun"], DAYS])
def test_weekdays_are_those_of_utc(
    iam: Iam, custodian: Custodian, clock: Callable[[datetime], datetime], weekdays: list[str]
) -> None:
    """Seven daily runs, of which some are a second before midnight."""
    iam.add("twins", MONDAY - timedelta(days=150), MONDAY - timedelta(days=150))
    iam.add("no-date", None, MONDAY - timedelta(days=150))
    says(iam, "no-date", rotated="N/A")
    matched = []
    for number, day in enumerate(DAYS):
        for hours in (timedelta(0), timedelta(hours=24, seconds=-1)):
            iam.now = clock(MONDAY + timedelta(days=number) + hours)
            calls = iam.calls["GetUser"]
            found = custodian.matched([unclear(weekdays=weekdays)])
            assert len(found) in (0, 2)
            assert (iam.calls["GetUser"] > calls) is bool(found), "no call on other days"
            if found:
                matched.append(day)
    assert matched == [day for day in DAYS if day in weekdays for _ in "ab"]


@pytest.mark.parametrize("name", ["twins", "no-date", "odd-status"])
def test_the_record_names_no_key_and_says_what_is_in_doubt(
    account: Iam, custodian: Custodian, name: str
) -> None:
    users = {user["UserName"]: user for user in custodian.run([unclear()])}
    user = users[name]
    (record,) = user["c7n:keyrot"]
    assert user["c7n:matched-keys"] == []
    assert KeyRecord.parse(record).filter == "unclear-access-key"
    assert record["access_key_id"] is record["status"] is None
    assert (record["verdict"], record["identified"]) == {
        "twins": ("stale", "ambiguous"),
        "no-date": ("unknown", "unmatched"),
        "odd-status": ("unknown", "date"),
    }[name]
    figures = [record[key] for key in ("last_rotated", "age_days", "deadline", "days_left")]
    if name == "no-date":
        assert figures == [None] * 4
        assert record["drift"] is False
    else:
        made = account.key(f"{name}-2")["CreateDate"]
        deadline = made + timedelta(days=90)
        assert figures == [made.isoformat(), OLD, deadline.isoformat(), 90 - OLD]


@pytest.mark.parametrize(
    "filters",
    [
        [{"or": [STALE, unclear()]}],
        [{"or": [unclear(), STALE]}],
        [{"or": [{"and": [STALE, LEAVE_OUT]}, unclear()]}],
    ],
)
def test_no_tree_makes_an_action_touch_an_unclear_key(
    account: Iam, custodian: Custodian, filters: list[Any]
) -> None:
    users = custodian.run(filters, [DISABLE])
    assert {"twins", "no-date", "stale"} <= {user["UserName"] for user in users}
    assert account.changed == [("stale", "stale-2", OFF)]


def test_stock_remove_keys_behind_it_touches_nothing(account: Iam, custodian: Custodian) -> None:
    custodian.run([unclear()], [{"type": "remove-keys", "matched": True, "disable": True}])
    assert account.changed == []


@pytest.mark.parametrize("kind", ["stale", "no-date"])
def test_whose_keys_cannot_be_read_is_no_doubt_but_an_error(
    iam: Iam, custodian: Custodian, kind: str
) -> None:
    """Such a user stays in the result of the policy that disables, never taken for clean."""
    iam.add("u", NEW, OLD)
    iam.add("other", NEW, OLD)
    if kind == "no-date":
        says(iam, "u", rotated="N/A")
    iam.errors["ListAccessKeys", "u"] = "AccessDenied"
    policy = custodian.policy([STALE, LEAVE_OUT], [DISABLE])
    if kind == "no-date":
        # The report alone makes it unclear, and the filter before has left it out.
        assert [user["UserName"] for user in policy.run()] == ["other"]
        with pytest.raises(PolicyExecutionError, match="'u': keys not read"):
            custodian.run([unclear()])
        return
    with pytest.raises(PolicyExecutionError, match="'u': keys not read"):
        policy.run()
    assert iam.changed == [("other", "other-2", OFF)]
    resources = (custodian.folder / "test" / "resources.json").read_text()
    assert '"u"' in resources


def test_who_is_left_out_does_not_count_for_max_resources(iam: Iam, custodian: Custodian) -> None:
    """Nothing would be done to them."""
    for number in range(3):
        iam.add(f"twins-{number}", OLD, OLD)
    for number in range(2):
        iam.add(f"stale-{number}", NEW, OLD)
    limit = {"max-resources": 2}
    assert len(custodian.run([STALE, LEAVE_OUT], [DISABLE], **limit)) == 2
    with pytest.raises(ResourceLimitExceeded):
        custodian.run([STALE], [DISABLE], **limit)


def test_its_own_policy_has_a_limit_of_all_users(iam: Iam, custodian: Custodian) -> None:
    for number in range(3):
        iam.add(f"twins-{number}", OLD, OLD)
    limit = {"amount": 1, "percent": 50, "op": "and"}
    with pytest.raises(ResourceLimitExceeded, match="found:3 total:3"):
        custodian.run([unclear()], **{"max-resources": limit})


def test_a_doubt_is_logged_once_in_a_run_whatever_filters_meet_it(
    account: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture
) -> None:
    custodian.run([{"or": [STALE, unclear()]}, {"not": [{"not": [unclear()]}]}])
    for text in ("'twins': key 2 can't be identified", "'no-date': key 2 is unknown"):
        assert len([one for one in caplog.records if text in one.getMessage()]) == 1
