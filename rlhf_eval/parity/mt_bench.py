"""MT-Bench: each stored grade read again from the judge's words, and the mean grade of every model and turn.

The published side of a mean is what FastChat's own summary does with the file: the plain mean of the stored scores, a row
that stands there twice counted once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_eval import registry
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.benchmarks.mt_bench import Config, score
from rlhf_eval.errors import UserError
from rlhf_eval.interop import mt_bench as reader
from rlhf_eval.interop.files import Row, read_rows
from rlhf_eval.models.base import Choice
from rlhf_eval.parity.claim import Claim, Tree, of_files
from rlhf_eval.records import Estimate

PEER = "mt_bench"
_TAIL = "model_judgment/*_single.jsonl"
_Key = tuple[str, str, str]
"""Judge, model, and the name of the estimate."""


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of every file of single grades."""
    return of_files(PEER, tree, _TAIL, _claims)


def _claims(tree: Tree, file: Path) -> Iterator[Claim]:
    problems: list[str] = []
    rows = list(read_rows(file, problems, lenient=True))
    if not rows:
        raise UserError("it holds no grade")
    yield _read_again(tree, file, rows, len(problems))
    yield from _means(tree, file, rows, _ours(file.parents[1]))


def _ours(folder: Path) -> Mapping[_Key, Estimate]:
    loaded = reader.read(folder)
    found = score(Evidence.of(loaded.prompts, loaded.completions, loaded.judgments), Config(by_category=False))
    return {(str(e.settings["judge"]), str(e.settings["model"]), e.name): e for e in found}


def _read_again(tree: Tree, file: Path, rows: Sequence[Row], damaged: int) -> Claim:
    grade = registry.load("judge", "grade")
    same = sum(_reading(grade, row) == row.number("score") for row in rows)
    return Claim(
        peer=PEER, subject=tree.name(file), number="grades read from the judge's words",
        published=float(len(rows) + damaged), ours=float(same), source=tree.name(file),
    )  # fmt: skip


def _reading(grade: Any, row: Row) -> float:
    verdict = grade.read_verdict(Choice(text=row.label("judgment")), grade.Config(low=0, high=10, decimals=True))
    return float(verdict.scores[0]) if verdict.scores else -1.0


def _means(tree: Tree, file: Path, rows: Sequence[Row], ours: Mapping[_Key, Estimate]) -> Iterator[Claim]:
    stored: dict[_Key, list[float]] = defaultdict(list)
    once = {tuple(row.label(name) for name in ("model", "question_id", "turn", "judgment")): row for row in rows}
    for row in once.values():
        if row.number("score") != -1:
            judge = f"{reader.SOURCE}/{row.items('judge')[0]}"
            for name in ("score", f"score: turn {int(row.number('turn'))}"):
                stored[judge, row.text("model"), name].append(row.number("score"))
    for (judge, model, name), values in stored.items():
        estimate = ours.get((judge, model, name))
        yield Claim(
            peer=PEER, subject=model, number=name, published=sum(values) / len(values),
            ours=estimate.value if estimate else None, tolerance=1e-9, source=tree.name(file),
        )  # fmt: skip
