"""LLMBar: the statistics beside every judge's results, all nine of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.benchmarks.labels import items
from rlhf_eval.benchmarks.llmbar import counts
from rlhf_eval.errors import UserError
from rlhf_eval.interop import llmbar as reader
from rlhf_eval.interop.files import read_document
from rlhf_eval.parity.claim import Claim, Tree, absent, attempt, missing

PEER = "llmbar"
_TAIL = "evaluators/*/*/statistics.json"


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of every ``statistics.json``."""
    files = tree.find(_TAIL)
    if not files:
        yield from missing(PEER, [_TAIL])
    for subset in sorted({file.parents[3] for file in files}):
        mine = [file for file in files if file.parents[3] == subset]
        try:
            loaded = reader.read(subset)
        except UserError as error:
            yield absent(PEER, tree.name(subset), "all statistics", str(error))
            continue
        evidence = Evidence.of(loaded.prompts, loaded.completions, loaded.judgments)
        for file in mine:
            yield from attempt(PEER, tree.name(file), _statistics(tree, file, evidence))


def _statistics(tree: Tree, file: Path, evidence: Evidence) -> Iterator[Claim]:
    judge = "/".join(file.parts[-3:-1])
    subject = f"{judge} on {file.parents[3].name}"
    labelled = items(evidence, f"{reader.SOURCE}/{judge}")
    if not labelled:
        yield absent(PEER, subject, "all statistics", "its result.json is not here or cannot be read")
        return
    ours = counts(labelled)
    try:
        published: Mapping[str, Any] = dict(read_document(file))
    except (UserError, TypeError, ValueError) as error:
        yield absent(PEER, subject, "all statistics", str(error))
        return
    found = {
        "correct_False": (float(ours.correct_plain), 0.0),
        "correct_True": (float(ours.correct_swapped), 0.0),
        "correct_both": (float(ours.correct_both), 0.0),
        "equal": (float(ours.equal), 0.0),
        "correct_average": (50 * (ours.correct_plain + ours.correct_swapped) / ours.items, 1e-9),
        "kappa_agreement": (ours.kappa_agreement, 1e-9),
        "kappa_False": (ours.kappa_plain, 1e-9),
        "kappa_True": (ours.kappa_swapped, 1e-9),
        "kappa_average": ((ours.kappa_plain + ours.kappa_swapped) / 2, 1e-9),
    }
    for name, (value, tolerance) in found.items():
        if published.get(name) is not None:
            yield Claim(
                peer=PEER, subject=subject, number=name, published=_number(published[name]), ours=value,
                tolerance=tolerance, source=tree.name(file),
            )  # fmt: skip


def _number(value: Any) -> float:
    """The count in ``92 / 100 = 92.0%``, the percentage in ``93.5%``, or the number itself."""
    return float(value.partition(" / ")[0].rstrip("%")) if isinstance(value, str) else float(value)
