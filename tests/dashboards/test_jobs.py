"""Jobs' data: who lives, how fast, what is left, what it costs, and why prompts failed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dashboards.data import jobs
from dashboards.data.jobs import Job
from dashboards.data.state import Nothing
from rlhf_eval.records import Run, Usage
from rlhf_eval.store.runs import Store

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def job(*, silent: float, status: str = "running", ended: int = 50, **versions: str) -> Job:
    """Half of a hundred prompts in two minutes for a dollar."""
    run = Run(
        id="x", verb="judge", config={}, status=status, usage=Usage(cost=1.0), versions=versions,  # type: ignore[arg-type]
        started=NOON.isoformat(), updated=(NOON + timedelta(seconds=120)).isoformat(),
        counts={"total": 100, "done": ended, "failed": 0, "skipped": 0},
    )  # fmt: skip
    return jobs._job(run, NOON + timedelta(seconds=120 + silent))


def test_rate_time_left_and_cost_follow_from_what_is_done() -> None:
    live = job(silent=1)
    assert live.live and not live.dead
    assert (live.rate, live.left, live.expected_cost) == (25.0, 120.0, 2.0)
    dead = job(silent=300)
    assert dead.dead and dead.left is None
    begun = job(silent=1, ended=0)
    assert begun.rate is None and begun.left is None and begun.expected_cost is None


def test_the_command_that_made_a_run_resumes_it() -> None:
    assert job(silent=300, command="rlhf-eval judge").resume == "rlhf-eval judge"
    assert job(silent=300, command="rlhf-eval judge --fresh -q").resume == "rlhf-eval judge -q"
    assert job(silent=300).resume == ""


def test_a_finished_run_with_failures_is_tried_again_by_its_command(full: Any) -> None:
    found = {one.run.id: one for one in jobs.jobs(full.store)}
    judge = found[full.runs["judge"]]
    assert (judge.ended, judge.total, judge.failed) == (40, 40, 1)
    assert judge.resume == "rlhf-eval judge --judge-model planted --retry-failed"
    assert not any(one.live or one.dead for one in found.values())


def test_live_jobs_come_first(planted: ModuleType, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store", prompts=4)
    run = world.put("going", "judge", {}, status="running", counts={"total": 10, "done": 3})
    world.put("later", "load", {})
    first = jobs.jobs(world.store)[0]
    assert first.run.id == run and first.live and (first.ended, first.total) == (3, 10)
    late = datetime.now(UTC) + timedelta(hours=1)
    assert next(one for one in jobs.jobs(world.store, now=late) if one.run.id == run).dead


def test_failures_are_counted_by_their_reason(full: Any) -> None:
    (failure,) = jobs.failures(full.store)
    assert (failure.run, failure.count) == (full.runs["judge"], 1)
    assert failure.reason == "timeout: no reply in 60 s"
    assert failure.example == full.prompts[0].id
    assert jobs.failures(full.store, full.runs["generate"]) == []


def test_cost_adds_up_by_model_and_judge(full: Any, planted: ModuleType) -> None:
    rows = {(row.name, row.what): row for row in jobs.spent(full.store)}
    judge = rows[planted.JUDGE, "verdicts"]
    # 80 asked of which one was unreadable, and 40 that carry no usage
    assert (judge.records, judge.failed, judge.free) == (120, 1, 41)
    assert judge.dollars == pytest.approx(0.079) and judge.prompt_tokens == 7900
    assert rows["new", "answers"].completion_tokens == 800
    assert next(iter(rows)) == (planted.JUDGE, "verdicts")
    assert jobs.cached(full.store) == {}


def test_the_cache_is_only_read(full: Any, tmp_path: Path) -> None:
    from rlhf_eval.store.cache import ResponseCache

    store = Store(tmp_path)
    with ResponseCache(store.cache_path):
        pass
    assert jobs.cached(store) == {"replies": 0, "bytes": 0}
    store.cache_path.write_bytes(b"not a database, and longer than any header that SQLite may look for" * 20)
    before = store.cache_path.read_bytes()
    assert jobs.cached(store) == {} and store.cache_path.read_bytes() == before


def test_an_empty_store_says_how_to_begin(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(Nothing, match="Nothing has run"):
        jobs.jobs(store)
