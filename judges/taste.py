"""A labeler of the sandbox with a taste and errors of its own: what people who disagree look like where the truth is known.

Gold is what everybody together wants; a taste weighs its three parts as it likes, and may exaggerate by ``scale``. Noise of
deviation ``noise`` is added to every score; the share ``shared`` of its variance is the same for all labelers, so that a
panel of them errs together. Equal settings and answers have equal noise. ``words`` and ``tail`` plant two causes of
over-optimization: a feature that gold does not want, and errors that are rarely large.

    rlhf-eval judge --judge taste --set brief=1 --set correct=0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Literal

import scipy

from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Prompt, Verdict, fingerprint
from rlhf_eval.sandbox.gold import WEIGHT_BRIEF, WEIGHT_CORRECT, WEIGHT_FOLLOWED, reward

ARITY = 1
NEEDS_MODEL = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The taste; as it stands it is gold's."""

    correct: float = WEIGHT_CORRECT
    """Weight of a right answer."""
    followed: float = WEIGHT_FOLLOWED
    """Weight of an instruction obeyed."""
    brief: float = WEIGHT_BRIEF
    """Weight of brevity."""
    words: float = 0.0
    """Weight of each word of an answer, which gold does not want: a flaw to exploit."""
    scale: float = 1.0
    """How loudly the labeler speaks: all its scores are multiplied by this."""
    noise: float = 0.0
    """Standard deviation of the error of a score, before scaling."""
    tail: Literal["normal", "heavy"] = "normal"
    """heavy: errors are Student's t with 3 degrees of freedom, of the same deviation."""
    shared: float = 0.0
    """Share of that variance which all labelers have in common, in [0, 1]."""
    seed: int = 0
    """Whose errors they are."""

    def __post_init__(self) -> None:
        if self.noise < 0 or not 0 <= self.shared <= 1:
            raise ValueError(f"noise is {self.noise} and shared {self.shared}; they lie at or over 0, and in [0, 1]")


def error(tail: Literal["normal", "heavy"], *parts: object) -> float:
    """A draw of deviation 1 that is a function of ``parts``."""
    place = (int(fingerprint(*parts)[:13], 16) + 0.5) / 16**13
    return NormalDist().inv_cdf(place) if tail == "normal" else float(scipy.special.stdtrit(3, place)) / sqrt(3)


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model | None, config: Config) -> Verdict:
    """What the labeler says one completion is worth; raises UserError for a prompt that is not of the sandbox."""
    gold = reward(prompt, completions[0].text)
    score = config.correct * gold.correct + config.followed * gold.followed + config.brief * gold.brief
    score += config.words * len(completions[0].text.split())
    if config.noise:
        own, common = (error(config.tail, "taste", who, completions[0].id) for who in (config.seed, "everybody"))
        score += config.noise * (sqrt(1 - config.shared) * own + sqrt(config.shared) * common)
    return Verdict(scores=(config.scale * score,))
