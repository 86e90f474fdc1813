"""Prefer a strong model's answer to a weak one's, without asking a judge: delta learning.

The difference between the two matters more than how good either is (Geng et al., arXiv 2507.06187): the strong model's
answers are chosen, the weak model's rejected. Where judgments are there, ``agree`` keeps only pairs whose scores say the
same; without them the label is the construction's, and the card counts it as such.

    rlhf-eval pairs --rule delta --set strong=big --set weak=small
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.stages.matrix import Matrix, dice, matched
from rlhf_eval.stages.pairs import Choice, constructed

NEEDS_SCORES = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the delta rule."""

    strong: str = ""
    """Name of the model whose answers are chosen."""
    weak: str = ""
    """Name of the model whose answers are rejected."""
    agree: bool = False
    """Keep a pair only where both answers have scores and the strong one's is higher."""
    probability: float = 1.0
    """What the label says about the strong answer being better."""
    draw_seed: int = 0
    """Draws one answer of each model."""

    def __post_init__(self) -> None:
        if not 0.5 < self.probability <= 1:
            raise ValueError(f"probability is {self.probability}; it must lie over .5 and up to 1")


def choose(matrix: Matrix, config: Config) -> Choice:
    """One candidate a prompt that both models answered; raises UserError where one of them wrote nothing."""
    if config.strong == config.weak:
        raise UserError("delta: strong and weak are the same model; name two")
    for name in (config.strong, config.weak):
        if name not in matrix.models:
            raise UserError(f"delta: no completion is by '{name}'.{nearest(name, matrix.models)}")
    rng = dice(config.draw_seed)
    strong, weak = (
        matrix.draw(matrix.model == matrix.models.index(name), rng) for name in (config.strong, config.weak)
    )
    at, against = matched(matrix.prompt[strong], matrix.prompt[weak])
    return constructed(
        matrix, strong[at], weak[against], agree=config.agree, probability=config.probability,
        labeler=f"construction/delta({config.strong}>{config.weak})",
        why="it has not an answer of both models that fit" if config.agree else "it has not an answer of both models",
    )  # fmt: skip
