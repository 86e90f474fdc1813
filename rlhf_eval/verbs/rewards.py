"""Judges as rewards: what ``train`` gives to online trainers.

Any judge will do. One that grades gives its grade. One that compares is shown the answer beside one that the starting model
gave to the same prompt, in both orders; the reward is its share of the preference. Several judges make a mixture:

    reward: {judge: reward_model, judge_model: "run:REF"}
    reward:
      - {judge: pairwise, judge_model: sandbox:judge, weight: 0.8}
      - {judge: length, weight: 0.2}
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_eval.errors import RequestFailed, UserError
from rlhf_eval.models.base import ChatRequest, Model
from rlhf_eval.records import Completion, Prompt, Sampling
from rlhf_eval.stages.judge import calls, put
from rlhf_eval.stages.training import Reward
from rlhf_eval.verbs.flow import Bench, open_judge
from rlhf_eval.verbs.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One judge of a mixture."""

    bench: Bench
    weight: float = 1.0

    @property
    def compares(self) -> bool:
        """Whether it needs a second answer to judge one by."""
        return self.bench.instrument.arity != 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Opponent:
    """The model whose answers a comparing judge sees beside those it rewards."""

    model: Model
    max_tokens: int

    async def answer(self, prompt: Prompt) -> Completion:
        """Its one answer to a prompt, always the same; raises RequestFailed."""
        sampling = Sampling(max_tokens=self.max_tokens, seed=0)
        reply = await self.model.chat(ChatRequest(messages=prompt.messages, sampling=sampling))
        return Completion.of(prompt_id=prompt.id, model=self.model.name, text=reply.choices[0].text, sampling=sampling)


def open_parts(session: Session, told: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    """The judges that a ``reward`` table, or a list of them, names; raises UserError as ``judge`` does."""
    tables = [told] if isinstance(told, Mapping) else told
    parts = []
    for table in tables:
        weight = table.get("weight", 1.0)
        if not isinstance(weight, int | float):
            raise UserError(f"reward: weight is '{weight}'; give a number")
        _, bench = open_judge(session, {name: value for name, value in table.items() if name != "weight"})
        parts.append(Part(bench=bench, weight=float(weight)))
    if not parts:
        raise UserError("reward: the list of judges is empty")
    return tuple(parts)


def open_opponent(session: Session, parts: Sequence[Part], spec: str, max_tokens: int) -> Opponent | None:
    """The model ``spec``, where some judge compares; None where none does."""
    return Opponent(model=session.door(spec), max_tokens=max_tokens) if any(part.compares for part in parts) else None


def describe(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """What the reward depends on, for the run's settings."""
    return [{"weight": part.weight, **part.bench.settings} for part in parts]


def reward_of(parts: Sequence[Part], opponent: Opponent | None, loop: asyncio.AbstractEventLoop) -> Reward:
    """The mixture as a plain function, for a trainer in a thread of its own while ``loop`` runs in another.

    An answer that some judge gave no grade has no reward, never a low one; raises UserError where none has.
    """

    async def every(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
        failures: list[str] = []
        # Answers of the same words are graded once: a policy that has settled gives many.
        keys = [(prompt.id, completion.text) for prompt, completion in zip(prompts, completions, strict=True)]
        distinct = dict(zip(keys, zip(prompts, completions, strict=True), strict=True))
        graded = await asyncio.gather(*(_mixed(parts, opponent, p, c, failures) for p, c in distinct.values()))
        found = dict(zip(distinct, graded, strict=True))
        if failures and all(grade is None for grade in graded):
            raise UserError(f"the reward could grade none of {len(graded)} answers: {failures[0]}")
        return [found[key] for key in keys]

    def reward(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
        return asyncio.run_coroutine_threadsafe(every(prompts, completions), loop).result()

    return reward


async def _mixed(
    parts: Sequence[Part], opponent: Opponent | None, prompt: Prompt, completion: Completion, failures: list[str]
) -> float | None:
    grades = await asyncio.gather(*(_grade(part, opponent, prompt, completion, failures) for part in parts))
    known = [grade for grade in grades if grade is not None]
    if len(known) < len(grades):
        return None
    return sum(part.weight * grade for part, grade in zip(parts, known, strict=True))


async def _grade(
    part: Part, opponent: Opponent | None, prompt: Prompt, completion: Completion, failures: list[str]
) -> float | None:
    """The mean grade over the orders and repeats that were answered."""
    scores = []
    try:
        beside = [await opponent.answer(prompt)] if part.compares and opponent else []
        asked = calls([(completion, *beside)], part.bench.design, swapped=False)
        for judgment in await asyncio.gather(*(put(prompt, call, part.bench.instrument) for call in asked)):
            if judgment.error is not None:
                failures.append(judgment.error)
            else:
                scores.append(judgment.scores[0])
    except RequestFailed as error:
        failures.append(str(error))
    return sum(scores) / len(scores) if scores else None
