"""WildBench's results: grades and comparisons made by hand, and the published means."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import wildbench

Put = Callable[[str, Any], Path]
ROOT = "eval_results/v2.0522"


def test_grades(put: Put, tmp_path: Path) -> None:
    rows = [
        {"session_id": "s1", "score": "8", "model_output": "x", "parsed_result": {"score": "8"}},
        {
            "session_id": "s2",
            "score": "N/A",
            "model_output": "y",
            "meta_data": {"usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        },
        {"session_id": "s3", "score": "7"},
    ]
    put(f"{ROOT}/score.v2/eval=gpt-4o/my-model.json", rows)
    assert wildbench.detect(tmp_path)
    loaded = wildbench.read(tmp_path)
    good, bad = loaded.judgments
    assert (good.judge, good.scores, json.loads(good.rationale)) == ("wildbench/v2.0522/gpt-4o", (8.0,), {"score": "8"})
    assert bad.error == "unparsed: the score is 'N/A', not a number"
    assert (bad.usage.prompt_tokens, bad.usage.completion_tokens) == (3, 2)
    assert [(p.key, p.text) for p in loaded.prompts][:2] == [("s1", "WildBench task s1"), ("s2", "WildBench task s2")]
    assert {c.model for c in loaded.completions} == {"my-model"}
    assert "no field 'model_output'" in loaded.warnings[0]
    assert "ids, not their texts" in loaded.warnings[1]


def comparison(session: str, first: str, second: str, winner: str, extent: int) -> dict[str, Any]:
    return {
        "session_id": session,
        "parsed_result": {"choice": "A+"},
        "model_A": first,
        "model_B": second,
        "winner": winner,
        "extent": extent,
        "model_outputs": {first: f"{first} {session}", second: f"{second} {session}"},
    }


def test_comparisons_put_the_model_first(put: Put, tmp_path: Path) -> None:
    rows = [
        comparison("s1", "lab/mine", "openai/base", "lab/mine", 2),
        comparison("s2", "openai/base", "lab/mine", "openai/base", 1),
        comparison("s3", "openai/base", "lab/mine", "tie", 0),
        comparison("s4", "openai/base", "openai/base", "tie", 0),
    ]
    put(f"{ROOT}/pairwise.v2/eval=gpt-4/ref=base/mine.json", rows)
    loaded = wildbench.read(tmp_path / "eval_results")
    assert [(j.order, j.scores, j.metadata["extent"]) for j in loaded.judgments] == [
        ((0, 1), (1.0, 0.0), 2),
        ((1, 0), (0.0, 1.0), 1),
        ((1, 0), (0.5, 0.5), 0),
    ]
    models = {c.id: c.model for c in loaded.completions}
    assert {tuple(models[c] for c in j.completion_ids) for j in loaded.judgments} == {("mine", "base")}
    assert "its own reference" in loaded.warnings[0]


def test_what_holds_no_results(tmp_path: Path) -> None:
    assert not wildbench.detect(tmp_path)
    with pytest.raises(UserError, match="no eval=<judge>"):
        wildbench.read(tmp_path)


@pytest.mark.groundtruth
def test_the_published_means(groundtruth: Path) -> None:
    root = groundtruth / "WildBench"
    loaded = wildbench.read(root)
    published = json.loads((root / "leaderboard/data_dir/score.json").read_text())
    models = {c.id: c.model for c in loaded.completions}
    for model in ("gemma-2b-it", "gpt-3.5-turbo-0125"):
        scores = [
            j.scores[0]
            for j in loaded.judgments
            if j.judge == "wildbench/v2.0625/gpt-4o-2024-05-13" and models[j.completion_ids[0]] == model
        ]
        assert len(scores) == published[model]["total"]
        assert statistics.fmean(scores) == pytest.approx(published[model]["score"], abs=1e-12)
