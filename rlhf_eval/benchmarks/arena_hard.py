"""Arena-Hard-Auto 0.1 and 2.0: hard prompts against a baseline, in both orders (Li et al., arXiv 2406.11939).

``win_rate`` has the prompt as its unit. ``win_rate_published`` is the number of Arena-Hard 2.0: a verdict ``>>`` counts
three times, which changes what is estimated; its interval is ours, over prompts, not the published bootstrap of rows.
``style_controlled`` is the win rate at equal length and markdown by this project's estimator, and
``style_controlled_published`` the one that Arena-Hard prints, which holds at the average style.

    rlhf-eval evaluate arena_hard --model tonight=hf:checkpoints/dpo --baseline sandbox:policy --judge-model sandbox:judge
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlhf_eval.benchmarks import winrate
from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.benchmarks.style import counts
from rlhf_eval.records import Completion, Estimate, Judgment
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import wilson
from rlhf_eval.stats.length_control import length_controlled, relative_feature
from rlhf_eval.stats.style_published import arena_hard_v2

SHAPE: Shape = "versus"
FORMAT = "arena_hard"
"""How a file or folder of its data is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of Arena-Hard."""

    level: float = 0.95
    """Confidence of the intervals."""
    style: Literal["none", "equal", "published"] = "equal"
    """Style control: none; at equal style; or also as Arena-Hard 2.0 prints it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Games:
    """The games of one model against one baseline by one judge; arrays have one entry a game."""

    judge: str
    model: str
    baseline: str
    prompt: tuple[str, ...]
    share: Floats
    weight: Floats
    """3 for a strong verdict, else 1."""
    style: Floats
    """Tokens or words, headers, lists, bold of the model, shape (games, 4)."""
    baseline_style: Floats
    unreadable: int = 0
    """Judgments that gave no verdict."""
    lost: int = 0
    """Prompts without any readable game."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Win rates of every model: by prompt, as published, and under style control."""
    played = games(evidence)
    if not played:
        raise nothing_to_score("arena_hard", "game of a model against its baseline")
    rates = [
        e for g in evidence.comparisons() if len(g.share) for e in winrate.rates(g, winrate.Config(level=config.level))
    ]
    return rates + [e for group in played for e in _scored(group, config)]


def games(evidence: Evidence) -> list[Games]:
    """The readable games, grouped by judge, model and baseline."""
    groups: dict[tuple[str, str, str], list[Judgment]] = defaultdict(list)
    for judgment in evidence.judgments:
        if len(judgment.completion_ids) == 2:
            model, baseline = (evidence.completions[c].model for c in judgment.completion_ids)
            if evidence.baseline in ("", baseline):
                groups[judgment.judge, model, baseline].append(judgment)
    return [_games(evidence, key, groups[key]) for key in sorted(groups) if any(j.scores for j in groups[key])]


def exploded(group: Games) -> Floats:
    """The share of each game, a strong verdict three times: the rows of Arena-Hard's own tables."""
    return np.repeat(group.share, group.weight.astype(np.int64))


def _games(evidence: Evidence, key: tuple[str, str, str], asked: Sequence[Judgment]) -> Games:
    judgments = [judgment for judgment in asked if judgment.scores]
    sides = np.array([[_style(evidence.completions[c]) for c in j.completion_ids] for j in judgments], dtype=np.float64)
    return Games(
        judge=key[0],
        model=key[1],
        baseline=key[2],
        prompt=tuple(j.prompt_id for j in judgments),
        share=np.array([j.scores[0] for j in judgments]),
        weight=np.array([float(j.metadata.get("weight", 1)) for j in judgments]),
        style=sides[:, 0],
        baseline_style=sides[:, 1],
        unreadable=len(asked) - len(judgments),
        lost=len({j.prompt_id for j in asked} - {j.prompt_id for j in judgments}),
    )


def _style(completion: Completion) -> list[int]:
    """Tokens where the file tells them, else words; headers; lists; bold."""
    found = counts(completion.text)
    length = completion.metadata.get("token_len")
    size = length if isinstance(length, int) and length > 0 else max(1, len(completion.text.split()))
    return [size, found.headers, found.lists, found.bold]


def _scored(group: Games, config: Config) -> list[Estimate]:
    about: dict[str, object] = {
        "model": group.model, "baseline": group.baseline, "judge": group.judge, "unreadable": group.unreadable,
    }  # fmt: skip
    repeats = group.weight.astype(np.int64)
    prompts = np.array(group.prompt)
    weighted = wilson(exploded(group), np.repeat(prompts, repeats), level=config.level)
    rows = {**about, "rows": int(repeats.sum())}
    found = [estimate("win_rate_published", weighted, failed=group.lost, settings=rows)]
    if config.style == "none":
        return found
    pairs = zip(group.style.T, group.baseline_style.T, strict=True)
    features = np.column_stack([relative_feature(own, other) for own, other in pairs])
    controlled = length_controlled(group.share, features, prompts, level=config.level)
    if controlled.adjusted is not None:
        gates = {"variance_inflation": controlled.variance_inflation, "overlap": controlled.overlap}
        found.append(estimate("style_controlled", controlled.adjusted, failed=group.lost, settings={**about, **gates}))
    if config.style == "published":
        found.append(_published(group, about))
    return found


def _published(group: Games, about: dict[str, object]) -> Estimate:
    repeats = group.weight.astype(np.int64)
    rows = [np.repeat(side, repeats, axis=0) for side in (group.style, group.baseline_style)]
    fit = arena_hard_v2(np.repeat(group.model, repeats.sum()), exploded(group), *rows)
    low = float(fit.low[0]) if fit.low is not None else 0.0
    high = float(fit.high[0]) if fit.high is not None else 1.0
    value = float(fit.scores[0])
    return Estimate(
        name="style_controlled_published", value=value, low=min(low, value), high=max(high, value),
        n=len(set(group.prompt)), failed=group.lost, method=fit.method, settings={**about, "note": fit.note, "level": 0.9},
    )  # fmt: skip
