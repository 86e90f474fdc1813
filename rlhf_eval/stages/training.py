"""The verb ``train``, as trainers see it: what they are given, what they hand back, and what they may call meanwhile.

A trainer is a plugin ``trainers/x.py`` with ``Config``, ``READS``, ``plan`` and ``train``; see ``verbs.train``. It reads no
store and opens no door: the records come in a ``Data``, everything else in a ``Job``.

    job = Job(model="runs/sft/checkpoint", seed=0)
    metrics = train(Data(pairs=pairs), Path("out"), Config(), job)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_eval.records import Completion, Demonstration, Message, PreferencePair, Prompt, Record
from rlhf_eval.stages.pairs import Labelled

Reward = Callable[[Sequence[Prompt], Sequence[Completion]], Sequence[float | None]]
"""The reward of each completion, aligned with its prompt; higher is better. Any judge, reward model or program.

None where it has none (an unreadable verdict): counted, and never trained on."""

Log = Callable[[Mapping[str, Any]], None]
"""Keeps one row of scalars, see ``Job.log``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepwise:
    """A worked solution with a label for each of its steps: what a process reward model learns from."""

    id: str
    prompt: tuple[Message, ...]
    steps: tuple[str, ...]
    labels: tuple[float, ...]
    """One a step: 1 right, 0 wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What a trainer is given; it reads the kinds that its ``READS`` names."""

    pairs: tuple[PreferencePair, ...] = ()
    demonstrations: tuple[Demonstration, ...] = ()
    labelled: tuple[Labelled, ...] = ()
    stepwise: tuple[Stepwise, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    heldout: tuple[Prompt, ...] = ()
    """Prompts for evaluation during training; never trained on."""
    heldout_pairs: tuple[PreferencePair, ...] = ()
    """Pairs on which a reward model is measured; never trained on."""

    def counts(self) -> dict[str, int]:
        """How many records of each kind there are, the kinds without any left out; both sides of a pair are one pair."""
        found = {name: len(getattr(self, name)) for name in self.__dataclass_fields__ if getattr(self, name)}
        return {name: count for name, count in found.items() if name != "labelled" or not self.pairs}


def _drop(_: Mapping[str, Any]) -> None:
    return None


def _drop_record(_table: str, _record: Record) -> None:
    return None


def _silent(_: str) -> None:
    return None


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What surrounds a training: where it starts, how it reports, and when it must stop."""

    model: str
    """Folder (or hub name) of the checkpoint that training starts from, in Hugging Face format."""
    seed: int = 0
    log: Log = _drop
    """Keep a row of metrics: flat scalars, always ``step``, ``split``, ``seconds`` and ``tokens``."""
    record: Callable[[str, Record], None] = _drop_record
    """Keep a record, by table: the completions of evaluation steps with their prompts."""
    say: Callable[[str], None] = _silent
    """One line for whoever waits."""
    stopping: Callable[[], bool] = _never
    """Whether to save and stop after this step: the user pressed Ctrl-C."""
    reward: Reward | None = None
    """What online trainers optimise."""
    gold: Reward | None = None
    """The true reward, where it is known: measured, never optimised."""
    cache: Path | None = None
    """A folder for what can be computed again: a reference's log-probabilities."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """The lineage that the model card tells: data run, judges, base."""
    quiet: bool = False
    """Draw no progress line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a training would be, before it costs anything."""

    rows: int
    """Examples that are trained on."""
    tokens: int
    """Tokens that pass the model in one epoch, padding left out."""
    steps: int
    """Optimizer steps in all."""
    memory: int
    """Estimated peak bytes: weights, gradients, optimizer, reference, activations of a batch."""
    parameters: int
    """Weights of the model."""
    notes: tuple[str, ...] = ()
    """What the user should know: rows cut, rows left out, longest row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a training came to."""

    steps: int
    rows: int
    tokens: int
    """Trained tokens in all, padding left out."""
    seconds: float
    final: Mapping[str, float] = field(default_factory=dict)
    """The last value of each scalar, by its name in metrics.jsonl."""
    notes: tuple[str, ...] = ()
    heldout: tuple[str, ...] = ()
    """Ids of the records that were held out; a reward model is measured on them at once."""
    stopped: bool = False
    """Whether it was asked to stop before its end; ``steps/`` holds what resumes it."""
