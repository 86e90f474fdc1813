"""evalica: its golden scores of seven algorithms on every data set, and its values of Krippendorff's alpha."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import read_rows
from rlhf_eval.parity.claim import Claim, Tree, absent, attempt, missing
from rlhf_eval.stats.agreement import krippendorff_alpha
from rlhf_eval.stats.bradley_terry import Ranking, bradley_terry
from rlhf_eval.stats.centrality import average_win_rate, counting, eigenvector, pagerank
from rlhf_eval.stats.elo import online_elo
from rlhf_eval.stats.ties import davidson

PEER = "evalica"
Games = tuple[Sequence[str], Sequence[str], Sequence[float]]
Scores = dict[str, float]

OUTCOMES = {"left": 1.0, "right": 0.0, "tie": 0.5}
ALPHAS = {"codings.csv": 0.7434211, "gcl.csv": 0.0833333}
"""Nominal alpha of the two files of codings, from evalica's own tests; to seven decimals."""


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of every ``NAME-golden.csv`` that has its ``NAME.csv``, and of the files of codings."""
    golden = tree.find("*-golden.csv")
    if not golden:
        yield from missing(PEER, ["*-golden.csv"])
    for file in golden:
        data = file.with_name(file.name.replace("-golden", ""))
        if data.is_file():
            yield from attempt(PEER, data.stem, _data_set(tree, file, data))
        else:
            yield absent(PEER, file.stem, "all algorithms", f"{data.name} is not here")
    folders = {file.parent for file in golden}
    for name, published in ALPHAS.items():
        for file in tree.find(name):
            if file.parent in folders:
                yield from attempt(PEER, name, _alpha(tree, file, published))


def _alpha(tree: Tree, file: Path, published: float) -> Iterator[Claim]:
    yield Claim(
        peer=PEER, subject=file.name, number="Krippendorff's alpha", published=published,
        ours=krippendorff_alpha(_codings(file)), tolerance=5.1e-8, source=tree.name(file),
    )  # fmt: skip


def read_games(path: Path) -> Games:
    """Left, right and the left one's score of every game; raises UserError on an outcome that is none."""
    problems: list[str] = []
    rows = list(read_rows(path, problems))
    if problems:
        raise UserError(problems[0])
    left, right = ([row.label(side) for row in rows] for side in ("left", "right"))
    for row in rows:
        if row.label("winner") not in OUTCOMES:
            raise row.wrong(f"the winner is '{row.label('winner')}'; allowed: {', '.join(OUTCOMES)}")
    return left, right, [OUTCOMES[row.label("winner")] for row in rows]


def _strengths(ranking: Ranking, *, mean: bool) -> Scores:
    """Strengths whose sum, or geometric mean, is 1."""
    power = np.exp(ranking.ratings - ranking.ratings.mean())
    return dict(zip(ranking.models, (power if mean else power / power.sum()).tolist(), strict=True))


ALGORITHMS: Mapping[str, tuple[Callable[..., Scores], float]] = {
    "counting": (counting, 0.0),
    "average_win_rate": (average_win_rate, 1e-12),
    "bradley_terry": (lambda *games: _strengths(bradley_terry(*games), mean=False), 1e-9),
    "newman": (lambda *games: _strengths(davidson(*games), mean=True), 1e-9),
    "elo": (online_elo, 1e-9),
    "eigen": (eigenvector, 1e-9),
    "pagerank": (pagerank, 1e-9),
}
"""Algorithm to our function and the relative tolerance."""


def _data_set(tree: Tree, golden: Path, data: Path) -> Iterator[Claim]:
    published: dict[str, Scores] = defaultdict(dict)
    with golden.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            published[row["algorithm"]][row["item"]] = float(row["score"])
    for name, scores in published.items():
        subject = f"{data.stem}, {len(scores)} items"
        if name not in ALGORITHMS:
            yield absent(PEER, subject, name, "no such algorithm here")
            continue
        compute, tolerance = ALGORITHMS[name]
        try:
            ours = compute(*read_games(data))
        except UserError as error:
            yield absent(PEER, subject, name, str(error))
            continue
        yield _farthest(subject, name, _same_scale(name, scores), ours, tolerance, tree.name(golden))


def _same_scale(name: str, scores: Scores) -> Scores:
    """Newman's scores have no scale of their own; here their geometric mean is 1."""
    if name != "newman":
        return scores
    mean = float(np.exp(np.mean(np.log(list(scores.values())))))
    return {item: score / mean for item, score in scores.items()}


def _farthest(subject: str, name: str, published: Scores, ours: Scores, tolerance: float, source: str) -> Claim:
    """The claim of the item that is farthest from its golden score, relative to it."""
    item = max(published, key=lambda i: abs(ours.get(i, np.inf) - published[i]) / (abs(published[i]) or 1))
    return Claim(
        peer=PEER, subject=subject, number=f"{name}, farthest item", published=published[item], ours=ours.get(item),
        tolerance=tolerance * abs(published[item]), source=source, note=item,
    )  # fmt: skip


def _codings(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """One row a rater, one column an item; words become numbers, what is empty NaN."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    names = sorted({cell for row in rows for cell in row if cell})
    return np.array([[names.index(cell) if cell else np.nan for cell in row] for row in rows], dtype=np.float64)
