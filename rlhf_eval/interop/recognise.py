"""Which format a file or folder is in, from its layout.

recognise(Path("path/to/alpaca_eval"))    # "alpaca_eval"
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from rlhf_eval.errors import UserError

FORMATS = (
    "alpaca_eval",
    "arena_hard",
    "mt_bench",
    "llmbar",
    "judge_bench",
    "pandalm",
    "autoj",
    "wildbench",
    "ultrafeedback",
    "rm_bench",
    "ppe",
    "lm_eval",
    "reward_bench",
    "gsm8k",
    "ifeval",
    "humaneval",
    "human",
    "trl",
    "jsonl",
)
"""The modules that read, the most particular layouts first; ``jsonl`` takes any file of rows."""


def recognise(path: Path) -> str:
    """The name of the first format whose layout ``path`` has; raises UserError where it has none."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    for name in FORMATS:
        if import_module(f"rlhf_eval.interop.{name}").detect(path):
            return name
    raise UserError(f"{path}: its layout is none that is known; say the format: {', '.join(FORMATS)}")
