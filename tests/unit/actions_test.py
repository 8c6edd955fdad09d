# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The actions touch the matched keys and nothing else, and every key gets an outcome."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError
from c7n.exceptions import PolicyExecutionError, PolicyValidationError
from in_memory import Custodian, Iam, client_error, outcomes_in
from pytest_mock import MockerFixture

from c7n_keyrot.aws import gate, settings
from c7n_keyrot.core import outcomes
from c7n_keyrot.core.outcomes import Outcome
from c7n_keyrot.custodian.elements import actions

NEW, OLD, OLDER = 10, 200, 300
STALE = {"type": "stale-access-key"}
INACTIVE = {"type": "stale-access-key", "status": "Inactive"}
DISABLE, DELETE = "disable-access-key", "delete-access-key"
HERE = "account 123456789012 (policy test)"
# Reasons, as outcomes and errors have them.
GONE = "the key was deleted"
NOT_FOUND = "AWS doesn't find the key under its user's name: it was deleted, or the user renamed"
MAYBE = "it may have taken effect"
UNSURE = "it is unknown whether it took effect"


def recorded(custodian: Custodian, name: str = outcomes.FILE) -> list[Outcome]:
    """Every line of a file of outcomes, by user and slot."""
    path: Path = custodian.folder / "test" / name
    found = outcomes_in(path) if path.exists() else ()
    return sorted(found, key=lambda line: (line.user, str(line.slot)))


def lines(custodian: Custodian) -> list[tuple[str, int | None, str | None, str]]:
    """(user, slot, key, outcome) of every outcome."""
    return [
        (line.user, line.slot, line.access_key_id, line.outcome) for line in recorded(custodian)
    ]


def reasons(custodian: Custodian) -> dict[str, str]:
    return {line.user: line.reason for line in recorded(custodian)}


@pytest.fixture
def ticking(mocker: MockerFixture) -> None:
    """A clock that is a second later at each look, so that a time which isn't renewed is seen."""
    seconds = (f"2026-11-24T08:{n // 60:02}:{n % 60:02}.000+00:00" for n in range(3600))
    mocker.patch.object(actions, "_now", side_effect=seconds.__next__)


@pytest.mark.parametrize(
    ("slot1", "slot2", "expected"),
    [
        (NEW, OLD, ["u-2"]),
        (OLD, OLDER, ["u-2"]),
        (OLDER, OLD, ["u-2"]),
        (None, OLD, ["u-2"]),
        ((OLDER, "Inactive"), OLD, ["u-2"]),
        (OLD, OLD, []),  # one second
        (OLD, NEW, []),
        (OLD, None, []),
        (NEW, (OLD, "Inactive"), []),
        (None, None, []),
    ],
)
def test_disable_hits_the_stale_second_key_and_nothing_else(
    iam: Iam, custodian: Custodian, slot1: Any, slot2: Any, expected: list[str]
) -> None:
    iam.add("u", slot1, slot2)
    before = iam.statuses()
    custodian.run([STALE], [DISABLE])
    assert iam.statuses() == {**before, **dict.fromkeys(expected, "Inactive")}
    assert [line for line in lines(custodian) if line[3] == "disabled"] == [
        ("u", 2, key, "disabled") for key in expected
    ]


def test_disable_in_both_slots(iam: Iam, custodian: Custodian) -> None:
    iam.add("both", OLDER, OLD)
    iam.add("first", OLD, NEW)
    custodian.run([{"or": [{**STALE, "slot": 1}, STALE]}], [DISABLE])
    assert lines(custodian) == [
        ("both", 1, "both-1", "disabled"),
        ("both", 2, "both-2", "disabled"),
        ("first", 1, "first-1", "disabled"),
    ]
    assert iam.statuses()["first-2"] == "Active"


def test_an_outcome_says_who_what_where_and_when(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    policy = custodian.policy([STALE], [DISABLE])
    policy.run()
    (line,) = outcomes_in(custodian.outcomes)
    assert (line.account_id, line.policy, line.action) == ("123456789012", "test", DISABLE)
    assert line.run == policy.ctx.execution_id
    assert line.time.endswith("+00:00")
    (returned,) = (custodian.folder / "test").glob("action-*")
    assert json.loads(returned.read_text()) == [vars(line)]


def test_a_second_run_does_nothing_and_keeps_the_first_ones_outcomes(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, OLD)
    custodian.run([STALE], [DISABLE])
    iam.key("bob-2")["Status"] = "Active"  # deliberately
    iam.changed.clear()
    custodian.run([STALE], [DISABLE])
    assert iam.changed == [("bob", "bob-2", "Inactive")]
    assert len(lines(custodian)) == 3


def test_dryrun_changes_nothing(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", NEW, OLD)
    custodian.options["dryrun"] = True
    assert [user["UserName"] for user in custodian.run([STALE], [DISABLE])] == ["ana"]
    assert iam.changed == []
    assert lines(custodian) == []


def test_delete_takes_only_inactive_keys(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", OLDER, (OLD, "Inactive"))
    iam.add("bob", OLDER, OLD)
    iam.add("cleo", (OLDER, "Inactive"), (NEW, "Inactive"))
    custodian.run([INACTIVE], [DELETE])
    assert iam.changed == [("ana", "ana-2", "deleted")]
    assert lines(custodian) == [("ana", 2, "ana-2", "deleted")]


def test_delete_refuses_a_key_that_was_active_when_matched(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", OLDER, OLD)
    iam.add("bob", NEW, (OLD, "Inactive"))
    custodian.run([{"or": [STALE, INACTIVE]}], [DELETE])
    assert iam.changed == [("bob", "bob-2", "deleted")]
    assert lines(custodian) == [
        ("ana", 2, "ana-2", "skipped"),
        ("bob", 2, "bob-2", "deleted"),
    ]


def test_delete_refuses_a_key_that_is_active_again(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    iam.add("ana", NEW, (OLD, "Inactive"))
    listed, live = itertools.count(), iam.list_access_keys

    def list_access_keys(UserName: str) -> Any:
        if next(listed):
            iam.key("ana-2")["Status"] = "Active"
        return live(UserName=UserName)

    mocker.patch.object(iam, "list_access_keys", list_access_keys)
    custodian.run([INACTIVE], [DELETE])
    assert iam.changed == []
    assert lines(custodian) == [("ana", 2, "ana-2", "skipped")]
    assert reasons(custodian)["ana"] == "the key is Active now, not Inactive"


def test_disable_then_delete_in_one_policy_deletes_nothing_just_disabled(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, (OLD, "Inactive"))
    custodian.run([{"or": [STALE, INACTIVE]}], [DISABLE, DELETE])
    assert iam.statuses() == {"ana-1": "Active", "ana-2": "Inactive", "bob-1": "Active"}


@pytest.mark.parametrize(
    ("code", "outcome", "ends_with_error"),
    [
        ("NoSuchEntity", "unknown", True),  # the user may have another name
        ("AccessDenied", "denied", True),
        ("AccessDeniedException", "denied", True),
        ("Throttling", "failed", True),
        ("ServiceFailure", "failed", True),
        ("EntityTemporarilyUnmodifiable", "failed", True),
    ],
)
@pytest.mark.parametrize("action", [DISABLE, DELETE])
def test_one_users_failure_stops_no_other_and_ends_the_run_with_an_error(
    iam: Iam, custodian: Custodian, code: str, outcome: str, ends_with_error: bool, action: str
) -> None:
    operation, status, done = {
        DISABLE: ("UpdateAccessKey", "Active", "disabled"),
        DELETE: ("DeleteAccessKey", "Inactive", "deleted"),
    }[action]
    for name in ("ana", "bob", "cleo"):
        iam.add(name, NEW, (OLD, status))
    iam.errors[operation, "bob-2"] = code
    filters = [{**STALE, "status": status}]
    reason = "AWS doesn't find" if outcome == "unknown" else code
    if ends_with_error:
        with pytest.raises(PolicyExecutionError, match=f"'bob'.*bob-2.*{reason}") as caught:
            custodian.run(filters, [action])
        assert "\n" not in str(caught.value)
    else:
        custodian.run(filters, [action])
    assert lines(custodian) == [
        ("ana", 2, "ana-2", done),
        ("bob", 2, "bob-2", outcome),
        ("cleo", 2, "cleo-2", done),
    ]


def test_a_failure_ends_the_run_only_after_the_actions_behind(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", NEW, OLD)
    iam.errors["UpdateAccessKey", "*"] = "AccessDenied"
    with pytest.raises(PolicyExecutionError):
        custodian.run([STALE], [DISABLE, DISABLE])
    assert len(lines(custodian)) == 2


def test_an_answer_that_was_lost_is_looked_up(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    for name in ("ana", "bob"):
        iam.add(name, NEW, OLD)
    update = iam.update_access_key

    def lost(UserName: str, **arguments: Any) -> Any:
        if UserName == "ana":  # took effect, and then the line was cut
            update(UserName=UserName, **arguments)
        raise ConnectionClosedError(endpoint_url="https://iam.amazonaws.com")

    mocker.patch.object(iam, "update_access_key", lost)
    with pytest.raises(PolicyExecutionError, match="'bob'"):
        custodian.run([STALE], [DISABLE])
    assert lines(custodian) == [
        ("ana", 2, "ana-2", "disabled"),
        ("bob", 2, "bob-2", "unknown"),
    ]


def test_what_fails_before_a_key_is_deleted_is_no_doubt(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    """Only its look at the key was lost: DeleteAccessKey was never called."""
    iam.add("ana", NEW, (OLD, "Inactive"))
    listed, seen = iam.list_access_keys, []

    def broken(**arguments: Any) -> Any:
        seen.append(arguments)
        if len(seen) > 1:
            raise ConnectionClosedError(endpoint_url="https://iam.amazonaws.com")
        return listed(**arguments)

    mocker.patch.object(iam, "list_access_keys", broken)
    with pytest.raises(PolicyExecutionError, match="iam:ListAccessKeys failed"):
        custodian.run([INACTIVE], [DELETE])
    assert iam.calls["DeleteAccessKey"] == 0
    assert lines(custodian) == [("ana", 2, "ana-2", "failed")]


def test_what_is_left_alone_gets_an_outcome_with_the_reason(
    iam: Iam, custodian: Custodian, caplog: pytest.LogCaptureFixture
) -> None:
    """Ambiguous and unidentified ones are warnings: the run ends well."""
    iam.add("ambiguous", OLD, OLD)
    iam.add("lost", None, OLD)
    iam.keys["lost"][0]["CreateDate"] = iam.keys["ambiguous"][0]["CreateDate"].replace(year=2020)
    with caplog.at_level(logging.WARNING):
        custodian.run([STALE], [DISABLE])
    assert iam.changed == []
    assert lines(custodian) == [("ambiguous", 2, None, "skipped"), ("lost", 2, None, "skipped")]
    assert "the same second" in reasons(custodian)["ambiguous"]
    assert "date" in reasons(custodian)["lost"]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_an_unread_user_is_skipped_and_ends_the_run_with_an_error(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, OLD)
    iam.errors["ListAccessKeys", "ana"] = "AccessDenied"
    with pytest.raises(PolicyExecutionError, match="'ana'.*iam:ListAccessKeys is denied"):
        custodian.run([STALE], [DISABLE])
    assert lines(custodian) == [("ana", 2, None, "skipped"), ("bob", 2, "bob-2", "disabled")]


def test_a_key_that_another_filter_rules_out_is_skipped(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", OLDER, OLD)
    first = {"type": "access-key", "key": "AccessKeyId", "value": "ana-1"}
    custodian.run([STALE, first], [DISABLE])
    assert iam.changed == []
    assert lines(custodian) == [("ana", 2, None, "skipped")]


def test_users_matched_by_stock_filters_alone_are_not_touched(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", NEW, NEW)
    active = {"type": "access-key", "key": "Status", "value": "Active"}
    users = custodian.run([{"or": [STALE, active]}], [DISABLE])
    assert len(users) == 1
    assert iam.changed == []
    assert lines(custodian) == []


def test_nothing_is_touched_that_cannot_be_recorded(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    for number in range(40):
        iam.add(f"user{number}", NEW, OLD)
    mocker.patch.object(outcomes, "append", side_effect=OSError(28, "No space left on device"))
    with pytest.raises(PolicyExecutionError, match="No space left on device"):
        custodian.run([STALE], [DISABLE])
    assert iam.changed == []


@pytest.mark.parametrize("lost", [False, True])
def test_no_second_key_is_touched_where_outcomes_cannot_be_written(
    iam: Iam,
    custodian: Custodian,
    mocker: MockerFixture,
    caplog: pytest.LogCaptureFixture,
    lost: bool,
) -> None:
    """Though the intents can, and though it is unknown what became of the first key."""
    for number in range(40):
        iam.add(f"user{number:02}", NEW, OLD)
    (custodian.folder / "test" / outcomes.FILE).mkdir(parents=True)
    update = iam.update_access_key

    def slow(UserName: str, **arguments: Any) -> Any:
        time.sleep(0.02)
        update(UserName=UserName, **arguments)
        if lost and UserName == "user00":
            raise ConnectionClosedError(endpoint_url="https://iam.amazonaws.com")

    mocker.patch.object(iam, "update_access_key", slow)
    with pytest.raises(PolicyExecutionError, match="can't be written"):
        custodian.run([STALE], [DISABLE])
    assert {user for user, _, _ in iam.changed} == {"user00"}
    assert "40 matched: 1 disabled, 0 skipped, 0 denied, 0 failed, 39 not tried" in caplog.text


def test_an_intent_stands_on_disk_before_the_key_is_touched(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    iam.add("ana", NEW, OLD)
    seen = []
    path = custodian.folder / "test" / outcomes.INTENTS_FILE

    def update(**arguments: Any) -> Any:
        seen.extend(outcomes_in(path))
        raise KeyboardInterrupt  # killed

    mocker.patch.object(iam, "update_access_key", update)
    with pytest.raises(KeyboardInterrupt):
        custodian.run([STALE], [DISABLE])
    assert [(line.access_key_id, line.outcome) for line in seen] == [("ana-2", "intended")]


def test_every_outcome_has_a_time_of_its_own(iam: Iam, custodian: Custodian, ticking: None) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("twins", OLD, OLD)
    custodian.run([STALE], [DISABLE])
    (intent,) = recorded(custodian, outcomes.INTENTS_FILE)
    ana, twins = recorded(custodian)
    assert len({intent.time, ana.time, twins.time}) == 3
    assert intent.time < ana.time


def test_the_words_about_what_cannot_be_recorded(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, told: Callable[[], list[str]]
) -> None:
    for name in ("ana", "bob"):
        iam.add(name, NEW, OLD)
    mocker.patch.object(settings, "WORKERS", 1)
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


def test_an_error_of_the_disk_that_has_no_number_is_told_in_its_own_words(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    iam.add("ana", NEW, OLD)
    mocker.patch.object(outcomes, "append", side_effect=OSError("worn out"))
    with pytest.raises(PolicyExecutionError, match="worn out"):
        custodian.run([STALE], [DISABLE])


def test_the_reasons_of_outcomes(
    iam: Iam, custodian: Custodian, told: Callable[[], list[str]], mocker: MockerFixture
) -> None:
    for name in ("denied", "gone", "lost", "ruled-out", "twins", "well"):
        iam.add(name, OLD if name == "twins" else NEW, OLD)
    iam.errors["UpdateAccessKey", "denied-2"] = "AccessDenied"
    iam.errors["UpdateAccessKey", "lost-2"] = "NoSuchEntity"
    disable = iam.update_access_key

    def update_access_key(**params: Any) -> Any:
        if params["UserName"] == "gone":
            iam.keys["gone"] = [key for key in iam.keys["gone"] if key["AccessKeyId"] != "gone-2"]
        return disable(**params)

    mocker.patch.object(iam, "update_access_key", update_access_key)
    other = {"type": "access-key", "key": "AccessKeyId", "op": "ne", "value": "ruled-out-2"}
    with pytest.raises(PolicyExecutionError):
        custodian.run([STALE, other], [DISABLE])
    assert {line.user: (line.outcome, line.reason) for line in recorded(custodian)} == {
        "denied": ("denied", "AccessDenied"),
        "gone": ("gone", GONE),
        "lost": ("unknown", NOT_FOUND),
        "ruled-out": ("skipped", "another filter of the policy excludes this key"),
        "twins": ("skipped", "two keys were created in the same second"),
        "well": ("disabled", ""),
    }
    assert {
        line.partition(f"{HERE}: ")[2]
        for line in told()
        if ": key " in line and "identified" not in line
    } == {
        "user 'denied': key denied-2: iam:UpdateAccessKey is denied (AccessDenied)",
        "user 'gone': key gone-2: gone (the key was deleted)",
        f"user 'lost': key lost-2: {NOT_FOUND}",
        "user 'ruled-out': key in slot 2: skipped (another filter of the policy excludes this key)",
        "user 'twins': key in slot 2: skipped (two keys were created in the same second)",
        "user 'well': key well-2: disabled",
    }


def test_each_key_has_one_outcome_in_a_policy_with_both_actions(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", NEW, OLD)
    iam.add("bob", NEW, (OLD, "Inactive"))
    custodian.run([{"or": [STALE, INACTIVE]}], [DISABLE, DELETE])
    found = [(line.user, line.action, line.outcome, line.reason) for line in recorded(custodian)]
    assert found == [
        ("ana", DISABLE, "disabled", ""),
        ("bob", DISABLE, "skipped", "the key is Inactive, not Active"),
        ("bob", DELETE, "deleted", ""),
    ]
    assert {line.reason for line in recorded(custodian, outcomes.INTENTS_FILE)} == {""}


def test_an_expiring_record_hides_no_key_that_is_left_alone(iam: Iam, custodian: Custodian) -> None:
    iam.add("twins", OLD, OLD)
    soon = {"type": "expiring-access-key", "slot": 1, "days": OLD + 10}
    custodian.run([{"or": [soon, STALE, {**STALE, "days": 100}]}], [DISABLE])
    (line,) = recorded(custodian)
    assert (line.slot, line.access_key_id, line.outcome) == (2, None, "skipped")


@pytest.mark.parametrize("action", [DISABLE, DELETE])
@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ([], "needs a stale-access-key filter"),
        ([{"type": "expiring-access-key"}], "needs a stale-access-key filter"),
        (["rotation-exempt"], "needs a stale-access-key filter"),
        ([{"not": [STALE]}], "not inside of a not block"),
        ([{"not": [{"or": [STALE, INACTIVE]}]}], "not inside of a not block"),
        ([{"type": "access-key", "key": "Status", "value": "Active"}], "needs a stale-access-key"),
    ],
)
def test_an_action_without_a_filter_that_means_keys_has_no_meaning(
    custodian: Custodian, action: str, filters: list[Any], says: str
) -> None:
    with pytest.raises(PolicyValidationError, match=says) as caught:
        custodian.policy(filters, [action]).validate()
    assert "policy test" in str(caught.value)
    assert action in str(caught.value)


@pytest.mark.parametrize(
    ("action", "filters", "good"),
    [
        (DISABLE, [STALE], True),
        (DISABLE, [INACTIVE], False),
        (DELETE, [INACTIVE], True),
        (DELETE, [STALE], False),
        (DISABLE, [{"or": [STALE, INACTIVE]}], True),
        (DELETE, [{"or": [{"and": [INACTIVE]}, STALE]}], True),
    ],
)
def test_an_action_needs_a_filter_of_its_status(
    custodian: Custodian, action: str, filters: list[Any], good: bool
) -> None:
    policy = custodian.policy(filters, [action])
    if good:
        policy.validate()
    else:
        with pytest.raises(PolicyValidationError, match="status: (Active|Inactive)"):
            policy.validate()


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ([], "needs a stale-access-key filter in the policy (not inside of a not block)"),
        ([INACTIVE], "acts on active keys only: add status: Active to stale-access-key"),
    ],
)
def test_the_words_about_a_filter_that_is_missing(
    custodian: Custodian, filters: list[Any], words: str
) -> None:
    with pytest.raises(PolicyValidationError) as caught:
        custodian.policy(filters, [DISABLE]).validate()
    assert str(caught.value) == f"policy test: disable-access-key: {words}"


@pytest.mark.parametrize("option", ["matched", "age", "dryrun"])
@pytest.mark.parametrize(("action", "filters"), [(DISABLE, [STALE]), (DELETE, [INACTIVE])])
def test_actions_have_no_options(
    custodian: Custodian, action: str, filters: list[Any], option: str
) -> None:
    with pytest.raises(PolicyValidationError, match=f"unknown option '{option}'"):
        custodian.policy(filters, [{"type": action, option: True}]).validate()


@pytest.mark.parametrize(("status", "code"), [(500, "InternalFailure"), (504, "504")])
def test_after_a_servers_error_the_key_is_looked_at(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, ticking: None, status: int, code: str
) -> None:
    """Neither AWS's 500 nor a gateway's 504 tells whether the call took effect."""
    for name in ("ana", "bob"):
        iam.add(name, NEW, OLD)
    update = iam.update_access_key

    def broken(**arguments: Any) -> None:
        if arguments["UserName"] == "ana":
            update(**arguments)
        raise client_error(code, "UpdateAccessKey", status)

    mocker.patch.object(iam, "update_access_key", broken)
    with pytest.raises(PolicyExecutionError, match=f"'bob'.*{code}"):
        custodian.run([STALE], [DISABLE])
    assert lines(custodian) == [("ana", 2, "ana-2", "disabled"), ("bob", 2, "bob-2", "unknown")]
    assert reasons(custodian) == {
        "ana": f"the answer was lost ({code})",
        "bob": f"{MAYBE} ({code})",
    }
    first, second = recorded(custodian, outcomes.INTENTS_FILE)
    ana, bob = recorded(custodian)
    # The first key alone: of no other is it known yet that its outcome can be recorded.
    assert first.time < second.time < ana.time < bob.time


def test_a_call_that_took_effect_though_its_answer_was_lost_ends_the_run_well(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    iam.add("ana", NEW, OLD)
    update = iam.update_access_key

    def broken(**arguments: Any) -> None:
        update(**arguments)
        raise client_error("504", "UpdateAccessKey", 504)

    mocker.patch.object(iam, "update_access_key", broken)
    custodian.run([STALE], [DISABLE])
    assert lines(custodian) == [("ana", 2, "ana-2", "disabled")]


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
        # Its user may have got another name.
        (
            "NoSuchEntity",
            "NoSuchEntity",
            "unknown",
            f"{MAYBE} (NoSuchEntity)",
            f"iam:ListAccessKeys failed (NoSuchEntity); {UNSURE}",
        ),
        ("ServiceFailure", "gone", "gone", GONE, None),
    ],
)
def test_what_became_of_a_key_whose_first_try_got_no_answer(
    iam: Iam,
    custodian: Custodian,
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
        raise client_error(lost, "UpdateAccessKey")

    iam.update_access_key = update
    if words:
        with pytest.raises(PolicyExecutionError) as caught:
            custodian.run([STALE], [DISABLE])
        assert str(caught.value).startswith("user 'ana': key ana-2: iam:")
        assert str(caught.value).endswith(words)
    else:
        custodian.run([STALE], [DISABLE])
    (line,) = recorded(custodian)
    assert (line.outcome, line.reason) == (outcome, reason)


def test_after_a_lost_deletion_nothing_is_known_of_a_user_who_is_gone(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    """A user who got another name still has the key."""
    iam.add("ana", NEW, (OLD, "Inactive"))

    def broken(**params: Any) -> None:
        del iam.users["ana"]
        raise ConnectionClosedError(endpoint_url="https://iam.amazonaws.com/")

    mocker.patch.object(iam, "delete_access_key", broken)
    with pytest.raises(PolicyExecutionError, match=UNSURE):
        custodian.run([INACTIVE], [DELETE])
    assert lines(custodian) == [("ana", 2, "ana-2", "unknown")]


@pytest.mark.parametrize(
    ("lost", "outcome", "reason"),
    [
        (False, "gone", GONE),
        (True, "deleted", "the answer was lost (NoSuchEntity)"),
    ],
)
def test_a_deletion_that_was_tried_twice(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, lost: bool, outcome: str, reason: str
) -> None:
    """The second try finds nothing, since the first one took effect."""
    iam.add("ana", NEW, (OLD, "Inactive"))

    def missing(**arguments: Any) -> None:
        iam.keys["ana"].pop()
        gate._current.lost = lost
        raise client_error("NoSuchEntity", "DeleteAccessKey")

    mocker.patch.object(iam, "delete_access_key", missing)
    custodian.run([INACTIVE], [DELETE])
    (line,) = recorded(custodian)
    assert (line.outcome, line.reason) == (outcome, reason)


def test_a_deletion_whose_answer_was_lost(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    iam.add("ana", NEW, (OLD, "Inactive"))
    delete = iam.delete_access_key

    def broken(**arguments: Any) -> None:
        delete(**arguments)
        raise client_error("InternalFailure", "DeleteAccessKey", 503)

    mocker.patch.object(iam, "delete_access_key", broken)
    custodian.run([INACTIVE], [DELETE])
    (line,) = recorded(custodian)
    assert (line.outcome, line.reason) == ("deleted", "the answer was lost (InternalFailure)")


def test_a_key_that_is_gone_before_its_deletion(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    iam.add("ana", NEW, (OLD, "Inactive"))
    listed, live = itertools.count(), iam.list_access_keys

    def list_access_keys(UserName: str) -> Any:
        if next(listed):
            iam.keys["ana"].pop()
        return live(UserName=UserName)

    mocker.patch.object(iam, "list_access_keys", list_access_keys)
    custodian.run([INACTIVE], [DELETE])
    (line,) = recorded(custodian)
    assert (line.outcome, line.reason) == ("gone", GONE)


def test_a_deletion_whose_look_before_it_failed_is_no_lost_answer(
    iam: Iam, custodian: Custodian, mocker: MockerFixture
) -> None:
    """Nothing was deleted: by whom the key is gone later is no work of the run."""
    iam.add("ana", (OLD, "Inactive"), NEW)
    listing = iam.list_access_keys

    def later(**params: Any) -> Any:
        if iam.calls["ListAccessKeys"]:
            iam.keys["ana"].pop(0)
            mocker.stop(patched)
            raise ConnectionClosedError(endpoint_url="https://iam.amazonaws.com/")
        return listing(**params)

    patched = mocker.patch.object(iam, "list_access_keys", later)
    inactive = {**INACTIVE, "slot": 1}
    with pytest.raises(PolicyExecutionError, match="iam:ListAccessKeys failed"):
        custodian.run([inactive], [DELETE])
    assert lines(custodian) == [("ana", 1, "ana-1", "failed")]
    assert not iam.calls["DeleteAccessKey"]


def given_away(iam: Iam) -> None:
    iam.rename("ana", "anna")
    iam.add("ana", 10, 300)
    iam.users["ana"]["UserId"] = "AIDAother"
    iam.keys["ana"] = []


@pytest.mark.parametrize("asks", [True, False], ids=["last used allowed", "denied"])
@pytest.mark.parametrize("lost", [False, True], ids=["answered", "lost"])
@pytest.mark.parametrize("rename", [lambda iam: iam.rename("ana", "anna"), given_away])
@pytest.mark.parametrize("action", [DISABLE, DELETE])
def test_the_key_of_a_user_who_was_renamed_before_the_call_is_in_doubt(
    iam: Iam,
    custodian: Custodian,
    mocker: MockerFixture,
    action: str,
    rename: Callable[[Iam], None],
    lost: bool,
    asks: bool,
) -> None:
    """It is as active as before; and a lost deletion isn't proven by another user's listing."""
    status, method = {
        DISABLE: ("Active", "update_access_key"),
        DELETE: ("Inactive", "delete_access_key"),
    }[action]
    iam.add("ana", NEW, (OLD, status))
    if not asks:
        iam.errors["GetAccessKeyLastUsed", "*"] = "AccessDenied"
    real = getattr(iam, method)

    def renamed(**params: Any) -> Any:
        if "anna" not in iam.users:
            rename(iam)
            if lost:
                raise ConnectionClosedError(endpoint_url="https://iam.amazonaws.com/")
        return real(**params)

    mocker.patch.object(iam, method, renamed)
    mocker.patch.object(settings, "LAG", 0.01)
    with pytest.raises(PolicyExecutionError, match="ana-2"):
        custodian.run([{**STALE, "status": status}], [action])
    (line,) = recorded(custodian)
    assert line.outcome == "unknown"
    assert iam.key("ana-2")["Status"] == status
    assert ("'anna' now" in line.reason) is (asks and not lost)


@pytest.mark.parametrize("status", ["Expired", "inactive", "Suspended", ""])
@pytest.mark.parametrize("reported", ["Active", "Inactive"])
@pytest.mark.parametrize("action", [DISABLE, DELETE])
def test_a_key_of_another_status_is_never_touched(
    iam: Iam, custodian: Custodian, status: str, reported: str, action: str
) -> None:
    """Only Active is active, only Inactive is inactive; the filters match no other."""
    iam.add("ana", NEW, (OLD, reported))
    iam.key("ana-2")["Status"] = status
    wanted = {DISABLE: STALE, DELETE: INACTIVE}[action]
    assert custodian.run([wanted], [action]) == []
    assert iam.changed == []


@pytest.mark.parametrize("status", ["Expired", "inactive", "Active"])
def test_a_key_that_is_not_inactive_when_it_would_be_deleted_is_left(
    iam: Iam, custodian: Custodian, mocker: MockerFixture, status: str
) -> None:
    iam.add("ana", NEW, (OLD, "Inactive"))
    listed, live = itertools.count(), iam.list_access_keys

    def list_access_keys(**params: Any) -> Any:
        if next(listed):
            iam.key("ana-2")["Status"] = status
        return live(**params)

    mocker.patch.object(iam, "list_access_keys", list_access_keys)
    custodian.run([INACTIVE], [DELETE])
    assert lines(custodian) == [("ana", 2, "ana-2", "skipped")]
    assert iam.changed == []


def test_keys_in_pages_of_one(iam: Iam, custodian: Custodian) -> None:
    iam.page = 1
    iam.add("ana", NEW, OLD)
    iam.add("bob", OLD, OLD)
    custodian.run([STALE], [DISABLE])
    assert iam.changed == [("ana", "ana-2", "Inactive")]
