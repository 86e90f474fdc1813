"""The committed checkpoints: small, loadable anywhere, and as good and as biased as their cards say."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from rlhf_eval.errors import UserError
from rlhf_eval.records import Message, Prompt
from rlhf_eval.sandbox import CHECKPOINTS, checkpoint
from rlhf_eval.sandbox.measure import answers_of, held_out_pairs, measure_judge, measure_policy
from rlhf_eval.sandbox.sample import encode, sample
from rlhf_eval.sandbox.tasks import items
from rlhf_eval.sandbox.tokens import ask_pairwise, judge_phrases
from rlhf_eval.sandbox.world import prompts

PUBLISHED = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
)


def card(name: str) -> dict[str, Any]:
    _, header, _ = (checkpoint(name) / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    table: dict[str, Any] = yaml.safe_load(header)
    return table


def test_an_unknown_checkpoint_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'policy'"):
        checkpoint("polcy")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_whole_small_and_in_the_standard_form(name: str):
    folder = checkpoint(name)
    assert {path.name for path in folder.iterdir()} == set(PUBLISHED)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["head_dim"] in (32, 64)
    assert config["max_position_embeddings"] >= 1024
    assert config["pad_token_id"] != config["eos_token_id"]
    assert config["dtype"] == "float32"
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert "add_generation_prompt" in settings["chat_template"]


def test_both_have_about_a_million_parameters(policy, judge):
    for name, model in (("policy", policy), ("judge", judge)):
        assert 500_000 < model.num_parameters() < 1_500_000
        assert model.num_parameters() == card(name)["parameters"]


def test_the_chat_template_marks_roles_and_ends_turns(tokenizer):
    turns = [Message("system", "Be brief."), Message("user", "What is 3 plus 4?")]
    assert tokenizer.decode(encode(tokenizer, turns)) == (
        "<|system|>Be brief.<|end|><|user|>What is 3 plus 4?<|end|><|assistant|>"
    )


@pytest.mark.parametrize(
    "text",
    ["", "7", " 7", "naïve café", "\U0001f600\u200d\u0000", "a\tb\r\n\n  c ", "[[A]]", "\n\nAnswer A:\n", "x" * 300],
)
def test_the_tokenizer_is_lossless(tokenizer, text: str):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_items_digits_letters_and_template_phrases_are_single_tokens(tokenizer):
    singles = [form for word in items() for form in (word, f" {word}", word.upper(), f" {word.upper()}")]
    singles += [form for digit in "0123456789" for form in (digit, f" {digit}")]
    for text in [*singles, *judge_phrases(), "[[", "A", "B", "]]"]:
        assert len(tokenizer.encode(text, add_special_tokens=False)) == 1, text
    assert tokenizer.tokenize("[[A]]") == ["[[", "A", "]]"]


def test_the_policy_is_as_good_and_as_varied_as_its_card_says(policy, tokenizer):
    held_out = prompts("heldout", 144, seed=7)
    found = {e.name: e for e in measure_policy(held_out, answers_of(policy, tokenizer, held_out, n=8, seed=7))}
    for row in card("policy")["measured"]:
        assert found[row["name"]].value == pytest.approx(row["value"], abs=0.08), row["name"]
    assert 0.3 < found["accuracy at temperature 1"].value < 0.6
    assert found["best of 8 is right"].value > 0.8


def test_the_judge_is_as_good_and_as_biased_as_its_card_says(judge, policy, tokenizer):
    held_out = prompts("heldout", 180, seed=7)
    pairs = held_out_pairs(held_out, answers_of(policy, tokenizer, held_out, n=2, seed=7), seed=7)
    found = {e.name: e for name, some in pairs.items() for e in measure_judge(judge, tokenizer, some, name)}
    rows = {row["name"]: row for row in card("judge")["measured"]}
    assert set(found) == set(rows)
    for name, row in rows.items():
        assert found[name].low <= row["high"], name
        assert found[name].high >= row["low"], name
    for name in pairs:
        assert rows[f"first answer preferred, {name} pairs"]["low"] > 0.5
        assert 0.75 < rows[f"accuracy, {name} pairs"]["value"] < 0.92
        assert 0.75 < rows[f"accuracy with both orders averaged, {name} pairs"]["value"] < 0.92


def test_the_judge_replies_with_a_verdict_and_stops(judge, tokenizer):
    asked = [ask_pairwise(p, (str(p.reference), "no idea")) for p in prompts("heldout", 36)]
    asked.append(ask_pairwise(Prompt.of("Write a poem about \U0001f600."), ("<b>" * 20, "")))
    replies = sample(judge, tokenizer, asked, seed=0)
    assert {text for [text] in replies} <= {"[[A]]", "[[B]]"}


def test_same_seed_same_samples(policy, tokenizer):
    asked = [p.messages for p in prompts("heldout", 6)]
    assert sample(policy, tokenizer, asked, n=2, seed=4) == sample(policy, tokenizer, asked, n=2, seed=4)
