"""Agreement coefficients against published tables and other people's code."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.agreement import agreement, cohen_kappa, gwet_ac1, krippendorff_alpha

NAN = float("nan")
KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


def two_by_two(both, only_a, only_b, neither):
    a = np.repeat([1, 1, 0, 0], [both, only_a, only_b, neither])
    b = np.repeat([1, 0, 1, 0], [both, only_a, only_b, neither])
    return a, b


@pytest.mark.parametrize(
    ("cells", "raw", "kappa", "ac1", "alpha"),
    [
        ((40, 10, 10, 40), 0.80, 0.6, 0.6, 0.602),
        ((85, 5, 5, 5), 0.90, 0.4444, 0.8780, 0.4472),
        ((90, 5, 5, 0), 0.90, -0.0526, 0.8895, -0.0474),
    ],
)
def test_published_two_by_two_tables(cells, raw, kappa, ac1, alpha):
    a, b = two_by_two(*cells)
    assert (a == b).mean() == pytest.approx(raw)
    assert cohen_kappa(a, b) == pytest.approx(kappa, abs=5e-5)
    assert gwet_ac1(a, b) == pytest.approx(ac1, abs=5e-5)
    assert krippendorff_alpha([a, b]) == pytest.approx(alpha, abs=5e-4)


def test_krippendorffs_own_table():
    assert krippendorff_alpha(KRIPPENDORFF) == pytest.approx(904 / 1216, abs=1e-12)
    assert krippendorff_alpha(KRIPPENDORFF, level="ordinal") == pytest.approx(0.8154, abs=5e-5)
    assert krippendorff_alpha(KRIPPENDORFF, level="interval") == pytest.approx(0.8491, abs=5e-5)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval", "ratio"])
def test_alpha_equals_the_krippendorff_package(level):
    krippendorff = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(0)
    table = rng.integers(0, 5, (3, 40)).astype(float)
    table[rng.random(table.shape) < 0.2] = NAN
    theirs = krippendorff.alpha(reliability_data=table, level_of_measurement=level)
    assert krippendorff_alpha(table, level=level) == pytest.approx(theirs, rel=1e-10)


@pytest.mark.groundtruth
def test_alpha_of_the_evalica_codings(groundtruth):
    def read(name):
        lines = (groundtruth / "evalica" / name).read_text().splitlines()
        cells = [line.split(",") for line in lines]
        names = sorted({c for row in cells for c in row if c})
        return [[float(names.index(c)) if c else NAN for c in row] for row in cells], names

    codings, names = read("codings.csv")
    values = [[float(names[int(c)]) if not math.isnan(c) else NAN for c in row] for row in codings]
    assert krippendorff_alpha(values) == pytest.approx(0.7434211, abs=5e-8)
    assert krippendorff_alpha(read("gcl.csv")[0]) == pytest.approx(0.0833333, abs=5e-8)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_equals_scikit_learn(weights):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    a = rng.integers(1, 6, 200)
    b = np.clip(a + rng.integers(-1, 2, 200), 1, 5)
    theirs = metrics.cohen_kappa_score(a, b, weights=None if weights == "none" else weights)
    assert cohen_kappa(a, b, weights=weights) == pytest.approx(theirs, rel=1e-12)


def test_kappa_interval_has_the_published_standard_error():
    a, b = two_by_two(60, 15, 10, 35)
    ours = agreement(a, b, draws=4000)
    assert ours.kappa.value == pytest.approx(0.5652, abs=5e-5)
    assert ours.kappa.se == pytest.approx(0.0767, abs=0.003)
    assert ours.raw.value == pytest.approx(95 / 120)
    assert ours.balance[0] == pytest.approx((45 / 120, 75 / 120))


def test_clusters_widen_the_interval():
    a, b = two_by_two(60, 15, 10, 35)
    copies = np.tile(np.arange(120), 4)
    alone = agreement(a, b)
    copied = agreement(np.tile(a, 4), np.tile(b, 4), copies)
    rows = agreement(np.tile(a, 4), np.tile(b, 4))
    assert copied.kappa.se == pytest.approx(alone.kappa.se, rel=0.1)
    assert rows.kappa.se < 0.6 * copied.kappa.se


def test_labels_may_be_words_and_one_label_is_no_agreement():
    ours = agreement(["A", "B", "tie", "A"], ["A", "B", "A", "A"])
    assert ours.labels == ("A", "B", "tie")
    assert cohen_kappa(["A", "A"], ["A", "A"]) == 0
    assert gwet_ac1(["A", "A"], ["A", "A"]) == 1
    assert krippendorff_alpha([[1, 1], [1, 1]]) == 0
    assert agreement(["A"], ["A"]).kappa.low == -1


def test_bad_ratings_are_refused():
    with pytest.raises(UserError, match="nothing to agree"):
        krippendorff_alpha([[1, NAN], [NAN, 2]])
    with pytest.raises(UserError, match="level of measurement"):
        krippendorff_alpha([[1, 2], [1, 2]], level="nominel")
    with pytest.raises(UserError, match="lengths differ"):
        cohen_kappa([1, 0], [1])
