"""The published style controls against the published numbers and their own objectives."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from scipy import optimize

from rlhf_eval.errors import UserError
from rlhf_eval.stats.logistic import sigmoid
from rlhf_eval.stats.style_published import (
    GRID,
    GamedRows,
    alpaca_eval_2,
    arena_hard_v2,
    arena_rank,
    chatbot_arena,
)


def columns(path, *names):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [np.array([float(r[name]) for r in rows]) for name in names]


@pytest.fixture
def alpaca(groundtruth):
    folder = groundtruth / "alpaca_eval"
    (difficulty,) = columns(folder / "instruction_difficulty_recovered.csv", "instruction_difficulty")
    preference, length, hard = columns(
        folder / "df_gamed_surrogate.csv", "preference", "std_delta_len", "instruction_difficulty"
    )
    gamed = GamedRows(scores=preference, standardized_length=length, difficulty=hard)

    def read(model):
        path = folder / "results" / model / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"
        rows = json.loads(path.read_text())
        scores = [math.nan if r["preference"] is None else (r["preference"] or 1.5) - 1 for r in rows]
        return scores, [len(r["output_1"]) - len(r["output_2"]) for r in rows]

    return read, difficulty, gamed


@pytest.mark.groundtruth
@pytest.mark.parametrize(
    ("model", "c", "published"),
    [
        ("FuseChat-Gemma-2-9B-Instruct", GRID[5], 70.18106263911686),
        ("claude-2.1", GRID[5], 25.251943886133027),
        ("gpt-3.5-turbo-1106", GRID[5], 19.30058903498905),
        ("vicuna-13b-v1.5", GRID[6], 10.484438298504218),
        ("alpaca-7b", GRID[6], 5.875487163278986),
        ("oasst-sft-pythia-12b", GRID[7], 3.270102114456748),
    ],
)
def test_published_length_controlled_win_rates(alpaca, model, c, published):
    read, difficulty, gamed = alpaca
    scores, gap = read(model)
    assert 100 * alpaca_eval_2(scores, gap, difficulty, gamed=gamed, c=c).value == pytest.approx(published, abs=0.02)


@pytest.mark.groundtruth
@pytest.mark.parametrize(
    ("model", "published", "published_se"),
    [
        ("FuseChat-Gemma-2-9B-Instruct", 70.18106263911686, 0.5941187965717439),
        ("claude-2.1", 25.251943886133027, 0.751),
    ],
)
def test_published_rates_with_cross_validation(alpaca, model, published, published_se):
    read, difficulty, gamed = alpaca
    scores, gap = read(model)
    ours = alpaca_eval_2(scores, gap, difficulty, gamed=gamed)
    assert 100 * ours.value == pytest.approx(published, abs=0.16)
    assert 100 * ours.published_se == pytest.approx(published_se, abs=2e-3)


@pytest.mark.filterwarnings("ignore")
def test_cross_validation_equals_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    gap, hard = rng.normal(200, 400, 300), rng.normal(size=300)
    scores = np.clip(sigmoid(-0.8 * np.tanh(gap / 400) + 0.5 * hard - 0.3) + rng.normal(0, 0.3, 300), 0, 1)
    ours = alpaca_eval_2(scores, gap, hard)
    design = np.column_stack([np.tanh(gap / gap.std(ddof=1)), hard, np.ones(300)])
    fold = np.arange(300)[::-1] % 5
    losses = []
    for c in GRID:
        parts = []
        for held in range(5):
            train, test = np.flatnonzero(fold != held), fold == held
            model = linear.LogisticRegression(penalty="l1", solver="liblinear", C=c, fit_intercept=False, tol=1e-8)
            twice = np.concatenate([train, train])
            share = np.concatenate([scores[train], 1 - scores[train]])
            model.fit(design[twice], np.repeat([1, 0], len(train)), sample_weight=share)
            p = model.predict_proba(design[test])[:, 1]
            parts.append(-(scores[test] * np.log(p) + (1 - scores[test]) * np.log(1 - p)).mean())
        losses.append(np.mean(parts))
    assert ours.c == GRID[int(np.argmin(losses))]


def test_the_published_error_is_too_small():
    rng = np.random.default_rng(1)
    values, errors = [], []
    for _ in range(60):
        gap, hard = rng.normal(0, 400, 300), rng.normal(size=300)
        scores = (rng.random(300) < sigmoid(0.6 * hard - 0.9 * np.tanh(gap / 400))).astype(float)
        fit = alpaca_eval_2(scores, gap, hard, c=math.inf)
        values.append(fit.value)
        errors.append(fit.published_se)
    assert np.std(values) / np.mean(errors) > 2


def games_with_style(n, seed):
    rng = np.random.default_rng(seed)
    strengths = np.array([0.4, 0.0, -0.4])
    a = rng.integers(0, 3, n)
    b = (a + rng.integers(1, 3, n)) % 3
    style_a, style_b = rng.integers(1, 400, (n, 2)), rng.integers(1, 400, (n, 2))
    raw = (style_a - style_b) / (style_a + style_b)
    z = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    p = sigmoid(strengths[a] - strengths[b] + 0.5 * z[:, 0])
    return a, b, (rng.random(n) < p).astype(float), style_a, style_b


def test_default_penalties_of_the_arenas():
    games = games_with_style(20_000, 2)
    assert chatbot_arena(*games).coefficients[0] == pytest.approx(0.508, abs=0.05)
    assert arena_rank(*games).coefficients[0] < 0.1  # at most .5 v/(1 + v), where v <= 1/4 is the curvature of the loss


def test_chatbot_arena_minimises_its_objective():
    a, b, scores, style_a, style_b = games_with_style(400, 3)
    raw = (style_a - style_b) / (style_a + style_b + 1)
    z = (raw - raw.mean(axis=0)) / raw.std(axis=0)

    def loss(x):
        eta = math.log(10) * (x[a] - x[b]) + z @ x[3:]
        return (np.logaddexp(0, eta) - scores * eta).sum() + 0.25 * x @ x

    x = optimize.minimize(loss, np.zeros(5), tol=1e-12).x
    ours = chatbot_arena(a, b, scores, style_a, style_b)
    assert ours.scores == pytest.approx(1000 + 400 * x[:3], abs=1e-2)
    assert ours.coefficients == pytest.approx(x[3:], abs=1e-5)


@pytest.mark.parametrize(("spread", "found"), [(0.3, 0.094), (1.9, 0.055)])
def test_arena_rank_leaves_little_of_the_style_coefficient(spread, found):
    """A ridge of 1 on the mean loss shrinks .5 to about .5 v/(1 + v), v the mean of p (1 - p): less for wide fields."""
    rng = np.random.default_rng(11)
    n, strengths = 20_000, np.linspace(-spread, spread, 6)
    a = rng.integers(6, size=n)
    b = (a + rng.integers(1, 6, n)) % 6
    style_a, style_b = rng.integers(1, 1000, (2, n, 1)).astype(float)
    raw = ((style_a - style_b) / (style_a + style_b))[:, 0]
    p = sigmoid(strengths[a] - strengths[b] + 0.5 * (raw - raw.mean()) / raw.std())
    scores = (rng.random(n) < p).astype(float)
    v = float((p * (1 - p)).mean())
    ours = arena_rank(a, b, scores, style_a, style_b).coefficients[0]
    assert ours == pytest.approx(0.5 * v / (1 + v), abs=0.012)
    assert ours == pytest.approx(found, abs=0.01)


def test_arena_rank_minimises_its_objective():
    a, b, scores, style_a, style_b = games_with_style(400, 4)
    raw = (style_a - style_b) / (style_a + style_b)
    z = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    pairs = [frozenset(p) for p in zip(a.tolist(), b.tolist(), strict=True)]
    weights = np.array([1 / max(pairs.count(p), 50) for p in pairs])
    weights /= weights.mean()

    def loss(x):
        eta = x[a] - x[b] + z @ x[3:]
        return (weights * (np.logaddexp(0, eta) - scores * eta)).mean() + 0.5 * x[3:] @ x[3:]

    x = optimize.minimize(loss, np.zeros(5), tol=1e-12).x
    ours = arena_rank(a, b, scores, style_a, style_b)
    assert ours.scores == pytest.approx(1000 + 400 / math.log(10) * (x[:3] - x[:3].mean()), abs=1e-2)
    assert ours.coefficients == pytest.approx(x[3:], abs=1e-5)


def test_arena_hard_moves_every_level_by_its_centring():
    rng = np.random.default_rng(5)
    n = 1500
    style, base = rng.integers(300, 900, (2 * n, 4)) + 1, rng.integers(100, 500, (2 * n, 4)) + 1
    relative = (style[:, 0] - base[:, 0]) / (style[:, 0] + base[:, 0])
    models = np.repeat(["weak", "strong"], n)
    merit = np.where(models == "strong", 0.5, -0.5)
    scores = (rng.random(2 * n) < sigmoid(merit + 1.5 * relative)).astype(float)
    ours = arena_hard_v2(models, scores, style, base, draws=40)
    assert ours.models == ("strong", "weak")
    average = sigmoid(
        np.array([0.5, -0.5]) + 1.5 * relative.mean()
    )  # the level at the average style, not at equal style
    assert ours.scores == pytest.approx(average, abs=0.04)
    assert (ours.low < ours.scores).all()
    assert arena_hard_v2(models, scores, style, base, draws=5).scores == pytest.approx(
        arena_hard_v2(models, scores, style, base, draws=5).scores
    )


def test_shapes_are_checked():
    with pytest.raises(UserError, match="aligned"):
        alpaca_eval_2([1, 0], [1, 2, 3], [0, 0])
    with pytest.raises(UserError, match="one shape"):
        chatbot_arena(["x"], ["y"], [1], [[1, 2]], [[1]])
