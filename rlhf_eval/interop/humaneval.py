"""HumanEval's problems: the start of a function, and the tests that its rest must pass (Chen et al., arXiv 2107.03374).

HumanEval.jsonl.gz    {"task_id", "prompt", "canonical_solution", "test", "entry_point"}

rlhf-eval load humaneval path/to/HumanEval.jsonl.gz
"""

from __future__ import annotations

from pathlib import Path

from rlhf_eval.interop.files import peek
from rlhf_eval.interop.loaded import Intake, Loaded
from rlhf_eval.records import Prompt

SOURCE = "humaneval"


def detect(path: Path) -> bool:
    """Whether the first row is a task with tests."""
    return path.is_file() and {"task_id", "prompt", "test", "entry_point"} <= set(peek(path))


def read(path: Path, *, strict: bool = False) -> Loaded:
    """The problems as prompts, their tests in the metadata; a broken row becomes a warning."""
    intake = Intake(path, strict=strict)
    for row in intake.rows(path):
        with intake.tolerate():
            metadata = {"tests": row.text("test"), "entry_point": row.text("entry_point")}
            reference = row.label("canonical_solution") or None
            made = Prompt.of(
                row.text("prompt"), reference=reference, source=SOURCE, key=row.label("task_id"), metadata=metadata
            )
            intake.prompt(made)
    return intake.loaded()
