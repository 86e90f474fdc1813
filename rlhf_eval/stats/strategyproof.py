"""Several labelers, one reward: rules that put their weights together, and how far each labeler can bend them by lying.

A labeler i has a linear reward ``theta_i . phi`` over fixed, centred features; what is aggregated are the weights that a
Bradley-Terry fit reads from its labels. A decision is a direction ``z``: where every feature can be had more or less of
(a hyper-rectangle of policies), ``z`` is in {-1, 0, 1} for each; where there are candidates, it is the best candidate's
features. Labeler i's utility is ``theta_i . z``.

With the low median of exactly known weights no labeler gains by lying in a hyper-rectangle; the pessimistic median, which
stays at the reference where labelers are unsure, gives up as much of that as they are unsure of. With a set of candidates
the guarantee is gone for every rule: what counts then is the gain that ``manipulate`` finds. The median depends on the
basis of the features: fix it, and say which.

Source: Kleine Buening et al., "Strategyproof RLHF" (arXiv 2503.09561): pessimistic median of MLEs, algorithm 1, and the
simulation of appendix C. The box in place of their quadratic program holds their confidence set, hence is more cautious.

    theta = np.stack([fit(x, label) for x, label in crowd])
    influence(theta, "median").dropped
    manipulate(theta, 0, rule="mean", seed=1).gain
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats, Ints
from rlhf_eval.stats.logistic import fit_logistic, sigmoid

Rule = Literal["mean", "median", "pessimistic_mean", "pessimistic_median", "maxmin", "item_median"]
"""``pooled`` is no rule of weights: fit one labeler to everybody's labels (``pooled``)."""

EXAGGERATION = 10.0


def low_median(values: Floats) -> Floats:
    """The order statistic ``(k - 1) // 2`` along the first axis: the median, or the lower of the two in the middle.

    The mean of the two in the middle, which ``np.median`` takes, can be moved by exaggerating.
    """
    ordered: Floats = np.sort(values, axis=0)[(len(values) - 1) // 2]
    return ordered


def fit(x: Floats, label: Floats, *, ridge: float = 1e-3, bound: float = np.inf) -> Floats:
    """A labeler's weights: the Bradley-Terry maximum likelihood on differences ``x`` of shape (pairs, features).

    ``label`` in [0, 1] is the share of the first answer. The ridge is on the mean loss and keeps separable labels finite;
    ``bound`` is the longest vector. Raises UserError where the fit fails.
    """
    weights = fit_logistic(x, label, weights=np.full(len(x), 1 / len(x)), ridge=ridge)
    if weights is None:
        raise UserError(f"a labeler's {len(x)} labels do not determine {x.shape[1]} weights; raise the ridge")
    length = float(np.linalg.norm(weights))
    return weights if length <= bound else weights * (bound / length)


def pooled(x: Sequence[Floats], label: Sequence[Floats], *, ridge: float = 1e-3, bound: float = np.inf) -> Floats:
    """The weights of one labeler who gave everybody's labels: what training on a mixed file does."""
    return fit(np.concatenate(x), np.concatenate(label), ridge=ridge, bound=bound)


def half_widths(x: Floats, radius: float, *, ridge: float = 1e-3) -> Floats:
    """How far each weight may be off: ``radius * sqrt((Sigma^-1)_jj)``, ``Sigma`` the mean of ``x x'``; shape (features,).

    Theory has ``radius`` grow as ``sqrt((d + log(k / delta)) / n)``; its constant is useless at small n, .2 of it works.
    """
    sigma = x.T @ x / len(x) + ridge * np.eye(x.shape[1])
    width: Floats = radius * np.sqrt(np.diag(np.linalg.inv(sigma)))
    return width


def box(theta: Floats, half: Floats, center: Callable[[Floats], Floats] = low_median) -> tuple[Floats, Floats]:
    """Lowest and highest aggregate weights when every labeler's are off by up to the half-widths; of shape (features,)."""
    return center(theta - half), center(theta + half)


def steer(theta: Floats, rule: Rule, *, half: Floats | float = 0.0) -> Floats:
    """The direction that a rule takes in a hyper-rectangle: 1, -1, or 0 where it stays at the reference.

    ``theta`` and ``half`` have shape (labelers, features). Maxmin may mix, and then lies between -1 and 1.
    """
    if rule == "maxmin":
        return _maxmin(theta)
    if rule in ("mean", "pessimistic_mean"):
        low, high = box(theta, half * (rule == "pessimistic_mean") + 0 * theta, lambda v: v.mean(axis=0))
    elif rule in ("median", "pessimistic_median"):
        low, high = box(theta, half * (rule == "pessimistic_median") + 0 * theta)
    else:
        raise UserError(f"'{rule}' scores candidates; in a hyper-rectangle it is 'median'")
    direction: Floats = (low > 0).astype(float) - (high < 0)
    return direction


def scores(theta: Floats, candidates: Floats, rule: Rule, *, half: Floats | float = 0.0) -> Floats:
    """What a rule gives to each candidate: shape (candidates,), from features of shape (candidates, features)."""
    each = candidates @ theta.T
    if rule == "item_median":
        return low_median(each.T)
    if rule == "maxmin":
        worst: Floats = each.min(axis=1)
        return worst
    center = low_median if "median" in rule else _mean
    low, high = box(theta, half * rule.startswith("pessimistic") + 0 * theta, center)
    found: Floats = np.minimum(low * candidates, high * candidates).sum(axis=1)
    return found


def decide(theta: Floats, rule: Rule, *, candidates: Floats | None = None, half: Floats | float = 0.0) -> Floats:
    """The direction, or the features of the best candidate (the first of equals).

    ``candidates`` have shape (candidates, features), or (sets, candidates, features) where one of each set is taken: then
    the mean of those.
    """
    if candidates is None:
        return steer(theta, rule, half=half)
    sets = candidates[None] if candidates.ndim == 2 else candidates
    each = scores(theta, sets.reshape(-1, sets.shape[-1]), rule, half=half).reshape(sets.shape[:2])
    best: Floats = sets[np.arange(len(sets)), each.argmax(axis=1)].mean(axis=0)
    return best


def _mean(values: Floats) -> Floats:
    found: Floats = values.mean(axis=0)
    return found


def _maxmin(theta: Floats) -> Floats:
    """The direction whose worst-off labeler is best off: a linear program in ``(z, worst)``."""
    k, d = theta.shape
    found = scipy.optimize.linprog(
        np.r_[np.zeros(d), -1.0],
        A_ub=np.c_[-theta, np.ones(k)],
        b_ub=np.zeros(k),
        bounds=[(-1, 1)] * d + [(None, None)],
    )
    if found.x is None:
        raise UserError(f"the maxmin direction was not found: {found.message}")
    direction: Floats = found.x[:d]
    return direction


def welfare(theta: Floats, direction: Floats) -> float:
    """Mean utility of the labelers."""
    return float((theta @ direction).mean())


def suboptimality(theta: Floats, direction: Floats, *, candidates: Floats | None = None) -> float:
    """Share of the welfare that could be had and is not: 0 is the best decision for all together, 1 the reference."""
    best = (
        float(np.abs(theta.mean(axis=0)).sum())
        if candidates is None
        else float((candidates @ theta.mean(axis=0)).max())
    )
    return 1 - welfare(theta, direction) / best


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """How much each labeler moves the aggregate, as shares of its length; shape (labelers,)."""

    dropped: Floats
    """Distance that it moves when the labeler is left out."""
    exaggerated: Floats
    """Distance that it moves when the labeler states ten times its weights."""
    turned: Ints
    """Features whose direction changes when the labeler is left out."""


def influence(theta: Floats, rule: Literal["mean", "median"] = "median") -> Influence:
    """What each labeler does to the mean or the low median; raises UserError with fewer than two."""
    if len(theta) < 2:
        raise UserError("the influence of a labeler is measured against the others; there is only one")
    center = low_median if rule == "median" else _mean
    whole = center(theta)
    size = float(np.linalg.norm(whole)) or 1.0
    without = [center(np.delete(theta, i, axis=0)) for i in range(len(theta))]
    louder = [
        center(np.where(np.arange(len(theta))[:, None] == i, EXAGGERATION * theta, theta)) for i in range(len(theta))
    ]
    return Influence(
        dropped=np.array([np.linalg.norm(w - whole) / size for w in without]),
        exaggerated=np.array([np.linalg.norm(w - whole) / size for w in louder]),
        turned=np.array([(np.sign(w) != np.sign(whole)).sum() for w in without]),
    )


def label_influence(votes: Floats, how: Literal["mean", "majority", "low_median"] = "majority") -> Floats:
    """1 where an item's winner changes when a labeler is left out, else 0; shape (items, labelers).

    ``votes`` has the same shape: the share of the first answer, NaN where a labeler said nothing. NaN where the labeler did
    not vote on the item, or was alone. Raises UserError with fewer than two labelers.
    """
    if votes.ndim != 2 or votes.shape[1] < 2:
        raise UserError(f"the influence of a labeler needs votes of several; these have shape {votes.shape}")
    whole, found = _winners(votes, how), np.full(votes.shape, np.nan)
    for i in range(votes.shape[1]):
        shared = ~np.isnan(votes[:, i]) & (np.isfinite(votes).sum(axis=1) > 1)
        found[shared, i] = _winners(np.delete(votes, i, axis=1)[shared], how) != whole[shared]
    return found


def _winners(votes: Floats, how: str) -> Floats:
    """1, -1 or 0 (a tie) for each item; an item nobody voted on is a tie."""
    said = np.where(np.isnan(votes), np.nan, np.sign(votes - 0.5) / 2 + 0.5) if how == "majority" else votes
    if how == "low_median":
        known = np.isfinite(said).sum(axis=1)
        ordered = np.sort(said, axis=1)  # NaN sorts last
        central = ordered[np.arange(len(said)), np.maximum(known - 1, 0) // 2]
    else:
        known = np.maximum(np.isfinite(said).sum(axis=1), 1)
        central = np.where(np.isfinite(said).any(axis=1), np.nansum(said, axis=1) / known, 0.5)
    winners: Floats = np.sign(np.round(np.nan_to_num(central, nan=0.5) - 0.5, 12))
    return winners


@dataclass(frozen=True, slots=True, kw_only=True)
class Manipulation:
    """What a labeler can gain by lying."""

    gain: float
    """Utility of the best lie found, minus that of the truth; 0 where none pays. A lower bound: the search is no proof."""
    relative: float
    """The same as a share of the most that the labeler could ever have."""
    report: Floats
    """The best report found: weights, shape (features,)."""
    truthful: float
    """The labeler's utility when it tells the truth."""


def manipulate(
    theta: Floats,
    labeler: int,
    *,
    rule: Rule,
    candidates: Floats | None = None,
    half: Floats | float = 0.0,
    steps: int = 200,
    seed: int = 0,
) -> Manipulation:
    """The most that a labeler gains by reporting other weights, when all weights are known exactly.

    Tries the exaggerations of each sign, then ``steps`` steps of simultaneous-perturbation ascent on its own utility.
    """

    def utility(report: Floats) -> float:
        told = theta.copy()
        told[labeler] = report
        return float(theta[labeler] @ decide(told, rule, candidates=candidates, half=half))

    return _search(utility, theta[labeler], candidates, steps, seed)


def manipulate_labels(
    x: Sequence[Floats],
    label: Sequence[Floats],
    labeler: int,
    *,
    rule: Rule | Literal["pooled"],
    truth: Floats | None = None,
    candidates: Floats | None = None,
    radius: float = 0.0,
    ridge: float = 1e-3,
    bound: float = np.inf,
    steps: int = 200,
    seed: int = 0,
) -> Manipulation:
    """The same where weights are fitted: the labeler relabels its own pairs as somebody of other weights would.

    ``x`` and ``label`` hold one array a labeler. ``truth`` are the labeler's own weights, by default the fitted ones.
    Every report answers with the same random numbers, so that two reports differ in nothing else.
    """
    others = [fit(a, y, ridge=ridge, bound=bound) for a, y in zip(x, label, strict=True)]
    half = np.stack([half_widths(a, radius, ridge=ridge) for a in x])
    own = others[labeler] if truth is None else truth
    draws = np.random.default_rng([0x51, seed]).random(len(x[labeler]))

    def decision(said: Floats) -> Floats:
        if rule == "pooled":
            told = [*label[:labeler], said, *label[labeler + 1 :]]
            weights = pooled(x, told, ridge=ridge, bound=bound)
            return decide(weights[None], "mean", candidates=candidates)
        told_weights = np.stack(others)
        told_weights[labeler] = fit(x[labeler], said, ridge=ridge, bound=bound)
        return decide(told_weights, rule, candidates=candidates, half=half)

    def utility(report: Floats) -> float:
        return float(own @ decision((draws < sigmoid(x[labeler] @ report)).astype(float)))

    return _search(utility, own, candidates, steps, seed)


def _search(
    utility: Callable[[Floats], float], own: Floats, candidates: Floats | None, steps: int, seed: int
) -> Manipulation:
    """The best of some plain lies and of an ascent from the truth (SPSA, Spall 1992)."""
    rng = np.random.default_rng(seed)
    truthful = utility(own)
    best, report = truthful, own
    scale = float(np.linalg.norm(own)) or 1.0
    plain = [EXAGGERATION * own, EXAGGERATION * scale * np.sign(own), -own]
    if candidates is not None and candidates.ndim == 2:
        plain += [EXAGGERATION * scale * row for row in candidates]
    for lie in plain:
        value = utility(lie)
        if value > best:
            best, report = value, lie
    at = own.copy()
    for t in range(steps):
        # The usual exponents; steps of half the vector's length at first, for utilities that jump.
        step, probe = 0.5 * scale / (t + 1) ** 0.602, 0.5 * scale / (t + 1) ** 0.101
        direction = rng.choice([-1.0, 1.0], size=len(own))
        up, down = at + probe * direction, at - probe * direction
        values = utility(up), utility(down)
        for value, lie in zip(values, (up, down), strict=True):
            if value > best:
                best, report = value, lie
        at = at + step * np.sign(values[0] - values[1]) * direction
    most = float(np.abs(own).sum()) if candidates is None else float((candidates @ own).max(axis=-1).mean())
    return Manipulation(
        gain=best - truthful, relative=(best - truthful) / most if most else 0.0, report=report, truthful=truthful
    )
