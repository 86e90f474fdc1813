"""A cheap judge on every pair, a strong one on a known, random part: the price of the one, the truth of the other.

Whether the strong judge is asked is drawn by the seed and the pair, with a known chance, higher where the cheap one is
unsure and never 0, so that the mean of ``corrected`` scores is what the strong judge would have said on all pairs, without
bias. Escalating the unsure verdicts and keeping the rest, without that correction, is biased. ``rlhf_eval.stats.cascade``
says beforehand whether it pays. The score of a judgment is the best verdict bought; for a mean, use ``estimate``.

    rlhf-eval judge --judge cascade --judge-model openai:NAME@http://localhost:8000/v1 --set rate=0.2
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from judges.members import Models, compare, seat
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, Prompt, Verdict, fingerprint
from rlhf_eval.stats.intervals import Interval, mean_interval

ARITY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the cascade."""

    cheap: dict[str, Any] = field(default_factory=lambda: {"judge": "pairwise"})
    """The judge of every pair: a table with judge, model, settings."""
    strong: dict[str, Any] = field(default_factory=lambda: {"judge": "pairwise", "settings": {"reasoning": True}})
    """The judge of some pairs: a table with judge, model, settings."""
    rate: float = 0.2
    """Share of the pairs that the strong judge sees where the cheap one is wholly unsure of all of them."""
    floor: float = 0.05
    """Least chance of a pair to be seen by the strong judge."""
    seed: int = 0
    """Draws another sample."""

    def __post_init__(self) -> None:
        if not 0 < self.floor <= self.rate <= 1:
            raise ValueError(f"0 < floor <= rate <= 1 must hold; floor is {self.floor} and rate {self.rate}")


def models(config: Config) -> tuple[str, ...]:
    """The models that the two judges name, each once: what a verb must open for them."""
    both = (seat(table, where="cascade") for table in (config.cheap, config.strong))
    return tuple(dict.fromkeys(one.model for one in both if one.model))


def chance(share: float, config: Config) -> float:
    """The chance that the strong judge is asked: as ``sqrt(p(1-p))`` of the cheap share, and at least the floor."""
    return max(config.floor, config.rate * 2 * math.sqrt(max(0.0, share * (1 - share))))


def lot(prompt: Prompt, completions: Sequence[Completion], config: Config) -> float:
    """A number in [0, 1) that is a function of the seed and the pair, the same in both orders."""
    key = fingerprint("cascade", config.seed, prompt.id, sorted(completion.id for completion in completions))
    return int(key[:13], 16) / float(16**13)


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Models, config: Config) -> Verdict:
    """Compare two completions, in the order given; raises RequestFailed where a judge gets no reply."""
    cheap = await compare(prompt, completions, seat(config.cheap, where="cascade"), model)
    pi = chance(cheap.scores[0], config) if cheap.error is None else 1.0
    known = {"cheap": cheap.scores[0] if cheap.error is None else None, "chance": pi, "strong": None}
    if lot(prompt, completions, config) >= pi:
        return Verdict(scores=cheap.scores, rationale=cheap.rationale, metadata=known)
    strong = await compare(prompt, completions, seat(config.strong, where="cascade"), model)
    rationale = f"{cheap.rationale}\n\n---\n\n{strong.rationale}"
    if strong.error is not None:
        return Verdict(error=strong.error, rationale=rationale, metadata=known)
    return Verdict(scores=strong.scores, rationale=rationale, metadata={**known, "strong": strong.scores[0]})


def corrected(metadata: Mapping[str, Any]) -> float:
    """The unbiased score of whatever stood first: ``cheap + (strong - cheap)/chance`` where the strong judge was asked.

    It may lie outside [0, 1]; only its mean over many pairs means anything. A pair that the cheap judge could not read was
    always shown to the strong one.
    """
    if metadata.get("cheap") is None:
        return float(metadata["strong"])
    cheap = float(metadata["cheap"])
    return (
        cheap if metadata["strong"] is None else cheap + (float(metadata["strong"]) - cheap) / float(metadata["chance"])
    )


def estimate(judgments: Iterable[Judgment], *, level: float = 0.95) -> Interval:
    """The mean share of each pair's first completion that the strong judge would give, clustered by prompt.

    Raises UserError where the judgments are not those of a cascade, or all of them failed.
    """
    scores, clusters = [], []
    for judgment in judgments:
        if judgment.error is not None or judgment.metadata.get("identical"):
            continue
        if "chance" not in judgment.metadata:
            raise UserError(
                f"judgment {judgment.id} of {judgment.judge} is not of a cascade: its metadata has no 'chance'"
            )
        shown_first = corrected(judgment.metadata)
        scores.append(shown_first if judgment.order[0] == 0 else 1 - shown_first)
        clusters.append(judgment.prompt_id)
    if not scores:
        raise UserError("there is no readable judgment to estimate from")
    return mean_interval(scores, clusters, level=level)
