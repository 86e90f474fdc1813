"""Does the audit see what is there, and nothing else? Coverage, alarms and cost over many seeds of planted judges.

    python tests/bench/audit.py --seeds 100
    python tests/bench/audit.py --seeds 50 --only faulty

For each judge: how often the 95 % interval of each number held the planted value, and how often each alarm was raised.
The planted values come from the mock's formula over a large population of answers (``tests/planted.py``). The last table
sets the usual measure of self-preference, the difference of two conditional rates, beside ours, for fair judges of unequal
models: the usual one is not zero, ours is.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from scipy import special

from rlhf_eval.stats.judge_effects import difference_of_groups, fair_gap

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]
from planted import World, truth  # noqa: E402

JUDGES: dict[str, tuple[dict[str, float], bool, tuple[str, ...]]] = {
    "clean": ({}, False, ("swaps", "repeats", "copies", "triples", "injections")),
    "noisy": ({"noise": 0.7}, True, ("swaps", "repeats", "copies", "triples")),
    "faulty": (
        {"bias": 0.8, "length_bias": 0.5, "noise": 0.7, "self_preference": 1.5, "garble": 0.05},
        True,
        ("swaps", "repeats", "copies"),
    ),
}
"""Name to planted settings, whether gold grades, and what is bought."""


def measure(name: str, seeds: int, prompts: int) -> None:
    """Audit one judge ``seeds`` times and print its two tables."""
    settings, graded, kinds = JUDGES[name]
    planted = truth(settings, graded=graded)
    held: dict[str, list[bool]] = defaultdict(list)
    values: dict[str, list[float]] = defaultdict(list)
    alarms: Counter[str] = Counter()
    quiet, started = 0, time.monotonic()
    for seed in range(seeds):
        world = World(seed=1000 + seed, prompts=prompts, judge=settings, graded=graded, kinds=kinds)
        findings = asyncio.run(world.audited())
        raised = [finding.name for finding in findings.values() if finding.alarm]
        alarms.update(raised)
        quiet += not raised
        for key, finding in findings.items():
            if finding.estimate is not None and key in planted:
                held[key].append(finding.estimate.low - 1e-9 <= planted[key] <= finding.estimate.high + 1e-9)
                values[key].append(finding.estimate.value)
    print(f"\n{name}: {settings or 'no fault'}; {seeds} seeds of {prompts} prompts, {time.monotonic() - started:.0f} s")
    print(f"  {'':22} planted    mean  held at 95 %")
    for key, hits in held.items():
        print(f"  {key:22} {planted[key]:+.4f} {np.mean(values[key]):+.4f}  {np.mean(hits):.3f}")
    print(f"  all together{'':27} {np.mean([hit for hits in held.values() for hit in hits]):.3f}")
    print(f"  no alarm in {quiet} of {seeds}; alarms: {dict(alarms.most_common()) or 'none'}")


def unequal() -> None:
    """Fair judges, models of unequal quality, labels with and without noise."""
    print("\na fair judge: 'preference' for the model that wins more often, in points")
    print(f"  {'wins':>5} {'raters agree':>12} {'usual measure':>14} {'beyond fair':>12}")
    rng = np.random.default_rng(0)
    for lead in (0.0, 0.3, 0.6, 1.0):
        for noise in (0.0, 0.5, 1.0):
            margin = rng.normal(lead, 1, 200_000)
            labels = margin + noise * rng.standard_normal((2, len(margin))) > 0
            share = special.expit(2.5 * margin)
            right = np.where(labels[0], share, 1 - share)
            wins, agree = float(labels[0].mean()), float((labels[0] == labels[1]).mean())
            gap = difference_of_groups(right, labels[0]).value
            print(
                f"  {wins:5.2f} {agree:12.2f} {100 * gap:+14.1f} {100 * (gap - fair_gap(wins, right.mean(), agree)):+12.1f}"
            )


def main() -> None:
    """Read the flags and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--only", choices=[*JUDGES, "unequal"])
    options = parser.parse_args()
    for name in JUDGES:
        if options.only in (None, name):
            measure(name, options.seeds, options.prompts)
    if options.only in (None, "unequal"):
        unequal()


if __name__ == "__main__":
    main()
