"""Rankings by counting and by eigenvectors: simple, without a model of chance, and without errors of their own.

They are here to be compared with; rank with ``bradley_terry``. ``eigenvector`` is the principal eigenvector of "who lost to
whom", so its highest score belongs to the loser, as the package whose numbers it reproduces has it.

Sources: Page et al. (1999) for PageRank; conventions of evalica (arXiv 2412.11314).

    from rlhf_eval.stats.centrality import counting
    counting(["x", "y", "x"], ["y", "z", "z"], [1, .5, 0])
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.bradley_terry import games


def counting(a: ArrayLike, b: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """Wins of each model, a tie counting half; arguments as in ``bradley_terry.games``."""
    played = games(a, b, scores)
    return dict(zip(played.models, played.wins().sum(axis=1).tolist(), strict=True))


def average_win_rate(a: ArrayLike, b: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """Mean over a model's opponents of its share of the games against each."""
    played = games(a, b, scores)
    wins = played.wins()
    total = wins + wins.T
    rates = np.divide(wins, total, out=np.full_like(wins, np.nan), where=total > 0)
    return dict(zip(played.models, np.nanmean(rates, axis=1).tolist(), strict=True))


def eigenvector(a: ArrayLike, b: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """Principal eigenvector, of length 1, of the table of losses: a model is high if high ones beat it often."""
    played = games(a, b, scores)
    return dict(zip(played.models, _principal(played.wins().T).tolist(), strict=True))


def pagerank(a: ArrayLike, b: ArrayLike, scores: ArrayLike, *, damping: float = 0.85) -> dict[str, float]:
    """Share of the time that a walker spends with each model who goes from a loser to one of its winners.

    With chance ``1 - damping`` the walker jumps to any model, as it does from a model that never lost.
    """
    played = games(a, b, scores)
    k = len(played.models)
    steps = played.wins().T
    lost = steps.sum(axis=1, keepdims=True)
    steps = np.where(lost > 0, steps / np.where(lost > 0, lost, 1), 1 / k)
    visits = _principal((damping * steps + (1 - damping) / k).T)
    return dict(zip(played.models, (visits / visits.sum()).tolist(), strict=True))


def _principal(matrix: Floats) -> Floats:
    """The non-negative eigenvector of the largest eigenvalue, by power iteration; shape (n,), length 1."""
    vector = np.full(len(matrix), 1 / np.sqrt(len(matrix)))
    for _ in range(10_000):
        following = matrix @ vector
        following = following / (np.linalg.norm(following) or 1.0)
        if np.abs(following - vector).max() < 1e-12:
            return np.asarray(following, dtype=np.float64)
        vector = following
    return vector
