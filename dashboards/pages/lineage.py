"""Lineage: what was this made from, and what was made from it?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards import show, words
from dashboards.data import jobs, lineage
from dashboards.data.lineage import PAGES, Behind, Stop, Trail
from rlhf_eval.audit.evidence import role
from rlhf_eval.config import write_yaml


def page() -> None:
    """Draw the page of a run, or of a leaderboard row (``judge``, ``model`` and ``baseline`` in the URL)."""
    show.title("Lineage", "What was this made from, and what was made from it?")
    judge, model, baseline = (show.asked(name) for name in ("judge", "model", "baseline"))
    starts: Sequence[str] = [job.run.id for job in show.ask(jobs.jobs)]
    if judge and model:
        st.query_params.update(judge=judge, model=model, baseline=baseline)
        behind = show.ask(lineage.behind_row, judge, model, baseline)
        _row(behind)
        starts = behind.runs
    run = show.run_choice("Walk from the run", list(starts), "start")
    found = show.ask(lineage.trail, run)
    _graph(found)
    _here(found.start)
    _stops("What it was made from", found.up, "Nothing in this store: it begins here.")
    _stops("What was made from it", found.down, "Nothing yet.")
    show.how(
        "A run names the runs that it read; a run's id ends with the hash of verb, settings, inputs and seed. Prompts, "
        "answers, verdicts and pairs carry the hash of what produced them, so that no label loses its origin.",
        show.command("runs", "show", run[-8:]),
    )


def _row(behind: Behind) -> None:
    against = f" against {words.escaped(behind.baseline)}" if behind.baseline else ""
    st.markdown(
        f"**{words.escaped(behind.model)}**{against}, judged by {words.escaped(behind.judge)}: "
        f"{sum(behind.verdicts.values()):,} verdicts about {behind.distinct:,} answers."
    )
    rows = [["verdicts", run, f"{n:,}"] for run, n in behind.verdicts.items()]
    rows += [["answers", run, f"{n:,}"] for run, n in behind.answers.items()]
    rows += [["checkpoint", run, ""] for run in behind.checkpoints]
    rows += [["judge card", run, ""] for run in behind.cards]
    show.table(["what", "run", "records"], rows, right=(2,), caption="What lies behind this row")
    if not behind.checkpoints:
        st.caption("No training of this store made the model: it came from elsewhere, or its answers were loaded.")
    if not behind.cards and not role(behind.judge):
        st.caption("The judge was never audited:")
        st.code(show.command("audit", "--judge", behind.judge), language=None)
    places = st.columns(3)
    with places[0]:
        show.link("examples", "Read the answers and verdicts", judge=behind.judge, a=behind.model, b=behind.baseline)
    if not role(behind.judge):
        with places[1]:
            show.link("judge_quality", "The judge's report card", judge=behind.judge)
    if behind.checkpoints:
        with places[2]:
            show.link("training", "The training of the model", training=behind.checkpoints[0])


def _graph(found: Trail) -> None:
    count = 1 + len(found.up) + len(found.down)
    if count > 1:
        st.graphviz_chart(
            found.dot(ink="#E8E8E8" if st.context.theme.type == "dark" else "#262730"), width="content",
            alt=f"Graph of {count} runs: {len(found.up)} before this one, {len(found.down)} after it; listed below.",
        )  # fmt: skip


def _here(stop: Stop) -> None:
    run = stop.run
    st.subheader(f"{stop.made[0].upper()}{stop.made[1:]} {run.id[-8:]}", anchor=False)
    about = [["run", run.id], ["state", run.status], ["started", run.started], ["seed", str(run.seed)]]
    about += [[name, f"{count:,}"] for name, count in stop.holds.items()]
    about += [[f"read as {role}", value] for role, value in run.inputs.items()]
    about += [["cost", f"${run.usage.cost:,.4f}, {run.usage.prompt_tokens + run.usage.completion_tokens:,} tokens"]]
    show.table(["", ""], about)
    if run.versions.get("command"):
        st.code(words.safe(run.versions["command"], longest=2_000), language=None)
    with st.expander("Resolved settings and versions"):
        st.code(words.safe(write_yaml(dict(run.config))), language="yaml")
        st.code(words.safe(write_yaml({k: v for k, v in run.versions.items() if k != "command"})), language="yaml")
    page, key = PAGES.get(run.verb, ("jobs", "walk"))
    value = str(run.config.get("judge", "")) if key == "judge" else run.id
    show.link(page, f"Open it under {page.replace('_', ' ').capitalize()}", **{key: value})


def _stops(title: str, stops: Sequence[Stop], nothing: str) -> None:
    st.subheader(title, anchor=False)
    if not stops:
        st.caption(nothing)
    for stop in stops:
        holds = ", ".join(f"{count:,} {table}" for table, count in stop.holds.items())
        left, right = st.columns([4, 1])
        with left:
            st.markdown(
                f"{'&emsp;' * (stop.depth - 1)}**{stop.made}** `{stop.run.id[-8:]}` as {words.escaped(stop.via)} of "
                f"`{stop.parent[-8:]}` · {words.escaped(holds or 'no records')} · {stop.run.status}"
            )
        with right:
            show.link("lineage", f"Walk from {stop.run.id[-8:]}", start=stop.run.id)


if __name__ == "__main__":
    page()
