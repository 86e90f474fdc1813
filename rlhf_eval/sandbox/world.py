"""The questions of the sandbox: twelve task families, three difficulties, asked in words, half of them with an instruction.

Every question has one right answer that a program knows, which makes the sandbox the place where a judge, a statistic or
a trainer can be checked against the truth (``sandbox.gold``).

    from rlhf_eval.sandbox.world import prompts
    prompts("heldout", limit=100, seed=0)
"""

from __future__ import annotations

from random import Random

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.records import Prompt
from rlhf_eval.sandbox.tasks import DIFFICULTIES, FAMILIES, Task, kind, lexicon

SPLITS = {"train": 3600, "heldout": 720}
"""The splits, and how many prompts each gives when no limit is set."""

ATTEMPTS = 1000
"""Draws without a new prompt after which a family counts as exhausted."""

CONSTRAINED = 0.5
OPENED = 0.25


def prompts(split: str = "heldout", limit: int | None = None, seed: int = 0) -> list[Prompt]:
    """Prompts of one split, balanced over families and difficulties, the same for the same seed.

    The splits share no task, however worded. A smaller limit gives the beginning of a larger one's list. The reference is
    the ideal answer: right, following the instruction, and nothing more.

    Raises UserError on an unknown split, or a limit beyond the distinct prompts that there are.
    """
    if split not in SPLITS:
        raise UserError(f"the sandbox has no split '{split}'.{nearest(split, SPLITS)}")
    wanted = SPLITS[split] if limit is None else limit
    if wanted < 0:
        raise UserError(f"limit is {wanted}; it must be at least 0")
    cells = [
        (family, level, Random(f"{seed}/{split}/{family}/{level}")) for family in FAMILIES for level in DIFFICULTIES
    ]
    order = Random(f"{seed}/{split}")
    seen: set[str] = set()
    found: list[Prompt] = []
    while len(found) < wanted:
        order.shuffle(cells)
        for family, level, rng in cells[: wanted - len(found)]:
            found.append(_fresh(split, family, level, rng, seen))
    return found


def _fresh(split: str, family: str, level: int, rng: Random, seen: set[str]) -> Prompt:
    for _ in range(ATTEMPTS):
        prompt = pose(draw(split, family, level, rng), split, rng)
        if prompt.id not in seen:
            seen.add(prompt.id)
            return prompt
    raise UserError(f"the sandbox has no more than {len(seen)} such prompts in '{split}'; set a smaller limit")


def draw(split: str, family: str, level: int, rng: Random) -> Task:
    """A task of the split; train and heldout share none."""
    while True:
        task = FAMILIES[family](rng, level)
        if task.held_out == (split == "heldout"):
            return task


def pose(task: Task, split: str, rng: Random) -> Prompt:
    """The task asked in words, half of the time with an instruction on the form of the answer."""
    words = lexicon()
    question = rng.choice(words[task.family][task.variant]).format(**task.slots)
    opening = rng.choice(words["openings"]) if rng.random() < OPENED else ""
    constraint = rng.choice(constraints(task)) if rng.random() < CONSTRAINED else ""
    stop = "." if constraint and question[-1] not in ".?" else ""
    text = f"{opening}{question}{stop}{_instruction(task, constraint, rng)}"
    return Prompt.of(
        text,
        reference=phrase(task.answer, constraint),
        category=words["category"][task.family],
        source=f"sandbox:{split}",
        metadata={
            "family": task.family,
            "difficulty": task.difficulty,
            "answer": " ".join(task.answer),
            "constraint": constraint,
        },
    )


def constraints(task: Task) -> tuple[str, ...]:
    """The instructions that make sense for a task."""
    lettered = ("capitals",) if kind(task.family) == "word" and task.family != "upper" else ()
    listed = ("commas",) if len(task.answer) > 1 else ()
    return ("only", "period", "brackets", *lettered, *listed)


def phrase(answer: tuple[str, ...], constraint: str) -> str:
    """The shortest text that gives the answer and follows the constraint."""
    text = (", " if constraint == "commas" else " ").join(answer)
    if constraint == "period":
        return f"{text}."
    if constraint == "brackets":
        return f"[{text}]"
    return text.upper() if constraint == "capitals" else text


def _instruction(task: Task, constraint: str, rng: Random) -> str:
    if not constraint:
        return ""
    wordings = lexicon()["constraint"][constraint]
    if constraint == "only":
        noun = kind(task.family)
        wordings = wordings["letters" if noun == "letter" else noun if len(task.answer) == 1 else f"{noun}s"]
    return f" {rng.choice(wordings)}"
