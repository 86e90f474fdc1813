"""``route``: which comparisons are most worth a human's minute, as a file that people fill in.

A comparison is drawn with a chance that follows ``sqrt(p (1 - p))`` of the labelers' mean share p, mixed with a share of
equal chances so that a judge that is sure and wrong is found out too. The chance stands in each row: with it, the labels
give unbiased estimates (active inference, Zrnic and Candes, arXiv 2403.03208). What people decided is not asked again.

    rlhf-eval route --set n=100 --set out=todo.jsonl
    rlhf-eval pairs --set labels=todo.jsonl --set aggregate=dawid_skene
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_eval.config import build
from rlhf_eval.errors import UserError
from rlhf_eval.interop import human
from rlhf_eval.interop.training_rows import turns
from rlhf_eval.records import Completion, Judgment, Prompt, fingerprint
from rlhf_eval.stages.labels import Item, items_of
from rlhf_eval.stages.matrix import Floats, Ints
from rlhf_eval.stats.human import label_probabilities
from rlhf_eval.verbs.lint import names
from rlhf_eval.verbs.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to route, and where to."""

    judgments: str = "latest"
    """A run that holds comparisons."""
    n: int = 100
    """Comparisons for people."""
    uniform: float = 0.2
    """Share of equal chances in the draw; 1 draws without a look at the labels."""
    labels: tuple[str, ...] | str = ()
    """Files of people's labels; what they decided is not asked again."""
    out: str = "labels.jsonl"
    """The file to fill in."""

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; at least 1 comparison is routed")
        if not 0 <= self.uniform <= 1:
            raise ValueError(f"uniform is {self.uniform}; it is a share")


@dataclass(frozen=True, slots=True)
class RouteResult:
    """How many comparisons were open, how many were drawn, and where they lie."""

    run: str
    open: int
    drawn: int
    written: Path


def route(session: Session, table: Mapping[str, Any]) -> RouteResult:
    """Draw comparisons for people; raises UserError where none is open, or the file is there already."""
    settings = build(Settings, table, where="route")
    out = Path(settings.out)
    if out.exists():
        raise UserError(f"{out} is there already, perhaps with answers in it; name another file with out=...")
    source = session.find(settings.judgments, verbs=("judge", "load"))
    judgments = session.read(Judgment, source)
    people = [j for path in names(settings.labels) for j in human.read(Path(path)).judgments]
    open_items = open_comparisons([*judgments, *people])
    if not open_items:
        raise UserError(f"run {source.id} has no comparison that people have not decided; judge pairwise first")
    share = np.array([float(np.mean([*item.shares.values()])) for item in open_items])
    budget = min(settings.n, len(open_items))
    chance = label_probabilities(share, budget, uniform=settings.uniform)
    drawn = systematic(chance, np.random.default_rng([0x2077E, session.options.seed]))
    lineage = session.lineage(source)
    prompts = {p.id: p for p in session.store.read(Prompt, run=lineage)}
    answers = {c.id: c for c in session.store.read(Completion, run=lineage)}
    order = sorted(drawn.tolist(), key=lambda i: abs(share[i] - 0.5))
    rows = [
        _row(open_items[i], float(chance[i]), prompts, answers, session.options.seed)
        for i in order
        if open_items[i].prompt_id in prompts and all(c in answers for c in open_items[i].completion_ids)
    ]
    human.write(rows, out)
    return RouteResult(run=source.id, open=len(open_items), drawn=len(rows), written=out)


def open_comparisons(judgments: Sequence[Judgment]) -> list[Item]:
    """The comparisons that no person has decided, and that were of different words."""
    same = {tuple(sorted(j.completion_ids)) for j in judgments if j.metadata.get("identical")}
    return [
        item
        for item in items_of(judgments)
        if len(item.completion_ids) == 2
        and item.completion_ids not in same
        and not any(labeler.startswith("human/") for labeler in item.scores)
    ]


def systematic(chance: Floats, rng: np.random.Generator) -> Ints:
    """Items drawn with exactly these chances, and as many as they sum to: one random start, then equal steps.

    Shape (round(sum(chance)),). The items are put in a random order first. Source: Madow (1949).
    """
    order = rng.permutation(len(chance))
    edges = np.cumsum(chance[order])
    marks = np.arange(rng.random(), edges[-1] - 1e-9, 1.0)
    return np.sort(order[np.searchsorted(edges, marks, side="right")])


def _row(
    item: Item, chance: float, prompts: Mapping[str, Prompt], answers: Mapping[str, Completion], seed: int
) -> dict[str, object]:
    """One open row; which answer stands first is drawn, so that nothing tells which one the judges prefer."""
    swap = int(fingerprint("side", seed, item.completion_ids)[:8], 16) % 2 == 1
    first, second = item.completion_ids[::-1] if swap else item.completion_ids
    return {
        "id": fingerprint("question", item.prompt_id, first, second),
        "prompt_id": item.prompt_id,
        "completion_ids": [first, second],
        "prompt": turns(prompts[item.prompt_id].messages),
        "a": answers[first].text,
        "b": answers[second].text,
        "choice": "",
        "labeler": "",
        "comment": "",
        "chance": round(chance, 6),
    }
