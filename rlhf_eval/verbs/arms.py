"""The sides of an evaluation: models that answer now, and answers that a run already holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Demonstration, Prompt, Run
from rlhf_eval.stages.flow import Generation
from rlhf_eval.verbs.flow import Ledger, completions_of, generation_into, open_writer
from rlhf_eval.verbs.session import Session
from rlhf_eval.verbs.trained import trained

_STORED = re.compile(r"^(?:(?P<name>[\w.@+-]+)=)?run:(?P<ref>.+)$")

PROMPTS = "prompts"
"""The run of the prompts among an evaluation's inputs, beside those of stored sides under their names."""
TOKENS = "tokens"
"""Where a copy of a stored answer keeps its length: its usage was booked by the run that bought it."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One competitor: a model that answers now, or answers that are already there."""

    name: str
    identity: str
    generation: Mapping[str, Any] | None
    stored: str = ""


def open_arms(session: Session, specs: Sequence[str], generate: Mapping[str, Any]) -> list[Arm]:
    """A side for each spec; raises UserError where two have one name."""
    arms = [_arm(session, spec, generate) for spec in specs]
    names = [arm.name for arm in arms]
    for name in names:
        if name == PROMPTS:
            raise UserError(f"a side cannot be called '{PROMPTS}', as the run calls what it asks; write NAME=SPEC")
        if names.count(name) > 1:
            raise UserError(f"two sides are called '{name}'; give each a name of its own: NAME=SPEC")
    return arms


def answers_of(
    session: Session, arms: Sequence[Arm], prompts: Sequence[Prompt], run: Ledger
) -> tuple[list[Generation], dict[str, list[Completion]]]:
    """The sources of new answers, and the answers that are already there under their arm's name."""
    generations: list[Generation] = []
    answers: dict[str, list[Completion]] = {}
    wanted = {prompt.id for prompt in prompts}
    known = run.ids("completions")
    for arm in arms:
        if arm.generation is not None:
            _, writer, _ = open_writer(session, arm.generation)
            generations.append(generation_into(session, writer, run, own_account=False))
            continue
        held = session.store.find(arm.stored)
        density = _density(session, held)
        for prompt_id, completion in _stored_answers(session, held):
            if prompt_id not in wanted:
                continue
            mine = Completion.of(
                prompt_id=prompt_id, model=arm.name, text=completion.text, sampling=completion.sampling,
                generator="stored", origin=completion.id, finish_reason=completion.finish_reason,
                metadata={"from": completion.id, TOKENS: round(density.get(prompt_id, 0.0) * len(completion.text))},
            )  # fmt: skip
            answers.setdefault(prompt_id, []).append(mine)
            if mine.id not in known:
                run.append("completions", mine)
    return generations, answers


def answer_tokens(completion: Completion) -> int:
    """Tokens booked for an answer: all of a request's at its first sample; 0 where its reply came from the cache."""
    return completion.usage.completion_tokens or int(completion.metadata.get(TOKENS, 0))


def _density(session: Session, run: Run) -> dict[str, float]:
    """Prompt to tokens a character of the answers that it got, where they were counted."""
    tokens: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for completion in session.store.read(Completion, run=session.lineage(run)):
        tokens[completion.prompt_id] += answer_tokens(completion)
        characters[completion.prompt_id] += len(completion.text)
    return {prompt: tokens[prompt] / max(count, 1) for prompt, count in characters.items()}


def is_stored(session: Session, spec: str) -> bool:
    """Whether a spec names answers that a run holds, not a model."""
    return _STORED.match(spec) is not None and not trained(session.store, spec)


def _arm(session: Session, spec: str, generate: Mapping[str, Any]) -> Arm:
    stored = _STORED.match(spec)
    if stored is None or not is_stored(session, spec):
        door = session.door(spec)
        return Arm(door.name, door.id, {**generate, "model": spec})
    run = session.find(stored["ref"], verbs=("pairs", "generate"))
    return Arm(stored["name"] or run.id, f"run:{run.id}", None, run.id)


def _stored_answers(session: Session, run: Run) -> list[tuple[str, Completion]]:
    """One answer a prompt: what ``pairs`` selected, or the first completion that the run holds."""
    selected = session.read(Demonstration, run)
    if not selected:
        return [(prompt_id, group[0]) for prompt_id, group in completions_of(session, run).items()]
    by_id = {c.id: c for c in session.store.read(Completion, run=session.lineage(run))}
    gone = sum(d.completion_id not in by_id for d in selected)
    if gone:
        raise UserError(f"{gone} of {len(selected)} answers of run {run.id} are gone with the run that generated them")
    return [(d.prompt_id, by_id[d.completion_id]) for d in selected]
