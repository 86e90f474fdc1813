"""Reward models' data: accuracy, margins, length and best of n, against the grades themselves."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dashboards.data import rewards
from dashboards.data.state import Nothing
from rlhf_eval.records import Completion, Judgment
from rlhf_eval.stats.best_of_n import best_of_n_kl


@pytest.fixture(scope="module")
def report(full: Any, planted: ModuleType) -> rewards.Report:
    """The report of the planted grader."""
    return rewards.report(full.store, planted.GRADER)


@pytest.fixture(scope="module")
def grades(full: Any, planted: ModuleType) -> dict[str, tuple[str, float, float]]:
    """Completion to its prompt, its score by the grader and its gold."""
    told = full.store.read(Judgment, run=full.runs["graded"])
    score = {j.completion_ids[0]: j.scores[0] for j in told if j.judge == planted.GRADER}
    gold = {j.completion_ids[0]: j.scores[0] for j in told if j.judge == "gold"}
    return {c.id: (c.prompt_id, score[c.id], gold[c.id]) for c in full.store.read(Completion) if c.id in score}


def test_only_what_grades_and_is_not_the_truth_is_offered(full: Any, planted: ModuleType) -> None:
    assert rewards.graders(full.store) == [planted.GRADER]


def test_accuracy_is_that_of_all_pairs_of_a_prompt(
    report: rewards.Report, grades: dict[str, tuple[str, float, float]], full: Any
) -> None:
    by_prompt: dict[str, list[tuple[float, float]]] = {}
    for prompt, score, gold in grades.values():
        by_prompt.setdefault(prompt, []).append((score, gold))
    right = {
        prompt: [float((a[0] > b[0]) == (a[1] > b[1])) for a, b in combinations(own, 2)]
        for prompt, own in by_prompt.items()
    }
    assert report.accuracy is not None and report.reference == "gold"
    assert report.accuracy.value == pytest.approx(np.mean([r for own in right.values() for r in own]))
    assert report.accuracy.n == 40 and report.accuracy.settings["pairs"] == 40 * 28
    category = {p.id: p.category for p in full.prompts}
    for e in report.subsets:
        mine = [r for prompt, own in right.items() if category[prompt] == e.settings["category"] for r in own]
        assert e.value == pytest.approx(np.mean(mine)) and e.n == 20
    assert report.macro is not None and report.macro.value == pytest.approx(np.mean([e.value for e in report.subsets]))


def test_larger_margins_are_surer_and_length_is_found_out(report: rewards.Report) -> None:
    assert report.margins is not None and report.length is not None
    assert report.margins.bins[-1].found.value > report.margins.bins[0].found.value
    assert 0 < report.margins.temperature < np.inf
    assert rewards.expected(report.margins, 0.0) == 0.5 < rewards.expected(report.margins, 3.0)
    assert report.length.low > 0.2  # the planted reward pays for words


def test_the_best_of_n_is_exact_at_its_ends(
    report: rewards.Report, grades: dict[str, tuple[str, float, float]]
) -> None:
    curves = {curve.scorer: curve for curve in report.curves if curve.model == "sampler"}
    own = next(curve for scorer, curve in curves.items() if scorer == report.judge)
    assert [point.n for point in own.points] == [1, 2, 4, 8]
    assert [point.kl for point in own.points] == pytest.approx(best_of_n_kl([1, 2, 4, 8]).tolist())
    scores: dict[str, list[tuple[float, float]]] = {}
    for prompt, score, gold in grades.values():
        scores.setdefault(prompt, []).append((score, gold))
    assert own.points[0].found.value == pytest.approx(np.mean([s for _, s, _ in grades.values()]))
    assert own.points[-1].found.value == pytest.approx(np.mean([max(s for s, _ in v) for v in scores.values()]))
    best = np.mean([max(v)[1] for v in scores.values()])
    assert curves["gold"].points[-1].found.value == pytest.approx(best)


def test_what_cannot_be_told_says_why(planted: ModuleType, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store", prompts=6)
    with pytest.raises(Nothing) as caught:
        rewards.graders(world.store)
    assert "reward_model" in caught.value.command
    told = [
        Judgment.of(prompt_id=c.prompt_id, completion_ids=(c.id,), judge="verifier#0", scores=(1.0,))
        for c in world.answers["new"]
    ]
    world.put("verified", "judge", {"judgments": told}, inputs={"completions": world.runs["generate"]})
    found = rewards.report(world.store, "verifier#0")
    assert found.accuracy is None and found.length is None and not found.curves
    assert {"accuracy", "margins", "length", "best of n"} <= found.missing.keys()


def test_stored_numbers_of_benchmarks_are_listed(full: Any) -> None:
    names = [e.name for _, e in rewards.stored(full.store)]
    assert names[0] == "bend"
    assert {f"{what} of the best of {n}" for what in ("gold", "KL") for n in (1, 4, 16, 64)} == set(names[1:])
