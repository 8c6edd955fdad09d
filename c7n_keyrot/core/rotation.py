# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the rule says of a key, and which live key a slot holds. Pure functions, no AWS in them.

The rule is CloudGuard D9.AWS.IAM.07: an active second access key must not have been rotated
before the instant now - 90 x 24 hours.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

from c7n_keyrot.core.credential_report import Row, Slot

DAY = timedelta(days=1)
# Of a breach of the rule, the lowest first: Security Hub and OCSF name them so.
SEVERITIES = ("INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")
# A thousand years; dates can't be computed much beyond that.
MOST_DAYS = 365_000


class Verdict(str, enum.Enum):
    """What the rule says of one slot."""

    ABSENT = "absent"
    INACTIVE = "inactive"
    FRESH = "fresh"
    EXPIRING = "expiring"
    STALE = "stale"
    UNKNOWN = "unknown"


class Explained(str, enum.Enum):
    """A word of a closed set, and what it means.

    :ivar text: the same for people: one sentence without its full stop.
    """

    text: str

    def __new__(cls, word: str, text: str = "") -> Explained:
        self = str.__new__(cls, word)
        self._value_, self.text = word, text
        return self


class Identified(Explained):
    """How the slot's live key was identified, or why it wasn't."""

    DATE = "date", "its creation date is the one in the credential report"
    ELIMINATION = "elimination", "the user's other key is identified, and only this one remains"
    AMBIGUOUS = "ambiguous", "two keys were created in the same second"
    GONE = "gone", "the user no longer has the key"
    UNMATCHED = "unmatched", "no live key fits the credential report's dates"
    UNREAD = "unread", "what the policy asks about the user couldn't be read"


class ExemptionState(str, enum.Enum):
    """Whether an exemption exempts its user today."""

    VALID = "valid"
    EXPIRED = "expired"
    UNREADABLE = "unreadable"
    TOO_LONG = "too-long"


@dataclass(frozen=True, slots=True)
class Exemption:
    """A user's exemption: a tag, or a line of a register.

    :ivar tag: the tag's key, or the register's name.
    :ivar until: its last day (UTC); None where it can't be read.
    :ivar reason, approved_by: of a register's line; empty for a tag, whose reason is another tag.
    """

    tag: str
    value: str
    state: ExemptionState
    until: date | None
    reason: str = ""
    approved_by: str = ""


def is_older(instant: datetime, now: datetime, days: float) -> bool:
    """Tell whether the instant lies strictly before ``now`` - ``days`` x 24 h, to the second."""
    return now.replace(microsecond=0) - instant.replace(microsecond=0) > timedelta(days=days)


def deadline(rotated: datetime, days: float) -> datetime:
    """Return the last instant (UTC) at which a key rotated then isn't stale.

    :returns: at most the last second of the year 9999.
    """
    try:
        return rotated + timedelta(days=days)
    except OverflowError:
        return datetime.max.replace(tzinfo=timezone.utc, microsecond=0)


def days_left(rotated: datetime, now: datetime, days: float) -> int:
    """Return the days until a key rotated then is stale, rounded up; 0 or less from then on."""
    age = now.replace(microsecond=0) - rotated.replace(microsecond=0)
    return math.ceil((timedelta(days=days) - age) / DAY)


def utc_days_left(rotated: datetime, now: datetime, days: float) -> int:
    """Return the UTC days between today and the day of a key's deadline; 0 on that day.

    A daily run never starts exactly 24 hours after the last one. By days, not by the time left,
    each of its runs has its own number, whenever it starts.
    """
    return (_utc_day(deadline(rotated, days)) - _utc_day(now)).days


def _utc_day(instant: datetime) -> date:
    return instant.astimezone(timezone.utc).date()


def verdict(
    slot: Slot, now: datetime, days: float, notice: float = 0, by_utc_day: bool = False
) -> Verdict:
    """Judge one slot of a row of the credential report.

    :param now: the instant to judge at, UTC.
    :param days: days after which an active key is stale, fractions allowed.
    :param notice: days before that in which it counts as expiring; 0 for none.
    :param by_utc_day: count the days of ``notice`` as ``utc_days_left`` does.
    """
    if not slot.has_key:
        return Verdict.ABSENT
    if slot.active is False:
        return Verdict.INACTIVE
    if slot.active is None or slot.last_rotated is None:
        return Verdict.UNKNOWN
    if is_older(slot.last_rotated, now, days):
        return Verdict.STALE
    if is_expiring(slot.last_rotated, now, days, notice, by_utc_day):
        return Verdict.EXPIRING
    return Verdict.FRESH


def is_expiring(
    rotated: datetime, now: datetime, days: float, notice: float, by_utc_day: bool = False
) -> bool:
    """Tell whether a key rotated then is not stale yet, but will be within ``notice`` days.

    :param by_utc_day: count them as ``utc_days_left`` does. Whether the key is stale is a matter
        of seconds all the same.
    """
    if notice <= 0 or is_older(rotated, now, days):
        return False
    if by_utc_day:
        return utc_days_left(rotated, now, days) <= notice
    age = now.replace(microsecond=0) - rotated.replace(microsecond=0)
    return timedelta(days=days) - age <= timedelta(days=notice)


def identify(
    row: Row, slot: int, live: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any] | None, Identified]:
    """Find the live key that stands in the slot; the report carries no key ids.

    It is found when exactly one live key was created at the slot's second or, failing that, when
    the other slot's key is found so and exactly one key remains.

    :param slot: 1 or 2.
    :param live: ``AccessKeyMetadata`` of IAM's ListAccessKeys.
    :returns: the entry of ``live``, or None where any doubt is left; and how it was found.
    """
    if any(each.has_key and each.last_rotated is None for each in row.slots):
        # Both keys may be of one second, and either may have been deleted since.
        return None, Identified.UNMATCHED if live else Identified.GONE
    this, other = row.slots[slot - 1], row.slots[2 - slot]
    mine = _made_at(this.last_rotated, live)
    # With one second for both slots a single key that is left may be either of the two.
    same_second = this.last_rotated is not None and this.last_rotated == other.last_rotated
    if len(mine) > 1 or (mine and same_second):
        return None, Identified.AMBIGUOUS
    if mine:
        return mine[0], Identified.DATE
    theirs = _made_at(other.last_rotated, live)
    # Only a key that is alone at its second is the other slot's with certainty.
    rest = [key for key in live if len(theirs) != 1 or key is not theirs[0]]
    if len(theirs) == len(rest) == 1:
        return rest[0], Identified.ELIMINATION
    return None, Identified.UNMATCHED if rest else Identified.GONE


def _made_at(instant: datetime | None, live: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [key for key in live if created(key) == instant]


def created(key: dict[str, Any]) -> datetime:
    """When a live key, or a user, was created: UTC, whole seconds as in the credential report."""
    instant: datetime = key["CreateDate"]
    return instant.astimezone(timezone.utc).replace(microsecond=0)


# A date, or a date and a time with its zone: without one the day isn't known. Not
# strptime and fromisoformat: each Python's own reads something else.
LAST_DAY = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d)))?",
    re.ASCII,
)


def last_day(text: str) -> date | None:
    """Read the last day of an exemption, in UTC; None for what isn't a date.

    :param text: ``2027-03-31``, or a date-time of ISO 8601 such as ``2027-03-31T00:00:00Z``, which
        means the UTC day that it lies in.
    """
    found = LAST_DAY.fullmatch(text.strip())
    if found is None:
        return None
    *written, sign, hours, minutes = found.groups(default="0")
    year, month, day, hour, minute, second = map(int, written)
    try:
        instant = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    ahead = timedelta(hours=int(hours), minutes=int(minutes))
    try:
        return (instant + ahead if sign == "-" else instant - ahead).date()
    except OverflowError:
        # The first or the last possible day.
        return instant.date()


def exemption_state(until: date | None, now: datetime, longest: float | None) -> ExemptionState:
    """Return whether an exemption with this last day (UTC) holds.

    :param longest: days; None for no limit. The last day may be so many days after today (UTC).
    """
    if until is None:
        return ExemptionState.UNREADABLE
    left = (until - _utc_day(now)).days
    if left < 0:
        return ExemptionState.EXPIRED
    too_long = longest is not None and left > longest
    return ExemptionState.TOO_LONG if too_long else ExemptionState.VALID


def exemption(
    tags: Sequence[dict[str, str]], tag: str, now: datetime, longest: float | None = None
) -> Exemption | None:
    """Read a user's exemption: a tag with its last day, the whole of which counts, in UTC.

    :param tags: ``Tags`` of IAM's GetUser.
    :param longest: days; an exemption that ends later holds for nobody.
    :returns: None for a user without the tag.
    """
    for entry in tags:
        # As in IAM, where two tags can't differ by case alone.
        if entry["Key"].lower() == tag.lower():
            value = entry["Value"]
            until = last_day(value)
            return Exemption(tag, value, exemption_state(until, now, longest), until)
    return None
