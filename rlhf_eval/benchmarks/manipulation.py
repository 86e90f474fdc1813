"""Several labelers on the same pairs: what each could gain by lying, under the rules that put their labels together.

Each labeler's taste is a Bradley-Terry fit on plain features of the answers. It then relabels its own pairs as somebody of
another taste would, and an ascent (SPSA, 200 steps, as in Kleine Buening et al., arXiv 2503.09561, appendix C) looks for
the lie that pays best by its own taste. ``among these answers`` chooses the better answer of every pair by the joint
reward; ``if all could be had`` a direction of every feature, where the low median is proof against lies but for what
fitting leaves open. A gain is a share of the most that the labeler could have, and a lower bound: no search is a proof.
The low median depends on the features; these are the ones that it was taken over.

    rlhf-eval load pandalm path/to/PandaLM
    rlhf-eval evaluate manipulation --judgments latest --set labelers=human
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log1p

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate
from rlhf_eval.benchmarks.labelers import Votes, votes_of
from rlhf_eval.benchmarks.style import counts
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import bounded_mean
from rlhf_eval.stats.strategyproof import Rule, manipulate_labels

SHAPE: Shape = "versus"
AMONG: tuple[Rule, ...] = ("mean", "median", "item_median")
ANYTHING: tuple[Rule, ...] = ("mean", "median")
CAVEAT = (
    "among a finite set of answers no rule is proof against lies, the low median neither: what counts is the gain found, "
    "which is a lower bound"
)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the manipulation audit."""

    labelers: str = ""
    """The beginning of the names of those that count, such as human; empty takes every judge of pairs."""
    steps: int = 200
    """Steps of the search for the best lie."""
    draws: int = 3
    """Times that the labels are drawn anew; the interval is over these."""
    level: float = 0.95
    """Confidence of the intervals."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.draws < 2:
            raise ValueError(f"steps is {self.steps} and draws {self.draws}; the least are 0 and 2")


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Every labeler's best gain under every rule; raises UserError where one labelled too few pairs to have a taste."""
    votes = votes_of(evidence, config.labelers)
    gaps = differences(evidence, votes.answers)
    return [made for number in range(len(votes.names)) for made in _gains(number, votes, gaps, config)]


def differences(evidence: Evidence, answers: Sequence[tuple[str, ...]]) -> Floats:
    """First answer minus second in every feature, in deviations of these differences; (pairs, features)."""
    texts = [[evidence.completions[identity] for identity in ids] for ids in answers]
    found = np.array(
        [
            np.subtract(*(features(evidence.prompts[side.prompt_id].text, side.text) for side in sides))
            for sides in texts
        ]
    )
    spread = found.std(axis=0)
    kept: Floats = found[:, spread > 0] / spread[spread > 0]
    return kept


def features(prompt: str, answer: str) -> Floats:
    """Length, variety of words, lines, markup, figures, and words taken from the prompt."""
    words = [word.lower() for word in _WORD.findall(answer)]
    asked, total = {word.lower() for word in _WORD.findall(prompt)}, max(1, len(words))
    style = counts(answer)
    return np.array(
        [
            log1p(len(words)),
            len(set(words)) / total,
            log1p(answer.count("\n")),
            log1p(style.headers + style.lists + style.bold),
            sum(word.isdigit() for word in words) / total,
            sum(word in asked for word in words) / total,
        ]
    )


def _gains(number: int, votes: Votes, gaps: Floats, config: Config) -> Iterator[Estimate]:
    spoken = [np.isfinite(own) for own in votes.shares.T]
    x = [gaps[said] for said in spoken]
    label = [own[said] for own, said in zip(votes.shares.T, spoken, strict=True)]
    if (fewest := min(map(len, x))) <= gaps.shape[1]:
        raise UserError(
            f"manipulation: a labeler with {fewest} pairs has no taste that {gaps.shape[1]} features could tell"
        )
    candidates = np.stack([gaps / 2, -gaps / 2], axis=1)
    for where, rules, options in (("among these answers", AMONG, candidates), ("if all could be had", ANYTHING, None)):
        for rule in rules:
            gains = [
                manipulate_labels(
                    x, label, number, rule=rule, candidates=options, steps=config.steps, seed=seed
                ).relative
                for seed in range(config.draws)
            ]
            told = {"judge": "labelers", "rule": rule, "steps": config.steps, "caveat": CAVEAT}
            name = f"gain by lying, {where}, {rule.replace('_', ' ')}: {votes.names[number]}"
            yield estimate(name, bounded_mean(gains, 0, inf, level=config.level), settings=told)
