"""The verb ``pairs``: judgments become preference pairs and SFT sets, with an account of every prompt.

Selections are pure functions of stored records: a new rule costs no call. This module holds what they share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rlhf_eval.records import Completion, Demonstration, Judgment, Outcome, PreferencePair, Prompt

R = TypeVar("R", Completion, Judgment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a rule made of the judgments; the outcomes have one entry a prompt."""

    pairs: tuple[PreferencePair, ...] = ()
    demonstrations: tuple[Demonstration, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One prompt with its completions, their scores, and the judgments behind them."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    judgments: tuple[Judgment, ...]

    def scores(self) -> dict[str, float]:
        """Completion id to its mean score over all readable judgments: a grade, or a share of comparisons won."""
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        for judgment in self.judgments:
            for identity, score in zip(judgment.completion_ids, judgment.scores, strict=False):
                sums[identity] += score
                counts[identity] += 1
        return {identity: sums[identity] / counts[identity] for identity in sums}

    def between(self, first: str, second: str) -> tuple[float | None, tuple[str, ...]]:
        """The judge's share for ``first`` where the two met, and the judgments that say so; None where they never met."""
        shares: list[float] = []
        ids: list[str] = []
        for judgment in self.judgments:
            if judgment.scores and set(judgment.completion_ids) == {first, second}:
                shares.append(judgment.scores[judgment.completion_ids.index(first)])
                ids.append(judgment.id)
        return (sum(shares) / len(shares) if shares else None), tuple(ids)


def cases(prompts: Iterable[Prompt], completions: Iterable[Completion], judgments: Iterable[Judgment]) -> list[Case]:
    """The records sorted by prompt, completions by sample; prompts without completions are kept."""
    answers = _by_prompt(completions)
    verdicts = _by_prompt(judgments)
    return [
        Case(
            prompt=prompt,
            completions=tuple(sorted(answers.get(prompt.id, ()), key=lambda c: (c.model, c.sample, c.id))),
            judgments=tuple(sorted(verdicts.get(prompt.id, ()), key=lambda j: j.id)),
        )
        for prompt in prompts
    ]


def _by_prompt(records: Iterable[R]) -> dict[str, list[R]]:
    groups: dict[str, list[R]] = defaultdict(list)
    for record in records:
        groups[record.prompt_id].append(record)
    return groups


def labeler_of(judgments: Sequence[Judgment]) -> str:
    """The judges behind some judgments, as one name."""
    return "+".join(sorted({j.judge for j in judgments}))
