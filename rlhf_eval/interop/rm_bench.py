"""RM-Bench: three right and three wrong answers to a prompt, alike but for their style (Liu et al., 2410.16184).

    data/<domain>_filtered.json, total_dataset.json
        [{id, prompt, chosen: [concise, plain, markdown], rejected: [concise, plain, markdown], domain}]
    scored files, the same with score_chosen: [...], score_rejected: [...]

A checkout, its ``data`` folder, or one file; where ``total_dataset.json`` is there, it alone is read. Each of the nine
pairs of a right and a wrong answer is an item of the judge ``gold``; an answer's style, 0 to 2, stands in its metadata.
A score is a grade by ``rm_bench/<file>``.

    rlhf-eval load rm_bench path/to/RM-Bench
"""

from __future__ import annotations

from pathlib import Path

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row, peek
from rlhf_eval.interop.loaded import FIRST, Intake, Loaded
from rlhf_eval.records import Completion, Prompt

SOURCE = "rm_bench"
STYLES = ("concise", "plain", "markdown")
"""What an answer's ``style`` counts, from plain to fancy."""

_TOTAL = "total_dataset.json"


def detect(path: Path) -> bool:
    """Whether the first file holds items with lists of chosen and rejected answers and a domain."""
    return any({"id", "prompt", "chosen", "rejected", "domain"} <= set(peek(file)) for file in _files(path)[:1])


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Prompts, answers, gold pairs and scores; a broken row becomes a warning, or a UserError with ``strict``."""
    intake = Intake(path, strict=strict)
    files = _files(path)
    if not files:
        raise UserError(f"{path}: no *_filtered.json or total_dataset.json here or in data/; give an RM-Bench checkout")
    for file in files:
        for row in intake.rows(file):
            with intake.tolerate():
                _item(intake, row, file)
    return intake.loaded()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix in (".json", ".jsonl") else []
    for folder in (path, path / "data"):
        if (folder / _TOTAL).is_file():
            return [folder / _TOTAL]
        parts = sorted(folder.glob("*_filtered.json"))
        if parts:
            return parts
    return []


def _item(intake: Intake, row: Row, file: Path) -> None:
    key, domain = row.label("id"), row.label("domain", file.name.partition("_")[0])
    prompt = intake.prompt(Prompt.of(row.text("prompt"), category=domain, source=SOURCE, key=key))
    sides = [_side(intake, row, prompt, side) for side in ("chosen", "rejected")]
    for right in sides[0]:
        for wrong in sides[1]:
            intake.gold(right, wrong, scores=FIRST)
    for side, answers in zip(("chosen", "rejected"), sides, strict=True):
        if f"score_{side}" in row.values:
            _scores(intake, row, f"score_{side}", answers, file)


def _side(intake: Intake, row: Row, prompt: Prompt, side: str) -> list[Completion]:
    texts = row.items(side)
    if len(texts) != len(STYLES) or not all(isinstance(text, str) for text in texts):
        raise row.wrong(f"'{side}' must be {len(STYLES)} texts: {', '.join(STYLES)}")
    return [
        intake.answer(prompt, text, model=f"{side}/{STYLES[style]}", source=SOURCE, metadata={"style": style})
        for style, text in enumerate(texts)
    ]


def _scores(intake: Intake, row: Row, name: str, answers: list[Completion], file: Path) -> None:
    scores = row.items(name)
    if len(scores) != len(answers):
        raise row.wrong(f"'{name}' has {len(scores)} entries for {len(answers)} answers")
    for answer, score in zip(answers, scores, strict=True):
        good = isinstance(score, int | float) and not isinstance(score, bool)
        intake.judgment(
            answer, judge=f"{SOURCE}/{file.name.partition('.')[0]}", scores=(float(score),) if good else (),
            error=None if good else f"unparsed: the score is {score!r}", file=file.name,
        )  # fmt: skip
