# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import enum
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from c7n_keyrot.core.credential_report import Row, Slot
from c7n_keyrot.core.records import KeyRecord, OtherKey, Why, description, other_key, parse
from c7n_keyrot.core.rotation import Identified, Verdict
from c7n_keyrot.core.usage import Group, Usage

NOW = datetime(2026, 7, 19, 9, tzinfo=timezone.utc)
USED = NOW - timedelta(days=1)
OTHER = OtherKey("AKIA1", "Active", "2026-07-01T00:00:00+00:00", 18.4, True, None, None, None, "ci")
GROUP = Group("s3:ListBuckets", "1.2.3.4", "aws-cli/2.15", 3, "t", "t", {"AccessDenied": 1})
USAGE = Usage(7, "t", ["us-east-1"], {"eu-west-1": "denied"}, 4, [GROUP], 1, 1, True)
RECORD = KeyRecord(
    filter="stale-access-key",
    path="0",
    run="run",
    verdict=Verdict.STALE,
    slot=2,
    access_key_id="AKIA2",
    status="Active",
    identified=Identified.DATE,
    drift=False,
    last_rotated="2026-01-01T00:00:00+00:00",
    age_days=200.4,
    days=90,
    deadline="2026-04-01T00:00:00+00:00",
    days_left=-109,
    last_used_date=None,
    last_used_service=None,
    last_used_region=None,
    report_generated="2026-07-19T08:00:00+00:00",
    other_key=OTHER,
)


@pytest.mark.parametrize("kind", [KeyRecord, OtherKey])
def test_every_field_is_documented(kind: Any) -> None:
    for field in dataclasses.fields(kind):
        assert f"``{field.name}``" in kind.__doc__, field.name


@pytest.mark.parametrize("kind", [Why, Identified])
def test_each_reason_has_one_sentence_of_its_own(kind: type[enum.Enum]) -> None:
    texts = [word.text for word in kind]  # type: ignore[attr-defined]
    assert all(texts)
    assert len(set(texts)) == len(texts)
    assert all(kind(word.value) is word and json.dumps(word) == f'"{word.value}"' for word in kind)
    # Where reasons of both kinds are one, so is the sentence.
    assert Why.GONE.text == Identified.GONE.text
    assert Why.UNREAD.text == Identified.UNREAD.text


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        dataclasses.replace(RECORD, usage=USAGE),
        dataclasses.replace(RECORD, other_key=None, exemption={"tag": "t", "state": "expired"}),
        dataclasses.replace(
            RECORD,
            verdict=Verdict.UNKNOWN,
            access_key_id=None,
            status=None,
            identified=Identified.UNMATCHED,
            **dict.fromkeys(("last_rotated", "age_days", "deadline", "days_left", "other_key")),
        ),
    ],
)
def test_a_record_comes_back_from_json_as_it_was(record: KeyRecord) -> None:
    plain = json.loads(json.dumps(record.annotation()))
    assert type(plain["verdict"]) is str
    assert KeyRecord.parse(plain) == record


def used() -> dict[str, Any]:
    return dataclasses.asdict(USAGE)


def changed(name: str, value: Any) -> dict[str, Any]:
    return {**RECORD.annotation(), name: value}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "NoneType"),
        ([], "list"),
        ({}, "fields differ"),
        (changed("more", 1), "fields differ"),
        (changed("version", 2), "version 1"),
        (changed("slot", "2"), "slot is '2'"),
        (changed("slot", True), "slot is True"),
        (changed("drift", 1), "drift is 1"),
        (changed("age_days", float("nan")), "age_days is nan"),
        (changed("age_days", float("inf")), "age_days is inf"),
        (changed("days", None), "days is None"),
        (changed("days", 10**400), "days is 1000"),
        (changed("exemption", {"tag": 1}), "exemption is"),
        (changed("verdict", "odd"), "odd"),
        (changed("identified", None), "identified is None"),
        (changed("other_key", "AKIA1"), "other_key is 'AKIA1'"),
        (changed("other_key", {}), "fields differ"),
        (changed("other_key", {**vars(OTHER), "age_days": "1"}), "age_days is '1'"),
        (changed("usage", []), "usage is"),
        (changed("usage", {}), "fields differ"),
        (changed("usage", {**used(), "events": "4"}), "events is '4'"),
        (changed("usage", {**used(), "regions": [1]}), "regions is"),
        (changed("usage", {**used(), "groups": ["x"]}), "groups is"),
        (changed("usage", {**used(), "groups": [{}]}), "fields differ"),
        (changed("usage", {**used(), "groups": [{**vars(GROUP), "count": 1.5}]}), "count is"),
        (changed("usage", {**used(), "groups": [{**vars(GROUP), "errors": []}]}), "errors is"),
    ],
)
def test_what_is_not_a_record_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KeyRecord.parse(value)


@dataclasses.dataclass
class Odd:
    names: set[int]


def test_a_type_that_no_reader_knows_is_named() -> None:
    with pytest.raises(TypeError, match=r"set\[int\]; let _reader in records.py know it"):
        parse(Odd, {"names": []})


TAGS = [{"Key": "AKIA2", "Value": "build server"}, {"Key": "akia1", "Value": "another's"}]


@pytest.mark.parametrize(
    ("key_id", "expected"), [("AKIA2", "build server"), ("AKIA1", None), (None, None)]
)
def test_a_keys_description_is_the_tag_of_its_id(key_id: str | None, expected: str | None) -> None:
    assert description(TAGS, key_id) == expected


def slot(made: datetime | None, used: datetime | None = None) -> Slot:
    return Slot(True, made is not None, made, used, "eu-west-1" if used else None, "s3")


def key(key_id: str, made: datetime, status: str = "Active") -> dict[str, Any]:
    return {"AccessKeyId": key_id, "CreateDate": made, "Status": status}


OLD, NEW = NOW - timedelta(days=200), NOW - timedelta(days=10)


@pytest.mark.parametrize("number", [1, 2])
def test_the_other_key_has_its_own_slots_last_use(number: int) -> None:
    slots = (slot(NEW, USED), slot(OLD, OLD))
    row = Row("u", "arn", slots if number == 2 else slots[::-1])
    live = [key("AKIA2", OLD), key("AKIA1", NEW, "Inactive")]
    found = other_key(row, number, "AKIA2", live, TAGS, NOW)
    assert found == OtherKey(
        access_key_id="AKIA1",
        status="Inactive",
        created=NEW.isoformat(),
        age_days=10.0,
        in_report=True,
        last_used_date=USED.isoformat(),
        last_used_service="s3",
        last_used_region="eu-west-1",
        description=None,
    )


def test_a_key_that_is_younger_than_the_report_has_no_last_use_yet() -> None:
    row = Row("u", "arn", (slot(NEW, USED), slot(OLD)))
    live = [key("AKIA2", OLD), key("AKIA3", NOW)]
    found = other_key(row, 2, "AKIA2", live, [], NOW)
    assert found
    assert (found.access_key_id, found.in_report, found.last_used_date) == ("AKIA3", False, None)


@pytest.mark.parametrize(
    ("key_id", "live"),
    [
        ("AKIA2", [key("AKIA2", OLD)]),
        ("AKIA2", []),
        (None, [key("AKIA2", OLD), key("AKIA1", NEW)]),
        (None, [key("AKIA2", OLD)]),
    ],
)
def test_without_another_key_or_without_the_slots_own_there_is_none(
    key_id: str | None, live: list[dict[str, Any]]
) -> None:
    row = Row("u", "arn", (slot(NEW), slot(OLD)))
    assert other_key(row, 2, key_id, live, [], NOW) is None
