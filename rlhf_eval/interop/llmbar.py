"""LLMBar: instruction-following pairs with a right answer, and the verdicts of judges on them (Zeng et al., 2310.07641).

    Dataset/LLMBar/Natural/dataset.json                              [{input, output_1, output_2, label: 1 or 2}]
    Dataset/LLMBar/Natural/evaluators/<judge>/<prompt>/result.json   the same rows with the verdict in both orders

A checkout, or any folder below it. The authors of the outputs are not told, so the models are ``llmbar/output_1`` and
``llmbar/output_2``. The label is the judge ``gold``; the others are ``llmbar/<judge>/<prompt>``. Winners are recorded
upstream after swapping back.

    rlhf-eval load llmbar path/to/LLMBar
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row
from rlhf_eval.interop.loaded import FIRST, SECOND, Intake, Loaded
from rlhf_eval.records import Completion, Prompt

SOURCE = "llmbar"
_ORDERS = {"swap = False": (0, 1), "swap = True": (1, 0)}
_WINNERS = {"1": FIRST, "2": SECOND}


def detect(path: Path) -> bool:
    """Whether there is a ``dataset.json`` with ``evaluators`` beside it."""
    return path.is_dir() and any((file.parent / "evaluators").is_dir() for file in path.rglob("dataset.json"))


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Prompts, outputs, gold labels and verdicts of every subset under ``path``.

    A broken file or row becomes a warning, or a UserError with ``strict``; a verdict that upstream could not read is a
    failed judgment.
    """
    intake = Intake(path, strict=strict)
    files = sorted(path.rglob("dataset.json"))
    if not files:
        raise UserError(f"{path}: no dataset.json here; give an LLMBar checkout or one of its subsets")
    for file in files:
        category = _category(file.parent)
        for row in intake.rows(file):
            with intake.tolerate():
                _gold(intake, row, category)
        for result in sorted(file.parent.glob("evaluators/*/*/result.json")):
            judge = f"{SOURCE}/{result.parent.parent.name}/{result.parent.name}"
            for row in intake.rows(result):
                with intake.tolerate():
                    _verdicts(intake, row, category, judge, intake.name(result))
    return intake.loaded()


def _gold(intake: Intake, row: Row, category: str) -> None:
    label = row.label("label")
    if label not in _WINNERS:
        raise row.wrong(f"'label' must be 1 or 2, not {label or 'empty'}")
    intake.gold(*_outputs(intake, row, category), scores=_WINNERS[label])


def _verdicts(intake: Intake, row: Row, category: str, judge: str, file: str) -> None:
    results = row.items("results")
    # The earlier entries are the judge's preparation: its own answer, its metrics.
    last = Row(row.where, {"results": results[-1] if results else None}).inner("results")
    for swap, order in _ORDERS.items():
        verdict = last.inner(swap)
        winner = verdict.values.get("winner")
        scores = _WINNERS.get(str(winner), ())
        intake.judgment(
            *_outputs(intake, row, category),
            judge=judge,
            order=order,
            scores=scores,
            error=None if scores else f"unparsed: the winner is {winner!r}, not '1' or '2'",
            rationale=_said(verdict.values.get("completion")) or _ratings(last),
            file=file,
        )


def _outputs(intake: Intake, row: Row, category: str) -> tuple[Completion, Completion]:
    prompt = intake.prompt(Prompt.of(row.text("input"), category=category, source=SOURCE))
    first, second = (
        intake.answer(prompt, row.text(name), model=f"{SOURCE}/{name}", source=SOURCE)
        for name in ("output_1", "output_2")
    )
    return first, second


def _said(completion: Any) -> str:
    text = completion[0] if isinstance(completion, list) and completion else completion
    return text if isinstance(text, str) else ""


def _ratings(last: Row) -> str:
    texts = [_said(last.values.get(name)) for name in ("score_1", "score_2")]
    return "\n".join(texts) if any(texts) else ""


def _category(folder: Path) -> str:
    parts = folder.resolve().parts
    start = max((n + 1 for n, part in enumerate(parts[:-1]) if part in {"LLMBar", "Dataset"}), default=len(parts) - 1)
    return "/".join(parts[start:])
