"""The style controls that leaderboards publish, under their own names, for parity with their numbers.

Each returns what its source prints; ``note`` says what to know about it. For an estimate to believe, use
``length_control``.

    alpaca_eval_2   AlpacaEval 2, length-controlled win rate (arXiv 2404.04475; metrics/glm_winrate.py)
    arena_hard_v2   Arena-Hard-Auto v2 (arXiv 2406.11939; show_result.py, utils/math_utils.py)
    chatbot_arena   Chatbot Arena as FastChat computes it (serve/monitor/rating_systems.py)
    arena_rank      arena-rank (models/contextual_bradley_terry.py, examples/example_utils.py)

    from rlhf_eval.stats.style_published import alpaca_eval_2
    alpaca_eval_2(preference - 1, chars_baseline - chars_model, difficulty, gamed=gamed).value
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats, Ints
from rlhf_eval.stats.bradley_terry import games
from rlhf_eval.stats.elo import elo_scale
from rlhf_eval.stats.logistic import fit_logistic, fit_logistic_l1, sigmoid

GRID = tuple(np.logspace(-4, 4, 10).tolist())
"""Inverse penalties among which AlpacaEval's cross-validation chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpacaEvalLC:
    """AlpacaEval 2's length-controlled win rate, as a share."""

    value: float
    published_se: float
    """The standard error that AlpacaEval prints: the spread of fitted probabilities, 2 to 3 times too small."""
    length: float
    difficulty: float
    intercept: float
    c: float
    """Inverse L1 penalty, given or chosen by cross-validation; infinite without a penalty."""
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GamedRows:
    """Rows of the baseline's concise and verbose versions against itself, which regularise the fit; each shape (rows,)."""

    scores: Floats
    standardized_length: Floats
    difficulty: Floats


def alpaca_eval_2(
    scores: ArrayLike,
    length_difference: ArrayLike,
    difficulty: ArrayLike,
    *,
    gamed: GamedRows | None = None,
    c: float | None = None,
    folds: int = 5,
    gamed_weight: float = 0.1,
) -> AlpacaEvalLC:
    """The GLM ``length_controlled_v1``: ``tanh(standardised length) + difficulty + not_gamed``, L1, no intercept.

    ``scores`` of the model in [0, 1], NaN where the judgment failed; ``length_difference`` in characters, baseline
    minus model; ``difficulty`` of each instruction; all of shape (instructions,). ``c`` None chooses the penalty by
    cross-validation over ``GRID``, infinity fits without one. The solver is exact: published values carry up to .015
    points of their solver's noise, and rows near a tie between two penalties can land on the other one.
    """
    y, gap, hard = (np.asarray(x, dtype=np.float64) for x in (scores, length_difference, difficulty))
    if not (y.shape == gap.shape == hard.shape) or y.ndim != 1 or len(y) < 2:
        raise UserError(f"scores {y.shape}, length_difference {gap.shape} and difficulty {hard.shape} must be aligned")
    length = np.tanh(gap / (gap.std(ddof=1) or 1))
    model = np.column_stack([length, hard, np.ones(len(y))])
    weights = np.ones(len(y))
    if gamed is not None:
        extra = np.column_stack([np.tanh(gamed.standardized_length), gamed.difficulty, np.zeros(len(gamed.scores))])
        model, y = np.vstack([extra, model]), np.concatenate([gamed.scores, y])
        weights = np.concatenate([np.full(len(extra), gamed_weight), weights])
    judged = np.isfinite(y)
    design, labels, weights = model[judged], y[judged], weights[judged]
    chosen = _cross_validated(design, labels, weights, _fold_of_each_row(len(labels), folds)) if c is None else c
    if math.isinf(chosen):
        fitted = fit_logistic(design, labels, weights=weights)
        if fitted is None:
            raise UserError("length, difficulty or the model separate the verdicts: no unpenalised fit exists; give c")
    else:
        fitted = fit_logistic_l1(design, labels, c=chosen, weights=weights)
    predicted = sigmoid(fitted[1] * hard + fitted[2])
    return AlpacaEvalLC(
        value=float(predicted.mean()),
        published_se=float(predicted.std(ddof=1) / math.sqrt(len(predicted))),
        length=float(fitted[0]),
        difficulty=float(fitted[1]),
        intercept=float(fitted[2]),
        c=float(chosen),
        note="published_se leaves out the noise of the judge and the coefficients; length_controlled has an interval",
    )


def _cross_validated(design: Floats, y: Floats, weights: Floats, fold: Ints) -> float:
    """The penalty with the least weighted log loss of soft labels, averaged over rows, then over folds."""
    losses = np.zeros(len(GRID))
    for held_out in np.unique(fold):
        train, test = fold != held_out, fold == held_out
        theta = np.zeros(design.shape[1])
        for i, c in enumerate(GRID):
            theta = fit_logistic_l1(design[train], y[train], c=c, weights=weights[train], start=theta)
            p = np.clip(sigmoid(design[test] @ theta), 1e-15, 1 - 1e-15)
            losses[i] += (weights[test] * -(y[test] * np.log(p) + (1 - y[test]) * np.log(1 - p))).mean()
    best: float = GRID[int(np.argmin(losses))]
    return best


def _fold_of_each_row(rows: int, folds: int) -> Ints:
    # The published code deals equally large groups out in the order of an unstable sort, which differs between machines.
    return np.arange(rows)[::-1] % folds


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRanking:
    """Scores of models as a leaderboard prints them, higher is better."""

    models: tuple[str, ...]
    scores: Floats
    low: Floats | None
    high: Floats | None
    coefficients: Floats
    """Style coefficients per standard deviation of each feature."""
    method: str
    note: str


def chatbot_arena(
    a: ArrayLike, b: ArrayLike, scores: ArrayLike, style_a: ArrayLike, style_b: ArrayLike, *, ridge: float = 0.5
) -> PublishedRanking:
    """Elo points under Chatbot Arena's style control, as FastChat computes them.

    ``style_*`` are counts such as tokens, headers, lists and bold, shape (games, features). Features are ``(a - b)/(a
    + b + 1)``, z-scored; ``ridge`` acts on ratings (in units of ``log 10``) and coefficients alike, on the sum.
    """
    played, (left, right) = games(a, b, scores), _counts(style_a, style_b)
    features = _z_scored((left - right) / (left + right + 1), ddof=0)
    k = len(played.models)
    design = np.hstack([math.log(10) * _matchups(played.a, played.b, k), features])
    fitted = _finite(fit_logistic(design, played.score, ridge=ridge))
    return PublishedRanking(
        models=played.models,
        scores=1000 + 400 * fitted[:k],
        low=None,
        high=None,
        coefficients=fitted[k:],
        method=f"chatbot_arena, ridge {ridge:g} on the sum",
        note="equal style means the average difference between the first and the second answer, which is near 0 there",
    )


def arena_rank(
    a: ArrayLike,
    b: ArrayLike,
    scores: ArrayLike,
    style_a: ArrayLike,
    style_b: ArrayLike,
    *,
    ridge: float = 1.0,
    reweighted: bool = True,
    min_pair_count: int = 50,
) -> PublishedRanking:
    """Elo points under arena-rank's style control.

    Features are ``(a - b)/(a + b)``, z-scored. Games weigh ``1/max(games of the pair, min_pair_count)`` where
    ``reweighted``. ``ridge`` acts on the coefficients alone and on the mean loss, so its default of 1
    leaves less than a fifth of them, however many games there are.
    """
    played, (left, right) = games(a, b, scores), _counts(style_a, style_b)
    features = _z_scored((left - right) / np.where(left + right == 0, 1, left + right), ddof=0)
    k, n = len(played.models), len(played.score)
    pair = np.minimum(played.a, played.b) * k + np.maximum(played.a, played.b)
    weights = 1 / np.maximum(np.bincount(pair)[pair], min_pair_count) if reweighted else np.ones(n)
    contrasts = np.vstack([np.eye(k - 1), -np.ones(k - 1)])
    design = np.hstack([_matchups(played.a, played.b, k) @ contrasts, features])
    penalty = np.concatenate([np.zeros(k - 1), np.full(features.shape[1], ridge * n)])
    fitted = _finite(fit_logistic(design, played.score, weights=weights / weights.mean(), ridge=penalty))
    return PublishedRanking(
        models=played.models,
        scores=elo_scale(contrasts @ fitted[: k - 1]),
        low=None,
        high=None,
        coefficients=fitted[k - 1 :],
        method=f"arena_rank, ridge {ridge:g} on the mean",
        note="the penalty is on the mean loss: at its default the control is almost off",
    )


def arena_hard_v2(
    models: ArrayLike,
    scores: ArrayLike,
    style: ArrayLike,
    baseline_style: ArrayLike,
    *,
    draws: int = 100,
    seed: int = 0,
) -> PublishedRanking:
    """Win rates against the baseline under Arena-Hard v2's style control: median and 5% to 95% of a bootstrap of rows.

    One row per verdict as the source lays them out: each game once, a strong verdict three times. ``style`` and
    ``baseline_style`` have shape (rows, 4): tokens, headers, lists, bold. The source draws without a seed.
    """
    names, model = np.unique(np.asarray(models), return_inverse=True)
    y, (own, other) = np.asarray(scores, dtype=np.float64), _counts(style, baseline_style)
    own, other = (np.hstack([x[:, :1], x[:, 1:] / x[:, :1]]) for x in (own, other))
    total = own + other + np.array([0.0] + [1.0] * (own.shape[1] - 1))
    features = _z_scored((own - other) / total, ddof=1)
    design = np.hstack([np.eye(len(names))[model], features])
    rng = np.random.default_rng(seed)
    fits = []
    for _ in range(draws):
        counts = np.bincount(rng.integers(len(y), size=len(y)), minlength=len(y)).astype(np.float64)
        fits.append(_finite(fit_logistic(design, y, weights=counts, ridge=1e-6)))
    rates = sigmoid(np.array(fits)[:, : len(names)])
    low, middle, high = np.quantile(rates, [0.05, 0.5, 0.95], axis=0)
    return PublishedRanking(
        models=tuple(str(name) for name in names),
        scores=middle,
        low=low,
        high=high,
        coefficients=np.median(np.array(fits)[:, len(names) :], axis=0),
        method=f"arena_hard_v2, {draws} draws of rows, seed {seed}",
        note=(
            "a 90% interval of repeated rows, far too narrow; rates hold at the average style difference, not at equal "
            "style; strong verdicts count three times"
        ),
    )


def _matchups(a: Ints, b: Ints, models: int) -> Floats:
    design = np.zeros((len(a), models))
    design[np.arange(len(a)), a] = 1
    design[np.arange(len(b)), b] = -1
    return design


def _counts(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.ndim != 2 or left.shape != right.shape:
        raise UserError(f"style counts must have one shape (rows, features); they have {left.shape} and {right.shape}")
    return left, right


def _z_scored(features: Floats, *, ddof: int) -> Floats:
    spread = features.std(axis=0, ddof=ddof)
    scaled: Floats = (features - features.mean(axis=0)) / np.where(spread == 0, 1, spread)
    return scaled


def _finite(fitted: Floats | None) -> Floats:
    if fitted is None:
        raise UserError(
            "the published fit has no finite solution here: a model never wins, or style decides every game"
        )
    return fitted
