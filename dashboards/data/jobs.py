"""What is running, how far it is, what everything cost, and what failed.

for job in jobs(store): print(job.run.id, job.rate, job.left)
failures(store, run)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from dashboards.data.state import Nothing
from rlhf_eval.records import Run
from rlhf_eval.stages.spending import how_far, seconds_of
from rlhf_eval.store.runs import Store

SILENT = 60.0
"""Seconds without a heartbeat after which a running job may be dead; live ones write every two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run as work."""

    run: Run
    ended: int
    total: int
    """0 where nobody has counted."""
    unit: str
    """What is counted: ``prompts``, or ``steps`` of a training."""
    failed: int
    seconds: float
    """From its start to its last sign of life."""
    silent: float
    """Seconds since that sign."""

    @property
    def live(self) -> bool:
        """Whether it is at work, as far as one can see."""
        return self.run.status == "running" and self.silent < SILENT

    @property
    def dead(self) -> bool:
        """Whether it calls itself running and has shown no sign of life for long."""
        return self.run.status == "running" and not self.live

    @property
    def rate(self) -> float | None:
        """Prompts or steps a minute since its start; None before the first."""
        return 60 * self.ended / self.seconds if self.ended and self.seconds > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds to its end at this rate; None where it is not known."""
        if not self.rate or not self.live or self.total <= self.ended:
            return None
        return 60 * (self.total - self.ended) / self.rate

    @property
    def expected_cost(self) -> float | None:
        """Dollars that all of it comes to if the rest costs like what is done; None where nothing is done."""
        return self.run.usage.cost * self.total / self.ended if self.ended and self.total else None

    @property
    def resume(self) -> str:
        """The command that goes on with it; empty where the run does not say how it was started."""
        command = self.run.versions.get("command", "").replace(" --fresh", "")
        retry = self.run.status == "done" and self.failed and "--retry-failed" not in command
        return f"{command} --retry-failed" if command and retry else command


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one model or judge was asked for, over all runs."""

    name: str
    what: str
    """``answers`` or ``verdicts``."""
    records: int
    free: int
    """Of them, those made here that cost no token: from the cache, of the same words, or by a program."""
    prompt_tokens: int
    completion_tokens: int
    dollars: float
    seconds: float
    """Of the server's time, added up."""
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One way in which prompts of a run ended badly."""

    run: str
    reason: str
    count: int
    example: str
    """The id of one of them."""


def jobs(store: Store, *, now: datetime | None = None) -> list[Job]:
    """Every run, those at work first, then the newest; raises Nothing where there is none."""
    moment = now or datetime.now(UTC)
    found = [_job(run, moment) for run in reversed(store.runs())]
    if not found:
        raise Nothing("Nothing has run in this store yet.", command="rlhf-eval demo")
    return sorted(found, key=lambda job: not job.live)


def spent(store: Store) -> list[Spent]:
    """Tokens, dollars and time by model and judge, the dearest first."""
    query = """
        with loaded as (select id from runs where verb = 'load'),
        questions as (
            select regexp_replace(model, '@[0-9]+$', ' while it trained') as name, run_id,
                   count(*) as records, count(error) as failed, sum(usage.prompt_tokens) as prompt_tokens,
                   sum(usage.completion_tokens) as completion_tokens,
                   sum(usage.cost) as dollars, sum(usage.seconds) as seconds
            from completions where not starts_with(model, 'audit/') group by 1, run_id, prompt_id),
        answers as (
            select name, 'answers' as what, sum(records) as records, sum(failed) as failed,
                   sum(records) filter (prompt_tokens + completion_tokens = 0 and run_id not in (from loaded)) as free,
                   sum(prompt_tokens) as prompt_tokens, sum(completion_tokens) as completion_tokens,
                   sum(dollars) as dollars, sum(seconds) as seconds
            from questions group by 1),
        verdicts as (
            select judge as name, 'verdicts' as what, count(*) as records, count(error) as failed,
                   count(*) filter (usage.prompt_tokens + usage.completion_tokens = 0
                                    and run_id not in (from loaded)) as free,
                   sum(usage.prompt_tokens) as prompt_tokens, sum(usage.completion_tokens) as completion_tokens,
                   sum(usage.cost) as dollars, sum(usage.seconds) as seconds
            from judgments group by 1)
        select name, what, records::bigint as records, failed::bigint as failed, coalesce(free, 0)::bigint as free,
               prompt_tokens::bigint as prompt_tokens, completion_tokens::bigint as completion_tokens, dollars, seconds
        from (from answers union all from verdicts) order by dollars desc, completion_tokens desc, name"""
    # A request's tokens stand on its first sample: a prompt's answers are free together or not at all.
    return [Spent(**row) for row in store.sql(query).to_pylist()]


def failures(store: Store, run: str = "") -> list[Failure]:
    """Why prompts failed or were skipped, of one run or of all; a prompt that was done in the end is none."""
    query = """
        with last as (select run_id, prompt_id, arg_max(reason, status = 'failed') as reason,
                             bool_or(status = 'done') as done from outcomes where $1 = '' or run_id = $1 group by 1, 2)
        select run_id as run, reason, count(*) as count, min(prompt_id) as example from last
        where not done and reason <> '' group by 1, 2 order by run desc, count desc, reason"""
    return [Failure(**row) for row in store.sql(query, [run]).to_pylist()]


def cached(store: Store) -> Mapping[str, int]:
    """Replies in the response cache and their bytes; empty where there is no cache or it cannot be read."""
    if not store.cache_path.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"{store.cache_path.resolve().as_uri()}?mode=ro", uri=True, timeout=1)) as cache:
            count, size = cache.execute("SELECT count(*), coalesce(sum(length(value)), 0) FROM responses").fetchone()
    except sqlite3.Error:
        return {}
    return {"replies": int(count), "bytes": int(size)}


def _job(run: Run, now: datetime) -> Job:
    ended, total, unit = how_far(run)
    try:
        silent = max(0.0, (now - datetime.fromisoformat(run.updated)).total_seconds())
    except ValueError:
        silent = 0.0
    return Job(
        run=run, ended=ended, total=total, unit=unit, failed=run.counts.get("failed", 0), seconds=seconds_of(run),
        silent=silent,
    )  # fmt: skip
