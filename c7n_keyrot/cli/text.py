# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""How the commands word what they print; ``one_line`` cleans text from outside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from c7n_keyrot.iam import one_line

__all__ = ["counted", "listed", "one_line", "utc"]


def counted(number: int, noun: str) -> str:
    """Return a count and its noun, such as ``1 key`` or ``2 keys``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return the cleaned names with commas; after ``most`` of them only the count."""
    shown = ", ".join(one_line(name, 100) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def utc(time: datetime | float, seconds: bool = False) -> str:
    """Return a time in UTC, such as ``2026-05-01 10:00 UTC``.

    :param time: a time with its zone, or seconds since 1970.
    :param seconds: whether to name the second.
    """
    if not isinstance(time, datetime):
        time = datetime.fromtimestamp(time, timezone.utc)
    form = "%Y-%m-%d %H:%M:%S UTC" if seconds else "%Y-%m-%d %H:%M UTC"
    return time.astimezone(timezone.utc).strftime(form)
