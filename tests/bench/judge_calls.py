"""How many judge calls the same power costs: the published design against ours, and how often ours is wrong about equals.

The published design judges A and B against a baseline in both orders, on every prompt. Ours judges A against B, one order a
prompt with the sides balanced, and stops at one of five O'Brien-Fleming looks. Qualities vary by prompt, verdicts are noisy
and favour the first slot. Power is measured, not computed: for each gap the smallest number of prompts with which the
published design reaches what ours reached with 805.

    python tests/bench/judge_calls.py --reps 2000
"""

from __future__ import annotations

import argparse

import numpy as np

from rlhf_eval.stats.intervals import paired
from rlhf_eval.stats.sequential import group_sequential_boundary

PROMPTS, LOOKS, BIAS = 805, 5, 0.3
PROMPT_SD = 1.2


def verdicts(rng: np.random.Generator, lead: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """1 where the model wins: ``lead`` is its log-odds on the prompt, the first slot has a bonus."""
    return (rng.random(lead.shape) < 1 / (1 + np.exp(-(lead + np.where(swapped, -BIAS, BIAS))))).astype(float)


def published(rng: np.random.Generator, gap: float, prompts: int) -> tuple[bool, int]:
    """A and B against a baseline, both orders: significant (in the right direction), and calls."""
    base, own = rng.normal(0, PROMPT_SD, prompts), rng.normal(0, PROMPT_SD, (2, prompts))
    scores = []
    for side, merit in ((own[0], gap / 2), (own[1], -gap / 2)):
        lead = merit + side - base
        scores.append((verdicts(rng, lead, np.zeros(prompts, bool)) + verdicts(rng, lead, np.ones(prompts, bool))) / 2)
    difference = paired(scores[0], scores[1])
    return difference.p_value < 0.05, 4 * prompts


def ours(rng: np.random.Generator, gap: float, prompts: int = PROMPTS) -> tuple[bool, int]:
    """Head to head, one balanced order, five looks: decided, and calls."""
    lead = gap + rng.normal(0, PROMPT_SD, prompts) - rng.normal(0, PROMPT_SD, prompts)
    swapped = rng.permutation(np.arange(prompts) % 2).astype(bool)
    scores = verdicts(rng, lead, swapped)
    size = -(-prompts // LOOKS)
    for number, critical in enumerate(group_sequential_boundary(LOOKS), 1):
        seen = scores[: number * size]
        z = (seen.mean() - 0.5) / (seen.std(ddof=1) / np.sqrt(len(seen)))
        if abs(z) > critical:
            return True, len(seen)
    return False, prompts


def rate(design, reps: int, gap: float, prompts: int, seed: int) -> tuple[float, float]:
    """Share of runs that found a difference, and mean calls."""
    rng = np.random.default_rng(seed)
    found = [design(rng, gap, prompts) for _ in range(reps)]
    return float(np.mean([hit for hit, _ in found])), float(np.mean([calls for _, calls in found]))


def same_power(wanted: float, gap: float, reps: int) -> tuple[int, float]:
    """The prompts with which the published design reaches a power, by bisection, and the power reached."""
    low, high = 50, 50
    while rate(published, reps, gap, high, 7)[0] < wanted and high < 20_000:
        low, high = high, 2 * high
    while high - low > max(10, low // 20):
        middle = (low + high) // 2
        low, high = (low, middle) if rate(published, reps, gap, middle, 7)[0] >= wanted else (middle, high)
    return high, rate(published, reps, gap, high, 7)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=2000)
    options = parser.parse_args()
    alarms, _ = rate(ours, 5 * options.reps, 0.0, PROMPTS, 1)
    print(f"equal models: ours finds a difference in {alarms:.2%} of {5 * options.reps} runs (at most 5.5 % wanted)")
    print(f"{'gap':>5} {'power':>7} {'our calls':>10} {'their prompts':>14} {'their calls':>12} {'share':>7}")
    for gap in (0.22, 0.28, 0.35):
        power, calls = rate(ours, options.reps, gap, PROMPTS, 2)
        prompts, _ = same_power(min(power, 0.995), gap, max(200, options.reps // 4))
        print(f"{gap:5.2f} {power:7.3f} {calls:10.0f} {prompts:14d} {4 * prompts:12d} {calls / (4 * prompts):7.1%}")


if __name__ == "__main__":
    main()
