"""Does ``plan`` foresee what a run needs? It learns from small pilots, and is held against prompts that no pilot has seen.

The best of two answers of ``sandbox:policy`` by gold meets a third, before ``sandbox:judge``. Each pilot judges its own few
prompts of the training split in both orders; from it ``plan --like`` says how many prompts a decision needs in one balanced
order, and how many calls until one of its looks decides. Then held-out prompts are judged once, and runs of as many prompts
as the pilot said are drawn from them, with replacement: how many of these find the difference, after how many calls?

    python tests/bench/plan.py --store results                    # about ten minutes on one core; what is there is kept
"""

from __future__ import annotations

import argparse
import math
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from rlhf_eval.benchmarks.comparisons import Comparisons, comparisons
from rlhf_eval.cli import main as command
from rlhf_eval.stats.intervals import order_stratified
from rlhf_eval.stats.sequential import group_sequential_look
from rlhf_eval.verbs.decide import LOOKS
from rlhf_eval.verbs.plan import Design, plan
from rlhf_eval.verbs.session import Options, Session

LINE = """
load: {{source: sandbox, split: {split}, limit: {limit}}}
generate: {{model: "sandbox:policy", n: 2, max_tokens: 48}}
judge: {{judge: gold}}
pairs: {{rule: top_per_prompt, control: false}}
evaluate:
  model: best=run:pairs
  baseline: base=sandbox:policy
  generate: {{first_sample: 2, max_tokens: 48}}
  judge: {{judge: pairwise, judge_model: "sandbox:judge", max_tokens: 8, orders: {orders}}}
"""


def evaluated(store: Path, split: str, limit: int, orders: str, seed: int) -> tuple[str, Comparisons]:
    """The run that compares the two, and its judgments."""
    with tempfile.TemporaryDirectory() as folder:
        line = Path(folder) / "line.yaml"
        line.write_text(LINE.format(split=split, limit=limit, orders=orders))
        with redirect_stdout(StringIO()):
            code = command(["run", str(line), "--store", str(store), "--seed", str(seed), "--quiet"])
    if code:
        raise SystemExit(code)
    session = Session(Options(store=store))
    run = [run for run in session.store.runs() if run.verb == "evaluate" and run.seed == seed][-1]
    (found,) = comparisons(session.store, judge=None, runs=[run.id])
    return run.id, found


def foreseen(store: Path, run: str, effect: float) -> Design:
    """The design with looks that is planned from a pilot."""
    return next(d for d in plan(Session(Options(store=store)), effect=effect, like=run) if f"{LOOKS} looks" in d.name)


def needed(shares: np.ndarray, swapped: np.ndarray, prompts: int, runs: int, seed: int) -> tuple[float, float]:
    """Share of runs of so many prompts that are decided, and their mean calls."""
    rng = np.random.default_rng(seed)
    size = math.ceil(prompts / LOOKS)
    found, calls = 0, 0
    for _ in range(runs):
        drawn = rng.integers(len(shares), size=prompts)
        for look in range(1, LOOKS + 1):
            seen = drawn[: look * size]
            if group_sequential_look(shares[seen], swapped=swapped[seen], look=look, looks=LOOKS).stop:
                found += 1
                break
        calls += len(seen)
    return found / runs, calls / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="a store for what is found; what is there is kept")
    parser.add_argument("--pilots", type=int, default=6)
    parser.add_argument("--size", type=int, default=50, help="prompts of a pilot")
    parser.add_argument("--fresh", type=int, default=1200, help="held-out prompts")
    parser.add_argument("--runs", type=int, default=2000)
    options = parser.parse_args()
    _, fresh = evaluated(options.store, "heldout", options.fresh, "one", 0)
    _, shares = fresh.by_prompt()
    swapped = fresh.swapped()
    assert swapped is not None  # one order a prompt
    truth = order_stratified(shares, swapped)
    print(f"{truth.n} fresh prompts: the best of two wins {truth.value:.1%} [{truth.low:.1%}, {truth.high:.1%}]")
    print("pilot   planned prompts   planned calls   decided (.80 planned)   calls")
    for seed in range(1, options.pilots + 1):
        run, _ = evaluated(options.store, "train", options.size, "both", seed)
        design = foreseen(options.store, run, truth.value - 0.5)
        power, calls = needed(shares, swapped, design.prompts, options.runs, seed)
        print(f"{seed:5}   {design.prompts:15}   {design.expected_calls:13}   {power:21.3f}   {calls:5.0f}", flush=True)


if __name__ == "__main__":
    main()
