"""Several labelers on the same pairs: how often each decides the joint label, and how often each stands alone.

``influence`` of a labeler is the share of pairs whose joint label changes when its votes are left out, under the majority
and under the low median, which exaggeration does not move (arXiv 2503.09561). ``alone`` is the share on which all others
agree and it does not. Neither says who is right: an expert among laymen stands alone as well.

    rlhf-eval load pandalm path/to/PandaLM
    rlhf-eval evaluate labelers --judgments latest --set labelers=human
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import wilson
from rlhf_eval.stats.strategyproof import label_influence

SHAPE: Shape = "versus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the audit of labelers."""

    labelers: str = ""
    """The beginning of the names of those that count, such as human; empty takes every judge of pairs."""
    level: float = 0.95
    """Confidence of the intervals."""


class Votes(NamedTuple):
    """What labelers said of the pairs that at least two of them saw."""

    names: Sequence[str]
    answers: Sequence[tuple[str, ...]]
    """Completion ids of each pair, sorted."""
    prompts: NDArray[np.str_]
    """The prompt of each pair."""
    shares: Floats
    """Share of the pair's first answer, (pairs, labelers), NaN where silent."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Influence and solitude of every labeler; raises UserError where no two labelled the same pair."""
    names, _, prompts, votes = votes_of(evidence, config.labelers)
    found = []
    for how in ("majority", "low_median"):
        changed = label_influence(votes, how)
        found += [_share(f"influence, {how}: {name}", changed[:, n], prompts, config) for n, name in enumerate(names)]
    alone = np.stack([_alone(votes, n) for n in range(len(names))], axis=1)
    return found + [_share(f"alone: {name}", alone[:, n], prompts, config) for n, name in enumerate(names)]


def votes_of(evidence: Evidence, labelers: str = "") -> Votes:
    """The votes of the labelers whose names begin so; raises UserError where no two labelled the same pair."""
    said: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    prompt: dict[tuple[str, ...], str] = {}
    for judgment in evidence.judgments:
        if len(judgment.completion_ids) == 2 and judgment.scores and judgment.judge.startswith(labelers):
            ids = tuple(sorted(judgment.completion_ids))
            by_id = dict(zip(judgment.completion_ids, judgment.scores, strict=True))
            said[ids][judgment.judge].append(by_id[ids[0]])
            prompt[ids] = judgment.prompt_id
    shared = [ids for ids, votes in said.items() if len(votes) > 1]
    if not shared:
        raise UserError(
            f"labelers: no two judges{f' whose names begin with {labelers!r}' if labelers else ''} labelled one pair; "
            f"found: {', '.join(evidence.judges) or 'none'}"
        )
    names = sorted({name for ids in shared for name in said[ids]})
    rows = [[float(np.mean(said[ids][name])) if name in said[ids] else np.nan for name in names] for ids in shared]
    return Votes(names, shared, np.array([prompt[ids] for ids in shared]), np.array(rows))


def _alone(votes: Floats, labeler: int) -> Floats:
    """1 where all others say the same and the labeler does not; NaN where it is silent, or fewer than two others spoke."""
    verdict = np.sign(votes - 0.5)
    others = np.delete(verdict, labeler, axis=1)
    spoke = np.isfinite(others).sum(axis=1)
    known = np.isfinite(verdict[:, labeler]) & (spoke > 1)
    low, high = (np.nan_to_num(others, nan=edge) for edge in (np.inf, -np.inf))
    united = low.min(axis=1) == high.max(axis=1)
    found: Floats = np.where(known, united & (low.min(axis=1) != verdict[:, labeler]), np.nan)
    return found


def _share(name: str, values: Floats, prompts: NDArray[np.str_], config: Config) -> Estimate:
    known = np.isfinite(values)
    if not known.any():
        raise UserError(f"{name}: the labeler shares no pair with enough others")
    return estimate(name, wilson(values[known], prompts[known], level=config.level), settings={"judge": "labelers"})
