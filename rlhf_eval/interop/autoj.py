"""Auto-J's pairwise test set, as prometheus-eval carries it: human labels on pairs (Li et al., 2310.05470).

    autoj_pairwise.json    one object a line: {scenario, label, prompt, "response 1", "response 2"}

The label is 0 where the first response is better, 1 the second, 2 a tie. A checkout of prometheus-eval, a folder or the
file. The authors of the responses are not told, so the models are ``autoj/response 1`` and ``autoj/response 2``; the
judge is ``human/autoj``.

    rlhf-eval load autoj path/to/autoj_pairwise.json
"""

from __future__ import annotations

from pathlib import Path

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row
from rlhf_eval.interop.loaded import FIRST, SECOND, TIE, Intake, Loaded
from rlhf_eval.records import Prompt

SOURCE = "autoj"
_FILE = "autoj_pairwise.json"
_LABELS = {"0": FIRST, "1": SECOND, "2": TIE}


def detect(path: Path) -> bool:
    """Whether there is an ``autoj_pairwise.json``."""
    return _file(path) is not None


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Prompts, responses and human labels; a broken row becomes a warning, or a UserError with ``strict``."""
    file = _file(path)
    intake = Intake(path, strict=strict)
    if file is None:
        raise UserError(f"{path}: no {_FILE} here; give the file, its folder, or a prometheus-eval checkout")
    for number, row in enumerate(intake.rows(file)):
        with intake.tolerate():
            _pair(intake, row, number)
    return intake.loaded()


def _file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.name == _FILE else None
    return next((f for f in (path / _FILE, path / "eval" / "benchmark" / "data" / _FILE) if f.is_file()), None)


def _pair(intake: Intake, row: Row, number: int) -> None:
    prompt = intake.prompt(Prompt.of(row.text("prompt"), category=row.label("scenario"), source=SOURCE))
    names = ("response 1", "response 2")
    responses = [intake.answer(prompt, row.text(name), model=f"{SOURCE}/{name}", source=SOURCE) for name in names]
    label = row.label("label")
    if label not in _LABELS:
        raise row.wrong(f"'label' must be 0, 1 or 2, not {label or 'empty'}")
    intake.judgment(*responses, judge="human/autoj", scores=_LABELS[label], metadata={"row": number})
