"""IFEval's prompts with the instructions that a program can check (Zhou et al., arXiv 2311.07911).

input_data.jsonl    {"key", "prompt", "instruction_id_list": [...], "kwargs": [{...}, ...]}

rlhf-eval load ifeval path/to/input_data.jsonl
"""

from __future__ import annotations

from pathlib import Path

from rlhf_eval.interop.files import peek
from rlhf_eval.interop.loaded import Intake, Loaded
from rlhf_eval.records import Prompt

SOURCE = "ifeval"
_LISTS = ("instruction_id_list", "kwargs")


def detect(path: Path) -> bool:
    """Whether the first row has a prompt and its instructions."""
    return path.is_file() and {"prompt", *_LISTS} <= set(peek(path))


def read(path: Path, *, strict: bool = False) -> Loaded:
    """The prompts, their instructions in the metadata; a broken row becomes a warning."""
    intake = Intake(path, strict=strict)
    for row in intake.rows(path):
        with intake.tolerate():
            metadata = {name: row.items(name) for name in _LISTS}
            intake.prompt(Prompt.of(row.text("prompt"), source=SOURCE, key=row.label("key"), metadata=metadata))
    return intake.loaded()
