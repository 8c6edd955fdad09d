# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The option `usage`: which keys are asked about, and that nothing is decided by the answer."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from c7n.exceptions import PolicyExecutionError, PolicyValidationError, ResourceLimitExceeded
from in_memory import HEADER, Custodian, Iam

from c7n_keyrot.aws.event_history import Pacer
from c7n_keyrot.core.records import KeyRecord

STALE: dict[str, Any] = {"type": "stale-access-key", "usage": 7}
EXPIRING: dict[str, Any] = {"type": "expiring-access-key", "usage": 7}
EAST, WEST = "us-east-1", "eu-west-1"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here waits: the pace is event_history_test's."""
    monkeypatch.setattr(Pacer, "wait", lambda self, until: True)


def use(iam: Iam, key_id: str, region: str = EAST, **changes: Any) -> None:
    detail = {"sourceIPAddress": "203.0.113.7", "userAgent": "aws-cli/2.15.30"}
    entry = {
        "EventTime": iam.now - timedelta(hours=2),
        "EventName": "ListBuckets",
        "EventSource": "s3.amazonaws.com",
        "CloudTrailEvent": json.dumps(detail),
        **changes,
    }
    iam.events.setdefault((region, key_id), []).append(entry)


def last_used_in(iam: Iam, region: str) -> None:
    """Let the credential report say so of ana's second key."""
    for column, value in (("date", iam.now.isoformat()), ("region", region), ("service", "s3")):
        iam.rows["ana"][HEADER.index(f"access_key_2_last_used_{column}")] = value


def usages(users: list[dict[str, Any]]) -> dict[str, Any]:
    """The usage by key id, of each record that has one."""
    records = [KeyRecord.parse(record) for user in users for record in user["c7n:keyrot"]]
    return {record.access_key_id: record.usage for record in records if record.usage is not None}


def test_it_is_off_unless_it_is_asked_for(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", None, 200)
    (user,) = custodian.run(["stale-access-key"])
    assert user["c7n:keyrot"][0]["usage"] is None
    assert iam.calls["LookupEvents"] == 0


def test_the_record_of_a_matched_key_has_who_uses_it(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", 10, 200)
    use(iam, "ana-2")
    use(iam, "ana-1", CloudTrailEvent="{}")
    found = usages(custodian.run([STALE]))
    assert list(found) == ["ana-2"]
    (group,) = found["ana-2"].groups
    assert (group.action, group.source, group.agent) == (
        "s3:ListBuckets",
        "203.0.113.7",
        "aws-cli/2.15",
    )
    assert (found["ana-2"].days, found["ana-2"].regions) == (7, [EAST])


def test_an_expiring_key_is_asked_about_as_well(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", None, 85)
    use(iam, "ana-2")
    (user,) = custodian.run([EXPIRING])
    assert user["c7n:matched-keys"] == []
    assert usages([user])["ana-2"].events == 1


def test_only_matched_keys_are_asked_about(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", None, 200)
    iam.add("fresh", None, 20)
    iam.add("exempt", None, 200, {"keyrot-exempt-until": "2999-01-01"})
    iam.add("left-out", None, 200)
    iam.add("twin", 200, 200)
    found = custodian.run(
        [
            STALE,
            {"not": ["rotation-exempt"]},
            {"type": "value", "key": "UserName", "op": "ne", "value": "left-out"},
        ]
    )
    assert [user["UserName"] for user in found] == ["ana", "twin"]
    assert list(usages(found)) == ["ana-2"]
    assert iam.calls["LookupEvents"] == 1


def test_a_key_that_two_filters_mean_is_asked_about_once(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", None, 200)
    custodian.run([{"or": [STALE, {**STALE, "days": 100}]}])
    assert iam.calls["LookupEvents"] == 1


def test_the_region_of_the_last_use_is_asked_as_well(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", None, 200)
    last_used_in(iam, WEST)
    use(iam, "ana-2", WEST)
    use(iam, "ana-2", EAST)
    use(iam, "ana-2", "ap-south-1")
    usage = usages(custodian.run([STALE]))["ana-2"]
    assert (usage.regions, usage.events) == ([WEST, EAST], 2)


@pytest.mark.parametrize("dry_run", [False, True])
def test_nobody_waits_for_it_in_a_run_that_max_resources_stops(
    iam: Iam, custodian: Custodian, dry_run: bool
) -> None:
    custodian.options["dryrun"] = dry_run
    for name in ("ana", "bob"):
        iam.add(name, None, 200)
    with pytest.raises(ResourceLimitExceeded):
        custodian.run([STALE], ["disable-access-key"], **{"max-resources": 1})
    assert iam.calls["LookupEvents"] == 0
    custodian.run([STALE], ["disable-access-key"], **{"max-resources": 2})
    assert iam.calls["LookupEvents"] == 2


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException", "Anything"])
def test_where_it_is_not_known_the_key_is_disabled_all_the_same_and_the_run_fails(
    iam: Iam, custodian: Custodian, code: str
) -> None:
    iam.add("ana", None, 200)
    iam.errors["LookupEvents", "*"] = code
    with pytest.raises(PolicyExecutionError, match=f"us-east-1 can't be read.*{code}"):
        custodian.run([STALE], ["disable-access-key"])
    assert iam.changed == [("ana", "ana-2", "Inactive")]
    (line,) = custodian.outcomes.read_text("utf-8").splitlines()
    assert json.loads(line)["outcome"] == "disabled"


def test_in_a_dry_run_the_users_are_written_and_the_run_fails(
    iam: Iam, custodian: Custodian
) -> None:
    iam.add("ana", None, 200)
    iam.errors["LookupEvents", EAST] = "AccessDeniedException"
    custodian.options["dryrun"] = True
    with pytest.raises(PolicyExecutionError, match="LookupEvents is denied"):
        custodian.run([STALE], ["disable-access-key"])
    assert iam.changed == []
    users = json.loads((custodian.folder / "test" / "resources.json").read_text("utf-8"))
    usage = usages(users)["ana-2"]
    assert (usage.known, list(usage.unknown)) == (False, [EAST])


def test_what_one_region_hides_the_other_shows(iam: Iam, custodian: Custodian) -> None:
    iam.add("ana", None, 200)
    last_used_in(iam, WEST)
    use(iam, "ana-2", WEST)
    iam.errors["LookupEvents", EAST] = "AccessDeniedException"
    custodian.options["dryrun"] = True
    with pytest.raises(PolicyExecutionError):
        custodian.run([STALE])
    users = json.loads((custodian.folder / "test" / "resources.json").read_text("utf-8"))
    usage = usages(users)["ana-2"]
    assert (usage.regions, list(usage.unknown), usage.events) == ([WEST], [EAST], 1)


@pytest.mark.parametrize("days", [0, 0.5, 91, "7", True, None])
def test_days_are_those_that_the_history_has(custodian: Custodian, days: Any) -> None:
    for element in ("stale-access-key", "expiring-access-key"):
        with pytest.raises(PolicyValidationError, match="usage must be a number from 1 to 90"):
            custodian.policy([{"type": element, "usage": days}]).validate()


def test_a_history_that_is_cut_off_is_a_warning(
    iam: Iam,
    custodian: Custodian,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Pacer, "wait", lambda self, until: False)
    iam.add("ana", None, 200)
    with caplog.at_level(logging.WARNING, "custodian.keyrot"):
        (user,) = custodian.run([STALE], ["disable-access-key"])
    assert "history of us-east-1 is read in part for 1 key" in caplog.text
    assert usages([user])["ana-2"].unknown == {EAST: "not read in time"}
    assert iam.changed == [("ana", "ana-2", "Inactive")]
