"""Jobs and cost: what is running, what did it cost, what failed?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards import show, words
from dashboards.data import jobs
from dashboards.data.jobs import Job
from dashboards.data.state import Nothing
from rlhf_eval.errors import UserError
from rlhf_eval.stages.spending import dollars, duration, forecast_cost, spending

HEAD = ("run", "state", "ended", "failed", "a minute", "took", "expected", "cost", "expected cost")
EVERY = 3
"""Seconds between two looks at running jobs."""
SHOWN, LISTED = 50, 20
"""Runs that can be reached here, and those in view at once."""


def page() -> None:
    """Draw the page."""
    show.title("Jobs and cost", "What is running, what did it cost, what failed?")
    found = show.ask(jobs.jobs)
    st.subheader("At work", anchor=False)
    _at_work()
    st.subheader("Failed or set aside", anchor=False)
    _failures(found)
    st.subheader("Cost", anchor=False)
    _cost(found)
    st.subheader("All runs", anchor=False)
    _all(found)
    show.how(
        "Progress is what each run last wrote about itself, every two seconds while it lives. The rate is prompts or steps "
        "over the time from its start to its last sign of life; cost *at this pace* is what was spent times all prompts "
        "over those that ended. The forecast was made when the run started: the requests of up to 20 of its prompts, "
        "counted without asking, times the length and time of earlier replies of the same models, scaled to all prompts. "
        "Runs of fewer than 20 prompts have none. The same command with --dry-run forecasts before anything is spent.",
        show.command("status"),
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
    parts = [_ended(job) or "nothing counted yet"]
    if job.rate:
        parts.append(f"{job.rate:,.0f} a minute")
    if job.left is not None:
        parts.append(f"{duration(job.left)} left")
    if job.failed:
        parts.append(f"{job.failed:,} failed")
    cost = job.run.usage.cost
    if cost:
        pace = f", {dollars(job.expected_cost)} in all at this pace" if job.expected_cost else ""
        parts.append(f"{dollars(cost)} spent{pace}")
    st.progress(share, text=f"{job.run.id} · {' · '.join(parts)}")
    told = spending(job.run)
    if told:
        st.caption(f"Against the forecast: {words.escaped('; '.join(told))}")
    if job.dead:
        st.warning(
            f"No sign of life for {duration(job.silent)}: it was probably killed. What is done is stored; the command that "
            "started it goes on from there."
        )
        _resume(job)


def _ended(job: Job) -> str:
    if job.total:
        return f"{job.ended:,} of {job.total:,} {job.unit}"
    return f"{job.ended:,} {job.unit}" if job.ended else ""


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
        rows = [[f.run[-8:], f"{f.count:,}", words.short(f.reason, 200), f.example] for f in failed[:SHOWN]]
        show.table(["run", "prompts", "why", "such as"], rows, right=(1,))
        retry = next((job for job in found if job.failed and job.run.status == "done" and job.resume), None)
        if retry is not None:
            st.caption("Failed prompts of a finished run are tried again by:")
            _resume(retry)
    if not broken and not failed:
        st.caption("Nothing has failed, and no prompt was set aside.")


def _cost(found: Sequence[Job]) -> None:
    rows = show.ask(jobs.spent)
    money = sum(job.run.usage.cost for job in found)
    tokens = sum(job.run.usage.prompt_tokens + job.run.usage.completion_tokens for job in found)
    kept = show.ask(jobs.cached)
    made = sum(row.records for row in rows)
    free = sum(row.free for row in rows)
    columns = st.columns(3)
    with columns[0]:
        about = [f"{tokens:,} tokens", f"{len(found):,} runs; what was imported is not in it"]
        show.card("Spent", dollars(money), [*about, *_foreseen(found)])
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


def _foreseen(found: Sequence[Job]) -> list[str]:
    """What the runs with a price were expected to cost, beside what they did."""
    known = [(job.run.forecast, job.run.usage.cost) for job in found if job.run.forecast and job.run.forecast.cost]
    if not known:
        return []
    told, spent = sum(f.cost or 0.0 for f, _ in known), sum(cost for _, cost in known)
    return [f"{len(known):,} of them with a forecast: {dollars(spent)} of {dollars(told)} expected"]


def _all(found: Sequence[Job]) -> None:
    """Every run; what nobody has forecast has no column."""
    rows = [_row(job) for job in found[:SHOWN]]
    kept = [n for n, name in enumerate(HEAD) if not name.startswith("expected") or any(row[n] != "-" for row in rows)]
    head, rows = [HEAD[n] for n in kept], [[row[n] for n in kept] for row in rows]
    right = range(2, len(head))
    show.table(head, rows[:LISTED], right=right)
    if len(rows) > LISTED:
        with st.expander(f"{len(rows) - LISTED} earlier runs{f' of {len(found) - LISTED:,}' * (len(found) > SHOWN)}"):
            show.table(head, rows[LISTED:], right=right)
    run = show.run_choice("Walk from a run to its sources and results", [job.run.id for job in found[:SHOWN]], "walk")
    show.link("lineage", f"Lineage of {run[-8:]}", start=run)


def _row(job: Job) -> list[str]:
    run, told = job.run, job.run.forecast
    return [
        run.id,
        "silent" if job.dead else run.status,
        _ended(job) or "-",
        f"{job.failed:,}" if job.failed else "-",
        f"{job.rate:,.0f}" if job.rate and job.seconds >= 1 else "-",
        duration(job.seconds) if job.seconds >= 1 else "< 1 s",
        duration(told.seconds) if told is not None and told.seconds is not None else "-",
        dollars(run.usage.cost),
        forecast_cost(told) if told is not None and told.cost else "-",
    ]


if __name__ == "__main__":
    page()
