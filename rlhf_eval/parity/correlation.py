"""Leaderboards against people: AlpacaEval's rank correlations with the Chatbot Arena, from its table of benchmarks."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.parity.claim import Claim, Tree, absent, of_files
from rlhf_eval.stats.correlation import spearman

PEER = "correlation"
_TAIL = "notebooks/benchmarks.csv"
ARENA = "Arena Elo\n[Feb 2, 2024]"
PUBLISHED: Mapping[str, tuple[float, float]] = {
    "LC AlpacaEval 2.0": (0.9746295269706928, 1e-9),
    "AlpacaEval 2.0": (0.9305, 5.1e-5),
}
"""Column to its Spearman correlation with the Arena, as the notebook prints it, and the tolerance."""


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of the table of benchmarks."""
    return of_files(PEER, tree, _TAIL, _table)


def _table(tree: Tree, file: Path) -> Iterator[Claim]:
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for column, (published, tolerance) in PUBLISHED.items():
        pairs = [(_number(row.get(ARENA)), _number(row.get(column))) for row in rows]
        both = np.array([pair for pair in pairs if all(map(math.isfinite, pair))]).reshape(-1, 2)
        try:
            ours = spearman(both[:, 0], both[:, 1])
        except UserError as error:
            yield absent(PEER, column, "Spearman with Arena Elo", str(error))
            continue
        yield Claim(
            peer=PEER, subject=f"{column}, {len(both)} models", number="Spearman with Arena Elo",
            published=published, ours=ours, tolerance=tolerance, source=tree.name(file),
        )  # fmt: skip


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
