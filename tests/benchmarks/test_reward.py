"""Mean reward: the prompt is the unit, differences are paired, and a wrong name is an error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.benchmarks.reward import Config, score
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Estimate, Judgment, Prompt

PROMPTS = 24


def evidence(failed: int = 0) -> tuple[Evidence, dict[str, list[list[float]]]]:
    """Two samples a prompt of two models, graded at random about a gap of .3; some grades of ``after`` have failed."""
    rng = np.random.default_rng(3)
    prompts = [Prompt.of(f"task {k}") for k in range(PROMPTS)]
    completions, judgments = [], []
    grades: dict[str, list[list[float]]] = {"before": [], "after": []}
    for number, prompt in enumerate(prompts):
        ease = rng.normal()
        for model, gap in (("before", 0.0), ("after", 0.3)):
            own = []
            for sample in range(2):
                answer = Completion.of(prompt_id=prompt.id, model=model, text=f"{sample}", sample=sample)
                value = float(ease + gap + 0.1 * rng.normal())
                lost = model == "after" and number < failed
                scores = () if lost else (value,)
                completions.append(answer)
                judgments.append(
                    Judgment.of(
                        prompt_id=prompt.id, completion_ids=(answer.id,), judge="gold", scores=scores,
                        error="unparsed" if lost else None,
                    )
                )  # fmt: skip
                own.append(value)
            grades[model].append(own)
    return Evidence.of(prompts, completions, judgments, gold=""), grades


def by_name(found: list[Estimate]) -> dict[str, Estimate]:
    return {e.name: e for e in found}


def test_means_and_the_paired_difference_over_prompts() -> None:
    shown, grades = evidence()
    found = by_name(score(shown, Config(against="before")))
    before, after = (np.mean(grades[m], axis=1) for m in ("before", "after"))
    assert found["reward: before"].value == pytest.approx(before.mean())
    assert found["reward: before"].n == PROMPTS
    gap = found["reward: after minus before"]
    assert gap.value == pytest.approx((after - before).mean())
    reference = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert (gap.low, gap.high) == pytest.approx((reference.low, reference.high), rel=1e-6)


def test_a_prompt_without_a_grade_is_counted_and_left_out_of_the_pairs() -> None:
    shown, _ = evidence(failed=3)
    found = by_name(score(shown, Config(against="before")))
    assert found["reward: after"].failed == 3
    gap = found["reward: after minus before"]
    assert (gap.n, gap.failed) == (PROMPTS - 3, 3)


def test_without_a_side_to_compare_with_there_are_only_means() -> None:
    assert [e.name for e in score(evidence()[0], Config())] == ["reward: after", "reward: before"]


def test_a_model_that_is_not_there_is_named_with_its_nearest() -> None:
    with pytest.raises(UserError, match=r"'befor' has no graded answer.*before"):
        score(evidence()[0], Config(against="befor"))
