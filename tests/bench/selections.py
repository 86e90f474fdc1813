"""Every selection rule over a million scored completions: seconds and the most memory that the process ever held.

    OMP_NUM_THREADS=2 python tests/bench/selections.py --completions 1000000 --per-prompt 10

Records are the real ones: prompts, completions with texts and one judgment each are put into a matrix, and every rule
is run and settled. Bradley-Terry gets a ring of comparisons instead of grades. Records of the chosen pairs are made for
one rule, to show what writing them costs.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from rlhf_eval import registry
from rlhf_eval.records import Completion, Judgment, Prompt
from rlhf_eval.stages.matrix import Book, Contests, Matrix, tabulate
from rlhf_eval.stages.pairs import run_rule, settle

T = TypeVar("T")
SETTINGS: dict[str, dict[str, Any]] = {
    "threshold": {"quantile": 0.9},
    "correct_incorrect": {"correct": 0.8, "incorrect": 0.2},
    "on_off_policy": {"policy": "model-0"},
    "delta": {"strong": "model-0", "weak": "model-1"},
}


def records(total: int, per_prompt: int, seed: int) -> tuple[list[Prompt], list[Completion], list[Judgment]]:
    """Completions of 40 to 400 characters by four models, each with one grade."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=total).round(3).tolist()
    lengths = rng.integers(40, 400, size=total).tolist()
    prompts = [Prompt.of(f"Question number {i}?") for i in range(total // per_prompt)]
    completions, judgments = [], []
    for k, (score, length) in enumerate(zip(scores, lengths, strict=True)):
        prompt = prompts[k // per_prompt]
        sides = {"side": ("better", "worse")[k % 2], "contrast": "c"} if k % per_prompt < 2 else None
        made = Completion.of(
            prompt_id=prompt.id, model=f"model-{k % 4}", text=f"{k} ".ljust(length, "x"), sample=k, metadata=sides
        )
        completions.append(made)
        judgments.append(Judgment.of(prompt_id=prompt.id, completion_ids=(made.id,), judge="rm", scores=(score,)))
    return prompts, completions, judgments


def with_ring(matrix: Matrix) -> Matrix:
    """The matrix with each completion compared with the next two of its prompt, by its score."""
    firsts, seconds = [], []
    for step in (1, 2):
        first = np.arange(matrix.size - step)
        first = first[matrix.prompt[first] == matrix.prompt[first + step]]
        firsts.append(first)
        seconds.append(first + step)
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    share = 1 / (1 + np.exp(matrix.score[second] - matrix.score[first]))
    return replace(matrix, contests=Contests(first=first, second=second, share=share), compared=True)


def timed(words: str, work: Callable[[], T]) -> T:
    """Do the work and print how long it took and what the process has held at most."""
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{words:<40} {seconds:8.2f} s   peak {peak:5.2f} GiB", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--completions", type=int, default=1_000_000)
    parser.add_argument("--per-prompt", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    made = timed("make records", lambda: records(options.completions, options.per_prompt, options.seed))
    book: Book = timed("records to matrix", lambda: tabulate(*made))
    scored = timed("judged completions", book.matrix.judged)
    ring = with_ring(scored)
    began = time.perf_counter()
    for name in registry.PLUGINS["selection"]:
        plugin = registry.load("selection", name)
        config = plugin.Config(**SETTINGS.get(name, {}))
        matrix = ring if name == "bradley_terry" else scored
        settled = timed(name, lambda p=plugin, m=matrix, c=config: settle(m, p.choose(m, c)))  # type: ignore[misc]
        counts = settled.counts()
        assert sum(counts.values()) == matrix.prompts, counts
    rules = len(registry.PLUGINS["selection"])
    print(f"{rules} rules over {scored.size:,} completions: {time.perf_counter() - began:.1f} s")
    best_worst = registry.load("selection", "best_worst")
    timed("best_worst, with its records", lambda: run_rule(book, best_worst, best_worst.Config(), "best_worst"))


if __name__ == "__main__":
    main()
