"""Leaderboard: which checkpoint is best, and is that real?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import charts, show, words
from dashboards.data import results
from dashboards.data.equal_length import at_equal_length
from dashboards.data.examples import OUTCOMES
from dashboards.data.state import Nothing
from rlhf_eval.audit.evidence import role
from rlhf_eval.benchmarks.boards import Board, told_apart
from rlhf_eval.benchmarks.grades import GradeBoard, turns
from rlhf_eval.records import Estimate
from rlhf_eval.stats.length_control import StyleControlled

LENGTH = "What would be left of each win rate if no answer were longer than the baseline's."
EVEN = 0.5
MEASURED = 12
"""Stored numbers in view; the others are one click away."""
DRAWN = 40
"""Models that the chart shows; the table has all."""
TIED, UNMET, BEHIND = "first, or not separable from it", "shares no prompt with the first", "surely behind the first"
VIEWS = {"": "Win rates", "grades": "Mean grades"}


@dataclass(frozen=True, slots=True)
class Look:
    """How a board's numbers are written: shares as percentages and points, grades as they are."""

    column: str
    axis: str
    written: Callable[[Estimate], str]
    scale: float
    form: str
    """Of a number in the table, in C's way."""
    unit: str
    """What n counts."""
    reference: float | None = None

    def gap(self, value: float) -> str:
        """A difference of two models."""
        return f"{self.scale * value:{self.signed}}{' points' if self.scale > 1 else ''}"

    @property
    def signed(self) -> str:
        """The format of a difference."""
        return f"+{self.form[1:-1]}f" if self.form[-1] == "f" else "+.1f"


def page() -> None:
    """Draw the page."""
    show.title("Leaderboard", "Which checkpoint is best, and is that real?")
    measured = show.ask(results.measurements)
    try:
        compared, graded = show.ask(results.kinds)
        view = show.switch("What is ranked", VIEWS, "view") if compared and graded else "grades" if graded else ""
        (_mean_grades if view else _win_rates)()
    except Nothing as error:
        if not measured:
            raise
        show.nothing(str(error), error.command)
    if measured:
        _measurements(measured)


def _win_rates() -> None:
    """The board of one judge and baseline."""
    places = st.columns([3, 2, 2, 2])
    with places[3]:
        run = show.run_choice("Run", show.ask(results.runs_with_judgments), "run", every="all runs")
    found = show.ask(results.met, run=run)
    known = show.ask(results.prompt_categories)
    with places[0]:
        judge = show.choice("Judge", results.judges(found), "judge")
    with places[1]:
        baseline = show.choice("Baseline", results.baselines(found, judge), "baseline")
    with places[2]:
        mine = [s for s in found if s.judge == judge and baseline in (s.model, s.opponent)]
        category = show.choice("Category", results.parts_of(known, mine), "category", every="all prompts")
    board = results.board(found, judge, baseline, known.get(category))
    against = words.name(baseline, 50)
    look = Look("win rate", f"win rate against {against}", words.rate, 100, "%.1f %%", "prompts", EVEN)
    _answer(board, look, against=f" against {words.name(baseline, 40)}")
    frame = _frame(board, look)
    _draw(board, frame, look)
    _next(board, _table(board, frame, look), run, category)
    _how(
        "One score a prompt: the mean share of the verdicts over both orders and all repeats. The interval is Wilson's, "
        "with an effective n from the prompt-clustered standard error and a t quantile.",
        ["--judge", judge, "--baseline", baseline], run=run, by="category" if category else "",
    )  # fmt: skip
    if not category and st.toggle("At equal length", key="equal_length", bind="query-params", help=LENGTH):
        _equal_length(board, show.ask(at_equal_length, judge, baseline, run=run))


def _mean_grades() -> None:
    """The board of one judge of single answers, of all turns or of one."""
    places = st.columns([3, 2, 2, 2])
    with places[2]:
        run = show.run_choice("Run", show.ask(results.runs_with_judgments, answers=1), "run", every="all runs")
    found = show.ask(results.graded_answers, run=run)
    known = show.ask(results.prompt_categories)
    with places[0]:
        judge = show.choice("Judge", results.graders(found), "judge")
    mine = [one for one in found if one.judge == judge]
    with places[1]:
        category = show.choice("Category", results.parts_of(known, mine), "category", every="all prompts")
    numbers = turns(mine)
    with places[3]:
        turn = show.choice("Turn", [str(n) for n in numbers], "turn", every="all turns") if len(numbers) > 1 else ""
    board = results.grade_board(found, judge, prompts=known.get(category), turn=int(turn or 0))
    form = f".{board.digits}f"
    look = Look(
        "mean grade", "mean grade", lambda e: f"{e.value:{form}} [{e.low:{form}}, {e.high:{form}}]", 1, f"%{form}",
        "questions" if numbers else "prompts",
    )  # fmt: skip
    _answer(board, look)
    frame = _frame(board, look)
    _draw(board, frame, look)
    _table(board, frame, look)
    if len(board.rows) > 1 and not role(judge):
        show.link("judge_quality", "Is this judge right about which answer is better?", judge=judge)
    _how(
        "The mean of all grades; turns of one conversation and samples of one prompt are one cluster, and the interval is "
        "Student's with that many degrees of freedom. Grades of different judges are different units.",
        ["--grades", "--judge", judge], run=run, by="turn" if turn else "category" if category else "",
    )  # fmt: skip


def _answer(board: Board | GradeBoard, look: Look, *, against: str = "") -> None:
    """The daily question, answered before anything is clicked: the best, its lead, and who shares its place."""
    first = board.rows[0]
    cards = st.columns(3)
    with cards[0]:
        label = f"{words.name(str(first.settings['model']), 40)}{against or ', ' + look.column}"
        show.estimate(first, label=label, written=look.written, unit=look.unit)
    with cards[1]:
        _lead(board, look)
    with cards[2]:
        show.card("Judge", board.judge, [show.ask(results.badge, board.judge)])
        if not role(board.judge):
            show.link("judge_quality", "Can this judge be believed?", judge=board.judge)


def _lead(board: Board | GradeBoard, look: Look) -> None:
    if len(board.rows) < 2:
        if isinstance(board, Board):
            low, high = board.rows[0].low, board.rows[0].high
            sure = "surely better" if low > EVEN else "surely worse" if high < EVEN else "not separable"
            fine = ["by whether the 95 % interval leaves out one half"]
            show.card(f"Than {words.name(board.baseline, 40)}", sure, fine)
        else:
            show.card("Lead", "-", ["this judge graded one model only"], grey=True)
        return
    name, behind = words.name(str(board.rows[1].settings["model"]), 40), board.behind[1]
    fine = [
        told_apart(board.behind),
        f"by luck alone the best of as many equal models would seem {look.gap(board.luck)[1:]} ahead",
    ]
    gap = behind.gap
    if gap is None or behind.p_holm is None:
        show.card(f"Lead over {name}", "-", [f"the two share no {look.unit.removesuffix('s')}", *fine])
        return
    spread = (
        f"95 %: {look.gap(gap.low).removesuffix(' points')} to {look.gap(gap.high).removesuffix(' points')}, paired"
    )
    count = f"n = {gap.n:,} {look.unit}, {words.p_value(behind.p_holm)} (Holm)"
    few = words.doubt(gap.n, unit=look.unit)
    show.card(f"Lead over {name}", look.gap(gap.value), [spread, count, *([few] if few else []), *fine], grey=bool(few))


def _frame(board: Board | GradeBoard, look: Look) -> pd.DataFrame:
    rows = []
    for place, (row, behind) in enumerate(zip(board.rows, board.behind, strict=True)):
        about = row.settings
        counts: dict[str, object] = {"grades": about.get("grades")}
        if isinstance(board, Board):
            counts = {"won / tied / lost": f"{about['wins']} / {about['ties']} / {about['losses']}"}
        note = words.doubt(row.n, unit=look.unit)
        rows.append(
            {
                "name": str(about["model"]),
                "value": row.value,
                "low": row.low if math.isfinite(row.low) else None,
                "high": row.high if math.isfinite(row.high) else None,
                "n": row.n,
                "group": BEHIND if behind.separable else UNMET if place and behind.gap is None else TIED,
                **counts,
                "failed": row.failed + int(about["unreadable"]),
                "behind first": behind.gap.value if behind.gap else None,
                "p (Holm)": behind.p_holm,
                "note": note or (behind.note if place else ""),
            }
        )
    return pd.DataFrame(rows)


def _draw(board: Board | GradeBoard, frame: pd.DataFrame, look: Look) -> None:
    top = frame.head(DRAWN)
    groups = [group for group in (TIED, BEHIND, UNMET) if (top["group"] == group).any()]
    first, last = board.rows[0], board.rows[-1]
    alt = (
        f"{look.axis} of {len(top)} models with 95 % intervals, best first: {first.settings['model']} "
        f"{look.written(first)}, last {last.settings['model']} {look.written(last)}. The table below has all numbers."
    )
    percent = look.scale > 1
    drawing = charts.forest(
        top, order=top["name"].tolist(), x=look.axis, reference=look.reference, groups=groups,
        form=".0%" if percent else ".3~g", fine=".1%" if percent else look.form[1:], unit=look.unit,
    )  # fmt: skip
    show.draw(drawing, alt=alt, key="forest")
    if len(frame) > DRAWN:
        st.caption(f"The chart shows the first {DRAWN} of {len(frame)} models; the table has all.")


def _table(board: Board | GradeBoard, frame: pd.DataFrame, look: Look) -> list[str]:
    """The chart's twin: every number, sortable; returns the models of the rows that were chosen."""
    shown = frame.drop(columns=["group"]).rename(
        columns={"name": "model", "value": look.column, "low": "from", "high": "to"}
    )
    numbers = [look.column, "from", "to", "behind first"]
    shown[numbers] = look.scale * shown[numbers].astype(float)
    shown = shown if shown["note"].any() else shown.drop(columns="note")
    plain = st.column_config.NumberColumn(format=look.form)
    gap = "%.1f points" if look.scale > 1 else look.form
    columns = {
        look.column: plain, "from": plain, "to": plain, "behind first": st.column_config.NumberColumn(format=gap),
        "p (Holm)": st.column_config.NumberColumn(format="%.2g"),
        **dict.fromkeys(("n", "grades", "failed"), st.column_config.NumberColumn(format="localized")),
    }  # fmt: skip
    about: dict[str, Any] = {
        "hide_index": True, "placeholder": "-", "key": "board", "alt": f"{look.axis}, judge {board.judge}",
        "column_config": columns,
    }  # fmt: skip
    if not isinstance(board, Board):
        st.dataframe(shown, **about)
        return []
    chosen = st.dataframe(shown, on_select="rerun", selection_mode="multi-row", **about)
    # Of a longer board that stood here before, rows may still be chosen that this one does not have.
    return [str(shown.iloc[row]["model"]) for row in chosen["selection"]["rows"] if row < len(shown)]


def _next(board: Board, chosen: Sequence[str], run: str, category: str) -> None:
    """Where to go from here: the chosen rows, or else the first two."""
    names = [str(row.settings["model"]) for row in board.rows]
    a = chosen[0] if chosen else names[0]
    b = chosen[1] if len(chosen) > 1 else next((n for n in names if n != a), board.baseline)
    left, right, behind = st.columns(3)
    filters = {"judge": board.judge, "run": run}
    with left:
        show.link("compare", f"Compare {words.name(a, 32)} with {words.name(b, 32)}", **filters, a=a, b=b)
    with right:
        show.link(
            "examples", f"Read where {words.name(a, 32)} lost to {words.name(board.baseline, 32)}",
            **filters, a=a, b=board.baseline, outcome=OUTCOMES["lost"], category=category,
        )  # fmt: skip
    with behind:
        show.link(
            "lineage", f"What lies behind {words.name(a, 32)}", judge=board.judge, model=a, baseline=board.baseline
        )
    if len(chosen) < 2:
        st.caption("Select two rows of the table to compare other models.")


def _equal_length(board: Board, controlled: Mapping[str, StyleControlled]) -> None:
    """The same models if no answer were longer than the baseline's, or why that cannot be said."""
    rows = []
    for row in board.rows:
        model = str(row.settings["model"])
        found = controlled[model]
        at = found.adjusted
        rows.append(
            [
                model,
                words.rate(row),
                f"{100 * at.value:.1f} % [{100 * at.low:.1f}, {100 * at.high:.1f}]" if at else "-",
                f"{100 * (at.value - row.value):+.1f}" if at else "-",
                f"{row.n:,}",
                words.doubt(row.n) or found.reason,
            ]
        )
    head = ["model", "as judged", "at equal length", "points", "n", "note"]
    show.table(head, rows, right=[1, 2, 3, 4], caption=f"Win rate against {board.baseline}, judge {board.judge}")
    show.how(
        "A logistic model of the verdict on the difference in length is read off at difference 0; the interval follows "
        "the influence function, clustered by prompt. Where the lengths hardly overlap it is not identified, and says so. "
        "If better answers are honestly longer, that goes too: this is *length-adjusted*, not *true*.",
        show.command("evaluate", "alpaca_eval", "--judgments", show.ask(results.runs_with_judgments, board.judge)[0]),
    )


def _measurements(measured: Sequence[tuple[str, Estimate]]) -> None:
    """What was measured in other ways than by comparing two answers."""
    st.subheader("Measured by evaluations", anchor=False)
    rows = []
    for run, e in measured:
        value, _, interval = (words.difference if _is_gap(e) else words.number)(e).partition(" [")
        failed = e.failed + int(e.settings.get("unreadable", 0) or 0)
        note = words.doubt(e.n) or str(e.settings.get("note", ""))
        bounds = interval.rstrip("]").replace(", ", " to ")
        rows.append([e.name, _whose(e), value, bounds, f"{e.n:,}", str(failed), note, run[-8:]])
    head = ["measure", "of", "value", "95 % interval", "n", "failed", "note", "run"]
    if not any(row[6] for row in rows):
        head, rows = [*head[:6], "run"], [[*row[:6], row[7]] for row in rows]
    rows = [list(row) for row in dict.fromkeys(tuple(row) for row in rows)]
    caption = "What evaluations have stored beside win rates, the newest run first"
    show.table(head, rows[:MEASURED], right=[2, 3, 4, 5], caption=caption)
    if len(rows) > MEASURED:
        with st.expander(f"{len(rows) - MEASURED} more"):
            show.table(head, rows[MEASURED:], right=[2, 3, 4, 5])
    show.how(
        "Each is what `evaluate` stored when it ended, with the method it names; nothing is computed anew here.",
        show.command("runs", "show", measured[0][0]),
    )


def _whose(e: Estimate) -> str:
    """The model and judge that a number is of, unless its name says so."""
    judge, _, model = e.name.partition(": ")
    parts = [] if model in (e.settings.get("model"), e.settings.get("baseline")) else [e.settings.get("model")]
    parts += [] if judge == e.settings.get("judge") else [e.settings.get("judge")]
    return " · ".join(dict.fromkeys(str(part) for part in parts if part))


def _is_gap(e: Estimate) -> bool:
    return e.name.endswith("difference") or " minus " in e.name


def _how(text: str, flags: Sequence[str], *, run: str, by: str) -> None:
    show.how(
        f"{text} Models are held against the first by the *paired* difference over what both answered, with Holm's "
        "correction; overlapping intervals are not used. Failed and unreadable judgments are counted beside the number and "
        "never scored.",
        show.command("leaderboard", *flags, *(["--run", run] if run else []), *(["--by", by] if by else [])),
    )


if __name__ == "__main__":
    page()
