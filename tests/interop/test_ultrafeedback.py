"""UltraFeedback: rows made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import ultrafeedback
from rlhf_eval.records import Completion, Judgment, Prompt

Put = Callable[[str, Any], Path]


def answer(model: str, rating: str, overall: float | None = None) -> dict[str, Any]:
    aspects = {name: {"Rating": rating, "Rationale": f"{name} of {model}"} for name in ("honesty", "helpfulness")}
    made = {"model": model, "response": f"by {model}", "custom_system_prompt": "Be kind.", "annotations": aspects}
    return made if overall is None else {**made, "overall_score": overall, "critique": "fine"}


def test_grades_per_aspect(put: Put, tmp_path: Path) -> None:
    row = {
        "source": "evol",
        "instruction": "Q",
        "models": ["a", "b"],
        "completions": [answer("a", "4", 8.5), answer("b", "N/A")],
    }
    path = put("part.jsonl", [row, {"instruction": "lost"}])
    assert ultrafeedback.detect(path)
    loaded = ultrafeedback.read(tmp_path)
    assert [(p.text, p.category) for p in loaded.prompts] == [("Q", "evol"), ("lost", "")]
    assert [(c.model, c.metadata["system"]) for c in loaded.completions] == [("a", "Be kind."), ("b", "Be kind.")]
    assert [(j.judge, j.scores) for j in loaded.judgments] == [
        ("ultrafeedback/honesty", (4.0,)),
        ("ultrafeedback/helpfulness", (4.0,)),
        ("ultrafeedback/overall", (8.5,)),
        ("ultrafeedback/honesty", ()),
        ("ultrafeedback/helpfulness", ()),
    ]
    assert loaded.judgments[0].rationale == "honesty of a"
    assert loaded.judgments[3].error == "unparsed: the rating is 'N/A'"
    assert "part.jsonl:2: no field 'completions'; found: instruction" in loaded.warnings[0]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    prompts = [Prompt.of("Q", category="evol"), Prompt.of("nobody graded")]
    answers = [
        Completion.of(prompt_id=prompts[0].id, model=m, text=f"by {m}", metadata={"system": "Be kind."}) for m in "ab"
    ]
    ids = (answers[0].id, answers[1].id)
    judgments = [
        # Shown the other way round: the ratings are in the order shown, the scores in that of the answers.
        Judgment.of(
            prompt_id=prompts[0].id, completion_ids=ids, judge="aspects", order=(1, 0), scores=(4.5, 1.5),
            metadata={"aspects": {"honesty": [1, 4], "helpfulness": [2, 5]}},
        ),
        Judgment.of(prompt_id=prompts[0].id, completion_ids=ids, judge="pairwise", scores=(0.0, 1.0)),
    ]  # fmt: skip
    path = tmp_path / "graded.jsonl"
    assert ultrafeedback.write(ultrafeedback.Graded(prompts, answers, judgments), path) == 1
    assert ultrafeedback.detect(path)
    loaded = ultrafeedback.read(path)
    assert loaded.warnings == ()
    assert [(c.model, c.text, c.metadata["system"]) for c in loaded.completions] == [
        ("a", "by a", "Be kind."),
        ("b", "by b", "Be kind."),
    ]
    assert [(j.judge.partition("/")[2], j.scores[0]) for j in loaded.judgments] == [
        ("honesty", 4.0), ("helpfulness", 5.0), ("overall", 4.5), ("honesty", 1.0), ("helpfulness", 2.0), ("overall", 1.5),
    ]  # fmt: skip
    with pytest.raises(UserError, match="no answer here has one"):
        ultrafeedback.write(ultrafeedback.Graded(prompts, answers, judgments[1:]), path)


def test_what_is_no_ultrafeedback(put: Put, tmp_path: Path) -> None:
    assert not ultrafeedback.detect(tmp_path)
    assert not ultrafeedback.detect(put("x.jsonl", [{"instruction": "Q", "completions": []}]))
