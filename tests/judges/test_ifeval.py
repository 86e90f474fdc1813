"""The instruction judge: its score, its account of every instruction, and the published verdicts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from judges.ifeval import Config, judge, verify
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Prompt

TASK = {
    "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
    "kwargs": [{}, {"relation": "at least", "num_words": 3}],
}
PROMPT = Prompt.of("Write without commas.", metadata=TASK)


def verdict(text: str, **settings: Any):
    answer = Completion.of(prompt_id=PROMPT.id, model="m", text=text)
    return asyncio.run(judge(PROMPT, (answer,), None, Config(**settings)))


def test_a_prompt_counts_only_if_every_instruction_is_obeyed() -> None:
    assert verdict("one two three").scores == (1.0,)
    assert verdict("one, two three").scores == (0.0,)
    assert verdict("one, two three", level="instruction").scores == (0.5,)
    assert verdict("one, two three").metadata == {
        "instructions": TASK["instruction_id_list"], "strict": [False, True], "loose": [False, True],
    }  # fmt: skip


def test_the_loose_reading_forgives_an_opening_line() -> None:
    assert verdict("Sure, here it is:\none two three").scores == (0.0,)
    assert verdict("Sure, here it is:\none two three", loose=True).scores == (1.0,)


@pytest.mark.parametrize("metadata", [{}, {"instruction_id_list": ["punctuation:no_comma"]}, {**TASK, "kwargs": [{}]}])
def test_a_prompt_without_instructions_is_the_users_mistake(metadata: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="needs 'instruction_id_list' and 'kwargs'"):
        verify(Prompt.of("x", metadata=metadata), "text")


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.groundtruth
@pytest.mark.parametrize(("column", "agreeing"), [("strict", 792), ("loose", 791)])
def test_the_published_verdicts_are_reproduced(groundtruth: Path, column: str, agreeing: int) -> None:
    """794 verdicts on 520 prompts: those with capital_word_frequency were left out of the published comparison.

    The four that differ: two answers of a few capital words that the published detector takes for English and ours leaves
    undecided (both readings), and a letter '#' that upstream replaces by a random one when it re-reads a text.
    """
    data = groundtruth / "IFEval" / "data"
    answers = {row["prompt"]: row["response"] for row in _rows(data / "input_response_data_gpt4_20231107_145030.jsonl")}
    published = _rows(data / "test_output" / f"eval_results_{column}.jsonl")
    tasks = _rows(data / "input_data.jsonl")
    tested = same = 0
    for task, row in zip(tasks, published, strict=True):
        if "change_case:capital_word_frequency" in task["instruction_id_list"]:
            continue
        metadata = {key: task[key] for key in ("instruction_id_list", "kwargs")}
        readings = verify(Prompt.of(task["prompt"], metadata=metadata), answers[task["prompt"]])
        ours = readings[("strict", "loose").index(column)]
        tested += len(ours)
        same += sum(a == b for a, b in zip(ours, row["follow_instruction_list"], strict=True))
    assert tested == 794
    assert same >= agreeing
