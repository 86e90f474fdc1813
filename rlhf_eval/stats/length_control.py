"""Win rates and rankings at equal length and style, with errors that hold and a refusal where the data cannot tell.

A judge that likes long answers lifts a wordy model. A logistic model of the verdict on the style difference is read
off at difference 0, never at the average difference, which would move every model's level. The standard error follows
the influence function, clustered by prompt, so it holds the noise of the judge and of the coefficients; the spread of
fitted probabilities that a published benchmark prints is two to six times too small.

This removes the judge's association with style, given the models. If better answers are honestly longer, that goes too:
say "style-adjusted", not "true".

Source: Dubois et al. (arXiv 2404.04475) for the model; van der Vaart (1998), chapter 25, for the influence function.

    from rlhf_eval.stats.length_control import length_controlled, length_feature
    length_controlled(scores, length_feature(chars_a, chars_b), clusters=prompt_ids).adjusted
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Bools, Floats, cluster_index, floats
from rlhf_eval.stats.bootstrap import cluster_draws, from_replicates
from rlhf_eval.stats.bradley_terry import Ranking, games, sandwich, strongly_connected
from rlhf_eval.stats.intervals import Interval, clustered_mean, wilson, wilson_from_se
from rlhf_eval.stats.logistic import fit_logistic, fit_logistic_draws, sigmoid

RIDGE = 1e-6
"""Penalty on each coefficient but the intercept: it decides only where the data say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleControlled:
    """A win rate as judged, and at equal style."""

    raw: Interval
    adjusted: Interval | None
    """None where the data do not identify it; ``reason`` says why."""
    coefficients: tuple[float, ...]
    """Log-odds per unit of each style feature; empty where nothing was fitted."""
    variance_inflation: float
    """How many times the prompts are needed for the same precision because the styles differ: ``1 + mean^2/var``."""
    overlap: float
    """Share of rows on the rarer side of equal style, the smallest over the features."""
    reason: str
    max_variance_inflation: float
    min_overlap: float


def length_controlled(
    scores: ArrayLike,
    style: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    covariates: ArrayLike | None = None,
    level: float = 0.95,
    max_variance_inflation: float = 10.0,
    min_overlap: float = 0.05,
) -> StyleControlled:
    """Win rate of one model over a baseline at equal style.

    ``scores`` of the model in [0, 1], shape (rows,); ``style`` differences, model minus baseline, shape (rows,) or
    (rows, features), 0 where the two are alike; ``covariates`` of the prompt such as its difficulty, shape (rows, k),
    are averaged over. Refuses, with ``adjusted`` None, where the styles hardly overlap or separate the verdicts. Where
    all styles are equal the adjusted rate is the raw one; with the two models swapped it is one minus itself.
    """
    y = floats(scores, "scores", low=0, high=1)
    features = _columns(style, len(y), "style")
    inflation, overlap = _identification(features)
    raw = wilson(y, clusters, level=level)
    adjusted: Interval | None = None
    coefficients: tuple[float, ...] = ()
    reason = ""
    if inflation > max_variance_inflation or overlap < min_overlap:
        reason = (
            f"not identified: {overlap:.1%} of the rows lie on the rarer side of equal style (at least {min_overlap:.0%} "
            f"are needed) and the variance inflation is {inflation:.1f} (at most {max_variance_inflation:g})"
        )
    else:
        others = _columns(covariates, len(y), "covariates") if covariates is not None else np.empty((len(y), 0))
        fit = _at_equal_style(y, features, others)
        if fit is None:
            reason = "not identified: style or covariates separate the wins from the losses"
        else:
            rate, influence, coefficients = fit
            _, se, n = clustered_mean(rate + influence, clusters)
            adjusted = wilson_from_se(
                rate, se, n, level=level, method="style-adjusted logistic, influence function, wilson"
            )
    return StyleControlled(
        raw=raw,
        adjusted=adjusted,
        coefficients=coefficients,
        variance_inflation=inflation,
        overlap=overlap,
        reason=reason,
        max_variance_inflation=max_variance_inflation,
        min_overlap=min_overlap,
    )


def length_controlled_bootstrap(
    scores: ArrayLike,
    style: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    covariates: ArrayLike | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """The rate of ``length_controlled`` with the error of a bootstrap of prompts, every draw fitted anew.

    Slow and obvious beside the influence function: the two agree. Takes the same arrays; the gates are the caller's.
    Raises UserError where the fit runs off.
    """
    y = floats(scores, "scores", low=0, high=1)
    features = _columns(style, len(y), "style")
    others = _columns(covariates, len(y), "covariates") if covariates is not None else np.empty((len(y), 0))
    fit = _at_equal_style(y, features, others)
    if fit is None:
        raise UserError("not identified: style or covariates separate the wins from the losses")
    design, equal, _ = _designs(features, others)
    index, count = cluster_index(clusters, len(y))
    rates = []
    for weights in cluster_draws(count, draws, seed):
        rows = weights[:, index]
        fitted = fit_logistic_draws(design, y, rows, ridge=RIDGE)
        rates.append((rows * sigmoid(fitted @ equal.T)).sum(axis=1) / rows.sum(axis=1))
    replicates = np.concatenate(rates)
    good = replicates[np.isfinite(replicates)]
    return from_replicates(
        fit[0], good, count, level=level, bounds=(0, 1),
        method=f"style-adjusted logistic, cluster bootstrap, {draws} draws, seed {seed}",
        note=f"{len(replicates) - len(good)} draws could not be fitted" if len(good) < len(replicates) else "",
    )  # fmt: skip


def length_feature(model: ArrayLike, baseline: ArrayLike) -> Floats:
    """``tanh`` of the difference of two columns of lengths in units of its standard deviation; 0 where all are alike."""
    difference = floats(model, "model lengths") - floats(baseline, "baseline lengths")
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    return np.tanh(difference / spread) if spread else np.sign(difference)


def relative_feature(model: ArrayLike, baseline: ArrayLike) -> Floats:
    """``(a - b)/(a + b)`` of two columns of counts, 0 where both are 0; for lengths, headers, lists, bold."""
    a, b = floats(model, "model counts", low=0), floats(baseline, "baseline counts", low=0)
    return (a - b) / np.where(a + b == 0, 1, a + b)


def _at_equal_style(y: Floats, style: Floats, covariates: Floats) -> tuple[float, Floats, tuple[float, ...]] | None:
    """Rate at style 0, the influence of each row on it, and the style coefficients; None where the fit runs off."""
    design, equal, varies = _designs(style, covariates)
    if design.shape[1] == 1:
        return float(y.mean()), y - y.mean(), (0.0,) * len(varies)
    ridge = np.full(design.shape[1], RIDGE)
    ridge[0] = 0
    fitted = fit_logistic(design, y, ridge=ridge)
    if fitted is None:
        return None
    p, p_equal = sigmoid(design @ fitted), sigmoid(equal @ fitted)
    information = design.T @ (design * (p * (1 - p))[:, None]) / len(y)
    scale = np.sqrt((design**2).mean(axis=0))
    if np.linalg.eigvalsh(information / np.outer(scale, scale)).min() < 1e-6:
        return None
    slope = (p_equal * (1 - p_equal)) @ equal / len(y)
    rate = float(p_equal.mean())
    influence = p_equal - rate + (design @ np.linalg.solve(information, slope)) * (y - p)
    coefficients = np.zeros(len(varies))
    coefficients[varies] = fitted[1 : 1 + varies.sum()]
    return rate, influence, tuple(coefficients.tolist())


def _designs(style: Floats, covariates: Floats) -> tuple[Floats, Floats, Bools]:
    """The rows as they are and at equal style, with an intercept; and which style features vary."""
    varies: Bools = (style != 0).any(axis=0)
    centred = covariates - covariates.mean(axis=0)
    design = np.column_stack([np.ones(len(style)), style[:, varies], centred[:, np.ptp(centred, axis=0) > 0]])
    equal = design.copy()
    equal[:, 1 : 1 + varies.sum()] = 0
    return design, equal, varies


def _identification(features: Floats) -> tuple[float, float]:
    """Variance inflation of the intercept, and the smallest share of rows on one side of equal style."""
    mean = features.mean(axis=0)
    overlap = float(np.minimum((features <= 0).mean(axis=0), (features >= 0).mean(axis=0)).min())
    spread = (features - mean).T @ (features - mean) / len(features)
    solution, *_ = np.linalg.lstsq(spread, mean, rcond=None)
    if not np.allclose(spread @ solution, mean, atol=1e-9):
        return math.inf, overlap
    return 1 + float(mean @ solution), overlap


def _columns(values: ArrayLike, rows: int, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) != rows or not np.isfinite(array).all():
        raise UserError(f"{name} must be finite, one row for each of the {rows} scores; its shape is {array.shape}")
    return array


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleRanking(Ranking):
    """Strengths at equal style, and what the judge pays for style."""

    coefficients: tuple[float, ...]
    coefficient_errors: tuple[float, ...]


def style_controlled_ranking(
    a: ArrayLike, b: ArrayLike, scores: ArrayLike, style: ArrayLike, clusters: ArrayLike | None = None
) -> StyleRanking:
    """Bradley-Terry strengths at equal style: ``logit P(a beats b) = r_a - r_b + coefficients . style``.

    ``style`` has shape (games,) or (games, features), ``a`` minus ``b``; the rest as in ``bradley_terry``. Unpenalised
    and never centred, with the sandwich covariance clustered by ``clusters``. Pooling many models identifies the style
    coefficients far better than one pair does. Raises UserError where the win graph is not connected or style
    separates the verdicts.
    """
    played = games(a, b, scores, clusters)
    if len(strongly_connected(played.wins())) > 1:
        raise UserError("the win graph is not strongly connected: no finite strengths exist, with or without style")
    k, rows = len(played.models), np.arange(len(played.score))
    models = np.zeros((len(rows), k))
    models[rows, played.a], models[rows, played.b] = 1, -1
    contrasts = np.vstack([np.eye(k - 1), -np.ones(k - 1)])  # strengths of mean 0 from k - 1 free numbers
    design = np.hstack([models @ contrasts, _columns(style, len(rows), "style")])
    fitted = fit_logistic(design, played.score)
    if fitted is None:
        raise UserError("style and strengths cannot be told apart in these games: more models, or less extreme styles")
    p = sigmoid(design @ fitted)
    bread = np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))
    totals = np.zeros((played.clusters, design.shape[1]))
    np.add.at(totals, played.cluster, design * (played.score - p)[:, None])
    covariance = sandwich(bread, totals, played, k - 1)
    return StyleRanking(
        models=played.models,
        ratings=contrasts @ fitted[: k - 1],
        covariance=contrasts @ covariance[: k - 1, : k - 1] @ contrasts.T,
        groups=(played.models,),
        games=len(rows),
        n=played.clusters,
        prior=0.0,
        method="style-controlled bradley_terry, sandwich clustered by prompt",
        coefficients=tuple(fitted[k - 1 :].tolist()),
        coefficient_errors=tuple(np.sqrt(np.diag(covariance)[k - 1 :]).tolist()),
    )
