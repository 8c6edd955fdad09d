# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run leaves besides outcomes: ``KeyRecord`` on a user, and lines about the run itself."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from c7n_keyrot.core.credential_report import Row
from c7n_keyrot.core.rotation import (
    DAY,
    ExemptionState,
    Explained,
    Identified,
    Verdict,
    created,
)
from c7n_keyrot.core.usage import Usage

VERSION = 1
Record = TypeVar("Record")
_Reader = Callable[[Any], Any]


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
    - ``verdict``: what the rule says of the slot, according to the credential report
    - ``slot``: 1 or 2
    - ``access_key_id``, ``status``: of the live key; None if it isn't identified
    - ``identified``: how it was identified, or why not
    - ``drift``: True if the live key's date differs from the report's
    - ``last_rotated``: of the live key, else from the report; None if the report's can't be read
    - ``age_days``: since then, at the run, one decimal; None without a date
    - ``days``: the filter's own limit
    - ``deadline``: ``last_rotated`` and ``days``; None without a date
    - ``days_left``: until then, rounded up; 0 or less if it has passed; None without a date
    - ``last_used_date``, ``last_used_service``, ``last_used_region``: from the report, or from
      GetAccessKeyLastUsed if the filter asks it; None if never used
    - ``report_generated``: when AWS made the credential report
    - ``exemption``: an exemption tag that exempts nobody: ``tag``, ``value`` and ``state``
      (``expired``, ``unreadable`` or ``too-long``); None without one
    - ``description``: the key's description, which the console keeps as a tag of the user
    - ``other_key``: the user's other key; None if there is none, or if it isn't known which it is
    - ``usage``: who used the key, from CloudTrail's event history (``Usage`` in ``usage.py``); None
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

        :raises ValueError: it isn't such a record, or not of this version.
        """
        return parse(cls, value)


class Why(Explained):
    """Why a candidate of a policy's filters isn't matched, the most telling reasons first."""

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

    - ``user``, ``slot``; ``verdict``: according to the credential report
    - ``why``: why it isn't matched
    - ``exempt_until``: last day (YYYY-MM-DD, UTC) of an exemption that holds, else None
    - ``last_rotated``: from the credential report, ISO 8601, UTC; None if it can't be read
    - ``access_key_id``: of an exempt key that is stale, if it was identified; else None
    """

    user: str
    slot: int
    verdict: Verdict
    why: Why
    exempt_until: str | None
    last_rotated: str | None = None
    access_key_id: str | None = None


@dataclass(frozen=True)
class ExemptUser:
    """An exemption that a run saw, whatever the age of the user's keys.

    - ``user``
    - ``source``: the tag's key, or the register's name
    - ``state``: only a valid one exempts
    - ``until``: its last day (YYYY-MM-DD, UTC), also one that has passed; None if unreadable
    - ``reason``: the tag ``keyrot-exempt-reason``, or the register's; empty without one
    - ``approved_by``: the register's; empty for a tag
    - ``owner``: the contact in the user's tags; None without one, or if the tags weren't read
    """

    user: str
    source: str
    state: ExemptionState
    until: str | None
    reason: str
    approved_by: str
    owner: str | None


# Options of the filters on a slot that are numbers, as ``RunSummary.filters`` has them.
NUMERIC_OPTIONS = ("days", "notice", "report-max-age", "unused-days", "usage")


@dataclass(frozen=True)
class RunSummary:
    """One run of one policy: a line of ``keyrot-summary.jsonl``. All instants are ISO 8601, UTC.

    - ``time``: when the filters had run
    - ``account_id``, ``policy``; ``run``: Custodian's execution id
    - ``dry_run``
    - ``filters``: our filters that select (those outside any ``not``): ``filter`` and its options
    - ``report_generated``: when AWS made the credential report; None if none was needed
    - ``users``: of the account, according to the report; None without one
    - ``active_keys``, ``verdicts``: of all users in the report, in the slots of the filters
    - ``candidates``: keys that the filters can match according to the report
    - ``matched``: candidates that are matched, without the run's own keys; without a slot filter,
      users
    - ``not_matched``: every other candidate, and every other key that is expiring or unknown
    - ``version``: of this list of fields
    - ``caller``: the ARN of who ran, by GetCallerIdentity; None if it isn't known
    - ``population``: the SHA-256 (hex) of all keys of the report as CSV, which is in the folder
      of the first policy that was judged by it; None without a report, or where it isn't kept
    - ``exempt``: the exemptions that the policy saw: those of the users whom it read, and each
      line of its register
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
    caller: str | None = None
    population: str | None = None
    exempt: list[ExemptUser] = field(default_factory=list)

    @classmethod
    def parse(cls, line: bytes) -> RunSummary:
        """Read a line, field by field: anybody may have written it.

        :raises ValueError: it isn't such a record, or not of this version.
        """
        return _parse_line(cls, line)


@dataclass(frozen=True)
class RunBegun:
    """A run of a policy has begun: a line of ``keyrot-begun.jsonl``.

    It is there before the policy's first call, so that a run that was killed leaves it. If there
    is no summary and no metadata of the same run, the run was killed, failed, or goes on.

    - ``time``: when it began; ISO 8601, UTC
    - ``account_id``: empty where Custodian couldn't find it out; ``policy``
    - ``run``: Custodian's execution id
    - ``dry_run``
    - ``filters``: as in ``RunSummary``
    - ``version``: of this list of fields
    """

    time: str
    account_id: str
    policy: str
    run: str
    dry_run: bool
    filters: list[dict[str, Any]]
    version: int = VERSION

    @classmethod
    def parse(cls, line: bytes) -> RunBegun:
        """Read a line, field by field: anybody may have written it.

        :raises ValueError: it isn't such a record, or not of this version.
        """
        return _parse_line(cls, line)


def _parse_line(kind: type[Record], line: bytes) -> Record:
    try:
        return parse(kind, json.loads(line))
    except RecursionError:
        raise ValueError("not a record: nested without end") from None


def parse(kind: type[Record], value: object) -> Record:
    """Read a dataclass as JSON has it, field by field, by the fields' annotations.

    A field that is missing has its default: an older release may have written the line.

    :raises ValueError: a field without a default is missing, a field is unknown or of another
        type, or the version is another.
    :raises TypeError: an annotation of the class isn't one that ``_reader`` knows.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"not a record: {type(value).__name__}")
    readers, needed = _readers(kind)  # type: ignore[arg-type]  # for mypy no type[T] is hashable
    its = value.keys()
    if value.get("version", VERSION) != VERSION or not needed <= its or its - readers.keys():
        raise ValueError(f"not a record of version {VERSION}: its fields differ")
    fields = {}
    for name, read in readers.items():
        if name not in value:
            continue
        try:
            fields[name] = read(value[name])
        except _UnfitError:
            raise ValueError(f"not a record: {name} is {value[name]!r}") from None
    return kind(**fields)


class _UnfitError(Exception):
    """A value isn't of its field's type."""


@functools.cache
def _readers(kind: type[Any]) -> tuple[dict[str, _Reader], frozenset[str]]:
    """Return what reads each field, and the names of those that have no default."""
    hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
    missing = dataclasses.MISSING
    return (
        {field.name: _reader(hints[field.name]) for field in fields},
        frozenset(
            field.name for field in fields if field.default is field.default_factory is missing
        ),
    )


def _reader(hint: Any) -> _Reader:
    """Return what reads a value of an annotation, or raises ``_UnfitError``."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value: value
    if hint in _PLAIN:
        return _plain(_PLAIN[hint])
    if origin in (types.UnionType, typing.Union) and len(args) == 2 and args[1] is type(None):
        return _or_none(_reader(args[0]))
    if origin is list:
        return _list(_reader(args[0]))
    if origin is dict and args[0] is str:
        return _dict(_reader(args[1]))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _nested(hint)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _member(hint)
    raise TypeError(f"no value of JSON is read as {hint}; let _reader in records.py know it")


def _is_finite(value: object) -> bool:
    # A whole number of JSON has as many digits as somebody likes.
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


MOST_KNOWN = 20_000  # records within others, some 10 MB
_PLAIN: dict[Any, Callable[[object], bool]] = {
    str: lambda value: isinstance(value, str),
    bool: lambda value: isinstance(value, bool),
    int: lambda value: type(value) is int,
    float: _is_finite,
}


def _plain(fits: Callable[[object], bool]) -> _Reader:
    def read(value: object) -> object:
        if not fits(value):
            raise _UnfitError
        return value

    return read


def _or_none(inner: _Reader) -> _Reader:
    return lambda value: None if value is None else inner(value)


def _list(inner: _Reader) -> _Reader:
    def read(value: object) -> list[Any]:
        if not isinstance(value, list):
            raise _UnfitError
        return [inner(one) for one in value]

    return read


def _dict(inner: _Reader) -> _Reader:
    def read(value: object) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise _UnfitError
        return {name: inner(one) for name, one in value.items()}

    return read


def _nested(kind: type[Any]) -> _Reader:
    """Return what reads a frozen dataclass within a record.

    Day after day runs write the same of the same keys, so what was read lately isn't read again.
    """
    known: dict[Any, Any] = {}

    def read(value: object) -> Any:
        if not isinstance(value, Mapping):
            raise _UnfitError
        # 1, 1.0 and True are equal.
        same = tuple(value.items()), tuple(map(type, value.values()))
        try:
            found = known.get(same)
        except TypeError:  # a list or a mapping in it
            return parse(kind, value)
        if found is None:
            if len(known) >= MOST_KNOWN:
                known.clear()
            found = known[same] = parse(kind, value)
        return found

    return read


def _member(kind: type[enum.Enum]) -> _Reader:
    members = {member.value: member for member in kind}

    def read(value: object) -> enum.Enum:
        found = members.get(value) if isinstance(value, str) else None
        if found is None:
            raise _UnfitError
        return found

    return read


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
