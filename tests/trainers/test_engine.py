"""The engine: averages that no split changes, resuming bit by bit, stopping in order, and losses that are no number."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import checkpoint, demonstrations, killed, pairs
from transformers import AutoModelForCausalLM

from rlhf_eval.errors import UserError
from rlhf_eval.stages.training import Data, Job
from trainers import dpo, sft
from trainers.engine import Settings, split_batch, steps_of
from trainers.logps import load_policy
from trainers.saving import SaveClock

FAST = {"learning_rate": 0.01, "batch_size": 8, "log_every": 1, "warmup": 0.0}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(checkpoint(tmp_path_factory.mktemp("base")))


class Watched:
    """A job that keeps its rows of metrics and can be told to stop at a step."""

    def __init__(self, base: str, *, stop_at: int = 0, **more: Any) -> None:
        self.rows: list[dict[str, Any]] = []
        self.stop_at = stop_at
        self.job = Job(model=base, log=lambda row: self.rows.append(dict(row)), stopping=self._stopping, **more)

    def _stopping(self) -> bool:
        return bool(self.stop_at) and len(self.rows) + 1 >= self.stop_at

    def losses(self) -> list[float]:
        return [row["loss"] for row in self.rows if row["split"] == "train"]


def run_dpo(base: str, out: Path, *, stop_at: int = 0, data: Any = None, job: Any = None, **settings: Any) -> Watched:
    watched = Watched(base, stop_at=stop_at, **(job or {}))
    dpo.train(Data(pairs=tuple(data or pairs(24, 0.8))), out, dpo.Config(**{**FAST, **settings}), watched.job)
    return watched


def run_sft(base: str, out: Path, **settings: Any) -> Watched:
    watched = Watched(base)
    sft.train(Data(demonstrations=tuple(demonstrations(24))), out, sft.Config(**{**FAST, **settings}), watched.job)
    return watched


def weights(out: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(out / "checkpoint")
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("run", [run_sft, run_dpo])
@pytest.mark.parametrize(
    "other",
    [
        {"micro_batch": 2},
        {"attention": "masked"},
        {"attention": "masked", "pack": 64},
        {"micro_batch": 4, "checkpointing": True},
    ],
)
def test_no_split_and_no_layout_changes_a_training(run, other, base: str, tmp_path: Path) -> None:
    plain, split = run(base, tmp_path / "a"), run(base, tmp_path / "b", **other)
    assert len(plain.losses()) == 3
    assert split.losses() == pytest.approx(plain.losses(), abs=2e-5)
    assert [row["tokens"] for row in split.rows] == [row["tokens"] for row in plain.rows]
    assert (
        weights(tmp_path / "a") - weights(tmp_path / "b")
    ).abs().max() < 2e-3  # Adam's first steps divide by tiny numbers


def test_a_training_that_was_stopped_goes_on_bit_by_bit(base: str, tmp_path: Path) -> None:
    whole = run_dpo(base, tmp_path / "whole", epochs=3)
    first = run_dpo(base, tmp_path / "parts", epochs=3, stop_at=4)
    assert len(first.losses()) == 4
    assert not (tmp_path / "parts/checkpoint").exists()
    rest = run_dpo(base, tmp_path / "parts", epochs=3)
    assert first.losses() + rest.losses() == whole.losses()
    assert [row["tokens"] for row in (*first.rows, *rest.rows)] == [row["tokens"] for row in whole.rows]
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_training_that_was_killed_goes_on_bit_by_bit(base: str, tmp_path: Path) -> None:
    settings = {"epochs": 3, "save_minutes": 1e-9}

    def train_until_killed() -> None:
        def log(row: dict[str, Any]) -> None:
            if row["step"] == 6:
                os.kill(os.getpid(), signal.SIGKILL)

        job = Job(model=base, log=log)
        dpo.train(Data(pairs=tuple(pairs(24, 0.8))), tmp_path / "parts", dpo.Config(**FAST, **settings), job)

    assert killed(train_until_killed)
    cut_short = tmp_path / "parts/steps/checkpoint-8"  # killed while it was written
    cut_short.mkdir()
    (cut_short / "trainer_state.json").write_text('{"global_step": 8, ')
    whole = run_dpo(base, tmp_path / "whole", **settings)
    rest = run_dpo(base, tmp_path / "parts", **settings)
    assert 0 < len(rest.losses()) < 9
    assert rest.losses() == whole.losses()[-len(rest.losses()) :]
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_states_are_kept_by_the_clock_and_never_at_much_of_a_cost() -> None:
    time = [0.0]
    clock = SaveClock(minutes=1.0, now=lambda: time[0])
    found = []
    for second in range(1, 400):
        time[0] += 1
        if clock.due():
            found.append(second)
            with clock.saving():
                time[0] += 5.0
    assert found == [60, 160, 260, 360]


def test_a_loss_that_is_no_number_names_the_step_and_the_rows(base: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"the loss is nan at step 1 \(rows \w+, .*look at these rows, or lower learning_rate$"
    ):
        run_dpo(base, tmp_path, data=[_with_margin(p, float("nan")) for p in pairs(8)], offset=1.0)


def _with_margin(pair: Any, margin: float) -> Any:
    object.__setattr__(pair, "margin", margin)
    return pair


@pytest.mark.parametrize("reference", ["cached", "copy"])
def test_the_first_loss_is_that_of_a_policy_which_equals_its_reference(
    reference: str, base: str, tmp_path: Path
) -> None:
    losses = run_dpo(base, tmp_path, reference=reference).losses()
    assert losses[0] == pytest.approx(0.6931472, abs=1e-6)
    assert losses[-1] < losses[0]


def test_the_reference_is_cached_by_content(base: str, tmp_path: Path) -> None:
    cache = {"cache": tmp_path / "cache"}
    fresh = run_dpo(base, tmp_path / "a", job=cache)
    (kept,) = (tmp_path / "cache").iterdir()
    before = kept.stat().st_mtime_ns
    again = run_dpo(base, tmp_path / "b", job=cache)
    assert kept.stat().st_mtime_ns == before
    assert again.losses() == fresh.losses()
    run_dpo(base, tmp_path / "c", job=cache, data=pairs(16))
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_reference_that_is_another_model_is_refused(base: str, tmp_path: Path, monkeypatch) -> None:
    folders = iter([base, str(checkpoint(tmp_path / "other", seed=1))])  # the policy's, then the reference's
    monkeypatch.setattr(dpo, "load_policy", lambda _: load_policy(next(folders)))
    with pytest.raises(UserError, match="the reference is another model"):
        run_dpo(base, tmp_path / "out", reference="copy")


def test_an_adapter_starts_at_the_same_loss_learns_and_is_merged(base: str, tmp_path: Path) -> None:
    losses = run_dpo(base, tmp_path, lora_rank=4, epochs=3).losses()
    assert losses[0] == pytest.approx(0.6931472, abs=1e-6)
    assert losses[-1] < 0.68
    assert not (tmp_path / "checkpoint/adapter_config.json").exists()
    assert (
        weights(tmp_path) - torch.cat([p.flatten() for p in AutoModelForCausalLM.from_pretrained(base).parameters()])
    ).abs().max() > 1e-3


@pytest.mark.parametrize("loss", ["simpo", "orpo", "slic", "ipo", "r3m", "rebel", "apo_down", "sigmoid_norm"])
def test_every_loss_trains(loss: str, base: str, tmp_path: Path) -> None:
    losses = run_dpo(base, tmp_path, loss=loss, epochs=4).losses()
    assert min(losses[-3:]) < losses[0]


def test_kto_takes_pairs_apart(base: str, tmp_path: Path) -> None:
    from rlhf_eval.stages.training_files import both_sides

    watched = Watched(base)
    config = dpo.Config(**FAST, loss="kto", epochs=3)
    dpo.train(Data(labelled=both_sides(pairs(16))), tmp_path, config, watched.job)
    assert watched.losses()[0] == pytest.approx(0.5, abs=1e-6)
    assert watched.losses()[-1] < 0.5
    assert all(row["kl"] >= 0 for row in watched.rows)


@pytest.mark.parametrize(
    ("data", "settings", "said"),
    [
        (Data(), {"loss": "kto"}, "kto learns from single answers"),
        (Data(), {}, "learns from pairs"),
        (Data(pairs=tuple(_with_margin(p, 0.0) for p in pairs(4))), {"loss": "rebel"}, "rebel .* 4 of 4 have none"),
        (Data(pairs=(*pairs(3), _with_margin(pairs(4)[3], 0.0))), {"offset": 1.0}, "offset .* 1 of 4 have none"),
    ],
)
def test_data_that_a_loss_cannot_use(data: Data, settings: Any, said: str, base: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        dpo.plan(data, dpo.Config(**settings), Job(model=base))


def test_what_is_held_out_is_measured_and_never_trained_on(base: str, tmp_path: Path) -> None:
    watched = run_dpo(base, tmp_path, eval_share=0.25)
    (row,) = (row for row in watched.rows if row["split"] == "eval")
    assert {"loss", "accuracy", "margin"} <= set(row)
    data = Data(pairs=tuple(pairs(24)))
    assert dpo.plan(data, dpo.Config(eval_share=0.25), Job(model=base)).rows < 24


def test_a_plan_counts_what_would_be_trained(base: str) -> None:
    found = sft.plan(
        Data(demonstrations=tuple(demonstrations(10))), sft.Config(batch_size=4, epochs=2), Job(model=base)
    )
    assert (found.rows, found.steps) == (10, 6)
    assert found.parameters == sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(base).parameters())
    assert found.memory > 16 * found.parameters


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    assert split_batch(Settings(batch_size=32, micro_batch=4), 2) == (4, 4)
    with pytest.raises(UserError, match="3 processes cannot share"):
        split_batch(Settings(batch_size=32), 3)
    with pytest.raises(UserError, match="micro_batch is 5"):
        split_batch(Settings(batch_size=32, micro_batch=5), 1)
    assert steps_of(Settings(batch_size=8, epochs=1.5), 20) == 5


def test_a_reward_model_is_no_policy(tmp_path: Path) -> None:
    from tiny import config, tokenizer
    from transformers import LlamaForSequenceClassification

    made = config()
    made.num_labels = 1
    LlamaForSequenceClassification(made).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a reward model; a policy starts from"):
        run_dpo(str(tmp_path), tmp_path / "out")
