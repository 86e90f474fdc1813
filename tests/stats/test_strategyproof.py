"""What a labeler can gain by lying: nothing under the low median with exact weights, much under the mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.errors import UserError
from rlhf_eval.stats import strategyproof as crowd
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.logistic import sigmoid

INSTANCES, LIES = 400, 30


def shares_that_gain(k: int, decide: Callable[[Floats], Floats], seed: int = 0) -> tuple[float, float]:
    """Share of random instances where labeler 0 gains by one of 30 random lies, and the largest gain."""
    rng, gained, most = np.random.default_rng(seed), 0, 0.0
    for _ in range(INSTANCES):
        theta = rng.normal(size=(k, 6))
        truthful = theta[0] @ decide(theta)
        best = 0.0
        for lie in 3 * rng.normal(size=(LIES, 6)):
            best = max(best, theta[0] @ decide(np.vstack([lie, theta[1:]])) - truthful)
        gained += best > 0
        most = max(most, best)
    return gained / INSTANCES, most


def test_no_lie_pays_under_the_low_median_in_a_hyper_rectangle() -> None:
    for k in (3, 4, 5, 6):
        assert shares_that_gain(k, lambda theta: crowd.steer(theta, "median")) == (0.0, 0.0)  # exactly


def test_caution_costs_exactness_by_what_the_labelers_are_unsure_of() -> None:
    """Whoever is too unsure to count can shout; no more is to be had than the width of the box."""
    share, most = shares_that_gain(5, lambda theta: crowd.steer(theta, "pessimistic_median", half=0.3))
    assert share > 0
    assert most <= 6 * 0.3


def test_lies_pay_under_the_mean() -> None:
    share, most = shares_that_gain(5, lambda theta: crowd.steer(theta, "mean"))
    assert share >= 0.8
    assert most > 1


def test_the_usual_median_of_an_even_number_can_be_bent() -> None:
    """Why the low median: the mean of the two in the middle moves with whoever exaggerates."""
    share, _ = shares_that_gain(4, lambda theta: np.sign(np.median(theta, axis=0)))
    assert 0.2 < share < 0.5


def test_with_candidates_every_rule_can_be_bent_the_median_less() -> None:
    rng, gained = np.random.default_rng(1), {"mean": 0, "median": 0, "item_median": 0}
    for seed in range(150):
        theta, candidates = rng.normal(size=(5, 6)), rng.normal(size=(6, 6))
        for rule in gained:
            found = crowd.manipulate(theta, 0, rule=rule, candidates=candidates, steps=20, seed=seed)  # type: ignore[arg-type]
            gained[rule] += found.gain > 0
    assert gained["mean"] > 0.5 * 150
    assert 0 < gained["median"] < 0.7 * gained["mean"]
    assert 0 < gained["item_median"] < 0.7 * gained["mean"]


def test_the_search_finds_the_best_lie_there_is() -> None:
    """Under the mean a labeler can have everything its own way; under the low median nothing is to be had."""
    rng = np.random.default_rng(2)
    for _ in range(30):
        theta = rng.normal(size=(5, 6))
        mean, median = (crowd.manipulate(theta, 0, rule=rule, steps=50) for rule in ("mean", "median"))  # type: ignore[arg-type]
        assert mean.truthful + mean.gain == pytest.approx(np.abs(theta[0]).sum())
        assert median.gain == 0.0
        assert (median.report == theta[0]).all()


def test_the_counter_example_of_proposition_3_3() -> None:
    candidates = np.array([[0.5, 0.5], [0.75, 0.0]])
    truth, lie = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, -1.0], [0.0, 1.0]])
    assert crowd.decide(truth, "mean", candidates=candidates).tolist() == [0.5, 0.5]
    assert crowd.decide(lie, "mean", candidates=candidates).tolist() == [0.75, 0.0]  # labeler 1 has .75 instead of .5


def test_the_counter_example_of_proposition_3_4() -> None:
    """One liar makes the mean's welfare nothing; the median takes the good answer whatever is reported."""
    k, bound, small, large = 5, 1.0, 0.01, 1.0
    others = np.tile([bound / (k - 1), 0.0, 0.0], (k - 1, 1))
    candidates = np.array([[large, 0.0, 0.0], [0.0, small, large]])
    truth = np.vstack([[0.0, 1.0, 0.0], others])
    lie = np.vstack([[0.0, 0.0, bound + small], others])
    assert crowd.decide(truth, "mean", candidates=candidates).tolist() == candidates[0].tolist()
    assert crowd.decide(lie, "mean", candidates=candidates).tolist() == candidates[1].tolist()
    for told in (truth, lie):
        assert crowd.decide(told, "median", candidates=candidates).tolist() == candidates[0].tolist()
    assert k * crowd.welfare(truth, candidates[1]) <= small
    assert k * crowd.welfare(truth, candidates[0]) == pytest.approx(bound * large)


FEATURES, LABELERS = 16, 5


def people(n: int, seed: int) -> tuple[Floats, list[Floats], list[Floats]]:
    """True weights of length 2, the differences that each labeler saw, and its labels."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(LABELERS, FEATURES))
    theta *= 2 / np.linalg.norm(theta, axis=1, keepdims=True)
    x = [rng.uniform(-1, 1, (n, FEATURES)) - rng.uniform(-1, 1, (n, FEATURES)) for _ in range(LABELERS)]
    label = [(rng.random(n) < sigmoid(a @ t)).astype(float) for a, t in zip(x, theta, strict=True)]
    return theta, x, label


def relative_gain(n: int, rule: crowd.Rule, seed: int) -> float:
    """What labeler 0 gains by stating 10 in the direction of each of its weights, as a share of all it could have."""
    theta, x, label = people(n, seed)
    fitted = np.stack([crowd.fit(a, y) for a, y in zip(x, label, strict=True)])
    draws = np.random.default_rng([7, seed]).random(n)
    lie = fitted.copy()
    lie[0] = crowd.fit(x[0], (draws < sigmoid(x[0] @ (10 * np.sign(theta[0])))).astype(float))
    gain = theta[0] @ (crowd.steer(lie, rule) - crowd.steer(fitted, rule))
    return float(gain / np.abs(theta[0]).sum())


def test_with_fitted_weights_lies_pay_less_and_less_under_the_median_and_more_under_the_mean() -> None:
    gains = {
        (rule, n): np.mean([relative_gain(n, rule, seed) for seed in range(10)])  # type: ignore[arg-type]
        for rule, n in (("mean", 50), ("mean", 200), ("mean", 1000), ("median", 200), ("median", 5000))
    }
    assert gains["mean", 1000] > 0.3
    assert gains["mean", 1000] > gains["mean", 50]
    assert gains["median", 5000] < 0.01
    assert gains["median", 5000] < gains["median", 200] < gains["mean", 200]


def test_relabelling_ones_own_pairs_is_found_to_pay_under_the_mean_and_in_one_pool() -> None:
    theta, x, label = people(400, 3)
    found = {
        rule: crowd.manipulate_labels(x, label, 0, rule=rule, truth=theta[0], steps=10, seed=1)  # type: ignore[arg-type]
        for rule in ("mean", "pooled", "median")
    }
    assert found["mean"].relative > 0.2
    assert found["pooled"].relative > 0.05
    assert found["median"].relative < found["mean"].relative / 2


@given(st.integers(1, 7), st.floats(0, 2), st.integers(0, 99))
def test_the_box_holds_the_low_median_and_shuts_on_it(k: int, radius: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(k, 4))
    half = np.abs(rng.normal(size=(k, 4))) * radius
    low, high = crowd.box(theta, half)
    assert (low <= crowd.low_median(theta)).all()
    assert (crowd.low_median(theta) <= high).all()
    assert (crowd.steer(theta, "pessimistic_median") == crowd.steer(theta, "median")).all()
    candidates = rng.normal(size=(5, 4))
    plain = crowd.scores(theta, candidates, "median")
    np.testing.assert_allclose(crowd.scores(theta, candidates, "pessimistic_median"), plain, atol=1e-12)
    assert (crowd.scores(theta, candidates, "pessimistic_median", half=half) <= plain + 1e-12).all()


def test_the_low_median_depends_on_the_basis_and_the_mean_does_not() -> None:
    rng, moved = np.random.default_rng(6), []
    for _ in range(100):
        theta, turn = rng.normal(size=(5, 3)), np.linalg.qr(rng.normal(size=(3, 3)))[0]
        for center, found in ((crowd.low_median, moved), (lambda v: v.mean(axis=0), None)):
            there_and_back = center(theta @ turn) @ turn.T
            share = np.linalg.norm(there_and_back - center(theta)) / np.linalg.norm(center(theta))
            if found is None:
                assert share < 1e-12
            else:
                found.append(share)
    assert np.mean(moved) > 0.3


def test_of_several_sets_of_candidates_the_best_of_each_is_taken() -> None:
    theta = np.random.default_rng(7).normal(size=(3, 2))
    sets = np.random.default_rng(8).normal(size=(4, 5, 2))
    apart = [crowd.decide(theta, "median", candidates=one) for one in sets]
    np.testing.assert_allclose(crowd.decide(theta, "median", candidates=sets), np.mean(apart, axis=0))


def test_maxmin_leaves_the_worst_off_better_than_any_corner() -> None:
    rng = np.random.default_rng(4)
    theta = rng.normal(size=(3, 4))
    worst = (theta @ crowd.steer(theta, "maxmin")).min()
    corners = np.array(np.meshgrid(*[[-1, 0, 1]] * 4)).reshape(4, -1)
    assert worst >= (theta @ corners).min(axis=0).max() - 1e-9


def test_suboptimality_is_0_at_the_best_decision_and_1_at_the_reference() -> None:
    theta = np.random.default_rng(5).normal(size=(5, 6))
    assert crowd.suboptimality(theta, crowd.steer(theta, "mean")) == pytest.approx(0)
    assert crowd.suboptimality(theta, np.zeros(6)) == 1
    assert 0 <= crowd.suboptimality(theta, crowd.steer(theta, "median")) <= 2


def test_the_loud_one_moves_the_mean_and_not_the_median() -> None:
    theta = np.array([[1.0, 1.0], [1.1, 0.9], [0.9, 1.1], [9.0, -9.0]])
    mean, median = crowd.influence(theta, "mean"), crowd.influence(theta, "median")
    assert mean.dropped.argmax() == mean.exaggerated.argmax() == 3
    assert mean.turned.tolist() == [0, 0, 0, 1]
    assert median.exaggerated[3] == 0
    assert median.dropped.max() < 0.2 < mean.dropped[3]
    with pytest.raises(UserError, match="only one"):
        crowd.influence(theta[:1])


def test_a_labeler_matters_where_the_others_are_split() -> None:
    nan = np.nan
    votes = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 1], [nan, 1, 0], [1, nan, nan]], dtype=float)
    # Without the first the third becomes a tie, as does the second; the last item has one voter only.
    moved = crowd.label_influence(votes, "majority")
    np.testing.assert_array_equal(moved, [[0, 0, 0], [1, 1, 0], [1, 0, 1], [nan, 1, 1], [nan, nan, nan]])
    np.testing.assert_array_equal(crowd.label_influence(votes, "mean"), moved)
    soft = np.array([[0.9, 0.6, 0.2], [0.6, 0.7, 0.9]])
    np.testing.assert_array_equal(crowd.label_influence(soft, "low_median"), [[1, 1, 0], [0, 0, 0]])
    with pytest.raises(UserError, match="several"):
        crowd.label_influence(votes[:, :1])


def test_a_fit_recovers_weights_and_stays_within_its_bound() -> None:
    theta, x, _ = people(2000, 6)
    soft = sigmoid(x[0] @ theta[0])
    np.testing.assert_allclose(crowd.fit(x[0], soft, ridge=1e-9), theta[0], atol=1e-6)
    separable = (x[0] @ theta[0] > 0).astype(float)
    assert np.linalg.norm(crowd.fit(x[0], separable, bound=3.0)) == pytest.approx(3.0)
    with pytest.raises(UserError, match="raise the ridge"):
        crowd.fit(x[0], separable, ridge=0.0)
