"""Prefer the side that a generator built to be better: with or without a constraint, revised or not, whole or corrupted.

``constraints``, ``critique_revise``, ``degrade`` and ``delta`` mark the two sides of each contrast they write. The label is
the construction's; ``agree`` keeps only pairs that stored scores confirm. For ``constraints`` the pair's prompt is the one
that states the constraint, as training needs it (RLHF book, arXiv 2504.12501, chapter on preference data).

    rlhf-eval pairs --rule contrast
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.stages.matrix import Matrix
from rlhf_eval.stages.pairs import Choice, constructed

NEEDS_SCORES = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the contrast rule."""

    agree: bool = False
    """Keep a pair only where both sides have scores and the better side's is higher."""
    probability: float = 1.0
    """What the label says about the better side being better."""

    def __post_init__(self) -> None:
        if not 0.5 < self.probability <= 1:
            raise ValueError(f"probability is {self.probability}; it must lie over .5 and up to 1")


def choose(matrix: Matrix, config: Config) -> Choice:
    """The two sides of every contrast; raises UserError where no completion belongs to one."""
    better, worse = np.flatnonzero(matrix.side == 1), np.flatnonzero(matrix.side == -1)
    if not len(better) and not len(worse):
        raise UserError(
            "no completion is a side of a contrast; generate with constraints, critique_revise, degrade or delta first"
        )
    width = int(matrix.contrast.max()) + 1
    keys = [matrix.prompt[side] * width + matrix.contrast[side] for side in (better, worse)]
    # A side may serve several opponents: one good answer stands against each of its corrupted copies.
    order = np.argsort(keys[0], kind="stable")
    at = np.searchsorted(keys[0][order], keys[1])
    known = at < len(order)
    known[known] = keys[0][order][at[known]] == keys[1][known]
    return constructed(
        matrix, better[order[at[known]]], worse[known], agree=config.agree, probability=config.probability,
        labeler="construction/contrast", why="no contrast of it has both sides",
    )  # fmt: skip
