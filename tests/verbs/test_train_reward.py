"""A reward model through the verbs: trained, measured at once, and then a judge like any other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from rlhf_eval.errors import UserError  # noqa: E402
from rlhf_eval.records import Completion, Estimate, Judgment, PreferencePair, Prompt, to_json  # noqa: E402
from rlhf_eval.sandbox import world  # noqa: E402
from rlhf_eval.verbs.flow import judge  # noqa: E402
from rlhf_eval.verbs.load import load  # noqa: E402
from rlhf_eval.verbs.session import Options, Session  # noqa: E402
from rlhf_eval.verbs.train import TrainResult, train  # noqa: E402

TABLE = {
    "trainer": "reward_model",
    "model": "sandbox:policy",
    "learning_rate": 1e-3,
    "batch_size": 8,
    "eval_share": 0.25,
}


def pairs_of(prompts: list[Prompt]) -> list[PreferencePair]:
    """The right answer against the same with more words, and against one that is wrong."""
    found = []
    for prompt in prompts:
        texts = (prompt.reference or "", f"The answer is {prompt.reference} and nothing else.", "stone stone")
        sides = [Completion.of(prompt_id=prompt.id, model="m", text=text, sample=n) for n, text in enumerate(texts)]
        found += [
            PreferencePair.of(prompt=prompt, chosen=sides[0], rejected=worse, probability=1.0, margin=1.0,
                              labeler="gold", rule="test")
            for worse in sides[1:]
        ]  # fmt: skip
    return found


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Pairs to train on, and pairs of other prompts."""
    written = {}
    for name, split, count in (("pairs", "train", 24), ("others", "heldout", 12)):
        written[name] = tmp_path / f"{name}.jsonl"
        written[name].write_bytes(b"".join(to_json(p) + b"\n" for p in pairs_of(world.prompts(split, count))))
    return written


def run(session: Session, table: Mapping[str, Any]) -> TrainResult:
    async def work() -> TrainResult:
        try:
            return await train(session, table)
        finally:
            await session.close()

    return asyncio.run(work())


def test_it_is_measured_at_once_on_prompts_that_it_has_not_seen(tmp_path: Path, files: dict[str, Path]) -> None:
    session = Session(Options(store=tmp_path / "store", quiet=True))
    result = run(session, {**TABLE, "data": str(files["pairs"])})
    stored = {estimate.name: estimate for estimate in session.store.read(Estimate, run=result.run.id)}
    assert {"accuracy", "brier", "log_loss", "ece", "prefers_longer"} <= set(stored)
    assert stored["accuracy"].n == 6
    assert stored["accuracy"].low < stored["accuracy"].value <= stored["accuracy"].high
    assert stored["accuracy"].settings["judge"].startswith("reward_model/")
    assert result.metrics is not None
    assert result.metrics.rows == 18
    card = (result.checkpoint / "README.md").read_text() if result.checkpoint else ""
    assert "## On held-out pairs" in card
    assert f"| accuracy | {stored['accuracy'].value:.4g} |" in card
    again = run(Session(Options(store=tmp_path / "store", quiet=True)), {**TABLE, "data": str(files["pairs"])})
    assert again.resumed
    assert {e.name for e in again.estimates} == set(stored)


def test_given_pairs_are_measured_instead_and_must_be_others(tmp_path: Path, files: dict[str, Path]) -> None:
    table = {**TABLE, "data": str(files["pairs"]), "heldout": str(files["others"])}
    session = Session(Options(store=tmp_path / "store", quiet=True))
    result = run(session, table)
    assert result.metrics is not None
    assert result.metrics.rows == 24
    assert next(e.n for e in result.estimates if e.name == "accuracy") == 12
    with pytest.raises(UserError, match="24 prompts of the held-out pairs are trained on too"):
        run(session, {**table, "heldout": str(files["pairs"])})


def test_labelers_of_several_sets_get_a_head_each(tmp_path: Path, files: dict[str, Path]) -> None:
    files["others"].write_text(files["others"].read_text().replace('"gold"', '"anna"'))
    session = Session(Options(store=tmp_path / "store", quiet=True))
    both = (str(files["pairs"]), str(files["others"]))
    result = run(session, {**TABLE, "data": both, "labelers": True, "freeze": True})
    assert result.checkpoint is not None
    assert json.loads((result.checkpoint / "heads.json").read_text())["names"] == ["anna", "gold"]
    assert {name.partition(" ")[0] for name in result.run.inputs} == {"file:pairs.jsonl", "file:others.jsonl"}
    card = (result.checkpoint / "README.md").read_text()
    assert "file:others.jsonl 2" in card


def test_the_judge_of_a_run_scores_as_transformers_does(tmp_path: Path, files: dict[str, Path]) -> None:
    session = Session(Options(store=tmp_path / "store", quiet=True))
    trained = run(session, {**TABLE, "data": str(files["pairs"])})
    rows = [{"prompt": p.text, "completion": p.reference} for p in world.prompts("heldout", 8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fresh = Session(Options(store=tmp_path / "store", quiet=True, max_cost=0.0))  # what runs here is free
    load(fresh, {"source": "trl", "path": str(tmp_path / "rows.jsonl")})

    async def work() -> dict[str, float]:
        judged = await judge(fresh, {"judge": "reward_model", "judge_model": f"run:{trained.run.id}"})
        asked = {prompt.id: prompt.text for prompt in fresh.store.read(Prompt)}
        await fresh.close()
        return {asked[j.prompt_id]: j.scores[0] for j in fresh.read(Judgment, judged.run)}

    scores = asyncio.run(work())
    model = transformers.AutoModelForSequenceClassification.from_pretrained(trained.checkpoint, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained.checkpoint)
    for row in rows:
        talk = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        ids = tokenizer(tokenizer.apply_chat_template(talk, tokenize=False), add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            assert scores[row["prompt"]] == pytest.approx(model(torch.tensor([ids])).logits.item(), abs=1e-5)
