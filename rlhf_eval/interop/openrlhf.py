"""Training files for OpenRLHF.

    pairs            {"prompt": [...], "chosen": [...], "rejected": [...]}
                     --prompt_key prompt --chosen_key chosen --rejected_key rejected --apply_chat_template
    demonstrations   {"input": [...], "output": [...]}
                     --input_key input --output_key output --apply_chat_template
    prompts          {"input": [...], "label": reference, "datasource": category}
                     --input_key input --label_key label --apply_chat_template

Every conversation is a list of ``{"role", "content"}``, so that the model's own template is used.

    write(pairs, Path("pairs.jsonl"))
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rlhf_eval.interop.training_rows import Row, Training, rows, turns, write_rows
from rlhf_eval.records import Demonstration, PreferencePair, Prompt


def write(records: Iterable[Training], path: Path, *, margin: bool = False) -> int:
    """Write pairs, demonstrations or prompts; returns the number of rows.

    ``margin`` adds the margins, which ``--margin_loss`` uses. Raises UserError where the records are of several types.
    """

    def pair(record: PreferencePair) -> Row:
        row: Row = {
            "prompt": turns(record.prompt),
            "chosen": turns(record.chosen),
            "rejected": turns(record.rejected),
        }
        return {**row, "margin": record.margin} if margin else row

    return write_rows(
        path, rows(records, {PreferencePair: pair, Demonstration: _demonstration, Prompt: _prompt}, target="OpenRLHF")
    )


def _demonstration(record: Demonstration) -> Row:
    return {"input": turns(record.prompt), "output": turns(record.completion)}


def _prompt(record: Prompt) -> Row:
    return {
        "input": turns(record.messages),
        "label": record.reference or "",
        "datasource": record.category or "default",
    }
