"""AlpacaEval's results: model outputs and pairwise annotations against a baseline (Dubois et al., arXiv 2404.04475).

    results/<model>/model_outputs.json              [{instruction, output, generator, dataset}]
    results/<model>/<annotator>/annotations.json    [{instruction, output_1, generator_1, output_2, ..., preference}]

A checkout, its ``results`` folder, or one model's folder. ``output_2`` is the model and stands first in a judgment, so
that its first score is the model's share of the win: ``preference`` runs from 1 (baseline) to 2 (model), and 0 is the
old sign for a tie. Upstream swaps the two outputs by a hash of the instruction and writes them back unswapped; the
order shown is worked out from that hash: right for every published annotation, wrong for one made without swapping.

    rlhf-eval load path/to/alpaca_eval
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row
from rlhf_eval.interop.loaded import Intake, Loaded
from rlhf_eval.records import Completion, Prompt, Usage

SOURCE = "alpaca_eval"
_OUTPUTS, _ANNOTATIONS = "model_outputs.json", "annotations.json"


def detect(path: Path) -> bool:
    """Whether ``path`` is a checkout, a results folder or a model's folder."""
    return path.is_dir() and bool(_model_folders(path))


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Prompts, completions and judgments of every model found under ``path``.

    A file that cannot be read is named in the warnings and the rest is kept; ``strict`` raises UserError instead. A
    preference that is null or outside [1, 2] becomes a failed judgment.
    """
    folders = _model_folders(path)
    if path.exists() and not folders:
        raise UserError(
            f"{path}: no {_OUTPUTS} or <annotator>/{_ANNOTATIONS} here; give an AlpacaEval checkout or its results"
        )
    intake = Intake(path, strict=strict)
    for folder in folders:
        _read_outputs(intake, folder)
        for file in sorted(folder.glob(f"*/{_ANNOTATIONS}")):
            _read_annotations(intake, file)
    return intake.loaded()


def shown_second_first(instruction: str) -> bool:
    """Whether ``output_2`` stood first when this instruction was judged (upstream's seed 0)."""
    return random.Random(f"is_switched_outputs{instruction}0").choices([False, True], k=1)[0]


def _model_folders(path: Path) -> list[Path]:
    root = path / "results" if (path / "results").is_dir() else path
    if _is_model(root):
        return [root]
    return [folder for folder in sorted(root.glob("*/")) if _is_model(folder)]


def _is_model(folder: Path) -> bool:
    return (folder / _OUTPUTS).is_file() or any(folder.glob(f"*/{_ANNOTATIONS}"))


def _read_outputs(intake: Intake, folder: Path) -> None:
    file = folder / _OUTPUTS
    if not file.is_file():
        return
    for row in intake.rows(file):
        with intake.tolerate():
            _completion(intake, row, "output", row.label("generator", folder.name))


def _read_annotations(intake: Intake, file: Path) -> None:
    model, annotator, name = file.parent.parent.name, file.parent.name, intake.name(file)
    for row in intake.rows(file):
        with intake.tolerate():
            candidate = _completion(intake, row, "output_2", row.label("generator_2", model))
            baseline = _completion(intake, row, "output_1", row.label("generator_1", "baseline"))
            scores, error = _scores(row.get("preference"))
            intake.judgment(
                candidate,
                baseline,
                judge=f"{SOURCE}/{row.label('annotator', annotator)}",
                order=(0, 1) if shown_second_first(row.text("instruction")) else (1, 0),
                scores=scores,
                error=error,
                rationale=_raw(row.values.get("raw_completion")),
                usage=Usage(cost=_amount(row, "price_per_example"), seconds=_amount(row, "time_per_example")),
                file=name,
            )


def _completion(intake: Intake, row: Row, field: str, model: str) -> Completion:
    instruction, text = row.text("instruction"), row.text(field)
    prompt = intake.prompt(Prompt.of(instruction, category=row.label("dataset"), source=SOURCE))
    return intake.answer(prompt, text, model=model, source=SOURCE)


def _scores(preference: Any) -> tuple[tuple[float, ...], str | None]:
    if preference == 0:
        preference = 1.5
    if isinstance(preference, int | float) and 1 <= preference <= 2:
        return (preference - 1.0, 2.0 - preference), None
    return (), f"unparsed: the preference is {msgspec.json.encode(preference).decode()}, not a number from 1 to 2"


def _raw(completion: Any) -> str:
    if completion is None or isinstance(completion, str):
        return completion or ""
    return msgspec.json.encode(completion).decode()


def _amount(row: Row, name: str) -> float:
    return 0.0 if row.values.get(name) is None else row.number(name)
