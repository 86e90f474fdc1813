"""How many judge calls the same power costs: the published design against ours, and how often ours is wrong about equals.

The published design judges A and B against a baseline in both orders, on every prompt. Ours judges A against B, one order a
prompt with the sides balanced, and stops at one of five O'Brien-Fleming looks.

Simulated: qualities vary by prompt, the judge adds noise to each comparison and favours the first slot. For each gap our
power is measured; the prompts with which the published design reaches as much follow from its measured effect and variance,
and its power with so many is measured to check them. Recorded, with ``--groundtruth``: every pair of models in AlpacaEval's
published annotations, one judgment a prompt; do five looks say what all prompts say, with how many of the calls, and how
often do they find a difference where signs are flipped at random?

    python tests/bench/judge_calls.py --reps 4000 --groundtruth path/to/checkouts
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from rlhf_eval.interop import alpaca_eval
from rlhf_eval.stats.sequential import group_sequential_boundary

PROMPTS, LOOKS = 805, 5
BIAS, NOISE = 0.3, 0.8
"""Log-odds that the first slot is worth, and the standard deviation of what the judge adds to a comparison."""
SPREADS = {1.2: (0.25, 0.28, 0.31, 0.35), 1.7: (0.31, 0.34, 0.38, 0.42)}
"""Standard deviation, over prompts, of the difference of two models' qualities, and the mean differences tried."""
LARGE = 400_000

Design = Callable[[np.random.Generator, float, float, int, int], tuple[np.ndarray, np.ndarray]]
"""``(rng, gap, spread, runs, prompts)`` to whether each run found a difference, and its calls."""


def verdicts(rng: np.random.Generator, lead: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """1 where the model wins: ``lead`` is its log-odds on the prompt, the first slot has a bonus."""
    seen = lead + rng.normal(0, NOISE, lead.shape) + np.where(swapped, -BIAS, BIAS)
    return (rng.random(lead.shape) < 1 / (1 + np.exp(-seen))).astype(float)


def baseline_gaps(rng: np.random.Generator, gap: float, spread: float, runs: int, prompts: int) -> np.ndarray:
    """A's share against the baseline minus B's, both orders of each; shape (runs, prompts)."""
    base, *own = rng.normal(0, spread / math.sqrt(2), (3, runs, prompts))
    plain = np.zeros((runs, prompts), dtype=bool)
    shares = []
    for side, merit in ((own[0], gap / 2), (own[1], -gap / 2)):
        lead = merit + side - base
        shares.append((verdicts(rng, lead, plain) + verdicts(rng, lead, ~plain)) / 2)
    return shares[0] - shares[1]


def published(
    rng: np.random.Generator, gap: float, spread: float, runs: int, prompts: int
) -> tuple[np.ndarray, np.ndarray]:
    """A and B against a baseline, both orders of every prompt, then one test."""
    differences = baseline_gaps(rng, gap, spread, runs, prompts)
    z = differences.mean(axis=1) / (differences.std(axis=1, ddof=1) / math.sqrt(prompts))
    return np.abs(z) > ndtri(0.975), np.full(runs, 4 * prompts)


def ours(rng: np.random.Generator, gap: float, spread: float, runs: int, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """Head to head, one balanced order, five looks."""
    lead = gap + rng.normal(0, spread, (runs, prompts))
    swapped = rng.permuted(np.tile(np.arange(prompts) % 2 == 1, (runs, 1)), axis=1)
    return looks(verdicts(rng, lead, swapped) - 0.5)


def looks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the mean of each row is told from 0 at one of five looks, and how many entries that took."""
    runs, prompts = values.shape
    size = -(-prompts // LOOKS)
    found, taken = np.zeros(runs, dtype=bool), np.full(runs, prompts)
    for number, critical in enumerate(group_sequential_boundary(LOOKS), 1):
        seen = values[:, : number * size]
        with np.errstate(divide="ignore", invalid="ignore"):
            z = seen.mean(axis=1) / (seen.std(axis=1, ddof=1) / math.sqrt(seen.shape[1]))
        now = ~found & (np.abs(z) > critical)
        taken[now] = seen.shape[1]
        found |= now
    return found, taken


def rate(design: Design, reps: int, gap: float, spread: float, prompts: int, seed: int) -> tuple[float, float]:
    """Share of runs that found a difference, and mean calls."""
    rng = np.random.default_rng(seed)
    parts = [design(rng, gap, spread, min(500, reps - start), prompts) for start in range(0, reps, 500)]
    found, calls = (float(np.concatenate([part[k] for part in parts]).mean()) for k in (0, 1))
    return found, calls


def same_power(wanted: float, gap: float, spread: float) -> int:
    """The prompts with which the published design reaches a power, from its effect and variance on many prompts."""
    one = baseline_gaps(np.random.default_rng(5), gap, spread, 1, LARGE)[0]
    return math.ceil((float(ndtri(0.975)) + float(ndtri(wanted))) ** 2 * one.var() / one.mean() ** 2)


def simulated(reps: int) -> None:
    """The table of both designs, for two worlds."""
    for spread, gaps in SPREADS.items():
        alarms, _ = rate(ours, 5 * reps, 0.0, spread, PROMPTS, 1)
        print(
            f"qualities differ by {spread} over prompts; equal models: ours finds a difference in {alarms:.2%} of runs"
        )
        print(
            f"{'gap':>5} {'power':>7} {'our calls':>10} {'their prompts':>14} {'power':>7} {'their calls':>12} {'share':>7}"
        )
        for gap in gaps:
            power, calls = rate(ours, reps, gap, spread, PROMPTS, 2)
            prompts = same_power(min(power, 0.999), gap, spread)
            checked, theirs = rate(published, reps // 2, gap, spread, prompts, 7)
            row = f"{gap:5.2f} {power:7.3f} {calls:10.0f} {prompts:14d} {checked:7.3f} {theirs:12.0f}"
            print(f"{row} {calls / theirs:7.1%}", flush=True)


def recorded(checkouts: Path) -> None:
    """What five looks would have said on published judgments."""
    shares = recorded_shares(checkouts)
    rng = np.random.default_rng(0)
    agree, calls, alarms, undecided = [], [], [], 0
    for a, b in itertools.combinations(sorted(shares), 2):
        both = sorted(shares[a].keys() & shares[b].keys())
        gaps = np.array([shares[a][prompt] - shares[b][prompt] for prompt in both])
        whole = gaps.mean() / (gaps.std(ddof=1) / math.sqrt(len(gaps)))
        found, taken = looks(rng.permutation(gaps)[None, :])
        flipped = gaps * rng.choice([-1.0, 1.0], (20, len(gaps)))
        alarms.append(looks(flipped)[0].mean())
        if abs(whole) > ndtri(0.975):
            agree.append(bool(found[0]))
            calls.append(taken[0] / len(gaps))
        else:
            undecided += 1
    print(f"recorded: {len(shares)} models, {len(agree)} pairs differ on all prompts and {undecided} do not")
    print(f"  five looks find {np.mean(agree):.1%} of those that differ, with {np.mean(calls):.1%} of the calls")
    print(f"  signs flipped at random: they find a difference in {np.mean(alarms):.2%} of {20 * len(alarms)} runs")


def recorded_shares(checkouts: Path) -> dict[str, dict[str, float]]:
    """Model to prompt to its share against the common baseline, by the AlpacaEval 2 judge."""
    loaded = alpaca_eval.read(checkouts / "alpaca_eval")
    model_of = {completion.id: completion.model for completion in loaded.completions}
    found: dict[str, dict[str, float]] = {}
    for judgment in loaded.judgments:
        if judgment.scores and "weighted_alpaca_eval_gpt4_turbo" in judgment.judge:
            found.setdefault(model_of[judgment.completion_ids[0]], {})[judgment.prompt_id] = judgment.scores[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=4000)
    parser.add_argument("--groundtruth", type=Path, help="upstream checkouts, for the recorded judgments")
    options = parser.parse_args()
    simulated(options.reps)
    if options.groundtruth:
        recorded(options.groundtruth)


if __name__ == "__main__":
    main()
