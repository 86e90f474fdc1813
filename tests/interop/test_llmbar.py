"""LLMBar: a handmade subset, and the published statistics of every judge."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import llmbar
from rlhf_eval.records import Judgment
from rlhf_eval.stats.agreement import cohen_kappa

Put = Callable[[str, Any], Path]
SUBSET = "Dataset/LLMBar/Adversarial/Manual"


def item(number: int, label: int, plain: str | None, swapped: str | None) -> dict[str, Any]:
    verdicts = {
        "swap = False": {"completion": ["Output (a)", "stop"], "winner": plain},
        "swap = True": {"winner": swapped},
    }
    base = {"input": f"Task {number}", "output_1": "one", "output_2": "two", "label": label}
    return {**base, "results": [["the judge's own answer"], verdicts]}


@pytest.fixture
def checkout(put: Put, tmp_path: Path) -> Path:
    rows = [item(1, 1, "1", "2"), item(2, 2, "2", None)]
    put(f"{SUBSET}/dataset.json", [{k: v for k, v in row.items() if k != "results"} for row in rows])
    put(f"{SUBSET}/evaluators/GPT-4/Vanilla/result.json", rows)
    return tmp_path


def test_a_subset(checkout: Path) -> None:
    assert llmbar.detect(checkout)
    loaded = llmbar.read(checkout)
    assert [(p.text, p.category) for p in loaded.prompts] == [
        ("Task 1", "Adversarial/Manual"),
        ("Task 2", "Adversarial/Manual"),
    ]
    gold = [j.scores for j in loaded.judgments if j.judge == "gold"]
    assert gold == [(1.0, 0.0), (0.0, 1.0)]
    said = [j for j in loaded.judgments if j.judge == "llmbar/GPT-4/Vanilla"]
    assert [(j.order, j.scores, j.error) for j in said] == [
        ((0, 1), (1.0, 0.0), None),
        ((1, 0), (0.0, 1.0), None),
        ((0, 1), (0.0, 1.0), None),
        ((1, 0), (), "unparsed: the winner is None, not '1' or '2'"),
    ]
    assert said[0].rationale == "Output (a)"
    assert loaded.warnings == ()


def test_a_row_without_verdicts_is_named(checkout: Path, put: Put) -> None:
    broken = item(1, 1, "1", "1")
    broken["results"] = []
    put(f"{SUBSET}/evaluators/GPT-4/CoT/result.json", [broken, item(2, 2, "2", "2")])
    loaded = llmbar.read(checkout)
    assert len(loaded.judgments) == 8
    assert "CoT/result.json" in loaded.warnings[0]
    assert "'results' must be an object, not null" in loaded.warnings[0]
    with pytest.raises(UserError, match=r"CoT/result\.json"):
        llmbar.read(checkout, strict=True)


def test_labels_that_contradict_each_other_are_refused(checkout: Path, put: Put) -> None:
    put("Dataset/LLMBar/Other/dataset.json", [{"input": "Task 1", "output_1": "one", "output_2": "two", "label": 2}])
    assert "differs from an earlier one" in llmbar.read(checkout).warnings[0]


def test_what_is_no_checkout(tmp_path: Path) -> None:
    assert not llmbar.detect(tmp_path)
    with pytest.raises(UserError, match=r"no dataset\.json"):
        llmbar.read(tmp_path)


def published(verdicts: list[Judgment], gold: dict[tuple[str, ...], tuple[float, ...]]) -> dict[str, Any]:
    """The statistics that upstream publishes, from our judgments."""
    pairs: dict[tuple[str, ...], dict[tuple[int, ...], tuple[float, ...]]] = defaultdict(dict)
    for judgment in verdicts:
        pairs[judgment.completion_ids][judgment.order] = judgment.scores
    plain = {ids: found[0, 1] == gold[ids] for ids, found in pairs.items()}
    swapped = {ids: found[1, 0] == gold[ids] for ids, found in pairs.items()}
    n = len(pairs)
    return {
        "correct_False": sum(plain.values()) / n,
        "correct_True": sum(swapped.values()) / n,
        "correct_both": sum(plain[ids] and swapped[ids] for ids in pairs) / n,
        "equal": sum(found[0, 1] == found[1, 0] for found in pairs.values()) / n,
        # Upstream takes a verdict that it could not read for "2" here, and for a wrong one above.
        "kappa_agreement": cohen_kappa(
            [found[0, 1] == (1.0, 0.0) for found in pairs.values()],
            [found[1, 0] == (1.0, 0.0) for found in pairs.values()],
        ),
    }


@pytest.mark.groundtruth
def test_every_published_statistic_is_reproduced(groundtruth: Path) -> None:
    root = groundtruth / "LLMBar"
    files = sorted(root.rglob("statistics.json"))
    assert len(files) >= 50
    for folder in sorted({file.parents[3] for file in files}):
        loaded = llmbar.read(folder)
        assert loaded.warnings == ()
        gold = {j.completion_ids: j.scores for j in loaded.judgments if j.judge == "gold"}
        for file in (f for f in files if f.parents[3] == folder):
            judge = f"llmbar/{file.parent.parent.name}/{file.parent.name}"
            ours = published([j for j in loaded.judgments if j.judge == judge], gold)
            theirs = json.loads(file.read_text())
            for name in ("correct_False", "correct_True", "correct_both", "equal"):
                count, total = theirs[name].split(" = ")[0].split(" / ")
                assert ours[name] == int(count) / int(total), (file, name)
            average = (ours["correct_False"] + ours["correct_True"]) / 2
            assert 100 * average == pytest.approx(float(theirs["correct_average"].rstrip("%")), abs=0.051), file
            assert ours["kappa_agreement"] == pytest.approx(theirs["kappa_agreement"], abs=1e-9), file
