"""arena-rank: its ratings and sandwich variances on evalica's games, and the worked example of its tests."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.parity.claim import Claim, Tree, absent, attempt, missing
from rlhf_eval.parity.evalica import read_games
from rlhf_eval.stats.bradley_terry import bradley_terry

PEER = "arena_rank"
POINTS = 400 / math.log(10)
WINS = {
    ("A", "B"): 2,
    ("B", "A"): 3,
    ("A", "D"): 1,
    ("D", "A"): 4,
    ("B", "C"): 5,
    ("C", "B"): 3,
    ("C", "D"): 1,
    ("D", "C"): 3,
}
EXAMPLE = {"A": 0.640, "B": 1.043, "C": 0.660, "D": 2.270}
"""The 22 games and strengths of the worked example, which arena-rank takes from an encyclopedia."""


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of every table of ratings whose games are here."""
    tables = [file for file in tree.find("*.csv") if _is_table(file)]
    tests = [file for file in tree.find("tests/test_bradley_terry.py") if "arena" in file.parts[-3]]
    if not tables and not tests:
        yield from missing(PEER, ["a table of competitors, ratings and variances", "tests/test_bradley_terry.py"])
        return
    if tests:
        yield from _example(tree.name(tests[0]))
    else:
        yield absent(PEER, "worked example", "strengths", "tests/test_bradley_terry.py is not here")
    for table in tables:
        data = [file for file in tree.find(table.name) if file != table and not _is_table(file)]
        if data:
            yield from attempt(PEER, table.stem, _ratings(tree, table, data[0]))
        else:
            yield absent(PEER, table.stem, "ratings", f"the games of {table.name} are not here")


def _is_table(file: Path) -> bool:
    with file.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline().startswith("competitors,ratings,")


def _example(source: str) -> Iterator[Claim]:
    games = [pair for pair, count in WINS.items() for _ in range(count)]
    ranking = bradley_terry([a for a, _ in games], [b for _, b in games], [1.0] * len(games))
    for name, rating in zip(ranking.models, ranking.ratings, strict=True):
        yield Claim(
            peer=PEER, subject=f"worked example, {name}", number="strength", published=EXAMPLE[name],
            ours=float(np.exp(rating)), tolerance=0.001 * EXAMPLE[name], source=source,
        )  # fmt: skip


def _ratings(tree: Tree, table: Path, data: Path) -> Iterator[Claim]:
    with table.open(encoding="utf-8", newline="") as file:
        rows = {row["competitors"]: (float(row["ratings"]), float(row["variances"])) for row in csv.DictReader(file)}
    try:
        ranking = bradley_terry(*read_games(data))
        published = np.array([rows[name] for name in ranking.models])
    except (UserError, KeyError) as error:
        yield absent(PEER, table.stem, "ratings", f"{data.name}: {error}")
        return
    ours = POINTS * ranking.ratings + published[:, 0].mean()
    variances = POINTS**2 * np.diag(ranking.covariance)
    columns = (
        ("rating", published[:, 0], ours, np.full(len(ours), 0.02)),
        ("variance", published[:, 1], variances, 0.008 * published[:, 1]),
    )
    for name, theirs, mine, tolerance in columns:
        worst = int(np.argmax(np.abs(mine - theirs) / tolerance))
        yield Claim(
            peer=PEER, subject=f"{table.stem}, {len(ours)} models", number=f"{name}, farthest model",
            published=float(theirs[worst]), ours=float(mine[worst]), tolerance=float(tolerance[worst]),
            source=tree.name(table), note=ranking.models[worst],
        )  # fmt: skip
