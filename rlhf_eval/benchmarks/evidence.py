"""What a benchmark scores: prompts, answers and judgments of one run or one foreign folder, with lookups.

evidence = Evidence.of(loaded.prompts, loaded.completions, loaded.judgments)
for group in evidence.comparisons(): ...
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.benchmarks.comparisons import Comparisons
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Estimate, Judgment, Prompt
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import Interval

GOLD = "gold"
"""The judge of labels that are right by construction."""
FLIPPED = "flipped"
"""What the metadata of a label say that ``corrupt`` has turned, or left as it was."""

Shape = Literal["versus", "answers", "labels"]
"""What a benchmark asks of ``evaluate``: models against a baseline, models alone, or a judge against labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grades:
    """The grades of one judge on one model's answers; arrays are aligned, one entry a judgment."""

    judge: str
    model: str
    prompts: tuple[Prompt, ...]
    completions: tuple[Completion, ...]
    score: Floats
    unreadable: int = 0
    """Judgments that gave no grade."""
    lost: int = 0
    """Prompts without any grade."""

    @property
    def prompt(self) -> NDArray[np.str_]:
        """Prompt ids: the clusters."""
        return np.array([prompt.id for prompt in self.prompts], dtype=np.str_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Records that belong together, by id and in their order."""

    prompts: Mapping[str, Prompt]
    completions: Mapping[str, Completion]
    judgments: tuple[Judgment, ...]
    baseline: str = ""
    """The model that the others were compared with; empty where the judgments say it themselves."""
    labels: Mapping[tuple[str, ...], tuple[float, ...]] = field(default_factory=dict)
    """Completion ids of an item to its right scores, for benchmarks of judges."""
    turned: Mapping[tuple[str, ...], bool] = field(default_factory=dict)
    """Completion ids of an item to whether its label was turned on purpose, where the set says so."""
    dealt: bool = False
    """Whether the judgments are of runs of ours, which deal the sides evenly where they ask in one order."""

    @classmethod
    def of(
        cls,
        prompts: Iterable[Prompt],
        completions: Iterable[Completion],
        judgments: Iterable[Judgment],
        *,
        baseline: str = "",
        gold: str = GOLD,
        dealt: bool = False,
    ) -> Evidence:
        """Evidence from records; judgments by ``gold`` become the labels."""
        given = tuple(judgments)
        return cls(
            prompts={p.id: p for p in prompts},
            completions={c.id: c for c in completions},
            judgments=tuple(j for j in given if j.judge != gold),
            baseline=baseline,
            labels={j.completion_ids: j.scores for j in given if j.judge == gold and j.scores},
            turned={j.completion_ids: bool(j.metadata[FLIPPED]) for j in given if FLIPPED in j.metadata},
            dealt=dealt,
        )

    @property
    def judges(self) -> tuple[str, ...]:
        """Names of the judges, in the order found."""
        return tuple(dict.fromkeys(j.judge for j in self.judgments))

    def by(self, judge: str) -> list[Judgment]:
        """The judgments of one judge."""
        return [j for j in self.judgments if j.judge == judge]

    def comparisons(self) -> list[Comparisons]:
        """Judgments of two models' answers by judge, model and opponent; only against the baseline if one is set."""
        groups: dict[tuple[str, str, str], list[Judgment]] = defaultdict(list)
        for judgment in self.judgments:
            if len(judgment.completion_ids) == 2:
                model, opponent = (self.completions[c].model for c in judgment.completion_ids)
                if model != opponent and self.baseline in ("", opponent):
                    groups[judgment.judge, model, opponent].append(judgment)
        return [_comparisons(key, groups[key], self.dealt) for key in sorted(groups)]

    def grades(self) -> list[Grades]:
        """Judgments of single answers, grouped by judge and model."""
        groups: dict[tuple[str, str], list[Judgment]] = defaultdict(list)
        for judgment in self.judgments:
            if len(judgment.completion_ids) == 1:
                groups[judgment.judge, self.completions[judgment.completion_ids[0]].model].append(judgment)
        return [self._grades(key, groups[key]) for key in sorted(groups)]

    def _grades(self, key: tuple[str, str], judgments: Sequence[Judgment]) -> Grades:
        read = [j for j in judgments if j.scores]
        asked = {j.prompt_id for j in judgments}
        return Grades(
            judge=key[0],
            model=key[1],
            prompts=tuple(self.prompts[j.prompt_id] for j in read),
            completions=tuple(self.completions[j.completion_ids[0]] for j in read),
            score=np.array([j.scores[0] for j in read], dtype=np.float64),
            unreadable=len(judgments) - len(read),
            lost=len(asked - {j.prompt_id for j in read}),
        )


def _comparisons(key: tuple[str, str, str], judgments: Sequence[Judgment], dealt: bool) -> Comparisons:
    read = [j for j in judgments if j.scores]
    asked = {j.prompt_id for j in judgments}
    return Comparisons(
        judge=key[0],
        model=key[1],
        opponent=key[2],
        prompt=np.array([j.prompt_id for j in read], dtype=object),
        pair=np.array(["".join(j.completion_ids) for j in read], dtype=object),
        share=np.array([j.scores[0] for j in read], dtype=np.float64),
        shown_first=np.array([j.order[0] == 0 for j in read], dtype=bool),
        unreadable=len(judgments) - len(read),
        lost=len(asked - {j.prompt_id for j in read}),
        dealt=dealt,
    )


def estimate(
    name: str, interval: Interval, *, failed: int = 0, settings: Mapping[str, object] | None = None
) -> Estimate:
    """An interval as the record that leaves the program."""
    about = {"se": interval.se, "n_eff": interval.n_eff, "level": interval.level, "note": interval.note}
    return Estimate(
        name=name,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        failed=failed,
        method=interval.method,
        settings={**(settings or {}), **about},
    )


def nothing_to_score(benchmark: str, wanted: str) -> UserError:
    """The error of a benchmark that found none of its judgments."""
    return UserError(f"{benchmark}: there is no {wanted}; every judgment failed, or the run holds none")
