"""A set exported for TRL trains one step of each of its trainers: DPO, reward model and SFT; KTO reads its rows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import rlhf_eval
from rlhf_eval.verbs.flow import generate, judge
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.pairs import pairs
from rlhf_eval.verbs.session import Options, Session

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")
transformers = pytest.importorskip("transformers")

CHECKPOINT = Path(rlhf_eval.__file__).with_name("sandbox") / "policy"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A preference set and an SFT set, made by the verbs and written in TRL's shapes."""
    place = tmp_path_factory.mktemp("trl")
    questions = place / "questions.jsonl"
    questions.write_text("".join(json.dumps({"prompt": f"add {i} and {i + 2}"}) + "\n" for i in range(12)))
    session = Session(Options(store=place / "store", quiet=True))

    async def line() -> None:
        load(session, {"source": "jsonl", "path": str(questions)})
        await generate(session, {"model": "mock:writer", "n": 3})
        await judge(session, {"judge": "pairwise", "judge_model": "mock:judge"})
        await session.close()

    asyncio.run(line())
    written = {}
    for name, rule, shape in (
        ("pairs", "best_worst", "trl"),
        ("plain", "best_worst", "trl_text"),
        ("sft", "top_per_prompt", "trl"),
        ("kto", "best_worst", "trl_unpaired"),
    ):
        written[name] = place / f"{name}.jsonl"
        pairs(session, {"rule": rule, "format": shape, "out": str(written[name])})
    return written


def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(CHECKPOINT)


def rows(file: Path) -> Any:
    return datasets.Dataset.from_json(str(file), cache_dir=str(file.parent / "cache"))


def settings(kind: Any, out: Path, **more: Any) -> Any:
    return kind(
        output_dir=str(out),
        max_steps=1,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        use_cpu=True,
        bf16=False,
        fp16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        **more,
    )


def trained(trainer: Any) -> None:
    result = trainer.train()
    assert result.global_step == 1
    assert result.training_loss == result.training_loss  # not a NaN
    assert 0 < result.training_loss < 100


@pytest.mark.parametrize("name", ["pairs", "plain"])
def test_dpo_trains_a_step(name: str, sets: dict[str, Path], tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype="float32")
    args = settings(trl.DPOConfig, tmp_path, max_length=256)
    trained(trl.DPOTrainer(model=model, args=args, train_dataset=rows(sets[name]), processing_class=tokenizer()))


def test_the_reward_trainer_trains_a_step(sets: dict[str, Path], tmp_path: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(CHECKPOINT, num_labels=1, dtype="float32")
    model.config.pad_token_id = tokenizer().pad_token_id
    args = settings(trl.RewardConfig, tmp_path, max_length=256)
    trained(trl.RewardTrainer(model=model, args=args, train_dataset=rows(sets["pairs"]), processing_class=tokenizer()))


def test_sft_trains_a_step_on_what_rejection_sampling_kept(sets: dict[str, Path], tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype="float32")
    args = settings(trl.SFTConfig, tmp_path, max_length=256)
    trained(trl.SFTTrainer(model=model, args=args, train_dataset=rows(sets["sft"]), processing_class=tokenizer()))


def test_unpaired_rows_are_what_kto_reads(sets: dict[str, Path]) -> None:
    data = rows(sets["kto"])
    assert set(data.column_names) == {"prompt", "completion", "label"}
    assert set(data["label"]) == {True, False}
    from trl.data_utils import is_conversational

    assert is_conversational(data[0])
