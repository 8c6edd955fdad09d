# Copyright The c7n-keyrot Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draw lines over N as an SVG, both axes logarithmic: without a library, the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 440, 320  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 56, 96, 40, 44
COLOURS = ("#0b6e4f", "#b8860b", "#b22222")


def svg(panels: Mapping[str, Mapping[str, Points]], x_label: str) -> str:
    """Draw one panel beside the other.

    :param panels: {title: {line's name: [(x, y), ...]}}, all numbers > 0.
    """
    width = WIDTH * len(panels)
    drawn = [
        f'<g transform="translate({WIDTH * i},0)">{_panel(title, lines, x_label)}</g>'
        for i, (title, lines) in enumerate(panels.items())
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="#222">\n'
        f'<rect width="{width}" height="{HEIGHT}" fill="#fff"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _panel(title: str, lines: Mapping[str, Points], x_label: str) -> str:
    xs = sorted({x for points in lines.values() for x, _ in points})
    ys = [y for points in lines.values() for _, y in points]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    high = max(high, low + 1)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / xs[0]) / (math.log(xs[-1] / xs[0]) or 1)
        up = (math.log10(y) - low) / (high - low)
        return round(LEFT + across * (right - LEFT), 1), round(bottom - up * (bottom - TOP), 1)

    out = [f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>']
    for power in range(low, high + 1):
        y = place(xs[0], 10**power)[1]
        out.append(f'<line x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="#ddd"/>')
        label = f"{10**power:,}" if power >= 0 else f"{10**power:g}"
        out.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{label}</text>')
    for x in xs:
        out.append(
            f'<text x="{place(x, 10**low)[0]}" y="{bottom + 18}" text-anchor="middle">{x:,}</text>'
        )
    middle = (LEFT + right) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    ends: list[float] = []
    for (name, points), colour in zip(lines.items(), COLOURS, strict=False):
        placed = [place(x, y) for x, y in sorted(points)]
        path = " ".join(f"{x},{y}" for x, y in placed)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in placed]
        end = placed[-1][1] + 4
        while any(abs(end - other) < 14 for other in ends):  # names must not overlap
            end -= 1
        ends.append(end)
        out.append(f'<text x="{right + 8}" y="{end}" fill="{colour}">{escape(name)}</text>')
    return "".join(out)
