# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""A key's usage in words, for notices and for the screen.

Nothing here says that a key isn't used: the event history doesn't have every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from c7n_keyrot.core.text import how_long, one_line
from c7n_keyrot.core.usage import Group, Usage

# Names of actions in one line; the rest is counted.
MOST_ACTIONS = 3
# Characters of a line.
LONGEST = 240


def sentence(usage: Usage | None) -> str:
    """Return one sentence without its full stop, as of when the history was asked; "" for None."""
    if usage is None:
        return ""
    return str(in_words(usage, datetime.fromisoformat(usage.until), most=1)["said"])


def in_words(usage: Usage, now: datetime, most: int) -> dict[str, Any]:
    """Return ``said``, one sentence without its full stop, and if needed ``lines`` and ``gap``.

    :param most: lines at most: one for each place and program, the latest first. If it is 1, the
        sentence has the latest call, and no lines follow.
    :returns: ``gap`` is what couldn't be read, or wasn't.
    """
    regions: dict[str, list[str]] = {}
    for region, why in usage.unknown.items():
        regions.setdefault(one_line(why, 120), []).append(one_line(region, 32))
    gap = "; ".join(
        f"usage in {' and '.join(names)} isn't known: {why}" for why, names in regions.items()
    )
    gap = gap[:1].upper() + gap[1:]
    if not usage.known:
        return {"said": gap}
    more = {"gap": gap} if gap else {}
    period = f"in {usage.days:.10g} day{'' if usage.days == 1 else 's'}"
    if not usage.events:
        said = f"No call {period} is in CloudTrail's event history ({', '.join(usage.regions)})"
        return {"said": said, **more}
    said = f"Used {'at least ' if usage.cut else ''}{times(usage.events)} {period}"
    places: dict[tuple[str, str], list[Group]] = {}
    for group in usage.groups:
        places.setdefault((group.source, group.agent), []).append(group)
    if usage.events == sum(group.count for group in usage.groups) and len(places) == 1:
        return {"said": f"{said}: {_line(usage.groups, now, counted=False)}", **more}
    if most == 1:
        last = usage.groups[0]
        also = list(dict.fromkeys(g.source for g in usage.groups if g.source != last.source))
        said += (
            f", the last: {_call([last])}, {how_long(now - datetime.fromisoformat(last.last))} ago"
        )
        said += f"; also from {also[0]}" + (" and others" if len(also) > 1 else "") if also else ""
        return {"said": said, **more}
    shown = list(places.values())[:most]
    left = usage.events - sum(group.count for groups in shown for group in groups)
    lines = [_line(groups, now) for groups in shown]
    lines += [f"and {left} other call{'' if left == 1 else 's'}"] if left > 0 else []
    return {"said": said, "lines": lines, **more}


def _line(groups: Sequence[Group], now: datetime, counted: bool = True) -> str:
    """Say what one program in one place did: actions, count, last time, failures."""
    number = f", {times(sum(group.count for group in groups))}" if counted else ""
    last = max(datetime.fromisoformat(group.last) for group in groups)
    errors = {code: None for group in groups for code in group.errors}
    failed = sum(count for group in groups for count in group.errors.values())
    text = f"{_call(groups)}{number}, last {how_long(now - last)} ago"
    return one_line(text + (f", {failed} failed ({', '.join(errors)})" if failed else ""), LONGEST)


def _call(groups: Sequence[Group]) -> str:
    actions = [group.action for group in groups]
    more = len(actions) - MOST_ACTIONS
    named = ", ".join(actions[:MOST_ACTIONS]) + (f" and {more} more" if more > 0 else "")
    return one_line(f"{named} from {groups[0].source} by {groups[0].agent}", LONGEST)


def times(number: int) -> str:
    """Return ``once``, ``212 times``."""
    return "once" if number == 1 else f"{number} times"
