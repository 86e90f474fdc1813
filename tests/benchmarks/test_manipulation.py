"""The manipulation audit: a planted loner gains under the mean, the low median holds it down; PandaLM's people by path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlhf_eval.benchmarks import manipulation
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.errors import UserError
from rlhf_eval.interop import pandalm
from rlhf_eval.records import Completion, Estimate, Judgment, Prompt

LIKES = {"a": (1.0, 0.3), "b": (0.8, -0.2), "c": (1.0, 0.1), "d": (0.9, 0.4), "e": (-1.5, 0.5)}
"""Labeler to what it makes of length and of figures; e stands against the others."""


def planted(pairs: int = 150) -> Evidence:
    rng = np.random.default_rng(0)
    prompts, answers, judgments = [], [], []
    for n in range(pairs):
        prompt = Prompt.of(f"question {n}")
        shape = rng.integers(1, 30, (2, 2))
        sides = [
            Completion.of(prompt_id=prompt.id, model=f"m{k}", text=f"word{n} {k} " * w + "7 " * f)
            for k, (w, f) in enumerate(shape)
        ]
        prompts.append(prompt)
        answers += sides
        gap = (np.log(shape[0]) - np.log(shape[1])) * 2
        for name, taste in LIKES.items():
            first = float(rng.random() < 1 / (1 + np.exp(-gap @ taste)))
            ids = (sides[0].id, sides[1].id)
            judgments.append(
                Judgment.of(prompt_id=prompt.id, completion_ids=ids, judge=f"human/{name}", scores=(first, 1 - first))
            )
    return Evidence.of(prompts, answers, judgments)


def gains(found: list[Estimate], where: str, rule: str) -> dict[str, float]:
    start = f"gain by lying, {where}, {rule}: human/"
    return {e.name.removeprefix(start): e.value for e in found if e.name.startswith(start)}


def test_who_stands_against_the_others_gains_under_the_mean_and_hardly_under_the_low_median() -> None:
    found = manipulation.score(planted(), manipulation.Config(steps=5, draws=2))
    for where in ("among these answers", "if all could be had"):
        mean, median = (gains(found, where, rule) for rule in ("mean", "median"))
        assert mean["e"] > 0.15
        assert median["e"] < mean["e"] / 2
    assert all(e.value >= 0 and "lower bound" in e.settings["caveat"] for e in found)


def test_too_few_pairs_have_no_taste() -> None:
    with pytest.raises(UserError, match="has no taste"):
        manipulation.score(planted(2), manipulation.Config())


def test_pandalms_annotators(groundtruth: Path) -> None:
    loaded = pandalm.read(groundtruth / "PandaLM")
    evidence = Evidence.of(loaded.prompts, loaded.completions, loaded.judgments, gold="")
    found = manipulation.score(evidence, manipulation.Config(labelers="human", steps=2, draws=2))
    assert len(found) == 3 * 5
    mean, median = (gains(found, "if all could be had", rule) for rule in ("mean", "median"))
    assert sum(median.values()) <= sum(mean.values())
