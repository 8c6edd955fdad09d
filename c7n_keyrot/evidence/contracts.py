# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads what runs left, entry by entry. Anybody may have written it, so each field is checked."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from typing import Any

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.notice import OWNER_TAGS
from c7n_keyrot.core.records import NUMERIC_OPTIONS, KeyRecord, RunBegun, RunSummary
from c7n_keyrot.core.text import listed
from c7n_keyrot.evidence.files import BREAK, mapping

MOST = 10**8  # of a number in a filter's options, and of keys and users


@dataclass(frozen=True)
class User:
    """A user whom a policy selected, as in its ``resources.json``.

    :ivar matched: the status of each key in ``c7n:matched-keys``, by its id: those that one of our
        actions would touch, if a record of a stale-access-key filter names them and the status is
        the one that the action expects.
    """

    name: str
    arn: str
    path: str
    tags: Mapping[str, str]
    matched: Mapping[str, str]
    records: tuple[KeyRecord, ...] = field(repr=False)

    def owner(self, contact_tags: Collection[str] = ()) -> str | None:
        """Return the contact in the user's tags; None without one.

        :param contact_tags: of c7n-mailer, which writes to all of them; () for the usual ones, of
            which the first counts.
        """
        if contact_tags:
            return contacts(self.tags, contact_tags)
        lowered = {key.lower(): value for key, value in self.tags.items()}
        found = (lowered.get(tag.lower()) for tag in OWNER_TAGS)
        return next((value for value in found if value), None)


def contacts(tags: Mapping[str, str], contact_tags: Collection[str]) -> str | None:
    """Return whom c7n-mailer writes to, by a user's tags; None if they name nobody."""
    named = (tags.get(tag, "").strip() for tag in contact_tags)
    return ", ".join(dict.fromkeys(filter(None, named))) or None


def read_user(value: Any) -> User:
    """Read a user with our records.

    :raises ValueError: a field isn't what it should be.
    """
    user = mapping(value)
    tags, keys, records = (
        user.get(name) or [] for name in ("Tags", "c7n:matched-keys", "c7n:keyrot")
    )
    if not all(isinstance(some, list) for some in (tags, keys, records)):
        raise ValueError("not a user")
    found = User(
        name=_text(user.get("UserName")),
        arn=_text(user.get("Arn")),
        path=_text(user.get("Path", "/")),
        tags={_text(mapping(tag).get("Key")): _text(mapping(tag).get("Value")) for tag in tags},
        matched={
            _text(mapping(key).get("AccessKeyId")): _text(mapping(key).get("Status"))
            for key in keys
        },
        records=tuple(map(KeyRecord.parse, records)),
    )
    for record in found.records:
        _check_texts(record)
        if record.slot not in (1, 2):
            raise ValueError("no such slot")
        for time in (
            record.last_rotated,
            record.deadline,
            record.last_used_date,
            record.report_generated,
        ):
            if time is not None:
                _check_time(time)
        if record.usage is not None:
            _check_time(record.usage.until)
            for group in record.usage.groups:
                _check_time(group.first)
                _check_time(group.last)
        if record.access_key_id and not outcomes.KEY_ID.fullmatch(record.access_key_id):
            raise ValueError("not a key's id")
    return found


def read_begun(line: bytes) -> RunBegun:
    """Read a line that says that a policy began, and check what its dataclass doesn't.

    :raises ValueError: it is torn, or not one that a run writes.
    """
    begun = RunBegun.parse(line)
    if begun.account_id and not outcomes.ACCOUNT_ID.fullmatch(begun.account_id):
        raise ValueError("account_id is not an account's")
    outcomes.instant(begun)
    if not (is_clean(begun.policy) and is_clean(begun.run)):
        raise ValueError("a text has control characters, or is too long")
    return begun


def read_summary(line: bytes) -> RunSummary:
    """Read a line of a summary, and check what its dataclass doesn't.

    :raises ValueError: it is torn, or not one that a run writes.
    """
    summary = RunSummary.parse(line)
    if not outcomes.ACCOUNT_ID.fullmatch(summary.account_id):
        raise ValueError("account_id is not an account's")
    numbers = (
        summary.users or 0,
        summary.active_keys,
        summary.candidates,
        summary.matched,
        *summary.verdicts.values(),
    )
    if not all(0 <= number < MOST for number in numbers):
        raise ValueError("a count is out of range")
    if summary.report_generated is not None:
        _check_time(summary.report_generated)
    outcomes.instant(summary)
    _check_texts(summary)
    _check_not_matched(summary)
    _check_filters(summary)
    return summary


def _check_not_matched(summary: RunSummary) -> None:
    for left in summary.not_matched:
        if left.slot not in (1, 2):
            raise ValueError("no such slot")
        if left.exempt_until is not None:
            date.fromisoformat(left.exempt_until)
        if left.last_rotated is not None:
            _check_time(left.last_rotated)
        if left.access_key_id is not None and not outcomes.KEY_ID.fullmatch(left.access_key_id):
            raise ValueError("not a key's id")
    for exempt in summary.exempt:
        if exempt.until is not None:
            date.fromisoformat(exempt.until)


def _check_filters(summary: RunSummary) -> None:
    for options in summary.filters:
        slot = options.get("slot", 1)
        if type(slot) is not int or slot not in (1, 2):
            raise ValueError("no such slot")
        if not isinstance(options.get("filter"), str):
            raise ValueError("not one of our filters")
        if not all(_is_positive(options.get(name, 1)) for name in NUMERIC_OPTIONS):
            raise ValueError("not an option of one of our filters")


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < MOST


def metrics_of(value: Any) -> dict[str, float]:
    """Return the metrics out of Custodian's metadata, by name."""
    found: dict[str, float] = {}
    for metric in value if isinstance(value, list) else ():
        name, number = mapping(metric).get("MetricName"), mapping(metric).get("Value")
        if isinstance(name, str) and isinstance(number, int | float) and math.isfinite(number):
            found[name] = number
    return found


def instant_of(value: Any) -> datetime | None:
    """Return seconds since 1970 as an instant in UTC; None for what isn't that."""
    if type(value) not in (int, float) or not 0 <= value < 253370764800:  # the year 9999
        return None
    return datetime.fromtimestamp(value, timezone.utc)


def _check_time(text: str) -> None:
    """:raises ValueError: the text isn't an instant with its zone."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time has no zone")
    try:
        time.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("a time out of range") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not is_clean(value):
        raise ValueError("not a text")
    return value


def is_clean(text: str) -> bool:
    """Tell whether a text can be encoded; half a surrogate pair can't."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def _check_texts(fields: Any) -> None:
    """:raises ValueError: a text in it can't be encoded."""
    json.dumps(vars(fields), ensure_ascii=False, default=vars).encode()


def shared(name: str, run: str, summaries: Sequence[RunSummary]) -> str:
    """Return which other policies of the same run left this folder to the last one; "" for none.

    :param name: of the policy whose metadata is there, and ``run`` its execution.
    """
    others = dict.fromkeys(one.policy for one in summaries if one.policy != name)
    if others:
        what = "policies share it, so only the last one's users are there"
        return f"it has lines of {listed(list(others))}: {what}; use an -s without braces"
    last = next((one for one in reversed(summaries) if one.run == run), None)
    if last is None:
        return ""
    begun = outcomes.instant(last) - BREAK
    if any(one.filters != last.filters and outcomes.instant(one) > begun for one in summaries):
        return (
            "policies of one name, with other filters, have run into it within a minute, so only "
            "the last one's users are there; give each policy a name of its own, and run again"
        )
    return ""
