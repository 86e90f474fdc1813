from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.models.prices import Price, Prices, cost
from rlhf_eval.records import Usage

USAGE = Usage(prompt_tokens=1_000_000, completion_tokens=500_000)


def prices(tmp_path: Path, text: str) -> Prices:
    (tmp_path / "mine.yaml").write_text(text)
    return Prices.load(tmp_path / "mine.yaml")


def test_cost_is_dollars_a_million_tokens():
    assert Price(input=2.0, output=8.0).cost(USAGE) == pytest.approx(2.0 + 4.0)


def test_cached_prompt_tokens_have_their_own_price():
    used = replace(USAGE, cached_tokens=400_000)
    assert Price(input=2.0, output=8.0, cached=0.5).cost(used) == pytest.approx(0.6 * 2.0 + 0.4 * 0.5 + 4.0)
    assert Price(input=2.0, output=8.0).cost(used) == pytest.approx(6.0)


def test_an_unknown_model_has_no_cost_rather_than_none_at_all():
    assert cost("openai:my-own-8b@http://localhost:8000/v1", USAGE, Prices.load()) is None


def test_what_runs_here_is_free_unless_a_list_says_otherwise(tmp_path: Path):
    assert cost("hf:policy#edbc6779", USAGE, Prices.load()) == 0.0
    mine = prices(tmp_path, "models: {'policy*': {input: 1, output: 1}}\n")
    assert mine.of("hf:policy#edbc6779") == Price(input=1, output=1)


@pytest.mark.parametrize(
    "spec",
    ["gpt-4o-mini", "openai:gpt-4o-mini", "openai:gpt-4o-mini@https://api.openai.com/v1", "gpt-4o-mini-2024-07-18"],
)
def test_a_spec_or_a_dated_version_finds_the_price_of_its_model(spec: str):
    assert Prices.load().of(spec) == Prices.load().of("gpt-4o-mini") is not None


def test_a_short_name_does_not_cover_a_longer_one():
    built_in = Prices.load()
    assert built_in.of("gpt-4o-audio-preview") is None
    assert built_in.of("gpt-4o") != built_in.of("gpt-4o-mini")


def test_the_built_in_list_is_dated_and_its_prices_are_in_order():
    built_in = Prices.load()
    assert "20" in built_in.sources[0]
    for price in built_in.lists[0].values():
        assert 0 < (price.cached or 0) < price.input < price.output


def test_the_users_file_comes_first_and_the_longest_pattern_wins(tmp_path: Path):
    mine = prices(
        tmp_path,
        "date: 2026-11-23\nmodels:\n"
        "  gpt-4o: {input: 1, output: 1}\n"
        "  'Qwen/*': {input: 2, output: 2}\n"
        "  'Qwen/Qwen3-*': {input: 3, output: 3}\n",
    )
    assert mine.of("gpt-4o") == Price(input=1, output=1)
    assert mine.of("gpt-4o-2024-08-06") == Price(input=1, output=1)
    assert mine.of("openai:Qwen/Qwen3-8B@http://localhost:8000/v1") == Price(input=3, output=3)
    assert mine.of("Qwen/Qwen2.5-7B") == Price(input=2, output=2)
    assert mine.of("gpt-4.1") == Prices.load().of("gpt-4.1")
    assert mine.sources[0].startswith("mine.yaml 2026-11-23")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models:\n  a: {input: 1, outptu: 2}\n", "outptu.*output"),
        ("models:\n  a: {input: 1}\n", "a: .*output"),
        ("models:\n  a: {input: -1, output: 2}\n", "negative"),
        ("models:\n  a: 3\n", "a"),
        ("models: {}\n", "names no model"),
        ("prices: {}\n", "prices.*models"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, words: str):
    with pytest.raises(UserError, match=words) as caught:
        prices(tmp_path, text)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
