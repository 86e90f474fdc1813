"""The embedded world: tasks, a gold reward, and two tiny checkpoints, so that the whole line runs on a laptop, for real.

from rlhf_eval.sandbox import checkpoint
checkpoint("policy")
"""

from __future__ import annotations

from pathlib import Path

from rlhf_eval.errors import UserError, nearest

CHECKPOINTS = ("policy", "judge")


def checkpoint(name: str) -> Path:
    """The folder of a committed checkpoint, ``policy`` or ``judge``, in Hugging Face format.

    Raises UserError on any other name, or where the installation lacks the weights.
    """
    if name not in CHECKPOINTS:
        raise UserError(f"the sandbox has no checkpoint '{name}'.{nearest(name, CHECKPOINTS)}")
    folder = Path(__file__).resolve().parent / name
    if not (folder / "model.safetensors").is_file():
        raise UserError(f"{folder} holds no weights; rebuild them with python -m rlhf_eval.sandbox.pretrain")
    return folder
