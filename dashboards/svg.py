"""Drawings for the report: plain SVG, which every browser, editor and printer shows without a script.

intervals(rows, reference=0.5, label="win rate")
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

NAMES, PLOT, ROW, TOP, BOTTOM, RIGHT = 250, 520, 26, 10, 44, 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A point with its interval."""

    name: str
    value: float
    low: float
    high: float
    words: str
    """What stands at its right."""
    marked: bool = False
    """Drawn as a diamond in the second colour instead of a circle in the first."""


def intervals(rows: Sequence[Row], *, reference: float, label: str, alt: str) -> str:
    """Intervals below each other over one axis of percentages, with a line at ``reference``."""
    low, high, step = _axis([reference, *(r.low for r in rows), *(r.high for r in rows)])
    height = TOP + ROW * len(rows) + BOTTOM

    def x(value: float) -> float:
        return round(NAMES + PLOT * (value - low) / (high - low), 1)

    floor = TOP + ROW * len(rows)
    parts = [
        f'<svg viewBox="0 0 {NAMES + PLOT + RIGHT} {height}" role="img" aria-label="{html.escape(alt)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    ]
    for n in range(round((high - low) / step) + 1):
        at = x(low + n * step)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{floor}"/>')
        parts.append(f'<text class="tick" x="{at}" y="{floor + 16}">{100 * (low + n * step):.0f} %</text>')
    parts.append(f'<line class="even" x1="{x(reference)}" x2="{x(reference)}" y1="{TOP}" y2="{floor}"/>')
    parts.append(f'<text class="tick" x="{NAMES + PLOT / 2}" y="{floor + 36}">{html.escape(label)}</text>')
    for n, row in enumerate(rows):
        y, kind = TOP + ROW * (n + 0.5), "second" if row.marked else "first"
        name = row.name if len(row.name) <= 38 else row.name[:37] + "…"
        parts.append(f'<text class="name" x="{NAMES - 10}" y="{y + 4}">{html.escape(name)}</text>')
        parts.append(f'<line class="{kind}" x1="{x(row.low)}" x2="{x(row.high)}" y1="{y}" y2="{y}"/>')
        parts.append(_mark(x(row.value), y, kind))
        parts.append(f'<text class="words" x="{NAMES + PLOT + 10}" y="{y + 4}">{html.escape(row.words)}</text>')
    return "".join([*parts, "</svg>"])


def _mark(x: float, y: float, kind: str) -> str:
    if kind == "first":
        return f'<circle class="first" cx="{x}" cy="{y}" r="5"/>'
    return f'<path class="second" d="M{x} {y - 6}l6 6l-6 6l-6 -6z"/>'


def _axis(values: Sequence[float]) -> tuple[float, float, float]:
    """Low end, high end and step of an axis with five to ten round steps."""
    spread = max(values) - min(values) or 0.1
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if spread / s <= 10 or s == 1.0)
    return math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step, step
