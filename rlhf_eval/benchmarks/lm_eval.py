"""Any task of lm-evaluation-harness: its documents, its prompts, its metrics; our models, store and intervals.

The harness lays out the requests and scores the answers; they are bought through the same door as everywhere, so they are
cached, accounted for and stored with their errors. The unit is the document. A failed request is a failure and not a wrong
answer. Needs the extra ``lm-eval``; samples that the harness itself has logged need nothing.

    rlhf-eval evaluate lm_eval:gsm8k --model hf:checkpoints/dpo --limit 200
    rlhf-eval load lm_eval path/to/output && rlhf-eval evaluate lm_eval --judgments latest
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_eval.benchmarks.evidence import Evidence, Grades, Shape, estimate, nothing_to_score
from rlhf_eval.records import Estimate
from rlhf_eval.stats.intervals import mean_interval, wilson

SHAPE: Shape = "answers"
PREFIX = "lm_eval/"
"""What the names of the judges begin with: ``lm_eval/<task>/<filter>/<metric>``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of a harness task."""

    level: float = 0.95
    """Confidence of the intervals."""
    fewshot: int = -1
    """Examples before each question; -1 takes the task's own number."""
    include: str = ""
    """A folder of task files of your own."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """The mean of every metric for every model; raises UserError where nothing was scored."""
    groups = [g for g in evidence.grades() if g.judge.startswith(PREFIX)]
    found = [_mean(group, config.level) for group in groups if len(group.score)]
    if not found:
        raise nothing_to_score("lm_eval", "metric of a harness task")
    return found


def _mean(group: Grades, level: float) -> Estimate:
    _, task, kept_by, metric = group.judge.split("/", 3)
    share = group.score.min() >= 0 and group.score.max() <= 1
    interval = (wilson if share else mean_interval)(group.score, group.prompt, level=level)
    about = {"model": group.model, "judge": group.judge, "filter": kept_by}
    return estimate(f"{task}: {metric}", interval, failed=group.lost, settings=about)
