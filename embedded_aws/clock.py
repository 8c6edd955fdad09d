# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Time as the embedded AWS counts it. All instants are UTC and whole seconds, as AWS's are."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone


def monotonic() -> float:
    """Return the seconds that reports, limits and lags use; a test can stop this clock."""
    return time.monotonic()


def utcnow() -> datetime:
    """Return now: naive for moto, in whole seconds as AWS's dates."""
    return datetime.now(timezone.utc).replace(microsecond=0, tzinfo=None)


def naive(when: datetime) -> datetime:
    """Return an instant as moto keeps it: naive, in UTC, in whole seconds."""
    if when.tzinfo is not None:
        when = when.astimezone(timezone.utc).replace(tzinfo=None)
    return when.replace(microsecond=0)


def iso(when: datetime) -> str:
    return naive(when).isoformat() + "+00:00"


def shift_dates(text: str, by: timedelta) -> str:
    """Move the dates of a tag's value (2026-05-01, or Custodian's 2026/05/01) by whole days."""

    def moved(found: re.Match[str]) -> str:
        try:
            date = datetime(int(found[1]), int(found[3]), int(found[4]), tzinfo=timezone.utc) - by
        except (ValueError, OverflowError):
            return found[0]
        return date.strftime(f"%Y{found[2]}%m{found[2]}%d")

    return re.sub(r"(?<!\d)(\d{4})([-/])(\d\d)\2(\d\d)(?!\d)", moved, text)


def shift_instants(text: str, by: timedelta) -> str:
    def moved(found: re.Match[str]) -> str:
        try:
            return iso(datetime.fromisoformat(found[0]) - by)
        except (ValueError, OverflowError):
            return found[0]

    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", moved, text)
