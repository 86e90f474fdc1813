"""WildBench: the leaderboard's mean grades, from the judge's results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.benchmarks.wildbench import Config, score
from rlhf_eval.errors import UserError
from rlhf_eval.interop import wildbench as reader
from rlhf_eval.interop.files import read_document
from rlhf_eval.parity.claim import Claim, Tree, absent, of_files
from rlhf_eval.records import Estimate

PEER = "wildbench"
BOARD = "leaderboard/data_dir/score.json"
RESULTS = "eval_results/v2.0625/score.v2/eval=gpt-4o-2024-05-13"
"""The version and judge that the published leaderboard was made from."""


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of every model on the leaderboard."""
    return of_files(PEER, tree, BOARD, _board)


def _board(tree: Tree, board: Path) -> Iterator[Claim]:
    folder = board.parents[2] / RESULTS
    ours, trouble = _ours(folder)
    for model, row in dict(read_document(board)).items():
        found = ours.get(model)
        if found is None:
            why = trouble if (folder / f"{model}.json").is_file() else "its results are not here"
            yield absent(PEER, model, "score", why)
        else:
            yield from _model(model, row, found, tree.name(folder / f"{model}.json"))


def _ours(folder: Path) -> tuple[dict[str, dict[str, Estimate]], str]:
    """Model to its estimates by name, and what is wrong with the files that gave none."""
    try:
        loaded = reader.read(folder)
        found = score(Evidence.of(loaded.prompts, loaded.completions, loaded.judgments), Config())
    except UserError as error:
        return {}, str(error)
    ours: dict[str, dict[str, Estimate]] = defaultdict(dict)
    for estimate in found:
        ours[str(estimate.settings["model"])][estimate.name] = estimate
    return ours, "; ".join(loaded.warnings)


def _model(model: str, row: Mapping[str, Any], found: Mapping[str, Estimate], source: str) -> Iterator[Claim]:
    ours = {
        "score": found["score"].value,
        "adjusted_score": found["adjusted_score"].value,
        "total": float(found["score"].n),
    }
    for name, value in ours.items():
        if isinstance(row.get(name), int | float):
            yield Claim(
                peer=PEER, subject=model, number=name, published=float(row[name]), ours=value,
                tolerance=0.0 if name == "total" else 1e-12, source=source,
            )  # fmt: skip
