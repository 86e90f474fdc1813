"""The matched control of ``top_per_prompt``: one answer a prompt, drawn without a look at its reward.

Same number of demonstrations, same prompts, same judged answers (RLHF book, arXiv 2504.12501, code of the chapter on
rejection sampling). What rejection sampling gains, it gains over this.

    rlhf-eval pairs --rule random_per_prompt
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf_eval.stages.matrix import Matrix, dice
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the random answer per prompt."""

    draw_seed: int = 0
    """Draws the answers; another one draws others."""


def choose(matrix: Matrix, config: Config) -> Choice:
    """A random answer of every prompt that has a judged one."""
    everybody = np.ones(matrix.size, dtype=np.bool_)
    return Choice(kept=matrix.draw(everybody, dice(config.draw_seed)))
