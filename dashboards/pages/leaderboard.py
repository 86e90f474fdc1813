"""Leaderboard: which checkpoint is best, and is that real?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from dashboards import charts, show, words
from dashboards.data import results
from dashboards.data.equal_length import at_equal_length
from dashboards.data.examples import OUTCOMES
from dashboards.data.state import Nothing
from rlhf_eval.benchmarks.boards import Board
from rlhf_eval.records import Estimate
from rlhf_eval.stats.length_control import StyleControlled

LENGTH = "What would be left of each win rate if no answer were longer than the baseline's."
EVEN = 0.5
DRAWN = 40
"""Models that the chart shows; the table has all."""
TIED, BEHIND = "first, or not separable from it", "surely behind the first"


def page() -> None:
    """Draw the page."""
    show.title("Leaderboard", "Which checkpoint is best, and is that real?")
    measured = show.ask(results.measurements)
    try:
        _win_rates()
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
        run = show.choice("Run", show.ask(results.runs_with_judgments), "run", every="all runs")
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
    _answer(board)
    frame = _frame(board)
    _chart(board, frame)
    _table(board, frame)
    _how(board, run=run, category=category)
    if not category and st.toggle("At equal length", key="equal_length", bind="query-params", help=LENGTH):
        _equal_length(board, show.ask(at_equal_length, judge, baseline, run=run))


def _answer(board: Board) -> None:
    """The daily question, answered before anything is clicked: the best, its lead, and who shares its place."""
    first = board.rows[0]
    name = str(first.settings["model"])
    cards = st.columns(3)
    with cards[0]:
        show.estimate(first, label=f"{words.short(name, 40)} against {words.short(board.baseline, 40)}")
    with cards[1]:
        _lead(board)
    with cards[2]:
        _judge(board)


def _lead(board: Board) -> None:
    if len(board.rows) < 2:
        low, high = board.rows[0].low, board.rows[0].high
        sure = "surely better" if low > EVEN else "surely worse" if high < EVEN else "not separable"
        show.card(f"Than {words.short(board.baseline, 40)}", sure, ["by whether the 95 % interval leaves out one half"])
        return
    name, behind = words.short(str(board.rows[1].settings["model"]), 40), board.behind[1]
    tied, others = sum(not b.separable for b in board.behind[1:]), len(board.rows) - 1
    fine = [
        f"{tied} of {others} cannot be told from first place" if tied else "first place is separable from all",
        f"by luck alone the best of as many equal models would seem {100 * board.luck:.1f} points ahead",
    ]
    gap = behind.gap
    if gap is None or behind.p_holm is None:
        show.card(f"Lead over {name}", "-", ["the two share no prompt", *fine])
        return
    spread = f"95 %: {100 * gap.low:+.1f} to {100 * gap.high:+.1f}, paired"
    count = f"n = {gap.n:,} prompts, p = {behind.p_holm:.2g} (Holm)"
    few = words.doubt(gap.n)
    show.card(
        f"Lead over {name}",
        f"{100 * gap.value:+.1f} points",
        [spread, count, *([few] if few else []), *fine],
        grey=bool(few),
    )


def _judge(board: Board) -> None:
    show.card("Judge", board.judge, [show.ask(results.badge, board.judge)])
    show.link("judge_quality", "Can this judge be believed?", judge=board.judge)


def _frame(board: Board) -> pd.DataFrame:
    rows = []
    for place, (row, behind) in enumerate(zip(board.rows, board.behind, strict=True)):
        about = row.settings
        rows.append(
            {
                "name": str(about["model"]),
                "value": row.value,
                "low": row.low,
                "high": row.high,
                "n": row.n,
                "group": BEHIND if behind.separable else TIED,
                "won / tied / lost": f"{about['wins']} / {about['ties']} / {about['losses']}",
                "failed": row.failed + int(about["unreadable"]),
                "behind first": behind.gap.value if behind.gap else None,
                "p (Holm)": behind.p_holm,
                "note": words.doubt(row.n) or ("" if not place or behind.separable else "= first"),
            }
        )
    return pd.DataFrame(rows)


def _chart(board: Board, frame: pd.DataFrame) -> None:
    top = frame.head(DRAWN)
    groups = [group for group in (TIED, BEHIND) if (top["group"] == group).any()]
    first, last = frame.iloc[0], frame.iloc[-1]
    alt = (
        f"Win rates of {len(top)} models against {board.baseline} with 95 % intervals, best first: "
        f"{first['name']} {first['value']:.1%}, last {last['name']} {last['value']:.1%}. The table below has all numbers."
    )
    drawing = charts.forest(
        top, order=top["name"].tolist(), x=f"win rate against {words.short(board.baseline, 50)}", reference=EVEN,
        groups=groups,
    )  # fmt: skip
    show.draw(drawing, alt=alt, key="forest")
    if len(frame) > DRAWN:
        st.caption(f"The chart shows the first {DRAWN} of {len(frame)} models; the table has all.")


def _table(board: Board, frame: pd.DataFrame) -> None:
    """The chart's twin: every number, sortable; two chosen rows lead to Compare."""
    names = {"name": "model", "value": "win rate", "low": "from", "high": "to"}
    shown = frame.drop(columns=["group"]).rename(columns=names)
    shares = ["win rate", "from", "to", "behind first"]
    shown[shares] = 100 * shown[shares].astype(float)
    percent, points = (st.column_config.NumberColumn(format=form) for form in ("%.1f %%", "%.1f points"))
    chosen = st.dataframe(
        shown, hide_index=True, placeholder="-", key="board", on_select="rerun", selection_mode="multi-row",
        alt=f"Win rates against {board.baseline}, judge {board.judge}",
        column_config={
            "model": st.column_config.TextColumn(pinned=True), "win rate": percent, "from": percent, "to": percent,
            "behind first": points,
            "p (Holm)": st.column_config.NumberColumn(format="%.2g"),
        },
    )  # fmt: skip
    _next(board, [str(shown.iloc[row]["model"]) for row in chosen["selection"]["rows"]])


def _next(board: Board, chosen: Sequence[str]) -> None:
    """Where to go from here: the chosen rows, or else the first two."""
    names = [str(row.settings["model"]) for row in board.rows]
    a = chosen[0] if chosen else names[0]
    b = chosen[1] if len(chosen) > 1 else next((n for n in names if n != a), board.baseline)
    left, right, behind = st.columns(3)
    with left:
        show.link("compare", f"Compare {words.short(a, 32)} with {words.short(b, 32)}", judge=board.judge, a=a, b=b)
    with right:
        show.link(
            "examples", f"Read where {words.short(a, 32)} lost to {words.short(board.baseline, 32)}",
            judge=board.judge, a=a, b=board.baseline, outcome=OUTCOMES["lost"],
        )  # fmt: skip
    with behind:
        show.link(
            "lineage", f"What lies behind {words.short(a, 32)}", judge=board.judge, model=a, baseline=board.baseline
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
    st.subheader("Measured beside win rates", anchor=False)
    rows = []
    for run, e in measured:
        value, _, interval = words.number(e).partition(" [")
        about = " · ".join(dict.fromkeys(str(e.settings[k]) for k in ("model", "judge") if e.settings.get(k)))
        failed = e.failed + int(e.settings.get("unreadable", 0) or 0)
        note = words.doubt(e.n) or str(e.settings.get("note", ""))
        bounds = interval.rstrip("]").replace(", ", " to ")
        rows.append([e.name, about, value, bounds, f"{e.n:,}", str(failed), note, run[-8:]])
    head = ["measure", "of", "value", "95 % interval", "n", "failed", "note", "run"]
    show.table(head, rows, right=[2, 3, 4, 5], caption="Estimates that evaluations have stored, newest run first")
    show.how(
        "Each is what `evaluate` stored when it ended, with the method it names; nothing is computed anew here.",
        show.command("runs", "show", measured[0][0]),
    )


def _how(board: Board, *, run: str, category: str) -> None:
    parts = ["leaderboard", "--judge", board.judge, "--baseline", board.baseline]
    parts += ["--run", run] if run else []
    parts += ["--by", "category"] if category else []
    show.how(
        "One score a prompt: the mean share of the verdicts over both orders and all repeats. The interval is Wilson's, "
        "with an effective n from the prompt-clustered standard error and a t quantile. Models are held against the first "
        "by the *paired* difference over shared prompts, with Holm's correction; overlapping intervals are not used. "
        "Failed and unreadable judgments are counted beside the number and never scored.",
        show.command(*parts),
    )


if __name__ == "__main__":
    page()
