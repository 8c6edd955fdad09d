# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The filters for aws.iam-user: stale-access-key, expiring-access-key and rotation-exempt.

c7n.resources.iam is half imported when this is loaded, so nothing here imports it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from c7n.exceptions import PolicyValidationError
from c7n.filters import Filter
from c7n.utils import type_schema

from c7n_keyrot import records, rotation
from c7n_keyrot.credential_report import Row
from c7n_keyrot.matched_keys import BLOCKS, MATCHED_KEYS, RECORDS, candidates, places
from c7n_keyrot.policy_run import LIVE_KEYS, PolicyRun
from c7n_keyrot.records import KeyRecord
from c7n_keyrot.rotation import Identified, Verdict, created

HANDLER = "c7n_keyrot.handler.run"
PACKAGE = "c7n_keyrot"
# A thousand years; beyond it dates can't be reckoned with any more.
MOST_DAYS = 365_000
POSITIVE = {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_DAYS}
SLOT = {"enum": [1, 2]}


def check_mode(element: Any) -> None:
    """Refuse a serverless policy that would die in Lambda, where no startup file is read."""
    mode = element.manager.data.get("mode") or {}
    if mode.get("type", "pull") != "pull" and (
        PACKAGE not in (mode.get("packages") or ()) or mode.get("handler") != HANDLER
    ):
        raise invalid(
            element, f"in Lambda, mode needs packages: [{PACKAGE}] and handler: {HANDLER}"
        )


def invalid(element: Any, reason: str) -> PolicyValidationError:
    """Return a validation error that names the policy and the element."""
    return PolicyValidationError(
        f"policy {element.manager.data.get('name')}: {element.type}: {reason}"
    )


def number(element: Any, option: str, value: Any) -> None:
    """Refuse what is no number of days (or hours) > 0; c7n-org checks no schema."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not 0 < value <= MOST_DAYS:
        raise invalid(
            element, f"{option} must be a number > 0 (at most {MOST_DAYS}), not {value!r}"
        )


class _Ours(Filter):  # type: ignore[misc]
    """What the filters of this package share."""

    def __init__(self, data: dict[str, Any], manager: Any = None) -> None:
        super().__init__(data, manager)
        if manager is not None:
            # Made with the filters, since it must stand around them before they are called.
            PolicyRun.of(manager)

    @property
    def run(self) -> PolicyRun:
        return PolicyRun.of(self.manager)

    def option(self, name: str) -> Any:
        return self.data.get(name, self.schema["properties"][name].get("default"))

    def validate(self) -> _Ours:
        for name in self.data:
            if name not in self.schema["properties"]:
                known = ", ".join(sorted(self.schema["properties"]))
                raise invalid(self, f"unknown option {name!r}; there are {known}")
        check_mode(self)
        return self


class _SlotFilter(_Ours):
    """A filter on one slot of the credential report, whose live key is then identified."""

    def validate(self) -> _Ours:
        super().validate()
        # A float passes for a number of the enum, and would be no index.
        if type(self.option("slot")) is not int or self.option("slot") not in (1, 2):
            raise invalid(self, f"slot must be 1 or 2, not {self.option('slot')!r}")
        for name in ("days", "report-max-age"):
            number(self, name, self.option(name))
        return self

    def judge(self, row: Row) -> Verdict:
        """Return the slot's verdict by the report."""
        raise NotImplementedError

    def fits(self, row: Row) -> bool:
        """Tell whether the filter can match the user of this row, as far as the report tells."""
        verdict = self.judge(row)
        if verdict is Verdict.UNKNOWN:
            self.run.say(
                f"user {row.user!r}: key {self.option('slot')} is unknown: the credential report "
                "has it, but its status or last rotation can't be read; look at it, nothing is done"
            )
            return False
        return self.wanted(row, verdict)

    def wanted(self, row: Row, verdict: Verdict) -> bool:
        """Tell whether the slot's status and age in the report are those that are looked for."""
        raise NotImplementedError

    def wanted_key(self, key: dict[str, Any]) -> bool:
        """Tell whether a live key's status and age are those that are looked for."""
        raise NotImplementedError

    def refine(self, matched: list[_Match]) -> list[_Match]:
        """Drop the matches that a further look at AWS rules out."""
        return matched

    def process(self, resources: list[dict[str, Any]], event: Any = None) -> list[dict[str, Any]]:
        """Keep the users whose slot holds a key as looked for, and leave a record on each."""
        run = self.run
        report = run.report(self.option("report-max-age"))
        chosen = []
        for user in resources:
            row = report.rows.get(user["UserName"])
            if row and self.fits(row):
                chosen.append(_Match(user, row))
        run.read_users(match.user for match in chosen)
        chosen = [match for match in chosen if self._is_same_user(match.row)]
        run.load_live_keys(match.user for match in chosen)
        found = [match for match in chosen if self._find(match)]
        kept = self.refine(found)
        path = next(place for place, element in places(self.manager.filters) if element is self)
        for match in kept:
            self._annotate(match, path, report.generated)
        return [match.user for match in kept]

    def _is_same_user(self, row: Row) -> bool:
        """False for who is gone, or has got the name since the report: its row isn't theirs."""
        run = self.run
        if row.user in run.unread:
            return True
        if row.user not in run.users:
            return False
        if row.created is None or row.created == created(run.users[row.user]):
            return True
        run.say(
            f"user {row.user!r} is another one since the credential report: left alone",
            logging.INFO,
        )
        return False

    def _find(self, match: _Match) -> bool:
        """Identify the live key; False when nothing of what the report says is there any more."""
        run, name, slot = self.run, match.row.user, self.option("slot")
        if name in run.unread:
            match.identified = Identified.UNREAD
            return True
        if name not in run.live:
            return False
        live = run.live[name]
        match.user[LIVE_KEYS] = live
        key, match.identified = rotation.identify(match.row, slot, live)
        in_doubt = match.identified in (Identified.AMBIGUOUS, Identified.NO)
        if in_doubt and any(self.wanted_key(other) for other in live):
            why = (
                "two keys of one second"
                if match.identified is Identified.AMBIGUOUS
                else "the credential report's dates show no live key to be it"
            )
            run.say(f"user {name!r}: key {slot} can't be told from the other ({why}): left alone")
            return True
        if key is None or not self.wanted_key(key):
            run.say(
                f"user {name!r}: key {slot} has changed since the credential report: left alone",
                logging.INFO,
            )
            return False
        match.key = key
        return True

    def _annotate(self, match: _Match, path: str, generated: datetime) -> None:
        run, user, key, slot = self.run, match.user, match.key, self.option("slot")
        reported = match.row.slots[slot - 1]
        # Without a date in the report nothing matches.
        rotated = created(key) if key else cast(datetime, reported.last_rotated)
        used_date, used_service, used_region = match.last_used or (
            reported.last_used_date,
            reported.last_used_service,
            reported.last_used_region,
        )
        days = self.option("days")
        tags = run.users.get(user["UserName"], {}).get("Tags", ())
        live = run.live.get(user["UserName"], ())
        key_id = key["AccessKeyId"] if key else None
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
            last_rotated=rotated.isoformat(),
            age_days=round((run.now - rotated) / rotation.DAY, 1),
            days=days,
            deadline=_later(rotated, days),
            days_left=rotation.days_left(rotated, run.now, days),
            last_used_date=used_date.isoformat() if used_date else None,
            last_used_service=used_service,
            last_used_region=used_region,
            report_generated=generated.isoformat(),
            description=records.description(tags, key_id),
            other_key=records.other_key(match.row, slot, key_id, live, tags, run.now),
        )
        user.setdefault(RECORDS, []).append(record.annotation())
        # For stock filters behind this one; what counts is settled after all filters.
        user[MATCHED_KEYS] = candidates(user[RECORDS], live)


class _Match:
    """A user on the way through a slot filter, with the row and, once found, the live key."""

    def __init__(self, user: dict[str, Any], row: Row) -> None:
        self.user, self.row = user, row
        self.key: dict[str, Any] | None = None
        self.identified = Identified.NO
        self.last_used: tuple[datetime | None, str | None, str | None] | None = None


def _later(instant: datetime, days: float) -> str:
    try:
        return (instant + timedelta(days=days)).isoformat()
    except OverflowError:
        return datetime.max.replace(tzinfo=timezone.utc, microsecond=0).isoformat()


class StaleAccessKey(_SlotFilter):
    """Users whose key in one slot is older than so many days; by default the second key.

    It is the rule CloudGuard D9.AWS.IAM.07: the second access key is active and was last rotated
    before now - 90 x 24 hours (UTC, to the second; exactly 90 days passes). The slot is that of
    the IAM credential report, so "second" is neither "the newer" nor "any" key.

    The report names no key, and may be hours old. So the user's live keys are listed, and a key
    counts only if it is told for sure from the other one, and its live status and date fit as
    well. It is put into ``c7n:matched-keys``, which ``disable-access-key`` and
    ``delete-access-key`` act on. Where any doubt is left, the user is reported without a key.

    - ``slot``: 1 or 2 (default)
    - ``days``: days since the last rotation, > 0, fractions allowed (default 90)
    - ``status``: Active (default) or Inactive
    - ``unused-days``: and never used, or not used for more than so many days
    - ``superseded``: and the other slot holds an active, younger key, used later than this one
    - ``report-max-age``: hours (default 24); with an older credential report the policy fails

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

    schema = type_schema(
        "stale-access-key",
        slot={**SLOT, "default": 2},
        days={**POSITIVE, "default": 90},
        status={"enum": ["Active", "Inactive"], "default": "Active"},
        **{
            "unused-days": POSITIVE,
            "superseded": {"type": "boolean", "default": False},
            "report-max-age": {**POSITIVE, "default": 24},
        },
    )

    def get_permissions(self) -> tuple[str, ...]:
        """Return the IAM actions that this very filter calls."""
        asks = self.data.get("unused-days") is not None or self.option("superseded")
        return SLOT_PERMISSIONS + (("iam:GetAccessKeyLastUsed",) if asks else ())

    # For tools that look at the class: all that any options can need.
    permissions = (
        "iam:GenerateCredentialReport",
        "iam:GetCredentialReport",
        "iam:GetUser",
        "iam:ListAccessKeys",
        "iam:GetAccessKeyLastUsed",
    )

    def validate(self) -> _Ours:
        super().validate()
        if self.option("status") not in ("Active", "Inactive"):
            raise invalid(self, f"status must be Active or Inactive, not {self.option('status')!r}")
        if "unused-days" in self.data:
            number(self, "unused-days", self.data["unused-days"])
        if not isinstance(self.option("superseded"), bool):
            raise invalid(
                self, f"superseded must be true or false, not {self.option('superseded')!r}"
            )
        return self

    def judge(self, row: Row) -> Verdict:
        return rotation.verdict(
            row.slots[self.option("slot") - 1], self.run.now, self.option("days")
        )

    def wanted(self, row: Row, verdict: Verdict) -> bool:
        if self.option("status") == "Active":
            return verdict is Verdict.STALE
        rotated = row.slots[self.option("slot") - 1].last_rotated
        return verdict is Verdict.INACTIVE and rotated is not None and self._is_old(rotated)

    def wanted_key(self, key: dict[str, Any]) -> bool:
        return key["Status"] == self.option("status") and self._is_old(created(key))

    def _is_old(self, instant: datetime) -> bool:
        return rotation.is_older(instant, self.run.now, self.option("days"))

    def refine(self, matched: list[_Match]) -> list[_Match]:
        if self.data.get("unused-days") is None and not self.option("superseded"):
            return matched
        kept = [match for match in matched if match.key is None]
        identified = [match for match in matched if match.key is not None]
        for match, keep, error in self.run.each("last uses read", self._still, identified):
            if error is not None and error.gone:
                self.run.say(f"user {match.row.user!r}: a key is gone meanwhile", logging.INFO)
            elif error is not None:
                self.run.hide(match.row.user, f"last use not read, {error}")
                match.key, match.identified = None, Identified.UNREAD
                kept.append(match)
            elif keep:
                kept.append(match)
        return kept

    def _still(self, match: _Match) -> bool:
        """Ask AWS when the keys were last used; the report's answer may be hours old."""
        key = cast(dict[str, Any], match.key)
        match.last_used = self.run.last_used(key["AccessKeyId"])
        used = match.last_used[0]
        unused_days = self.data.get("unused-days")
        if unused_days and used and not rotation.is_older(used, self.run.now, unused_days):
            return False
        if not self.option("superseded"):
            return True
        for other in self.run.live[match.row.user]:
            if other["Status"] != "Active" or created(other) <= created(key):
                continue
            other_used = self.run.last_used(other["AccessKeyId"])[0]
            return other_used is not None and (used is None or other_used > used)
        return False


class ExpiringAccessKey(_SlotFilter):
    """Users whose active key in one slot is not stale yet, but will be within so many days.

    For notices before ``stale-access-key`` strikes. Such a key never enters ``c7n:matched-keys``,
    so no action disables it.

    - ``slot``: 1 or 2 (default)
    - ``days``: days after which a key is stale, > 0, fractions allowed (default 90)
    - ``notice``: days before that (default 14)
    - ``remind-at``: a list of days; match only while so many are left, rounded up, so that a
      policy that runs daily doesn't mail daily
    - ``report-max-age``: hours (default 24); with an older credential report the policy fails

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

    schema = type_schema(
        "expiring-access-key",
        slot={**SLOT, "default": 2},
        days={**POSITIVE, "default": 90},
        notice={**POSITIVE, "default": 14},
        **{
            "remind-at": {"type": "array", "minItems": 1, "items": POSITIVE},
            "report-max-age": {**POSITIVE, "default": 24},
        },
    )
    permissions = (
        "iam:GenerateCredentialReport",
        "iam:GetCredentialReport",
        "iam:GetUser",
        "iam:ListAccessKeys",
    )

    def validate(self) -> _Ours:
        super().validate()
        notice = self.option("notice")
        number(self, "notice", notice)
        if "remind-at" not in self.data:
            return self
        reminders = self.data["remind-at"]
        if not isinstance(reminders, list) or not reminders:
            raise invalid(self, f"remind-at must be a list of days, not {reminders!r}")
        for value in reminders:
            number(self, "remind-at", value)
            if value != int(value):
                raise invalid(self, f"remind-at takes whole days, not {value!r}")
            if value > math.ceil(notice):
                raise invalid(
                    self, f"remind-at {value} is never reached, since notice is {notice} days"
                )
        return self

    def judge(self, row: Row) -> Verdict:
        return rotation.verdict(
            row.slots[self.option("slot") - 1],
            self.run.now,
            self.option("days"),
            self.option("notice"),
        )

    def wanted(self, row: Row, verdict: Verdict) -> bool:
        rotated = row.slots[self.option("slot") - 1].last_rotated
        return verdict is Verdict.EXPIRING and rotated is not None and self._is_due(rotated)

    def wanted_key(self, key: dict[str, Any]) -> bool:
        rotated, days = created(key), self.option("days")
        return (
            key["Status"] == "Active"
            and rotation.is_expiring(rotated, self.run.now, days, self.option("notice"))
            and self._is_due(rotated)
        )

    def _is_due(self, rotated: datetime) -> bool:
        reminders = self.data.get("remind-at")
        left = rotation.days_left(rotated, self.run.now, self.option("days"))
        return reminders is None or left in reminders


class RotationExempt(_Ours):
    """Users with an exemption that hasn't ended: a tag with a date, YYYY-MM-DD.

    The whole day counts, in UTC. A date that has passed or can't be read exempts nobody, and is
    logged. Tags are always read from IAM in this run, never out of a cache.

    - ``tag``: the tag's key (default keyrot-exempt-until)

    :example:

    .. code-block:: yaml

        policies:
          - name: iam-user-second-access-key-stale
            resource: aws.iam-user
            source: credential-report
            filters:
              - stale-access-key
              - not: [rotation-exempt]
    """

    schema = type_schema(
        "rotation-exempt",
        tag={"type": "string", "minLength": 1, "default": "keyrot-exempt-until"},
    )
    permissions = ("iam:GetUser",)

    def validate(self) -> _Ours:
        super().validate()
        tag = self.option("tag")
        if not isinstance(tag, str) or not tag:
            raise invalid(self, f"tag must be the key of a tag, not {tag!r}")
        return self

    def process(self, resources: list[dict[str, Any]], event: Any = None) -> list[dict[str, Any]]:
        """Keep the users who are exempt today."""
        run, exempt = self.run, []
        for element in slot_filters(self.manager.filters):
            # AWS may take minutes to make it: who is exempted meanwhile is exempt.
            run.report(element.option("report-max-age"))
        run.read_users(resources)
        for user in resources:
            name = user["UserName"]
            if name in run.unread:
                continue
            user["Tags"] = run.users.get(name, {}).get("Tags", [])
            found = rotation.exemption(user["Tags"], self.option("tag"), run.now)
            if found is None:
                continue
            if found.state == "valid":
                exempt.append(user)
            else:
                run.ended_exemptions[name] = asdict(found)
                ended = "is no date YYYY-MM-DD" if found.state == "unreadable" else "has passed"
                run.say(f"user {name!r}: {found.tag} {found.value!r} {ended}: not exempt")
        return exempt


SLOT_PERMISSIONS = ExpiringAccessKey.permissions


def slot_filters(filters: Sequence[Any]) -> list[_SlotFilter]:
    """Return all filters of a tree that read the credential report."""
    return [element for _, element in places(filters) if isinstance(element, _SlotFilter)]


def stale_filters(filters: Sequence[Any]) -> Iterator[StaleAccessKey]:
    """Yield the stale-access-key filters of a tree that can mean a key: those outside any not."""
    for element in filters:
        if isinstance(element, StaleAccessKey):
            yield element
        elif element.type in ("and", "or"):
            yield from stale_filters(element.filters)


def may_match(filters: Sequence[Any], row: Row) -> bool:
    """Tell whether all these filters can match the user of a row; what isn't known passes.

    A filter that looks at the whole set, such as reduce, must see it, so nothing behind it counts.
    """
    for element in filters:
        if looks_at_all(element):
            return True
        if not _may_pass(element, row):
            return False
    return True


def _may_pass(element: Any, row: Row) -> bool:
    if isinstance(element, _SlotFilter):
        return element.fits(row)
    if element.type == "and":
        return may_match(element.filters, row)
    if element.type == "or":
        return any(_may_pass(inner, row) for inner in element.filters)
    return True


def looks_at_all(element: Any) -> bool:
    """Tell whether a filter, or one inside of it, decides by all users rather than by one."""
    if element.type in BLOCKS:
        return any(looks_at_all(inner) for inner in element.filters)
    return bool(element.type == "reduce" or element.data.get("value_type") == "resource_count")
