"""A server that fails in every way that servers fail: the same tables as from a good one, but for the poisoned prompt."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from contents import contents
from server import running_server, stats

from rlhf_eval.models import door
from rlhf_eval.records import TABLES
from rlhf_eval.store.runs import Store
from rlhf_eval.verbs.flow import generate_and_judge
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.session import Options, Session

PROMPTS = 120
CONCURRENCY = 16
POISONED = "Question 77?"
FAULTS = {
    "error_500": 0.025, "error_429": 0.025, "slow": 0.02, "hang": 0.01, "drop": 0.02, "truncate": 0.02, "empty": 0.02,
}  # fmt: skip
"""Shares of the attempts; ``slow`` takes ten times as long, ``hang`` never answers."""
DISTURBED = sum(share for name, share in FAULTS.items() if name != "slow")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between attempts a tenth as long: it is their effect that is tested, not their length."""
    pause = door.Door._pause
    monkeypatch.setattr(door.Door, "_pause", lambda self, *how: pause(self, *how) / 10)


def line(home: Path, url: str) -> tuple[dict[str, dict[str, Any]], list[Any], Session]:
    """Two answers a prompt, judged in both orders; the tables by id without what they cost."""
    home.mkdir()
    prompts = home / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "Question {k}?", "id": "{k}"}}\n' for k in range(PROMPTS)))
    session = Session(Options(store=home / "store", quiet=True, concurrency=CONCURRENCY))

    async def work() -> None:
        load(session, {"source": "jsonl", "path": str(prompts)})
        # The identity makes runs on two servers comparable: what answers is the same model.
        model = f"w=openai:alpha@{url}?timeout=1&identity=alpha"
        judge = f"j=openai:judge@{url}?timeout=1&identity=judge"
        await generate_and_judge(session, {"model": model, "n": 2}, {"judge_model": judge})
        await session.close()

    asyncio.run(work())
    store = Store(home / "store")
    return contents(store), store.runs(), session


def test_every_fault_at_once_changes_nothing_but_the_poisoned_row(tmp_path: Path) -> None:
    with running_server(latency=0.02) as url:
        clean, clean_runs, _ = line(tmp_path / "clean", url)
        assert stats(url)["max_in_flight"] == CONCURRENCY  # of writer and judge together: they share the server
    with running_server(latency=0.02, poison=POISONED, retry_after="0.1", **FAULTS) as url:
        faulty, runs, session = line(tmp_path / "faulty", url)
        seen = stats(url)
    poisoned = next(row["id"] for row in clean["prompts"].values() if POISONED in row["messages"][-1]["content"])
    assert [(run.verb, run.status) for run in runs] == [(run.verb, run.status) for run in clean_runs]
    for run in runs[1:]:
        assert run.counts == {"total": PROMPTS, "done": PROMPTS - 1, "failed": 1, "skipped": 0}

    def without(tables: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
        return {key: row for key, row in tables[name].items() if row.get("prompt_id") != poisoned}

    for name in TABLES:
        assert without(faulty, name) == without(clean, name), name
    assert not any(row["prompt_id"] == poisoned for row in faulty["completions"].values())
    left = [row for row in faulty["outcomes"].values() if row["prompt_id"] == poisoned]
    assert {row["status"] for row in left} == {"failed"}
    assert all(f"it contains '{POISONED}'" in row["reason"] for row in left)

    # Every fault was met, and every one of them was survived.
    assert all(seen[name] > 0 for name in FAULTS)
    traffic = [found.traffic for found in session.doors.values()]
    assert sum(t.retried for t in traffic) == sum(seen[name] for name in FAULTS if name != "slow")
    kinds = {kind for t in traffic for kind in t.failures}
    assert kinds == {"server", "rate_limit", "timeout", "connection", "malformed", "bad_request"}
    calls = 3 * PROMPTS
    assert seen["requests"] < calls / (1 - DISTURBED) * 1.3


def test_what_never_succeeds_is_a_failure_in_the_servers_words_and_the_rest_goes_on(tmp_path: Path) -> None:
    with running_server(poison="Question 1") as url:
        tables, runs, _ = line(tmp_path / "run", url)
    ends = [row for row in tables["outcomes"].values() if row["verb"] == "generate"]
    failed = [end for end in ends if end["status"] == "failed"]
    assert len(failed) == sum(str(k).startswith("1") for k in range(PROMPTS))
    words = "bad_request: 400: the prompt could not be processed: it contains 'Question 1'"
    assert {end["reason"] for end in failed} == {words}
    for run in runs[1:]:
        assert run.counts == {"total": PROMPTS, "done": PROMPTS - len(failed), "failed": len(failed), "skipped": 0}
