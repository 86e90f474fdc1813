"""A preference set as columns of text: what the data card is computed from, whoever made the set.

sheet = sheet_of(pairs)
read_sheet(Path("somebody_elses.jsonl"))
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.interop.files import Row, read_rows, rows_of_folder
from rlhf_eval.records import Completion, Judgment, Message, PreferencePair, Prompt
from rlhf_eval.stages.matrix import Floats


@dataclass(slots=True, kw_only=True)
class Sheet:
    """Pairs as columns of equal length; ``nan`` and empty texts where a set does not say."""

    prompt: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    probability: list[float] = field(default_factory=list)
    margin: list[float] = field(default_factory=list)
    chosen_model: list[str] = field(default_factory=list)
    rejected_model: list[str] = field(default_factory=list)
    labeler: list[str] = field(default_factory=list)
    flipped: list[bool | None] = field(default_factory=list)
    """Whether a label was turned on purpose, where the set says so."""
    split: list[bool | None] = field(default_factory=list)
    """Whether the people behind a label disagreed, where there were several."""
    rows: int = 0
    """Rows that were read, the broken ones among them."""
    broken: Counter[str] = field(default_factory=Counter)
    """Why rows could not be used, and how many."""
    examples: dict[str, str] = field(default_factory=dict)
    """Reason to the first place where it happened."""

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def cluster(self) -> list[int]:
        """The number of each pair's prompt: pairs of one prompt are one unit."""
        code: dict[str, int] = {}
        return [code.setdefault(text, len(code)) for text in self.prompt]

    def numbers(self, column: Sequence[float]) -> Floats:
        """The values of a column that are known."""
        values = np.asarray(column, dtype=np.float64)
        return values[np.isfinite(values)]

    def add(
        self,
        prompt: str,
        chosen: str,
        rejected: str,
        *,
        probability: float = np.nan,
        margin: float = np.nan,
        models: tuple[str, str] = ("", ""),
        labeler: str = "",
        flipped: bool | None = None,
        split: bool | None = None,
    ) -> None:
        """Append a pair."""
        self.prompt.append(prompt)
        self.chosen.append(chosen)
        self.rejected.append(rejected)
        self.probability.append(probability)
        self.margin.append(margin)
        self.chosen_model.append(models[0])
        self.rejected_model.append(models[1])
        self.labeler.append(labeler)
        self.flipped.append(flipped)
        self.split.append(split)


def sheet_of(pairs: Iterable[PreferencePair]) -> Sheet:
    """The columns of our own pairs."""
    sheet = Sheet()
    for pair in pairs:
        sheet.rows += 1
        sheet.add(
            _joined(pair.prompt),
            _joined(pair.chosen),
            _joined(pair.rejected),
            probability=pair.probability,
            margin=pair.margin,
            models=(str(pair.metadata.get("chosen_model", "")), str(pair.metadata.get("rejected_model", ""))),
            labeler=pair.labeler,
            flipped=pair.metadata.get("flipped"),
        )
    return sheet


def sheet_of_votes(
    prompts: Iterable[Prompt], completions: Iterable[Completion], judgments: Iterable[Judgment], labelers: str
) -> Sheet:
    """What most of the labelers whose names begin so say of each pair of answers; raises UserError where none did.

    A pair on which none of the two has more votes is counted as broken.
    """
    asked, answers = {p.id: p for p in prompts}, {c.id: c for c in completions}
    said: dict[tuple[str, str], list[float]] = defaultdict(list)
    for judgment in judgments:
        of_pair = len(judgment.completion_ids) == 2 and judgment.prompt_id in asked
        if of_pair and judgment.scores and judgment.judge.startswith(labelers):
            by_id = dict(zip(judgment.completion_ids, judgment.scores, strict=True))
            first, second = sorted(judgment.completion_ids)
            said[first, second].append(float(np.sign(by_id[first] - by_id[second])))
    sheet = Sheet()
    for ids, votes in said.items():
        sheet.rows += 1
        sides = [answers[identity] for identity in (ids if sum(votes) > 0 else ids[::-1])]
        if not sum(votes) or not all(side.text.strip() for side in sides) or sides[0].text == sides[1].text:
            reason = "an empty or equal answer" if sum(votes) else "a tie"
            sheet.broken[reason] += 1
            sheet.examples.setdefault(reason, f"prompt {sides[0].prompt_id}")
            continue
        sheet.add(
            asked[sides[0].prompt_id].text, sides[0].text, sides[1].text, models=(sides[0].model, sides[1].model),
            labeler=labelers, split=len(set(votes)) > 1 if len(votes) > 1 else None,
        )  # fmt: skip
    if not len(sheet):
        raise UserError(f"nobody whose name begins with '{labelers}' preferred one of two answers")
    return sheet


def read_sheet(path: Path, *, limit: int | None = None) -> Sheet:
    """The pairs of a JSONL, JSON, CSV or Parquet file, in any of the shapes that trainers use.

    TRL and its kin (prompt, chosen, rejected; texts or messages; the prompt may stand inside both sides), OpenRLHF,
    Axolotl (messages, chosen, rejected), NeMo RL (context, completions with ranks). A row that is no pair is counted by
    its reason. Raises UserError where no row is a pair.
    """
    if path.is_dir():
        found = rows_of_folder(path)
        if not found:
            raise UserError(f"{path}: a folder without a .jsonl, .json, .csv or .parquet file")
    else:
        found = [path]
    sheet = Sheet()
    problems: list[str] = []
    for file in found:
        for row in read_rows(file, problems, name=file.name, lenient=True):
            if limit is not None and len(sheet) >= limit:
                break
            sheet.rows += 1
            try:
                reason = _take(sheet, row)
            except UserError as error:
                reason = str(error).partition(": ")[2] or str(error)
            if reason:
                sheet.broken[reason] += 1
                sheet.examples.setdefault(reason, row.where)
    for problem in problems:
        sheet.rows += 1
        sheet.broken["not valid JSON"] += 1
        sheet.examples.setdefault("not valid JSON", problem)
    if not len(sheet):
        reasons = "; ".join(f"{reason} ({count})" for reason, count in sheet.broken.most_common(3))
        raise UserError(f"{path}: no row is a preference pair: {reasons or 'there are no rows'}")
    return sheet


def _take(sheet: Sheet, row: Row) -> str:
    """Add the pair of a row, or say why it is none."""
    values = row.values
    if "completions" in values and "context" in values:
        prompt, chosen, rejected = _ranked(row)
    elif values.get("chosen") is None or values.get("rejected") is None:
        return "no 'chosen' and 'rejected'"
    else:
        prompt, chosen, rejected = _sides(values)
    if not chosen.strip() or not rejected.strip():
        return "an empty answer"
    if chosen == rejected:
        return "chosen equals rejected"
    sheet.add(
        prompt,
        chosen,
        rejected,
        probability=_number(values.get("probability")),
        margin=_margin(values),
        models=(_text(values.get("chosen_model")), _text(values.get("rejected_model"))),
        labeler=_text(values.get("labeler")),
        flipped=_flag(values.get("flipped")),
    )
    return ""


def _sides(values: Any) -> tuple[str, str, str]:
    """Prompt, chosen and rejected; a prompt that stands inside both sides is taken off them."""
    asked = next(
        (values[name] for name in ("prompt", "messages", "question", "instruction", "input") if values.get(name)), ""
    )
    chosen, rejected = values["chosen"], values["rejected"]
    prompt = _content(asked)
    if isinstance(chosen, list) and isinstance(rejected, list):
        shared = len([1 for _ in takewhile(lambda two: two[0] == two[1], zip(chosen, rejected, strict=False))])
        shared = min(shared, max(len(chosen), len(rejected)) - 1)
        prompt = prompt or _content(chosen[:shared])
        return prompt, _content(chosen[shared:]), _content(rejected[shared:])
    first, second = _content(chosen), _content(rejected)
    if prompt:
        return prompt, first, second
    same = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(first, second, strict=False)))
    # Two answers may begin alike; the prompt ends where a speaker was last announced.
    turn = first.rfind("Assistant:", 0, same)
    cut = turn + len("Assistant:") if turn >= 0 else 0
    return first[:cut], first[cut:], second[cut:]


def _ranked(row: Row) -> tuple[str, str, str]:
    ranked = sorted(row.rows("completions"), key=lambda entry: entry.number("rank"))
    if len(ranked) < 2:
        raise row.wrong("fewer than two ranked completions")
    return (
        _content(row.get("context")),
        _content(ranked[0].get("completion")),
        _content(ranked[-1].get("completion")),
    )


def _content(value: Any) -> str:
    """The text of a text, a message, or a list of messages."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return _text(value.get("content", value.get("value")))
    if isinstance(value, list):
        return "\n\n".join(_content(turn) for turn in value)
    return ""


def _joined(messages: Sequence[Message]) -> str:
    return "\n\n".join(message.content for message in messages)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan


def _margin(values: Any) -> float:
    if values.get("margin") is not None:
        return _number(values["margin"])
    for chosen, rejected in (("score_chosen", "score_rejected"), ("chosen_rating", "rejected_rating")):
        if values.get(chosen) is not None and values.get(rejected) is not None:
            return _number(values[chosen]) - _number(values[rejected])
    return np.nan
