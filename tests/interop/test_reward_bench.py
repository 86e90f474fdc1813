"""RewardBench: data sets and score files of both versions, made by hand, and the Ties fixture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import reward_bench
from rlhf_eval.interop.loaded import Loaded

Put = Callable[[str, Any], Path]


def rewards(loaded: Loaded, judge: str) -> dict[str, list[float | None]]:
    """The scores of each item, in the order of its gold label's answers."""
    keys = {p.id: p.key for p in loaded.prompts}
    given = {j.completion_ids[0]: (j.scores or (None,))[0] for j in loaded.judgments if j.judge == judge}
    return {keys[j.prompt_id]: [given.get(c) for c in j.completion_ids] for j in loaded.judgments if j.judge == "gold"}


def test_version_1(put: Put, tmp_path: Path) -> None:
    items = [
        {
            "id": n,
            "subset": "hep-python",
            "prompt": f"Q{n}",
            "chosen": "right",
            "rejected": "wrong",
            "chosen_model": "human",
            "rejected_model": "gpt",
        }
        for n in (7, 8)
    ]
    put("data.jsonl", items)
    put(
        "rm.json",
        {
            "id": [7, 8],
            "subset": ["hep-python"] * 2,
            "scores_chosen": [1.5, [2.0]],
            "scores_rejected": [0.5, None],
            "model": "lab/rm",
        },
    )
    assert reward_bench.detect(tmp_path)
    loaded = reward_bench.read(tmp_path)
    assert loaded.warnings == ()
    assert [(p.text, p.key, p.category) for p in loaded.prompts] == [
        ("Q7", "7", "hep-python"),
        ("Q8", "8", "hep-python"),
    ]
    assert [j.scores for j in loaded.judgments if j.judge == "gold"] == [(1.0, 0.0), (1.0, 0.0)]
    assert rewards(loaded, "reward_bench/lab/rm") == {"7": [1.5, 0.5], "8": [2.0, None]}
    assert [j.error for j in loaded.judgments if j.error] == ["unparsed: the score is None"]
    assert {c.model for c in loaded.completions} == {"human", "gpt"}


def test_version_2(put: Put, tmp_path: Path) -> None:
    put(
        "data.jsonl",
        [
            {
                "id": "3",
                "subset": "Ties",
                "prompt": "Name a colour.",
                "chosen": ["red", "blue"],
                "rejected": ["dog"],
                "num_correct": 2,
            }
        ],
    )
    put("rm.json", {"id": ["3"], "subset": ["ties"], "scores": [[0.9, 0.8, 0.1]], "num_correct": [2], "model": "rm"})
    loaded = reward_bench.read(tmp_path)
    assert [j.scores for j in loaded.judgments if j.judge == "gold"] == [(1.0, 1.0, 0.0)]
    assert rewards(loaded, "reward_bench/rm") == {"3": [0.9, 0.8, 0.1]}


def test_scores_without_their_data_set(put: Put, tmp_path: Path) -> None:
    path = put("rm.json", {"id": ["1"], "subset": ["focus"], "scores": [[0.9, 0.1]], "num_correct": [1], "model": "rm"})
    loaded = reward_bench.read(path)
    assert rewards(loaded, "reward_bench/rm") == {"1": [0.9, 0.1]}
    assert loaded.prompts[0].text == "RewardBench focus 1"
    assert "1 items are known by their ids only" in loaded.warnings[0]


def test_columns_and_items_that_do_not_fit_are_named(put: Put, tmp_path: Path) -> None:
    put("a.json", {"id": ["1", "2"], "scores": [[1.0, 0.0]], "model": "rm"})
    put("b.jsonl", [{"id": "1", "subset": "focus"}, {"id": "2", "prompt": "Q", "chosen": "a", "rejected": 3}])
    put("c.json", {"id": ["5"], "subset": [""], "scores": [[1.0, 0.0]], "model": "rm"})
    warnings = reward_bench.read(tmp_path).warnings
    assert "column 'scores' has 1 entries, 'id' has 2" in warnings[0]
    assert "'rejected' must be text or a list of texts, not a number" in warnings[1]
    assert "neither answers" in warnings[2]


def test_what_is_no_reward_bench(tmp_path: Path, put: Put) -> None:
    assert not reward_bench.detect(tmp_path)
    assert not reward_bench.detect(put("x.jsonl", [{"prompt": "Hi"}]))
    with pytest.raises(UserError, match="nothing could be read"):
        reward_bench.read(tmp_path / "x.jsonl")


@pytest.mark.groundtruth
def test_the_ties_fixture(groundtruth: Path) -> None:
    loaded = reward_bench.read(groundtruth / "reward-bench")
    found = rewards(loaded, "reward_bench/rb2_ties_fixture")
    assert len(found) == 100
    assert found["ref:1"][0] == 2.126
    gold = {
        p.key: j.scores for p in loaded.prompts for j in loaded.judgments if j.judge == "gold" and j.prompt_id == p.id
    }
    assert sum(gold["ref:1"]) == 1
    assert sum(gold["tied:1"]) == 5
