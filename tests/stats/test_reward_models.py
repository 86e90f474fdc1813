"""Reward-model scores against RewardBench 2's own numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.intervals import wilson
from rlhf_eval.stats.reward_models import (
    best_of_k_accuracy,
    best_of_k_credit,
    macro_average,
    margin_calibration,
    ties_score,
    within_prompt_correlation,
)

REF = [([5], [1, 0, 0.5]), ([2], [3, 0, 1])]
TIED = [([4, 4.5, 4.2], [1, 0]), ([3, 1, 2], [1.5, 0])]


def test_ties_oracle():
    assert ties_score(REF, TIED).score == pytest.approx(0.5004738, abs=5e-8)


def test_ties_extremes():
    assert ties_score([([1], [0])], [([9.0, 9.0001], [0])]).score == pytest.approx(1.01)
    assert ties_score([([1], [1])], [([1, 1], [1])]).score == 0
    with pytest.raises(UserError, match="needs both"):
        ties_score(REF, TIED[:1])


@pytest.mark.groundtruth
def test_ties_of_the_published_code(groundtruth):
    rows = json.loads((groundtruth / "reward-bench" / "rb2_ties_fixture.json").read_text())
    split = {r["id"]: (r["scores"][: r["num_correct"]], r["scores"][r["num_correct"] :]) for r in rows}
    names = sorted(key.removeprefix("ref:") for key in split if key.startswith("ref:"))
    ours = ties_score([split[f"ref:{n}"] for n in names], [split[f"tied:{n}"] for n in names])
    assert ours.score == pytest.approx(0.6798008785085254, abs=1e-12)


def test_best_of_k_credit_shares_ties():
    assert best_of_k_credit([[3, 1, 2, 0], [1, 1, 0, 0], [0, 1, 0, 0]]).tolist() == [1, 0.5, 0]


def test_macro_standard_error_of_reward_bench_2():
    rng = np.random.default_rng(0)
    sizes = (475, 160, 183, 450, 495, 102)
    subsets = [wilson(rng.permutation(n) < round(0.75 * n)) for n in sizes]
    ours = macro_average(subsets)
    assert ours.value == pytest.approx(0.75, abs=0.002)
    assert ours.se == pytest.approx(0.0120, abs=2e-4)
    assert ours.n == 1865
    assert (ours.high - ours.low) / 2 == pytest.approx(1.96 * ours.se, rel=0.02)


def test_a_macro_average_of_perfect_subsets_is_no_certainty():
    ours = macro_average([wilson(np.ones(12)), wilson(np.ones(40))])
    assert ours.value == 1
    assert ours.se == 0
    assert 0.8 < ours.low < 0.95
    assert ours.high == 1


@pytest.mark.parametrize("rates", [(0.75, 0.8, 0.7), (0.97, 0.9, 0.99)])
def test_the_macro_average_covers(rates):
    rng = np.random.default_rng(5)
    sizes, weights = (30, 100, 60), (1.0, 2.0, 1.0)
    truth = float(np.dot(rates, weights)) / sum(weights)
    hits = []
    for _ in range(1500):
        found = macro_average([wilson(rng.random(n) < p) for n, p in zip(sizes, rates, strict=True)], weights)
        hits.append(found.low <= truth <= found.high)
    assert 0.935 <= np.mean(hits) <= 0.975


@pytest.mark.parametrize(("pairwise", "of_four"), [(0.5, 0.25), (0.7, 0.470), (0.8, 0.611), (0.9, 0.782)])
def test_pairs_and_fours_do_not_compare(pairwise, of_four):
    assert best_of_k_accuracy(pairwise) == pytest.approx(of_four, abs=6e-4)
    assert best_of_k_accuracy(pairwise, k=2) == pytest.approx(pairwise, abs=1e-6)


def test_margins_are_judged_in_both_directions():
    rng = np.random.default_rng(1)
    gap = rng.normal(0, 2, 4000)
    first_wins = rng.random(4000) < 1 / (1 + np.exp(-gap))
    margins = np.where(first_wins, gap, -gap)
    assert margin_calibration(margins).ece < 0.02
    assert margin_calibration(margins * 3).ece > 0.1
    assert margin_calibration(margins * 3, temperature=3).ece < 0.02
    assert margin_calibration(margins).brier.n == 4000


def test_length_is_correlated_within_prompts():
    rng = np.random.default_rng(2)
    prompts = np.repeat(np.arange(100), 6)
    shared = rng.normal(size=100)[prompts]
    lengths, scores = shared * 3 + rng.normal(size=600), shared * 3 + rng.normal(size=600)
    assert np.corrcoef(lengths, scores)[0, 1] > 0.8
    ours = within_prompt_correlation(scores, lengths, prompts)
    assert ours.low < 0 < ours.high
    assert within_prompt_correlation(lengths, lengths, prompts).value == pytest.approx(1)
    with pytest.raises(UserError, match="3 answers"):
        within_prompt_correlation([1, 2], [1, 2], [0, 0])
