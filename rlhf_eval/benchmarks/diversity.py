"""How varied a model's answers are: within a prompt's samples, and over all prompts (CD-RLHF, arXiv 2501.11463).

``diversity`` is the product of distinct-1 to distinct-5 over the joined answers, beside it EAD, self-BLEU (high is little
variety) and the Vendi score of word counts. Distinct-n falls with length alone and Vendi grows with the number of answers,
so every number carries its answers and words, models are compared on as many answers of each prompt, and ``tokens`` cuts
them to one length too. Words are what stands between white space. With ``embedder`` the mean cosine between a prompt's
answers stands beside them. The judge ``length`` makes no call and shows the lengths.

    rlhf-eval evaluate diversity --model before=sandbox:policy --model after=hf:checkpoints/ppo --set generate.n=10
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.errors import UserError
from rlhf_eval.models.local.embedding import embed
from rlhf_eval.records import Completion, Estimate
from rlhf_eval.stats.diversity import (
    distinct_n,
    distinct_product,
    expectation_adjusted_distinct,
    mean_cosine,
    ngram_similarity,
    self_bleu,
    vendi_score,
)
from rlhf_eval.stats.intervals import Interval, bounded_mean, within
from rlhf_eval.stats.jackknife import block_jackknife

SHAPE: Shape = "answers"
JUDGE: Mapping[str, Any] = {"judge": "length"}
"""What looks at the answers, unless the user says otherwise: nothing that costs."""

Words = Sequence[str]
Measure = Callable[[Sequence[Words]], float]


def bounds(name: str, answers: int) -> tuple[float, float]:
    """What a measure of so many answers can be."""
    return {"ead": (0.0, math.inf), "vendi": (1.0, float(answers))}.get(name, (0.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the diversity suite."""

    level: float = 0.95
    """Confidence of the intervals."""
    tokens: int = 0
    """Words to which every answer is cut, and below which it is left out; 0 takes answers as they are."""
    vocabulary: int = 256_000
    """Size of the vocabulary in EAD; the published one by default."""
    bleu_answers: int = 200
    """Answers over which self-BLEU and Vendi are taken where all prompts are joined, drawn by ``seed``."""
    embedder: str = ""
    """A checkpoint (hf:PATH) whose embeddings give ``cosine``, the mean over pairs of a prompt's answers; empty: none."""
    seed: int = 0
    """Seed of that draw and of the blocks of the jackknife."""

    def measures(self) -> dict[str, Measure]:
        """Name to what is measured on a set of answers."""
        return {
            "diversity": distinct_product,
            "distinct_2": lambda answers: distinct_n(answers, n=2),
            "ead": lambda answers: expectation_adjusted_distinct(answers, vocabulary=self.vocabulary),
            "self_bleu": self_bleu,
            "vendi": lambda answers: vendi_score(ngram_similarity(answers)),
        }


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Every measure for every model: within prompts where each has several samples, and over all prompts.

    Raises UserError where there is no answer, or ``tokens`` leaves fewer than two.
    """
    answers = answers_of(evidence, config.tokens)
    if not answers:
        raise nothing_to_score("diversity", "answer")
    samples = min(len(own) for prompts in answers.values() for own in prompts.values())
    return [made for model in sorted(answers) for made in _of_model(model, answers[model], samples, config)]


def answers_of(evidence: Evidence, tokens: int) -> dict[str, dict[str, list[Words]]]:
    """Model to prompt to the words of its answers, in the order of their samples; prompts that every model answered."""
    answers = [completion for completion in evidence.completions.values() if completion.error is None]
    found: dict[str, dict[str, list[Words]]] = {c.model: defaultdict(list) for c in answers}
    for completion in sorted(answers, key=_place):
        words = completion.text.split()
        if words and len(words) >= tokens:
            found[completion.model][completion.prompt_id].append(words[: tokens or None])
    shared = set.intersection(*(set(prompts) for prompts in found.values())) if found else set()
    if found and len(shared) < 2:
        raise UserError(
            f"diversity: {len(shared)} prompts have an answer of every model"
            + (f" with at least {tokens} words" if tokens else "")
            + "; at least 2 are needed"
        )
    return {model: {p: prompts[p] for p in sorted(shared)} for model, prompts in found.items()}


def _place(completion: Completion) -> tuple[str, int, str]:
    return completion.prompt_id, completion.sample, completion.id


def _of_model(model: str, prompts: Mapping[str, list[Words]], samples: int, config: Config) -> list[Estimate]:
    groups = [own[:samples] for own in prompts.values()]
    every = [words for group in groups for words in group]
    about = {"model": model, "answers": len(every), "samples": samples,
             "mean_words": sum(map(len, every)) / len(every)}  # fmt: skip
    found = []
    for name, measure in config.measures().items():
        if samples > 1:
            inside = bounded_mean([measure(group) for group in groups], *bounds(name, samples), level=config.level)
            found.append(estimate(f"{name}, within a prompt", inside, settings=about))
        pool = _pool(groups, config) if name in ("self_bleu", "vendi") else groups
        overall = within(_overall(pool, measure, config), *bounds(name, sum(map(len, pool))))
        found.append(estimate(f"{name}, over all prompts", overall, settings=about))
    if config.embedder and samples > 1:
        unit = embed(config.embedder, [" ".join(words) for words in every]).reshape(len(groups), samples, -1)
        cosines = bounded_mean([mean_cosine(group) for group in unit], -1, 1, level=config.level)
        found.append(estimate("cosine, within a prompt", cosines, settings={**about, "embedder": config.embedder}))
    return found


def _pool(groups: Sequence[Sequence[Words]], config: Config) -> list[Sequence[Words]]:
    """As many prompts as hold ``bleu_answers`` answers: the cost of both measures grows with the square."""
    wanted = max(2, math.ceil(config.bleu_answers / len(groups[0])))
    picked = np.random.default_rng(config.seed).permutation(len(groups))[:wanted]
    return [groups[n] for n in sorted(picked.tolist())]


def _overall(groups: Sequence[Sequence[Words]], measure: Measure, config: Config) -> Interval:
    def of(kept: Sequence[int]) -> float:
        return measure([words for n in kept for words in groups[n]])

    return block_jackknife(len(groups), of, level=config.level, seed=config.seed)
