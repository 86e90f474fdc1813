"""Training files for NeMo RL.

    pairs            {"context": [...], "completions": [{"rank": 0, "completion": [...]}, {"rank": 1, ...}]}
                     dataset_name: PreferenceDataset, for DPO and reward models
    demonstrations   {"messages": [...]}
                     dataset_name: openai_format, for SFT
    prompts          {"input": text, "output": reference}
                     dataset_name: ResponseDataset, for GRPO; prompts of one user turn

Rank 0 is the preferred one.

    write(pairs, Path("pairs.jsonl"))
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rlhf_eval.errors import UserError
from rlhf_eval.interop.training_rows import Makers, Row, Training, rows, single_turn, turns, write_rows
from rlhf_eval.records import Demonstration, PreferencePair, Prompt

_TARGET = "NeMo RL"


def write(records: Iterable[Training], path: Path) -> int:
    """Write pairs, demonstrations or prompts; returns the number of rows.

    Raises UserError where a prompt is longer than a user turn or has a system turn: those fields hold one text.
    """
    makers: Makers = {PreferencePair: _pair, Demonstration: _demonstration, Prompt: _prompt}
    return write_rows(path, rows(records, makers, target=_TARGET))


def _pair(record: PreferencePair) -> Row:
    sides = (record.chosen, record.rejected)
    return {
        "context": turns(record.prompt),
        "completions": [{"rank": rank, "completion": turns(side)} for rank, side in enumerate(sides)],
    }


def _demonstration(record: Demonstration) -> Row:
    return {"messages": turns([*record.prompt, *record.completion])}


def _prompt(record: Prompt) -> Row:
    system, user = single_turn(record.messages, target=_TARGET)
    if system:
        raise UserError(f"{_TARGET} takes the system text from its settings (system_prompt_file), not from the rows")
    return {"input": user, "output": record.reference or ""}
