"""Reward models on pairs whose truth is planted: the temperature, the calibration and the taste for length come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.benchmarks.reward_model import Config, score
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Estimate, Judgment, Prompt


def planted(n: int, *, temperature: float = 1.0, length: float = 0.0, answers: int = 2, seed: int = 0) -> Evidence:
    """``n`` prompts; margins are ``temperature`` times as large as the chances of the right answer say."""
    rng = np.random.default_rng(seed)
    prompts, completions, judgments = [], [], []
    for i in range(n):
        prompt = Prompt.of(f"question {i}", category="even" if i % 2 == 0 else "odd")
        made = [
            Completion.of(prompt_id=prompt.id, model="m", text="x" * int(rng.integers(1, 60)), sample=k)
            for k in range(answers)
        ]
        truth = rng.normal(0, 1.5, answers)
        better = int(rng.random() > 1 / (1 + np.exp(truth[1] - truth[0])))
        rewards = temperature * truth + length * np.array([len(c.text) for c in made]) / 10
        judgments += [
            Judgment.of(prompt_id=prompt.id, completion_ids=(c.id,), judge="grade/rm", scores=(float(r),))
            for c, r in zip(made, rewards, strict=True)
        ]
        sides = (made[better], made[1 - better])
        judgments.append(
            Judgment.of(prompt_id=prompt.id, completion_ids=tuple(c.id for c in sides), judge="gold", scores=(1.0, 0.0))
        )
        prompts.append(prompt)
        completions += made
    return Evidence.of(prompts, completions, judgments)


def named(evidence: Evidence) -> dict[str, Estimate]:
    return {estimate.name: estimate for estimate in score(evidence, Config())}


def test_a_calibrated_model_looks_it() -> None:
    found = named(planted(800))
    assert {"accuracy", "accuracy: even", "accuracy: odd", "accuracy_if_wrong"} <= set(found)
    # E sigma(|d|) for d normal with deviation 1.5 sqrt(2).
    assert found["accuracy"].low < 0.79 < found["accuracy"].high
    assert found["temperature"].low < 1 < found["temperature"].high
    assert found["ece"].settings["p_value"] > 0.05
    assert found["prefers_longer"].low < 0.5 < found["prefers_longer"].high
    assert found["brier"].n == found["accuracy"].n == 800
    assert "length_correlation" not in found


@pytest.mark.parametrize("temperature", [0.25, 3.0])
def test_the_temperature_comes_back(temperature: float) -> None:
    found = named(planted(800, temperature=temperature))
    assert found["temperature"].low < temperature < found["temperature"].high
    assert found["ece"].settings["p_value"] < 0.05
    assert found["log_loss"].value > named(planted(800))["log_loss"].value


def test_every_number_tells_how_many_prompts_were_lost() -> None:
    world = planted(60)
    unread = {p for n, p in enumerate(world.prompts) if n % 10 == 0}
    torn = tuple(
        replace(j, scores=(), error="unparsed: no grade") if j.prompt_id in unread else j for j in world.judgments
    )
    found = score(replace(world, judgments=torn), Config(by_category=False))
    assert {(e.name, e.failed) for e in found} >= {(name, 6) for name in ("accuracy", "brier", "log_loss", "ece")}
    assert {e.failed for e in found} == {6}


def test_a_taste_for_length_shows() -> None:
    found = named(planted(300, length=2.0, answers=4))
    assert found["prefers_longer"].low > 0.8
    assert found["prefers_longer"].settings["longer_is_right"] == pytest.approx(0.5, abs=0.1)
    assert found["length_correlation"].low > 0.7
    assert found["length_correlation"].n == 300


def test_a_model_that_is_always_right_has_no_temperature() -> None:
    evidence = planted(40)
    sure = [
        Judgment.of(prompt_id=evidence.completions[ids[0]].prompt_id, completion_ids=(i,), judge="rm", scores=(s,))
        for ids, label in evidence.labels.items()
        for i, s in zip(ids, label, strict=True)
    ]
    found = named(Evidence(prompts=evidence.prompts, completions=evidence.completions, judgments=tuple(sure),
                           labels=evidence.labels))  # fmt: skip
    assert found["accuracy"].value == 1
    assert "temperature" not in found


def test_a_judge_that_compares_has_no_rewards() -> None:
    evidence = planted(4)
    told = [
        Judgment.of(prompt_id=evidence.completions[ids[0]].prompt_id, completion_ids=ids, judge="j", scores=label)
        for ids, label in evidence.labels.items()
    ]
    with pytest.raises(UserError, match="no pair of which a judge graded both answers"):
        named(Evidence(prompts=evidence.prompts, completions=evidence.completions, judgments=tuple(told),
                       labels=evidence.labels))  # fmt: skip
