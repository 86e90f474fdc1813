"""Preference Proxy Evaluations: votes and checked answers, against numbers worked out beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rlhf_eval.benchmarks import ppe
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.errors import UserError
from rlhf_eval.interop import ppe as reader
from rlhf_eval.interop.recognise import recognise
from rlhf_eval.records import Judgment

MODELS, K = 6, 8


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def votes(path: Path) -> Path:
    rng = np.random.default_rng(1)
    rows = []
    for n in range(400):
        a, b = rng.choice(MODELS, 2, replace=False)
        p = 1 / (1 + np.exp(-(a - b) / 2))
        winner = str(rng.choice(["model_a", "model_b", "tie (bothbad)"], p=[0.9 * p, 0.9 * (1 - p), 0.1]))
        rows.append({"question_id": f"q{n}", "prompt": f"question {n}", "response_1": f"{n} by {a}",
                     "response_2": f"{n} by {b}", "model_a": f"m{a}", "model_b": f"m{b}", "winner": winner})  # fmt: skip
    return lines(path / "human.jsonl", rows)


def graded(path: Path, grade: Any) -> Evidence:
    """The data with a grade for each answer, by the text of the answer."""
    loaded = reader.read(path)
    assert not loaded.warnings
    made = [
        Judgment.of(prompt_id=c.prompt_id, completion_ids=(c.id,), judge="rm", scores=(float(grade(c)),))
        for c in loaded.completions
    ]
    return Evidence.of(loaded.prompts, loaded.completions, [*loaded.judgments, *made])


def test_a_judge_that_knows_the_models_ranks_them_as_people_do(tmp_path: Path) -> None:
    path = votes(tmp_path)
    assert recognise(path) == "ppe"
    found = {e.name: e for e in ppe.score(graded(path, lambda c: int(c.model[1:])), ppe.Config())}
    assert found["spearman"].value > 0.9
    assert found["kendall"].value > 0.8
    assert found["confident_agreement"].value > 0.9
    assert found["brier"].value < 0.1
    assert found["row_pearson"].value > 0.5
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    decided = [row for row in rows if row["winner"].startswith("model")]
    right = [(row["model_a"] > row["model_b"]) == (row["winner"] == "model_a") for row in decided]
    assert found["accuracy: human"].value == pytest.approx(np.mean(right))
    assert found["accuracy: human"].n == len(decided)


def test_a_judge_that_turns_the_models_round_is_found_out(tmp_path: Path) -> None:
    found = {e.name: e for e in ppe.score(graded(votes(tmp_path), lambda c: -int(c.model[1:])), ppe.Config())}
    assert found["spearman"].value < -0.9
    assert found["confident_agreement"].value == 0
    assert found["brier"].value > 0.9
    assert found["separability"].value > 0.5


def checked(path: Path, prompts: int = 40) -> Path:
    rng = np.random.default_rng(2)
    rows = []
    for n in range(prompts):
        right = rng.random(K) < rng.uniform(0.1, 0.9)
        pairs = [[int(i), int(j)] for i in np.flatnonzero(right)[:2] for j in np.flatnonzero(~right)[:2]]
        row = {"question_id": f"q{n}", "prompt": f"problem {n}", "model_name": "m", "scores": right.tolist(),
               "sampled_conflict_pairs": pairs}  # fmt: skip
        rows.append(row | {f"response_{k + 1}": f"{n}-{k}: {rng.normal(right[k], 1):.1f}" for k in range(K)})
    return lines(path / "PPE-MATH-Best-of-K" / "data.jsonl", rows)


def value(completion: Any) -> float:
    return float(completion.text.split()[1])


def test_auc_curve_and_pairs_equal_brute_force(tmp_path: Path) -> None:
    path = checked(tmp_path)
    found = {e.name: e for e in ppe.score(graded(path.parent, value), ppe.Config())}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    scores = [[float(row[f"response_{k + 1}"].split()[1]) for k in range(K)] for row in rows]
    right = [row["scores"] for row in rows]
    mixed = [(s, r) for s, r in zip(scores, right, strict=True) if 0 < sum(r) < K]
    assert found["auc: math"].value == pytest.approx(np.mean([roc_auc_score(r, s) for s, r in mixed]))
    tops = [np.mean([r[k] for k in range(K) if s[k] == max(s)]) for s, r in zip(scores, right, strict=True)]
    assert found[f"best of {K}: math"].value == pytest.approx(np.mean(tops))
    assert found["best of k, top: math"].value >= found[f"best of {K}: math"].value - 1e-12
    assert 0 < found["best of k, loss: math"].value < 0.5
    won = [
        0.5 + np.sign(s[max(i, j, key=lambda n: r[n])] - s[min(i, j, key=lambda n: r[n])]) / 2
        for s, r, row in zip(scores, right, rows, strict=True)
        for i, j in row["sampled_conflict_pairs"]
    ]
    assert found["accuracy: math"].value == pytest.approx(np.mean(won))


def test_an_oracle_loses_nothing(tmp_path: Path) -> None:
    path = checked(tmp_path)
    truth = {
        row[f"response_{k + 1}"]: row["scores"][k]
        for row in map(json.loads, path.read_text().splitlines())
        for k in range(K)
    }
    found = {e.name: e.value for e in ppe.score(graded(path.parent, lambda c: truth[c.text]), ppe.Config())}
    assert (found["auc: math"], found["accuracy: math"], found["best of k, loss: math"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sampled_conflict_pairs": [[0, 99]]}, "names no two of the 8 answers"),
        ({"scores": [True] * K, "sampled_conflict_pairs": [[0, 1]]}, "not one right and one wrong"),
        ({"scores": [0.5] * K}, "must be true or false"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = checked(tmp_path, 3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lines(path, [rows[0] | change, *rows[1:]])
    with pytest.raises(UserError, match=said):
        reader.read(path, strict=True)
