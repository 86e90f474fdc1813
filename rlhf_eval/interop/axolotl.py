"""Training files for Axolotl.

pairs, DPO             {"messages": [...], "chosen": {role, content}, "rejected": {role, content}}
                       rl: dpo; datasets: [{type: chat_template.default}]
pairs, reward model    {"system", "input", "chosen", "rejected"}, all texts, prompts of one user turn
                       reward_model: true; datasets: [{type: bradley_terry.chat_template}]
demonstrations         {"messages": [...]}
                       datasets: [{type: chat_template}]

write(pairs, Path("pairs.jsonl"))
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rlhf_eval.errors import UserError
from rlhf_eval.interop.training_rows import Makers, Row, Training, rows, single_turn, turns, write_rows
from rlhf_eval.records import Demonstration, Message, PreferencePair


def write(records: Iterable[Training], path: Path, *, reward_model: bool = False) -> int:
    """Write pairs or demonstrations; returns the number of rows.

    Raises UserError for prompts, which Axolotl has no file of, and where an answer is not one assistant turn.
    """
    makers: Makers = {PreferencePair: _for_reward_model if reward_model else _pair, Demonstration: _demonstration}
    return write_rows(path, rows(records, makers, target="Axolotl"))


def _pair(record: PreferencePair) -> Row:
    return {
        "messages": turns(record.prompt),
        "chosen": turns([_answer(record.chosen)])[0],
        "rejected": turns([_answer(record.rejected)])[0],
    }


def _for_reward_model(record: PreferencePair) -> Row:
    system, user = single_turn(record.prompt, target="Axolotl's reward model")
    chosen, rejected = _answer(record.chosen).content, _answer(record.rejected).content
    return {"system": system, "input": user, "chosen": chosen, "rejected": rejected}


def _demonstration(record: Demonstration) -> Row:
    return {"messages": turns([*record.prompt, *record.completion])}


def _answer(messages: tuple[Message, ...]) -> Message:
    if len(messages) != 1:
        raise UserError(f"Axolotl takes one assistant turn as an answer, not {len(messages)}")
    return messages[0]
