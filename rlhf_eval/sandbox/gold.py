"""The gold reward of the sandbox: a program that knows the right answer.

    reward = 0.7 correct + 0.2 followed + 0.1 brief

so a right answer beats every wrong one. It reads only the items that its family answers with (numbers, the words of the
lists, or single letters), whatever stands around them: "The answer is 7." is right if 7 is, and "7 8 9" is wrong.

    from rlhf_eval.sandbox.gold import reward
    reward(prompt, prompt.reference).reward == 1.0
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rlhf_eval.errors import UserError
from rlhf_eval.records import Prompt
from rlhf_eval.sandbox.tasks import FAMILIES, items, kind
from rlhf_eval.sandbox.world import phrase

WEIGHT_CORRECT = 0.7
WEIGHT_FOLLOWED = 0.2
WEIGHT_BRIEF = 0.1

LONGEST = 4096
"""Characters after which an answer is wrong unread; the longest ideal answer has under 50."""

SLACK = 4
"""Characters beyond the reference that still count as brief."""

NEEDED = ("family", "difficulty", "answer", "constraint")
WORD = re.compile(r"[A-Za-z]+|[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """The reward of an answer and its three parts, each in [0, 1]."""

    reward: float
    correct: float
    """1 if the items of the answer are exactly the right ones in their order, else 0."""
    followed: float
    """1 if the answer obeys the prompt's instruction, or there is none, else 0."""
    brief: float
    """1 up to the reference's length (and a little more), then falling as 1 over the length."""


def reward(prompt: Prompt, text: str) -> Gold:
    """The gold reward of ``text`` as an answer to a prompt of the sandbox; an empty answer has none.

    Raises UserError if the prompt does not come from the sandbox.
    """
    known = _known(prompt)
    answer = text.strip()
    if not answer or len(answer) > LONGEST:
        return Gold(reward=0.0, correct=0.0, followed=0.0, brief=0.0)
    truth = tuple(known["answer"].split())
    correct = float(_is_correct(known["family"], truth, answer))
    followed = float(_follows(known["constraint"], known["family"], answer))
    brief = min(1.0, (len(phrase(truth, known["constraint"])) + SLACK) / len(answer))
    total = (WEIGHT_CORRECT * 10 * correct + WEIGHT_FOLLOWED * 10 * followed + WEIGHT_BRIEF * 10 * brief) / 10
    return Gold(reward=total, correct=correct, followed=followed, brief=brief)


def _known(prompt: Prompt) -> dict[str, Any]:
    missing = [name for name in NEEDED if name not in prompt.metadata]
    if missing or prompt.metadata["family"] not in FAMILIES:
        lack = f"its metadata lacks {', '.join(missing)}" if missing else "its family is unknown"
        raise UserError(
            f"prompt {prompt.id} is not of the sandbox ({lack}), so there is no gold reward for it; "
            "load such prompts by rlhf-eval load sandbox"
        )
    return dict(prompt.metadata)


def _content(family: str, text: str) -> list[str]:
    """The words of ``text`` that could be part of an answer, as they are written."""
    sort = kind(family)
    words = WORD.findall(text)
    if sort == "number":
        return [w for w in words if w.isdigit()]
    if sort == "letter":
        return [w for w in words if len(w) == 1 and not w.isdigit()]
    listed = frozenset(items())
    return [w for w in words if w.lower() in listed]


def _is_correct(family: str, truth: tuple[str, ...], text: str) -> bool:
    given = _content(family, text)
    if family == "upper":
        return given == list(truth)
    return [w.lower() for w in given] == [w.lower() for w in truth]


def _follows(constraint: str, family: str, text: str) -> bool:
    if constraint == "period":
        return text.endswith(".")
    if constraint == "brackets":
        return text.startswith("[") and text.endswith("]")
    if constraint == "capitals":
        return any(c.isupper() for c in text) and not any(c.islower() for c in text)
    content = _content(family, text)
    if constraint == "commas":
        return len(content) > 1 and ", ".join(content) in text
    if constraint == "only":
        return bool(content) and len(content) == len(WORD.findall(text))
    return True
