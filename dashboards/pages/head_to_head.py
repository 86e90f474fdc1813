"""Head-to-head: who beats whom, and are there cycles?"""

from __future__ import annotations

from collections import Counter

import pandas as pd
import streamlit as st

from dashboards import charts, show, words
from dashboards.data import results
from dashboards.data.results import Tournament

DRAWN = 24
"""Models that the heat map has room for."""
AVERAGE = "strength against the average model, log-odds"


def page() -> None:
    """Draw the page."""
    show.title("Head-to-head", "Who beats whom, and are there cycles?")
    left, middle, right = st.columns([3, 2, 2])
    with right:
        run = show.run_choice("Run", show.ask(results.runs_with_judgments), "run", every="all runs")
    found = show.ask(results.met, run=run)
    known = show.ask(results.prompt_categories)
    with left:
        judge = show.choice("Judge", results.judges(found), "judge")
    with middle:
        mine = [s for s in found if s.judge == judge]
        category = show.choice("Category", results.parts_of(known, mine), "category", every="all prompts")
    played = results.tournament(found, judge, known.get(category))
    if played.note:
        st.warning(words.escaped(played.note))
    _matrix(played)
    _strengths(played)
    _links(played, run, category)
    show.how(
        "Each cell is the row's mean share of the verdicts against the column over their prompts, with Wilson's interval "
        "clustered by prompt. Strengths are Bradley-Terry's from one score a prompt and pair, with a sandwich covariance "
        "clustered by prompt; *rank* is what each model can still be, all ranks right at once with 95 % probability. A "
        "*surprise* is a cell whose interval leaves out what the strengths predict. A cycle is three models that beat each "
        "other in a circle.",
        show.command("leaderboard", "--rank", "--judge", judge, *(["--run", run] if run else [])),
    )


def _matrix(played: Tournament) -> None:
    met = Counter(cell.model for cell in played.cells)
    most = set(sorted(played.models, key=lambda name: -met[name])[:DRAWN])  # of equals, the strongest
    order = [name for name in played.models if name in most]
    rows = [
        {
            "model": cell.model, "opponent": cell.opponent, "value": cell.value, "low": cell.low, "high": cell.high,
            "n": cell.n, "expected": cell.expected,
            "text": f"{100 * cell.value:.0f}" + ("*" if not cell.low <= cell.expected <= cell.high else ""),
        }
        for cell in played.cells
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    drawn = frame[frame["model"].isin(order) & frame["opponent"].isin(order)]
    surprises = int(drawn["text"].str.endswith("*").sum() / 2)
    few = int((drawn["n"] < words.FEW).sum() / 2)
    st.markdown(
        f"Percentage of the verdicts that the row won against the column. * marks {surprises} "
        f"surprise{'s' * (surprises != 1)} of {len(drawn) // 2} pairs. {_circles(played)}"
        + (
            f" {few} pairs have fewer than {words.FEW} prompts: believe their intervals, not their colours."
            if few
            else ""
        )
    )
    best = played.models[0]
    show.chart(
        charts.heat(drawn, order=order),
        alt=f"Win rates of every model against every other by {played.judge}, strongest first: {', '.join(order[:5])}. "
        f"{best} leads. {_circles(played)}",
        twin=frame.drop(columns=["text"]).round(3), key="matrix",
    )  # fmt: skip
    if len(played.models) > DRAWN:
        st.caption(
            f"The map shows the {DRAWN} of {len(played.models)} models that met most others, or of those that met as many "
            "the strongest; the table has all."
        )


def _circles(played: Tournament) -> str:
    if not played.triples:
        return "No three models all met, so there can be no cycle."
    return f"{played.cycles:,} of {played.triples:,} triples that all met are cycles."


def _strengths(played: Tournament) -> None:
    st.subheader("Strengths", anchor=False)
    rows = [
        {
            "name": name, "value": s.value, "low": s.low, "high": s.high, "n": s.n,
            "rank": f"{best}" if best == worst else f"{best} to {worst}", "group": "strength",
        }
        for name, s, (best, worst) in zip(played.models, played.strengths, played.ranks, strict=True)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    show.chart(
        charts.forest(
            frame.head(40), order=frame["name"].tolist(), x=AVERAGE, reference=0.0, groups=["strength"], **charts.SIGNED
        ),
        alt=f"Bradley-Terry strengths with 95 % intervals, strongest first: {', '.join(played.models[:5])}.",
        twin=frame.drop(columns=["group"]).rename(columns={"name": "model", "value": "strength"}).round(3),
        key="strengths",
    )


def _links(played: Tournament, run: str, category: str) -> None:
    """The daily next steps: the two strongest that met, and the answers behind a cell."""
    met = {(cell.model, cell.opponent) for cell in played.cells}
    pair = next(((a, b) for a in played.models for b in played.models if (a, b) in met), None)
    if pair is None:
        return
    a, b = pair
    two = {"judge": played.judge, "run": run, "a": a, "b": b}
    left, right = st.columns(2)
    with left:
        show.link("compare", f"Compare {words.name(a, 30)} with {words.name(b, 30)}", **two)
    with right:
        show.link("examples", f"Read {words.name(a, 30)} against {words.name(b, 30)}", **two, category=category)


if __name__ == "__main__":
    page()
