"""Training files for the alignment handbook, in the shape of the binarised UltraFeedback set.

pairs            {"prompt", "prompt_id", "chosen": [conversation], "rejected": [conversation], "messages",
                  "score_chosen", "score_rejected"}
demonstrations   {"prompt", "prompt_id", "messages": [conversation]}

Both sides hold the whole conversation. The scores are the label's probability and what is left of it.

write(pairs, Path("pairs.jsonl"))
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rlhf_eval.interop.training_rows import Makers, Row, Training, rows, turns, write_rows
from rlhf_eval.records import Demonstration, PreferencePair


def write(records: Iterable[Training], path: Path) -> int:
    """Write pairs or demonstrations; returns the number of rows. Raises UserError for prompts, which it has no file of."""
    makers: Makers = {PreferencePair: _pair, Demonstration: _demonstration}
    return write_rows(path, rows(records, makers, target="the alignment handbook"))


def _pair(record: PreferencePair) -> Row:
    chosen = turns([*record.prompt, *record.chosen])
    return {
        "prompt": record.prompt[-1].content,
        "prompt_id": record.prompt_id,
        "chosen": chosen,
        "rejected": turns([*record.prompt, *record.rejected]),
        "messages": chosen,
        "score_chosen": record.probability,
        "score_rejected": 1 - record.probability,
    }


def _demonstration(record: Demonstration) -> Row:
    return {
        "prompt": record.prompt[-1].content,
        "prompt_id": record.prompt_id,
        "messages": turns([*record.prompt, *record.completion]),
    }
