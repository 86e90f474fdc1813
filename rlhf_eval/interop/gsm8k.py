"""GSM8K's problems: word problems with worked answers that end in ``#### 42`` (Cobbe et al., arXiv 2110.14168).

test.jsonl    {"question", "answer"}

rlhf-eval load gsm8k path/to/test.jsonl
"""

from __future__ import annotations

from pathlib import Path

from rlhf_eval.interop.files import peek
from rlhf_eval.interop.loaded import Intake, Loaded
from rlhf_eval.records import Prompt

SOURCE = "gsm8k"


def detect(path: Path) -> bool:
    """Whether the first row has a question and a worked answer."""
    row = peek(path) if path.is_file() else {}
    return "####" in str(row.get("answer", "")) and "question" in row


def read(path: Path, *, strict: bool = False) -> Loaded:
    """The problems as prompts, the worked answer as the reference; a broken row becomes a warning."""
    intake = Intake(path, strict=strict)
    for number, row in enumerate(intake.rows(path)):
        with intake.tolerate():
            made = Prompt.of(row.text("question"), reference=row.text("answer"), source=SOURCE, key=str(number))
            intake.prompt(made)
    return intake.loaded()
