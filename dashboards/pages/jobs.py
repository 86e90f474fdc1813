"""Jobs and cost: what is running, what did it cost, what failed?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards import show, words
from dashboards.data import jobs
from dashboards.data.jobs import Job
from dashboards.data.state import Nothing
from rlhf_eval.errors import UserError

EVERY = 3
"""Seconds between two looks at running jobs."""
SHOWN = 50


def page() -> None:
    """Draw the page."""
    show.title("Jobs and cost", "What is running, what did it cost, what failed?")
    found = show.ask(jobs.jobs)
    st.subheader("At work", anchor=False)
    _at_work()
    st.subheader("Failures", anchor=False)
    _failures(found)
    st.subheader("Cost", anchor=False)
    _cost(found)
    st.subheader("All runs", anchor=False)
    _all(found)
    show.how(
        "Progress is what each run last wrote about itself, every two seconds while it lives. The rate is prompts over the "
        "time from its start to its last sign of life; expected cost is what was spent times all prompts over those that "
        "ended. Before a run starts, the same command with --dry-run forecasts calls, tokens, dollars and time.",
        show.command("runs", "ls"),
    )


@st.fragment(run_every=EVERY)
def _at_work() -> None:
    """Looks past what is kept of the store: a running job is never the same twice."""
    try:
        found = [job for job in jobs.jobs(show.opened().store) if job.run.status == "running"]
    except (Nothing, UserError):
        found = []
    if not found:
        st.caption("Nothing is running.")
    for job in found[:10]:
        _running(job)


def _running(job: Job) -> None:
    share = min(1.0, job.ended / job.total) if job.total else 0.0
    parts = [f"{job.ended:,} of {job.total:,}" if job.total else _steps(job)]
    if job.rate:
        parts.append(f"{job.rate:,.0f} a minute")
    if job.left is not None:
        parts.append(f"{_time(job.left)} left")
    if job.failed:
        parts.append(f"{job.failed:,} failed")
    cost = job.run.usage.cost
    if cost:
        expected = f" of about ${job.expected_cost:.2f}" if job.expected_cost else ""
        parts.append(f"${cost:.2f}{expected}")
    st.progress(share, text=f"{job.run.id} · {' · '.join(parts)}")
    if job.dead:
        st.warning(
            f"No sign of life for {_time(job.silent)}: it was probably killed. What is done is stored; the command that "
            "started it goes on from there."
        )
        _resume(job)


def _steps(job: Job) -> str:
    steps = job.run.counts.get("steps")
    return f"step {steps:,}" if steps else "nothing counted yet"


def _ended(job: Job) -> str:
    return _steps(job) if job.run.verb == "train" else "-"


def _resume(job: Job) -> None:
    if job.resume:
        st.code(words.safe(job.resume, longest=2_000), language=None)
    else:
        st.caption("The run does not say how it was started; the same command again resumes it.")


def _failures(found: Sequence[Job]) -> None:
    failed = show.ask(jobs.failures)
    broken = [job for job in found if job.run.status in ("failed", "interrupted", "stopped") or job.dead]
    for job in broken[:10]:
        said = f": {words.escaped(job.run.message)}" if job.run.message else ""
        st.error(f"`{job.run.id}` {'has fallen silent' if job.dead else job.run.status}{said}")
        _resume(job)
    if failed:
        rows = [[f.run, f"{f.count:,}", words.short(f.reason, 200), f.example] for f in failed[:SHOWN]]
        show.table(["run", "prompts", "why they failed or were set aside", "such as"], rows, right=(1,))
        retry = next((job for job in found if job.failed and job.run.status == "done" and job.resume), None)
        if retry is not None:
            st.caption("Failed prompts of a finished run are tried again by:")
            _resume(retry)
    if not broken and not failed:
        st.caption("Nothing has failed.")


def _cost(found: Sequence[Job]) -> None:
    rows = show.ask(jobs.spent)
    dollars = sum(job.run.usage.cost for job in found)
    tokens = sum(job.run.usage.prompt_tokens + job.run.usage.completion_tokens for job in found)
    kept = show.ask(jobs.cached)
    made = sum(row.records for row in rows)
    free = sum(row.free for row in rows)
    columns = st.columns(3)
    with columns[0]:
        show.card(
            "Spent", f"${dollars:,.2f}", [f"{tokens:,} tokens", f"{len(found):,} runs; what was imported is not in it"]
        )
    with columns[1]:
        share = f"{free / made:.0%}" if made else "-"
        show.card(
            "Cost no token", share, [f"{free:,} of {made:,} answers and verdicts", "cached, alike, or by program"]
        )
    with columns[2]:
        size = f"{kept['bytes'] / 1e6:,.1f} MB in {show.opened().store.cache_path.name}" if kept else "no cache yet"
        show.card("Replies in the cache", f"{kept['replies']:,}" if kept else "-", [size])
    paid = [row for row in rows if row.prompt_tokens or row.completion_tokens or row.dollars or row.failed]
    if paid:
        show.table(
            ["model or judge", "gave", "records", "no token", "failed", "tokens in", "tokens out", "dollars", "server s"],
            [
                [
                    row.name, row.what, f"{row.records:,}", f"{row.free:,}", f"{row.failed:,}", f"{row.prompt_tokens:,}",
                    f"{row.completion_tokens:,}", f"{row.dollars:,.2f}", f"{row.seconds:,.0f}",
                ]
                for row in paid[:SHOWN]
            ],
            right=(2, 3, 4, 5, 6, 7, 8),
        )  # fmt: skip
    left_out = len(rows) - len(paid[:SHOWN])
    if left_out:
        st.caption(f"{left_out:,} more models and judges that cost nothing here: imported, cached, or programs.")


def _all(found: Sequence[Job]) -> None:
    show.table(
        ["run", "state", "ended", "failed", "took", "a minute", "dollars"],
        [
            [
                job.run.id, "silent" if job.dead else job.run.status,
                f"{job.ended:,} of {job.total:,}" if job.total else _ended(job), f"{job.failed:,}", _time(job.seconds),
                f"{job.rate:,.0f}" if job.rate else "-", f"{job.run.usage.cost:,.2f}",
            ]
            for job in found[:SHOWN]
        ],
        right=(2, 3, 4, 5, 6),
    )  # fmt: skip
    if len(found) > SHOWN:
        st.caption(f"The newest {SHOWN} of {len(found):,}.")
    run = show.choice("Walk from a run to its sources and results", [job.run.id for job in found[:SHOWN]], "walk")
    show.link("lineage", f"Lineage of {run}", start=run)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


if __name__ == "__main__":
    page()
