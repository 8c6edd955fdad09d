# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What our filters share, those on one slot of the credential report above all.

c7n.resources.iam is half imported when this is loaded, so nothing here imports it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from c7n.filters import Filter

from c7n_keyrot.aws.event_history import DAYS_KEPT
from c7n_keyrot.core import records, rotation
from c7n_keyrot.core.credential_report import Row, Slot
from c7n_keyrot.core.records import KeyRecord, Why
from c7n_keyrot.core.rotation import Identified, Verdict, created
from c7n_keyrot.custodian import lifecycle
from c7n_keyrot.custodian.elements.options import (
    HOURS,
    Option,
    between,
    check_mode,
    check_options,
    one_of,
)
from c7n_keyrot.custodian.matching import MATCHED_KEYS, RECORDS, candidates, places
from c7n_keyrot.custodian.run import LIVE_KEYS, PolicyRun
from c7n_keyrot.custodian.shared_report import report_of

REPORT_PERMISSIONS = ("iam:GenerateCredentialReport", "iam:GetCredentialReport")
SLOT_PERMISSIONS = (*REPORT_PERMISSIONS, "iam:GetUser", "iam:ListAccessKeys")

SLOT = Option("slot", one_of(1, 2), "which access key of the credential report: 1 or 2", 2)
REPORT_MAX_AGE = Option(
    "report-max-age",
    HOURS,
    "hours; with an older credential report the policy fails and matches nothing",
    24,
)

USAGE = Option(
    "usage",
    between(1, DAYS_KEPT, "days"),
    "how many days back to ask CloudTrail's event history who used the matched keys; shown in "
    "notices, decides nothing",
)
USAGE_PERMISSION = "cloudtrail:LookupEvents"


class KeyrotFilter(Filter):  # type: ignore[misc]
    """What the filters of this package share."""

    options: ClassVar[dict[str, Option]]

    @property
    def run(self) -> PolicyRun:
        return lifecycle.run_of(self.manager)

    def option(self, name: str) -> Any:
        """Return the option's value in the policy, else its default; None where it has none."""
        return self.data.get(name, self.options[name].default)

    def validate(self) -> KeyrotFilter:
        check_options(self)
        check_mode(self)
        lifecycle.attach(self.manager)
        return self


class Match:
    """A user on the way through a slot filter, with the row and, once found, the live key."""

    def __init__(self, user: dict[str, Any], row: Row) -> None:
        self.user, self.row = user, row
        self.live: list[dict[str, Any]] = []
        self.key: dict[str, Any] | None = None
        self.identified = Identified.UNMATCHED
        self.last_used: tuple[datetime | None, str | None, str | None] | None = None

    @property
    def is_read(self) -> bool:
        return self.identified is not Identified.UNREAD

    @property
    def in_doubt(self) -> bool:
        """There are live keys, and none of them can be identified as the slot's."""
        return self.identified in (Identified.AMBIGUOUS, Identified.UNMATCHED)


class SlotFilter(KeyrotFilter):
    """A filter on one slot of the credential report, whose live key is then identified."""

    # For tools that read the class: all that any options can need.
    permissions: tuple[str, ...] = SLOT_PERMISSIONS

    def get_permissions(self) -> tuple[str, ...]:
        """Return the actions of AWS that this very filter calls."""
        return (*SLOT_PERMISSIONS, *((USAGE_PERMISSION,) if self.usage_days else ()))

    @property
    def usage_days(self) -> float | None:
        """How many days back the use of matched keys is asked for; None if it isn't."""
        return self.option(USAGE.name) if USAGE.name in self.options else None

    def slot_of(self, row: Row) -> Slot:
        return row.slots[self.option("slot") - 1]

    def judge(self, row: Row) -> Verdict:
        """Return the slot's verdict according to the report."""
        return rotation.verdict(self.slot_of(row), self.run.now, self.option("days"))

    def fits(self, row: Row) -> bool:
        """Tell whether the filter can match the user of this row, as far as the report tells."""
        verdict = self.judge(row)
        if verdict is Verdict.UNKNOWN:
            self.run.log.once(
                f"user {row.user!r}: key {self.option('slot')} is unknown: the credential report "
                "has it, but its status or last rotation can't be read; check it by hand; no "
                "action is taken"
            )
        return self.wanted(row, verdict)

    def wanted(self, row: Row, verdict: Verdict) -> bool:
        """Tell whether the slot's status and age in the report are those that are looked for."""
        raise NotImplementedError

    def wanted_key(self, key: dict[str, Any]) -> bool:
        """Tell whether a live key's status and age are those that are looked for."""
        raise NotImplementedError

    def holds(self, match: Match) -> bool:
        """Tell whether the user's live keys bear out what the report says of the slot."""
        if not match.is_read or (match.key is not None and self.wanted_key(match.key)):
            return True
        name, slot = match.row.user, self.option("slot")
        if match.in_doubt and any(map(self.wanted_key, match.live)):
            why = match.identified.text
            self.run.log.once(f"user {name!r}: key {slot} can't be identified ({why}): skipped")
            return True
        what = "has changed since the credential report"
        if match.key is not None and created(match.key) == self.slot_of(match.row).last_rotated:
            # Such as after one of our runs: no surprise.
            what = f"is {match.key['Status'].lower()} now"
        self.run.log.once(f"user {name!r}: key {slot} {what}: skipped", logging.INFO)
        self.run.left.note(name, slot, self._why_not(match))
        return False

    @staticmethod
    def _why_not(match: Match) -> Why:
        """Say what has become of a key that isn't as the report has it."""
        if match.key is not None and match.key["Status"] not in ("Active", "Inactive"):
            return Why.UNKNOWN
        if match.row.created is None:
            # Another user may have got the name since then, and the report's user another name.
            return Why.NOT_FOUND
        return Why.GONE if match.identified is Identified.GONE else Why.CHANGED

    def refine(self, matched: list[Match]) -> list[Match]:
        """Drop the matches that a further check rules out."""
        return matched

    def process(self, resources: list[dict[str, Any]], event: Any = None) -> list[dict[str, Any]]:
        """Keep the users whose slot holds a key as looked for, and leave a record on each."""
        run = self.run
        report = report_of(run, self.option("report-max-age"))
        chosen = []
        for user in resources:
            row = report.rows.get(user["UserName"])
            if row and self.fits(row):
                chosen.append(Match(user, row))
        run.users.read(match.user for match in chosen)
        chosen = [match for match in chosen if self._is_same_user(match.row)]
        run.users.load_live_keys(match.user for match in chosen)
        found = [match for match in chosen if self._look(match) and self.holds(match)]
        kept = self.refine(found)
        path = next(place for place, element in places(self.manager.filters) if element is self)
        for match in kept:
            self._annotate(match, path, report.generated)
        return [match.user for match in kept]

    def _is_same_user(self, row: Row) -> bool:
        """False for who isn't found, or has got the name since the report: its row isn't theirs."""
        run = self.run
        if row.user in run.users.unread:
            return True
        if row.user not in run.users.known:
            return False
        if row.created is None or row.created == created(run.users.known[row.user]):
            return True
        run.log.once(
            f"user {row.user!r} was replaced after the credential report: skipped",
            logging.INFO,
        )
        run.left.note(row.user, self.option("slot"), Why.OTHER_USER)
        return False

    def _look(self, match: Match) -> bool:
        """Identify the live key, as far as it can be; False when the user isn't found."""
        run, name = self.run, match.row.user
        if name in run.users.unread:
            match.identified = Identified.UNREAD
            return True
        if name not in run.users.live:
            return False
        match.live = match.user[LIVE_KEYS] = run.users.live[name]
        match.key, match.identified = rotation.identify(match.row, self.option("slot"), match.live)
        return True

    def _annotate(self, match: Match, path: str, generated: datetime) -> None:
        run, user, key, days = self.run, match.user, match.key, self.option("days")
        reported = self.slot_of(match.row)
        rotated = created(key) if key else reported.last_rotated
        used_date, used_service, used_region = match.last_used or (
            reported.last_used_date,
            reported.last_used_service,
            reported.last_used_region,
        )
        tags = run.users.tags(user["UserName"])
        live = run.users.live.get(user["UserName"], ())
        key_id = key["AccessKeyId"] if key else None
        slot = self.option("slot")
        record = KeyRecord(
            filter=self.type,
            path=path,
            run=run.execution_id,
            verdict=self.judge(match.row),
            slot=slot,
            access_key_id=key_id,
            status=key["Status"] if key else None,
            identified=match.identified,
            drift=rotated != reported.last_rotated,
            # None, with what follows from it, where the report's date can't be read.
            last_rotated=rotated.isoformat() if rotated else None,
            age_days=round((run.now - rotated) / rotation.DAY, 1) if rotated else None,
            days=days,
            deadline=rotation.deadline(rotated, days).isoformat() if rotated else None,
            days_left=rotation.days_left(rotated, run.now, days) if rotated else None,
            last_used_date=used_date.isoformat() if used_date else None,
            last_used_service=used_service,
            last_used_region=used_region,
            report_generated=generated.isoformat(),
            description=records.description(tags, key_id),
            other_key=records.other_key(match.row, slot, key_id, live, tags, run.now),
        )
        user.setdefault(RECORDS, []).append(record.annotation())
        # For stock filters after this one; what counts is settled after all filters.
        user[MATCHED_KEYS] = candidates(user[RECORDS], live)


def slot_filters(filters: Sequence[Any]) -> list[SlotFilter]:
    """Return all filters of a tree that read the credential report."""
    return [element for _, element in places(filters) if isinstance(element, SlotFilter)]
