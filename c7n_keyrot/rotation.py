# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the rule says of a key, and which live key is meant. Pure functions, no AWS in them.

The rule is CloudGuard D9.AWS.IAM.07: an active second access key must not have been rotated
before the instant now - 90 x 24 hours.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from c7n_keyrot.credential_report import Row, Slot

DAY = timedelta(days=1)


class Verdict(str, enum.Enum):
    """What the rule says of one slot."""

    ABSENT = "absent"
    INACTIVE = "inactive"
    FRESH = "fresh"
    EXPIRING = "expiring"
    STALE = "stale"
    UNKNOWN = "unknown"


class Identified(str, enum.Enum):
    """How the slot's live key was told from the user's other key, or why it wasn't."""

    DATE = "date"
    ELIMINATION = "elimination"
    AMBIGUOUS = "ambiguous"
    GONE = "gone"
    NO = "no"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class Exemption:
    """A user's exemption tag. ``state`` is ``valid``, ``expired`` or ``unreadable``."""

    tag: str
    value: str
    state: str


def is_older(instant: datetime, now: datetime, days: float) -> bool:
    """Tell whether the instant lies strictly before ``now`` - ``days`` x 24 h, to the second."""
    return now.replace(microsecond=0) - instant.replace(microsecond=0) > timedelta(days=days)


def days_left(rotated: datetime, now: datetime, days: float) -> int:
    """Days until a key rotated then is stale, rounded up; 0 or less when that is over."""
    age = now.replace(microsecond=0) - rotated.replace(microsecond=0)
    return math.ceil((timedelta(days=days) - age) / DAY)


def verdict(slot: Slot, now: datetime, days: float, notice: float = 0) -> Verdict:
    """Judge one slot of a row of the credential report.

    :param now: the instant to judge at, UTC.
    :param days: days after which an active key is stale, fractions allowed.
    :param notice: days before that in which it counts as expiring; 0 for none.
    """
    if not slot.has_key:
        return Verdict.ABSENT
    if slot.active is False:
        return Verdict.INACTIVE
    if slot.active is None or slot.last_rotated is None:
        return Verdict.UNKNOWN
    if is_older(slot.last_rotated, now, days):
        return Verdict.STALE
    if is_expiring(slot.last_rotated, now, days, notice):
        return Verdict.EXPIRING
    return Verdict.FRESH


def is_expiring(rotated: datetime, now: datetime, days: float, notice: float) -> bool:
    """Tell whether a key rotated then is not stale yet, but will be within ``notice`` days."""
    age = now.replace(microsecond=0) - rotated.replace(microsecond=0)
    return notice > 0 and timedelta(0) <= timedelta(days=days) - age <= timedelta(days=notice)


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
        return None, Identified.NO if live else Identified.GONE
    this, other = row.slots[slot - 1], row.slots[2 - slot]
    mine = _made_at(this.last_rotated, live)
    # With one second for both slots a single key that is left may be either of the two.
    same_second = this.last_rotated is not None and this.last_rotated == other.last_rotated
    if len(mine) > 1 or (mine and same_second):
        return None, Identified.AMBIGUOUS
    if mine:
        return mine[0], Identified.DATE
    theirs = _made_at(other.last_rotated, live)
    # Only a key that is alone at its second is the other slot's for sure.
    rest = [key for key in live if len(theirs) != 1 or key is not theirs[0]]
    if len(theirs) == len(rest) == 1:
        return rest[0], Identified.ELIMINATION
    return None, Identified.NO if rest else Identified.GONE


def _made_at(instant: datetime | None, live: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [key for key in live if created(key) == instant]


def created(key: dict[str, Any]) -> datetime:
    """When a live key, or a user, was created: UTC, whole seconds as in the credential report."""
    instant: datetime = key["CreateDate"]
    return instant.astimezone(timezone.utc).replace(microsecond=0)


def exemption(tags: Sequence[dict[str, str]], tag: str, now: datetime) -> Exemption | None:
    """Read a user's exemption: a tag with a date, YYYY-MM-DD, whose whole day counts, in UTC.

    :param tags: ``Tags`` of IAM's GetUser.
    :returns: None for a user without the tag.
    """
    for entry in tags:
        # As in IAM, where two tags can't differ by case alone.
        if entry["Key"].lower() == tag.lower():
            value = entry["Value"]
            try:
                until = datetime.strptime(value.strip(), "%Y-%m-%d").date()
            except ValueError:
                return Exemption(tag, value, "unreadable")
            valid = until >= now.astimezone(timezone.utc).date()
            return Exemption(tag, value, "valid" if valid else "expired")
    return None
