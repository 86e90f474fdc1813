"""What a reward model learns in the sandbox: its accuracy on held-out gold pairs, by who labelled its data.

    python tests/bench/effects_reward.py --out results                          # 5 seeds
    python tests/bench/effects_reward.py --out results --labels gold --prompts 300 600 1200     # a learning curve

Each seed has its own prompts. ``sandbox:policy`` answers each of them eight times; labels come from gold, from
``sandbox:judge`` (both orders, soft), and, as the control, from gold with every pair's sides shuffled. Held-out pairs are
of other prompts: all that gold tells apart, however little, and the best against the worst of eight answers.
``results/pairs.jsonl`` keeps what each model says of each held-out pair: what is there is not trained again. An interval
over seeds is Student's t.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from answers import ANSWERS, answers_of, best_worst, by_gold, by_judge, heldout, scorer, shuffled, training_answers

from rlhf_eval.records import PreferencePair
from rlhf_eval.sandbox import checkpoint
from rlhf_eval.stages.training import Data, Job
from rlhf_eval.stats.intervals import mean_interval
from trainers.reward_model import Config, train

POLICY = checkpoint("policy")
SETTINGS = Config(
    optimizer="muon", learning_rate=0.02, weight_decay=0.1, schedule="cosine", warmup=0.05, epochs=2.0, batch_size=16,
    eval_share=0.0,
)  # fmt: skip
BINS = (0.0, 0.02, 0.1, 0.25, 0.6, 1.01)
"""Margins of gold: length alone; the instruction; both; right against wrong."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is found; what is there is kept")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1200], help="training prompts a seed")
    parser.add_argument("--heldout", type=int, default=200, help="held-out prompts a seed")
    parser.add_argument(
        "--labels", nargs="+", choices=("gold", "judge", "shuffled"), default=["gold", "judge", "shuffled"]
    )
    parser.add_argument("--epochs", type=float, default=SETTINGS.epochs)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "pairs.jsonl"
    config = replace(SETTINGS, epochs=options.epochs)
    for seed in range(options.first, options.first + options.seeds):
        measure(seed, options.prompts, options.heldout, options.labels, config, kept)
    print(_table([row for row in _rows(kept) if row["epochs"] == options.epochs]))


def measure(seed: int, sizes: Sequence[int], held: int, labels: Sequence[str], config: Config, kept: Path) -> None:
    """Train what the file does not have, and keep what each model says of each held-out pair."""
    known = {(row["seed"], row["labels"], row["prompts"], row["epochs"]) for row in _rows(kept)}
    wanted = [(n, name) for n in sizes for name in labels if (seed, name, n, config.epochs) not in known]
    if not wanted:
        return
    answered = training_answers(kept.parent, max(sizes), seed)
    tested = by_gold(answers_of(POLICY, heldout(held, seed), ANSWERS, seed))
    extremes = {pair.id for pair in best_worst(tested)}
    for count, name in wanted:
        told = by_judge(answered[:count]) if name == "judge" else by_gold(answered[:count])
        told = shuffled(told, seed) if name == "shuffled" else told
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            train(Data(pairs=tuple(told)), Path(folder), config, Job(model=str(POLICY), seed=seed, quiet=True))
            seconds = round(time.process_time() - start)
            gaps = _gaps(Path(folder) / "checkpoint", tested)
        row = {
            "seed": seed, "labels": name, "prompts": count, "epochs": config.epochs, "pairs": len(told),
            "cpu_seconds": seconds, "gaps": [round(gap, 5) for gap in gaps], "margins": [p.margin for p in tested],
            "extreme": [p.id in extremes for p in tested],
        }  # fmt: skip
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"seed {seed}, {name}, {count} prompts: all pairs {_accuracy(row, 0, 2):.3f}, best against worst "
            f"{_extreme(row):.3f}, {seconds} s of CPU",
            flush=True,
        )


def _gaps(folder: Path, pairs: Sequence[PreferencePair]) -> list[float]:
    """By how much the reward of each pair's better side is higher."""
    rewards = scorer(folder)
    gaps = rewards([(*p.prompt, *p.chosen) for p in pairs]) - rewards([(*p.prompt, *p.rejected) for p in pairs])
    return [float(gap) for gap in gaps]


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _right(row: dict) -> np.ndarray:
    """Per pair 1 where the better side has the higher reward, .5 on a tie."""
    gaps = np.array(row["gaps"])
    return (gaps > 0) + 0.5 * (gaps == 0)


def _accuracy(row: dict, low: float, high: float) -> float:
    """On the pairs whose margin lies in [low, high)."""
    margins = np.array(row["margins"])
    return float(_right(row)[(margins >= low) & (margins < high)].mean())


def _extreme(row: dict) -> float:
    return float(_right(row)[np.array(row["extreme"])].mean())


def _table(rows: Sequence[dict]) -> str:
    bins = [*itertools.pairwise(BINS)]
    shares = [
        np.mean([((m := np.array(row["margins"])) >= a).mean() - (m >= b).mean() for row in rows]) for a, b in bins
    ]
    heads = "".join(f" | {a:g} to {b:g} ({share:.0%} of pairs)" for (a, b), share in zip(bins, shares, strict=True))
    lines = [
        "\naccuracy on held-out gold pairs, means over seeds with 95 % intervals; at the right by gold's margin",
        f"labels | prompts | pairs | seeds | all pairs | best against worst of {ANSWERS}{heads} | CPU seconds",
    ]
    for name, count in dict.fromkeys((row["labels"], row["prompts"]) for row in rows):
        own = [row for row in rows if (row["labels"], row["prompts"]) == (name, count)]
        by_margin = "".join(f" | {np.mean([_accuracy(row, a, b) for row in own]):.3f}" for a, b in bins)
        pairs, seconds = (np.mean([row[key] for row in own]) for key in ("pairs", "cpu_seconds"))
        lines.append(
            f"{name} | {count} | {pairs:,.0f} | {len(own)} | {_spread([_accuracy(row, 0, 2) for row in own])} | "
            f"{_spread([_extreme(row) for row in own])}{by_margin} | {seconds:.0f}"
        )
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}"
    found = mean_interval(values)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    main()
