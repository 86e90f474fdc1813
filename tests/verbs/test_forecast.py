"""What a run that starts says it will use, held against what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.cli import main
from rlhf_eval.records import Run
from rlhf_eval.store.runs import Store
from rlhf_eval.verbs.flow import generate, generate_and_judge, judge
from rlhf_eval.verbs.session import Session

WRITER: dict[str, Any] = {"model": "mock:writer", "n": 2}
JUDGE: dict[str, Any] = {"judge_model": "mock:judge"}


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text('models: {"writer*": {input: 1, output: 2}, "judge*": {input: 3, output: 4}}\n', encoding="utf-8")
    return path


def runs(world: Any) -> dict[str, Run]:
    return {run.verb: run for run in Store(world.home / "store").runs()}


def test_the_first_run_guesses_and_the_next_has_learned(world: Any, prices: Path) -> None:
    world.load(60)
    world.do(lambda session: generate(session, WRITER), prices=prices)
    first = runs(world)["generate"]
    told = first.forecast
    assert told is not None and told.replies == 0 and told.seconds is None
    assert told.requests == 60, "one request of two samples a prompt"
    assert told.tokens_low == 120 and told.tokens_high == 120 * 512
    assert told.cost_low < first.usage.cost < told.cost_high  # type: ignore[operator]
    world.do(lambda session: generate(session, WRITER), prices=prices, seed=1, use_cache=False)
    second = runs(world)["generate"]
    told = second.forecast
    assert told is not None and told.replies == 120 and told.seconds is not None
    assert told.tokens == pytest.approx(second.usage.completion_tokens, rel=0.05)
    assert told.cost == pytest.approx(second.usage.cost, rel=0.1)


def test_two_runs_of_one_flow_have_forecasts_of_their_own(world: Any, prices: Path) -> None:
    world.load(40)
    world.do(lambda session: generate_and_judge(session, WRITER, JUDGE), prices=prices)
    found = runs(world)
    assert found["generate"].forecast.requests == 40  # type: ignore[union-attr]
    assert found["judge"].forecast.requests == 80, "both orders of one pair a prompt"  # type: ignore[union-attr]


def test_what_is_cached_is_not_forecast_and_resuming_keeps_the_first_word(world: Any, prices: Path) -> None:
    world.load(40)
    world.do(lambda session: generate(session, WRITER), prices=prices)
    world.do(lambda session: generate(session, WRITER), prices=prices, fresh=True)
    assert runs(world)["generate"].forecast.requests == 0  # type: ignore[union-attr]
    told = runs(world)["generate"].forecast
    world.do(lambda session: generate(session, WRITER), prices=prices)
    assert runs(world)["generate"].forecast == told


@pytest.mark.parametrize("table", [{"judge": "length"}, {**JUDGE, "matches": "all"}])
def test_small_work_and_programs_have_none(world: Any, table: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Session, "say", lambda _, words: said.append(words))
    world.load(12 if "judge_model" in table else 40)
    world.do(lambda session: generate(session, WRITER))
    world.do(lambda session: judge(session, table))
    assert runs(world)["judge"].forecast is None
    assert said == []


def test_status_and_show_hold_spending_against_it(world: Any, prices: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world.load(40)
    world.do(lambda session: generate(session, WRITER), prices=prices)
    store = str(world.home / "store")
    for command in (["status", "latest"], ["runs", "show", "latest"]):
        assert main([*command, "--store", store]) == 0
        assert "40 requests in all; no earlier reply to learn from" in capsys.readouterr().out
