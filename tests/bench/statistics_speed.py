"""Bradley-Terry with a bootstrap of prompts beside evalica's own bootstrap, and a length-controlled rate with a bootstrap.

Both rankings come from the same 8,931 games of evalica's llmfao file, in one process, one after the other. evalica
resamples games; ours resamples prompts, which is what repeats here, and fits all draws in batches.

    python tests/bench/statistics_speed.py --games path/to/evalica/llmfao.csv
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evalica
import numpy as np

from rlhf_eval.stats.bradley_terry import bootstrap_ratings, bradley_terry
from rlhf_eval.stats.length_control import length_controlled, length_controlled_bootstrap

SCORES = {"left": 1.0, "right": 0.0, "tie": 0.5}
WINNERS = {"left": evalica.Winner.X, "right": evalica.Winner.Y, "tie": evalica.Winner.Draw}


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """The fastest of some runs, and what the last one gave."""
    seconds, result = [], None
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - started)
    return min(seconds), result


def ranking(games: Path, draws: int) -> None:
    with games.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    left, right, prompts = ([row[name] for row in rows] for name in ("left", "right", "prompt"))
    scores = [SCORES[row["winner"]] for row in rows]
    ours, replicates = timed(lambda: bootstrap_ratings(left, right, scores, prompts, draws=draws, seed=0), 3)
    winners = [WINNERS[row["winner"]] for row in rows]
    theirs, _ = timed(
        lambda: evalica.bootstrap(
            evalica.bradley_terry, left, right, winners,
            n_resamples=draws, bootstrap_method="percentile", random_state=0,
        ),
        1,
    )  # fmt: skip
    sandwich = np.sqrt(np.diag(bradley_terry(left, right, scores, prompts).covariance))
    spread = np.nanstd(replicates, axis=0, ddof=1)
    print(f"Bradley-Terry, {len(rows):,} games, {len(set(prompts))} prompts, {draws:,} draws:")
    print(f"  ours {ours:.2f} s, evalica {theirs:.2f} s: {theirs / ours:.1f} times as fast")
    print(f"  bootstrap error over sandwich error, median of the models: {np.median(spread / sandwich):.3f}")


def length_control(draws: int) -> None:
    rng = np.random.default_rng(0)
    style, difficulty = np.tanh(rng.normal(0.5, 1, 805)), rng.normal(size=805)
    scores = (rng.random(805) < 1 / (1 + np.exp(-(0.2 + 0.9 * style + 0.6 * difficulty)))).astype(float)
    quick = length_controlled(scores, style, covariates=difficulty).adjusted
    seconds, slow = timed(lambda: length_controlled_bootstrap(scores, style, covariates=difficulty, draws=draws), 3)
    assert quick is not None
    print(f"length control, 805 prompts, {draws:,} draws: {seconds:.2f} s")
    print(f"  error {slow.se:.4f}, influence function {quick.se:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=Path, help="evalica's llmfao.csv")
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    if options.games:
        ranking(options.games, options.draws)
    length_control(options.draws)


if __name__ == "__main__":
    main()
