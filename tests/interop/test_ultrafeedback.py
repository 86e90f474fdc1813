"""UltraFeedback: rows made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_eval.interop import ultrafeedback

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


def test_what_is_no_ultrafeedback(put: Put, tmp_path: Path) -> None:
    assert not ultrafeedback.detect(tmp_path)
    assert not ultrafeedback.detect(put("x.jsonl", [{"instruction": "Q", "completions": []}]))
