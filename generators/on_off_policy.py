"""Pair an answer of the policy that will be trained with an answer of another model, the better one chosen.

The rule of Tulu 3 (arXiv 2411.15124, section 5.2.1): every pair has one side that the policy itself produced, so that the
gradient reaches what it does today. ``chosen`` restricts who may win.

    rlhf-eval pairs --rule on_off_policy --set policy=sandbox:policy
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.stages.matrix import Matrix, dice, matched
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the on-policy rule."""

    policy: str = ""
    """Name of the model that will be trained, as tables show it."""
    chosen: Literal["either", "on", "off"] = "either"
    """Whether the chosen side may be either, must be the policy's, or must be another's."""
    draw_seed: int = 0
    """Draws one answer of each side."""
    min_margin: float = 0.0
    """Smallest difference of scores that makes a pair; at 0 any difference does."""


def choose(matrix: Matrix, config: Config) -> Choice:
    """One candidate a prompt that has answers of both sides; raises UserError where the policy wrote nothing."""
    if config.policy not in matrix.models:
        raise UserError(f"no completion is by the policy '{config.policy}'.{nearest(config.policy, matrix.models)}")
    rng = dice(config.draw_seed)
    own = matrix.model == matrix.models.index(config.policy)
    on, off = matrix.draw(own, rng), matrix.draw(~own, rng)
    at, against = matched(matrix.prompt[on], matrix.prompt[off])
    first, second = on[at], off[against]
    swap = matrix.score[first] < matrix.score[second]
    chosen, rejected = np.where(swap, second, first), np.where(swap, first, second)
    if config.chosen != "either":
        fits = (own[chosen] == (config.chosen == "on")) | (matrix.score[chosen] == matrix.score[rejected])
        chosen, rejected = chosen[fits], rejected[fits]
    lacking = {
        "either": "an answer of the policy and one of another model",
        "on": "a pair that the policy wins",
        "off": "a pair that the policy loses",
    }
    return Choice(
        chosen=chosen,
        rejected=rejected,
        min_margin=config.min_margin,
        notes={"chosen_on_policy": own[chosen].astype(np.int64)},
        why=f"it has not {lacking[config.chosen]}",
    )
