"""The diversity suite: equal answers, varied answers, and models compared on as many words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rlhf_eval.benchmarks import diversity
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Estimate, Prompt
from rlhf_eval.sandbox import checkpoint
from rlhf_eval.stats.diversity import distinct_product, mean_cosine
from rlhf_eval.stats.jackknife import block_jackknife

SAMPLES, PROMPTS = 4, 24


def evidence(**writers: Callable[[int, int], str]) -> Evidence:
    prompts = [Prompt.of(f"task {n}") for n in range(PROMPTS)]
    completions = [
        Completion.of(prompt_id=prompt.id, model=model, text=write(n, k), sample=k)
        for n, prompt in enumerate(prompts)
        for k in range(SAMPLES)
        for model, write in writers.items()
    ]
    return Evidence.of(prompts, completions, [])


def varied(n: int, k: int) -> str:
    return " ".join(f"w{n}x{k}x{i}" for i in range(6))


def collapsed(n: int, k: int) -> str:
    return f"always the same six words {n}"


def named(found: list[Estimate], model: str) -> dict[str, Estimate]:
    return {e.name: e for e in found if e.settings["model"] == model}


def test_collapse_shows_in_every_measure() -> None:
    found = diversity.score(evidence(new=varied, old=collapsed), diversity.Config())
    wide, narrow = named(found, "new"), named(found, "old")
    for name in ("diversity", "distinct_2", "ead", "vendi"):
        for scope in ("within a prompt", "over all prompts"):
            assert wide[f"{name}, {scope}"].value > narrow[f"{name}, {scope}"].value
    assert wide["self_bleu, within a prompt"].value < 0.1
    assert narrow["self_bleu, within a prompt"].value == pytest.approx(1)
    assert narrow["vendi, within a prompt"].value == pytest.approx(1)
    assert wide["vendi, within a prompt"].value == pytest.approx(SAMPLES)
    assert wide["diversity, within a prompt"].value == pytest.approx(
        distinct_product([varied(0, k).split() for k in range(4)])
    )
    assert wide["diversity, within a prompt"].n == PROMPTS


def test_two_prompts_that_differ_give_no_impossible_diversity() -> None:
    every = evidence(new=lambda n, k: (varied if n else collapsed)(n, k))
    two = {c.prompt_id for c in list(every.completions.values())[: 2 * SAMPLES]}
    few = Evidence.of(every.prompts.values(), [c for c in every.completions.values() if c.prompt_id in two], [])
    found = named(diversity.score(few, diversity.Config()), "new")
    told = found["diversity, within a prompt"]
    assert (told.low, told.high) == (0, 1)
    assert found["vendi, within a prompt"].low == 1


def test_answers_that_are_all_different_may_have_had_a_repeat() -> None:
    found = named(diversity.score(evidence(new=varied), diversity.Config()), "new")
    for scope in ("within a prompt", "over all prompts"):
        told = found[f"distinct_2, {scope}"]
        assert told.low < told.value == told.high == 1


def test_models_are_compared_on_as_many_answers_and_words() -> None:
    made = evidence(long=lambda n, k: varied(n, k) + " tail", short=varied)
    found = diversity.score(made, diversity.Config(tokens=5))
    assert {e.settings["mean_words"] for e in found} == {5.0}
    assert {e.settings["samples"] for e in found} == {SAMPLES}
    with pytest.raises(UserError, match="0 prompts have an answer of every model with at least 7 words"):
        diversity.score(made, diversity.Config(tokens=7))


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = block_jackknife(50, lambda kept: float(values[list(kept)].mean()), blocks=50)
    assert found.se == pytest.approx(values.std(ddof=1) / np.sqrt(50))
    with pytest.raises(UserError, match="at least two"):
        block_jackknife(1, lambda kept: 0.0)


def test_the_jackknife_covers_the_spread_of_distinct_words() -> None:
    """Over fresh sets of answers the statistic varies as much as one set's interval says, within a factor."""
    rng = np.random.default_rng(4)

    def answers() -> list[list[str]]:
        return [[f"w{w}" for w in rng.zipf(1.5, 8)] for _ in range(80)]

    def of(words: list[list[str]]) -> Callable[[object], float]:
        return lambda kept: len({w for n in kept for w in words[n]})  # type: ignore[attr-defined]

    spread = np.std([of(answers())(range(80)) for _ in range(200)], ddof=1)
    errors = [block_jackknife(80, of(answers())).se for _ in range(20)]
    assert 0.8 * spread < np.mean(errors) < 1.6 * spread


def test_mean_cosine() -> None:
    assert mean_cosine(np.eye(3)) == pytest.approx(0)
    assert mean_cosine([[1, 0], [2, 0], [0, 3]]) == pytest.approx(1 / 3)
    with pytest.raises(UserError, match="at least two"):
        mean_cosine([[1.0, 0.0]])


def test_an_embedding_model_sees_equal_answers() -> None:
    config = diversity.Config(embedder=f"hf:{checkpoint('policy')}")
    found = diversity.score(evidence(new=varied, old=lambda n, k: f"sort {n}"), config)
    assert named(found, "old")["cosine, within a prompt"].value == pytest.approx(1)
    assert named(found, "new")["cosine, within a prompt"].value < 0.999
    with pytest.raises(UserError, match="hf:PATH is wanted"):
        diversity.score(evidence(new=varied), diversity.Config(embedder="openai:x"))
