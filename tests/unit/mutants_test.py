# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Details that nothing else pins down; each was found as a mutant that survived (TESTING.md)."""

from __future__ import annotations

import csv
import io
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from c7n_keyrot import credential_report, matched_keys, rotation
from c7n_keyrot.credential_report import ReportError, parse

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=timezone.utc)
MADE = "2026-05-01T10:00:00+00:00"
COLUMNS = ("active", "last_rotated", "last_used_date", "last_used_region", "last_used_service")
NAMES = ["user", "arn", *(f"access_key_{slot}_{name}" for slot in (1, 2) for name in COLUMNS)]
FIRST = ("true", MADE, "2026-06-01T00:00:00+00:00", "eu-west-1", "s3")
SECOND = ("true", MADE, "2026-07-01T00:00:00+00:00", "us-east-1", "sqs")


def text(*rows: tuple[str, ...], names: list[str] = NAMES) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([names, *rows])
    return out.getvalue()


def row(user: str = "ana", account: str = "123456789012") -> tuple[str, ...]:
    return (user, f"arn:aws:iam::{account}:user/{user}", *FIRST, *SECOND)


def refused(content: str) -> str:
    with pytest.raises(ReportError) as raised:
        parse(content, NOW)
    return str(raised.value)


# The credential report


def test_both_slots_tell_of_their_last_use() -> None:
    found = parse(text(row()), NOW).rows["ana"].slots
    assert [(s.last_used_region, s.last_used_service) for s in found] == [
        ("eu-west-1", "s3"),
        ("us-east-1", "sqs"),
    ]
    assert [s.last_used_date and s.last_used_date.month for s in found] == [6, 7]


def test_without_columns_about_the_last_use_nothing_is_known_of_it() -> None:
    names = [name for name in NAMES if "last_used" not in name]
    content = text(("ana", row()[1], *FIRST[:2], *SECOND[:2]), names=names)
    for slot in parse(content, NOW).rows["ana"].slots:
        assert slot.last_used_date is slot.last_used_region is slot.last_used_service is None


def test_quotes_that_do_not_end_a_field_are_no_csv() -> None:
    """Read leniently, two rows could pass for one."""
    content = text(row()).replace("ana,", '"ana"x,', 1)
    assert refused(content).startswith("credential report: not CSV (")


def test_line_breaks_inside_of_a_name_are_kept() -> None:
    assert set(parse(text(row("a\r\nb"), row("a\nb"), row("a\rb")), NOW).rows) == {
        "a\r\nb",
        "a\nb",
        "a\rb",
    }


def test_a_refused_report_is_told_of_in_these_words() -> None:
    assert refused(text(row(), ("ben", "arn"))) == (
        "credential report: line 3 has not as many fields as the header; the report is cut or "
        "broken, run again later"
    )
    assert refused(text()) == (
        "credential report: its rows are missing, even the root user's; run again later"
    )
    assert refused(text(row(), row("ben", "111111111111"))) == (
        "credential report: its rows are of 2 accounts; run again later"
    )


def test_the_account_is_the_fifth_part_of_the_arn() -> None:
    assert parse(text(row()), NOW).account_id == "123456789012"
    assert parse(text(("ana", "a:b:c:d:e:f", *FIRST, *SECOND)), NOW).account_id == "e"
    assert parse(text(("ana", "a:b:c:d:e", *FIRST, *SECOND)), NOW).account_id == ""


class Waiting:
    """A client whose report is ready after so many answers, and a clock that doesn't begin at 0."""

    def __init__(self, answers: int) -> None:
        self.answers, self.now = answers, 1000.0
        self.pauses: list[float] = []
        self.waited: list[float] = []

    def generate_credential_report(self) -> dict[str, str]:
        self.answers -= 1
        return {"State": "STARTED" if self.answers >= 0 else "COMPLETE"}

    def get_credential_report(self) -> dict[str, Any]:
        return {"Content": b"", "GeneratedTime": NOW}

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def fetch(self, **limit: float) -> None:
        credential_report.fetch(
            self, progress=self.waited.append, sleep=self.sleep, clock=lambda: self.now, **limit
        )


def test_pauses_grow_by_half_up_to_ten_seconds() -> None:
    client = Waiting(12)
    client.fetch()
    assert client.pauses[:4] == [0.5, 0.75, 1.125, 1.6875]
    assert client.pauses[-2:] == [10, 10]
    assert client.waited[:3] == [0, 0.5, 1.25]


def test_a_pause_that_just_fits_into_the_limit_is_made() -> None:
    client = Waiting(1)
    client.fetch(limit=0.5)
    assert client.pauses == [0.5]


def test_without_a_limit_five_minutes_are_waited() -> None:
    with pytest.raises(ReportError, match=r"not ready after 300 s \(last answer of iam:Gen"):
        Waiting(1000).fetch()


# The rule


def test_days_count_to_the_microsecond_where_they_are_given_so() -> None:
    """Keys are of whole seconds; the days of an option needn't be."""
    nearly = 1.999999 / 86400
    assert timedelta(days=nearly) == timedelta(microseconds=1_999_999)
    assert rotation.is_older(NOW - timedelta(seconds=2), NOW, nearly)
    assert not rotation.is_older(NOW - timedelta(seconds=1), NOW, nearly)
    little_more = 1 + 1e-6 / 86400
    assert timedelta(days=little_more) == timedelta(days=1, microseconds=1)
    assert rotation.days_left(NOW, NOW, little_more) == 2
    assert rotation.days_left(NOW, NOW, 1) == 1


def test_a_keys_date_is_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    try:
        made = datetime(2026, 5, 1, 3, 0, 0, 123, timezone(timedelta(hours=-7)))
        assert rotation.created({"CreateDate": made}).isoformat() == MADE
    finally:
        monkeypatch.undo()
        time.tzset()


# Which keys are meant


def test_an_event_reaches_the_filters_that_are_watched() -> None:
    seen: list[Any] = []

    def process(users: Any, event: Any = None) -> Any:
        seen.append(event)
        return users

    element = SimpleNamespace(type="value", process=process)
    with matched_keys.watching([element]) as passed:
        element.process([{"UserName": "ana"}], "event")
        assert passed == {"0": {"ana"}}
        element.process = None  # so that leaving finds an attribute to take away
    assert seen == ["event"]


KEY = {"AccessKeyId": "AKIA1", "Status": "Active", "CreateDate": NOW}


def stale_record() -> dict[str, Any]:
    return {
        "filter": "stale-access-key",
        "path": "0",
        "access_key_id": "AKIA1",
        "status": "Active",
        "identified": "date",
    }


def test_records_of_a_user_who_was_not_read_name_no_key() -> None:
    user: dict[str, Any] = {"UserName": "ana", "c7n:keyrot": [stale_record()]}
    element = SimpleNamespace(type="stale-access-key", data={})
    matched_keys.settle([element], user, [KEY], {"0": {"ana"}}, unread=True)
    (record,) = user["c7n:keyrot"]
    assert record["access_key_id"] is None
    assert record["status"] is None
    assert record["identified"] == "unread"
    assert user["c7n:matched-keys"] == []


def test_a_user_who_was_not_read_and_has_no_record_has_no_key() -> None:
    user: dict[str, Any] = {"UserName": "ana"}
    matched_keys.settle([], user, [], {}, unread=True)
    assert user == {"UserName": "ana", "c7n:matched-keys": []}


@pytest.mark.parametrize(
    ("report", "meant"),
    [
        ({"access_keys": [{"last_rotated": NOW.isoformat(), "a": {"b": 1}, "b": 2}]}, True),
        ({"access_keys": [{"last_rotated": NOW.isoformat(), "a": {"b": 2}, "b": 1}]}, False),
        ({"access_keys": [{"last_rotated": MADE, "a": {"b": 1}}]}, False),
        ({"access_keys": []}, False),
        ({}, False),
        (None, False),
    ],
)
def test_stocks_credential_filter_is_asked_of_the_reports_entry_of_the_key(
    report: dict[str, Any] | None, meant: bool
) -> None:
    user: dict[str, Any] = {
        "UserName": "ana",
        "c7n:keyrot": [stale_record()],
        "c7n:credential-report": report,
    }
    filters = [
        SimpleNamespace(type="stale-access-key", data={}),
        SimpleNamespace(
            type="credential", data={"type": "credential", "key": "access_keys.a.b", "value": 1}
        ),
    ]
    passed = {"0": {"ana"}, "1": {"ana"}}
    matched_keys.settle(filters, user, [KEY], passed, unread=False)
    assert [key["AccessKeyId"] for key in user["c7n:matched-keys"]] == ["AKIA1"] * meant
