"""Figures as SVG text: values with their intervals, curves with their bands; no plotting library, no script, no network.

A figure carries its numbers in words (``title`` and ``desc``), follows the reader's light or dark scheme, and tells its
series apart by shape and dash as well as by colour.

    svg = dots("gold reward", [Row("base", 0.60, 0.58, 0.61), Row("dpo", 0.78, 0.75, 0.80)])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
ROW = 34
RIGHT, TOP, BOTTOM = 150, 46, 50
PLOT_HEIGHT = 300
LETTER, NAME = 7.2, 36
"""Pixels of a letter, and letters of a name that are shown."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B07C00", "#555555")
DARK = ("#56B4E9", "#E69F00", "#2BC79C", "#E29AC4", "#F0E442", "#BBBBBB")
"""Okabe and Ito's, as on the pages, for light paper and for dark."""
DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 4", "1 4")


def _classes(colours: Sequence[str]) -> str:
    return " ".join(f".c{number} {{ color: {colour} }}" for number, colour in enumerate(colours))


STYLE = f"""\
<style>
{_classes(COLOURS)}
svg text {{ font: 13px system-ui, sans-serif; fill: #1f2328 }}
.head {{ font-weight: 600; font-size: 15px }}
.faint {{ fill: #59636e; font-size: 12px }}
.grid {{ stroke: #d8dee4 }}
.axis {{ stroke: #8b949e }}
@media screen and (prefers-color-scheme: dark) {{
  {_classes(DARK)}
  svg text {{ fill: #e6edf3 }} .faint {{ fill: #9198a1 }} .grid {{ stroke: #30363d }} .axis {{ stroke: #6e7681 }}
}}
</style>"""


@dataclass(frozen=True, slots=True)
class Row:
    """A value with its interval."""

    name: str
    value: float
    low: float
    high: float
    words: str = ""
    """What stands at its right; empty for the value and its interval."""
    second: bool = False
    """Whether it is of the second kind: a diamond in the second colour."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on a curve, with the interval of where it lies on the x axis."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points of one series in the order of x, with an interval each; equal bounds draw no band."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    line: Sequence[tuple[float, float]] = ()
    """The line to draw, of a fit for instance; empty joins the points."""
    mark: Mark | None = None
    """A place to point out."""
    note: str = ""
    """What the legend says after the name."""


class Scale:
    """A linear map from values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        self._step = (end - start) / (high - low)

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self._start + (value - self._low) * self._step


def dots(
    title: str, rows: Sequence[Row], *, unit: str = "", reference: float | None = None, percent: bool = False
) -> str:
    """One line a row: the value, its interval, and both in figures; ``reference`` draws the line of no difference.

    ``percent`` writes shares as percentages. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("a figure needs at least one row")
    bounds = [bound for row in rows for bound in (row.low, row.high) if math.isfinite(bound)]
    low, high = _padded([*bounds, *([] if reference is None else [reference])])
    height = TOP + ROW * len(rows) + BOTTOM
    left = max(100.0, 24 + LETTER * max(len(_short(row.name)) for row in rows))
    across = Scale(low, high, left, WIDTH - RIGHT)
    parts = _axis(low, high, across, TOP - 6, height - BOTTOM, unit, percent=percent)
    if reference is not None:
        at = f"{across(reference):.1f}"
        parts.append(
            f'<line class="axis" x1="{at}" x2="{at}" y1="{TOP - 6}" y2="{height - BOTTOM}" stroke-dasharray="4 4"/>'
        )
    for number, row in enumerate(rows):
        y = TOP + ROW * number + ROW / 2
        start, end = (across(min(max(bound, low), high)) for bound in (row.low, row.high))
        kind = f'class="c{int(row.second)}"'
        parts += [
            f'<text x="{left - 12:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(_short(row.name))}</text>',
            f'<line {kind} x1="{start:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
            'stroke-width="2"/>',
            _point(kind, across(row.value), y, diamond=row.second),
            f'<text class="faint" x="{WIDTH - RIGHT + 10}" y="{y + 4:.1f}">{escape(_words(row))}</text>',
        ]
    return _document(title, height, "; ".join(f"{row.name} {_words(row)}" for row in rows), parts)


def curves(title: str, series: Sequence[Curve], *, x: str, y: str) -> str:
    """Curves over one x axis, each with its band and a dash of its own; raises ValueError without a point."""
    known = [curve for curve in series if len(curve.x)]
    if not known:
        raise ValueError("a figure needs at least one curve with a point")
    heights = [y for curve in known for y in (*curve.low, *curve.high, *(y for _, y in curve.line))]
    low, high = _padded([y for y in heights if math.isfinite(y)])
    least, most = _padded([value for curve in known for value in curve.x], share=0.02)
    legend = 20 * len(known)
    height = TOP + PLOT_HEIGHT + BOTTOM + legend
    floor = TOP + PLOT_HEIGHT
    across, up = Scale(least, most, 70, WIDTH - 30), Scale(low, high, floor, TOP)
    parts = _axis(least, most, across, TOP, floor, x)
    for tick in _ticks(low, high):
        parts += [
            f'<line class="grid" x1="70" x2="{WIDTH - 30}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>',
            f'<text class="faint" x="62" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>',
        ]
    parts.append(f'<text class="faint" x="70" y="{TOP - 10}">{escape(y)}</text>')
    for number, curve in enumerate(known):
        parts += _curve(curve, number, across, up)
        parts += _legend(curve, number, floor + BOTTOM + 20 * number + 6)
    told = "; ".join(
        f"{c.name} from {c.y[0]:.3g} at {c.x[0]:.3g} to {c.y[-1]:.3g} at {c.x[-1]:.3g}{c.note and f', {c.note}'}"
        for c in known
    )
    return _document(title, height, told, parts)


def stacked(title: str, figures: Sequence[str]) -> str:
    """Figures below one another, each with axes of its own; raises ValueError without one."""
    if not figures:
        raise ValueError("there is no figure to stack")
    parts, top = [], 0
    for figure in figures:
        height = int(figure.partition(f'viewBox="0 0 {WIDTH} ')[2].partition('"')[0])
        parts.append(figure.replace("<svg ", f'<svg y="{top}" width="{WIDTH}" height="{height}" ', 1))
        top += height
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">',
            f"<title>{escape(title)}</title>",
            *parts,
            "</svg>",
        ]
    )


def _curve(curve: Curve, number: int, across: Scale, up: Scale) -> list[str]:
    kind, dash = _kind(number)
    way = curve.line or list(zip(curve.x, curve.y, strict=True))
    points = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in way)
    parts = [f'<polyline {kind} points="{points}" fill="none" stroke="currentColor" stroke-width="2" {dash}/>']
    if list(curve.low) != list(curve.high):
        over = [f"{across(a):.1f},{up(b):.1f}" for a, b in zip(curve.x, curve.high, strict=True)]
        under = [f"{across(a):.1f},{up(b):.1f}" for a, b in zip(curve.x, curve.low, strict=True)]
        band = " ".join([*over, *reversed(under)])
        parts.insert(0, f'<polygon {kind} points="{band}" fill="currentColor" fill-opacity="0.15"/>')
    parts += [
        f'<circle {kind} cx="{across(a):.1f}" cy="{up(b):.1f}" r="3" fill="currentColor"/>'
        for a, b in zip(curve.x, curve.y, strict=True)
    ]
    return parts + (_mark(curve.mark, kind, across, up) if curve.mark else [])


def _kind(number: int) -> tuple[str, str]:
    """The colour and the dash of a series."""
    return f'class="c{number % len(COLOURS)}"', f'stroke-dasharray="{DASHES[number % len(DASHES)]}"'


def _mark(mark: Mark, kind: str, across: Scale, up: Scale) -> list[str]:
    x, y, left, right = across(mark.x), up(mark.y), across(mark.low), across(mark.high)
    return [
        f'<line {kind} x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" stroke-width="3"/>',
        _point(kind, x, y, diamond=True),
    ]


def _point(kind: str, x: float, y: float, *, diamond: bool) -> str:
    if diamond:
        return f'<path {kind} d="M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z" fill="currentColor"/>'
    return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="5" fill="currentColor"/>'


def _legend(curve: Curve, number: int, y: float) -> list[str]:
    kind, dash = _kind(number)
    note = f'<tspan class="faint">, {escape(curve.note)}</tspan>' if curve.note else ""
    return [
        f'<line {kind} x1="70" x2="104" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" stroke-width="2" {dash}/>',
        f'<text x="112" y="{y + 4:.1f}">{escape(curve.name)}{note}</text>',
    ]


def _axis(
    low: float, high: float, across: Scale, top: float, floor: float, words: str, *, percent: bool = False
) -> list[str]:
    parts = []
    for tick in _ticks(low, high):
        place, told = across(tick), f"{100 * tick:g} %" if percent else f"{tick:g}"
        parts += [
            f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{top}" y2="{floor}"/>',
            f'<text class="faint" x="{place:.1f}" y="{floor + 18}" text-anchor="middle">{told}</text>',
        ]
    middle = (across(low) + across(high)) / 2
    parts.append(f'<text class="faint" x="{middle:.1f}" y="{floor + 36}" text-anchor="middle">{escape(words)}</text>')
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between the bounds."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [round(step * k, 12) for k in range(first, math.floor(high / step) + 1)]


def _padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    if not values:
        return -1.0, 1.0
    low, high = min(values), max(values)
    pad = share * (high - low) or max(0.05 * abs(low), 0.05)
    return low - pad, high + pad


def _short(name: str) -> str:
    """A long name without its middle: what tells names apart often stands at their end."""
    return name if len(name) <= NAME else f"{name[: NAME // 2]}…{name[1 - NAME // 2 :]}"


def _words(row: Row) -> str:
    return row.words or f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"


def _document(title: str, height: float, told: str, parts: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(told)}</desc>",
            STYLE,
            f'<text class="head" x="{24}" y="24">{escape(title)}</text>',
            *parts,
            "</svg>",
        ]
    )
