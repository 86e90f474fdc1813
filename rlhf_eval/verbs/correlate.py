"""``correlate``: does a leaderboard of this store order models as a reference ranking does?

The reference is a CSV with a column of model names and one of scores (Arena Elo, another benchmark). The interval resamples
models, so a dozen models give a wide one, and the pairs that the two put in opposite order are named.

    rlhf-eval correlate reference.csv --column elo --judge alpaca_eval/weighted_alpaca_eval_gpt4_turbo
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.interop.files import Row, read_rows
from rlhf_eval.stats.correlation import RankCorrelation, rank_correlation
from rlhf_eval.verbs.leaderboard import Board, leaderboard
from rlhf_eval.verbs.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlated:
    """One board against the reference."""

    judge: str
    baseline: str
    models: tuple[str, ...]
    result: RankCorrelation
    swapped: tuple[tuple[str, str], ...]
    """Pairs of models in opposite order."""
    only_here: int
    only_there: int


def correlate(
    session: Session, path: Path, *, column: str = "", name: str = "", judge: str = "", baseline: str = ""
) -> list[Correlated]:
    """Every board that shares at least three models with the reference; raises UserError where none does."""
    reference = _reference(path, column, name)
    boards = leaderboard(session, judge=judge, baseline=baseline)
    found = [made for board in boards if (made := _correlated(board, reference)) is not None]
    if not found:
        here = sorted({str(row.settings["model"]) for board in boards for row in board.rows})
        raise UserError(
            f"{path}: fewer than 3 of its models are on a board; here: {', '.join(here[:5])}; there: "
            f"{', '.join(sorted(reference)[:5])}"
        )
    return found


def _correlated(board: Board, reference: dict[str, float]) -> Correlated | None:
    ours = {str(row.settings["model"]): row.value for row in board.rows}
    shared = sorted(ours.keys() & reference.keys())
    if len(shared) < 3:
        return None
    result = rank_correlation([ours[m] for m in shared], [reference[m] for m in shared])
    return Correlated(
        judge=board.judge,
        baseline=board.baseline,
        models=tuple(shared),
        result=result,
        swapped=tuple((shared[i], shared[j]) for i, j in result.swapped),
        only_here=len(ours) - len(shared),
        only_there=len(reference) - len(shared),
    )


def _reference(path: Path, column: str, name: str) -> dict[str, float]:
    problems: list[str] = []
    rows = list(read_rows(path, problems))
    if problems:
        raise UserError(problems[0])
    fields = list(dict.fromkeys(field for row in rows for field in row.values))
    named = name or next(
        (f for f in fields if f.lower() in ("model", "name", "competitors", "")), fields[0] if fields else ""
    )
    numeric = [f for f in fields if f != named and any(math.isfinite(_number(row, f)) for row in rows)]
    scored = column or (numeric[0] if numeric else "")
    if not scored:
        raise UserError(f"{path}: no column holds numbers; found: {', '.join(fields) or 'nothing'}")
    for wanted in (named, scored):
        if wanted not in fields:
            raise UserError(f"{path}: no column '{wanted}'.{nearest(wanted, fields)}")
    scores = {row.label(named): _number(row, scored) for row in rows if row.label(named)}
    return {model: score for model, score in scores.items() if math.isfinite(score)}


def _number(row: Row, field: str) -> float:
    try:
        return float(row.values.get(field, "nan"))
    except (TypeError, ValueError):
        return math.nan
