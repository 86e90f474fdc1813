"""JudgeBench: a handmade checkout, and the accuracies of two published judges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import judge_bench
from rlhf_eval.interop.loaded import Loaded

Put = Callable[[str, Any], Path]
DATA = "data/dataset=judgebench,response_model=gpt.jsonl"
OUTPUT = "outputs/dataset=judgebench,response_model=gpt,judge_name=vanilla,judge_model=m.jsonl"


def pair(number: int, label: str, *decisions: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "pair_id": f"p{number}",
        "source": "livebench-math",
        "question": f"Q{number}",
        "response_model": "gpt",
        "response_A": f"a{number}",
        "response_B": f"b{number}",
        "label": label,
    }
    if decisions:
        judged = [{"judgment": {"judge_model": "lab/m", "response": "because"}, "decision": d} for d in decisions]
        row |= {"judge_name": "vanilla", "judgments": judged}
    return row


@pytest.fixture
def checkout(put: Put, tmp_path: Path) -> Path:
    put(DATA, [pair(1, "A>B"), pair(2, "B>A"), pair(3, "A>B")])
    put(OUTPUT, [pair(1, "A>B", "A>B", "B>A"), pair(2, "B>A", "A>B", "A>B"), pair(3, "A>B", "A=B", None)])
    return tmp_path


def test_the_second_decision_is_turned_round(checkout: Path) -> None:
    loaded = judge_bench.read(checkout)
    assert loaded.warnings == ()
    assert [(p.text, p.category) for p in loaded.prompts] == [(f"Q{n}", "livebench-math") for n in (1, 2, 3)]
    assert len([j for j in loaded.judgments if j.judge == "gold"]) == 3
    said = [j for j in loaded.judgments if j.judge == "judge_bench/vanilla/lab/m"]
    assert [(j.order, j.scores) for j in said] == [
        ((0, 1), (1.0, 0.0)),
        ((1, 0), (1.0, 0.0)),
        ((0, 1), (1.0, 0.0)),
        ((1, 0), (0.0, 1.0)),
        ((0, 1), (0.5, 0.5)),
        ((1, 0), ()),
    ]
    assert said[-1].error == "unparsed: the decision is None"
    assert said[0].rationale == "because"


def test_a_file_a_folder_or_a_checkout(checkout: Path) -> None:
    ids = {j.id for j in judge_bench.read(checkout).judgments}
    for place in (checkout / "outputs", checkout / OUTPUT):
        assert judge_bench.detect(place)
        assert {j.id for j in judge_bench.read(place).judgments} == ids


def test_what_is_no_checkout(tmp_path: Path, put: Put) -> None:
    assert not judge_bench.detect(tmp_path)
    assert not judge_bench.detect(put("other.jsonl", [{}]))
    with pytest.raises(UserError, match="no file named dataset="):
        judge_bench.read(tmp_path)


def test_an_unknown_label_is_named(put: Put, tmp_path: Path) -> None:
    put(DATA, [pair(1, "A>B"), pair(2, "A")])
    assert "'label' must be one of A>B, B>A, A=B, not 'A'" in judge_bench.read(tmp_path).warnings[0]


def accuracy(loaded: Loaded, judge: str) -> float:
    """Upstream's: a pair is right where the two orders together lean to the label."""
    gold = {j.completion_ids: j.scores[0] > 0.5 for j in loaded.judgments if j.judge == "gold"}
    net: dict[tuple[str, ...], float] = defaultdict(float)
    for j in loaded.judgments:
        if j.judge == judge and j.error is None:
            net[j.completion_ids] += 2 * j.scores[0] - 1
    return sum(net[ids] > 0 if first else net[ids] < 0 for ids, first in gold.items()) / len(gold)


@pytest.mark.groundtruth
def test_the_accuracies_of_two_judges(groundtruth: Path) -> None:
    loaded = judge_bench.read(groundtruth / "JudgeBench")
    assert len(loaded.prompts) == 350
    assert loaded.warnings == ()
    found = {judge: round(100 * accuracy(loaded, judge), 2) for judge in {j.judge for j in loaded.judgments} - {"gold"}}
    assert found == {
        "judge_bench/reward_model/Ray2333/GRM-Gemma-2B-rewardmodel-ft": 59.43,
        "judge_bench/arena_hard/o1-mini-2024-09-12": 65.71,
    }
