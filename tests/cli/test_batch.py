"""The batch door through the command line: laid out, submitted, killed, taken up again, reconciled."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contents import contents
from server import reset, running_server, set_knobs, stats

from rlhf_eval.records import Completion, Outcome
from rlhf_eval.store.runs import Store

COUNT = 40
RECIPE = """\
load: {{source: jsonl, path: prompts.jsonl}}
generate: {{model: "openai:alpha@{url}", n: 2}}
judge: {{judge_model: "openai:judge@{url}"}}
pairs: {{rule: best_worst}}
"""
PRICES = (
    "models:\n  alpha: {input: 10, cached: 4, output: 20, batch: 0.5}\n  judge: {input: 1, output: 2, batch: 0.5}\n"
)
QUICK = {"batch_seconds": 0.05}
"""A server whose batches are done at once."""
HASTE = {"models.served.batch.PAUSE": 0.2, "models.served.batch.POLLS": (0.02, 0.1)}
"""Seconds of a run that looks often."""


@pytest.fixture(scope="module")
def shared() -> Iterator[str]:
    with running_server() as url:
        yield url


@pytest.fixture
def server(shared: str) -> str:
    set_knobs(shared, **QUICK)
    reset(shared)
    return shared


@pytest.fixture
def line(cli: Any, server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the recipe with further flags."""
    for name, seconds in HASTE.items():
        monkeypatch.setattr(f"rlhf_eval.{name}", seconds)
    cli.prompts(COUNT)
    (cli.home / "line.yaml").write_text(RECIPE.format(url=server))
    (cli.home / "prices.yaml").write_text(PRICES)
    return lambda *flags: cli("run", "line.yaml", "--prices", "prices.yaml", *flags)


def left(cli: Any) -> list[Path]:
    """Batches whose replies were not all used."""
    return list((cli.path / "batches").glob("*/*/state.json"))


def test_a_batch_makes_the_same_tables_in_one_batch_a_stage_at_half_the_price(cli: Any, line: Any, server: str) -> None:
    assert line("--store", "plain").code == 0
    assert stats(server)["requests"] == COUNT * 3
    reset(server)
    shown = line("--batch")
    assert shown.code == 0, shown.err
    seen = stats(server)
    assert contents(Store(cli.path)) == contents(Store(cli.home / "plain"))
    # The first request of each kind is asked directly: one of the writer and one of the judge.
    assert (seen["batched"], seen["requests"]) == (COUNT * 3 - 2, 2)
    assert seen["batches"] in (2, 3), "one a stage; where others crowd the machine, its last requests may miss it"
    assert re.search(r"batch batch_0: \d\d requests sent to openai:alpha", shown.err)
    assert left(cli) == []

    def costs(path: Path) -> list[float]:
        return sorted(c.usage.cost for c in Store(path).read(Completion) if c.sample == 0)

    plain, batched = costs(cli.home / "plain"), costs(cli.path)
    assert min(plain) > 0
    direct = [cost for cost in batched if any(cost == pytest.approx(other) for other in plain)]
    assert sum(batched) == pytest.approx(sum(plain) / 2 + direct[-1] / 2)
    paid = [run.usage.cost for run in cli.store.runs("generate")]
    assert paid == [pytest.approx(sum(batched))]
    # The replies are in the cache: without --batch, nothing is asked again.
    reset(server)
    assert line("--fresh").code == 0
    assert stats(server)["requests"] == 0


def test_what_a_batch_refuses_is_recorded_and_what_it_did_not_reach_is_sent_again(
    cli: Any, line: Any, server: str
) -> None:
    set_knobs(server, poison="Question 7?", batch_expire=0.1, error_500=0.03, **QUICK)
    shown = line("--batch")
    assert shown.code == 0, shown.err
    outcomes = cli.read(Outcome, "latest:generate")
    (failed,) = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert "bad_request: 400: the prompt could not be processed: it contains 'Question 7?'" in failed.reason
    assert sum(outcome.status == "done" for outcome in outcomes) == COUNT - 1
    assert stats(server)["batches"] > 2
    assert len(cli.read(Completion, "latest:generate")) == 2 * (COUNT - 1)


def test_a_batch_that_is_refused_stops_the_run_in_the_providers_words(cli: Any, line: Any, server: str) -> None:
    set_knobs(server, batch_fail="Enqueued token limit reached for alpha", **QUICK)
    shown = line("--batch")
    assert shown.code == 2
    assert "refuses the batch batch_0: Enqueued token limit reached for alpha" in shown.err
    assert left(cli) == []
    set_knobs(server, **QUICK)
    assert line("--batch").code == 0
    assert len(cli.read(Completion, "latest:generate")) == 2 * COUNT


def test_a_budget_holds_and_makes_several_batches(cli: Any, line: Any, server: str) -> None:
    cli.done("load", "jsonl", "prompts.jsonl")
    limit = 20_000  # a request reserves up to 2 x 512 tokens and its prompt
    cli.done("generate", "--model", f"openai:alpha@{server}", "-n", "2", "--batch", "--max-tokens", str(limit))
    used = [run.usage.prompt_tokens + run.usage.completion_tokens for run in cli.store.runs()]
    assert 0 < sum(used) <= limit
    assert stats(server)["batches"] == 3


def test_models_without_a_batch_api_go_on_as_ever(cli: Any, line: Any, server: str) -> None:
    cli.done("load", "jsonl", "prompts.jsonl")
    cli.done("generate", "--model", "mock:writer", "-n", "2", "--batch")
    cli.done("judge", "--judge-model", f"openai:judge@{server}", "--batch")
    assert stats(server)["batched"] == 2 * COUNT - 1


def started(home: Path) -> subprocess.Popen[str]:
    lines = ["import rlhf_eval.cli, rlhf_eval.models.served.batch, rlhf_eval.stages.drive"]
    lines += [f"rlhf_eval.{name} = {seconds}" for name, seconds in HASTE.items()]
    lines += ["rlhf_eval.stages.drive.GRACE = 0.2"]  # no batch ends here, however long one waits
    lines += ["raise SystemExit(rlhf_eval.cli.main())"]
    command = [sys.executable, "-c", "\n".join(lines), "run", "line.yaml", "--batch"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(true: Any) -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_while_its_batch_runs_waits_for_the_same_batch(
    cli: Any, line: Any, server: str, blow: signal.Signals
) -> None:
    assert line("--store", "plain").code == 0
    set_knobs(server, batch_seconds=3600.0)
    reset(server)
    first = started(cli.home)
    until(lambda: stats(server).get("batches") == 1)
    until(lambda: any('"batch":"batch_0"' in path.read_text() for path in left(cli)))
    second = line("--batch")  # beside the first one
    assert second.code == 2
    assert "another process sends batches to openai:" in second.err  # the writer or the judge, whichever comes first
    first.send_signal(blow)
    _, words = first.communicate(timeout=30)
    assert first.returncode == (130 if blow == signal.SIGINT else -signal.SIGKILL)
    assert ("resume: rlhf-eval run line.yaml --batch" in words) == (blow == signal.SIGINT)
    set_knobs(server, **QUICK)
    shown = line("--batch")
    assert shown.code == 0, shown.err
    assert "39 requests were sent by an earlier run" in shown.err
    assert contents(Store(cli.path)) == contents(Store(cli.home / "plain"))
    seen = stats(server)
    assert seen["batches"] == 2
    assert seen["batched"] + seen["requests"] == COUNT * 3
    assert left(cli) == []


def test_a_batch_whose_id_was_lost_is_found_again(cli: Any, line: Any, server: str) -> None:
    set_knobs(server, batch_seconds=3600.0)
    first = started(cli.home)
    until(lambda: stats(server).get("batches") == 1)
    until(lambda: any('"batch":"batch_0"' in path.read_text() for path in left(cli)))
    first.kill()
    first.communicate()
    (state,) = left(cli)
    state.write_text(state.read_text().replace('"batch":"batch_0"', '"batch":""'))
    set_knobs(server, **QUICK)
    assert line("--batch").code == 0
    assert stats(server)["batches"] == 2
