"""Verifiable instructions by program: which of a prompt's constraints an answer obeys (IFEval, arXiv 2311.07911).

The prompt's metadata carries ``instruction_id_list`` and ``kwargs`` as in the published data set. Every instruction's
verdict is kept, strict and loose (loose: obeyed by the text or by one of its seven trimmed readings), so that both the
prompt-level and the instruction-level numbers can be had from the same judgments.

    rlhf-eval judge --judge ifeval --set level=instruction
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from judges.constraints import follows, loosened
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Prompt, Verdict

ARITY = 1
NEEDS_MODEL = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the instruction checker."""

    level: Literal["prompt", "instruction"] = "prompt"
    """prompt: 1 if every instruction is obeyed, else 0; instruction: the share that is."""
    loose: bool = False
    """Score by the loose reading; both readings are kept in the metadata either way."""


def instructions(prompt: Prompt) -> list[tuple[str, Mapping[str, Any]]]:
    """The prompt's instruction ids with their settings; raises UserError where its metadata has none."""
    ids, settings = prompt.metadata.get("instruction_id_list"), prompt.metadata.get("kwargs")
    if not isinstance(ids, Sequence) or not isinstance(settings, Sequence) or not ids or len(ids) != len(settings):
        raise UserError(
            f"prompt {prompt.id} has no instructions to check: its metadata needs 'instruction_id_list' and 'kwargs', "
            "two lists of one length, as in the IFEval data"
        )
    return [(str(name), dict(values or {})) for name, values in zip(ids, settings, strict=True)]


def verify(prompt: Prompt, text: str) -> tuple[list[bool], list[bool]]:
    """One verdict an instruction, strict and loose."""
    asked = instructions(prompt)
    strict = [follows(name, settings, text) for name, settings in asked]
    readings = loosened(text)
    loose = [any(follows(name, settings, reading) for reading in readings) for name, settings in asked]
    return strict, loose


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model | None, config: Config) -> Verdict:
    """Check one completion; its score lies in [0, 1]."""
    strict, loose = verify(prompt, completions[0].text)
    verdicts = loose if config.loose else strict
    share = sum(verdicts) / len(verdicts)
    score = float(share == 1) if config.level == "prompt" else share
    names = [name for name, _ in instructions(prompt)]
    return Verdict(scores=(score,), metadata={"instructions": names, "strict": strict, "loose": loose})
