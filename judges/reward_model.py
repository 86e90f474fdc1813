"""Score answers with a reward model: any checkpoint that gives a conversation one number.

A whole answer is one score (an outcome reward model). With ``steps`` the answer is cut into steps, each prefix is scored,
and the step scores are aggregated as process reward models are (Lightman et al., arXiv 2305.20050: product; Wang et al.,
arXiv 2312.08935: minimum; the last step is the whole answer). The step scores stay in the metadata.

    rlhf-eval judge --judge reward_model --judge-model hf:path/to/reward-model
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlhf_eval.models.base import Conversation, Model
from rlhf_eval.records import Completion, Message, Prompt, Verdict

ARITY = 1

Aggregate = Literal["last", "min", "mean", "product"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the reward model judge."""

    steps: Literal["whole", "paragraphs", "lines"] = "whole"
    """whole: one score for the answer; else one for each paragraph or line, given all before it."""
    aggregate: Aggregate = "last"
    """How step scores become one: last, min, mean, or product."""
    probability: bool = False
    """Put each score through the logistic function: for models whose score is a log-odds, as most process models' is."""

    def __post_init__(self) -> None:
        if self.aggregate == "product" and not self.probability:
            raise ValueError("a product of unbounded scores means nothing; set probability=true with aggregate=product")


def prefixes(text: str, steps: str) -> list[str]:
    """``text`` up to the end of each of its steps; the last one is all of it. Blank steps are none."""
    if steps == "whole":
        return [text]
    cut = r"\n\s*\n" if steps == "paragraphs" else r"\n"
    ends = [match.start() for match in re.finditer(cut, text)]
    found = [text[:end] for before, end in zip([0, *ends], ends, strict=False) if text[before:end].strip()]
    tail = text[ends[-1] :] if ends else text
    return [*found, text] if tail.strip() or not found else [*found[:-1], text]


def aggregated(scores: Sequence[float], how: Aggregate) -> float:
    """One score from those of the steps."""
    if how == "last":
        return scores[-1]
    if how == "min":
        return min(scores)
    return sum(scores) / len(scores) if how == "mean" else math.prod(scores)


def sigmoid(score: float) -> float:
    """``1/(1 + exp(-score))``, without overflow."""
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model, config: Config) -> Verdict:
    """The reward of one completion, in the model's own units; raises RequestFailed where the model gives none."""
    texts = prefixes(completions[0].text, config.steps)
    conversations: list[Conversation] = [(*prompt.messages, Message("assistant", text)) for text in texts]
    scores = await model.score(conversations)
    if config.probability:
        scores = [sigmoid(score) for score in scores]
    metadata = {"steps": list(scores)} if config.steps != "whole" else {}
    return Verdict(scores=(aggregated(scores, config.aggregate),), metadata=metadata)
