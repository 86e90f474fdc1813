"""Elo ratings: the scale, and the online update that depends on the order of the games.

Online Elo is here because leaderboards quote it. It forgets old games and has no standard error; rank with
``bradley_terry`` and print it on the Elo scale.

Source: Elo (1978), "The Rating of Chessplayers".

    from rlhf_eval.stats.elo import elo_scale, online_elo
    elo_scale(ranking.ratings)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.bradley_terry import games


def elo_scale(ratings: ArrayLike, *, anchor: float = 1000.0, points: float = 400.0) -> Floats:
    """Log-odds strengths of mean 0 as Elo points around ``anchor``: ``points`` more is odds of 10 to 1."""
    return anchor + points / math.log(10) * np.asarray(ratings, dtype=np.float64)


def online_elo(
    a: ArrayLike, b: ArrayLike, scores: ArrayLike, *, initial: float = 1000.0, k: float = 4.0, points: float = 400.0
) -> dict[str, float]:
    """Ratings after playing the games in the given order, by model; arguments as in ``bradley_terry``.

    Each game moves both models by ``k * (score - expected)``.
    """
    played = games(a, b, scores)
    ratings = [initial] * len(played.models)
    for left, right, score in zip(played.a.tolist(), played.b.tolist(), played.score.tolist(), strict=True):
        expected = 1 / (1 + 10 ** ((ratings[right] - ratings[left]) / points))
        ratings[left] += k * (score - expected)
        ratings[right] -= k * (score - expected)
    return dict(zip(played.models, ratings, strict=True))
