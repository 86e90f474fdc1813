"""Reward models: is this one good enough to optimise against?"""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from dashboards import charts, curves, show, words
from dashboards.data import rewards
from dashboards.data.rewards import Curve, Margins, Report
from rlhf_eval.audit.evidence import role


def page() -> None:
    """Draw the page."""
    show.title("Reward models", "Is this one good enough to optimise against?")
    judge = show.choice("Reward model or grader", show.ask(rewards.graders), "judge")
    found = show.ask(rewards.report, judge)
    if found.of > found.prompts:
        st.caption(f"From {found.prompts:,} of its {found.of:,} prompts, picked by a hash.")
    _tiles(found)
    _subsets(found)
    left, right = st.columns(2)
    with left:
        _margins(found)
    with right:
        _length(found)
    _curves(found)
    _stored()
    show.link("judge_quality", "The same grader's report card", judge=judge)
    show.link("training", "Over-optimisation in training")
    show.how(
        "Accuracy: the share of pairs of graded answers whose better one, by the reference, has the higher grade; ties "
        "count half. Wilson's interval, clustered by prompt; the macro average weighs categories equally. Best of n "
        "follows exactly from all samples of a prompt (Nakano et al., 2112.09332); its KL of log n - (n-1)/n nats is an "
        "upper bound where answers repeat.",
        show.command("audit", "--judge", judge),
    )


def _tiles(found: Report) -> None:
    columns = st.columns(4)
    with columns[0]:
        label = f"Accuracy against {found.reference or 'gold or people'}"
        if found.accuracy is None:
            show.card(label, "not measured", [found.missing["accuracy"]], grey=True)
            st.code(show.command("judge", "--judge", "gold", "--completions", "latest:generate"), language=None)
        else:
            show.estimate(found.accuracy, label=label)
    with columns[1]:
        if found.macro is None:
            show.card("Mean over categories", "-", ["fewer than two categories have labels"], grey=True)
        else:
            show.estimate(found.macro, label="Mean over categories")
    with columns[2]:
        _calibration(found)
    with columns[3]:
        if found.length is None:
            show.card("Score follows length", "not measured", [found.missing.get("length", "")], grey=True)
        else:
            show.estimate(found.length, label="Rank correlation of score and words", written=words.number)


def _calibration(found: Report) -> None:
    label = "Calibration error of margins"
    if found.margins is None:
        show.card(label, "not measured", [found.missing.get("margins", "")], grey=True)
    elif math.isnan(found.margins.ece):
        show.card(
            label, "-", ["margins do not point to the better answer, or always do: no temperature fits"], grey=True
        )
    else:
        fine = [
            f"perfect calibration would show {found.margins.ece_null:.3f} here",
            f"margins are worth sigmoid(margin / {found.margins.temperature:.3g})",
        ]
        show.card(label, f"{found.margins.ece:.3f}", fine)


def _subsets(found: Report) -> None:
    if not found.subsets:
        return
    st.subheader("Accuracy by category", anchor=False)
    frame = pd.DataFrame(
        [
            {
                "name": str(e.settings["category"]), "value": e.value, "low": e.low, "high": e.high, "n": e.n,
                "group": "accuracy", "pairs": e.settings["pairs"], "note": words.doubt(e.n),
            }
            for e in found.subsets
        ]
    )  # fmt: skip
    best, worst = max(found.subsets, key=lambda e: e.value), min(found.subsets, key=lambda e: e.value)
    alt = (
        f"Accuracy in {len(frame)} categories with 95 % intervals: best {best.settings['category']} {best.value:.0%}, "
        f"worst {worst.settings['category']} {worst.value:.0%}."
    )
    drawing = charts.forest(
        frame, order=frame["name"].tolist(), x="accuracy (a coin has one half)", reference=0.5, groups=["accuracy"]
    )
    show.chart(drawing, alt=alt, twin=frame.drop(columns="group"), key="subsets")


def _margins(found: Report) -> None:
    st.subheader("Are larger margins surer?", anchor=False)
    margins: Margins | None = found.margins
    if margins is None or len(margins.bins) < 2:
        st.caption(words.escaped(found.missing.get("margins", "Too few pairs have a reference label.")))
        return
    frame = curves.frame_of(margins.bins)
    drawing = curves.means(frame, x="difference of the two scores", y="accuracy", level=0.5, across=".3~g")
    if math.isfinite(margins.temperature):
        ends = pd.DataFrame({"x": [frame["x"].max() * k / 40 for k in range(41)]})
        ends["y"] = [rewards.expected(margins, x) for x in ends["x"]]
        drawing = curves.with_fit(drawing, ends, stop=None, label="")
    first, last = margins.bins[0], margins.bins[-1]
    alt = f"Accuracy by margin: {first.found.value:.0%} at {first.at:.3g}, {last.found.value:.0%} at {last.at:.3g}."
    show.chart(drawing, alt=alt, twin=frame.drop(columns=["group", "note"]), key="margins")


def _length(found: Report) -> None:
    st.subheader("Is length what it rewards?", anchor=False)
    if found.length is None:
        st.caption(words.escaped(found.missing.get("length", "")))
        return
    e = found.length
    if e.low > 0.1:
        said = "Among the answers to one prompt it scores longer ones higher, surely."
    elif e.high < -0.1:
        said = "Among the answers to one prompt it scores shorter ones higher, surely."
    else:
        said = "No strong preference for length is shown."
    st.markdown(
        f"{said} Mean within-prompt rank correlation: **{words.escaped(words.number(e))}**, n = {e.n:,} prompts."
    )
    st.caption("Correlation over all answers at once would mix in what prompts share, and is not shown.")


def _curves(found: Report) -> None:
    st.subheader("What choosing the best of n by it is worth", anchor=False)
    if not found.curves:
        st.caption(words.escaped(found.missing.get("best of n", "No model has several graded answers a prompt.")))
        st.code(show.command("generate", "--model", "SPEC", "-n", "16"), language=None)
        return
    for start in range(0, len(found.curves), 2):
        for column, curve in zip(st.columns(2), found.curves[start : start + 2], strict=False):
            with column:
                _curve(curve, f"curve_{start}_{curve.model}_{curve.scorer}")


def _curve(curve: Curve, key: str) -> None:
    own = curve.scorer == curve.chooser
    frame = pd.DataFrame(
        [
            {
                "x": math.sqrt(p.kl), "value": p.found.value, "low": p.found.low, "high": p.found.high, "n": p.found.n,
                "group": "score", "note": f"best of {p.n}", "best of": p.n, "KL (nats, at most)": p.kl,
            }
            for p in curve.points
        ]
    )  # fmt: skip
    whose = "its own score" if own else role(curve.scorer) or words.name(curve.scorer, 40)
    st.markdown(f"**{words.escaped(words.name(curve.model, 40))}**, scored by {words.escaped(whose)}")
    drawing = curves.means(frame, x="sqrt(KL), best of n from the model", y=whose, form=".3~g", height=230)
    first, last = curve.points[0], curve.points[-1]
    alt = (
        f"Mean {whose} from {first.found.value:.3g} for one answer to {last.found.value:.3g} for the best of {last.n}."
    )
    show.chart(drawing, alt=alt, twin=frame.drop(columns=["group", "note"]), key=key)
    if own:
        st.caption("Under the score that chose, the best of n looks better than it is.")
    if curve.left_out:
        st.caption(f"{curve.left_out:,} prompts left out: fewer samples, or one without a score.")


def _stored() -> None:
    found = show.ask(rewards.stored)
    if not found:
        return
    with st.expander(f"{len(found)} stored numbers of benchmarks about judges and reward models"):
        show.table(
            ["run", "benchmark's number", "judge", "value", "n", "failed"],
            [
                [run[-8:], e.name, str(e.settings.get("judge", "")), words.number(e), f"{e.n:,}", f"{e.failed:,}"]
                for run, e in found[:200]
            ],
            right=(3, 4, 5),
        )


if __name__ == "__main__":
    page()
