"""A new reward model on pairs that it was not trained on: measured as soon as it is there, by the ordinary benchmark.

estimates = await measured(session, run, pairs)   # accuracy, calibration, length; stored in the run
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.benchmarks.reward_model import Config, score
from rlhf_eval.errors import RequestFailed
from rlhf_eval.models.base import Conversation
from rlhf_eval.models.door import Door
from rlhf_eval.records import Completion, Estimate, Judgment, Message, PreferencePair, Prompt
from rlhf_eval.store.writer import RunWriter
from rlhf_eval.verbs.session import Session
from rlhf_eval.verbs.trained import door_spec

TIE = 0.5
"""The probability of a pair that says nothing about which answer is better."""


async def measured(session: Session, run: RunWriter, pairs: Sequence[PreferencePair]) -> list[Estimate]:
    """Score both sides of every pair with the run's checkpoint, and store what the benchmark makes of that.

    Pairs that are ties are left out; none left gives no estimates.
    """
    decided = [pair for pair in pairs if pair.probability != TIE]
    if not decided:
        return []
    door = session.door(door_spec(session.store, f"run:{run.run.id}"))
    sides = {
        identity: (pair, turns)
        for pair in decided
        for identity, turns in ((pair.chosen_id, pair.chosen), (pair.rejected_id, pair.rejected))
    }
    judgments = await asyncio.gather(*(_judged(door, pair, i, turns) for i, (pair, turns) in sides.items()))
    evidence = Evidence(
        prompts={pair.prompt_id: _prompt(pair) for pair in decided} | _known(session, run, decided),
        completions={i: _completion(pair, i, turns) for i, (pair, turns) in sides.items()},
        judgments=tuple(judgments),
        labels={(pair.chosen_id, pair.rejected_id): (pair.probability, 1 - pair.probability) for pair in decided},
    )
    estimates = score(evidence, Config())
    for estimate in estimates:
        run.append("estimates", estimate)
    return estimates


async def _judged(door: Door, pair: PreferencePair, identity: str, turns: Sequence[Message]) -> Judgment:
    """The reward of one side; one that cannot be scored is a failure that the benchmark counts."""
    talk: Conversation = (*pair.prompt, *turns)
    try:
        scores, error = tuple(await door.score([talk])), None
    except RequestFailed as failure:
        scores, error = (), str(failure)
    return Judgment.of(
        prompt_id=pair.prompt_id,
        completion_ids=(identity,),
        judge=f"reward_model/{door.name}",
        scores=scores,
        error=error,
    )


def _known(session: Session, run: RunWriter, pairs: Sequence[PreferencePair]) -> dict[str, Prompt]:
    """The prompts as the store has them, with their categories, where the pairs come from there."""
    wanted = {pair.prompt_id for pair in pairs}
    held = session.store.read(Prompt, run=session.lineage(run.run))
    return {prompt.id: prompt for prompt in held if prompt.id in wanted}


def _prompt(pair: PreferencePair) -> Prompt:
    return Prompt(id=pair.prompt_id, messages=pair.prompt or pair.chosen[:-1])


def _completion(pair: PreferencePair, identity: str, turns: Sequence[Message]) -> Completion:
    return Completion(id=identity, prompt_id=pair.prompt_id, model="held out", text=turns[-1].content)
