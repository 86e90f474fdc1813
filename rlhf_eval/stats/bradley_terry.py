"""Bradley-Terry strengths from pairwise verdicts, with a prompt-clustered covariance and a bootstrap.

Games are counted once into a table of wins, where Newton's method converges in a handful of steps; a thousand
bootstrap refits are one batched solve. Ties and soft verdicts enter as shares, which ranks rightly and needs the
sandwich covariance. Where a group of models never loses to the rest the maximum likelihood is infinite: the fit says
so and falls back on one phantom tie of each model against the average, instead of printing a number that means
nothing.

Sources: Bradley and Terry (1952); Ford (1957) for the connectivity condition; Huber (1967) for the sandwich.

    from rlhf_eval.stats.bradley_terry import bradley_terry
    bradley_terry(["x", "y", "x"], ["y", "z", "z"], [1, .5, 0], clusters=prompt_ids).ratings
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Bools, Floats, Ints, cluster_index, floats, same_length
from rlhf_eval.stats.bootstrap import cluster_draws
from rlhf_eval.stats.intervals import NARROW, Interval, t_quantile

LINK = 0.5
"""Games that a model must have won against another to be linked to it: one tie. The losers of soft verdicts win a little
of every game, and strengths that rest on that alone are as good as infinite."""
NO_SPREAD = 1e12
"""How many times less than yes-or-no verdicts what varies by rounding alone varies."""
UNSEEN = 4.0
"""Prompts of a kind that may well be missing from a sample: none of n bounds its share by about 4/n."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Strengths of models on the log-odds scale, with mean 0, and what is known about their errors."""

    models: tuple[str, ...]
    ratings: Floats
    """Log-strengths, shape (models,): ``P(i beats j) = sigmoid(ratings[i] - ratings[j])`` where there are no ties."""
    covariance: Floats
    """Shape (models, models); its rows sum to 0."""
    groups: tuple[tuple[str, ...], ...]
    """Sets of models that beat each other, directly or not; more than one means that the likelihood has no maximum."""
    games: int
    n: int
    """Clusters (prompts), or games where no clusters were given."""
    prior: float
    """Phantom ties that each model was given against the average."""
    method: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Games:
    """Checked comparisons: model numbers ``a`` and ``b``, the score of ``a``, and the cluster of each game."""

    models: tuple[str, ...]
    a: Ints
    b: Ints
    score: Floats
    cluster: Ints
    clusters: int

    def wins(self) -> Floats:
        """How much each model (row) won against each other (column), shape (models, models)."""
        k = len(self.models)
        table = np.zeros((k, k))
        np.add.at(table, (self.a, self.b), self.score)
        np.add.at(table, (self.b, self.a), 1 - self.score)
        return table


def games(a: ArrayLike, b: ArrayLike, scores: ArrayLike, clusters: ArrayLike | None = None) -> Games:
    """Check comparisons: model names ``a`` and ``b``, and the score of ``a`` (win 1, tie .5, or soft), shape (games,).

    Raises UserError when the lengths differ, a score leaves [0, 1], or a model meets itself.
    """
    first, second = np.asarray(a), np.asarray(b)
    score = floats(scores, "scores", low=0, high=1)
    n = same_length(a=first, b=second, scores=score)
    names, index = np.unique(np.concatenate([first, second]), return_inverse=True)
    left, right = index[:n].astype(np.int64), index[n:].astype(np.int64)
    if (left == right).any():
        raise UserError(f"game {int(np.argmax(left == right))} compares '{names[left[left == right][0]]}' with itself")
    cluster, count = cluster_index(clusters, n)
    models = tuple(str(name) for name in names)
    return Games(models=models, a=left, b=right, score=score, cluster=cluster, clusters=count)


def bradley_terry(
    a: ArrayLike, b: ArrayLike, scores: ArrayLike, clusters: ArrayLike | None = None, *, prior: float | None = None
) -> Ranking:
    """Fit Bradley-Terry strengths; arguments as in ``games``.

    ``prior`` is how many phantom ties each model gets against the average: by default none, and one where the win
    graph is not strongly connected, which ``note`` then says. The covariance is the sandwich clustered by
    ``clusters``; without a maximum it is the inverse information, because the residuals of an undefeated model vanish
    and take the sandwich along.
    """
    played = games(a, b, scores, clusters)
    wins = played.wins()
    groups = strongly_connected(wins)
    added = (0.0 if len(groups) == 1 else 1.0) if prior is None else prior
    if len(groups) > 1 and added == 0:
        raise UserError(f"the win graph falls into {len(groups)} groups, so no finite strengths exist; use prior=1")
    ratings = newton(wins[None], prior=added)[0]
    bread = inverse_information(ratings, wins + wins.T, prior=added)
    if len(groups) == 1:
        covariance = sandwich(bread, _scores(played, ratings), played)
        method = "bradley_terry, sandwich clustered by prompt"
    else:
        covariance, method = bread, "bradley_terry, inverse information"
    return Ranking(
        models=played.models,
        ratings=ratings - ratings.mean(),
        covariance=covariance,
        groups=tuple(tuple(played.models[i] for i in group) for group in groups),
        games=len(played.score),
        n=played.clusters,
        prior=added,
        method=method,
        note=connectivity_note(played.models, groups, added),
    )


def newton(wins: Floats, *, prior: float = 0.0, start: Floats | None = None, tolerance: float = 1e-10) -> Floats:
    """Maximum-likelihood strengths of tables of wins of shape (batch, models, models); result (batch, models).

    Every table must be strongly connected, or ``prior`` positive. Without a prior each step solves
    ``(H + 11'/K) step = gradient``: the rank-one term fills the null space of H, the common shift of all strengths.
    No step moves a strength by more than 1.
    """
    batch, k = wins.shape[:2]
    theta = np.zeros((batch, k)) if start is None else np.broadcast_to(start, (batch, k)).copy()
    total = wins + wins.transpose(0, 2, 1)
    won = wins.sum(axis=2) + prior / 2
    for _ in range(100):
        chance = scipy.special.expit(theta[:, :, None] - theta[:, None, :])
        own = scipy.special.expit(theta)
        gradient = won - (total * chance).sum(axis=2) - prior * own
        weight = total * chance * (1 - chance)
        hessian = -weight + (0 if prior else 1 / k)
        hessian[:, range(k), range(k)] += weight.sum(axis=2) + prior * own * (1 - own)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        size = np.abs(step).max(axis=1, keepdims=True)
        theta += step / np.maximum(1, size)
        if size.max() < tolerance:
            return theta
    raise UserError("the strengths did not converge: some models are too far apart for these games; use prior=1")


def inverse_information(ratings: Floats, total: Floats, *, prior: float = 0.0) -> Floats:
    """Inverse of the information about strengths with mean 0; ``total`` counts the games of every pair."""
    k = len(ratings)
    chance = scipy.special.expit(np.subtract.outer(ratings, ratings))
    weight = total * chance * (1 - chance)
    own = scipy.special.expit(ratings)
    information = np.diag(weight.sum(axis=1) + prior * own * (1 - own)) - weight
    centre = np.eye(k) - 1 / k
    inverse: Floats = centre @ np.linalg.inv(information + (0 if prior else 1 / k)) @ centre
    return inverse


def strongly_connected(wins: Floats) -> list[list[int]]:
    """Groups of models that are linked by wins in both directions, as lists of model numbers."""
    count, label = scipy.sparse.csgraph.connected_components(
        scipy.sparse.csr_matrix((wins >= LINK).astype(np.int8)), connection="strong"
    )
    return [np.flatnonzero(label == group).tolist() for group in range(count)]


def all_reached(tables: Floats) -> Bools:
    """For each table of wins (batch, models, models): does a chain of wins lead from the first model to every other?

    Both a table and its transpose must say so for a strongly connected graph; faster than ``strongly_connected`` for
    many.
    """
    edges = (tables >= LINK).astype(np.float32)
    reached = edges[:, :1, :] * 0
    reached[:, :, 0] = 1
    for _ in range(tables.shape[1]):
        further = np.minimum(reached + reached @ edges, np.float32(1))
        if (further == reached).all():
            break
        reached = further
    return np.asarray((reached > 0).all(axis=(1, 2)))


def connectivity_note(models: tuple[str, ...], groups: list[list[int]], prior: float) -> str:
    """What a reader must know when the win graph is not strongly connected; empty when it is."""
    if len(groups) == 1:
        return ""
    named = "; ".join(", ".join(models[i] for i in group) for group in groups)
    return (
        f"not connected: no wins lead both ways between the groups [{named}]; the gaps between them rest on a prior of "
        f"{prior:g} phantom ties per model, and the standard errors ignore clusters"
    )


def sandwich(bread: NDArray[np.floating], scores: Floats, played: Games, strengths: int | None = None) -> Floats:
    """Clustered covariance of coefficients: ``bread`` their inverse information, ``scores`` (clusters, coefficients).

    Where clusters do not differ (one prompt), or hardly and two models' verdicts all lie on one side of .5, their residuals
    know nothing of outcomes that were not seen: as much is added as ``UNSEEN`` more prompts of yes-or-no verdicts would
    bring. The first ``strengths`` coefficients tell, by default all.
    """
    clusters = len(scores)
    covariance: Floats = bread @ (scores.T @ scores) @ bread * (clusters / max(clusters - 1, 1))
    narrow = NARROW if _one_sided(played) else NO_SPREAD
    if (narrow * np.diag(covariance) < np.diag(bread))[:strengths].any():
        covariance = covariance + bread * UNSEEN / clusters
    return covariance


def _one_sided(played: Games) -> bool:
    """Whether some two models' verdicts lie on one side of .5 in every cluster."""
    k = len(played.models)
    pair = np.minimum(played.a, played.b) * k + np.maximum(played.a, played.b)
    lead = np.where(played.a < played.b, 1, -1) * (played.score - 0.5)
    met, index = np.unique(played.cluster * k * k + pair, return_inverse=True)
    side = np.sign(np.bincount(index, weights=lead))
    lowest, highest = np.full(k * k, 2.0), np.full(k * k, -2.0)
    np.minimum.at(lowest, met % (k * k), side)
    np.maximum.at(highest, met % (k * k), side)
    return bool(((lowest == highest) & (highest != 0)).any())


def _scores(played: Games, ratings: Floats) -> Floats:
    """The gradient of each cluster's likelihood, (clusters, models)."""
    residual = played.score - scipy.special.expit(ratings[played.a] - ratings[played.b])
    scores = np.zeros((played.clusters, len(ratings)))
    np.add.at(scores, (played.cluster, played.a), residual)
    np.add.at(scores, (played.cluster, played.b), -residual)
    return scores


def bootstrap_ratings(
    a: ArrayLike,
    b: ArrayLike,
    scores: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Floats:
    """Refits on resampled clusters, shape (draws, models), in the order of ``games(...).models``, each with mean 0.

    Replicates in which the win graph falls apart get one phantom tie per model. Raises UserError when the graph of all
    games is not connected.
    """
    played = games(a, b, scores, clusters)
    wins = played.wins()
    if len(strongly_connected(wins)) > 1:
        raise UserError("the win graph is not strongly connected; a bootstrap of infinite strengths means nothing")
    start = newton(wins[None])[0]
    return np.concatenate([_refit(tables, start) for tables in _resampled(played, draws, seed)])


def _resampled(played: Games, draws: int, seed: int) -> Iterator[Floats]:
    """Tables of wins of the resampled clusters, in blocks of shape (some draws, models, models)."""
    k = len(played.models)
    rows = np.concatenate([played.cluster, played.cluster])
    cells = np.concatenate([played.a * k + played.b, played.b * k + played.a])
    won = np.concatenate([played.score, 1 - played.score])
    table = scipy.sparse.csr_matrix((won, (rows, cells)), shape=(played.clusters, k * k))
    for weights in cluster_draws(played.clusters, draws, seed):
        for start in range(0, len(weights), 100):
            yield np.asarray(weights[start : start + 100] @ table).reshape(-1, k, k)


def _refit(tables: Floats, start: Floats) -> Floats:
    whole = all_reached(tables) & all_reached(tables.transpose(0, 2, 1))
    ratings = np.empty(tables.shape[:2])
    for prior, chosen in ((0.0, whole), (1.0, ~whole)):
        if chosen.any():
            ratings[chosen] = newton(tables[chosen], prior=prior, start=start, tolerance=1e-6)
    centred: Floats = ratings - ratings.mean(axis=1, keepdims=True)
    return centred


def rating_intervals(ranking: Ranking, *, level: float = 0.95) -> tuple[Interval, ...]:
    """An interval of each model's strength against the average of all models, in the order of ``ranking.models``."""
    t = t_quantile(level, max(ranking.n - 1, 1))
    errors = np.sqrt(np.maximum(np.diag(ranking.covariance), 0))
    return tuple(
        Interval(
            value=float(rating),
            low=float(rating - t * se),
            high=float(rating + t * se),
            se=float(se),
            n=ranking.n,
            n_eff=ranking.n,
            level=level,
            method=f"{ranking.method}, t",
            note=ranking.note,
        )
        for rating, se in zip(ranking.ratings, errors, strict=True)
    )
