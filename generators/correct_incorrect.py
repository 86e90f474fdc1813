"""Pair a correct answer with an incorrect one, by a verifier's or a gold score.

For prompts with one right answer (RLHF book, arXiv 2504.12501, chapter on preference data; Lambert et al., arXiv
2411.15124). A prompt that is always or never solved makes no pair: it is dropped, and the card counts it.

    rlhf-eval pairs --rule correct_incorrect --set correct=1.0 --set pairs=2
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_eval.stages.matrix import Matrix, dice, matched, place_in_group
from rlhf_eval.stages.pairs import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the correct-against-incorrect rule."""

    correct: float = 1.0
    """Score from which an answer is correct."""
    incorrect: float = 0.0
    """Score up to which it is incorrect; what lies between is neither."""
    pairs: int = 1
    """Most pairs a prompt; no answer is used twice."""
    draw_seed: int = 0
    """Draws among the correct and the incorrect answers."""

    def __post_init__(self) -> None:
        if not self.incorrect < self.correct:
            raise ValueError(f"incorrect is {self.incorrect}; it must lie under correct, which is {self.correct}")
        if self.pairs < 1:
            raise ValueError(f"pairs is {self.pairs}; at least 1 is made of each prompt")


def choose(matrix: Matrix, config: Config) -> Choice:
    """As many candidates a prompt as it has correct and incorrect answers to pair, and no more than ``pairs``."""
    rng = dice(config.draw_seed)
    right = matrix.draw(matrix.score >= config.correct, rng, most=config.pairs)
    wrong = matrix.draw(matrix.score <= config.incorrect, rng, most=config.pairs)
    width = config.pairs + 1
    keys = [matrix.prompt[side] * width + place_in_group(matrix.prompt[side]) for side in (right, wrong)]
    at, against = matched(keys[0], keys[1])
    return Choice(chosen=right[at], rejected=wrong[against], why="it has no correct and incorrect answer to pair")
