"""Compare: did the new checkpoint beat the old one, where, and on which prompts did it lose?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from dashboards import charts, show, words
from dashboards.data import results
from dashboards.data.examples import OUTCOMES
from rlhf_eval.benchmarks.duels import DIRECT, Duel

GROUPS = ("all prompts", "a category")
LISTED = 15
"""Lost prompts that are listed with their words; the rest is one click away."""


def page() -> None:
    """Draw the page."""
    show.title("Compare", "Did the new checkpoint beat the old one, where, and on which prompts did it lose?")
    left, middle, right, last = st.columns([3, 2, 2, 2])
    with last:
        run = show.run_choice("Run", show.ask(results.runs_with_judgments), "run", every="all runs")
    found = show.ask(results.met, run=run)
    known = show.ask(results.prompt_categories)
    with left:
        judge = show.choice("Judge", results.judges(found), "judge")
    offered = results.models(found, judge)
    start = results.default_pair(found, judge)
    with middle:
        a = show.choice("A, such as tonight's checkpoint", offered, "a", default=start[0])
    with right:
        b = show.choice("B, such as last week's", offered, "b", default=start[1])
    if a == b:
        st.info("A and B are the same model; choose two.")
        return
    every = results.compared(show.opened().store, found, judge, a, b, known)
    for duel in (d for d in every if not d.category):
        _duel(duel, [d for d in every if d.category and d.via == duel.via], a, b, run)
    _how(judge, a, b, run, by_category=any(d.category for d in every))


def _duel(duel: Duel, parts: Sequence[Duel], a: str, b: str, run: str) -> None:
    st.subheader(f"{words.escaped(a)} minus {words.escaped(b)}, {words.escaped(duel.via)}", anchor=False)
    _cards(duel, a, b)
    if len(parts) > 1:
        _categories(duel, parts, a, b)
    _lost(duel, a, b, run)


def _cards(duel: Duel, a: str, b: str) -> None:
    e, surely = duel.estimate, duel.estimate.low > 0 or duel.estimate.high < 0
    a, b = words.name(a, 30), words.name(b, 30)
    verdict = f"{a if e.value > 0 else b} is better" if surely else "not separable"
    fine = [f"{words.p_value(duel.p_value)}, paired by prompt"]
    if duel.needed and not surely:
        fine.append(f"a difference of this size needs about {duel.needed:,} prompts to show (80 % power)")
    both, only_a, only_b, neither = duel.quadrants
    outcomes = {"both won": both, f"only {a}": only_a, f"only {b}": only_b, "neither": neither}
    if duel.via == DIRECT:
        outcomes = {f"won by {a}": only_a, f"won by {b}": only_b, "tied": neither}
    cards = st.columns(3)
    with cards[0]:
        show.estimate(e, label="Difference in win rate", written=words.points)
    with cards[1]:
        show.card("Verdict", verdict, fine)
    with cards[2]:
        show.table(["outcome", "prompts"], [[name, f"{count:,}"] for name, count in outcomes.items()], right=[1])


def _categories(duel: Duel, parts: Sequence[Duel], a: str, b: str) -> None:
    st.markdown("**Where:** the same difference by category of prompt, all prompts first")
    ordered = sorted(parts, key=lambda part: part.estimate.value)
    large = [part for part in ordered if not words.doubt(part.estimate.n)]
    frame = pd.DataFrame([_row(part) for part in (duel, *large)])
    lowest = f"Lowest: {large[0].category}, {words.points(large[0].estimate)}." if large else ""
    show.chart(
        charts.forest(
            frame,
            order=frame["name"].tolist(),
            x=f"win rate of {words.name(a, 30)} minus that of {words.name(b, 30)}, points",
            reference=0.0,
            groups=[group for group in GROUPS if (frame["group"] == group).any()],
            form="~r",  # of one digit ~g writes ten as 1e+1
            fine="+.1f",
        ),
        alt=f"Difference in win rate, {a} minus {b}, by category with 95 % intervals. "
        f"All prompts: {words.points(duel.estimate)}. {lowest}",
        twin=_twin([_row(part) for part in (duel, *ordered)]),
        key=f"categories_{duel.via}",
    )
    if len(large) < len(parts):
        few = len(parts) - len(large)
        said = "1 category of" if few == 1 else f"{few} categories of"
        st.caption(f"In the table only: {said} fewer than {words.FEW} prompts.")


def _row(part: Duel) -> dict[str, object]:
    """A row of the chart, in points."""
    e = part.estimate
    group = GROUPS[1] if part.category else GROUPS[0]
    return {
        "name": part.category or GROUPS[0], "n": e.n, "group": group,
        "value": 100 * e.value, "low": 100 * e.low, "high": 100 * e.high,
        "better": part.better, "worse": part.worse, "equal": part.equal, "note": words.doubt(e.n),
    }  # fmt: skip


def _twin(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows).drop(columns=["group"]).rename(columns={"name": "category", "value": "difference"})
    return frame.round({"difference": 1, "low": 1, "high": 1})


def _lost(duel: Duel, a: str, b: str, run: str) -> None:
    """What it broke: the prompts that B won and A did not, each one click from its answers."""
    total = len(duel.flipped)
    if not total:
        st.success(f"No prompt was won by {words.escaped(b)} and lost by {words.escaped(a)}.")
        return
    prompts = "prompt" if total == 1 else "prompts"
    st.markdown(f"**What it lost:** {total:,} {prompts} that {words.escaped(b)} won and {words.escaped(a)} did not")
    opponent = b if duel.via == DIRECT else duel.via.removeprefix("against ")
    shown = duel.flipped[:LISTED]
    texts = show.ask(results.prompt_texts, shown)
    filters = {"judge": duel.judge, "run": run, "a": a, "b": opponent}
    lost = OUTCOMES["lost"]
    # What B won against a baseline, A need not have lost to it: a tie is no win either.
    outcome = lost if duel.via == DIRECT else ""
    for prompt in shown:
        show.link("examples", words.short(texts.get(prompt, prompt), 110), **filters, outcome=outcome, at=prompt)
    if total > LISTED:
        label = f"Read all that {words.name(a, 30)} lost to {words.name(opponent, 30)}"
        show.link("examples", label, **filters, outcome=lost)


def _how(judge: str, a: str, b: str, run: str, *, by_category: bool) -> None:
    parts = [*(["--run", run] if run else []), *(["--by", "category"] if by_category else [])]
    show.how(
        "Both models' mean share of the verdicts on each prompt that both have, subtracted, with a t interval over "
        "prompts (Wilson's where every prompt shows the same difference). Where the two met, their own judgments count; "
        "else those against a common baseline. *Prompts needed* is for 80 % power at this effect and spread.",
        show.command("compare", a, b, "--judge", judge, *parts),
    )


if __name__ == "__main__":
    page()
