"""Files to train on: rows of ours, as the store has them, or rows in one of TRL's formats.

    data = read_file(Path("preferences.jsonl"))
    data.counts()   # {"pairs": 1200, "labelled": 2400, ...}

A pair also counts as two labelled answers, and a row of prompt and completion as a demonstration.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlhf_eval.errors import UserError
from rlhf_eval.interop import trl
from rlhf_eval.interop.files import Row, peek, read_rows
from rlhf_eval.interop.jsonl import messages_of
from rlhf_eval.interop.loaded import Loaded
from rlhf_eval.records import Completion, Demonstration, Message, PreferencePair, Prompt, fingerprint, from_row
from rlhf_eval.stages.pairs import Labelled
from rlhf_eval.stages.training import Data, Stepwise


def read_file(path: Path) -> Data:
    """Everything that the file's rows can be trained on as; raises UserError, naming the line, where a row is broken."""
    first = peek(path)
    if {"chosen_id", "rejected_id"} <= set(first):
        return Data(pairs=_records(PreferencePair, path))
    if {"completion_id", "rule"} <= set(first) and "label" not in first:
        return Data(demonstrations=_records(Demonstration, path))
    if {"completions", "labels"} <= set(first):
        return Data(stepwise=_stepwise(path))
    return _of_loaded(trl.read(path, strict=True))


def _of_loaded(loaded: Loaded) -> Data:
    """TRL's rows: pairs as they are, labelled answers, and other answers as demonstrations."""
    prompts = {prompt.id: prompt for prompt in loaded.prompts}
    paired = {i for pair in loaded.pairs for i in (pair.chosen_id, pair.rejected_id)}
    labels = {j.completion_ids[0]: j.scores[0] for j in loaded.judgments if len(j.scores) == 1}
    free = [c for c in loaded.completions if c.id not in paired]
    return Data(
        pairs=loaded.pairs,
        demonstrations=tuple(_demonstration(prompts[c.prompt_id], c) for c in free if c.id not in labels),
        labelled=tuple(_labelled(prompts[c.prompt_id], c, labels[c.id]) for c in free if c.id in labels)
        or both_sides(loaded.pairs),
        prompts=loaded.prompts,
    )


def _demonstration(prompt: Prompt, completion: Completion) -> Demonstration:
    return Demonstration.of(prompt=prompt, completion=completion, score=1.0, labeler=trl.SOURCE, rule="file")


def _labelled(prompt: Prompt, completion: Completion, score: float) -> Labelled:
    return Labelled(
        id=fingerprint("labelled", prompt.id, completion.id, trl.SOURCE, "file"),
        prompt=prompt.messages,
        completion=(Message("assistant", completion.text),),
        label=score > 0.5,
        score=score,
        labeler=trl.SOURCE,
        rule="file",
        prompt_id=prompt.id,
        completion_id=completion.id,
    )


def both_sides(pairs: Sequence[PreferencePair]) -> tuple[Labelled, ...]:
    """Each pair as a good and a bad answer, as KTO's authors use pairs (arXiv 2402.01306, section 4)."""
    return tuple(
        Labelled(
            id=fingerprint("labelled", pair.id, good),
            prompt=pair.prompt,
            completion=pair.chosen if good else pair.rejected,
            label=good,
            score=float(good),
            labeler=pair.labeler,
            rule=pair.rule,
            prompt_id=pair.prompt_id,
            completion_id=pair.chosen_id if good else pair.rejected_id,
        )
        for pair in pairs
        for good in (True, False)
    )


def _records(kind: type[Any], path: Path) -> tuple[Any, ...]:
    """The rows of a file that holds records as the store has them."""
    problems: list[str] = []
    found = []
    for row in read_rows(path, problems):
        try:
            found.append(from_row(kind, row.values))
        except UserError as error:
            raise row.wrong(str(error)) from error
    if problems:
        raise UserError(problems[0])
    return tuple(found)


def _stepwise(path: Path) -> tuple[Stepwise, ...]:
    problems: list[str] = []
    found = [_steps(row) for row in read_rows(path, problems)]
    if problems:
        raise UserError(problems[0])
    return tuple(found)


def _steps(row: Row) -> Stepwise:
    steps, labels = row.items("completions"), row.items("labels")
    if len(steps) != len(labels):
        raise row.wrong(f"{len(steps)} completions and {len(labels)} labels; each step needs one")
    asked = row.get("prompt")
    prompt = (Message("user", asked),) if isinstance(asked, str) else tuple(messages_of(row, "prompt"))
    try:
        values = tuple(float(label) for label in labels)
    except (TypeError, ValueError):
        raise row.wrong(f"'labels' must be numbers or true and false, not {json.dumps(labels)[:40]}") from None
    if not all(isinstance(step, str) for step in steps):
        raise row.wrong("'completions' must be texts, one a step")
    return Stepwise(id=fingerprint("stepwise", row.where), prompt=prompt, steps=tuple(steps), labels=values)
