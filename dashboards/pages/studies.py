"""Studies: what changes what, by how much, and how sure is it?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from dashboards import charts, curves, show, words
from dashboards.data import studies
from dashboards.data.studies import Arm, Found, Row
from rlhf_eval.records import Estimate


def page() -> None:
    """Draw the page."""
    show.title("Studies", "What changes what, by how much, and how sure is it?")
    rows = show.ask(studies.studies)
    run = show.run_choice("Study", [row.run for row in rows], "study")
    row = next(row for row in rows if row.run == run)
    st.subheader(words.escaped(row.title), anchor=False)
    found = show.ask(studies.found, row.run)
    if row.quick:
        st.info(f"The quick form, of {row.seeds} seeds: its intervals are wide, and it shows that the study runs.")
    if found.about:
        show.foreign(found.about, label="What is asked, and how to read it", markdown=True)
    for place, (measure, arms) in enumerate(found.measures.items()):
        _measure(measure, arms, found.control, key=f"measure{place}")
    _curves(found)
    st.subheader("All studies", anchor=False)
    _all(rows)
    st.caption(f"Figure and page lie in `{row.files}`.")
    show.link("lineage", "The runs that it is made of", start=row.run)
    show.how(
        "The unit is the seed: another draw of prompts, samples, labels and initial weights. Means have a t interval over "
        "seeds; a difference from the control is paired by seed. Curves are averaged point by point.",
        show.command("lab", row.recipe or row.title, *(["--quick"] if row.quick else [])),
    )


def _measure(measure: str, arms: Sequence[Arm], control: str, *, key: str) -> None:
    st.markdown(f"**{words.escaped(measure)}**")
    compared = [arm for arm in arms if arm.gap is not None]
    if compared:
        drawing = charts.forest(
            pd.DataFrame([_line(arm.name, arm.gap) for arm in compared if arm.gap]),
            order=[arm.name for arm in compared], x=f"difference from {control}", reference=0.0, groups=["arm"],
            unit="seeds", **charts.SIGNED,
        )  # fmt: skip
        best = max(compared, key=lambda arm: arm.gap.value if arm.gap else -math.inf)
        alt = (
            f"{measure}, difference from {control}: the highest is {best.name}, {words.number(best.gap or best.mean)}."
        )
        show.draw(drawing, alt=alt, key=key)
    lost = any(arm.mean.failed for arm in arms)
    show.table(
        ["arm", "value", f"minus {control}", "seeds", *["without a number"] * lost],
        [
            [arm.name, words.number(arm.mean), words.difference(arm.gap) if arm.gap else "", f"{arm.mean.n:,}",
             *[f"{arm.mean.failed:,}"] * lost]
            for arm in arms
        ],
        right=(1, 2, 3, 4),
    )  # fmt: skip


def _curves(found: Found) -> None:
    for name in dict.fromkeys(e.name for e in found.points):
        own = [e for e in found.points if e.name == name]
        frame = pd.DataFrame([{**_line(str(e.settings["arm"]), e), "x": float(e.settings["x"])} for e in own])
        frame = frame.rename(columns={"name": "group"} | {"group": "kind"})
        st.subheader(f"{words.escaped(name)} over the distance from the start", anchor=False)
        drawing = curves.means(frame, x="sqrt(KL), in nats", y=name, form=".3~g", unit="seeds")
        ends = frame.groupby("group", sort=False)["value"].last()
        alt = f"{name} at the end: " + "; ".join(f"{arm} {value:.3g}" for arm, value in ends.items()) + "."
        show.chart(drawing, alt=alt, twin=frame.drop(columns=["kind", "note"]), key=f"curve {name}")


def _line(name: str, e: Estimate) -> dict[str, object]:
    low, high = (bound if math.isfinite(bound) else e.value for bound in (e.low, e.high))
    return {"name": name, "value": e.value, "low": low, "high": high, "n": e.n, "group": "arm", "note": name}


def _all(rows: Sequence[Row]) -> None:
    show.table(
        ["run", "study", "seeds", "form"],
        [[row.run[-8:], row.title, f"{row.seeds:,}", "quick" if row.quick else "full"] for row in rows],
        right=(2,),
    )


if __name__ == "__main__":
    page()
