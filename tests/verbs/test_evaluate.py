"""Evaluation: every side on the same prompts, numbers that agree with the records, and a truth beside the opinion."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_eval.errors import TooManyFailures, UserError
from rlhf_eval.models.base import ChatRequest
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Estimate, Judgment
from rlhf_eval.verbs.compare import compare
from rlhf_eval.verbs.evaluate import EvaluateResult, evaluate
from rlhf_eval.verbs.flow import generate_and_judge
from rlhf_eval.verbs.leaderboard import leaderboard
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.pairs import pairs

SIDES = {"model": ("a=mock:writer?seed=1", "b=mock:writer?seed=2"), "baseline": "base=mock:writer"}
TABLE = {**SIDES, "judge": {"judge_model": "mock:judge"}}


def named(result: EvaluateResult, name: str) -> list[Estimate]:
    return [e for e in result.estimates if e.name == name]


def test_every_model_meets_the_baseline_on_every_prompt_in_both_orders(world: Any) -> None:
    world.load(20)
    result = world.do(lambda s: evaluate(s, TABLE))
    store = world.session().store
    judgments = store.read(Judgment, run=result.run.id)
    model_of = {c.id: c.model for c in store.read(Completion, run=result.run.id)}
    assert len(judgments) == 2 * 2 * 20
    assert all(model_of[j.completion_ids[1]] == "base" for j in judgments)
    assert [e.settings["model"] for e in named(result, "win_rate")] == ["a", "b"]
    for rate in named(result, "win_rate"):
        by_prompt: dict[str, list[float]] = {}
        for judgment in judgments:
            if model_of[judgment.completion_ids[0]] == rate.settings["model"]:
                by_prompt.setdefault(judgment.prompt_id, []).append(judgment.scores[0])
        assert rate.value == pytest.approx(np.mean([np.mean(shares) for shares in by_prompt.values()]))
        assert (rate.n, rate.settings["baseline"]) == (20, "base")


def test_the_same_command_again_shows_the_same_numbers(world: Any) -> None:
    world.load(8)
    first = world.do(lambda s: evaluate(s, TABLE))
    second = world.do(lambda s: evaluate(s, TABLE))
    assert first.run.id == second.run.id
    assert first.estimates == second.estimates
    fresh = world.do(lambda s: evaluate(s, TABLE), fresh=True)
    assert fresh.run.id != first.run.id
    for name in ("win_rate", "flip_rate", "first_slot_share"):
        assert [(e.value, e.low, e.high, e.n) for e in named(fresh, name)] == [
            (e.value, e.low, e.high, e.n) for e in named(first, name)
        ]


def test_an_interrupted_evaluation_goes_on(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.load(12)
    whole = world.do(lambda s: evaluate(s, TABLE))
    plain, calls = MockModel.chat, []

    async def chat(self: MockModel, request: ChatRequest) -> Any:
        calls.append(request)
        if len(calls) == 40:
            raise KeyboardInterrupt
        return await plain(self, request)

    monkeypatch.setattr(MockModel, "chat", chat)
    with pytest.raises(KeyboardInterrupt):
        world.do(lambda s: evaluate(s, TABLE), fresh=True, use_cache=False, concurrency=2)
    run = world.session().store.find("latest")
    assert run.status == "interrupted"
    result = world.do(lambda s: evaluate(s, TABLE), use_cache=False)
    assert result.run.id == run.id != whole.run.id
    assert [(e.name, e.value) for e in result.estimates] == [(e.name, e.value) for e in whole.estimates]


def test_a_truth_by_program_stands_beside_the_judges_opinion(world: Any) -> None:
    loaded = world.do(lambda s: load(s, {"source": "sandbox"}), limit=24)
    table = {
        "model": "echo=mock:echo",
        "baseline": "words=mock:writer",
        "judge": {"judge_model": "mock:judge"},
        "check": "gold",
    }
    result = world.do(lambda s: evaluate(s, {**table, "prompts": loaded.run.id}))
    values = {e.name: e for e in result.estimates}
    echo, words, gap = (values[f"gold: {name}"] for name in ("echo", "words", "difference"))
    assert gap.value == pytest.approx(echo.value - words.value)
    assert (echo.n, gap.n) == (24, 24)
    judgments = world.session().store.read(Judgment, run=result.run.id)
    gold = [j.scores[0] for j in judgments if j.judge.startswith("gold")]
    assert len(gold) == 48
    assert np.mean(gold) == pytest.approx((echo.value + words.value) / 2)
    assert result.run.counts["done"] == 24


def test_what_pairs_selected_competes_under_its_own_name(world: Any) -> None:
    world.load(30)
    world.do(lambda s: generate_and_judge(s, {"model": "mock:writer", "n": 4}, {"judge_model": "mock:judge"}))
    selected = world.do(lambda s: pairs(s, {}))
    table = {"model": f"best=run:{selected.run.id}", "baseline": "mock:writer", "judge": {"judge_model": "mock:judge"}}
    result = world.do(lambda s: evaluate(s, table))
    rate = named(result, "win_rate")[0]
    assert rate.low > 0.5  # the best of four by quality, against a single one
    stored = [c for c in world.session().store.read(Completion, run=result.run.id) if c.model == "best"]
    assert len(stored) == 30
    assert all(c.metadata["from"] for c in stored)
    assert world.session().store.find("latest").inputs["best"] == selected.run.id


def test_prompts_without_a_comparison_are_in_the_account(world: Any) -> None:
    world.load(20)
    table = {"model": "a=mock:writer?fail=0.3", "baseline": "base=mock:writer", "judge": {"judge_model": "mock:judge"}}
    result = world.do(lambda s: evaluate(s, table))
    counts = result.run.counts
    assert counts["failed"] > 0
    assert counts["done"] + counts["failed"] == 20
    assert named(result, "win_rate")[0].n == counts["done"]
    again = world.do(lambda s: evaluate(s, table))
    assert again.flow.tally.counts() == dict(counts)


def test_nothing_to_judge_is_no_number(world: Any) -> None:
    world.load(4)
    with pytest.raises(TooManyFailures, match="all 4 prompts failed"):
        world.do(lambda s: evaluate(s, {**TABLE, "model": "a=mock:writer?fail=1"}))
    with pytest.raises(UserError, match="unreadable; there is no win rate"):
        world.do(lambda s: evaluate(s, {**TABLE, "judge": {"judge_model": "mock:judge?garble=1"}}))
    assert [run.status for run in world.session().store.runs("evaluate")] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": ()}, "needs two sides"),
        ({"baseline": ""}, "needs two sides"),
        ({"model": "mock:echo", "baseline": "mock:echo"}, "two sides are called 'mock:echo'; give each a name"),
        ({"judge": {"judge": "grade", "judge_model": "mock:judge"}}, "needs a judge that compares two answers"),
        ({"judge": {}}, "needs a model"),
        ({"judge": {"judge_model": "mock:judge", "sofft": False}}, "Did you mean 'soft'?"),
        ({"generate": {"temprature": 1}}, "Did you mean 'temperature'?"),
        ({"check": "gld"}, "Did you mean 'gold'?"),
        ({"model": "x=run:beef"}, "no run 'beef'"),
        ({"level": "high"}, "`level`"),
    ],
)
def test_a_wrong_setting_is_named(world: Any, changes: dict[str, Any], words: str) -> None:
    world.load(2)
    with pytest.raises(UserError) as caught:
        world.do(lambda s: evaluate(s, {**TABLE, **changes}))
    assert words in str(caught.value)


def test_gold_for_prompts_from_elsewhere_is_the_users_mistake(world: Any) -> None:
    world.load(2)
    with pytest.raises(UserError, match="is not of the sandbox"):
        world.do(lambda s: evaluate(s, {**TABLE, "check": "gold"}))


# Tables of what is stored ---------------------------------------------------------------------------------------------


def test_the_board_has_the_numbers_of_the_evaluation_best_first(world: Any) -> None:
    world.load(30)
    result = world.do(lambda s: evaluate(s, TABLE))
    (board,) = leaderboard(world.session())
    assert board.baseline == "base"
    told = {e.settings["model"]: (e.value, e.low, e.high, e.n) for e in named(result, "win_rate")}
    assert {e.settings["model"] for e in board.rows} == told.keys()
    for row in board.rows:
        assert (row.value, row.low, row.high, row.n) == pytest.approx(told[row.settings["model"]])
    assert [e.value for e in board.rows] == sorted((e.value for e in board.rows), reverse=True)


def test_a_board_can_be_seen_from_another_baseline_and_judge(world: Any) -> None:
    world.load(10)
    world.do(lambda s: evaluate(s, TABLE))
    world.do(lambda s: evaluate(s, {**TABLE, "judge": {"judge_model": "strict=mock:judge?sharpness=20"}}))
    session = world.session()
    assert len(leaderboard(session)) == 2
    (strict,) = leaderboard(session, judge="pairwise/strict")
    (turned,) = leaderboard(session, judge="pairwise/strict", baseline="a")
    (row,) = turned.rows
    mine = next(e for e in strict.rows if e.settings["model"] == "a")
    assert row.settings["model"] == "base"
    assert row.value == pytest.approx(1 - mine.value)
    with pytest.raises(UserError, match="no judge is called 'gpt'"):
        leaderboard(session, judge="gpt")
    with pytest.raises(UserError, match=r"no judgment compares a model with 'bse'. Did you mean 'base'\?"):
        leaderboard(session, baseline="bse")


def test_two_models_are_compared_head_to_head_or_over_their_common_baseline(world: Any) -> None:
    world.load(40)
    world.do(lambda s: evaluate(s, TABLE))
    session = world.session()
    (over,) = compare(session, "a", "b")
    (back,) = compare(session, "b", "a")
    assert over.via == "against base"
    assert over.estimate.value == pytest.approx(-back.estimate.value)
    assert over.estimate.low == pytest.approx(-back.estimate.high)
    assert (over.better, over.worse) == (back.worse, back.better)
    rates = {e.settings["model"]: e.value for e in leaderboard(session)[0].rows}
    assert over.estimate.value == pytest.approx(rates["a"] - rates["b"])
    (direct,) = compare(session, "a", "base")
    assert direct.via == "head to head"
    assert direct.estimate.value == pytest.approx(2 * rates["a"] - 1)
    assert over.better + over.worse + over.equal == 40 == over.estimate.n
    with pytest.raises(UserError, match="no judgment is about 'c'"):
        compare(session, "a", "c")


def test_models_that_never_met_cannot_be_compared(world: Any) -> None:
    world.load(4)
    for model, baseline in (("a=mock:echo", "b=mock:writer"), ("c=mock:echo", "d=mock:writer")):
        world.do(lambda s, m=model, b=baseline: evaluate(s, {**TABLE, "model": m, "baseline": b}))
    with pytest.raises(UserError, match="'a' and 'c' never met and share no baseline"):
        compare(world.session(), "a", "c")


@pytest.mark.groundtruth
def test_the_published_leaderboard_comes_out_of_the_store(world: Any, groundtruth: Path) -> None:
    root = groundtruth / "alpaca_eval"
    world.do(lambda s: load(s, {"source": "alpaca_eval", "path": str(root)}))
    (board,) = leaderboard(world.session(), judge="alpaca_eval/weighted_alpaca_eval_gpt4_turbo")
    file = root / "src/alpaca_eval/leaderboards/data_AlpacaEval_2/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"
    published = {row[""]: row for row in csv.DictReader(file.open(encoding="utf-8"))}
    assert len(board.rows) == 6
    assert board.baseline == "gpt4_1106_preview"
    for row in board.rows:
        wanted = published[row.settings["model"]]
        assert 100 * row.value == pytest.approx(float(wanted["win_rate"]), abs=1e-9)
        assert 100 * row.settings["se"] == pytest.approx(float(wanted["standard_error"]), abs=1e-9)
        counts = [row.settings[name] for name in ("wins", "losses", "ties")]
        assert counts == [int(float(wanted[name])) for name in ("n_wins", "n_wins_base", "n_draws")]
        assert row.n == int(float(wanted["n_total"]))
