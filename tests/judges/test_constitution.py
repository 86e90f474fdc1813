"""Principles are drawn by item, the same in both orders, and their shares are averaged."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted

from judges.constitution import Config, constitution, drawn, judge
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Prompt

PROMPT = Prompt.of("2+2?")
ANSWERS = [Completion.of(prompt_id=PROMPT.id, model="m", text=t, origin=t) for t in ("four", "five")]


def ruled(*replies: str, **settings: Any):
    model = Scripted(*replies)
    return asyncio.run(judge(PROMPT, ANSWERS, model, Config(**settings))), model


def test_the_same_principle_judges_both_orders() -> None:
    config = Config(principles=3)
    assert drawn(PROMPT, ANSWERS, config) == drawn(PROMPT, ANSWERS[::-1], config)
    assert len(set(drawn(PROMPT, ANSWERS, config))) == 3
    assert drawn(PROMPT, ANSWERS, Config(principles=0)) == constitution(Config())


def test_every_principle_has_its_turn() -> None:
    prompts = [Prompt.of(f"question {k}") for k in range(800)]
    counts = Counter(drawn(prompt, ANSWERS, Config())[0] for prompt in prompts)
    assert set(counts) == set(constitution(Config()))
    assert max(counts.values()) < 2 * 800 / 16
    again = Counter(drawn(prompt, ANSWERS, Config(seed=1))[0] for prompt in prompts)
    assert again != counts


def test_the_shares_of_the_principles_are_averaged() -> None:
    verdict, model = ruled("[[A]]", "[[B]]", "[[A]]", "neither", principles=4)
    assert verdict.scores == pytest.approx((2 / 3, 1 / 3))
    assert verdict.metadata["unparsed"] == 1
    assert verdict.metadata["principles"] == drawn(PROMPT, ANSWERS, Config(principles=4))
    asked = [request.messages[0].content for request in model.requests]
    assert all(p in text for p, text in zip(verdict.metadata["principles"], asked, strict=True))


def test_no_readable_verdict_is_a_failure() -> None:
    verdict, _ = ruled("Both are fine.")
    assert verdict.scores == ()
    assert verdict.error == "unparsed: no [[A]] or [[B]] in the reply"


def test_a_constitution_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Be kind.\n\n  Be brief. \n")
    assert constitution(Config(file=str(tmp_path / "mine.txt"))) == ["Be kind.", "Be brief."]
    (tmp_path / "none.txt").write_text("\n \n")
    with pytest.raises(UserError, match="holds no principle"):
        constitution(Config(file=str(tmp_path / "none.txt")))
