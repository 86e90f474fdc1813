"""WildBench's evaluation results: grades of 1 to 10, and comparisons with a reference model (Lin et al., 2406.04770).

    eval_results/<version>/score.v2/eval=<judge>/<model>.json
        [{session_id, score, parsed_result, model_output, meta_data}]
    eval_results/<version>/pairwise.v2/eval=<judge>/ref=<model>/<model>.json
        [{session_id, model_A, model_B, winner, extent, model_outputs, parsed_result}]

A checkout, ``eval_results``, or a folder below it. The tasks' texts are not in these files, only their ids: a prompt reads
"WildBench task <id>" and has the id as its key. The judges are ``wildbench/<version>/<judge>``; in a comparison the
evaluated model stands first, and ``extent`` (1 slightly, 2 much) is in the metadata.

    rlhf-eval load wildbench path/to/WildBench
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row
from rlhf_eval.interop.loaded import FIRST, SECOND, TIE, Intake, Loaded
from rlhf_eval.records import Completion, Prompt, Usage

SOURCE = "wildbench"


def detect(path: Path) -> bool:
    """Whether ``path`` holds results below folders named ``eval=<judge>``."""
    return path.is_dir() and bool(_files(path))


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Answers and their grades or comparisons.

    A broken file or row becomes a warning, or a UserError with ``strict``; a score that is no number is a failed judgment.
    """
    intake = Intake(path, strict=strict)
    files = _files(path)
    if not files:
        raise UserError(f"{path}: no eval=<judge>/<model>.json here; give a WildBench checkout or its eval_results")
    for file in files:
        judge = _judge(file)
        reference = next((part.removeprefix("ref=") for part in file.parts if part.startswith("ref=")), None)
        for row in intake.rows(file):
            with intake.tolerate():
                if reference is None:
                    _grade(intake, row, file.stem, judge, intake.name(file))
                else:
                    _comparison(intake, row, file.stem, reference, judge, intake.name(file))
    intake.warn(f"{path.name}: these files have the tasks' ids, not their texts; a prompt reads 'WildBench task ID'")
    return intake.loaded()


def _files(path: Path) -> list[Path]:
    inside = path.resolve()
    found = inside.rglob("*.json")
    return sorted(path / f.relative_to(inside) for f in found if any(part.startswith("eval=") for part in f.parts))


def _judge(file: Path) -> str:
    parts = file.resolve().parts
    at = next(n for n, part in enumerate(parts) if part.startswith("eval="))
    version = parts[at - 2] if at >= 2 and parts[at - 2].startswith("v") else ""
    return "/".join(part for part in (SOURCE, version, parts[at].removeprefix("eval=")) if part)


def _prompt(intake: Intake, row: Row) -> Prompt:
    session = row.text("session_id")
    return intake.prompt(Prompt.of(f"WildBench task {session}", source=SOURCE, key=session))


def _grade(intake: Intake, row: Row, model: str, judge: str, file: str) -> None:
    answer = intake.answer(_prompt(intake, row), row.text("model_output"), model=model, source=SOURCE)
    scores: tuple[float, ...] = ()
    error = None
    try:
        scores = (row.number("score"),)
    except UserError:
        error = f"unparsed: the score is {row.values.get('score')!r}, not a number"
    intake.judgment(
        answer, judge=judge, scores=scores, error=error, rationale=_reason(row), usage=_usage(row), file=file
    )


def _comparison(intake: Intake, row: Row, model: str, reference: str, judge: str, file: str) -> None:
    outputs = row.inner("model_outputs")
    if len(outputs.values) != 2:
        raise row.wrong(f"{len(outputs.values)} outputs where two are compared; the model is its own reference")
    shown = [row.text("model_A"), row.text("model_B")]
    at = next((n for n, name in enumerate(shown) if name.split("/")[-1] != reference), None)
    if at is None or len({*shown}) != 2:
        raise row.wrong(f"models {shown} are not one model and the reference '{reference}'")
    prompt = _prompt(intake, row)
    candidate = _output(intake, prompt, outputs, shown[at], model)
    baseline = _output(intake, prompt, outputs, shown[1 - at], reference)
    winner = row.text("winner")
    scores = {shown[at]: FIRST, shown[1 - at]: SECOND, "tie": TIE}.get(winner, ())
    intake.judgment(
        candidate,
        baseline,
        judge=judge,
        order=(0, 1) if at == 0 else (1, 0),
        scores=scores,
        error=None if scores else f"unparsed: the winner is '{winner}'",
        rationale=_reason(row),
        usage=_usage(row),
        metadata={"extent": row.values.get("extent", 0)},
        file=file,
    )


def _output(intake: Intake, prompt: Prompt, outputs: Row, name: str, model: str) -> Completion:
    return intake.answer(prompt, outputs.text(name), model=model, source=SOURCE)


def _reason(row: Row) -> str:
    parsed = row.values.get("parsed_result")
    return "" if parsed is None else msgspec.json.encode(parsed).decode()


def _usage(row: Row) -> Usage:
    data = row.values.get("meta_data")
    used = data.get("usage") if isinstance(data, dict) else None
    counts = [used.get(name) if isinstance(used, dict) else 0 for name in ("prompt_tokens", "completion_tokens")]
    sent, received = (count if isinstance(count, int) else 0 for count in counts)
    return Usage(prompt_tokens=sent, completion_tokens=received)
