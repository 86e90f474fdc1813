"""AlpacaEval's leaderboard rows from annotations: right, wrong, missing, broken; the penalty behind published weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlhf_eval.benchmarks.alpaca_eval import Rows, from_weights
from rlhf_eval.parity import alpaca_eval
from rlhf_eval.parity.alpaca_eval import GAMED_JUDGE, penalty
from rlhf_eval.parity.claim import Claim, Tree
from rlhf_eval.stats.logistic import sigmoid
from rlhf_eval.stats.style_published import GRID, alpaca_eval_2

from .conftest import LEADERBOARD, ROW, Put


def check(path: Path) -> list[Claim]:
    return list(alpaca_eval.check(Tree(path)))


def test_every_column_of_a_row_is_derived(alpaca: Put, tmp_path: Path) -> None:
    alpaca(LEADERBOARD, [ROW])
    claims = check(tmp_path)
    assert {claim.number: claim.verdict for claim in claims} == dict.fromkeys(list(ROW)[1:], "same")
    assert all(claim.source.endswith("mine/judge/annotations.json") for claim in claims)


@pytest.mark.parametrize(
    ("column", "wrong"), [("win_rate", "54.166666669"), ("n_wins", "4"), ("discrete_win_rate", "54.166666666666664")]
)
def test_a_wrong_column_is_a_miss(alpaca: Put, tmp_path: Path, column: str, wrong: str) -> None:
    alpaca(LEADERBOARD, [{**ROW, column: wrong}])
    assert [claim.number for claim in check(tmp_path) if claim.verdict == "MISS"] == [column]


def test_a_row_without_annotations_is_not_here(alpaca: Put, tmp_path: Path) -> None:
    alpaca(LEADERBOARD, [{**ROW, "": "other"}])
    assert [(claim.subject, claim.verdict) for claim in check(tmp_path)] == [("other by judge", "not here")]


def test_an_empty_file_is_not_here_and_a_folder_of_nothing_is_named(put: Put, tmp_path: Path) -> None:
    put(LEADERBOARD, [ROW])
    put("ae/results/mine/judge/annotations.json", "")
    (claim,) = check(tmp_path)
    assert claim.verdict == "not here"
    assert "empty" in claim.note
    (tmp_path / "other").mkdir()
    (nothing,) = check(tmp_path / "other")
    assert nothing.verdict == "not here"


def rows(seed: int = 0, n: int = 300) -> tuple[Rows, np.ndarray]:
    rng = np.random.default_rng(seed)
    gap, hard = rng.normal(100, 300, n).round(), rng.normal(size=n)
    share = np.clip(sigmoid(0.5 * hard - 0.7 - 0.8 * np.tanh(gap / 300)) + rng.normal(0, 0.2, n), 0, 1)
    zero = np.zeros(n)
    table = Rows(
        judge="j", model="m", baseline="b", preference=share, prompt=tuple(map(str, range(n))),
        model_length=zero, baseline_length=gap,
    )  # fmt: skip
    return table, hard


@pytest.mark.parametrize("c", GRID[4:8])
def test_the_penalty_is_read_off_the_weights_and_gives_them_back(c: float) -> None:
    table, hard = rows()
    fit = alpaca_eval_2(table.preference, table.length_difference, hard, c=c)
    weights = (fit.length, fit.difficulty, fit.intercept)
    assert penalty(weights, table, hard) == c
    assert from_weights(weights, hard) == pytest.approx(fit.value, abs=1e-12)


def test_difficulties_are_recovered_from_fitted_preferences(put: Put, tmp_path: Path) -> None:
    difficulty = np.linspace(-2, 3, 7)
    weights = (-1.0, 0.5, -0.3)
    put(
        f"ae/results/vic/{GAMED_JUDGE}/{GAMED_JUDGE}/annotations.json",
        [{"glm_preference": float(g)} for g in sigmoid(weights[1] * difficulty + weights[2])],
    )
    header = ["", "np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)"]
    put(
        f"ae/src/alpaca_eval/metrics/weights/{GAMED_JUDGE}/length_controlled_v1/baseline_gpt4_1106_preview.csv",
        [dict(zip(header, ["vic", *weights], strict=True))],
    )
    found = alpaca_eval._fits(Tree(tmp_path)).difficulty
    assert found == pytest.approx(difficulty, abs=1e-9)
