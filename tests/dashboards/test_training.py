"""Training's data: a planted peak is found with its interval, what has none says why, and what is unhealthy is said."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dashboards.data import training
from dashboards.data.state import Nothing
from rlhf_eval.records import Completion

A, B = 0.4, 0.22
PEAK = math.exp(A / B - 1)


@pytest.fixture(scope="module")
def world(planted: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Prompts and their answers, without any training."""
    return planted.comparisons(tmp_path_factory.mktemp("training") / "store")


def test_a_training_is_told_whole(full: Any) -> None:
    (row,) = training.trainings(full.store)
    assert (row.trainer, row.status, row.steps, row.tokens, row.seconds) == ("ppo", "done", 60, 6000, 60.0)
    assert row.base == "sandbox:policy#00000000" and full.runs["pairs"] in row.data
    assert row.final["kl"] == pytest.approx(36.0) and set(row.final) == {"loss", "reward", "kl", "entropy", "gold"}
    assert any("proxy reward still rises while gold" in worry for worry in row.worries)


def test_the_planted_peak_is_found(full: Any) -> None:
    over = training.overoptimization(full.store, full.runs["train"])
    stop = over.stop
    assert stop is not None and stop.bends and stop.step == 20
    assert stop.b_low <= B <= stop.b_high and stop.d_low <= PEAK <= stop.d_high
    assert stop.d_high - stop.d_low < 0.3
    x, y = training.curve(stop.fit, 0.3, 6.0)
    assert x[np.argmax(y)] == pytest.approx(PEAK, abs=0.15)
    ((step, won),) = over.won
    assert step == 20 and won.value == pytest.approx(0.575) and won.settings["baseline"] == "old"


@pytest.mark.parametrize(("b", "bends"), [(0.0, False), (-0.1, False), (0.3, True)])
def test_a_bend_is_only_claimed_where_there_is_one(planted: ModuleType, tmp_path: Path, b: float, bends: bool) -> None:
    world = planted.comparisons(tmp_path / "store", prompts=20)
    over = training.overoptimization(world.store, planted.trained(world, b=b), draws=100)
    assert over.stop is not None and over.stop.bends is bends


def test_gold_that_only_falls_is_no_good_news(planted: ModuleType, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store", prompts=20)
    stop = training.overoptimization(world.store, planted.trained(world, a=-0.1, b=0.0), draws=100).stop
    assert stop is not None and stop.falls and not stop.bends and stop.step == 0
    assert stop.gained.low <= -0.6 <= stop.gained.high < 0 and stop.gained.n == 20


def test_without_gold_or_enough_steps_it_says_why(planted: ModuleType, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store", prompts=6)
    cases = (
        ({"gold": False}, "gold is not known"),
        ({"steps": (0, 2, 10)}, "1 evaluation steps lie beyond"),
    )
    for k, (settings, why) in enumerate(cases):
        over = training.overoptimization(world.store, planted.trained(world, seed=k, **settings))
        assert over.stop is None and why in over.why_not
    run = world.store.begin("train", {"trainer": "dpo"}, inputs={}, seed=0, versions={})
    run.metric({"step": 1, "split": "train", "seconds": 1.0, "tokens": 5, "loss": 0.7})
    run.finish("done", {}, planted.Usage())
    assert "no evaluation step stored completions" in training.overoptimization(world.store, run.run.id).why_not


def test_steps_hold_what_their_completions_say(full: Any) -> None:
    steps = training.steps_of(full.store, full.runs["train"])
    assert [step.step for step in steps] == [0, 10, 20, 30, 40, 50, 60]
    stored = [c for c in full.store.read(Completion, run=full.runs["train"]) if c.model == "ppo@30"]
    step = steps[3]
    assert (step.completions, step.prompts, step.kl) == (40, 40, pytest.approx(9.0))
    assert step.gold is not None and step.gold.value == pytest.approx(np.mean([c.metadata["gold"] for c in stored]))
    pages = [training.written(full.store, full.runs["train"], 30, page=k, size=25) for k in range(2)]
    seen = [one.completion.id for found, _ in pages for one in found]
    assert sorted(seen) == sorted(c.id for c in stored) and {total for _, total in pages} == {40}


def test_long_curves_are_thinned_by_means(full: Any) -> None:
    whole = {(s.name, s.split): s for s in training.series(full.store, [full.runs["train"]])}
    thin = {(s.name, s.split): s for s in training.series(full.store, [full.runs["train"]], most=20)}
    assert whole["loss", "train"].averaged == 1 and len(whole["loss", "train"].value) == 61
    assert thin["loss", "train"].averaged == 4 and len(thin["loss", "train"].value) == 16
    assert thin["loss", "train"].value[0] == pytest.approx(whole["loss", "train"].value[:4].mean())
    assert thin["loss", "train"].value[-1] == pytest.approx(whole["loss", "train"].value[60])


def test_what_is_unhealthy_is_said() -> None:
    def rows(name: str, values: list[float], split: str = "train") -> list[dict[str, Any]]:
        return [{"step": k, "split": split, name: v} for k, v in enumerate(values)]

    calm = rows("loss", [1, 0.5, 0.4, 0.3]) + rows("entropy", [2, 1.9, 1.8, 1.7]) + rows("length", [10, 11, 12, 13])
    assert training.worries(calm) == []
    for bad, said in (
        (rows("loss", [1.0, math.nan]), "not a number from step 1"),
        (rows("entropy", [2, 1, 0.5, 0.2]), "fell to 10%"),
        (rows("length", [10, 20, 30, 40]), "4.0 times as long"),
        (rows("clip_fraction", [0.1, 0.5]), "50% of the tokens are clipped"),
        (rows("truncated", [0.0, 0.2], "eval"), "20% of the answers are cut off"),
        (rows("accuracy", [0.9]) + rows("accuracy", [0.6], "eval"), "30 points more accurate on its own pairs"),
    ):
        (worry,) = training.worries(bad)
        assert said in worry


def test_stored_bends_are_read_back(full: Any) -> None:
    (bend,) = training.bends(full.store)
    assert [n for n, _, _ in bend.points] == [1, 4, 16, 64]
    assert bend.peak_d == pytest.approx(0.5 / 0.6) and bend.points[0][1] == 0


def test_no_training_names_the_command(world: Any) -> None:
    with pytest.raises(Nothing) as caught:
        training.trainings(world.store)
    assert caught.value.command.startswith("rlhf-eval train")
