"""Training: is it healthy, and when should it have stopped?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from dashboards import curves, show, words
from dashboards.data import training
from dashboards.data.state import Nothing
from dashboards.data.training import Bend, Over, Row, Series, Step, Stop
from rlhf_eval.records import Estimate

SHOWN = ("gold", "reward", "accuracy", "loss")
"""Scalars of the table of all trainings."""


def page() -> None:
    """Draw the page."""
    show.title("Training", "Is it healthy, and when should it have stopped?")
    try:
        rows = show.ask(training.trainings)
    except Nothing as error:
        bends = show.ask(training.bends)
        show.nothing(str(error), error.command)
        _bends(bends)
        return
    left, right = st.columns(2)
    with left:
        run = show.run_choice("Training", [row.run for row in rows], "training")
    with right:
        beside = show.run_choice("Beside it", [row.run for row in rows if row.run != run], "beside", every="nothing")
    row = next(row for row in rows if row.run == run)
    over = show.ask(training.overoptimization, run)
    _head(row, over.steps)
    _scalars([run, *([beside] if beside else [])])
    st.subheader("Over-optimisation", anchor=False)
    _over(over)
    _bends(show.ask(training.bends))
    if over.steps:
        st.subheader("What it wrote at each step", anchor=False)
        _written(run, over.steps)
    st.subheader("All trainings", anchor=False)
    _all(rows)
    show.how(
        "Scalars are the rows of the run's metrics.jsonl; of many, a point is the mean of neighbours. Gold and proxy "
        "reward of a step are means over its stored completions, clustered by prompt. The fit is R = d (a - b log d), "
        "d = sqrt(KL), to the gold gained since the first step (2210.10760, equation 1), from d = 0.3 on; its interval is "
        "a bootstrap of prompts with the KL held as measured.",
        show.command("runs", "show", run[-8:]),
    )


def _head(row: Row, steps: Sequence[Step]) -> None:
    if row.status == "running":
        st.info(f"Still running: step {row.steps:,}.")
    elif row.status != "done":
        st.warning(f"This training is {row.status}: {words.escaped(row.message)}")
    for worry in row.worries:
        st.warning(words.escaped(worry))
    columns = st.columns(4)
    with columns[0]:
        show.card("Trainer", row.trainer or "?", [f"from {row.base}" if row.base else "", f"{row.steps:,} steps"])
    with columns[1]:
        show.card("Trained", f"{row.tokens:,} tokens", [f"{row.seconds:,.0f} s since the start", f"data: {_data(row)}"])
    found = training.measured(show.opened().store, row.run, steps)
    for column, (label, e) in zip(columns[2:], found, strict=False):
        with column:
            show.estimate(e, label=label, written=words.number)
    bare = [name for name in ("accuracy", "loss", "kl", "length") if name in row.final]
    for column, name in zip(columns[2 + len(found) :], bare, strict=False):
        with column:
            what = training.WHAT[name]
            show.card(f"Last {what}", f"{row.final[name]:.4g}", ["of a single batch or evaluation: no interval"])
    show.link("lineage", "Where its data comes from, and what was made with the checkpoint", start=row.run)


def _data(row: Row) -> str:
    return ", ".join(value[-13:] for value in row.data) or "not named"


def _scalars(runs: Sequence[str]) -> None:
    found = show.ask(training.series, tuple(runs))
    if not found:
        st.info("It has logged no scalar yet.")
        return
    flat = {one.name for one in found} - {one.name for one in found if one.moves}
    if flat:
        same = [f"{training.WHAT.get(one.name, one.name)} {one.value[-1]:.4g}" for one in found if one.name in flat]
        st.caption(f"Did not change: {words.escaped('; '.join(dict.fromkeys(same)))}.")
    names = list(dict.fromkeys(one.name for one in found if one.name not in flat))
    split = ["train", "eval"]  # the same colour for the same split, whichever was logged first
    found = sorted(found, key=lambda one: (runs.index(one.run), split.index(one.split) if one.split in split else 2))
    groups = list(dict.fromkeys(_group(one, runs) for one in found))
    for start in range(0, len(names), 3):
        for column, name in zip(st.columns(3), names[start : start + 3], strict=False):
            with column:
                _scalar(name, [one for one in found if one.name == name], runs, groups)


def _group(one: Series, runs: Sequence[str]) -> str:
    return f"{one.run[-8:]} {one.split}" if len(runs) > 1 else one.split


def _scalar(name: str, found: Sequence[Series], runs: Sequence[str], groups: Sequence[str]) -> None:
    frame = pd.concat(
        [pd.DataFrame({"step": one.step, "value": one.value, "group": _group(one, runs)}) for one in found],
        ignore_index=True,
    )
    finite = frame[frame["value"].map(math.isfinite)]
    title = training.WHAT.get(name, name)
    if finite.empty:
        st.caption(f"{words.escaped(title)}: not one finite value")
        return
    first, last = finite.iloc[0]["value"], finite.iloc[-1]["value"]
    alt = f"{title} over steps, from {first:.3g} to {last:.3g}."
    show.draw(curves.scalar(finite, title=title, groups=groups), alt=alt, key=f"scalar_{name}")
    averaged = max(one.averaged for one in found)
    if averaged > 1:
        st.caption(f"each point the mean of {averaged} rows")
    with st.popover("Numbers"):
        st.dataframe(frame, hide_index=True, key=f"scalar_{name}_twin", alt=alt)


def _over(over: Over) -> None:
    if over.why_not:
        st.caption(f"No peak is fitted: {words.escaped(over.why_not)}.")
    said = _said(over.stop) if over.stop is not None else ""
    if over.stop is not None:
        (st.error if over.stop.bends or over.stop.falls else st.info)(words.escaped(said))
    left, right = st.columns(2)
    with left:
        _against(over, _points(over.steps, "reward", "proxy reward, optimised"), said, key="proxy", fitted=False)
    with right:
        rows = _points(over.steps, "gold", "gold reward")
        kl = {step.step: step.kl for step in over.steps if step.kl is not None}
        for step, e in over.won:
            if step in kl:
                rows.append(
                    _point(step, kl[step], e, f"win rate against {words.name(str(e.settings['baseline']), 40)}")
                )
        for judge in dict.fromkeys(str(e.settings["judge"]) for _, e in over.won):
            st.caption(f"Win rates by the judge {words.escaped(judge)}.")
        _against(over, rows, said, key="gold", fitted=True)


def _against(over: Over, rows: Sequence[dict[str, object]], said: str, *, key: str, fitted: bool) -> None:
    """Some rewards over sqrt(KL), with the line where to stop, and the fit where it is gold's."""
    if not rows:
        return
    frame = pd.DataFrame(rows)
    groups = list(dict.fromkeys(frame["group"]))
    y = groups[0] if len(groups) == 1 else "gold reward, or win rate"
    drawing = curves.means(frame, x="d = sqrt(KL) to the start", y=y, form=".2~f", groups=groups)
    if over.stop is not None:
        fit = pd.DataFrame({"x": [], "y": []})
        if fitted:
            start = next(s.gold.value for s in over.steps if s.gold is not None)
            d, gain = training.curve(over.stop.fit, training.NEAREST, float(frame["x"].max()))
            fit = pd.DataFrame({"x": d, "y": gain + start})
        kept = next(s.kl or 0.0 for s in over.steps if s.step == over.stop.step)
        stop = over.stop.fit.peak_d if over.stop.bends else math.sqrt(kept) if over.stop.falls else None
        drawing = curves.with_fit(drawing, fit, stop=stop, label=f"stop here: step {over.stop.step:,}")
    alt = f"{y} over the square root of KL at {len(over.steps)} steps. {said}"
    show.chart(drawing, alt=alt, twin=frame.drop(columns="note"), key=f"over_{key}")


def _said(stop: Stop) -> str:
    b = f"b = {stop.fit.b:.3g}, 95 % {stop.b_low:.3g} to {stop.b_high:.3g} over prompts"
    if stop.bends:
        far = "beyond all that was measured" if math.isinf(stop.d_high) else f"{stop.d_high:.2f}"
        return (
            f"Gold bends down: its fitted peak is at sqrt(KL) = {stop.fit.peak_d:.2f} (95 % {stop.d_low:.2f} to {far}). "
            f"Keep the checkpoint of step {stop.step:,}; {b}."
        )
    gained = words.number(stop.gained)
    if stop.falls:
        return (
            f"Gold only falls: by the last step it has gained {gained} over the start, paired over {stop.gained.n:,} "
            f"prompts. What is optimised is not what is wanted; of the steps measured keep step {stop.step:,}."
        )
    return f"No over-optimisation is shown within what was measured: {b}; gold gained {gained} from first to last step."


def _points(steps: Sequence[Step], which: str, name: str) -> list[dict[str, object]]:
    rows = []
    for step in steps:
        e = step.gold if which == "gold" else step.reward
        if e is not None and step.kl is not None:
            rows.append(_point(step.step, step.kl, e, name))
    return rows


def _point(step: int, kl: float, e: Estimate, name: str) -> dict[str, object]:
    return {
        "x": math.sqrt(kl), "value": e.value, "low": e.low, "high": e.high, "n": e.n, "group": name,
        "note": f"step {step:,}", "step": step, "KL (nats)": kl,
    }  # fmt: skip


def _bends(bends: Sequence[Bend]) -> None:
    for number, bend in enumerate(bends[:6]):
        st.markdown(
            f"**Best of n** from {words.escaped(bend.model)}, chosen by {words.escaped(bend.proxy)}, "
            f"gold by {words.escaped(bend.judge)}, run `{bend.run}`"
        )
        frame = pd.DataFrame([_best(n, d, e) for n, d, e in bend.points])
        drawing = curves.means(frame, x="sqrt(KL), at most", y="gold of the best of n", form=".3~g")
        end = float(frame["x"].max())
        xs = [end * k / 60 for k in range(61)]
        fit = pd.DataFrame({"x": xs, "y": [bend.points[0][2].value + x * (bend.a - bend.b.value * x) for x in xs]})
        bends_down = bend.b.low > 0 and bend.peak_d < end
        label = f"stop here: best of {bend.best_n:.0f}" if isinstance(bend.best_n, float) else "stop here"
        drawing = curves.with_fit(drawing, fit, stop=bend.peak_d if bends_down else None, label=label)
        what = "Gold bends down within what was tried" if bends_down else "No bend is shown within what was tried"
        said = f"{what}: b = {words.number(bend.b)}, n = {bend.b.n:,} prompts."
        st.caption(words.escaped(said))
        show.chart(drawing, alt=said, twin=frame.drop(columns=["group", "note"]), key=f"bend_{number}")


def _best(n: int, d: float, e: Estimate) -> dict[str, object]:
    return {
        "x": d, "value": e.value, "low": e.low, "high": e.high, "n": e.n, "group": "gold", "note": f"best of {n}",
        "best of": n,
    }  # fmt: skip


def _written(run: str, steps: Sequence[Step]) -> None:
    show.table(
        ["step", "model", "completions", "KL", "proxy reward", "gold"],
        [
            [
                f"{s.step:,}", s.model, f"{s.completions:,}", f"{s.kl:.3g}" if s.kl is not None else "-",
                words.number(s.reward) if s.reward else "-", words.number(s.gold) if s.gold else "-",
            ]
            for s in steps
        ],
        right=(0, 2, 3, 4, 5),
    )  # fmt: skip
    left, right = st.columns([1, 2])
    with left:
        step = int(show.choice("Completions of step", [str(s.step) for s in reversed(steps)], "step"))
    found, total = show.ask(training.written, run, step)
    with right:
        pages = -(-total // 10)
        at = show.page_of(pages, "written", listed=(run, step))
    found, total = show.ask(training.written, run, step, page=at - 1)
    st.caption(f"{total:,} completions of step {step:,}")
    for one in found:
        scores = [
            f"{name} {value:.3g}" for name, value in (("proxy", one.reward), ("gold", one.gold)) if value is not None
        ]
        with st.expander(words.escaped(f"{words.short(one.prompt.text, 90)} · {', '.join(scores) or 'not scored'}")):
            show.foreign(one.prompt.text, label="prompt")
            show.foreign(one.completion.text, label=f"completion of step {step}")


def _all(rows: Sequence[Row]) -> None:
    show.table(
        ["run", "trainer", "state", "from", "steps", "tokens", "seconds", "last values"],
        [
            [
                row.run[-8:], row.trainer, row.status, words.name(row.base, 40), f"{row.steps:,}", f"{row.tokens:,}",
                f"{row.seconds:,.0f}",
                ", ".join(f"{training.WHAT[name]} {row.final[name]:.3g}" for name in SHOWN if name in row.final),
            ]
            for row in rows
        ],
        right=(4, 5, 6),
    )  # fmt: skip


if __name__ == "__main__":
    page()
