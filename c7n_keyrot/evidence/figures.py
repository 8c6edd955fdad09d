# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""What lines of summaries count in an account, by its credential report."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from c7n_keyrot.core import outcomes
from c7n_keyrot.core.records import RunSummary, Why
from c7n_keyrot.core.rotation import DAY, Verdict
from c7n_keyrot.core.text import one_line

# What is older than this, beside the newest of its kind, isn't of the present: a run a day, and a
# credential report that may be a day old when it starts.
PRESENT = timedelta(days=2)
# An answer that is older than this isn't one.
OLD = timedelta(days=30)
# Between the policies of one run AWS may make another credential report, once in 4 hours.
ONE_RUN = timedelta(hours=6)
# Verdicts on active keys. Those of a line are these, and keys that are inactive or absent.
JUDGED = (
    Verdict.FRESH.value,
    Verdict.EXPIRING.value,
    Verdict.STALE.value,
    Verdict.UNKNOWN.value,
)

FIGURES = ("users", "active_keys", *JUDGED, "compliant_percent")


@dataclass(frozen=True)
class Judgement:
    """A summary that judges the keys of an account.

    :ivar report: when AWS made the credential report.
    :ivar days: the limit that the verdicts are by; of several slots the longest.
    :ivar notice: whether it says which keys are expiring, and ``notice_days`` how long before.
    :ivar exempt: stale keys that an exemption left out.
    :ivar whole: whether each key of its slots has a verdict that can be relied on.
    """

    time: datetime
    report: datetime
    slots: frozenset[int]
    days: float
    notice: bool
    users: int
    active_keys: int
    verdicts: dict[str, int]
    exempt: int
    dry_run: bool
    run: str
    whole: bool
    notice_days: float = 0

    @property
    def stale(self) -> int:
        """How many keys are stale, in all of its slots."""
        return self.verdicts.get(Verdict.STALE.value, 0)


def line_of(summary: RunSummary) -> Judgement | None:
    """Return what a summary counts; None if its filters judge no slot, or saw no report."""
    judging = [one for one in summary.filters if "slot" in one and "days" in one]
    if not judging or summary.report_generated is None or summary.users is None:
        return None
    # A slot's verdicts are by its first filter. That of a delete stage has a limit of its own: it
    # is no rule for active keys.
    firsts: dict[int, dict[str, Any]] = {}
    for one in judging:
        firsts.setdefault(one["slot"], one)
    if any(one.get("status") == "Inactive" for one in firsts.values()):
        return None
    stale = [left for left in summary.not_matched if left.verdict is Verdict.STALE]
    return Judgement(
        time=outcomes.instant(summary),
        report=datetime.fromisoformat(summary.report_generated),
        slots=frozenset(one["slot"] for one in judging),
        days=max(one["days"] for one in firsts.values()),
        notice="notice" in judging[0],
        users=summary.users,
        active_keys=summary.active_keys,
        verdicts=summary.verdicts,
        exempt=len({(left.user, left.slot) for left in stale if left.why is Why.EXEMPT}),
        dry_run=summary.dry_run,
        run=one_line(summary.run, 100),
        whole=not summary.verdicts.get(Verdict.UNKNOWN.value)
        and not any(left.why is Why.TWICE for left in summary.not_matched),
        notice_days=judging[0].get("notice", 0),
    )


class Listing:
    """When a run first listed a key as not fresh, out of what its account's runs judged."""

    def __init__(self, lines: Iterable[Judgement]) -> None:
        found: dict[tuple[int, float], list[tuple[datetime, datetime]]] = {}
        for line in lines:
            last = line.report + line.notice_days * DAY
            for slot in line.slots:
                found.setdefault((slot, line.days), []).append((last, line.time))
        # Of each slot and limit: up to which deadline a line lists keys, in order, and the earliest
        # time of all lines that list as much.
        self.found: dict[tuple[int, float], tuple[list[datetime], list[datetime]]] = {}
        for key, some in found.items():
            some.sort()
            times = list(accumulate((time for _, time in reversed(some)), min))
            self.found[key] = [last for last, _ in some], times[::-1]

    def first(self, slot: int, days: float, due: datetime) -> datetime | None:
        """Return when a key of that slot and limit was listed first; None if it never was."""
        ends, times = self.found.get((slot, days), ([], []))
        place = bisect_right(ends, due)
        return times[place] if place < len(times) else None


def present(lines: Sequence[Judgement]) -> list[Judgement]:
    """Return the lines that were written together with the newest, or shortly before it."""
    newest = max((line.time for line in lines), default=None)
    return [line for line in lines if newest and newest - line.time < PRESENT]


def chosen(lines: Iterable[Judgement], days: float) -> list[Judgement]:
    """Return the lines to count by: one for each slot.

    The line of the newest credential report counts. But one that knows which keys are expiring
    counts more, if its report is of the same run.

    :param days: a line with this limit is preferred to one with another.
    """
    lines = list(lines)
    newest = max((line.report for line in lines), default=None)

    def rank(line: Judgement) -> tuple[Any, ...]:
        same_run = newest is not None and newest - line.report < ONE_RUN
        return line.days == days, same_run, line.notice, line.report, line.time

    best: dict[frozenset[int], Judgement] = {}
    for line in sorted(lines, key=rank):
        best[line.slots] = line
    found: list[Judgement] = []
    for slots in sorted(best, key=lambda slots: (-len(slots), sorted(slots))):
        if not any(slots & other.slots for other in found):
            found.append(best[slots])
    return found


def figures(lines: Sequence[Judgement]) -> dict[str, Any]:
    """Return the figures of the chosen lines of one account."""
    counts = {name: sum(line.verdicts.get(name, 0) for line in lines) for name in JUDGED}
    return {
        "users": max(line.users for line in lines),
        "active_keys": sum(line.active_keys for line in lines),
        **counts,
        "compliant_percent": percent(counts),
    }


def total(some: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of several accounts in one."""
    summed: Counter[str] = Counter(dict.fromkeys(("users", "active_keys", *JUDGED), 0))
    for one in some:
        for name in summed:
            summed[name] += one[name]
    return {**summed, "compliant_percent": percent(summed)}


def percent(counts: dict[str, int] | Counter[str]) -> float | None:
    """Return the share of judged keys that are fresh or expiring: percent, rounded down to 0.1.

    None without a judged key.
    """
    judged = sum(counts[name] for name in JUDGED)
    good = counts[Verdict.FRESH.value] + counts[Verdict.EXPIRING.value]
    return math.floor(1000 * good / judged) / 10 if judged else None
