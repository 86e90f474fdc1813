"""What is being drawn: a task of one prompt, its rows, and what each has drawn so far.

task = Task(prompt=[5, 6, 7], keys=("00ff00ff00ff00ff",), most=16)
row = Row.of(task, task.keys[0])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rlhf_eval.models.local.tokens import TokenChance
from rlhf_eval.models.local.tries import END, Trie


@dataclass(slots=True, kw_only=True)
class Drawn:
    """One finished row: its tokens without the end mark, why it ended, and its log-probabilities if asked for."""

    ids: list[int] = field(default_factory=list)
    finish: str = ""
    chances: list[TokenChance] = field(default_factory=list)
    steps: int = 0
    """Tokens drawn, the end mark included."""


@dataclass(slots=True, kw_only=True)
class Task:
    """Samples of one prompt: one row for each key."""

    prompt: list[int]
    keys: tuple[str, ...]
    """Hexadecimal names of the random streams, at least 16 digits."""
    most: int
    """Most tokens to draw."""
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    top: int = 0
    """Alternatives wanted at each token; 0 wants no log-probabilities."""
    trie: Trie | None = None
    future: Future[list[Drawn]] = field(default_factory=Future)
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def width(self) -> int:
        """Columns that a row of this task takes when it is at its longest."""
        return len(self.prompt) + self.most


@dataclass(slots=True, eq=False)
class Row:
    """A sequence being drawn."""

    task: Task
    uniforms: NDArray[np.float64]
    drawn: Drawn = field(default_factory=Drawn)
    node: Trie | None = None

    @classmethod
    def of(cls, task: Task, key: str) -> Row:
        """A fresh row with the random numbers of ``key``."""
        stream = np.random.Generator(np.random.Philox(key=int(key, 16) & ((1 << 128) - 1)))
        return cls(task, stream.random(task.most) if task.temperature > 0 else np.zeros(task.most), node=task.trie)

    def push(self, token: int, eos: frozenset[int], stopped: Callable[[Sequence[int], tuple[str, ...]], bool]) -> None:
        """Take the token drawn for this row, and see whether that ends it."""
        drawn = self.drawn
        drawn.steps += 1
        if token in eos:
            drawn.finish = "stop"
            return
        drawn.ids.append(token)
        if self.node is not None:
            self.node = self.node[token]
        complete = self.node is not None and self.node.keys() == {END}
        if complete or (self.task.stop and stopped(drawn.ids, self.task.stop)):
            drawn.finish = "stop"
        elif drawn.steps >= self.task.most:
            drawn.finish = "length"
