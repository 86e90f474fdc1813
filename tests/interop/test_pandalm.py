"""PandaLM's test set: a handmade one, and the agreement of its three annotators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import pandalm
from rlhf_eval.interop.loaded import Loaded
from rlhf_eval.stats.agreement import cohen_kappa

Put = Callable[[str, Any], Path]


def item(idx: int, *labels: int, response1: Any = "one", key: str = "llama-7b_opt-7b") -> dict[str, Any]:
    return {
        "idx": idx,
        "motivation_app": "Gmail",
        "cmp_key": key,
        "instruction": "Shorten.",
        "input": "A text",
        "response1": response1,
        "response2": "two",
        **{f"annotator{n}": label for n, label in enumerate(labels, 1)},
    }


@pytest.fixture
def checkout(put: Put, tmp_path: Path) -> Path:
    put("data/testset-v1.json", [item(0, 1, 2, 0), item(1, 2, 2, 2, response1=True)])
    put(
        "data/gpt-3.5-turbo-testset-v1.json",
        [{"idx": 0, "gpt_result": "Tie", "gpt_reason": "same"}, {"idx": 1, "gpt_result": "garbage"}],
    )
    return tmp_path


def test_people_and_judges(checkout: Path) -> None:
    loaded = pandalm.read(checkout)
    assert loaded.warnings == ()
    assert [p.text for p in loaded.prompts] == ["Shorten.\n\nA text"]
    assert sorted((c.model, c.text) for c in loaded.completions) == [
        ("llama-7b", "True"),
        ("llama-7b", "one"),
        ("opt-7b", "two"),
    ]
    by_judge = {
        judge: [j for j in loaded.judgments if j.judge == judge] for judge in {j.judge for j in loaded.judgments}
    }
    assert [j.scores for j in by_judge["human/annotator1"]] == [(1.0, 0.0), (0.0, 1.0)]
    assert [j.scores for j in by_judge["human/annotator3"]] == [(0.5, 0.5), (0.0, 1.0)]
    first, second = by_judge["pandalm/gpt-3.5-turbo"]
    assert (first.scores, first.rationale) == ((0.5, 0.5), "same")
    assert second.error == "unparsed: the label is 'garbage', not 0, 1 or 2"


def test_items_that_do_not_fit_are_named(checkout: Path, put: Put) -> None:
    put("data/testset-v1.json", [item(0, 1, 2, 0), item(1, 1, 1, 1, key="one-model")])
    loaded = pandalm.read(checkout)
    assert "'cmp_key' must be two models joined by '_'" in loaded.warnings[0]
    assert "idx 1 is not in testset-v1.json" in loaded.warnings[1]


def test_what_is_no_checkout(tmp_path: Path) -> None:
    assert not pandalm.detect(tmp_path)
    with pytest.raises(UserError, match=r"no testset-v1\.json"):
        pandalm.read(tmp_path)


def labels(loaded: Loaded, judge: str) -> dict[int, str]:
    names = {(0.5, 0.5): "tie", (1.0, 0.0): "1", (0.0, 1.0): "2", (): "unparsed"}
    return {int(j.metadata["idx"]): names[j.scores] for j in loaded.judgments if j.judge == judge}


@pytest.mark.groundtruth
def test_counts_and_agreement_are_the_published_ones(groundtruth: Path) -> None:
    loaded = pandalm.read(groundtruth / "PandaLM")
    assert loaded.warnings == ()
    people = [labels(loaded, f"human/{name}") for name in pandalm.ANNOTATORS]
    assert [len(p) for p in people] == [999] * 3
    order = sorted(people[0])
    columns = [[p[idx] for idx in order] for p in people]
    kappas = {round(cohen_kappa(columns[a], columns[b]), 3) for a, b in ((0, 1), (0, 2), (1, 2))}
    assert kappas == {0.852, 0.879, 0.862}
    majority = [Counter(votes).most_common(1)[0][0] for votes in zip(*columns, strict=True)]
    assert Counter(majority) == {"tie": 105, "1": 422, "2": 472}
    for judge, accuracy, unparsed in (("gpt-3.5-turbo", 0.6977, 25), ("pandalm-7b", 0.6677, 0)):
        said = labels(loaded, f"pandalm/{judge}")
        assert Counter(said.values())["unparsed"] == unparsed
        assert round(sum(said[i] == m for i, m in zip(order, majority, strict=True)) / 999, 4) == accuracy
