"""Human labels with a judge: published anchors, coverage, and the bias that each method does not survive."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.human import (
    allocate_calibration,
    effective_labels,
    ipw_mean,
    label_probabilities,
    labels_needed,
    ppi_mean,
    rogan_gladen,
    share_of,
)
from rlhf_eval.stats.intervals import wilson

LABELS = np.r_[np.ones(127), np.zeros(73)]
JUDGE = np.r_[np.ones(111), np.zeros(16), np.ones(21), np.zeros(52)]
REST = np.r_[np.ones(632), np.zeros(368)]


def judged(rng, n, theta=0.6, sens=0.85, spec=0.75):
    truth = (rng.random(n) < theta).astype(float)
    said = np.where(truth == 1, rng.random(n) < sens, rng.random(n) >= spec).astype(float)
    return truth, said


def test_ppi_anchor():
    ours = ppi_mean(LABELS, JUDGE, REST, small_sample=False)
    assert ours.judge_weight == pytest.approx(0.489168848, abs=1e-9)
    assert ours.value == pytest.approx(0.621303272, abs=1e-9)
    assert (ours.low, ours.high) == pytest.approx((0.565239194, 0.677367350), abs=1e-9)


def test_rogan_gladen_anchors():
    table = {"true_negative": 52, "negatives": 73, "true_positive": 111, "positives": 127}
    ours = rogan_gladen(632, 1000, **table, published=True)
    assert ours.value == pytest.approx(0.587246505, abs=1e-9)
    assert (ours.low, ours.high) == pytest.approx((0.475283155, 0.691697945), abs=1e-9)
    table = {"true_negative": 140, "negatives": 200, "true_positive": 180, "positives": 200}
    readme = rogan_gladen(400, 1000, **table, published=True)
    assert (readme.value, readme.low, readme.high) == pytest.approx((1 / 6, 0.0563507, 0.2627330), abs=1e-7)
    assert allocate_calibration(200, share=0.4, specificity=0.7, sensitivity=0.9, pilot=10) == (136, 64)


def test_the_interval_holds_the_shares_that_are_not_contradicted():
    ours = rogan_gladen(632, 1000, true_negative=52, negatives=73, true_positive=111, positives=127)
    share = np.linspace(0, 1, 100_001)
    p, spec, sens = (632 + 1.96**2 / 2) / (1000 + 1.96**2), 52.5 / 74, 111.5 / 128
    off = p - share * sens - (1 - share) * (1 - spec)
    noise = (
        p * (1 - p) / (1000 + 1.96**2) + share**2 * sens * (1 - sens) / 128 + (1 - share) ** 2 * spec * (1 - spec) / 74
    )
    kept = share[np.abs(off) <= 1.96 * np.sqrt(noise)]
    assert (ours.low, ours.high) == pytest.approx((kept.min(), kept.max()), abs=1e-4)
    assert ours.value == pytest.approx(0.587246505, abs=1e-9)
    assert not ours.note
    rough = rogan_gladen(632, 1000, true_negative=6, negatives=8, true_positive=10, positives=12)
    assert "rough" in rough.note
    assert rough.high - rough.low > ours.high - ours.low


@pytest.mark.parametrize(
    ("positive", "table", "said"),
    [
        (500, (1, 1, 1, 10), "too few"),
        (500, (2, 3, 2, 4), "too few"),
        (10, (100, 200, 190, 200), "errs otherwise"),
    ],
)
def test_a_table_that_cannot_answer_says_so(positive, table, said):
    names = ("true_negative", "negatives", "true_positive", "positives")
    ours = rogan_gladen(positive, 1000, **dict(zip(names, table, strict=True)))
    assert (ours.low, ours.high) == (0, 1)
    assert said in ours.note


def test_a_judge_no_better_than_chance_identifies_nothing():
    ours = rogan_gladen(5, 10, true_negative=5, negatives=10, true_positive=5, positives=10)
    assert (ours.low, ours.high) == (0, 1)
    assert "no information" in ours.note


def test_label_budgets():
    assert [labels_needed(0.05, rho) for rho in (0.5, 0.7, 0.8, 0.9, 0.0)] == [289, 196, 139, 73, 385]
    assert [labels_needed(0.03, rho) for rho in (0.5, 0.7, 0.8, 0.9, 0.0)] == [801, 545, 385, 203, 1068]
    assert effective_labels(200, 2000, 0.60264) == pytest.approx(298.58, abs=0.005)
    assert effective_labels(186, 1218, 0.60264) == pytest.approx(272, abs=0.5)


@pytest.mark.parametrize("n", [20, 30, 50])
def test_small_samples_are_covered(n):
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(600):
        (y, f), (_, rest) = judged(rng, n), judged(rng, 1000)
        ours = ppi_mean(y, f, rest)
        held += ours.low <= 0.6 <= ours.high
    assert held / 600 >= 0.92


def test_ppi_is_right_for_a_bad_judge_and_narrower_for_a_good_one():
    rng = np.random.default_rng(2)
    (y, f), (_, rest) = judged(rng, 200, sens=0.95, spec=0.92), judged(rng, 2000, sens=0.95, spec=0.92)
    good = ppi_mean(y, f, rest)
    noise = ppi_mean(y, rng.random(200), rng.random(2000))
    assert good.se < 0.65 * y.std() / np.sqrt(200)
    assert noise.se == pytest.approx(y.std() / np.sqrt(200), rel=0.05)
    assert good.n_eff > 2 * noise.n_eff


def test_only_rogan_gladen_survives_another_prevalence():
    rng = np.random.default_rng(3)
    held = {"ppi": 0, "rogan_gladen": 0}
    for _ in range(200):
        y = np.repeat([1.0, 0.0], 100)  # a balanced calibration set
        f = np.where(y == 1, rng.random(200) < 0.85, rng.random(200) >= 0.75).astype(float)
        _, rest = judged(rng, 2000, theta=0.8)
        ppi = ppi_mean(y, f, rest)
        rg = rogan_gladen(
            int(rest.sum()),
            2000,
            true_negative=int((1 - f[y == 0]).sum()),
            negatives=100,
            true_positive=int(f[y == 1].sum()),
            positives=100,
        )
        held["ppi"] += ppi.low <= 0.8 <= ppi.high
        held["rogan_gladen"] += rg.low <= 0.8 <= rg.high
    assert held["ppi"] == 0
    assert held["rogan_gladen"] >= 182


def test_ipw_survives_oversampling_and_ppi_does_not():
    rng = np.random.default_rng(4)
    held = {"ipw": 0, "ppi": 0}
    for _ in range(300):
        p = rng.beta(0.4, 0.3, 1500)
        truth = (rng.random(1500) < _true_share(p)).astype(float)
        chance = label_probabilities(p, 400)
        chosen = rng.random(1500) < chance
        ours = ipw_mean(truth[chosen], p, chance, chosen)
        naive = ppi_mean(truth[chosen], p[chosen], p[~chosen])
        target = _true_share(_POPULATION).mean()
        held["ipw"] += ours.low <= target <= ours.high
        held["ppi"] += naive.low <= target <= naive.high
    assert held["ipw"] / 300 >= 0.91
    assert held["ppi"] / 300 < 0.85


def _true_share(p):
    return p + 0.25 * (np.abs(p - 0.5) < 0.2)  # the judge is wrong where it is unsure, and there the labels are


_POPULATION = np.random.default_rng(5).beta(0.4, 0.3, 400_000)


def test_ipw_with_everything_labelled_is_the_plain_mean():
    y, f = np.array([1.0, 0, 1, 1]), np.array([0.9, 0.2, 0.4, 0.8])
    assert ipw_mean(y, f, np.ones(4), np.ones(4, bool)).value == y.mean()


def test_label_probabilities_meet_the_budget():
    p = np.r_[np.full(50, 0.5), np.full(50, 0.99)]
    chance = label_probabilities(p, 60)
    assert chance.sum() == pytest.approx(60)
    assert chance.max() <= 1
    assert chance[0] > chance[-1] > 0.05
    assert label_probabilities(np.ones(10), 4) == pytest.approx(np.full(10, 0.4))


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="at least 3"):
        ppi_mean([1, 0], [1, 0], [1])
    with pytest.raises(UserError, match="must match"):
        ipw_mean([1, 0, 1], [0.5] * 4, [1] * 4, [True, True, False, False])
    with pytest.raises(UserError, match="budget"):
        label_probabilities([0.5], 2)
    with pytest.raises(UserError, match="calibration items"):
        rogan_gladen(1, 2, true_negative=0, negatives=0, true_positive=1, positives=1)


def test_a_corrected_share_is_cut_to_what_a_share_can_be():
    """The judge is stricter on what was labelled than on the rest, so that the correction leads beyond 1."""
    found = ppi_mean([1, 1, 1, 1, 0.9], [0.5, 0.6, 0.5, 0.6, 0.1], [0.99] * 20)
    assert found.value > 1
    share = share_of(found, 5)
    assert share.low < share.value == share.high == 1
    alike = share_of(ppi_mean([1.0] * 5, [0.9] * 5, [0.9] * 20), 5)
    assert (alike.low, alike.high) == (pytest.approx(wilson([1.0] * 5).low), 1)
