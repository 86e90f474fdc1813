"""AlpacaEval: every row of every leaderboard whose annotations are here, and the length-controlled rates behind them.

Raw columns come from the annotations. The length-controlled rate is checked three times: from the published weights; refit
with the penalty that the weights imply by their own optimality; and refit with cross-validation. Difficulties and gamed
rows are files of the benchmark; where the first are missing they follow from any annotations that carry fitted preferences.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from rlhf_eval.benchmarks.alpaca_eval import (
    Raw,
    Rows,
    from_weights,
    raw,
    read_difficulty,
    read_gamed,
    tables,
)
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.errors import UserError
from rlhf_eval.interop import alpaca_eval as reader
from rlhf_eval.interop.files import read_document
from rlhf_eval.parity.claim import BROKEN, Claim, Tree, absent, attempt, missing, printed
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.style_published import GRID, GamedRows, alpaca_eval_2

T = TypeVar("T")

PEER = "alpaca_eval"
GAMED_JUDGE = "weighted_alpaca_eval_gpt4_turbo"
"""The annotator that judged the two gamed baselines: only its rates can be refitted with them."""

COUNTS = ("n_wins", "n_wins_base", "n_draws", "n_total")
RATES = ("win_rate", "standard_error", "discrete_win_rate")
LC = "length_controlled_winrate"
_WEIGHTS = ("np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)")

FAULTS: Mapping[tuple[str, str, str], str] = {
    (
        "alpaca_eval_gpt4_turbo_fn",
        "Mistral-7B-Instruct-v0.2",
        "win_rate",
    ): "the row was not updated with its annotations",
    (GAMED_JUDGE, "NullModel", f"{LC} from weights"): "the weights are those of another run",
    (GAMED_JUDGE, "aligner-2b_gpt-4-turbo-2024-04-09", "win_rate"): "row and annotations differ (upstream issue 471)",
}
"""Published numbers that do not follow from the published files, by annotator, model and number; shown, not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fits:
    """What refitting needs, as far as it is here."""

    weights: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    """Annotator to model to its weights (length, difficulty, model)."""
    difficulty: Floats | None = None
    gamed: GamedRows | None = None


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of every leaderboard row."""
    boards = tree.find("leaderboards/data_AlpacaEval*/*_leaderboard.csv")
    if not boards:
        yield from missing(PEER, ["leaderboards/data_AlpacaEval*/*_leaderboard.csv"])
        return
    fits = _fits(tree)
    results = _results(tree)
    for board in boards:
        annotator = board.name.removesuffix("_leaderboard.csv")
        try:
            with board.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except BROKEN as error:
            yield absent(PEER, tree.name(board), "all rows", str(error))
            continue
        for row in rows:
            model = row.get("") or ""
            found = results.get((model, annotator))
            if found is None:
                yield absent(PEER, f"{model} by {annotator}", "all columns", "its annotations are not here")
            else:
                yield from attempt(PEER, f"{model} by {annotator}", _row(tree, annotator, model, row, found, fits))


def _results(tree: Tree) -> dict[tuple[str, str], Path]:
    found = {}
    for file in tree.find("results/*/*/annotations.json"):
        found[file.parent.parent.name, file.parent.name] = file
    return found


def _row(tree: Tree, annotator: str, model: str, row: Mapping[str, str], file: Path, fits: _Fits) -> Iterator[Claim]:
    subject, source = f"{model} by {annotator}", tree.name(file)
    try:
        table = _annotations(file)
        numbers = raw(table)
    except UserError as error:
        yield absent(PEER, subject, "all columns", str(error).replace(str(tree.root), ""))
        return
    faulty = FAULTS.get((annotator, model, "win_rate"), "")
    yield from (_column(subject, name, row, numbers, source, faulty) for name in (*RATES, *COUNTS) if row.get(name))
    if row.get(LC) and annotator in fits.weights:
        yield from _length_controlled(annotator, model, float(row[LC]), table, fits, source)


def _column(subject: str, name: str, row: Mapping[str, str], numbers: Raw, source: str, faulty: str) -> Claim:
    return Claim(
        peer=PEER,
        subject=subject,
        number=name,
        published=float(row[name]),
        ours=float(getattr(numbers, name)),
        tolerance=0.0 if name in COUNTS else printed(row[name], 1e-9),
        source=source,
        note=faulty,
        fault=bool(faulty),
    )


def _annotations(file: Path) -> Rows:
    """The table of one annotations file, read as ``load alpaca_eval`` reads it."""
    loaded = reader.read(file.parent.parent)
    wanted = Evidence.of(loaded.prompts, loaded.completions, loaded.judgments)
    folder = file.parent.name
    found = [t for t in tables(wanted) if t.judge.removeprefix(f"{reader.SOURCE}/") == folder]
    broken = [w for w in loaded.warnings if w.startswith(f"{folder}/")]
    if not found:
        raise UserError(broken[0] if broken else f"{file}: no annotations by {folder}")
    return max(found, key=lambda table: len(table.preference))


def _length_controlled(
    annotator: str, model: str, published: float, table: Rows, fits: _Fits, source: str
) -> Iterator[Claim]:
    subject = f"{model} by {annotator}"
    weights = fits.weights[annotator].get(model)
    difficulty = fits.difficulty
    names = (f"{LC} from weights", f"{LC} refit, known penalty", f"{LC} refit, cross-validated")
    if weights is None or difficulty is None or len(difficulty) != len(table.preference):
        why = (
            "its weights are not published" if weights is None else "no instruction difficulties for these annotations"
        )
        yield absent(PEER, subject, LC, why)
        return
    faulty = FAULTS.get((annotator, model, names[0]), "")
    share = from_weights(weights, difficulty)
    yield Claim(
        peer=PEER, subject=subject, number=names[0], published=published, ours=100 * share,
        tolerance=1e-9, source=source, note=faulty, fault=bool(faulty),
    )  # fmt: skip
    if annotator != GAMED_JUDGE:
        return
    if fits.gamed is None:
        yield absent(PEER, subject, names[1], "no df_gamed*.csv: the gamed baselines' rows are part of the fit")
        return
    implied = penalty(weights, table, difficulty)
    for name, c, tolerance in ((names[1], implied, 0.02), (names[2], None, 0.16)):
        if name == names[1] and c is None:
            yield absent(PEER, subject, name, "the weights imply no penalty")
            continue
        fit = alpaca_eval_2(table.preference, table.length_difference, difficulty, gamed=fits.gamed, c=c)
        yield Claim(
            peer=PEER, subject=subject, number=name, published=published, ours=100 * fit.value,
            tolerance=tolerance, source=source, note=f"C = {fit.c:.6g}",
        )  # fmt: skip


def penalty(weights: tuple[float, ...], table: Rows, difficulty: Floats) -> float | None:
    """The inverse penalty, of AlpacaEval's grid, under which these weights are optimal; None where none is.

    At the optimum of ``|theta| + C loss`` the gradient for the model's own column is ``C sum(p - y) = -sign(theta)``. The
    published solver stops early, which leaves noise on ``1/C``, so the nearest ``1/C`` of the grid is taken.
    """
    gap = table.length_difference
    length = np.tanh(gap / (gap.std(ddof=1) or 1))
    judged = np.isfinite(table.preference)
    fitted = 1 / (1 + np.exp(-(weights[0] * length + weights[1] * difficulty + weights[2])))
    pull = -float((fitted - table.preference)[judged].sum()) * math.copysign(1, weights[2])
    if weights[2] == 0:
        return None
    return float(min(GRID, key=lambda c: abs(1 / c - pull)))


def _fits(tree: Tree) -> _Fits:
    weights: dict[str, dict[str, tuple[float, ...]]] = {}
    for file in tree.find("weights/*/length_controlled_v1/baseline_gpt4_1106_preview.csv"):
        with file.open(encoding="utf-8", newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if all(row.get(name) for name in _WEIGHTS)]
        weights[file.parent.parent.name] = {row[""]: tuple(float(row[name]) for name in _WEIGHTS) for row in rows}
    known = tree.find("*instruction_difficulty*.csv")
    gamed = [*tree.find("df_gamed.csv"), *tree.find("df_gamed*.csv")]
    difficulty = _readable(read_difficulty, known)
    if difficulty is None:
        difficulty = _recovered(tree, weights.get(GAMED_JUDGE, {}))
    return _Fits(weights=weights, difficulty=difficulty, gamed=_readable(read_gamed, gamed))


def _readable(read: Callable[[Path], T], files: Sequence[Path]) -> T | None:
    """What the first file that can be read holds; a damaged one is as good as none."""
    for file in files:
        try:
            return read(file)
        except BROKEN:
            continue
    return None


def _recovered(tree: Tree, weights: Mapping[str, tuple[float, ...]]) -> Floats | None:
    """Difficulties from annotations that carry the fitted preference: ``(logit(g) - theta_3)/theta_2``."""
    for file in tree.find(f"results/*/{GAMED_JUDGE}/{GAMED_JUDGE}/annotations.json"):
        model = file.parents[2].name
        try:
            rows = read_document(file)
            fitted = np.array([float(row["glm_preference"]) for row in rows])
        except (UserError, KeyError, TypeError, ValueError):
            continue
        if model in weights and weights[model][1]:
            return np.asarray((np.log(fitted / (1 - fitted)) - weights[model][2]) / weights[model][1])
    return None
