"""A file of people's labels corrects a win rate; see ``stages.human`` for how.

rlhf-eval evaluate winrate --judgments latest --human answered.jsonl
"""

from __future__ import annotations

from pathlib import Path

from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.errors import UserError
from rlhf_eval.interop import human as reader
from rlhf_eval.records import Estimate
from rlhf_eval.stages import human


def corrected(evidence: Evidence, path: Path, level: float = 0.95) -> list[Estimate]:
    """The corrected win rate of every group that has labels; raises UserError where no label is about any of them."""
    labels = reader.read(path).judgments
    found = human.corrected(evidence, labels, level)
    if not found:
        raise UserError(
            f"{path}: none of its {len(labels)} labels is about a comparison of this run; label the rows that "
            "'rlhf-eval route' or the Label page of 'rlhf-eval dashboard' asks about"
        )
    return found
