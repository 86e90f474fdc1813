"""What a ranking is worth: joint rank sets, how few games flip the leader, cycles, and which pair to judge next.

Sources: Hsu (1996) for simultaneous pairwise comparisons; Broderick, Giordano and Meager (arXiv 2011.14999) and
arXiv 2508.11847 for dropping a few games; Kendall and Babington Smith (1940) for cyclic triads.

    from rlhf_eval.stats.ranking import rank_sets
    rank_sets(bradley_terry(a, b, scores, clusters=prompts)).best
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.stats.arrays import Floats, Ints
from rlhf_eval.stats.bradley_terry import Ranking, games, inverse_information, newton, strongly_connected

Rule = Literal["uniform", "resolve", "top"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSets:
    """For each model the ranks that it can still have, all of them right at once with probability ``level``."""

    models: tuple[str, ...]
    best: tuple[int, ...]
    """One plus the number of models that are surely better."""
    worst: tuple[int, ...]
    """The number of models minus those that are surely worse."""
    critical: float
    """How many standard errors two strengths must differ by."""
    level: float
    method: str
    draws: int
    seed: int
    note: str = ""


def rank_sets(
    ranking: Ranking,
    *,
    level: float = 0.95,
    method: Literal["max_t", "bonferroni"] = "max_t",
    draws: int = 10_000,
    seed: int = 0,
) -> RankSets:
    """Simultaneous rank sets from all pairwise differences of a ranking.

    ``max_t`` simulates the largest standardised difference under the fitted covariance; ``bonferroni`` divides the
    error among the pairs and is a little wider.
    """
    k = len(ranking.models)
    sd, df = difference_errors(ranking), max(ranking.n - 1, 1)
    if method == "max_t":
        critical = _max_t(ranking.covariance, sd, df, level, draws, seed)
    elif method == "bonferroni":
        critical = float(-scipy.special.stdtrit(df, (1 - level) / (k * (k - 1))))
    else:
        raise UserError(f"unknown method '{method}'.{nearest(method, ['max_t', 'bonferroni'])}")
    above = np.subtract.outer(ranking.ratings, ranking.ratings) > critical * sd
    np.fill_diagonal(above, False)
    return RankSets(
        models=ranking.models,
        best=tuple((1 + above.sum(axis=0)).tolist()),
        worst=tuple((k - above.sum(axis=1)).tolist()),
        critical=critical,
        level=level,
        method=method,
        draws=draws,
        seed=seed,
        note=ranking.note,
    )


def difference_errors(ranking: Ranking) -> Floats:
    """Standard error of the difference of every two strengths, shape (models, models), 0 on the diagonal."""
    variance = np.diag(ranking.covariance)
    return np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2 * ranking.covariance, 0))


def _max_t(covariance: Floats, sd: Floats, df: int, level: float, draws: int, seed: int) -> float:
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((draws, len(sd))) @ root.T / np.sqrt(rng.chisquare(df, (draws, 1)) / df)
    largest = np.zeros(draws)
    for i in range(len(sd) - 1):
        spread = np.where(sd[i, i + 1 :] > 0, sd[i, i + 1 :], np.inf)
        largest = np.maximum(largest, (np.abs(z[:, i : i + 1] - z[:, i + 1 :]) / spread).max(axis=1))
    return float(np.quantile(largest, level))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragility:
    """How few games carry the first place."""

    leader: str
    runner_up: str
    gap: float
    games_to_flip: int | None
    """The smallest number of games found whose removal puts the runner-up in front; None when no such set was found."""
    share: float | None
    """``games_to_flip`` as a share of all games."""
    games: tuple[int, ...]
    """Which games, by their place in the input."""


def fragility(a: ArrayLike, b: ArrayLike, scores: ArrayLike) -> Fragility:
    """How many games must go for the two leading models to change places, found by influence and confirmed by a refit.

    Arguments as in ``bradley_terry``. The games are ordered by their approximate effect on the gap, ``e' H^{-1} x (y -
    p)/(1 - h)``; the count is the first at which the refit flips. Raises UserError where the win graph is not
    connected.
    """
    played = games(a, b, scores)
    wins = played.wins()
    if len(strongly_connected(wins)) > 1:
        raise UserError("the win graph is not strongly connected: the leader's gap is infinite or arbitrary")
    ratings = newton(wins[None])[0]
    second, first = np.argsort(ratings)[-2:]
    inverse = inverse_information(ratings, wins + wins.T)
    chance = scipy.special.expit(ratings[played.a] - ratings[played.b])
    direction = inverse[first] - inverse[second]
    leverage = (
        chance
        * (1 - chance)
        * (inverse[played.a, played.a] + inverse[played.b, played.b] - 2 * inverse[played.a, played.b])
    )
    effect = (direction[played.a] - direction[played.b]) * (played.score - chance) / np.maximum(1 - leverage, 1e-12)
    order = np.argsort(-effect, kind="stable")
    gap = float(ratings[first] - ratings[second])
    dropped = _first_flip(played.a, played.b, played.score, len(ratings), order, (int(first), int(second)))
    return Fragility(
        leader=played.models[first],
        runner_up=played.models[second],
        gap=gap,
        games_to_flip=dropped,
        share=None if dropped is None else dropped / len(order),
        games=() if dropped is None else tuple(order[:dropped].tolist()),
    )


def _first_flip(
    a: Ints, b: Ints, score: Floats, models: int, order: NDArray[np.intp], pair: tuple[int, int]
) -> int | None:
    """The smallest prefix of ``order`` whose removal reverses the pair, by bisection with a refit at each step."""

    def flips(count: int) -> bool:
        kept = order[count:]
        wins = np.zeros((models, models))
        np.add.at(wins, (a[kept], b[kept]), score[kept])
        np.add.at(wins, (b[kept], a[kept]), 1 - score[kept])
        ratings = newton(wins[None], prior=0.0 if len(strongly_connected(wins)) == 1 else 1.0)[0]
        return bool(ratings[pair[0]] < ratings[pair[1]])

    low, high = 0, len(order) // 2
    if not flips(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if flips(middle) else (middle, high)
    return high


def cyclic_triads(beats: ArrayLike) -> Floats:
    """Number of cycles i over j over k over i in tournaments, shape (...).

    ``beats`` has shape (..., models, models) with ``beats[i, j] + beats[j, i] = 1``: 1 where i beat j for observed
    triads, probabilities for their expectation under noise alone. ``trace(B^3)/3``; of ``K (K-1) (K-2)/6`` triads a
    quarter is cyclic when verdicts are coin flips.
    """
    table = np.array(beats, dtype=np.float64)
    k = table.shape[-1]
    table[..., range(k), range(k)] = 0
    count: Floats = np.trace(table @ table @ table, axis1=-2, axis2=-1) / 3
    return count


def pair_probabilities(
    ranking: Ranking, *, rule: Rule = "resolve", floor: float = 0.1, level: float = 0.95
) -> tuple[Ints, Floats]:
    """Which pair to judge next: pairs (pairs, 2) of model numbers and the probability of drawing each.

    ``resolve`` favours pairs whose order is least sure, ``P ~ P(Z > |gap|/sd)``; ``top`` does so among the models that
    may still be first; ``uniform`` draws all alike. A share ``floor`` of the draws is uniform, so that every pair
    stays reachable. Keep the probabilities with the verdicts. Valid where Bradley-Terry holds; where it does not, the
    strengths become an average over the pairs that were drawn.
    """
    if rule not in ("uniform", "resolve", "top"):
        raise UserError(f"unknown rule '{rule}'.{nearest(rule, ['uniform', 'resolve', 'top'])}")
    if not 0 < floor <= 1:
        raise UserError(f"floor is {floor}; it must lie in (0, 1], or some pairs are never judged again")
    k = len(ranking.models)
    i, j = np.triu_indices(k, 1)
    gap = np.abs(ranking.ratings[i] - ranking.ratings[j])
    weight = scipy.special.ndtr(-gap / np.maximum(difference_errors(ranking)[i, j], 1e-12))
    if rule == "uniform":
        weight = np.ones_like(weight)
    elif rule == "top":
        first = np.array(rank_sets(ranking, level=level, method="bonferroni").best) == 1
        contenders = first[i] & first[j]
        weight = weight * contenders if contenders.any() else weight
    weight = (1 - floor) * weight / max(float(weight.sum()), math.ulp(0.0)) + floor / len(i)
    return np.stack([i, j], axis=1).astype(np.int64), weight / weight.sum()
