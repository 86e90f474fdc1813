"""``corrupt``: a preference set with wrong labels planted in it, as a run and a file; no model is called.

What stands label noise, and what finds it, is only known where the wrong labels are known. Margins are those that the set
states, or the rewards of a judge by program (``--judge gold`` in the sandbox, ``verifier``, your own).

    rlhf-eval corrupt pairs.jsonl --kind random --rate 0.2 --out noisy.jsonl
    rlhf-eval corrupt latest --kind top_margin --rate 0.1 --judge gold
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_eval import registry
from rlhf_eval.config import as_settings, build
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Message, PreferencePair, Prompt, Run, Usage
from rlhf_eval.stages.card import Card, card_of
from rlhf_eval.stages.corrupt import Corrupted, Corruption, Rewards, corrupt, last_part
from rlhf_eval.stages.judge import Call, put
from rlhf_eval.stages.sheet import sheet_of
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.verbs.export import export, manifest_of
from rlhf_eval.verbs.flow import Bench, open_judge
from rlhf_eval.verbs.lint import write_card
from rlhf_eval.verbs.session import Session
from rlhf_eval.verbs.train_inputs import read_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Which set, what goes wrong in it, and what to write."""

    data: str = "latest"
    """A run of pairs, or a file of them in any of TRL's shapes."""
    corruption: Corruption = field(default_factory=lambda: Corruption(rate=0.1))
    """Which labels go wrong, and how many."""
    judge: str = ""
    """A judge by program whose grades are the true rewards; empty takes the margins that the set states."""
    out: str = ""
    """A file for the set; each row says whether its label was turned."""
    format: str = "trl"
    """Shape of the file, as in ``pairs``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptResult:
    """The run, how many labels were turned, and the files written."""

    run: Run
    folder: Path
    pairs: int
    flipped: int
    card: Card
    written: tuple[Path, ...]


async def plant(session: Session, table: Mapping[str, Any]) -> CorruptResult:
    """Turn labels of a set and store it; raises UserError where there are no pairs, or none of the kind that goes wrong."""
    settings = build(Settings, table, where="corrupt")
    data, inputs = read_data(session, settings.data, ("pairs",), trainer="corrupt")
    bench = _bench(session, settings.judge)
    given = {**as_settings(settings.corruption), "judge": bench.instrument.name if bench else ""}
    rewards = await _rewards(session, data.pairs, bench, settings.corruption, inputs) if bench else None
    made = corrupt(data.pairs, settings.corruption, rewards=rewards, seed=session.options.seed)
    flipped = int(made.flipped.sum())
    with session.begin("corrupt", given, inputs, free=True) as run:
        if run.run.status != "done":
            known = run.ids("pairs")
            for pair in made.pairs:
                if pair.id not in known:
                    run.append("pairs", pair)
            run.finish("done", {"total": len(made.pairs), "pairs": len(made.pairs), "flipped": flipped}, Usage())
    card = _card(run.run, made, flipped, given)
    folder = session.store.folder(run.run.id)
    write_card(card, folder / "card")
    written: tuple[Path, ...] = ()
    if settings.out:
        manifest = manifest_of(run.run, run.run, {p.prompt_id for p in made.pairs}, {p.labeler for p in made.pairs})
        written = export(made.pairs, Path(settings.out), settings.format, card, manifest)
    return CorruptResult(run=run.run, folder=folder, pairs=len(made.pairs), flipped=flipped, card=card, written=written)


def _card(run: Run, made: Corrupted, flipped: int, given: Mapping[str, Any]) -> Card:
    return card_of(
        sheet_of(made.pairs),
        name=run.id,
        about={"wrong labels planted": given, "inputs": dict(run.inputs)},
        counts={"labels turned on purpose": flipped},
    )


def _bench(session: Session, judge: str) -> Bench | None:
    if not judge:
        return None
    if getattr(registry.load("judge", judge), "NEEDS_MODEL", True):
        raise UserError(
            f"the judge '{judge}' asks a model; corrupt takes true rewards from a judge by program: gold ..."
        )
    _, bench = open_judge(session, {"judge": judge})
    if bench.instrument.arity != 1:
        raise UserError(f"the judge '{judge}' compares answers; corrupt needs one that grades a single answer")
    return bench


async def _rewards(
    session: Session, pairs: Sequence[PreferencePair], bench: Bench, settings: Corruption, inputs: Mapping[str, str]
) -> Rewards:
    """What the judge gives to every answer, and to its end where that is what the labeler looks at."""
    source = inputs.get("data", "")
    lineage = session.lineage(session.store.find(source)) if source else []
    prompts = {p.id: p for p in session.store.read(Prompt, run=lineage)} if lineage else {}

    async def graded(share: float) -> Floats:
        gaps = []
        for pair in pairs:
            prompt = prompts.get(pair.prompt_id) or Prompt.of(pair.prompt)
            sides = [await _grade(prompt, side, share, bench) for side in (pair.chosen, pair.rejected)]
            gaps.append(sides[0] - sides[1])
        return np.array(gaps)

    return Rewards(margin=await graded(1.0), part=await graded(settings.part) if settings.kind == "myopic" else None)


async def _grade(prompt: Prompt, side: Sequence[Message], share: float, bench: Bench) -> float:
    text = side[-1].content if share == 1 else last_part(side[-1].content, share)
    answer = Completion.of(prompt_id=prompt.id, model="", text=text, origin="corrupt")
    judgment = await put(prompt, Call((answer,), (0,), 0), bench.instrument)
    if not judgment.scores:
        raise UserError(f"{bench.instrument.name} gives no reward to an answer to prompt {prompt.id}: {judgment.error}")
    return judgment.scores[0]
