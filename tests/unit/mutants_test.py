# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Details that nothing else pins down; each was found as a mutant that survived (TESTING.md)."""

from __future__ import annotations

import csv
import io
import itertools
import logging
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from c7n.exceptions import PolicyExecutionError, PolicyValidationError

from c7n_keyrot import (
    actions,
    credential_report,
    matched_keys,
    outcomes,
    rotation,
)
from c7n_keyrot import iam as gate
from c7n_keyrot.credential_report import ReportError, parse
from c7n_keyrot.outcomes import Outcome

HERE = "account 123456789012 (policy test)"
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


def test_an_empty_line_is_no_row() -> None:
    header, *rows = text(row("ana"), row("bob")).splitlines()
    spaced = "\n".join([header, rows[0], "", rows[1], "", ""])
    assert parse(spaced, NOW).rows == parse(text(row("ana"), row("bob")), NOW).rows


def test_without_its_column_a_user_has_no_date() -> None:
    """None of the other columns is taken for it, though a date stands in all that may have one."""
    names = [
        "user",
        "access_key_1_last_rotated",
        "arn",
        *NAMES[2:3],
        *NAMES[4:],
        "password_changed",
    ]
    first, arn, *rest = row("ana")
    fields = (first, MADE, arn, rest[0], *rest[2:], MADE)
    (ana,) = parse(text(fields, names=names), NOW).rows.values()
    assert ana.created is None
    assert ana.slots[0].last_rotated is not None


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
    with pytest.raises(ReportError, match=r"not there after 29\d s \(iam:Gen.* says STARTED"):
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


# Filters and actions

STALE = {"type": "stale-access-key"}
INACTIVE = {"type": "stale-access-key", "status": "Inactive"}
DISABLE, DELETE = "disable-access-key", "delete-access-key"
NEW, OLD = 10, 200


def lines_of(custodian: Any, name: str = outcomes.FILE) -> list[Outcome]:
    return sorted(outcomes.read(custodian.outcomes.parent / name), key=lambda line: line.user)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "custodian.keyrot")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("turned", [False, True])
def test_the_successor_is_found_in_any_order_of_the_keys(
    iam: Any, custodian: Any, turned: bool
) -> None:
    iam.add("ana", NEW, OLD)
    iam.used["ana-1"] = iam.now
    if turned:
        iam.keys["ana"].reverse()
    assert custodian.matched([{**STALE, "superseded": True}]) == {"ana": ["ana-2"]}


def test_a_reminder_that_is_not_due_costs_no_call(iam: Any, custodian: Any) -> None:
    iam.add("ana", NEW, 83.5)
    custodian.run([{"type": "expiring-access-key", "remind-at": [1]}])
    assert iam.calls.keys() == {"GenerateCredentialReport", "GetCredentialReport"}


@pytest.mark.parametrize("order", [1, -1])
def test_behind_a_user_whose_tags_cannot_be_read_the_exempt_stay_exempt(
    iam: Any, custodian: Any, order: int
) -> None:
    for name in ("ana", "bob", "cleo", "dan"):
        iam.add(name, NEW, OLD, {"keyrot-exempt-until": "2999-01-01"})
    iam.later_errors.update(ana="AccessDenied", bob="NoSuchEntity")
    filters = [STALE, {"not": ["rotation-exempt"]}][::order]
    with pytest.raises(PolicyExecutionError) as caught:
        custodian.run(filters, [DISABLE], source="describe")
    assert str(caught.value) == (
        "user 'ana': user and tags not read, iam:GetUser is denied (AccessDenied)"
    )
    assert iam.changed == []


def test_who_has_no_tag_at_all_has_none_in_the_notice(iam: Any, custodian: Any) -> None:
    """IAM leaves the list out then."""
    iam.add("ana", NEW, OLD)
    del iam.users["ana"]["Tags"]
    (ana,) = custodian.run([STALE, {"not": ["rotation-exempt"]}])
    assert ana["Tags"] == []


def test_another_user_of_the_name_is_no_warning(iam: Any, custodian: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "custodian.keyrot")
    iam.add("ana", NEW, OLD)
    iam.users["ana"]["CreateDate"] += timedelta(seconds=1)
    assert custodian.run([STALE], [DISABLE]) == []
    (record,) = [record for record in caplog.records if "another one" in record.message]
    assert record.levelno == logging.INFO


GONE = "the key or its user is gone meanwhile"
UPDATE = "user 'ana': key ana-2: iam:UpdateAccessKey"
UNSURE = "it is unknown whether it took effect"
MAYBE = "it may have taken effect"


@pytest.mark.parametrize(
    ("lost", "then", "outcome", "reason", "words"),
    [
        # What the last try was told, what the look finds; what is recorded, and how the run ends.
        (
            "AccessDenied",
            "Active",
            "unknown",
            f"{MAYBE} (AccessDenied)",
            f"is denied (AccessDenied); {UNSURE}",
        ),
        (
            "ServiceFailure",
            "Active",
            "unknown",
            f"{MAYBE} (ServiceFailure)",
            f"failed (ServiceFailure); {UNSURE}",
        ),
        (
            "AccessDenied",
            "ExpiredToken",
            "unknown",
            f"{MAYBE} (ExpiredToken)",
            f"iam:ListAccessKeys failed (ExpiredToken); {UNSURE}",
        ),
        ("NoSuchEntity", "NoSuchEntity", "gone", GONE, None),
        ("ServiceFailure", "gone", "gone", GONE, None),
    ],
)
def test_what_became_of_a_key_whose_first_try_got_no_answer(
    iam: Any,
    custodian: Any,
    lost: str,
    then: str,
    outcome: str,
    reason: str,
    words: str | None,
) -> None:
    iam.add("ana", NEW, OLD)

    def update(**arguments: Any) -> None:
        if then == "gone":
            iam.keys["ana"].pop()
        elif then != "Active":
            iam.errors["ListAccessKeys", "ana"] = then
        gate._current.lost = True  # as the gate notes it of an earlier try
        raise ClientError({"Error": {"Code": lost}}, "UpdateAccessKey")

    iam.update_access_key = update
    if words:
        with pytest.raises(PolicyExecutionError) as caught:
            custodian.run([STALE], [DISABLE])
        assert str(caught.value).startswith("user 'ana': key ana-2: iam:")
        assert str(caught.value).endswith(words)
    else:
        custodian.run([STALE], [DISABLE])
    (line,) = lines_of(custodian)
    assert (line.outcome, line.reason) == (outcome, reason)


def test_words_about_users_left_alone(iam: Any, custodian: Any, told: Any) -> None:
    iam.add("twins", OLD, OLD)
    iam.add("lost", None, OLD)
    iam.keys["lost"][0]["CreateDate"] -= timedelta(days=7)
    iam.add("odd", NEW, OLD)
    iam.rows["odd"][7] = "Expired"
    iam.add("past", NEW, OLD, {"keyrot-exempt-until": "2020-01-01"})
    iam.add("vague", NEW, OLD, {"keyrot-exempt-until": "spring"})
    custodian.run([STALE, {"not": ["rotation-exempt"]}], [DISABLE])
    key = f"{HERE}: user 'twins': key 2 can't be identified"
    assert f"{key} (two keys of one second): left alone" in told()
    why = "no live key fits the credential report's dates"
    assert f"{key.replace('twins', 'lost')} ({why}): left alone" in told()
    assert (
        f"{HERE}: user 'odd': key 2 is unknown: the credential report has it, but its status "
        "or last rotation can't be read; look at it, nothing is done"
    ) in told()
    tag = "keyrot-exempt-until"
    assert f"{HERE}: user 'past': {tag} '2020-01-01' has passed: not exempt" in told()
    vague = f"user 'vague': {tag} 'spring' is not a date (YYYY-MM-DD): not exempt"
    assert f"{HERE}: {vague}" in told()


def test_words_about_last_uses(
    iam: Any, custodian: Any, told: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("ana", "bob"):
        iam.add(name, NEW, OLD)
    iam.errors["GetAccessKeyLastUsed", "ana-2"] = "NoSuchEntity"
    iam.errors["GetAccessKeyLastUsed", "bob-2"] = "AccessDenied"
    with pytest.raises(PolicyExecutionError) as caught:
        custodian.run([{**STALE, "unused-days": 30}], [DISABLE])
    assert f"{HERE}: user 'ana': a key is gone meanwhile" in told()
    # Nothing to look at.
    assert {r.levelname for r in caplog.records if "'ana'" in r.getMessage()} == {"INFO"}
    assert str(caught.value) == (
        "user 'bob': last use not read, iam:GetAccessKeyLastUsed is denied (AccessDenied)"
    )


def test_figures_of_a_record(iam: Any, custodian: Any) -> None:
    iam.add("ana", NEW, OLD + 0.26)
    iam.add("far", None, 1)
    (user,) = custodian.run([STALE])
    assert user["c7n:keyrot"][0]["age_days"] == 200.3
    (user,) = custodian.run(
        [{"type": "expiring-access-key", "days": 365_000, "notice": 364_999.5, "slot": 2}],
        name="other",
    )[1:]
    assert (
        user["c7n:keyrot"][0]["deadline"]
        == (iam.now + timedelta(days=364_999)).replace(microsecond=0).isoformat()
    )


def test_validation_says_what_there_is(custodian: Any) -> None:
    def refused_with(filters: list[Any], actions: list[Any]) -> str:
        with pytest.raises(PolicyValidationError) as caught:
            custodian.policy(filters, actions).validate()
        return str(caught.value)

    assert refused_with([{"type": "rotation-exempt", "x": 1}], []) == (
        "policy test: rotation-exempt: unknown option 'x'; there are ends-within, longer-than, "
        "state, tag"
    )
    assert refused_with([], [DISABLE]) == (
        "policy test: disable-access-key: needs a stale-access-key filter in the policy (not "
        "inside of a not block)"
    )
    assert refused_with([INACTIVE], [DISABLE]) == (
        "policy test: disable-access-key: acts on active keys only: add status: Active to "
        "stale-access-key"
    )


def test_an_expiring_record_hides_no_key_that_is_left_alone(iam: Any, custodian: Any) -> None:
    iam.add("twins", OLD, OLD)
    soon = {"type": "expiring-access-key", "slot": 1, "days": OLD + 10}
    custodian.run([{"or": [soon, STALE, {**STALE, "days": 100}]}], [DISABLE])
    (line,) = lines_of(custodian)
    assert (line.slot, line.access_key_id, line.outcome) == (2, None, "skipped")


def test_one_policy_with_both_actions_speaks_once_of_each_key(iam: Any, custodian: Any) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, (OLD, "Inactive"))
    custodian.run([{"or": [STALE, INACTIVE]}], [DISABLE, DELETE])
    found = [(line.user, line.action, line.outcome, line.reason) for line in lines_of(custodian)]
    assert found == [
        ("ana", DISABLE, "disabled", ""),
        ("bob", DISABLE, "skipped", "the key is Inactive, not Active"),
        ("bob", DELETE, "deleted", ""),
    ]
    assert {line.reason for line in lines_of(custodian, outcomes.INTENTS_FILE)} == {""}


def test_reasons_of_outcomes(iam: Any, custodian: Any, told: Any) -> None:
    for name in ("denied", "gone", "ruled-out", "twins", "well"):
        iam.add(name, OLD if name == "twins" else NEW, OLD)
    iam.errors["UpdateAccessKey", "denied-2"] = "AccessDenied"
    iam.errors["UpdateAccessKey", "gone-2"] = "NoSuchEntity"
    other = {"type": "access-key", "key": "AccessKeyId", "op": "ne", "value": "ruled-out-2"}
    with pytest.raises(PolicyExecutionError):
        custodian.run([STALE, other], [DISABLE])
    assert {line.user: (line.outcome, line.reason) for line in lines_of(custodian)} == {
        "denied": ("denied", "AccessDenied"),
        "gone": ("gone", "the key or its user is gone meanwhile"),
        "ruled-out": ("skipped", "another filter of the policy doesn't mean this key"),
        "twins": ("skipped", "ambiguous: two keys of one second can't be told apart"),
        "well": ("disabled", ""),
    }
    assert {
        line.partition(f"{HERE}: ")[2]
        for line in told()
        if ": key " in line and "identified" not in line
    } == {
        "user 'denied': key denied-2: iam:UpdateAccessKey is denied (AccessDenied)",
        "user 'gone': key gone-2: gone (the key or its user is gone meanwhile)",
        "user 'ruled-out': key in slot 2: skipped (another filter of the policy doesn't mean this "
        "key)",
        "user 'twins': key in slot 2: skipped (ambiguous: two keys of one second can't be told "
        "apart)",
        "user 'well': key well-2: disabled",
    }


def ticks() -> Iterator[str]:
    """Yield the seconds of an hour."""
    return (f"2026-11-24T08:{second // 60:02}:{second % 60:02}.000+00:00" for second in range(3600))


def server_error(operation: str, status: int, retries: int = 0) -> ClientError:
    answer: Any = {"Error": {"Code": "InternalFailure"}}
    answer["ResponseMetadata"] = {"HTTPStatusCode": status, "RetryAttempts": retries}
    return ClientError(answer, operation)


def test_after_a_servers_error_it_is_asked_what_became_of_the_key(
    iam: Any, custodian: Any, mocker: Any
) -> None:
    for name in ("ana", "bob"):
        iam.add(name, NEW, OLD)
    update = iam.update_access_key

    def broken(**arguments: Any) -> None:
        if arguments["UserName"] == "ana":
            update(**arguments)
        raise server_error("UpdateAccessKey", 500)

    mocker.patch.object(iam, "update_access_key", broken)
    # A clock that ticks at each look, so that a time which isn't renewed is seen.
    mocker.patch.object(actions, "_now", side_effect=ticks().__next__)
    with pytest.raises(PolicyExecutionError, match="'bob'.*InternalFailure"):
        custodian.run([STALE], [DISABLE])
    ana, bob = lines_of(custodian)
    assert (ana.outcome, ana.reason) == ("disabled", "the answer was lost (InternalFailure)")
    assert (bob.outcome, bob.reason) == ("unknown", f"{MAYBE} (InternalFailure)")
    first, second = lines_of(custodian, outcomes.INTENTS_FILE)
    # The first key alone: of no other is it known yet that it can be recorded.
    assert first.time < ana.time < second.time < bob.time


def test_every_outcome_has_a_time_of_its_own(iam: Any, custodian: Any, mocker: Any) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("twins", OLD, OLD)
    mocker.patch.object(actions, "_now", side_effect=ticks().__next__)
    custodian.run([STALE], [DISABLE])
    (intent,) = lines_of(custodian, outcomes.INTENTS_FILE)
    ana, twins = lines_of(custodian)
    assert len({intent.time, ana.time, twins.time}) == 3
    assert intent.time < ana.time


@pytest.mark.parametrize(
    ("lost", "outcome", "reason"),
    [
        (False, "gone", "the key or its user is gone meanwhile"),
        (True, "deleted", "the answer was lost (NoSuchEntity)"),
    ],
)
def test_a_deletion_that_was_tried_twice(
    iam: Any, custodian: Any, mocker: Any, lost: bool, outcome: str, reason: str
) -> None:
    """The second try finds nothing, since the first one took effect."""
    iam.add("ana", NEW, (OLD, "Inactive"))

    def missing(**arguments: Any) -> None:
        iam.keys["ana"].pop()
        gate._current.lost = lost
        raise ClientError({"Error": {"Code": "NoSuchEntity"}}, "DeleteAccessKey")

    mocker.patch.object(iam, "delete_access_key", missing)
    custodian.run([INACTIVE], [DELETE])
    (line,) = lines_of(custodian)
    assert (line.outcome, line.reason) == (outcome, reason)


def test_a_deletion_whose_answer_was_lost(iam: Any, custodian: Any, mocker: Any) -> None:
    iam.add("ana", NEW, (OLD, "Inactive"))
    delete = iam.delete_access_key

    def broken(**arguments: Any) -> None:
        delete(**arguments)
        raise server_error("DeleteAccessKey", 503)

    mocker.patch.object(iam, "delete_access_key", broken)
    custodian.run([INACTIVE], [DELETE])
    (line,) = lines_of(custodian)
    assert (line.outcome, line.reason) == ("deleted", "the answer was lost (InternalFailure)")


def test_a_key_that_is_gone_before_its_deletion(iam: Any, custodian: Any, mocker: Any) -> None:
    iam.add("ana", NEW, (OLD, "Inactive"))
    listed, live = itertools.count(), iam.list_access_keys

    def list_access_keys(UserName: str) -> Any:
        if next(listed):
            iam.keys["ana"].pop()
        return live(UserName=UserName)

    mocker.patch.object(iam, "list_access_keys", list_access_keys)
    custodian.run([INACTIVE], [DELETE])
    (line,) = lines_of(custodian)
    assert (line.outcome, line.reason) == ("gone", "the key is gone meanwhile")


def test_words_about_what_cannot_be_recorded(
    iam: Any, custodian: Any, mocker: Any, told: Any
) -> None:
    for name in ("ana", "bob"):
        iam.add(name, NEW, OLD)
    mocker.patch.object(gate, "WORKERS", 1)
    append = outcomes.append

    def full(path: Any, line: Outcome) -> None:
        if path.name == outcomes.FILE:
            raise OSError(28, "No space left on device", "x")
        append(path, line)

    mocker.patch.object(outcomes, "append", full)
    with pytest.raises(PolicyExecutionError):
        custodian.run([STALE], [DISABLE])
    start, why = f"{HERE}: user", "can't be written (No space left on device)"
    assert f"{start} 'ana': key ana-2: disabled, but keyrot-outcomes.jsonl {why}" in told()
    assert f"{HERE}: 1 keys not tried, since keyrot-outcomes.jsonl {why}: 'bob' bob-2" in told()
    assert iam.changed == [("ana", "ana-2", "Inactive")]


def test_an_error_of_the_disk_without_a_text(iam: Any, custodian: Any, mocker: Any) -> None:
    iam.add("ana", NEW, OLD)
    mocker.patch.object(outcomes, "append", side_effect=OSError("worn out"))
    with pytest.raises(PolicyExecutionError, match="worn out"):
        custodian.run([STALE], [DISABLE])


@pytest.mark.parametrize("whole", ["reduce", "count"])
def test_a_filter_on_all_users_sees_them_all(iam: Any, custodian: Any, whole: str) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, NEW)
    first = {
        "reduce": {"type": "reduce", "limit": 9},
        "count": {"type": "value", "value_type": "resource_count", "op": "eq", "value": 2},
    }[whole]
    assert custodian.matched([first, STALE]) == {"ana": ["ana-2"]}
    assert iam.calls["GetUser"] == 2


@pytest.mark.parametrize(
    ("filters", "users"),
    [
        ([{"and": [STALE]}], {"ana"}),
        ([{"or": [STALE, {**STALE, "slot": 1}]}], {"ana", "cleo"}),
        ([{"or": [STALE, {"tag:x": "y"}]}], {"ana", "bob", "cleo"}),
    ],
)
def test_blocks_narrow_the_candidates(
    iam: Any, custodian: Any, filters: list[Any], users: set[str]
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, NEW)
    iam.add("cleo", OLD, NEW)
    custodian.run(filters)
    assert iam.calls["GetUser"] == len(users)
