"""Curves as SVG, by hand: two logarithmic axes, a line with a dot per measured point for each series.

The same points give the same file, byte by byte, so that a new run shows in a diff as what has changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 50
COLOURS = ("#0b6e4f", "#b0413e", "#5a5a5a")

ZERO_AT = 0.5
"""Where nought stands on a logarithmic axis of counts."""


def svg(title: str, across: str, up: str, series: Mapping[str, Points]) -> str:
    """Return a figure. `across` and `up` name the axes; values on the second must be above nought."""
    xs = sorted({max(x, ZERO_AT) for points in series.values() for x, _ in points})
    ys = [y for points in series.values() for _, y in points]
    x_range = (math.log10(xs[0]), math.log10(xs[-1]))
    y_range = (math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys))))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + _share(math.log10(max(x, ZERO_AT)), *x_range) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - _share(math.log10(y), *y_range) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" fill="#222">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(WIDTH / 2, 20, title, anchor="middle", size=15),
        _text(WIDTH / 2, HEIGHT - 12, across, anchor="middle"),
        _text(LEFT - 55, TOP - 12, up, anchor="start"),
    ]
    for x in xs:
        at, _ = place(x, 10 ** y_range[0])
        parts.append(_line(at, TOP, at, HEIGHT - BOTTOM))
        parts.append(_text(at, HEIGHT - BOTTOM + 16, "0" if x == ZERO_AT else f"{x:,.0f}", anchor="middle"))
    for exponent in range(y_range[0], y_range[1] + 1):
        _, at = place(xs[0], 10.0**exponent)
        parts.append(_line(LEFT, at, WIDTH - RIGHT, at))
        parts.append(_text(LEFT - 6, at + 4, _shown(10.0**exponent), anchor="end"))
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [place(x, y) for x, y in sorted(points)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        parts.append(_text(LEFT + 10 + number * 150, TOP - 12, name, colour=colour, anchor="start"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def steepness(points: Points) -> float:
    """Return the steepest slope between neighbours on logarithmic axes: 1 is linear, more is faster than linear."""
    ordered = [(max(x, ZERO_AT), y) for x, y in sorted(points)]
    return max(
        math.log(later[1] / earlier[1]) / math.log(later[0] / earlier[0]) for earlier, later in pairwise(ordered)
    )


def _share(value: float, least: float, most: float) -> float:
    return (value - least) / (most - least) if most > least else 0.5


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, *, anchor: str, size: int = 12, colour: str = "#222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
    )


def _shown(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"
