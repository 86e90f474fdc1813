"""The files for OpenRLHF, Axolotl and NeMo RL: the exact rows that their loaders take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import axolotl, nemo_rl, openrlhf
from rlhf_eval.records import Completion, Demonstration, Message, PreferencePair, Prompt

PROMPT = Prompt.of([Message("system", "Be brief."), Message("user", "Q")], reference="42", category="maths")
PLAIN = Prompt.of("Q", reference="42")
LONG = Prompt.of([Message("user", "1"), Message("assistant", "2"), Message("user", "3")])
SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION = {"role": "user", "content": "Q"}
GOOD = {"role": "assistant", "content": "good"}
BAD = {"role": "assistant", "content": "bad"}


def pair(prompt: Prompt) -> PreferencePair:
    good, bad = (Completion.of(prompt_id=prompt.id, model="m", text=text, origin=text) for text in ("good", "bad"))
    return PreferencePair.of(prompt=prompt, chosen=good, rejected=bad, probability=1, margin=2.5, labeler="j", rule="r")


def demonstration(prompt: Prompt) -> Demonstration:
    good = Completion.of(prompt_id=prompt.id, model="m", text="good")
    return Demonstration.of(prompt=prompt, completion=good, score=1, labeler="j", rule="r")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_openrlhf(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert openrlhf.write([pair(PROMPT)], path) == 1
    assert rows_of(path) == [{"prompt": [SYSTEM, QUESTION], "chosen": [GOOD], "rejected": [BAD]}]
    openrlhf.write([pair(PROMPT)], path, margin=True)
    assert rows_of(path)[0]["margin"] == 2.5
    openrlhf.write([demonstration(PROMPT)], path)
    assert rows_of(path) == [{"input": [SYSTEM, QUESTION], "output": [GOOD]}]
    openrlhf.write([PROMPT], path)
    assert rows_of(path) == [{"input": [SYSTEM, QUESTION], "label": "42", "datasource": "maths"}]


def test_axolotl(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    axolotl.write([pair(PROMPT)], path)
    assert rows_of(path) == [{"messages": [SYSTEM, QUESTION], "chosen": GOOD, "rejected": BAD}]
    axolotl.write([pair(PROMPT), pair(PLAIN)], path, reward_model=True)
    assert rows_of(path) == [
        {"system": "Be brief.", "input": "Q", "chosen": "good", "rejected": "bad"},
        {"system": "", "input": "Q", "chosen": "good", "rejected": "bad"},
    ]
    axolotl.write([demonstration(PROMPT)], path)
    assert rows_of(path) == [{"messages": [SYSTEM, QUESTION, GOOD]}]
    with pytest.raises(UserError, match="Axolotl has no file of prompts; it has: preference pairs, demonstrations"):
        axolotl.write([PROMPT], path)
    with pytest.raises(UserError, match="one user turn, not user assistant user"):
        axolotl.write([pair(LONG)], path, reward_model=True)


def test_nemo_rl(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    nemo_rl.write([pair(LONG)], path)
    (row,) = rows_of(path)
    assert [turn["content"] for turn in row["context"]] == ["1", "2", "3"]
    assert row["completions"] == [{"rank": 0, "completion": [GOOD]}, {"rank": 1, "completion": [BAD]}]
    nemo_rl.write([demonstration(PROMPT)], path)
    assert rows_of(path) == [{"messages": [SYSTEM, QUESTION, GOOD]}]
    nemo_rl.write([PLAIN], path)
    assert rows_of(path) == [{"input": "Q", "output": "42"}]
    with pytest.raises(UserError, match="takes the system text from its settings"):
        nemo_rl.write([PROMPT], path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    openrlhf.write([PROMPT], path)
    before = path.read_bytes()
    with pytest.raises(UserError):
        openrlhf.write([PROMPT, pair(PROMPT)], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
