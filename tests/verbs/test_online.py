"""Online DPO and iterated rejection sampling: rounds of the ordinary verbs, each from the last round's checkpoint."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.online import Settings, online, rounds_of
from rlhf_eval.verbs.recipe import Step
from rlhf_eval.verbs.session import Options, Session


def go(place: Path, **table: Any) -> tuple[list[Step], Session]:
    session = Session(Options(store=place, quiet=True))

    async def work() -> list[Step]:
        try:
            load(session, {"source": "sandbox", "split": "train", "limit": 16})
            return [step async for step in online(session, table)]
        finally:
            await session.close()

    return asyncio.run(work()), session


def test_the_rounds_are_a_recipe():
    steps = rounds_of(Settings(method="dpo", model="m", rounds=2, train={"beta": 0.3}), "p")
    assert list(steps) == [f"{verb}.{k}" for k in (1, 2) for verb in ("generate", "judge", "pairs", "train")]
    assert steps["generate.2"]["model"] == steps["train.2"]["model"] == "run:train.1"
    assert steps["train.1"] == {"trainer": "dpo", "beta": 0.3, "model": "m"}
    anew = rounds_of(Settings(method="rejection_sampling", model="m", rounds=2, start="first"), "p")
    assert (anew["generate.2"]["model"], anew["train.2"]["model"]) == ("run:train.1", "m")
    assert (anew["pairs.2"]["rule"], anew["train.2"]["trainer"]) == ("top_per_prompt", "sft")


def test_each_round_answers_with_the_checkpoint_of_the_round_before(tmp_path):
    table = {
        "method": "rejection_sampling", "model": "sandbox:policy", "rounds": 2, "judge": {"judge": "gold"},
        "generate": {"n": 2, "max_tokens": 8}, "train": {"learning_rate": 1e-3},
    }  # fmt: skip
    steps, session = go(tmp_path, **table)
    runs = {step.name: step.result.run for step in steps}
    first = runs["train.1"].id
    assert runs["train.2"].inputs["model"] == first
    assert {c.model for c in session.store.read(Completion, run=runs["generate.1"].id)} == {"sandbox:policy"}
    assert all(c.model.startswith("sft-") for c in session.store.read(Completion, run=runs["generate.2"].id))
    assert first in session.lineage(runs["train.2"])
    again, _ = go(tmp_path, **table)
    assert {step.name: step.result.run.id for step in again} == {name: run.id for name, run in runs.items()}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"model": ""}, "needs a model"),
        ({"judge": {}}, "needs a judge"),
        ({"rounds": 0}, "rounds is 0"),
        ({"method": "ppo"}, "method"),
    ],
)
def test_mistakes_are_one_line(tmp_path, table, words):
    with pytest.raises(UserError, match=words):
        go(tmp_path, **{"model": "sandbox:policy", "judge": {"judge": "gold"}, **table})
