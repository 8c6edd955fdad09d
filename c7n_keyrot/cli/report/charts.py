# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws the page's charts as inline SVG: no script, no style of its own, text that scales.

Colours and patterns come from the page's style sheet, by class. Sizes and a plain colour are in
the markup as well, since some servers (Jenkins, by its CSP) show the page without its style sheet.
Each chart is hidden from screen readers; the page has the same numbers in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup

# Half the space between two columns, and the room for text above and below the columns.
GAP, ABOVE, BELOW = 5, 34, 24
# By class, where there is no style sheet.
COLOURS = {
    **dict.fromkeys(("fresh", "fill", "fixed"), "#3f9d68"),
    "expiring": "#d9952b",
    "stale": "#cf4a40",
    "track": "#e9edf1",
}
OTHER_COLOUR = "#98a3b0"


@dataclass(frozen=True)
class Part:
    """A part of a whole or of a column; ``kind`` is its class in the style sheet."""

    kind: str
    label: str
    count: int


@dataclass(frozen=True)
class Column:
    """A column of the histogram: what is below it, and its parts from the ground up."""

    label: str
    parts: Sequence[Part]

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)

    def of(self, kind: str) -> int:
        """Return how many are of one kind."""
        return sum(part.count for part in self.parts if part.kind == kind)


def shares(parts: Sequence[Part]) -> Markup:
    """Draw parts of a whole as one bar; a part that isn't empty is never too thin to be seen."""
    whole = sum(part.count for part in parts)
    shown = [part for part in parts if part.count]
    thin, gap = 6.0, 2.0
    room = 1000.0 - gap * max(len(shown) - 1, 0)
    widths = [max(room * part.count / whole, thin) for part in shown]
    over = sum(widths) - room
    if over > 0:  # taken from the widest
        widest = widths.index(max(widths))
        widths[widest] -= over
    bars, x = Markup(), 0.0
    for part, width in zip(shown, widths, strict=True):
        bars += _rect(x, 0, width, 28, part.kind)
        x += width + gap
    return _svg("0 0 1000 28", "shares", bars, "none")


def share(percent: float) -> Markup:
    """Draw the bar of one percentage."""
    return _svg(
        "0 0 100 8",
        "share",
        _rect(0, 0, 100, 8, "track") + _rect(0, 0, percent, 8, "fill"),
        "none",
    )


def histogram(columns: Sequence[Column], line_before: int, line: str, width: int) -> Markup:
    """Draw columns, and a dashed line with its label in front of one of them.

    :param line_before: the index of that column.
    :param width: in pixels; text has its own size in any case.
    """
    height, step = 210, width / max(len(columns), 1)
    ground = height - BELOW
    most = max((column.count for column in columns), default=0) or 1
    drawn = Markup()
    for index, column in enumerate(columns):
        x, y = index * step, float(ground)
        for part in column.parts:
            if part.count:
                size = max((ground - ABOVE) * part.count / most, 2)
                y -= size
                drawn += _rect(x + GAP, y, step - 2 * GAP, size, part.kind)
        middle = x + step / 2
        if column.count:
            drawn += _text(middle, y - 6, f"{column.count:,}", "middle", "value")
        drawn += _text(middle, height - 7, column.label, "middle", "axis")
    at = line_before * step
    drawn += _line(0, ground, width, ground, "ground")
    drawn += _line(at, 4, at, ground, "limit")
    drawn += _text(at + 6, 14, line, "start", "limit-label")
    return _svg(f"0 0 {width} {height}", "chart", drawn)


def trend(values: Mapping[date, float | None], width: int) -> Markup:
    """Draw the percentages of days as a line; None leaves a gap.

    :param values: of at least two days, in their order.
    :param width: as in ``histogram``.
    """
    height, left, right, top = 190, 40, 14, 16
    ground = height - BELOW
    known = [value for value in values.values() if value is not None]
    days = [*values]
    # The axis begins at a round number below the lowest value, so that changes can be seen.
    low = min(math.floor((min(known, default=0) - 1) / 10) * 10, 90)
    low = max(low, 0)

    def x(day: date) -> float:
        return left + (width - left - right) * ((day - days[0]) / (days[-1] - days[0]))

    def y(value: float) -> float:
        return ground - (ground - top) * (value - low) / (100 - low)

    drawn = Markup()
    for tick in sorted({low, (low + 100) // 2, 100}):
        drawn += _line(left, y(tick), width - right, y(tick), "grid")
        drawn += _text(left - 8, y(tick) + 4, f"{tick:g}%", "end", "axis")
    path, pen = "", "M"
    for day, value in values.items():
        if value is None:
            pen = "M"
            continue
        path += f"{pen}{x(day):.1f} {y(value):.1f}"
        pen = "L"
        if len(values) <= 40:
            drawn += Markup('<circle class="dot" cx="{}" cy="{}" r="3"/>').format(
                round(x(day), 1), round(y(value), 1)
            )
    drawn += Markup('<path class="line" fill="none" stroke="#1f55c0" d="{}"/>').format(path)
    for anchor, day in ("start", days[0]), ("end", days[-1]):
        drawn += _text(x(day), height - 5, str(day), anchor, "axis")
    return _svg(f"0 0 {width} {height}", "chart", drawn)


def _svg(box: str, kind: str, content: Markup, ratio: str = "xMidYMid") -> Markup:
    width, height = box.split()[2:]
    return Markup(
        '<svg class="{}" width="{}" height="{}" viewBox="{}" preserveAspectRatio="{}"'
        ' aria-hidden="true" focusable="false">{}</svg>'
    ).format(kind, width, height, box, ratio, content)


def colour(kind: str) -> str:
    """Return the colour of a class of ``Part`` where there is no style sheet."""
    return COLOURS.get(kind, OTHER_COLOUR)


def _rect(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    numbers = (f"{number:.1f}".removesuffix(".0") for number in (x, y, width, height))
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}" fill="{}"/>').format(
        *numbers, kind, colour(kind)
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    numbers = (f"{number:.1f}".removesuffix(".0") for number in (x1, y1, x2, y2))
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}" stroke="{}"/>').format(
        *numbers, kind, OTHER_COLOUR
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str) -> Markup:
    return Markup(
        '<text x="{}" y="{}" text-anchor="{}" font-size="12" class="{}">{}</text>'
    ).format(f"{x:.1f}", f"{y:.1f}", anchor, kind, text)
