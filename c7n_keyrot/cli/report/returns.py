# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Does it hurt? Which of the disabled keys were switched on again, by whom, and when."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from c7n_keyrot.core.outcomes import Result

UNDO, OTHERS = "undo", "others"
ACTIVE = ("open", "exempt")  # states of a key that is active now
HOUR = timedelta(hours=1)


def switch_ons(key: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield each time that a disabled key was switched on again: by whom, after how many hours.

    The pack's undo leaves a line. Without one, others did it: the key was disabled again, or a
    later run found it active. Then the hours are the most that it can have been.
    """
    off: datetime | None = None
    for one in key["history"]:
        time = datetime.fromisoformat(one["time"])
        if one["outcome"] == Result.DISABLED.value:
            if off is not None:
                yield OTHERS, (time - off) / HOUR
            off = time
        elif one["outcome"] == Result.REACTIVATED.value and off is not None:
            yield UNDO, (time - off) / HOUR
            off = None
    seen = datetime.fromisoformat(key["as_of"])
    if off is not None and key["state"] in ACTIVE and seen > off:
        yield OTHERS, (seen - off) / HOUR


def times(key: Mapping[str, Any]) -> dict[str, int]:
    """Return how often a key was disabled, and how often it was switched on again."""
    disabled = sum(one["outcome"] == Result.DISABLED.value for one in key["history"])
    return {"times_disabled": disabled, "times_switched_on": len(list(switch_ons(key)))}


def summary(keys: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of all keys, as the report has them."""
    disabled = again = 0
    found: list[tuple[str, float]] = []
    for key in keys:
        ons = list(switch_ons(key))
        disabled += key["times_disabled"] > 0
        again += bool(ons)
        found += ons
    by = [who for who, _ in found]
    return {
        "disabled": disabled,
        "keys": again,
        "undone": by.count(UNDO),
        "by_others": by.count(OTHERS),
        "median_hours": round(statistics.median(t for _, t in found), 1) if found else None,
    }
