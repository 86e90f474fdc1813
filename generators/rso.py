"""Statistical rejection sampling (RSO): draw answers as the optimal policy would, then pair them by reward.

A candidate is accepted with probability ``exp((r - r_max) / beta)``, the ratio of the optimal policy of the KL-regularised
objective to the policy that sampled; rounds go on until ``accept`` answers of a prompt are taken (Liu et al., arXiv
2309.06657, algorithm 1). At small beta it is best-of-n, at large beta it is plain sampling. The accepted answers are the
SFT set; drawn two by two, they are the pairs ("first-round" of the paper).

    rlhf-eval pairs --rule rso --set beta=0.5 --set accept=4
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlhf_eval.stages.matrix import Bools, Ints, Matrix, dice, place_in_group
from rlhf_eval.stages.pairs import Choice

CONTROL = "random_per_prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of statistical rejection sampling."""

    beta: float = 0.5
    """Strength of the KL penalty that the imitated policy was trained with, in score points."""
    accept: int = 4
    """Answers taken a prompt; prompts with fewer use all of them."""
    draw_seed: int = 0
    """Draws the acceptances and the pairs."""

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta}; it must be over 0")
        if self.accept < 1:
            raise ValueError(f"accept is {self.accept}; at least 1 answer is taken")


def choose(matrix: Matrix, config: Config) -> Choice:
    """The accepted answers, and one candidate for every two of them."""
    rng = dice(config.draw_seed)
    accepted = accept(matrix, config.beta, config.accept, rng)
    kept = np.flatnonzero(accepted)
    drawn = matrix.draw(accepted, rng, most=config.accept)
    place = place_in_group(matrix.prompt[drawn])
    first = np.flatnonzero((place[:-1] % 2 == 0) & (matrix.prompt[drawn[:-1]] == matrix.prompt[drawn[1:]]))
    a, b = drawn[first], drawn[first + 1]
    swap = matrix.score[a] < matrix.score[b]
    return Choice(chosen=np.where(swap, b, a), rejected=np.where(swap, a, b), kept=kept)


def accept(matrix: Matrix, beta: float, most: int, rng: np.random.Generator) -> Bools:
    """Which answers are taken, at most ``most`` of each prompt; shape (completions,).

    Every round compares the answers that are left with the best of them, so at least one of each prompt is taken.
    """
    taken = np.zeros(matrix.size, dtype=np.bool_)
    open_prompt = matrix.counts > 0
    while open_prompt.any():
        left = np.flatnonzero(~taken & open_prompt[matrix.prompt])
        if not len(left):
            break
        prompt = matrix.prompt[left]
        top = np.full(matrix.prompts, -np.inf)
        np.maximum.at(top, prompt, matrix.score[left])
        passed = left[rng.random(len(left)) < np.exp((matrix.score[left] - top[prompt]) / beta)]
        room = most - _count(matrix, taken)
        passed = passed[place_in_group(matrix.prompt[passed]) < room[matrix.prompt[passed]]]
        taken[passed] = True
        open_prompt &= _count(matrix, taken) < np.minimum(most, matrix.counts)
    return taken


def _count(matrix: Matrix, taken: Bools) -> Ints:
    return np.bincount(matrix.prompt[taken], minlength=matrix.prompts)
