"""Stopping an evaluation as soon as it is decided, with the error held (O'Brien and Fleming, 1979).

The prompts are put in random order and judged in equal batches. After each batch the win rate so far is held against the
boundary of that look; once it is crossed the rest is skipped. What is reported is the repeated interval, which holds at all
looks at once; the plain interval of a stopped run is too far from .5.

    rlhf-eval evaluate winrate --model tonight=hf:a --baseline lastweek=hf:b --judge-model SPEC --stop-when decided
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, estimate
from rlhf_eval.records import Estimate, Prompt, fingerprint
from rlhf_eval.stats.sequential import Look, group_sequential_look

LOOKS = 10
"""Ten looks take 3 % fewer prompts than five; beyond that a batch gets too small to keep a server busy."""


@dataclass(slots=True)
class Decision:
    """The schedule of looks at one evaluation and what the last of them showed."""

    seed: int
    total: int
    evidence: Callable[[], Evidence]
    """What is known so far."""
    looks: int = LOOKS
    level: float = 0.95
    taken: list[tuple[int, Look]] = field(default_factory=list)

    def order(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts in the random order of this seed, the same on every resume."""
        return sorted(prompts, key=lambda prompt: fingerprint("order", self.seed, prompt.id))

    def batches(self, prompts: Sequence[Prompt], waiting: Sequence[Prompt]) -> Iterator[tuple[Sequence[Prompt], str]]:
        """Batches of those who wait, and why one is skipped; between two of them a look is taken."""
        ordered, open_ids = self.order(prompts), {prompt.id for prompt in waiting}
        size = math.ceil(len(ordered) / self.looks)
        reason = ""
        for number in range(1, self.looks + 1):
            batch = [p for p in ordered[(number - 1) * size : number * size] if p.id in open_ids]
            if batch:
                yield batch, reason
            done = {prompt.id for prompt in ordered[: number * size]}
            if not reason and self._decided(number, done):
                reason = f"decided at look {number} of {self.looks}"

    def _decided(self, number: int, done: set[str]) -> bool:
        groups = self.evidence().comparisons()
        if len(groups) != 1:
            return False
        prompts, shares = groups[0].by_prompt()
        swapped = groups[0].swapped()
        seen = np.isin(prompts, list(done))
        if seen.sum() < 2:
            return False
        sides = None if swapped is None else swapped[seen]
        look = group_sequential_look(shares[seen], swapped=sides, look=number, looks=self.looks, level=self.level)
        self.taken.append((number, look))
        return look.stop

    def estimates(self) -> list[Estimate]:
        """The win rate at the last look with the interval that holds there."""
        stopped = next(((n, look) for n, look in self.taken if look.stop), None)
        if not self.taken:
            return []
        number, look = stopped or self.taken[-1]
        settings = {
            "look": number,
            "looks": self.looks,
            "decided": look.stop,
            "z": look.z,
            "critical": look.critical,
            "prompts": look.interval.n,
            "of": self.total,
        }
        return [estimate("win_rate_decided", look.interval, settings=settings)]
