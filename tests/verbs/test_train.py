"""The verb ``train``: lineage, resuming, refusals, ``run:REF`` as a model, and what training does in the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny

from rlhf_eval.errors import UserError
from rlhf_eval.interop import trl
from rlhf_eval.interop.jsonl import detect
from rlhf_eval.records import Completion, Demonstration, PreferencePair, to_json
from rlhf_eval.sandbox.gold import reward
from rlhf_eval.store.runs import Store
from rlhf_eval.verbs import train as verb
from rlhf_eval.verbs.flow import generate, judge
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.pairs import pairs
from rlhf_eval.verbs.session import Options, Session
from rlhf_eval.verbs.train import TrainResult

SFT = {"trainer": "sft", "learning_rate": 1e-3, "epochs": 6.0, "batch_size": 16}
DPO = {"trainer": "dpo", "learning_rate": 5e-4, "epochs": 3.0, "batch_size": 16, "beta": 0.3, "nll_weight": 0.3}


def session(store: Path, **options: Any) -> Session:
    return Session(Options(store=store, quiet=True, **options))


def train(store: Path, table: Mapping[str, Any], **options: Any) -> TrainResult:
    async def work() -> TrainResult:
        return await verb.train(session(store, **options), table)

    return asyncio.run(work())


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A store with 100 prompts of the sandbox, six answers to each, gold's judgments, and the two sets made of them."""
    place = tmp_path_factory.mktemp("store")

    async def work() -> None:
        here = session(place, limit=100)
        loaded = load(here, {"source": "sandbox", "split": "train"})
        drawn = await generate(here, {"prompts": loaded.run.id, "model": "sandbox:policy", "n": 6, "max_tokens": 48})
        await judge(here, {"completions": drawn.run.id, "judge": "gold"})
        await here.close()
        pairs(session(place), {"judgments": "latest:judge", "rule": "best_worst", "control": False})
        pairs(session(place), {"judgments": "latest:judge", "rule": "top_per_prompt", "control": False})

    asyncio.run(work())
    return place


def run_of(store: Path, kind: type) -> str:
    here = Store(store)
    return next(run.id for run in reversed(here.runs("pairs")) if here.read(kind, run=run.id))


@pytest.fixture(scope="module")
def tuned(store: Path) -> TrainResult:
    return train(store, {**SFT, "model": "sandbox:policy", "data": run_of(store, Demonstration)})


@pytest.fixture(scope="module")
def preferred(store: Path, tuned: TrainResult) -> TrainResult:
    return train(store, {**DPO, "model": f"run:{tuned.run.id}", "data": run_of(store, PreferencePair)})


def test_a_checkpoint_knows_where_it_comes_from(store: Path, tuned: TrainResult, preferred: TrainResult) -> None:
    here = session(store)
    line = here.lineage(preferred.run)
    verbs = ["generate", "judge", "load", "pairs", "pairs", "train", "train"]
    assert sorted(identity.split("-")[1] for identity in line) == verbs
    assert preferred.run.inputs == {"data": run_of(store, PreferencePair), "model": tuned.run.id}
    card = (store / "runs" / preferred.run.id / "checkpoint/README.md").read_text("utf-8")
    for said in (tuned.run.id, run_of(store, PreferencePair), "gold", "| beta | 0.3 |", "base_model:"):
        assert said in card
    assert not (store / "runs" / preferred.run.id / "steps").exists()


def test_metrics_rows_are_flat_and_complete(store: Path, preferred: TrainResult) -> None:
    rows = Store(store).metrics(preferred.run.id)
    assert rows[-1]["step"] == preferred.metrics.steps == preferred.plan.steps
    for row in rows:
        assert {"step", "split", "seconds", "tokens", "loss", "accuracy", "margin", "grad_norm", "epoch"} <= set(row)
        assert all(isinstance(value, int | float | str) for value in row.values())
    assert [row["tokens"] for row in rows] == sorted(row["tokens"] for row in rows)


def test_the_same_training_again_finds_its_run(store: Path, tuned: TrainResult) -> None:
    again = train(store, {**SFT, "model": "sandbox:policy", "data": run_of(store, Demonstration)})
    assert again.resumed
    assert again.run.id == tuned.run.id
    assert again.metrics.final == tuned.metrics.final
    assert (again.metrics.steps, again.metrics.tokens) == (tuned.metrics.steps, tuned.metrics.tokens)


def test_a_dry_run_counts_and_stores_nothing(store: Path) -> None:
    before = len(Store(store).runs())
    found = train(store, {**DPO, "model": "sandbox:policy", "data": run_of(store, PreferencePair)}, dry_run=True)
    assert found.metrics is None
    assert found.plan.steps == 3 * -(-found.plan.rows // 16)
    assert found.plan.parameters == 971_904
    assert len(Store(store).runs()) == before


def test_training_raises_the_true_reward_on_held_out_prompts(
    store: Path, tuned: TrainResult, preferred: TrainResult
) -> None:
    """Rejection sampling lifts the base, DPO lifts that again or holds it; tests/bench/effects.py has the intervals."""
    models = ("sandbox:policy", f"run:{tuned.run.id}", f"run:{preferred.run.id}")

    async def work() -> list[float]:
        here = session(store, limit=120)
        asked = load(here, {"source": "sandbox", "split": "heldout"})
        means = []
        for model in models:
            drawn = await generate(here, {"prompts": asked.run.id, "model": model, "n": 2, "max_tokens": 48})
            prompts = {p.id: p for p in here.prompts(drawn.run)}
            answers = here.read(Completion, drawn.run)
            means.append(sum(reward(prompts[a.prompt_id], a.text).reward for a in answers) / len(answers))
        await here.close()
        return means

    base, sft, dpo = asyncio.run(work())
    assert sft > base + 0.06
    assert dpo > base + 0.10


def test_a_trained_checkpoint_answers_under_its_own_name(store: Path, tuned: TrainResult) -> None:
    here = session(store)
    door = here.door(f"run:{tuned.run.id}")
    assert door.name == f"sft-{tuned.run.id[-8:-4]}"
    assert here.door(f"tonight=run:{tuned.run.id}").name == "tonight"
    assert door.id.endswith("float64"), "the sandbox's models answer in double precision"


def test_files_train_like_runs(store: Path, tmp_path: Path) -> None:
    here = Store(store)
    stored = here.read(PreferencePair, run=run_of(store, PreferencePair))[:32]
    ours, theirs = tmp_path / "ours.jsonl", tmp_path / "trl.jsonl"
    ours.write_bytes(b"\n".join(map(to_json, stored)) + b"\n")
    trl.write(stored, theirs)
    table = {**DPO, "model": "sandbox:policy", "epochs": 1.0, "nll_weight": 0.0}
    found = [train(tmp_path / "store", {**table, "data": str(path)}) for path in (ours, theirs)]
    assert found[0].metrics.final["loss"] == pytest.approx(found[1].metrics.final["loss"], abs=1e-6)
    assert detect(ours)
    assert list(found[0].run.inputs) == ["file:ours.jsonl"]


@pytest.mark.parametrize(
    ("trainer", "settings", "said"),
    [
        ("dpo", {"data": "demos.jsonl"}, "dpo reads pairs or labelled, and demos.jsonl holds"),
        ("sft", {"data": "pairs.jsonl"}, "sft reads demonstrations, and pairs.jsonl holds"),
        ("sft", {"data": "gone.jsonl"}, "gone.jsonl: no such file"),
        ("sft", {"model": ""}, "train needs a model to start from"),
        ("sft", {"model": "mock:writer"}, "has no weights that could be trained"),
        ("sft", {"model": "hf:./nowhere"}, "no such folder"),
        ("sft", {"model": "hf:nobody/nothing"}, "no such model could be had from the hub"),
        ("sft", {"model": "run:latest:train"}, "no store|no run 'latest:train'|holds no runs"),
        ("sfd", {}, "there is no trainer 'sfd'. Did you mean 'sft'"),
        ("dpo", {"bta": 1}, "no setting 'bta'. Did you mean 'beta'"),
        ("dpo", {"beta": 0}, "beta is 0"),
        ("dpo", {"max_length": 4, "too_long": "refuse"}, "max_length is 4"),
        ("sft", {"reward": {"judge": "gold"}}, "takes no reward"),
        ("sft", {"out": "demos.jsonl"}, "demos.jsonl: no checkpoint can be copied here: File exists"),
    ],
)
def test_a_mistake_is_one_line(
    trainer: str, settings: Mapping[str, Any], said: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trl.write(tiny.pairs(4), Path("pairs.jsonl"))
    trl.write(tiny.demonstrations(4), Path("demos.jsonl"))
    usual = {"model": "sandbox:policy", "data": "pairs.jsonl" if trainer == "dpo" else "demos.jsonl"}
    with pytest.raises(UserError, match=said) as caught:
        train(tmp_path / "store", {"trainer": trainer, **usual, **settings})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store/runs").exists() or not Store(tmp_path / "store").runs()


def test_a_run_without_a_checkpoint_is_no_model(store: Path) -> None:
    with pytest.raises(UserError, match="is a run of load and holds no checkpoint"):
        train(store, {**SFT, "model": "run:latest:load", "data": run_of(store, Demonstration)})
