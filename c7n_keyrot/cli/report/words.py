# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""The page's words: what states, outcomes and reasons mean, and how names and numbers look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from typing import Any

from c7n_keyrot.core.records import Why
from c7n_keyrot.core.text import one_line

LONGEST = 300  # characters of a text from outside

SECTIONS = {
    "next": "What happens next",
    "compliance": "Compliance",
    "accounts": "Accounts",
    "keys": "Keys",
    "done": "What was done",
    "exemptions": "Exemptions",
    "rule": "The rule",
}
# What a key's state means; the words are those of the report.
STATES = {
    "open": "against the rule, active, and nothing exempts it",
    "unclear": "only a person can judge it",
    "exempt": "against the rule, and not changed until a date",
    "expiring": "against the rule soon",
    "fixed": "was against the rule, and isn't any more",
}
# Each outcome's kind, which colours it, and what it means.
OUTCOMES = {
    "disabled": ("good", "The key was deactivated. c7n-keyrot reactivate can undo it."),
    "deleted": ("good", "The key was inactive, and is deleted now."),
    "reactivated": ("soon", "The key was switched on again by c7n-keyrot reactivate."),
    "gone": ("none", "The key had been deleted. Nothing was left to do."),
    "skipped": ("none", "The key was not changed. Its row says why."),
    "unknown": (
        "soon",
        "It is not known what became of the key. Its row says why; check the key.",
    ),
    "intended": ("soon", "The run ended before it wrote what it did. Check the key."),
    "denied": ("bad", "AWS denied the call. The key is as it was."),
    "failed": ("bad", "The call failed. The key is as it was."),
}
# How a key ended that the pack didn't switch off: its owner's credit.
CLOSED = {
    "deactivated": "deactivated, not by the pack",
    "rotated": "replaced by a newer key",
    "removed": "deleted, not by the pack",
    "changed": "deactivated, deleted or replaced, not by the pack",
}
# The word of a reason, as reports have it, in words for a reader.
WHY = {why.value: why.text for why in Why}


def clean(text: object) -> str:
    """Return text from outside as one bounded line; most is so already, which is fast to see."""
    if isinstance(text, str) and len(text) <= LONGEST and text.isprintable():
        return text
    return "" if text is None else one_line(text, LONGEST)


def account_name(row: Mapping[str, Any]) -> str:
    return clean(row["name"] or row["account_id"])


def key_account(key: Mapping[str, Any]) -> str:
    return clean(key["account"] or key["account_id"])


def many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def some(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def percent(value: float | None) -> str:
    """Return a percentage in words; what isn't all is never 100%, what isn't nothing never 0%."""
    if value is None:
        return "no key"
    if 99.9 < value < 100:
        return "> 99.9%"
    if 0 < value < 0.1:
        return "< 0.1%"
    return f"{value:.1f}".removesuffix(".0") + "%"


def instant(text: str) -> str:
    """Return an ISO 8601 time as ``2026-11-26 03:40`` in UTC."""
    return f"{datetime.fromisoformat(text).astimezone(timezone.utc):%Y-%m-%d %H:%M}"


def day_name(text: str) -> str:
    """Return a date (YYYY-MM-DD) as ``Thu 26 Nov``."""
    day = date.fromisoformat(text)
    return f"{day:%a} {day.day} {day:%b}"
