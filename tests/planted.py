"""A world whose judge is known: mock writers, a mock judge with planted faults, labels drawn from the planted quality.

world = World(seed=3, prompts=60, judge={"bias": 0.8, "noise": 0.7})
card = asyncio.run(world.audited())
truth(world.judge, graded=True)["flip_rate"]
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from judges import pairwise
from rlhf_eval.audit.buy import KINDS, Shopping, purchases
from rlhf_eval.audit.card import Finding
from rlhf_eval.audit.evidence import gather
from rlhf_eval.audit.findings import audit
from rlhf_eval.audit.probes import padded, words
from rlhf_eval.models.base import ChatRequest
from rlhf_eval.models.mock import Config, MockModel
from rlhf_eval.records import Completion, Judgment, Message, Prompt, Record, fingerprint
from rlhf_eval.stages.flow import walk
from rlhf_eval.stages.judge import Instrument

OWN, OTHERS = "alpha", ("beta", "gamma")
QUALITY = re.compile(r"quality=([01]\.\d+)")
SHARPNESS = 4.0


@dataclass
class Shelf:
    """A sink in memory."""

    tables: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def ids(self, table: str) -> set[str]:
        return {record.id for record in self.tables[table]}

    def append(self, table: str, record: Record) -> None:
        self.tables[table].append(record)


def quality(text: str) -> float:
    return float(QUALITY.findall(text)[-1])


@dataclass
class World:
    """Prompts with one answer of each writer, a judge, and a label of every pair: right with the odds of its quality."""

    seed: int
    prompts: int
    judge: Mapping[str, float] = field(default_factory=dict)
    kinds: tuple[str, ...] = KINDS
    own: tuple[str, ...] = (OWN,)
    attacks: int = 4
    graded: bool = False
    """Whether gold grades the answers by their quality; else it names winners, with the odds that the quality gives."""

    async def audited(self) -> dict[str, Finding]:
        """The findings about the judge, by name."""
        asked = [Prompt.of(f"Question {self.seed}/{k}?") for k in range(self.prompts)]
        answers = {p.id: [await self.written(p, name) for name in (OWN, *OTHERS)] for p in asked}
        options = {"sharpness": SHARPNESS, **self.judge}
        model = MockModel("judge", config=Config(**options, sign=OWN))  # type: ignore[arg-type]
        instrument = Instrument(judge=pairwise.judge, config=pairwise.Config(), model=model, arity=2, name="mock#0")
        shelf = Shelf()
        shopping = Shopping(
            kinds=self.kinds, seed=self.seed, own=self.own, prompts=frozenset(answers), attacks=self.attacks
        )
        judgings = purchases(instrument, shopping, shelf, set())
        for prompt in asked:
            await walk(prompt, [], judgings, answers)
        written = [completion for group in answers.values() for completion in group]
        completions = {c.id: c for c in (*written, *shelf.tables["completions"])}
        labels = [label for group in answers.values() for label in self.labels(group)]
        evidence = gather("mock#0", shelf.tables["judgments"], completions, {"gold": labels}, own=self.own)
        return {finding.name: finding for finding in audit(evidence)}

    async def written(self, prompt: Prompt, name: str) -> Completion:
        """The answer of a writer; which of them signs makes no difference to its quality."""
        writer = MockModel("writer", config=Config(sign=name, seed=int(fingerprint(name)[:6], 16)))
        reply = await writer.chat(ChatRequest(messages=(Message("user", prompt.text),)))
        return Completion.of(prompt_id=prompt.id, model=name, text=reply.choices[0].text)

    def labels(self, group: Sequence[Completion]) -> list[Judgment]:
        """Gold for every pair of a prompt's answers, or for each of them."""
        if self.graded:
            return [
                Judgment.of(prompt_id=c.prompt_id, completion_ids=(c.id,), judge="gold", scores=(quality(c.text),))
                for c in group
            ]
        found = []
        for i, a in enumerate(group):
            for b in group[i + 1 :]:
                gap = SHARPNESS * (quality(a.text) - quality(b.text))
                wins = int(fingerprint(self.seed, "gold", a.id, b.id)[:12], 16) / 16**12 < 1 / (1 + math.exp(-gap))
                scores = (1.0, 0.0) if wins else (0.0, 1.0)
                found.append(
                    Judgment.of(prompt_id=a.prompt_id, completion_ids=(a.id, b.id), judge="gold", scores=scores)
                )
        return found


@cache
def population(size: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of many answers of the writers: quality, words, and words when padded."""
    writer = MockModel("writer", config=Config(sign=OWN, seed=99))

    async def write() -> list[str]:
        asked = [ChatRequest(messages=(Message("user", f"Population {k}?"),)) for k in range(size)]
        return [(await writer.chat(request)).choices[0].text for request in asked]

    texts = asyncio.run(write())
    return (
        np.array([quality(t) for t in texts]),
        np.array([words(t) for t in texts], dtype=float),
        np.array([words(padded(t)) for t in texts], dtype=float),
    )


def truth(judge: Mapping[str, float], *, graded: bool, draws: int = 400_000) -> dict[str, float]:
    """What the planted settings make of every number, from the mock's formula and a large population of answers."""
    rng = np.random.default_rng(12345)
    settings = {"bias": 0.0, "length_bias": 0.0, "noise": 0.0, "self_preference": 0.0, "garble": 0.0, **judge}
    q, w, longer = population()
    a, b = rng.integers(len(q), size=(2, draws))
    gap = SHARPNESS * (q[a] - q[b])
    doublings = np.log2((w[a] + 1) / (w[b] + 1))
    base = gap + settings["length_bias"] * doublings + settings["self_preference"]  # a is the judge's own
    right = gap > 0 if graded else rng.random(draws) < sigmoid(gap)
    bias, noise = settings["bias"], settings["noise"]

    def showing(side: float) -> np.ndarray:
        return sigmoid(base + side * bias + noise * rng.standard_normal(draws))

    first, second, again = showing(1), showing(-1), showing(1)
    mean = (first + second) / 2
    said = mean > 0.5
    won = np.where(right, mean, 1 - mean)
    accuracy = (((first > 0.5) == right).mean() + ((second > 0.5) == right).mean()) / 2
    agreed = (said == right).mean()
    long_won = np.where(right, doublings, -doublings)
    swap_noise = ((again > 0.5) != (first > 0.5)).mean()
    other = ((showing(-1) > 0.5) != (second > 0.5)).mean()
    pad = settings["length_bias"] * np.log2((longer[a] + 1) / (w[a] + 1))
    copy = [sigmoid(pad + side * bias + noise * rng.standard_normal(draws)) for side in (1, -1)]
    p = np.clip(mean, 1e-12, 1 - 1e-12)
    return {
        "accuracy.gold": accuracy,
        "youden.gold": 2 * accuracy - 1,
        "agreement.gold": agreed,
        "kappa.gold": 2 * agreed - 1,
        "ac1.gold": 2 * agreed - 1,
        "alpha.gold": 2 * agreed - 1,
        "flip_rate": ((first > 0.5) != (second > 0.5)).mean(),
        "first_slot": ((first - second) / 2).mean(),
        "position_log_odds": bias,
        "flips_beyond_noise": ((first > 0.5) != (second > 0.5)).mean() - (swap_noise + other) / 2,
        "repeat_agreement": 1 - (swap_noise + other) / 2,
        "length_favour": won[long_won > 0].mean() - won[long_won < 0].mean(),
        "length_log_odds": settings["length_bias"],
        "padded_log_odds": settings["length_bias"],
        "padded_wins": ((copy[0] + copy[1]) / 2).mean(),
        "bold_wins": 0.5 if not noise else np.mean(showing_of_equals(bias, noise, rng, draws)),
        "listed_wins": 0.5 if not noise else np.mean(showing_of_equals(bias, noise, rng, draws)),
        "self_preference": won[right].mean() - won[~right].mean(),
        "self_log_odds": settings["self_preference"],
        "unreadable": settings["garble"],
        "tie_rate": 0.0,
        "brier": ((mean - right) ** 2).mean(),
        "log_loss": -(np.log(p) * right + np.log1p(-p) * ~right).mean(),
        "overconfidence": np.maximum(mean, 1 - mean).mean() - agreed,
        "information_per_call": 4 * (2 * accuracy - 1) ** 2,
    }


def showing_of_equals(bias: float, noise: float, rng: np.random.Generator, draws: int) -> np.ndarray:
    """The share of one of two equal answers, over both orders."""
    sides = [sigmoid(side * bias + noise * rng.standard_normal(draws)) for side in (1, -1)]
    return (sides[0] + sides[1]) / 2


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
