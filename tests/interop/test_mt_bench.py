"""MT-Bench: a handmade folder, and 800 published grades."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import mt_bench

Put = Callable[[str, Any], Path]
QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
    {"question_id": 101, "category": "math", "turns": ["1+1?", "Twice that?"]},
]


def single(answer: str) -> str:
    return f"[Instruction]\n...\n[The Start of Assistant's Answer]\n{answer}\n[The End of Assistant's Answer]"


def multi(first: str, second: str) -> str:
    return (
        "<|The Start of Assistant A's Conversation with User|>\n\n### User:\nWrite.\n\n### Assistant A:\n"
        f"{first}\n\n### User:\nAgain.\n\n### Assistant A:\n{second}\n\n<|The End of Assistant A's Conversation with User|>"
    )


def grade(turn: int, prompt: str, score: float, model: str = "mine", question: int = 81) -> dict[str, Any]:
    return {
        "question_id": question,
        "model": model,
        "judge": ["gpt-4", "single-v1"],
        "user_prompt": prompt,
        "judgment": f"[[{score}]]",
        "score": score,
        "turn": turn,
    }


@pytest.fixture
def folder(put: Put, tmp_path: Path) -> Path:
    put("question.jsonl", QUESTIONS)
    put("reference_answer/gpt-4.jsonl", [{"question_id": 101, "choices": [{"turns": ["2", "4"]}]}])
    put(
        "model_answer/known.jsonl",
        [{"question_id": 101, "model_id": "known", "choices": [{"index": 0, "turns": ["two", "four"]}]}],
    )
    rows = [
        grade(1, single("One."), 8),
        grade(2, multi("One.", "Two."), 6),
        grade(1, single("Other."), -1),
        grade(2, "made from a template of their own", 9, model="known", question=101),
    ]
    put("model_judgment/gpt-4_single.jsonl", rows)
    return tmp_path


def test_each_turn_is_a_prompt(folder: Path) -> None:
    assert mt_bench.detect(folder)
    loaded = mt_bench.read(folder)
    assert loaded.warnings == ()
    prompts = {p.id: p for p in loaded.prompts}
    texts = {c.id: (c.model, c.text) for c in loaded.completions}
    found = [
        (texts[j.completion_ids[0]], [m.content for m in prompts[j.prompt_id].messages], j.scores)
        for j in loaded.judgments
    ]
    assert found == [
        (("mine", "One."), ["Write."], (8.0,)),
        (("mine", "Two."), ["Write.", "One.", "Again."], (6.0,)),
        (("mine", "Other."), ["Write."], ()),
        (("known", "four"), ["1+1?", "two", "Twice that?"], (9.0,)),
    ]
    assert loaded.judgments[2].error == "unparsed: no rating in the judgment"
    assert {(p.key, p.metadata["turn"], p.reference) for p in loaded.prompts} == {
        ("81", 1, None),
        ("81", 2, None),
        ("101", 1, "2"),
        ("101", 2, "4"),
    }


def test_a_grade_copied_word_for_word_counts_once(folder: Path, put: Put) -> None:
    row = grade(1, single("One."), 8)
    put("model_judgment/gpt-4_single.jsonl", [row, row, {**row, "judgment": "again [[7]]", "score": 7}])
    loaded = mt_bench.read(folder)
    assert [(j.scores, j.repeat) for j in loaded.judgments] == [((8.0,), 0), ((7.0,), 1)]
    assert "1 judgments repeat" in loaded.warnings[0]


def test_what_cannot_be_placed_is_named(folder: Path, put: Put) -> None:
    rows = [grade(1, "own template", 8, model="absent"), grade(1, single("x"), 8, question=999)]
    put("model_judgment/gpt-4_single.jsonl", rows)
    put("model_judgment/gpt-4_pair.jsonl", [])
    warnings = mt_bench.read(folder).warnings
    assert "the answer of 'absent' to question 81 is in no file" in warnings[0]
    assert "question 999 is not in question.jsonl" in warnings[1]
    assert "gpt-4_pair.jsonl: pairwise judgments are not read" in warnings[2]


def test_what_is_no_bench(tmp_path: Path) -> None:
    assert not mt_bench.detect(tmp_path)
    with pytest.raises(UserError, match=r"no question\.jsonl"):
        mt_bench.read(tmp_path)


@pytest.mark.groundtruth
def test_800_grades_and_their_means_per_turn(groundtruth: Path) -> None:
    loaded = mt_bench.read(groundtruth / "FastChat")
    assert loaded.warnings == ()
    assert len(loaded.judgments) == 800
    assert len({p.key for p in loaded.prompts}) == 80
    models = {c.id: c.model for c in loaded.completions}
    turns = {p.id: p.metadata["turn"] for p in loaded.prompts}
    scores: dict[tuple[str, int], list[float]] = defaultdict(list)
    for j in loaded.judgments:
        scores[models[j.completion_ids[0]], turns[j.prompt_id]].extend(j.scores)
    means = {key: round(statistics.fmean(values), 4) for key, values in scores.items()}
    assert (means["mistral-orpo-trl", 1], means["mistral-orpo-trl", 2]) == (7.7313, 6.6)
    assert (means["mistral-orpo-capybara", 1], means["mistral-orpo-capybara", 2]) == (7.125, 6.5125)
    assert (means["mistral-orpo-mix", 1], means["mistral-orpo-mix", 2]) == (6.4313, 5.575)
    assert [len(scores["mistral-orpo", turn]) for turn in (1, 2)] == [160, 159], "two runs, one grade unread upstream"
