"""Charts over a number line: means with intervals, fitted curves, histograms and the scalars of trainings.

means(frame, x="says (share)", y="is right (share)", diagonal=True)
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from dashboards import words
from dashboards.data.judges import Bin

HEIGHT, SMALL, LEGEND = 300, 230, 30
MARKS = ("circle", "diamond", "square", "triangle-up", "cross", "triangle-down")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])


def frame_of(bins: Sequence[Bin]) -> pd.DataFrame:
    """Bins as the rows of ``means``."""
    return pd.DataFrame(
        [
            {
                "x": one.at, "value": one.found.value, "low": one.found.low, "high": one.found.high, "n": one.found.n,
                "group": one.found.name, "note": words.doubt(one.found.n), "from": one.low, "to": one.high,
            }
            for one in bins
        ]
    )  # fmt: skip


def means(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    form: str = ".0%",
    across: str = ".2~f",
    level: float | None = None,
    diagonal: bool = False,
    log: bool = False,
    groups: Sequence[str] = (),
    height: int = HEIGHT,
    unit: str = "prompts",
) -> alt.LayerChart:
    """Points with intervals at numbers; columns ``x``, ``value``, ``low``, ``high``, ``n``, ``group``, ``note``.

    ``level`` draws a line of no effect, ``diagonal`` the line where what is said is what is; ``log`` is for numbers over
    zero that differ by factors. Points of a group of more than one are joined; ``unit`` is what n counts.
    """
    named = list(groups) or sorted(frame["group"].unique().tolist())
    legend = alt.Legend(title=None, orient="top", labelLimit=420, symbolSize=90, columns=1) if len(named) > 1 else None
    colour = alt.Color("group:N", scale=alt.Scale(domain=named), legend=legend)
    shape = alt.Shape(
        "group:N",
        scale=alt.Scale(domain=named, range=[MARKS[i % len(MARKS)] for i in range(len(named))]),
        legend=legend,
    )
    scale = alt.Scale(type="log", nice=False, padding=12) if log else alt.Scale(zero=False, nice=False, padding=12)
    place = alt.X("x:Q", title=x, axis=alt.Axis(format=across, tickCount=6), scale=scale)
    base = alt.Chart(frame).encode(x=place)
    tips = [
        alt.Tooltip("x:Q", title=x, format=across),
        alt.Tooltip("value:Q", title=y, format=form),
        alt.Tooltip("low:Q", title="95 % from", format=form),
        alt.Tooltip("high:Q", title="to", format=form),
        alt.Tooltip("n:Q", title=unit, format=","),
        alt.Tooltip("note:N", title="what"),
    ]
    axis = alt.Y("low:Q", title=y, axis=alt.Axis(format=form), scale=alt.Scale(zero=False))
    layers: list[alt.Chart] = []
    if level is not None:
        flat = pd.DataFrame({"at": [level]})
        layers.append(alt.Chart(flat).mark_rule(strokeDash=[4, 4], opacity=0.6).encode(y="at:Q"))
    if diagonal:
        ends = pd.DataFrame({"x": [frame["x"].min(), frame["x"].max()]}).assign(y=lambda f: f["x"])
        layers.append(alt.Chart(ends).mark_line(strokeDash=[4, 4], opacity=0.6, color="gray").encode(x="x:Q", y="y:Q"))
    if frame.groupby("group").size().max() > 1:
        layers.append(base.mark_line(opacity=0.45).encode(y="value:Q", color=colour))
    layers.append(base.mark_rule(strokeWidth=2).encode(y=axis, y2="high:Q", color=colour, tooltip=tips))
    layers.append(
        base.mark_point(filled=True, size=80, opacity=1).encode(y="value:Q", color=colour, shape=shape, tooltip=tips)
    )
    return alt.layer(*layers).properties(height=height)


def with_fit(chart: alt.LayerChart, fit: pd.DataFrame, *, stop: float | None, label: str) -> alt.LayerChart:
    """A chart of ``means`` with a fitted curve (columns ``x``, ``y``) and a line where to stop."""
    layers = [chart, alt.Chart(fit).mark_line(strokeDash=[6, 3], strokeWidth=2, color="gray").encode(x="x:Q", y="y:Q")]
    if stop is not None:
        at = pd.DataFrame({"x": [stop], "label": [label]})
        layers.append(alt.Chart(at).mark_rule(strokeWidth=2, color="gray").encode(x="x:Q"))
        layers.append(
            alt.Chart(at)
            .mark_text(align="left", baseline="bottom", dx=6, dy=-6, fontSize=13, fontWeight="bold", color="gray")
            .encode(x="x:Q", y=alt.value(alt.ExprRef("height")), text="label:N")
        )
    return alt.layer(*layers)


def histogram(bins: Sequence[tuple[float, float, int]], *, x: str, y: str = "pairs") -> alt.Chart:
    """Bars of counts between edges."""
    frame = pd.DataFrame(bins, columns=["low", "high", "count"]).assign(zero=0)
    tips = [
        alt.Tooltip("low:Q", title="from", format=".3g"),
        alt.Tooltip("high:Q", title="to", format=".3g"),
        "count:Q",
    ]
    return (
        alt.Chart(frame)
        .mark_bar(stroke="#88888866")
        .encode(
            x=alt.X("low:Q", title=x, scale=alt.Scale(zero=False)),
            x2="high:Q",
            y=alt.Y("count:Q", title=y, stack=None),
            y2="zero:Q",
            tooltip=tips,
        )
        .properties(height=190)
    )


def scalar(frame: pd.DataFrame, *, title: str, groups: Sequence[str]) -> alt.Chart:
    """One scalar over steps; columns ``step``, ``value``, ``group`` (training and split)."""
    legend = None
    if len(groups) > 1:
        legend = alt.Legend(
            title=None,
            orient="top",
            labelLimit=260,
            columns=2,
            symbolType="stroke",
            symbolStrokeWidth=3,
            symbolSize=300,
        )
    single = bool((frame.groupby("group").size() == 1).any())
    return (
        alt.Chart(frame)
        .mark_line(point=single or len(frame) < 40)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(tickCount=5, format="~s")),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
            color=alt.Color("group:N", scale=alt.Scale(domain=list(groups)), legend=legend),
            strokeDash=alt.StrokeDash(
                "group:N",
                scale=alt.Scale(domain=list(groups), range=[DASHES[i % len(DASHES)] for i in range(len(groups))]),
                legend=legend,
            ),
            tooltip=[
                alt.Tooltip("group:N", title="of"), alt.Tooltip("step:Q", format=","),
                alt.Tooltip("value:Q", title=title, format=".4g"),
            ],
        )
        .properties(
            height=SMALL + LEGEND * ((len(groups) + 1) // 2), title=alt.TitleParams(title, anchor="start", fontSize=13)
        )
    )  # fmt: skip


def bins_of(bins: Sequence[tuple[float, float, int]]) -> pd.DataFrame:
    """A histogram as a table."""
    return pd.DataFrame(bins, columns=["from", "to", "count"])
