"""Charts of results: intervals in rows, and a heat map of who beats whom. Colour never carries a meaning alone.

forest(frame, order=names, x="win rate", reference=0.5)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

NAMES = alt.ExprRef("min(260, .4 * (containerSize()[0] || 650))")
"""Pixels that names beside rows may take: on a narrow screen no more than the marks."""
NAMED = "length(datum.label) < 40 ? datum.label : slice(datum.label, 0, 19) + '…' + slice(datum.label, -19)"
"""A long name without its middle, as ``words.name`` cuts it; only the label, because two rows of one name would be one."""
ROW, TILE = 28, 34
"""Pixels a row of intervals, and of a heat map."""
MARKS = ("circle", "diamond", "square")
SIGNED: Mapping[str, str] = {"form": "+.2f", "fine": "+.3f"}
"""How differences without a unit are written."""


def forest(
    frame: pd.DataFrame,
    *,
    order: Sequence[str],
    x: str,
    reference: float | None,
    groups: Sequence[str],
    form: str = ".0%",
    fine: str = ".1%",
    unit: str = "prompts",
) -> alt.LayerChart:
    """A point with its interval for each row; columns ``name``, ``value``, ``low``, ``high``, ``n``, ``group``.

    ``reference`` is where the line of no difference stands, if there is one; ``groups`` are shown by shape and colour,
    ``form`` writes the axis and ``fine`` the numbers, and ``unit`` is what n counts.
    """
    across = alt.X("low:Q", title=x, axis=alt.Axis(format=form, tickCount=10), scale=alt.Scale(zero=False, nice=True))
    down = alt.Y(
        "name:N", sort=list(order), title=None,
        axis=alt.Axis(
            labelOverlap=False, labelFlush=False, labelLimit=NAMES, labelExpr=NAMED, labelPadding=8, domain=False,
            ticks=False,
        ),
    )  # fmt: skip
    legend = None if len(groups) < 2 else alt.Legend(title=None, orient="top", labelLimit=500, symbolSize=90)
    colour = alt.Color("group:N", sort=list(groups), legend=legend, scale=alt.Scale(domain=list(groups)))
    shape = alt.Shape("group:N", sort=list(groups), legend=legend, scale=alt.Scale(domain=list(groups), range=MARKS))
    tips = [
        alt.Tooltip("name:N", title="row"),
        alt.Tooltip("value:Q", title=x, format=fine),
        alt.Tooltip("low:Q", title="95 % from", format=fine),
        alt.Tooltip("high:Q", title="to", format=fine),
        alt.Tooltip("n:Q", title=unit, format=","),
    ]
    base = alt.Chart(frame)
    at = pd.DataFrame({"at": [] if reference is None else [reference]})
    line = alt.Chart(at).mark_rule(strokeDash=[4, 4], color="#888888").encode(x="at:Q")
    bars = base.mark_rule(strokeWidth=2).encode(x=across, x2="high:Q", y=down, color=colour, tooltip=tips)
    dots = base.mark_point(filled=True, size=85, opacity=1).encode(
        x="value:Q", y=down, color=colour, shape=shape, tooltip=tips
    )
    return alt.layer(line, bars, dots).properties(height=alt.Step(ROW))


def heat(frame: pd.DataFrame, *, order: Sequence[str]) -> alt.LayerChart:
    """Share of the verdicts that each row wins against each column.

    Columns ``model``, ``opponent``, ``value``, ``low``, ``high``, ``n``, ``expected``, and ``text`` for the tile.
    """
    rows = alt.Y(
        "model:N", sort=list(order), title=None,
        axis=alt.Axis(labelOverlap=False, labelFlush=False, labelLimit=NAMES, labelExpr=NAMED),
    )  # fmt: skip
    across = alt.X(
        "opponent:N", sort=list(order), title=None,
        axis=alt.Axis(labelOverlap=False, labelLimit=200, labelExpr=NAMED, labelAngle=-40, orient="top"),
    )  # fmt: skip
    tips = [
        alt.Tooltip("model:N"),
        alt.Tooltip("opponent:N", title="against"),
        alt.Tooltip("value:Q", title="share won", format=".1%"),
        alt.Tooltip("low:Q", title="95 % from", format=".1%"),
        alt.Tooltip("high:Q", title="to", format=".1%"),
        alt.Tooltip("n:Q", title="prompts", format=","),
        alt.Tooltip("expected:Q", title="Bradley-Terry expects", format=".1%"),
    ]
    scale = alt.Scale(domain=[0, 0.5, 1], range=["#D55E00", "#F4F1EC", "#0072B2"], interpolate="rgb")
    base = alt.Chart(frame).encode(x=across, y=rows, tooltip=tips)
    legend = alt.Legend(title="share won", format=".0%", gradientLength=160)
    tiles = base.mark_rect(stroke="#88888855").encode(color=alt.Color("value:Q", scale=scale, legend=legend))
    dark = alt.expr.abs(alt.datum.value - 0.5) > 0.32
    words = base.mark_text(fontSize=12).encode(
        text="text:N", color=alt.condition(dark, alt.value("#FFFFFF"), alt.value("#1B1B1B"))
    )
    return alt.layer(tiles, words).properties(height=alt.Step(TILE))
