"""TRL as an oracle: the same tokens, losses to 1e-5, gradients to rounding. Skipped where TRL is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import checkpoint, demonstrations, pairs
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_eval.interop.training_rows import turns
from trainers import sft
from trainers.batch import Layout, collate
from trainers.data import Limit, Tokenized, encode_demonstrations, encode_pairs
from trainers.dpo import Config, Objective
from trainers.logps import load_policy

pytestmark = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")

ROWS = 8
SHARED = {
    "per_device_train_batch_size": ROWS, "report_to": "none", "bf16": False, "use_cpu": True, "save_strategy": "no",
    "gradient_checkpointing": False, "max_length": 200,
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory, request) -> tuple[str, str]:
    """A reference, and a policy that has moved away from it."""
    import os

    before = {name: os.environ.get(name) for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")}
    os.environ.update(dict.fromkeys(before, "1"))  # TRL calls home whenever a trainer is made
    request.addfinalizer(
        lambda: [os.environ.pop(k) if v is None else os.environ.update({k: v}) for k, v in before.items()]
    )
    base = checkpoint(tmp_path_factory.mktemp("base"))
    moved = tmp_path_factory.mktemp("moved")
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(moved)
    AutoTokenizer.from_pretrained(base).save_pretrained(moved)
    return str(base), str(moved)


@pytest.fixture(scope="module")
def theirs(folders, tmp_path_factory) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    base, moved = folders
    rows = [{"prompt": turns(p.prompt), "chosen": turns(p.chosen), "rejected": turns(p.rejected)} for p in pairs(ROWS)]
    return DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(moved), ref_model=AutoModelForCausalLM.from_pretrained(base),
        args=DPOConfig(output_dir=str(tmp_path_factory.mktemp("trl")), beta=0.2, label_smoothing=0.1, **SHARED),
        train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(base),
    )  # fmt: skip


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(ours: tuple[Any, torch.Tensor], theirs: tuple[Any, torch.Tensor]) -> None:
    assert ours[1].item() == pytest.approx(theirs[1].item(), abs=1e-5, rel=2e-6)
    mine, other = gradients(*ours), gradients(*theirs)
    assert mine.keys() == other.keys()
    scale = max(1.0, *(g.abs().max().item() for g in other.values()))
    assert max((mine[name] - other[name]).abs().max().item() for name in mine) < 2e-6 * scale  # float32 rounds


def test_the_tokens_are_trls(theirs: Any, folders) -> None:
    rows, _ = encode_pairs(pairs(ROWS), Tokenized.load(folders[0]), Limit(max_length=200))
    for ours, other in zip(rows, theirs.train_dataset, strict=True):
        assert list(ours.prompt) == other["prompt_ids"]
        assert [list(answer) for answer in ours.answers] == [other["chosen_ids"], other["rejected_ids"]]


@pytest.mark.parametrize("layout", [Layout(share=False), Layout(), Layout(pack=128)], ids=["plain", "shared", "packed"])
@pytest.mark.parametrize(
    ("ours", "other"),
    [
        ("sigmoid", "sigmoid"), ("hinge", "hinge"), ("ipo_norm", "ipo"), ("robust", "robust"), ("apo_zero", "apo_zero"),
        ("apo_down", "apo_down"), ("sigmoid_norm", "sigmoid_norm"),
    ],
)  # fmt: skip
def test_losses_and_gradients_are_trls(ours: str, other: str, layout: Layout, theirs: Any, folders) -> None:
    """TRL reads its label smoothing for ``robust`` alone."""
    base, moved = folders
    theirs.loss_types, theirs.loss_weights = [other], [1.0]
    batch = theirs.data_collator([theirs.train_dataset[i] for i in range(ROWS)])
    theirs.model.eval()
    their_loss = theirs.compute_loss(theirs.model, dict(batch))
    policy = load_policy(moved).eval()
    config = Config(loss=ours, beta=0.2, label_smoothing=0.1 if ours == "robust" else 0.0)  # type: ignore[arg-type]
    objective = Objective(config, load_policy(base).eval(), expects_reference=True, starts=False)
    rows, _ = encode_pairs(pairs(ROWS), Tokenized.load(base), Limit(max_length=200))
    loss = objective(policy, collate(rows, layout, pad=0)).loss / ROWS
    assert_same((policy, loss), (theirs.model, their_loss))


def test_fine_tuning_is_trls(folders, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    base, _ = folders
    rows = [{"prompt": turns(d.prompt), "completion": turns(d.completion)} for d in demonstrations(ROWS)]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base), args=SFTConfig(output_dir=str(tmp_path), **SHARED),
        train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(base),
    )  # fmt: skip
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(ROWS)])
    trainer.model.eval()
    their_loss = trainer.compute_loss(trainer.model, dict(batch))
    model = load_policy(base).eval()
    examples, _ = encode_demonstrations(demonstrations(ROWS), Tokenized.load(base), Limit(max_length=200))
    packed = collate(examples, Layout(pack=64), pad=0)
    assert_same((model, sft.objective(model, packed).loss / len(packed["at"])), (trainer.model, their_loss))
