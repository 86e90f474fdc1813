"""``route``: which comparisons are most worth a human's minute, as a file that people fill in.

The draw is that of ``stages.route``: doubtful comparisons have the larger chance, none has none. The chance stands in each
row: with it, the labels give unbiased estimates, also where only the first rows are filled in. What people decided is not
asked again.

    rlhf-eval route --set n=100 --set out=todo.jsonl
    rlhf-eval pairs --set labels=todo.jsonl --set aggregate=dawid_skene
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_eval.config import build
from rlhf_eval.errors import UserError
from rlhf_eval.interop import human
from rlhf_eval.interop.training_rows import turns
from rlhf_eval.records import Completion, Judgment, Prompt, fingerprint
from rlhf_eval.stages.labels import Item
from rlhf_eval.stages.route import chances, open_comparisons, second_first, systematic
from rlhf_eval.verbs.lint import names
from rlhf_eval.verbs.pairs_inputs import said_by_people
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
    source = session.find(settings.judgments, verbs=("judge", "load"), loaded="judgments")
    judgments = session.read(Judgment, source)
    people = said_by_people(session, names(settings.labels))
    open_items = open_comparisons([*judgments, *people])
    if not open_items:
        raise UserError(f"run {source.id} has no comparison that people have not decided; judge pairwise first")
    budget = min(settings.n, len(open_items))
    chance = chances(open_items, budget, uniform=settings.uniform)
    rng = np.random.default_rng([0x2077E, session.options.seed])
    # In no order: whoever stops half-way leaves a random part of the draw, which the correction allows for.
    order = rng.permutation(systematic(chance, rng)).tolist()
    lineage = session.lineage(source)
    prompts = {p.id: p for p in session.store.read(Prompt, run=lineage)}
    answers = {c.id: c for c in session.store.read(Completion, run=lineage)}
    rows = [
        _row(open_items[i], float(chance[i]), prompts, answers, session.options.seed)
        for i in order
        if open_items[i].prompt_id in prompts and all(c in answers for c in open_items[i].completion_ids)
    ]
    human.write(rows, out)
    return RouteResult(run=source.id, open=len(open_items), drawn=len(rows), written=out)


def _row(
    item: Item, chance: float, prompts: Mapping[str, Prompt], answers: Mapping[str, Completion], seed: int
) -> dict[str, object]:
    """One open row; which answer stands first is drawn, so that nothing tells which one the judges prefer."""
    first, second = item.completion_ids[::-1] if second_first(item, seed=seed) else item.completion_ids
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
