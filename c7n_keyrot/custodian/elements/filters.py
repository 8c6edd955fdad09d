# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The filters on access keys: stale-access-key, expiring-access-key and unclear-access-key."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from c7n_keyrot.core import rotation
from c7n_keyrot.core.credential_report import Row
from c7n_keyrot.core.records import Why
from c7n_keyrot.core.rotation import Identified, Verdict, created
from c7n_keyrot.custodian.elements.options import (
    DAYS_LIST,
    FLAG,
    NUMBER,
    WEEKDAYS,
    Option,
    declare,
    invalid,
    one_of,
    some_of,
)
from c7n_keyrot.custodian.elements.slots import (
    REPORT_MAX_AGE,
    SLOT,
    SLOT_PERMISSIONS,
    USAGE,
    USAGE_PERMISSION,
    KeyrotFilter,
    Match,
    SlotFilter,
)
from c7n_keyrot.custodian.matching import asserted, places

LAST_USE_PERMISSION = "iam:GetAccessKeyLastUsed"
DAYS = Option("days", NUMBER, "days after which an active key is stale", 90)


@declare(
    "stale-access-key",
    SLOT,
    Option(
        "days",
        NUMBER,
        "last rotated before now - days x 24 h, to the second; exactly 90 days passes",
        90,
    ),
    Option(
        "status", one_of("Active", "Inactive"), "Active, or Inactive for the delete stage", "Active"
    ),
    Option(
        "unused-days",
        NUMBER,
        "and never used, or last used more than this many days ago (GetAccessKeyLastUsed)",
    ),
    Option(
        "superseded",
        FLAG,
        "and the other slot holds an active, younger key that was used later",
        False,
    ),
    USAGE,
    REPORT_MAX_AGE,
)
class StaleAccessKey(SlotFilter):
    """Users whose key in one slot is older than ``days``; by default the second key.

    It is the rule CloudGuard D9.AWS.IAM.07: the second access key is active and was last rotated
    before now - 90 x 24 hours (UTC, to the second; exactly 90 days passes). The slot is that of
    the IAM credential report, so "second" is neither "the newer" nor "any" key.

    The report names no key, and may be hours old. So the user's live keys are listed, and a key
    counts only if it is identified with certainty, and its live status and date fit as well. It is
    put into ``c7n:matched-keys``, which ``disable-access-key`` and ``delete-access-key`` act on.
    Where any doubt is left, the user is matched without a key; ``- not: [unclear-access-key]``
    leaves such users out. So is a user whose key the run itself works with.

    {options}

    :example:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-stale
            resource: aws.iam-user
            source: credential-report
            filters:
              - type: stale-access-key
                slot: 2
                days: 90
              - not: [rotation-exempt]
            actions:
              - disable-access-key

    Keys that were switched off and not used for a month:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-delete
            resource: aws.iam-user
            source: credential-report
            filters:
              - type: stale-access-key
                status: Inactive
                unused-days: 30
            actions:
              - delete-access-key
    """

    permissions = (*SLOT_PERMISSIONS, LAST_USE_PERMISSION, USAGE_PERMISSION)

    def get_permissions(self) -> tuple[str, ...]:
        asked = (LAST_USE_PERMISSION,) if self._asks_for_use else ()
        return (*super().get_permissions(), *asked)

    @property
    def _asks_for_use(self) -> bool:
        return self.option("unused-days") is not None or self.option("superseded")

    def wanted(self, row: Row, verdict: Verdict) -> bool:
        if self.option("status") == "Active":
            return verdict is Verdict.STALE
        rotated = self.slot_of(row).last_rotated
        return verdict is Verdict.INACTIVE and rotated is not None and self._is_old(rotated)

    def wanted_key(self, key: dict[str, Any]) -> bool:
        return key["Status"] == self.option("status") and self._is_old(created(key))

    def _is_old(self, instant: datetime) -> bool:
        return rotation.is_older(instant, self.run.now, self.option("days"))

    def refine(self, matched: list[Match]) -> list[Match]:
        if not self._asks_for_use:
            return matched
        kept = [match for match in matched if not match.is_read]
        read = [match for match in matched if match.is_read]
        for match, keep, error in self.run.calls.each("last uses read", self._is_dispensable, read):
            if error is not None and error.gone and match.key is not None:
                self.run.log.once(f"user {match.row.user!r}: a key no longer exists", logging.INFO)
                self.run.left.note(match.row.user, self.option("slot"), Why.GONE)
            elif error is not None:
                self.run.users.mark_unread(match.row.user, f"last use not read, {error}")
                match.key, match.identified = None, Identified.UNREAD
                kept.append(match)
            elif keep:
                kept.append(match)
            else:
                self.run.left.note(match.row.user, self.option("slot"), Why.USED)
        return kept

    def _is_dispensable(self, match: Match) -> bool:
        """Tell whether last uses allow it to be the slot's key: any that it may be, in doubt."""
        if match.key is None:
            possible = [key for key in match.live if self.wanted_key(key)]
            return any(self._last_use(key, match.live)[0] for key in possible)
        dispensable, match.last_used = self._last_use(match.key, match.live)
        return dispensable

    def _last_use(
        self, key: dict[str, Any], live: Sequence[dict[str, Any]]
    ) -> tuple[bool, tuple[datetime | None, str | None, str | None] | None]:
        """Ask AWS when the keys were last used; the report's answer may be hours old.

        :returns: whether ``unused-days`` and ``superseded`` hold for the key, and its last use.
        """
        successors = [
            other
            for other in live
            # Of two keys of one second neither is younger.
            if other["Status"] == "Active" and created(other) > created(key)
        ]
        if self.option("superseded") and not successors:
            return False, None
        last_used = self.run.calls.last_used(key["AccessKeyId"])
        used, unused_days = last_used[0], self.option("unused-days")
        if unused_days and used and not rotation.is_older(used, self.run.now, unused_days):
            return False, last_used
        if not self.option("superseded"):
            return True, last_used
        uses = (self.run.calls.last_used_if_there(other["AccessKeyId"]) for other in successors)
        taken_over = any(other and (used is None or other > used) for other in uses)
        return taken_over, last_used


@declare(
    "expiring-access-key",
    SLOT,
    DAYS,
    Option(
        "notice",
        NUMBER,
        "matches an active key in this many days before it is stale; less than days",
        14,
    ),
    Option(
        "remind-at",
        DAYS_LIST,
        "a list of whole days: matches only on the UTC days that are one of these numbers of "
        "days before the deadline's UTC day (0: on that day); at most notice",
    ),
    USAGE,
    REPORT_MAX_AGE,
)
class ExpiringAccessKey(SlotFilter):
    """Users whose active key in one slot is not stale yet, but will be within ``notice`` days.

    For notices before ``stale-access-key`` matches. Such a key never enters ``c7n:matched-keys``,
    so no action disables it. A key that can't be identified is not matched: no notice promises what
    won't be done. Once it is stale, ``unclear-access-key`` matches its user. Nor is a key that the
    run itself works with.

    With ``remind-at`` the days are counted by the calendar, in UTC. So a policy that runs once a
    day reminds once at each of them, whenever it starts.

    {options}

    :example:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-expiring
            resource: aws.iam-user
            source: credential-report
            filters:
              - type: expiring-access-key
                notice: 14
                remind-at: [14, 7, 3, 1]
              - not: [rotation-exempt]
    """

    permissions = (*SLOT_PERMISSIONS, USAGE_PERMISSION)

    def validate(self) -> KeyrotFilter:
        super().validate()
        days, notice, reminders = map(self.option, ("days", "notice", "remind-at"))
        if notice >= days:
            default = "" if "notice" in self.data else ", its default,"
            raise invalid(
                self,
                f"notice is {notice}{default} and must be less than days ({days}): a new key would "
                "be reported at once",
            )
        for value in reminders or ():
            if value > notice:
                raise invalid(
                    self, f"remind-at {value} is never reached, since notice is {notice} days"
                )
        return self

    def judge(self, row: Row) -> Verdict:
        return rotation.verdict(
            self.slot_of(row),
            self.run.now,
            self.option("days"),
            self.option("notice"),
            by_utc_day=self.option("remind-at") is not None,
        )

    def wanted(self, row: Row, verdict: Verdict) -> bool:
        rotated = self.slot_of(row).last_rotated
        return verdict is Verdict.EXPIRING and rotated is not None and self._is_due(rotated)

    def wanted_key(self, key: dict[str, Any]) -> bool:
        rotated = created(key)
        return (
            key["Status"] == "Active"
            and rotation.is_expiring(
                rotated,
                self.run.now,
                self.option("days"),
                self.option("notice"),
                by_utc_day=self.option("remind-at") is not None,
            )
            and self._is_due(rotated)
        )

    def _is_due(self, rotated: datetime) -> bool:
        reminders = self.option("remind-at")
        left = rotation.utc_days_left(rotated, self.run.now, self.option("days"))
        return reminders is None or left in reminders

    def refine(self, matched: list[Match]) -> list[Match]:
        slot, kept = self.option("slot"), []
        for match in matched:
            name = match.row.user
            if match.in_doubt:
                self.run.left.note(name, slot, Why.UNCLEAR)
            elif match.key is not None and self.run.own.has(name, match.key["AccessKeyId"]):
                self.run.own.skip(name, slot, match.key["AccessKeyId"])
            else:
                kept.append(match)
        return kept


@declare(
    "unclear-access-key",
    SLOT,
    DAYS,
    Option(
        "weekdays",
        some_of(*WEEKDAYS),
        "a list of Mon to Sun: matches only on these UTC days, so that a daily run notifies weekly",
    ),
    REPORT_MAX_AGE,
)
class UnclearAccessKey(SlotFilter):
    """Users whose key in one slot only a person can judge.

    The slot's key is active, and the credential report's date or status of it can't be read; or it
    is stale, and no live key can be identified as it: two keys of one second, or dates that fit
    none. Nothing is ever done to such keys, so no notice may say that it is:
    ``- not: [unclear-access-key]`` leaves them out of a policy that disables, and a policy of its
    own notifies those who can look. It never puts a key into ``c7n:matched-keys``.

    A user whose keys couldn't be read isn't such a doubt: the run ends with an error.

    {options}

    :example:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-unclear
            resource: aws.iam-user
            source: credential-report
            filters:
              - type: unclear-access-key
                weekdays: [Mon]
              - not: [rotation-exempt]

          - name: iam-user-second-access-key-without-doubt
            resource: aws.iam-user
            source: credential-report
            filters:
              - not: [rotation-exempt]
              - stale-access-key
              - not: [unclear-access-key]
            actions:
              - disable-access-key
    """

    def validate(self) -> KeyrotFilter:
        super().validate()
        if self.option("weekdays") is not None and nots_above(self):
            raise invalid(
                self,
                "weekdays has no meaning inside of a not block: users would be left out on these "
                "days only",
            )
        return self

    def wanted(self, row: Row, verdict: Verdict) -> bool:
        days = self.option("weekdays")
        today = days is None or WEEKDAYS[self.run.now.weekday()] in days
        return today and verdict in (Verdict.STALE, Verdict.UNKNOWN)

    def wanted_key(self, key: dict[str, Any]) -> bool:
        return key["Status"] == "Active" and rotation.is_older(
            created(key), self.run.now, self.option("days")
        )

    def holds(self, match: Match) -> bool:
        if self.judge(match.row) is Verdict.STALE:
            return match.in_doubt and super().holds(match)
        # What can't be read in the report may be an active key, unless all live keys are inactive.
        possible = match.live if match.in_doubt else [match.key] if match.key else []
        return not match.is_read or any(key["Status"] != "Inactive" for key in possible)

    def refine(self, matched: list[Match]) -> list[Match]:
        for match in matched:
            match.key = None
            self.run.left.note(match.row.user, self.option("slot"), Why.UNCLEAR)
        return matched


def nots_above(element: Any) -> int:
    """Return in how many not blocks of its policy a filter stands."""
    everywhere = list(places(element.manager.filters))
    mine = next(place for place, other in everywhere if other is element)
    return sum(other.type == "not" and mine.startswith(f"{place}.") for place, other in everywhere)


def stale_filters(filters: Sequence[Any]) -> Iterator[StaleAccessKey]:
    """Return the stale-access-key filters of a tree that can select a key."""
    return (element for element in asserted(filters) if isinstance(element, StaleAccessKey))
