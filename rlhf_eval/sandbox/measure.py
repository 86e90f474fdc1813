"""The numbers on the sandbox's model cards: measured on held-out prompts, with their intervals.

from rlhf_eval.sandbox.measure import measure_policy
measure_policy(model, tokenizer, prompts("heldout"))
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import fmean
from typing import Any

from rlhf_eval.records import Estimate, Prompt
from rlhf_eval.sandbox import gold
from rlhf_eval.sandbox.pairs import Pair, constructed, sampled
from rlhf_eval.sandbox.sample import first_shares, sample
from rlhf_eval.sandbox.tokens import ask_pairwise
from rlhf_eval.stats.intervals import Interval, mean_interval, wilson

SAMPLES = 8


def estimate(name: str, interval: Interval) -> Estimate:
    """The interval as a record."""
    return Estimate(
        name=name,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        method=interval.method,
    )


def answers_of(model: Any, tokenizer: Any, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[str]]:
    """``n`` samples of each prompt at temperature 1."""
    return sample(model, tokenizer, [p.messages for p in prompts], n=n, seed=seed)


def measure_policy(prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[Estimate]:
    """How good and how varied ``answers`` are, several to a prompt: the prompt is the unit."""
    graded = [[gold.reward(p, text) for text in texts] for p, texts in zip(prompts, answers, strict=True)]
    right = [fmean(g.correct for g in row) for row in graded]
    follows = [
        fmean(g.followed for g in row) for p, row in zip(prompts, graded, strict=True) if p.metadata["constraint"]
    ]
    n = len(answers[0])
    return [
        estimate("accuracy at temperature 1", wilson(right)),
        estimate(f"best of {n} is right", wilson([max(g.correct for g in row) for row in graded])),
        estimate("gold reward", wilson([fmean(g.reward for g in row) for row in graded])),
        estimate(f"gold reward, best of {n}", wilson([max(g.reward for g in row) for row in graded])),
        estimate("instruction followed, where there is one", wilson(follows)),
        estimate(f"distinct texts among {n}", wilson([len(set(texts)) / n for texts in answers])),
    ]


def accuracy_by_cell(prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> dict[str, dict[int, float]]:
    """Share of right answers by family and difficulty."""
    cells: dict[str, dict[int, list[float]]] = {}
    for prompt, texts in zip(prompts, answers, strict=True):
        family = cells.setdefault(prompt.metadata["family"], {})
        family.setdefault(prompt.metadata["difficulty"], []).extend(gold.reward(prompt, t).correct for t in texts)
    return {family: {level: fmean(levels[level]) for level in sorted(levels)} for family, levels in cells.items()}


def held_out_pairs(prompts: Sequence[Prompt], answers: Sequence[Sequence[str]], seed: int) -> dict[str, list[Pair]]:
    """Pairs that gold tells apart: one of each prompt's first two samples, and as many constructed ones."""
    rng = Random(seed)
    policy = sampled(prompts, [texts[:2] for texts in answers])
    return {"policy": policy, "constructed": [constructed("heldout", rng) for _ in policy]}


def measure_judge(model: Any, tokenizer: Any, pairs: Sequence[Pair], name: str) -> list[Estimate]:
    """Accuracy and biases of the judge on pairs with a gold winner, each shown in both orders; the pair is the unit."""
    as_given = first_shares(model, tokenizer, [ask_pairwise(p.prompt, p.answers) for p in pairs])
    swapped = first_shares(model, tokenizer, [ask_pairwise(p.prompt, p.answers[::-1]) for p in pairs])
    verdicts = [(float(a > 0.5), float(b > 0.5)) for a, b in zip(as_given, swapped, strict=True)]
    right = [fmean((a != p.better, b == p.better)) for p, (a, b) in zip(pairs, verdicts, strict=True)]
    debiased = [
        float(((a + 1 - b) / 2 > 0.5) == (p.better == 0)) for p, a, b in zip(pairs, as_given, swapped, strict=True)
    ]
    return [
        estimate(f"accuracy, {name} pairs", wilson(right)),
        estimate(f"accuracy with both orders averaged, {name} pairs", wilson(debiased)),
        estimate(f"first answer preferred, {name} pairs", wilson([fmean(v) for v in verdicts])),
        estimate(f"verdict flips with the order, {name} pairs", wilson([float(a == b) for a, b in verdicts])),
        estimate(f"longer answer preferred beyond gold, {name} pairs", _length_bias(pairs, verdicts)),
    ]


def _length_bias(pairs: Sequence[Pair], verdicts: Sequence[tuple[float, float]]) -> Interval:
    """How much more often the judge takes the longer answer than gold does, over pairs of different lengths."""
    excess = []
    for p, (a, b) in zip(pairs, verdicts, strict=True):
        first, second = (len(text) for text in p.answers)
        if first != second:
            first_wins = (a + 1 - b) / 2
            judged, true = (first_wins, 1.0 - p.better) if first > second else (1 - first_wins, float(p.better))
            excess.append(judged - true)
    return mean_interval(excess)
