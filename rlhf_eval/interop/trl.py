"""TRL's data set files, read and written: every format of its "Dataset formats and types" page.

    preference         {"prompt", "chosen", "rejected"}, or without "prompt", which is then what both sides begin with
    unpaired           {"prompt", "completion", "label": true or false}
    prompt-completion  {"prompt", "completion"}
    prompt-only        {"prompt"}
    language modeling  {"messages": [...]}, the last assistant turn being the completion

Each side is text or a list of ``{"role", "content"}``. A label becomes a grade of 1 or 0 by the judge ``trl/label``; a
pair read from a file has the probability 1 unless a ``probability`` says otherwise, and as margin ``margin`` or the
difference of ``score_chosen`` and ``score_rejected``, else 0, with which no loss of margins trains; ``flipped`` marks a
label that ``corrupt`` turned. When writing, margins stay out unless asked for: TRL's RewardTrainer puts a column of that
name into its loss.

    rlhf-eval load trl preferences.jsonl
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row, kind_of, peek, rows_of_folder
from rlhf_eval.interop.jsonl import messages_of
from rlhf_eval.interop.loaded import Intake, Loaded
from rlhf_eval.interop.training_rows import Training, rows, single_turn, turns, write_rows
from rlhf_eval.records import Completion, Demonstration, Message, PreferencePair, Prompt

SOURCE = "trl"
_Turns = tuple[Message, ...]


def detect(path: Path) -> bool:
    """Whether the first row of the file has chosen and rejected, or a prompt and a completion."""
    names = set(peek(path)) if path.is_file() else set()
    return {"chosen", "rejected"} <= names or {"prompt", "completion"} <= names


def read(path: Path, *, strict: bool = False) -> Loaded:
    """Prompts, completions, pairs and labels of a file, or of every file in a folder.

    A broken row, or a pair of equal sides, becomes a warning, or a UserError with ``strict``.
    """
    intake = Intake(path, strict=strict)
    files = [path] if path.is_file() else rows_of_folder(path)
    for file in files:
        for row in intake.rows(file):
            with intake.tolerate():
                _row(intake, row, intake.name(file))
    return intake.loaded()


def write(
    records: Iterable[Training], path: Path, *, standard: bool = False, unpaired: bool = False, margin: bool = False
) -> int:
    """Write pairs, demonstrations or prompts for TRL; returns the number of rows.

    ``standard`` writes plain texts, for prompts of one user turn; ``unpaired`` two labelled rows a pair, as KTO takes them;
    ``margin`` the margins. Raises UserError where a record does not fit.
    """

    def text_or_turns(messages: _Turns) -> Any:
        if not standard:
            return turns(messages)
        system, user = (
            single_turn(messages, target="TRL's standard format") if messages[0].role != "assistant" else ("", "")
        )
        return f"{system}\n\n{user}" if system else user or messages[0].content

    def pair(record: PreferencePair) -> dict[str, Any]:
        row = {
            "prompt": text_or_turns(record.prompt),
            "chosen": text_or_turns(record.chosen),
            "rejected": text_or_turns(record.rejected),
            "probability": record.probability,
            "labeler": record.labeler,
            "pair_id": record.id,
        }
        if "flipped" in record.metadata:
            row["flipped"] = record.metadata["flipped"]
        return {**row, "margin": record.margin} if margin else row

    def demonstration(record: Demonstration) -> dict[str, Any]:
        return {"prompt": text_or_turns(record.prompt), "completion": text_or_turns(record.completion)}

    def prompt(record: Prompt) -> dict[str, Any]:
        return {"prompt": text_or_turns(record.messages)}

    made = rows(records, {PreferencePair: pair, Demonstration: demonstration, Prompt: prompt}, target="TRL")
    return write_rows(path, _labelled(made) if unpaired else made)


def _labelled(made: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for row in made:
        if "chosen" not in row:
            raise UserError("only preference pairs become labelled rows; write the others without 'unpaired'")
        for side, label in (("chosen", True), ("rejected", False)):
            yield {"prompt": row["prompt"], "completion": row[side], "label": label}


def _row(intake: Intake, row: Row, file: str) -> None:
    names = row.values
    if "chosen" in names and "rejected" in names:
        _pair(intake, row)
    elif "prompt" in names and "completion" in names:
        prompt, completion = _side(row, "prompt", "user"), _side(row, "completion", "assistant")
        made = _completion(intake, _prompt(intake, prompt), completion, row.label("model", "unknown"))
        if names.get("label") is not None:
            if names["label"] not in (True, False):
                raise row.wrong(f"'label' must be true or false, not {kind_of(names['label'])}")
            intake.judgment(made, judge=f"{SOURCE}/label", scores=(float(names["label"]),), file=file)
    elif "messages" in names:
        *prompt_turns, last = _side(row, "messages", "user")
        if last.role != "assistant":
            raise row.wrong("'messages' must end with an assistant turn")
        _completion(intake, _prompt(intake, tuple(prompt_turns)), (last,), row.label("model", "unknown"))
    elif "prompt" in names:
        _prompt(intake, _side(row, "prompt", "user"))
    else:
        raise row.wrong(
            f"none of TRL's formats: 'chosen' and 'rejected', 'prompt', or 'messages'; found: {', '.join(names)}"
        )


def _side(row: Row, name: str, role: str) -> _Turns:
    """A field as messages; text is one turn of ``role``."""
    if isinstance(row.get(name), str):
        return (Message("user" if role == "user" else "assistant", row.text(name)),)
    messages = tuple(messages_of(row, name))
    if not messages:
        raise row.wrong(f"'{name}' is empty")
    return messages


def _pair(intake: Intake, row: Row) -> None:
    sides = [_side(row, name, "assistant") for name in ("chosen", "rejected")]
    whole = "prompt" not in row.values or sides[0][0].role != "assistant"
    if not whole:
        prompt = _side(row, "prompt", "user")
    elif isinstance(row.values["chosen"], str):
        prompt, *sides = _split_texts(row)
    else:
        prompt = tuple(a for a, _ in takewhile(lambda two: two[0] == two[1], zip(*sides, strict=False)))
        sides = [side[len(prompt) :] for side in sides]
    if not all(sides) or sides[0] == sides[1]:
        raise row.wrong(
            "one side is the beginning of the other, or both are the same: a tie makes no pair; drop the row"
        )
    question = _prompt(intake, prompt)
    made = [
        _completion(intake, question, side, row.label(f"{name}_model", "unknown"))
        for name, side in zip(("chosen", "rejected"), sides, strict=True)
    ]
    pair = PreferencePair.of(
        prompt=question,
        chosen=made[0],
        rejected=made[1],
        probability=row.number("probability") if "probability" in row.values else 1.0,
        margin=_margin(row),
        labeler=row.label("labeler", SOURCE),
        rule="file",
        metadata={"flipped": bool(row.values["flipped"])} if row.values.get("flipped") is not None else None,
    )
    intake.pair(replace(pair, chosen=sides[0], rejected=sides[1]))


def _split_texts(row: Row) -> tuple[_Turns, _Turns, _Turns]:
    """What two texts begin with, and their rests; a space before the difference belongs to the rests, as TRL has it."""
    chosen, rejected = row.text("chosen"), row.text("rejected")
    same = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(chosen, rejected, strict=False)))
    same -= bool(same and chosen[same - 1] == " ")
    prompt, first, second = chosen[:same], chosen[same:], rejected[same:]
    return (
        (Message("user", prompt),),
        (Message("assistant", first),) if first else (),
        (Message("assistant", second),) if second else (),
    )


def _margin(row: Row) -> float:
    if "margin" in row.values:
        return row.number("margin")
    if "score_chosen" in row.values and "score_rejected" in row.values:
        return row.number("score_chosen") - row.number("score_rejected")
    return 0.0


def _prompt(intake: Intake, messages: _Turns) -> Prompt:
    return intake.prompt(Prompt.of(messages, source=SOURCE))


def _completion(intake: Intake, prompt: Prompt, messages: _Turns, model: str) -> Completion:
    made = Completion.of(
        prompt_id=prompt.id, model=model, text=messages[-1].content, generator=SOURCE, origin=turns(messages)
    )
    return intake.completion(made)
