"""What a reader of a foreign format hands back, and the intake that gathers it.

intake = Intake(Path("checkout"))
for row in intake.rows(path):
    with intake.tolerate():
        intake.prompt(Prompt.of(row.text("instruction")))
loaded = intake.loaded()
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rlhf_eval.errors import BadRecord, UserError
from rlhf_eval.interop.files import Row, hash_of, read_document, read_rows
from rlhf_eval.records import Completion, Judgment, PreferencePair, Prompt, Usage

T = TypeVar("T", Prompt, Completion, PreferencePair)
FIRST, SECOND, TIE = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)
"""Scores of a comparison that the first, the second, or neither of two completions won."""

GOLD = "gold"
"""The judge of labels that are right by construction; a person's are ``human/<name>``."""

_WARNINGS_PER_FILE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The records of a foreign folder or file, each once, in the order found."""

    prompts: tuple[Prompt, ...] = ()
    completions: tuple[Completion, ...] = ()
    judgments: tuple[Judgment, ...] = ()
    pairs: tuple[PreferencePair, ...] = ()
    warnings: tuple[str, ...] = ()
    """One line each: the file, what was left out of it, and why."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """File, relative to the path that was read, to the SHA-256 of its bytes."""


class Intake:
    """Reads the files under ``root``, keeps each record once, and remembers what could not be read.

    A broken file or row becomes a warning and the rest is kept; with ``strict`` it is raised as UserError.
    """

    def __init__(self, root: Path, *, strict: bool = False) -> None:
        if not root.exists():
            raise UserError(f"{root}: no such file or folder")
        self.root = root
        self.strict = strict
        self.sources: dict[str, str] = {}
        self._prompts: dict[str, Prompt] = {}
        self._completions: dict[str, Completion] = {}
        self._judgments: dict[str, Judgment] = {}
        self._pairs: dict[str, PreferencePair] = {}
        self._warnings: list[str] = []
        self._repeats: Counter[str] = Counter()

    def name(self, path: Path) -> str:
        """What messages and ``sources`` call a file."""
        return path.name if path == self.root else path.relative_to(self.root).as_posix()

    def rows(self, path: Path) -> list[Row]:
        """The rows of a JSON or JSONL file; none, and a warning, where it cannot be read."""
        problems: list[str] = []
        rows: list[Row] = []
        with self.tolerate(path):
            rows = list(read_rows(path, problems, name=self.name(path), lenient=True))
            self.sources[self.name(path)] = hash_of(path)
        if problems and self.strict:
            raise UserError(problems[0])
        self._warnings.extend(f"{problem}; the row is left out" for problem in problems)
        return rows

    def document(self, path: Path) -> Any:
        """The value of a JSON file; None, and a warning, where it cannot be read."""
        value: Any = None
        with self.tolerate(path):
            value = read_document(path)
            self.sources[self.name(path)] = hash_of(path)
        return value

    @contextmanager
    def tolerate(self, path: Path | None = None) -> Iterator[None]:
        """Turn a UserError inside into a warning (of the row, or of the file ``path``), unless strict."""
        try:
            yield
        except UserError as error:
            if self.strict:
                raise
            message = str(error) if path is None else str(error).replace(str(path), self.name(path), 1)
            self.warn(f"{message}; {'the row' if path is None else 'the file'} is left out")

    def warn(self, message: str) -> None:
        """Note what was left out; the message names its file."""
        self._warnings.append(message)

    def prompt(self, prompt: Prompt) -> Prompt:
        """Keep a prompt; the first of an id stays, with its labels."""
        return _keep(self._prompts, prompt)

    def completion(self, completion: Completion) -> Completion:
        """Keep a completion; the first of an id stays."""
        return _keep(self._completions, completion)

    def answer(
        self, prompt: Prompt, text: str, *, model: str, source: str, metadata: Mapping[str, Any] | None = None
    ) -> Completion:
        """Keep an answer known by its words: the same words of the same model, in whatever file, are one completion."""
        made = Completion.of(
            prompt_id=prompt.id, model=model, text=text, generator=source, origin=text, metadata=metadata
        )
        return self.completion(made)

    def pair(self, pair: PreferencePair) -> PreferencePair:
        """Keep a preference pair; the first of an id stays."""
        return _keep(self._pairs, pair)

    def judgment(
        self,
        *completions: Completion,
        judge: str,
        scores: tuple[float, ...] = (),
        order: tuple[int, ...] | None = None,
        rationale: str = "",
        error: str | None = None,
        usage: Usage | None = None,
        metadata: Mapping[str, Any] | None = None,
        file: str = "",
    ) -> Judgment | None:
        """Keep a judgment of completions of one prompt.

        The same judge asked again in the same order is a further repeat; a verdict word for word the same as an earlier
        one is a copy of it, is left out (None), and counts in a warning about ``file``.
        """
        repeat = 0
        while True:
            made = Judgment.of(
                prompt_id=completions[0].prompt_id,
                completion_ids=tuple(c.id for c in completions),
                judge=judge,
                order=order,
                scores=scores,
                repeat=repeat,
                rationale=rationale,
                error=error,
                usage=usage,
                metadata=metadata,
            )
            earlier = self._judgments.setdefault(made.id, made)
            if earlier is made:
                return made
            if earlier == made:
                self._repeats[file] += 1
                return None
            repeat += 1

    def gold(
        self, *completions: Completion, scores: tuple[float, ...], metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Keep the right label of completions; it may stand in several files, but must be the same in all of them."""
        made = Judgment.of(
            prompt_id=completions[0].prompt_id,
            completion_ids=tuple(c.id for c in completions),
            judge=GOLD,
            scores=scores,
            metadata=metadata,
        )
        if self._judgments.setdefault(made.id, made).scores != scores:
            raise BadRecord(f"the label of prompt '{completions[0].prompt_id}' differs from an earlier one")

    def loaded(self) -> Loaded:
        """Everything kept; raises UserError where that is nothing at all."""
        for file, count in self._repeats.items():
            self.warn(
                f"{file or self.root.name}: {count} judgments repeat an earlier one word for word; each is kept once"
            )
        if not self._prompts:
            reason = f": {self._warnings[0]}" if self._warnings else "; is it the right folder and format?"
            raise UserError(f"{self.root}: nothing could be read{reason}")
        return Loaded(
            prompts=tuple(self._prompts.values()),
            completions=tuple(self._completions.values()),
            judgments=tuple(self._judgments.values()),
            pairs=tuple(self._pairs.values()),
            warnings=tuple(_shorten(self._warnings)),
            sources=dict(self.sources),
        )


def _keep(table: dict[str, T], record: T) -> T:
    return table.setdefault(record.id, record)


def _shorten(warnings: list[str]) -> Iterator[str]:
    """At most a few warnings per file, then their count."""
    seen: Counter[str] = Counter()
    for warning in warnings:
        file = _file_of(warning)
        seen[file] += 1
        if seen[file] <= _WARNINGS_PER_FILE:
            yield warning
    for file, count in seen.items():
        if count > _WARNINGS_PER_FILE:
            yield f"{file}: {count - _WARNINGS_PER_FILE} more such warnings"


def _file_of(warning: str) -> str:
    return warning.partition(":")[0].partition(",")[0]
