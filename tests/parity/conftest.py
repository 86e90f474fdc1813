"""Small checkouts, written by hand, with numbers that are right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Put = Callable[[str, Any], Path]


@pytest.fixture
def alpaca(put: Put) -> Put:
    """An AlpacaEval checkout with one model: 3 wins, 2 losses, 1 tie, 1 unread."""
    preferences: list[float | None] = [2.0, 2.0, 1.75, 1.0, 1.0, 1.5, None]
    put("ae/results/mine/judge/annotations.json", [
        {"instruction": f"Do {n}", "output_1": "theirs", "output_2": "mine " * n, "generator_1": "base",
         "generator_2": "mine", "annotator": "judge", "preference": preference}
        for n, preference in enumerate(preferences)
    ])  # fmt: skip
    return put


LEADERBOARD = "ae/src/alpaca_eval/leaderboards/data_AlpacaEval_2/judge_leaderboard.csv"
ROW = {
    "": "mine",
    "win_rate": "54.166666666666664",
    "standard_error": "18.72683754520353",
    "n_wins": "3",
    "n_wins_base": "2",
    "n_draws": "1",
    "n_total": "6",
    "discrete_win_rate": "58.333333333333336",
}
