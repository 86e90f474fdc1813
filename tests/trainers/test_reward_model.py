"""Reward models from a shallow policy: what changes no number, what TRL makes of the same rows, and what is saved."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tiny import shallow_policy  # noqa: E402

from rlhf_eval.config import as_settings  # noqa: E402
from rlhf_eval.errors import UserError  # noqa: E402
from rlhf_eval.models import open_model  # noqa: E402
from rlhf_eval.models.local.heads import combined, read_heads  # noqa: E402
from rlhf_eval.records import Completion, Message, PreferencePair, Prompt, to_json  # noqa: E402
from rlhf_eval.stages.pairs import Labelled  # noqa: E402
from rlhf_eval.stages.training import Data, Job, Metrics, Stepwise  # noqa: E402
from trainers.batch import Layout  # noqa: E402
from trainers.data import Limit, Tokenized  # noqa: E402
from trainers.heads import load_scorer, pad_apart  # noqa: E402
from trainers.reward_data import (  # noqa: E402
    Graded,
    bootstrapped,
    collate_graded,
    encode_contests,
    encode_steps,
    ranked,
)
from trainers.reward_model import Config, Objective, plan, train  # noqa: E402

POLICY = shallow_policy().name
ANSWERS = ("5", "The answer is 5.", "7 7 7", "apple pear plum stone leaf")


def prompt(number: int, words: int = 1) -> Prompt:
    return Prompt.of(f"add {number} and 2" + " stone" * words)


def pair(asked: Prompt, better: str, worse: str, **changes: Any) -> PreferencePair:
    sides = [Completion.of(prompt_id=asked.id, model="m", text=text, origin=text) for text in (better, worse)]
    told = {"probability": 1.0, "margin": 1.0, "labeler": "gold", "rule": "test"} | changes
    return PreferencePair.of(prompt=asked, chosen=sides[0], rejected=sides[1], **told)


def ranking(asked: Prompt, answers: Sequence[str] = ANSWERS) -> list[PreferencePair]:
    return [pair(asked, better, worse) for i, better in enumerate(answers) for worse in answers[i + 1 :]]


PAIRS = [p for n in range(6) for p in ranking(prompt(n, words=5 * n), ANSWERS[: 2 + n % 3])]
SOFT = [replace(p, probability=(0.5, 0.7, 0.9, 1.0)[n % 4]) for n, p in enumerate(PAIRS)]


@pytest.fixture(scope="module")
def tokens() -> Tokenized:
    return Tokenized.load(POLICY)


@pytest.fixture(scope="module")
def scorer():
    torch.set_num_threads(1)
    return load_scorer(POLICY, heads=1, seed=0).double().eval()


def graded(tokens: Tokenized, pairs: Sequence[PreferencePair] = SOFT, *, by_prompt: bool = True) -> list[Graded]:
    return encode_contests(pairs, tokens, Limit(), by_prompt=by_prompt)[0]


def loss_and_slope(
    model: Any, examples: Sequence[Graded], config: Config | None = None, layout: Layout | None = None, pad: int = 0
) -> tuple[float, torch.Tensor]:
    """The objective's sum and its gradient, all weights in one vector."""
    config = config or Config(margin=0.3, center=0.1)
    batch = collate_graded(
        examples, layout or Layout(), pad=pad, heads_of=lambda _: (1.0,), rank=config.objective == "plackett_luce"
    )
    model.zero_grad()
    terms = Objective(config)(model, batch)
    terms.loss.backward()
    return terms.loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def trained(out: Path, config: Config, data: Data | None = None, **job: Any) -> Metrics:
    """Train on everything: what is measured on held-out pairs is the verb's business."""
    return train(data or Data(pairs=tuple(PAIRS)), out, replace(config, eval_share=0.0), Job(model=POLICY, **job))


def rewards(folder: Path, talks: Sequence[tuple[Message, ...]]) -> list[float]:
    """The rewards by transformers alone, one row at a time."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for talk in talks:
        turns = [{"role": turn.role, "content": turn.content} for turn in talk]
        ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            found.append(model(torch.tensor([ids])).logits.item())
    return found


TALKS = [(*p.prompt, *side) for p in PAIRS[:7] for side in (p.chosen, p.rejected)]


# What changes no number -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout", [Layout(share=False), Layout(pack=200), Layout(share=False, pack=120)], ids=["apart", "packed", "both"]
)
def test_the_layout_changes_nothing(scorer, tokens, layout: Layout) -> None:
    loss, slope = loss_and_slope(scorer, graded(tokens))
    other, turned = loss_and_slope(scorer, graded(tokens), layout=layout)
    assert other == pytest.approx(loss, abs=1e-9)
    assert (slope - turned).abs().max() < 1e-5  # of 61; the norms of a Llama are in single precision


def test_neither_do_the_padding_token_nor_its_side(scorer, tokens) -> None:
    loss, _ = loss_and_slope(scorer, graded(tokens))
    assert loss_and_slope(scorer, graded(tokens), pad=tokens.eos)[0] == pytest.approx(loss, abs=1e-9)
    rows = [[*e.prompt, *answer] for e in graded(tokens) for answer in e.answers]
    batch = collate_graded(graded(tokens), Layout(share=False), pad=0, heads_of=lambda _: (1.0,))
    ours = scorer(**{k: batch[k] for k in ("input_ids", "attention_mask", "position_ids", "at")}).rewards[:, 0]
    width = max(map(len, rows)) + 9
    left = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    plain = scorer(input_ids=left, attention_mask=mask, position_ids=places).logits[:, 0]
    assert torch.allclose(ours, plain, atol=1e-9)


def test_a_batch_is_the_sum_of_its_parts(scorer, tokens) -> None:
    whole, slope = loss_and_slope(scorer, graded(tokens))
    parts = [loss_and_slope(scorer, [example]) for example in graded(tokens)]
    assert sum(loss for loss, _ in parts) == pytest.approx(whole, abs=1e-9)
    assert (sum(part for _, part in parts) - slope).abs().max() < 1e-5


@pytest.mark.parametrize("objective", ["bradley_terry", "davidson", "rao_kupper"])
def test_swapping_every_pair_changes_nothing(tokens, objective: str) -> None:
    model = load_scorer(POLICY, heads=1, seed=0, ties=True).double()
    config = Config(objective=objective, margin=0.3, center=0.1)
    examples = graded(tokens)
    swapped = [
        replace(
            example,
            contests=tuple(
                replace(c, first=c.second, second=c.first, probability=1 - c.probability, margin=-c.margin)
                for c in example.contests
            ),
        )
        for example in examples
    ]
    there, back = loss_and_slope(model, examples, config), loss_and_slope(model, swapped, config)
    assert there[0] == pytest.approx(back[0], abs=1e-6)
    assert (there[1] - back[1]).abs().max() < 1e-6  # labels are single precision


def test_the_pairs_of_a_prompt_weigh_one_over_their_number(scorer, tokens) -> None:
    """InstructGPT's batch element is the mean over its pairs, and each answer passes the model once."""
    ranked_pairs = ranking(prompt(1))
    (together,) = graded(tokens, ranked_pairs)
    apart = graded(tokens, ranked_pairs, by_prompt=False)
    assert (len(together.answers), len(together.contests), len(apart)) == (4, 6, 6)
    each = [loss_and_slope(scorer, [example]) for example in apart]
    loss, slope = loss_and_slope(scorer, [together])
    assert loss == pytest.approx(sum(one for one, _ in each) / 6, abs=1e-6)
    assert (slope - sum(part for _, part in each) / 6).abs().max() < 1e-6  # as are the weights of pairs


def test_two_answers_ranked_are_a_pair(scorer, tokens) -> None:
    examples = graded(tokens, [pair(prompt(n), "1", "2") for n in range(3)])
    pairs, ranks = (Config(objective=kind, center=0.0) for kind in ("bradley_terry", "plackett_luce"))
    assert loss_and_slope(scorer, examples, ranks)[0] == pytest.approx(loss_and_slope(scorer, examples, pairs)[0])


@pytest.mark.parametrize("changes", [{"micro_batch": 1}, {"micro_batch": 3}, {"pack": 300}])
def test_accumulation_and_packing_take_the_same_steps(tmp_path: Path, changes: Mapping[str, Any]) -> None:
    config = Config(batch_size=3, learning_rate=1e-3, epochs=2)
    trained(tmp_path / "whole", config)
    trained(tmp_path / "parts", replace(config, **changes))
    whole, parts = (rewards(tmp_path / name / "checkpoint", TALKS) for name in ("whole", "parts"))
    assert parts == pytest.approx(whole, abs=1e-4)


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path) -> None:
    config = Config(batch_size=2, learning_rate=1e-3, epochs=2, heads=2, log_every=1)
    rows: dict[str, list[float]] = {"whole": [], "parts": []}
    trained(tmp_path / "whole", config, log=lambda row: rows["whole"].append(row["loss"]))
    seen = 0

    def stopping() -> bool:
        nonlocal seen
        seen += 1
        return seen == 4

    first = trained(tmp_path / "parts", config, log=lambda row: rows["parts"].append(row["loss"]), stopping=stopping)
    assert first.stopped
    assert not (tmp_path / "parts" / "checkpoint").exists()
    assert not trained(tmp_path / "parts", config, log=lambda row: rows["parts"].append(row["loss"])).stopped
    assert rows["parts"] == rows["whole"]
    files = [(tmp_path / name / "checkpoint" / "model.safetensors").read_bytes() for name in rows]
    assert files[0] == files[1]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(b"".join(to_json(p) + b"\n" for p in PAIRS))
    config = Config(batch_size=2, learning_rate=1e-3, epochs=2, log_every=1, eval_share=0.0, heads=2)
    one: list[float] = []
    trained(tmp_path / "one", config, log=lambda row: one.append(row["loss"]))
    table = {
        **as_settings(config),
        "model": POLICY,
        "data": str(tmp_path / "pairs.jsonl"),
        "out": str(tmp_path / "two"),
    }
    (tmp_path / "rm.yaml").write_text(json.dumps(table))
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "trainers.reward_model"]
    done = subprocess.run([*command, "--config", str(tmp_path / "rm.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows] == pytest.approx(one, abs=1e-4)
    assert len(one) == 6
    there, here = (rewards(tmp_path / name / "checkpoint", TALKS) for name in ("one", "two"))
    assert here == pytest.approx(there, abs=1e-3)


# Beside TRL -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"margin": 1.0, "center": 0.05}], ids=["plain", "margin and centre"])
def test_loss_and_gradient_are_those_of_trl(tmp_path: Path, tokens, monkeypatch, settings: dict[str, float]) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")  # TRL calls home whenever a trainer is made
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    ours = load_scorer(POLICY, heads=1, seed=0).double().eval()
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(POLICY, num_labels=1, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    turns = lambda side: [{"role": turn.role, "content": turn.content} for turn in side]  # noqa: E731
    table = [
        {"prompt": turns(p.prompt), "chosen": turns(p.chosen), "rejected": turns(p.rejected), "margin": 0.1 * n}
        for n, p in enumerate(PAIRS[:8])
    ]
    if not settings:
        table = [{k: v for k, v in row.items() if k != "margin"} for row in table]
    arguments = trl.RewardConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=8, use_cpu=True, bf16=False, report_to=[],
        gradient_checkpointing=False, center_rewards_coefficient=settings.get("center"), max_length=None,
    )  # fmt: skip
    trainer = trl.RewardTrainer(
        model=theirs.eval(), args=arguments, processing_class=tokens.tokenizer,
        train_dataset=datasets.Dataset.from_list(table),
    )  # fmt: skip
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(8)])
    trainer.model.eval()
    expected = trainer.compute_loss(trainer.model, dict(batch))
    expected.backward()
    examples = graded(tokens, [replace(p, margin=0.1 * n) for n, p in enumerate(PAIRS[:8])], by_prompt=False)
    config = Config(margin=settings.get("margin", 0.0), center=settings.get("center", 0.0))
    loss, slope = loss_and_slope(ours, examples, config)
    assert loss / 8 == pytest.approx(expected.item(), abs=1e-5)
    named = dict(trainer.model.named_parameters())
    other = torch.cat([named[name].grad.flatten() for name, p in ours.named_parameters() if p.grad is not None])
    assert (slope / 8 - other).abs().max() < 1e-6


def test_muon_resumes_and_turns_matrices_only(tmp_path: Path) -> None:
    config = Config(optimizer="muon", learning_rate=0.01, batch_size=2, epochs=2, log_every=1, warmup=0.0)
    rows: dict[str, list[float]] = {"whole": [], "parts": []}
    trained(tmp_path / "whole", config, log=lambda row: rows["whole"].append(row["loss"]))
    asked = iter([False, False, True])
    trained(tmp_path / "parts", config, log=lambda row: rows["parts"].append(row["loss"]), stopping=lambda: next(asked))
    trained(tmp_path / "parts", config, log=lambda row: rows["parts"].append(row["loss"]))
    assert rows["parts"] == rows["whole"]
    base = transformers.AutoModelForCausalLM.from_pretrained(POLICY).model.state_dict()
    now = transformers.AutoModel.from_pretrained(tmp_path / "whole" / "checkpoint").state_dict()
    for name, weight in now.items():
        moved = torch.linalg.svdvals(weight - base[name])[:8] if weight.ndim == 2 else None
        if moved is not None and "embed" not in name:
            assert moved[-1] > 0.2 * moved[0], name  # every direction moves about as far as any other


# What is saved --------------------------------------------------------------------------------------------------------


def test_the_checkpoint_is_a_standard_reward_model(tmp_path: Path) -> None:
    """Training, transformers alone and the door score alike; the configuration is that of one label."""
    trained(tmp_path, Config(batch_size=4, learning_rate=1e-3, epochs=3))
    folder = tmp_path / "checkpoint"
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert list(config["id2label"]) == ["0"]
    assert not (folder / "heads.json").exists()
    tokens = Tokenized.load(str(folder))
    model = load_scorer(str(folder), heads=1, seed=9).eval()
    batch = collate_graded(graded(tokens, PAIRS[:7], by_prompt=False), Layout(), pad=0, heads_of=lambda _: (1.0,))
    with torch.no_grad():
        ours = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "position_ids", "at")}).rewards[:, 0]
    alone = rewards(folder, TALKS)
    assert alone == pytest.approx(ours.tolist(), abs=1e-5)
    door = open_model(f"hf:{folder}")
    assert asyncio.run(door.score(TALKS)) == pytest.approx(alone, abs=1e-5)
    asyncio.run(door.close())
    assert max(alone) - min(alone) > 0.1


@pytest.mark.parametrize("padding", ["end", "none"])
def test_an_answer_that_ends_with_the_pad_token_keeps_its_last_token(tmp_path: Path, padding: str) -> None:
    base = tmp_path / "base"
    model = transformers.AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(POLICY)
    tokenizer.pad_token = tokenizer.eos_token if padding == "end" else None
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    train(
        Data(pairs=tuple(PAIRS)),
        tmp_path,
        Config(batch_size=6, learning_rate=1e-3, eval_share=0.0),
        Job(model=str(base)),
    )
    folder = tmp_path / "checkpoint"
    saved = transformers.AutoTokenizer.from_pretrained(folder)
    assert saved.pad_token_id not in (None, saved.eos_token_id)
    door = open_model(f"hf:{folder}?batch_size=8")
    assert asyncio.run(door.score(TALKS)) == pytest.approx(rewards(folder, TALKS), abs=1e-5)
    asyncio.run(door.close())


def test_a_pad_token_is_added_where_there_is_none_to_spare(tokens) -> None:
    own = Tokenized.load(POLICY)
    examples = graded(own)
    special = sorted(own.tokenizer.added_tokens_decoder)
    every = replace(examples[0], prompt=(*examples[0].prompt, *special))
    own.tokenizer.pad_token = own.tokenizer.eos_token
    model = load_scorer(POLICY, heads=1, seed=0)
    rows = model.get_input_embeddings().num_embeddings
    pad_apart(model, own, [every])
    assert own.tokenizer.pad_token == "<|padding|>"
    assert model.config.pad_token_id == own.pad == len(own.tokenizer) - 1
    assert model.get_input_embeddings().num_embeddings == max(rows, own.pad + 1)


def test_the_heads_of_an_ensemble_differ_and_their_mean_is_the_checkpoint(tmp_path: Path) -> None:
    trained(tmp_path, Config(batch_size=4, learning_rate=1e-3, epochs=2, heads=3))
    folder = tmp_path / "checkpoint"
    names, weights = read_heads(folder)
    score = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).score.weight
    assert names == ("1", "2", "3")
    assert weights.shape == (3, 128)
    assert torch.allclose(weights.mean(0), score[0], atol=1e-7)
    assert (weights[0] - weights[1]).abs().max() > 1e-2
    scored = {}
    for how in ("", "mean", "min", "cautious"):
        door = open_model(f"hf:{folder}?dtype=float64&heads={how}" if how else f"hf:{folder}?dtype=float64")
        scored[how] = asyncio.run(door.score(TALKS))
        asyncio.run(door.close())
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    model.score.weight = torch.nn.Parameter(weights.double())
    each = []
    for talk in TALKS:
        ids = Tokenized.load(str(folder)).render(talk, answer=False)
        with torch.inference_mode():
            each.append(model(torch.tensor([ids])).logits[0])
    for how in ("mean", "min", "cautious"):
        assert scored[how] == pytest.approx(combined(torch.stack(each), how).tolist(), abs=1e-9)
    assert scored["mean"] == pytest.approx(scored[""], abs=1e-6)
    with pytest.raises(UserError, match="is for reward models"):
        open_model(f"hf:{POLICY}?heads=min")


def test_a_head_of_its_own_for_each_labeler(tmp_path: Path) -> None:
    """Two labelers who disagree about everything: each head follows its own, and their mean follows nobody."""
    two = [
        pair(prompt(n), *(("5", "7 7 7") if labeler == "a" else ("7 7 7", "5")), labeler=labeler)
        for n in range(40)
        for labeler in "ab"
    ]
    third = tuple(pair(prompt(n), "5", "7 7 7", labeler="c") for n in range(50, 60))
    data = Data(pairs=tuple(two), heldout_pairs=third)
    final = trained(tmp_path, Config(labelers=True, learning_rate=2e-3, epochs=3, batch_size=8), data).final
    names, _ = read_heads(tmp_path / "checkpoint")
    assert names == ("a", "b")
    assert final["accuracy"] > 0.95
    assert abs(final["eval_margin"]) < 0.5 * final["margin"]


def test_a_frozen_trunk_is_read_once_and_left_alone(tmp_path: Path) -> None:
    said: list[str] = []
    config = Config(freeze=True, heads=2, learning_rate=1e-2, batch_size=4)
    trained(tmp_path / "first", config, say=said.append, cache=tmp_path / "cache")
    again = replace(config, heads=1, epochs=2)
    trained(tmp_path / "second", again, say=said.append, cache=tmp_path / "cache")
    assert [line for line in said if "frozen trunk" in line] == [
        "reading 6 texts once with the frozen trunk; 0 are known"
    ]
    base = transformers.AutoModelForCausalLM.from_pretrained(POLICY).model.state_dict()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "second" / "checkpoint")
    assert all(torch.equal(tensor, base[name]) for name, tensor in model.model.state_dict().items())


def test_features_are_what_training_the_head_alone_would_see(tmp_path: Path, scorer, tokens) -> None:
    from trainers.features import features_of

    examples = graded(tokens)
    known = features_of(scorer, examples, tokens, Layout(), tmp_path, Job(model=POLICY))
    batch = collate_graded(examples, Layout(), pad=0, heads_of=lambda _: (1.0,))
    with torch.no_grad():
        direct = scorer(**{k: batch[k] for k in ("input_ids", "attention_mask", "position_ids", "at")}).rewards
        kept = scorer.score(torch.cat([known[example.id] for example in examples]).double())
    assert torch.allclose(direct, kept, atol=1e-5)


def test_an_adapter_is_merged_into_the_checkpoint(tmp_path: Path) -> None:
    trained(tmp_path, Config(lora_rank=2, learning_rate=1e-2, batch_size=4, epochs=2))
    alone = rewards(tmp_path / "checkpoint", TALKS)
    assert not (tmp_path / "checkpoint" / "adapter_config.json").exists()
    assert max(alone) - min(alone) > 0.1


# Other objectives -----------------------------------------------------------------------------------------------------


def labelled(number: int, right: bool) -> Labelled:
    asked = prompt(number)
    text = str(number + 2) if right else "stone leaf"
    return Labelled(
        id=f"{number}/{right}", prompt=asked.messages, completion=(Message("assistant", text),), label=right,
        score=float(right), labeler="gold", rule="test", prompt_id=asked.id, completion_id=f"{number}/{right}",
    )  # fmt: skip


def solution(number: int) -> Stepwise:
    steps = (f"add {number}", "stone", str(number + 2))
    return Stepwise(id=str(number), prompt=prompt(number).messages, steps=steps, labels=(1.0, 0.0, 1.0))


TIED = tuple(p for n in range(12) for p in (pair(prompt(n), "5", "7 7 7"), pair(prompt(n), "5", "6", probability=0.5)))
KINDS = {
    "plackett_luce": Data(pairs=tuple(p for n in range(12) for p in ranking(prompt(n)))),
    "davidson": Data(pairs=TIED),
    "rao_kupper": Data(pairs=TIED),
    "outcome": Data(labelled=tuple(labelled(n, right) for n in range(12) for right in (True, False))),
    "outcome_tokens": Data(labelled=tuple(labelled(n, right) for n in range(12) for right in (True, False))),
    "outcome_mean": Data(labelled=tuple(labelled(n, right) for n in range(12) for right in (True, False))),
    "process": Data(stepwise=tuple(solution(n) for n in range(12))),
}


@pytest.mark.parametrize("objective", KINDS)
def test_every_objective_learns_a_plain_difference(tmp_path: Path, objective: str) -> None:
    losses: list[float] = []
    config = Config(
        objective=objective,
        learning_rate=3e-3,
        epochs=10 if objective == "process" else 4,
        batch_size=6,
        log_every=1,
        heads=2,
        separator=" , ",
    )
    metrics = trained(tmp_path, config, KINDS[objective], log=lambda row: losses.append(row["loss"]))
    assert losses[-1] < 0.8 * losses[0]
    assert metrics.final["accuracy"] > 0.8
    assert (tmp_path / "checkpoint" / "heads.json").exists()


def test_steps_are_rewarded_where_they_end(tokens) -> None:
    (example,), _ = encode_steps([solution(3)], tokens, Limit(), separator=" , ")
    (mask,), (answer,) = example.masks, example.answers
    ends = [n for n, counts in enumerate(mask) if counts]
    texts = [tokens.tokenizer.decode(answer[: end + 1]) for end in ends]
    assert texts[0].split() == ["add", "3", ","]
    assert texts[1].split() == ["add", "3", ",", "stone", ","]
    assert ends[-1] == len(answer) - 1
    assert example.steps == (1.0, 0.0, 1.0)


def test_a_ranking_is_read_from_its_pairs(tokens) -> None:
    pairs = ranking(prompt(1))
    (whole,) = graded(tokens, pairs)
    (steps,) = graded(tokens, [pairs[5], pairs[0], pairs[3]])  # adjacent ones, out of order
    assert [whole.answers[place] for place in ranked(whole)] == [steps.answers[place] for place in ranked(steps)]
    (loose,) = graded(tokens, pairs[:2])
    with pytest.raises(UserError, match="no complete ranking of its 3 answers"):
        ranked(loose)


def test_combinations_of_heads_by_hand() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0, 3.0]])
    assert combined(rewards, "mean").item() == 3.0
    assert combined(rewards, "min").item() == 1.0
    assert combined(rewards, "median").item() == 2.0
    assert combined(rewards, "cautious", caution=0.5).item() == pytest.approx(3.0 - 0.5 * (4 + 1 + 9 + 0) / 4)


def test_bootstrap_weights_are_poisson_and_fixed(tokens) -> None:
    contests = [c for e in graded(tokens, [pair(prompt(n), "1", "2") for n in range(400)]) for c in e.contests]
    drawn = torch.tensor([bootstrapped(contest, 4, seed=1) for contest in contests])
    assert torch.equal(drawn, torch.tensor([bootstrapped(contest, 4, seed=1) for contest in contests]))
    assert drawn.mean().item() == pytest.approx(1, abs=0.1)
    assert drawn.var().item() == pytest.approx(1, abs=0.15)
    assert torch.corrcoef(drawn.T).triu(1).abs().max() < 0.2


# What cannot be meant -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lam": 0.0}, "lam is 0.0"),
        ({"lam": 0.5, "objective": "outcome"}, "caps the labels of objective=bradley_terry"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"labelers": True, "heads": 2}, "one head for each labeler"),
        ({"labelers": True, "objective": "process"}, "one head for each labeler"),
        ({"objective": "plackett_luce", "by_prompt": False}, "needs by_prompt=true"),
        ({"freeze": True, "lora_rank": 4}, "trains no adapter"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Config(**settings)


LONG = [pair(prompt(1, words=80), "5", "7")]
SAME = replace(pair(prompt(1), "5", "6"))


@pytest.mark.parametrize(
    ("settings", "data", "words"),
    [
        ({"objective": "process"}, Data(pairs=tuple(PAIRS)), "reads stepwise rows, and the data holds pairs"),
        ({"labelers": True}, Data(pairs=tuple(PAIRS)), "all of these are by 'gold'"),
        ({"objective": "davidson"}, Data(pairs=tuple(PAIRS)), "no pair has probability .5"),
        ({"objective": "plackett_luce"}, Data(pairs=tuple(ranking(prompt(1))[:2])), "no complete ranking"),
        ({"margin": 1.0}, Data(pairs=(*PAIRS, pair(prompt(1), "1", "2", margin=0.0))), "margin .* 1 of .* have none"),
        ({"max_length": 40, "too_long": "refuse"}, Data(pairs=tuple(LONG)), "max_length is 40"),
        ({}, Data(pairs=(pair(prompt(1), " ", "6"),)), r"nothing to train on: an answer is empty \(1\)"),
        ({"max_length": 2}, Data(pairs=tuple(PAIRS)), "the answer alone is longer than max_length"),
    ],
)
def test_data_that_does_not_fit_is_one_line(tmp_path: Path, settings: dict[str, Any], data: Data, words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        train(data, tmp_path, Config(**settings), Job(model=POLICY))
    assert "\n" not in str(refused.value)


def test_long_prompts_are_cut_at_their_left_and_counted(tmp_path: Path) -> None:
    data = Data(pairs=(*ranking(prompt(2)), *LONG))
    said = plan(data, Config(max_length=60, eval_share=0.0), Job(model=POLICY))
    assert said.notes[:2] == (
        "7 pairs in 2 prompts",
        "1 of 2 rows were longer than max_length: their prompts are cut at the left",
    )


def test_a_reward_that_is_no_number_stops_with_its_rows(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"the loss is nan at step \d+ \(rows .*; the state of step 1 is kept in /.*/steps"
    ):
        trained(tmp_path, Config(learning_rate=1e30, batch_size=2, epochs=2, warmup=0.0, save_every=1))
