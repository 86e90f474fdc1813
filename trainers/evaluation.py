"""Evaluations of policy-gradient training: what the policy says to held-out prompts, and how far that went from the start.

row, completions = evaluate(worker, actors, heldout, step=10, gold=gold)
gain("reward", by_prompt(before, "reward"), by_prompt(completions, "reward"))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlhf_eval.records import Completion, Prompt
from rlhf_eval.stages.training import Reward
from rlhf_eval.stats.intervals import paired
from trainers.actors import Actors
from trainers.rollout import Worker


def evaluate(
    worker: Worker, actors: Actors, heldout: Sequence[Prompt], *, step: int, gold: Reward | None
) -> tuple[dict[str, float], list[Completion]]:
    """Completions of the held-out prompts, always from the same random numbers, and their means.

    ``kl`` is that of the whole distribution at every token (not of the tokens drawn alone), summed over a completion.
    """
    groups = worker.answers([(f"{i}", prompt) for i, prompt in enumerate(heldout)], "heldout", step)
    drawn = [one for group in groups for one in group.drawn]
    kl, entropy = actors.distances([group.ids for group in groups for _ in group.drawn], drawn)
    asked = [group.prompt for group in groups for _ in group.drawn]
    completions = [completion for group in groups for completion in group.completions]
    scores = [score for group in groups for score in group.scores]
    golds = gold(asked, completions) if gold else [None] * len(scores)
    row = {
        "reward": mean(scores),
        **({"gold": mean(golds)} if gold else {}),
        "kl": sum(kl) / len(kl),
        "entropy": entropy,
        "length": sum(len(one.ids) for one in drawn) / len(drawn),
        "truncated": sum(not one.ended for one in drawn) / len(drawn),
        "failed": float(sum(score is None for score in scores)),
    }
    marked = [
        replace(completion, metadata={"step": step, "reward": score, "kl": nats, **({"gold": g} if gold else {})})
        for completion, score, nats, g in zip(completions, scores, kl, golds, strict=True)
    ]
    return row, marked


def by_prompt(completions: Sequence[Completion], name: str) -> list[float]:
    """The mean of each prompt's known values, NaN where there are none, in the order of the prompts."""
    values: dict[str, list[float | None]] = {}
    for completion in completions:
        values.setdefault(completion.prompt_id, []).append(completion.metadata[name])
    return [mean(group) for group in values.values()]


def gain(name: str, before: Sequence[float], after: Sequence[float]) -> str:
    """One line on how a reward of the held-out prompts changed, with its interval; prompts are the units."""
    both = [(a, b) for a, b in zip(after, before, strict=True) if math.isfinite(a + b)]
    if len(both) < 2:
        return f"{name}: fewer than two held-out prompts have one before and after"
    ends, starts = zip(*both, strict=True)
    change = paired(ends, starts)
    return (
        f"{name} of {len(both):,} held-out prompts: {np.mean(starts):.3f} before, {np.mean(ends):.3f} after, change "
        f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f}, 95 %)"
    )


def mean(values: Sequence[float | None]) -> float:
    """Over those that there are; NaN where there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan
