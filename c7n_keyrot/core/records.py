# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run leaves besides outcomes: ``KeyRecord`` on a user, ``RunSummary`` in its folder."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from c7n_keyrot.core.credential_report import Row
from c7n_keyrot.core.rotation import DAY, Identified, Verdict, created
from c7n_keyrot.core.usage import Group, Usage

VERSION = 1


@dataclass(frozen=True)
class OtherKey:
    """The user's other access key, as IAM lists it in this run.

    - ``access_key_id``, ``status`` (Active or Inactive): as ListAccessKeys has them
    - ``created``: ISO 8601, UTC
    - ``age_days``: at the run, one decimal
    - ``in_report``: True if the credential report knows this very key. Only then do the three
      fields about its last use say anything; without a date it was never used
    - ``last_used_date`` (ISO 8601, UTC), ``last_used_service``, ``last_used_region``
    - ``description``: as in ``KeyRecord``
    """

    access_key_id: str
    status: str
    created: str
    age_days: float
    in_report: bool
    last_used_date: str | None
    last_used_service: str | None
    last_used_region: str | None
    description: str | None


@dataclass(frozen=True)
class KeyRecord:
    """What one of our filters found in one slot of a user. All instants are ISO 8601, in UTC.

    - ``filter``: the filter's type, such as ``stale-access-key``
    - ``path``: its place in the policy's tree of filters, such as ``0`` or ``1.0``
    - ``run``: Custodian's execution id
    - ``verdict``: what the rule says of the slot, by the credential report
    - ``slot``: 1 or 2
    - ``access_key_id``, ``status``: of the live key; None if it isn't identified
    - ``identified``: how it was identified, or why not
    - ``drift``: True if the live key's date differs from the report's
    - ``last_rotated``: of the live key, else by the report; None if the report's can't be read
    - ``age_days``: since then, at the run, one decimal; None without a date
    - ``days``: the filter's own limit
    - ``deadline``: ``last_rotated`` and ``days``; None without a date
    - ``days_left``: until then, rounded up; 0 or less if it has passed; None without a date
    - ``last_used_date``, ``last_used_service``, ``last_used_region``: by the report, or by
      GetAccessKeyLastUsed if the filter asks it; None if never used
    - ``report_generated``: when AWS made the credential report
    - ``exemption``: an exemption tag that exempts nobody: ``tag``, ``value`` and ``state``
      (``expired`` or ``unreadable``); None without one
    - ``description``: the key's description, which the console keeps as a tag of the user
    - ``other_key``: the user's other key; None if there is none, or if it isn't known which it is
    - ``usage``: who used the key, by CloudTrail's event history (``Usage`` in ``usage.py``); None
      if the filter doesn't ask for it
    - ``version``: of this list of fields
    """

    filter: str
    path: str
    run: str
    verdict: Verdict
    slot: int
    access_key_id: str | None
    status: str | None
    identified: Identified
    drift: bool
    last_rotated: str | None
    age_days: float | None
    days: float
    deadline: str | None
    days_left: int | None
    last_used_date: str | None
    last_used_service: str | None
    last_used_region: str | None
    report_generated: str
    exemption: dict[str, str] | None = None
    description: str | None = None
    other_key: OtherKey | None = None
    usage: Usage | None = None
    version: int = VERSION

    def annotation(self) -> dict[str, Any]:
        """Return the record as it is left on the user: what JSON and JMESPath can read."""
        plain = {"verdict": self.verdict.value, "identified": self.identified.value}
        return dataclasses.asdict(self) | plain

    @classmethod
    def parse(cls, value: object) -> KeyRecord:
        """Read a record that stood on a user, field by field.

        :raises ValueError: it isn't one of ours, or not of this version.
        """
        fields = _fields(cls, value)
        other, usage = fields["other_key"], fields["usage"]
        return cls(
            **fields
            | {
                "verdict": Verdict(fields["verdict"]),
                "identified": Identified(fields["identified"]),
                "other_key": None if other is None else OtherKey(**_fields(OtherKey, other)),
                "usage": None if usage is None else parse_usage(usage),
            }
        )


def parse_usage(value: object) -> Usage:
    """Read a key's usage as it is in a record, field by field.

    :raises ValueError: it isn't one of ours.
    """
    fields = _fields(Usage, value)
    groups = [Group(**_fields(Group, group)) for group in fields["groups"]]
    return Usage(**fields | {"groups": groups})


def _fields(kind: type[Any], value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"not a record: {type(value).__name__}")
    fields = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    if value.get("version", VERSION) != VERSION or value.keys() != fields.keys():
        raise ValueError(f"not a record of version {VERSION}: its fields differ")
    for name, types in fields.items():
        if not any(_is(value[name], each) for each in types.split(" | ")):
            raise ValueError(f"not a record: {name} is {value[name]!r}")
    return dict(value)


def _is(value: object, kind: str) -> bool:
    match kind:
        case "None":
            return value is None
        case "bool":
            return isinstance(value, bool)
        case "int":
            return type(value) is int
        case "float":
            return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
        case "dict[str, str]":
            return isinstance(value, dict) and all(
                isinstance(text, str) for pair in value.items() for text in pair
            )
        case "dict[str, int]":
            return isinstance(value, dict) and all(type(count) is int for count in value.values())
        case "OtherKey" | "Usage":
            return isinstance(value, Mapping)
        case "list[str]":
            return isinstance(value, list) and all(isinstance(text, str) for text in value)
        case "list[dict[str, Any]]" | "list[NotMatched]" | "list[Group]":
            return isinstance(value, list) and all(isinstance(one, dict) for one in value)
    return isinstance(value, str)  # Enums, too; they are read behind this


class Why(str, enum.Enum):
    """Why a candidate of a policy's filters isn't matched, the most telling reasons first.

    :ivar text: the same for people: one sentence without its full stop.
    """

    text: str

    def __new__(cls, word: str, text: str = "") -> Why:
        self = str.__new__(cls, word)
        self._value_, self.text = word, text
        return self

    EXEMPT = "exempt", "exempt"
    OWN = "own key", "the run itself works with this key"
    UNKNOWN = "unknown", "its date or status can't be read"
    TWICE = "appears twice", "the user's name appears twice in the credential report"
    UNREAD = "unread", Identified.UNREAD.text
    UNCLEAR = "unclear", "it isn't certain which live key it is"
    OTHER_USER = "other user", "another user got the name after the credential report"
    NOT_FOUND = (
        "not found",
        "not known: no user has the name now (deleted or renamed after the credential report)",
    )
    GONE = "gone", Identified.GONE.text
    CHANGED = "changed", "changed after the credential report"
    USED = "used", "ruled out by unused-days or superseded"
    NOT_DUE = "not due", "no reminder is due on the day of the run"
    OTHER_FILTER = "other filter", "ruled out by another filter of the policy"


@dataclass(frozen=True)
class NotMatched:
    """A candidate that isn't matched, or a key whose date or status can't be read.

    - ``user``, ``slot``; ``verdict``: by the credential report
    - ``why``: why it isn't matched
    - ``exempt_until``: last day (YYYY-MM-DD, UTC) of an exemption that holds, else None
    - ``last_rotated``: by the credential report, ISO 8601, UTC; None if it can't be read
    """

    user: str
    slot: int
    verdict: Verdict
    why: Why
    exempt_until: str | None
    last_rotated: str | None = None


@dataclass(frozen=True)
class RunSummary:
    """One run of one policy: a line of ``keyrot-summary.jsonl``. All instants are ISO 8601, UTC.

    - ``time``: when the filters had run
    - ``account_id``, ``policy``; ``run``: Custodian's execution id
    - ``dry_run``
    - ``filters``: our filters that select (those outside any ``not``): ``filter`` and its options
    - ``report_generated``: when AWS made the credential report; None if none was needed
    - ``users``: of the account, by the report; None without one
    - ``active_keys``, ``verdicts``: of all users, by the report, in the slots of the filters
    - ``candidates``: keys that the filters can match by the report
    - ``matched``: candidates that are matched, without the run's own keys; without a slot filter,
      users
    - ``not_matched``: every other candidate, and every other key that is expiring or unknown
    - ``version``: of this list of fields
    """

    time: str
    account_id: str
    policy: str
    run: str
    dry_run: bool
    filters: list[dict[str, Any]]
    report_generated: str | None
    users: int | None
    active_keys: int
    verdicts: dict[str, int]
    candidates: int
    matched: int
    not_matched: list[NotMatched]
    version: int = VERSION

    @classmethod
    def parse(cls, line: bytes) -> RunSummary:
        """Read a line, field by field: anybody may have written it.

        :raises ValueError: it isn't one of ours, or not of this version.
        """
        try:
            fields = _fields(cls, json.loads(line))
        except RecursionError:
            raise ValueError("not a summary: nested without end") from None
        left = []
        for entry in fields["not_matched"]:
            one = _fields(NotMatched, entry)
            one |= {"verdict": Verdict(one["verdict"]), "why": Why(one["why"])}
            left.append(NotMatched(**one))
        return cls(**fields | {"not_matched": left})


def description(tags: Sequence[Mapping[str, str]], key_id: str | None) -> str | None:
    """Return a key's description: a tag of the user whose key is the access key id.

    So the console keeps it; the AWS IAM user guide calls it a description tag.

    :param tags: ``Tags`` of IAM's GetUser.
    """
    return next((tag["Value"] for tag in tags if tag["Key"] == key_id), None)


def other_key(
    row: Row,
    slot: int,
    key_id: str | None,
    live: Sequence[Mapping[str, Any]],
    tags: Sequence[Mapping[str, str]],
    now: datetime,
) -> OtherKey | None:
    """Return the user's other key; None if there is none, or if the slot's key isn't identified.

    :param row: the user's row of the credential report.
    :param slot: 1 or 2, the slot of the key that this is *not*.
    :param live: ``AccessKeyMetadata`` of IAM's ListAccessKeys.
    """
    others = [key for key in live if key["AccessKeyId"] != key_id]
    if key_id is None or len(others) != 1:
        return None
    (key,) = others
    made, reported = created(dict(key)), row.slots[2 - slot]
    in_report = made == reported.last_rotated
    used = reported.last_used_date if in_report else None
    return OtherKey(
        access_key_id=key["AccessKeyId"],
        status=key["Status"],
        created=made.isoformat(),
        age_days=round((now - made) / DAY, 1),
        in_report=in_report,
        last_used_date=used.isoformat() if used else None,
        last_used_service=reported.last_used_service if in_report else None,
        last_used_region=reported.last_used_region if in_report else None,
        description=description(tags, key["AccessKeyId"]),
    )
