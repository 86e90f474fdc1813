"""The nouns: prompts, completions, judgments, preference pairs, estimates, runs.

Every record is frozen, and its id is the hash of what produced it: the same work has the same id, so resuming is a set
difference and lineage costs nothing.

    from rlhf_eval.records import Prompt
    Prompt.of("Name three primes.").id
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self, TypeVar

import msgspec

from rlhf_eval.errors import BadRecord, nearest

SCHEMA = 1
"""Version of the records on disk; a store written by a newer one is refused, never guessed at."""

Role = Literal["system", "user", "assistant", "tool"]
Status = Literal["running", "done", "failed", "interrupted", "stopped"]


def fingerprint(*parts: Any) -> str:
    """20 hexadecimal digits (80 bits) that depend on every byte of ``parts`` and on nothing else."""
    encoded = msgspec.json.encode(parts, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=10).hexdigest()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a completion is drawn; part of its identity and of the cache key."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise BadRecord(f"temperature is {self.temperature}; it must be a number of at least 0")
        if not 0 < self.top_p <= 1:
            raise BadRecord(f"top_p is {self.top_p}; it must lie in (0, 1]")
        if self.max_tokens < 1:
            raise BadRecord(f"max_tokens is {self.max_tokens}; it must be at least 1")
        # 0 and 0.0 are the same sampling and must have the same hash.
        object.__setattr__(self, "temperature", float(self.temperature))
        object.__setattr__(self, "top_p", float(self.top_p))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a call used: tokens, US dollars, seconds of the server's time."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    cached_tokens: int = 0
    """Of the prompt tokens, those that the provider had in its own cache and charges less for."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost=self.cost + other.cost,
            seconds=self.seconds + other.seconds,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens - other.prompt_tokens,
            completion_tokens=self.completion_tokens - other.completion_tokens,
            cost=self.cost - other.cost,
            seconds=self.seconds - other.seconds,
            cached_tokens=self.cached_tokens - other.cached_tokens,
        )


NOTHING = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A conversation that awaits an answer, with what is known about a good one."""

    id: str
    messages: tuple[Message, ...]
    reference: str | None = None
    """A correct answer, where there is one."""
    category: str = ""
    source: str = ""
    """Where it came from: ``sandbox:heldout``, ``alpaca_eval``, ``questions.jsonl``."""
    key: str = ""
    """The author's own id of this prompt, kept so that two prompts of the same words can stay two."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.messages:
            raise BadRecord("a prompt needs at least one message")
        if not any(m.content.strip() for m in self.messages if m.role == "user"):
            raise BadRecord("the prompt is empty: no user message has any text")

    @classmethod
    def of(
        cls,
        messages: str | Iterable[Message],
        *,
        reference: str | None = None,
        category: str = "",
        source: str = "",
        key: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a prompt from text or messages; category and source are labels and do not enter its id."""
        turns = (Message("user", messages),) if isinstance(messages, str) else tuple(messages)
        known = metadata or {}
        identity = fingerprint("prompt", turns, reference, key, known)
        return cls(
            id=identity,
            messages=turns,
            reference=reference,
            category=category,
            source=source,
            key=key,
            metadata=known,
        )

    @property
    def text(self) -> str:
        """The last user message: what a reader calls the question."""
        return next(m.content for m in reversed(self.messages) if m.role == "user")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer of one model, or the recorded failure to get it (``error`` set, ``text`` empty)."""

    id: str
    prompt_id: str
    model: str
    text: str
    sample: int = 0
    sampling: Sampling = Sampling()
    generator: str = "sample"
    finish_reason: str = ""
    error: str | None = None
    usage: Usage = NOTHING
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        prompt_id: str,
        model: str,
        text: str,
        sample: int = 0,
        sampling: Sampling | None = None,
        generator: str = "sample",
        origin: Any = None,
        finish_reason: str = "",
        error: str | None = None,
        usage: Usage | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a completion; ``origin`` is whatever else tells it apart (a model's revision, an imported text)."""
        drawn = sampling or Sampling()
        return cls(
            id=fingerprint("completion", prompt_id, model, sample, drawn, generator, origin),
            prompt_id=prompt_id,
            model=model,
            text=text,
            sample=sample,
            sampling=drawn,
            generator=generator,
            finish_reason=finish_reason,
            error=error,
            usage=usage or NOTHING,
            metadata=metadata or {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """One verdict of one judge over one or more completions of a prompt.

    ``scores`` is aligned with ``completion_ids``: one score is a grade, two a comparison (shares that sum to one; a tie is
    ``(.5, .5)``), more a ranking. ``order`` lists the completions as they were shown: ``(1, 0)`` means that the second of
    ``completion_ids`` stood first. A failure has ``error`` and no scores: never NaN, never a default, never 0.
    """

    id: str
    prompt_id: str
    completion_ids: tuple[str, ...]
    judge: str
    order: tuple[int, ...]
    scores: tuple[float, ...] = ()
    repeat: int = 0
    rationale: str = ""
    error: str | None = None
    usage: Usage = NOTHING
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.completion_ids))):
            raise BadRecord(f"order {self.order} is no permutation of the {len(self.completion_ids)} completions")
        if self.error is None and len(self.scores) != len(self.completion_ids):
            raise BadRecord(f"{len(self.scores)} scores for {len(self.completion_ids)} completions")
        if self.error is not None and self.scores:
            raise BadRecord("a failed judgment carries no scores")
        if not all(math.isfinite(score) for score in self.scores):
            raise BadRecord(f"scores {self.scores} are not all finite; record a failure instead")

    @staticmethod
    def id_of(
        *, prompt_id: str, completion_ids: tuple[str, ...], judge: str, order: tuple[int, ...], repeat: int = 0
    ) -> str:
        """The id that a judgment will have, known before it is bought."""
        return fingerprint("judgment", prompt_id, completion_ids, judge, order, repeat)

    @classmethod
    def of(
        cls,
        *,
        prompt_id: str,
        completion_ids: tuple[str, ...],
        judge: str,
        order: tuple[int, ...] | None = None,
        scores: tuple[float, ...] = (),
        repeat: int = 0,
        rationale: str = "",
        error: str | None = None,
        usage: Usage | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a judgment; without ``order`` the completions were shown as listed."""
        shown = tuple(range(len(completion_ids))) if order is None else order
        identity = cls.id_of(
            prompt_id=prompt_id, completion_ids=completion_ids, judge=judge, order=shown, repeat=repeat
        )
        return cls(
            id=identity,
            prompt_id=prompt_id,
            completion_ids=completion_ids,
            judge=judge,
            order=shown,
            scores=scores,
            repeat=repeat,
            rationale=rationale,
            error=error,
            usage=usage or NOTHING,
            metadata=metadata or {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge answers about the completions it was shown, in the order shown; the stage makes a Judgment of it."""

    scores: tuple[float, ...] = ()
    rationale: str = ""
    """The judge's own words, whole: re-reading them later costs nothing."""
    error: str | None = None
    """Why there are no scores: ``unparsed: ...``. Recorded and counted, never scored."""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """A chosen and a rejected answer with the strength of the preference; its rows load into TRL as they are."""

    id: str
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    probability: float
    """The labeler's probability that ``chosen`` is the better one, over .5 and up to 1."""
    margin: float
    """Difference of the two scores, in the judge's own units; 0 where there are none."""
    labeler: str
    rule: str
    prompt_id: str
    chosen_id: str
    rejected_id: str
    judgment_ids: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.chosen == self.rejected:
            raise BadRecord(f"chosen equals rejected for prompt {self.prompt_id}: a tie makes no pair")
        if not 0.5 <= self.probability <= 1:
            raise BadRecord(f"probability is {self.probability}; a pair's chosen side has at least .5")
        if not math.isfinite(self.margin):
            raise BadRecord(f"margin is {self.margin}; it is a difference of two scores, or 0 where nobody gave any")

    @classmethod
    def of(
        cls,
        *,
        prompt: Prompt,
        chosen: Completion,
        rejected: Completion,
        probability: float,
        margin: float,
        labeler: str,
        rule: str,
        judgment_ids: tuple[str, ...] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Pair two completions of one prompt."""
        return cls(
            id=fingerprint("pair", prompt.id, chosen.id, rejected.id, labeler, rule),
            prompt=prompt.messages,
            chosen=(Message("assistant", chosen.text),),
            rejected=(Message("assistant", rejected.text),),
            probability=probability,
            margin=margin,
            labeler=labeler,
            rule=rule,
            prompt_id=prompt.id,
            chosen_id=chosen.id,
            rejected_id=rejected.id,
            judgment_ids=judgment_ids,
            metadata=metadata or {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """One accepted answer for supervised fine-tuning: what rejection sampling keeps."""

    id: str
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    score: float
    labeler: str
    rule: str
    prompt_id: str
    completion_id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, *, prompt: Prompt, completion: Completion, score: float, labeler: str, rule: str) -> Self:
        """Keep ``completion`` as an answer worth imitating."""
        return cls(
            id=fingerprint("demonstration", prompt.id, completion.id, labeler, rule),
            prompt=prompt.messages,
            completion=(Message("assistant", completion.text),),
            score=score,
            labeler=labeler,
            rule=rule,
            prompt_id=prompt.id,
            completion_id=completion.id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval: the only way a number leaves the program."""

    name: str
    value: float
    low: float
    high: float
    n: int
    """Independent units behind it (prompts)."""
    failed: int = 0
    """Units that were meant to count and could not."""
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise BadRecord(f"{self.name}: {self.value} lies outside its interval [{self.low}, {self.high}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the work on one prompt ended: done, failed and skipped prompts sum to the size of the run.

    A prompt that failed and was tried again later has both outcomes; ``done`` outranks ``failed``.
    """

    id: str
    prompt_id: str
    verb: str
    status: Literal["done", "failed", "skipped"]
    reason: str = ""
    """The server's words, or the rule that set the prompt aside; empty when done."""
    records: int = 0
    """How many records the prompt yielded."""

    @classmethod
    def of(
        cls,
        prompt_id: str,
        verb: str,
        status: Literal["done", "failed", "skipped"],
        *,
        reason: str = "",
        records: int = 0,
    ) -> Self:
        """The end of one prompt's work."""
        identity = fingerprint("outcome", verb, prompt_id, status, reason)
        return cls(id=identity, prompt_id=prompt_id, verb=verb, status=status, reason=reason, records=records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run was expected to use, worked out before its first request; costs are in US dollars."""

    requests: int = 0
    tokens: int = 0
    """Completion tokens."""
    tokens_low: int = 0
    tokens_high: int = 0
    cost: float | None = None
    """None where a model has no known price; then the bounds are None too."""
    cost_low: float | None = None
    cost_high: float | None = None
    seconds: float | None = None
    """None where a model has never answered in this store."""
    replies: int = 0
    """Earlier replies of its models that lengths and times are learned from; 0: lengths are a guess between one token and
    the longest allowed."""
    steps: int = 0
    """Of a training: its optimizer steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a verb: written first as ``running``, last as ``done``."""

    id: str
    verb: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    """What it read: role to run id or content hash."""
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    usage: Usage = NOTHING
    status: Status = "running"
    counts: Mapping[str, int] = field(default_factory=dict)
    message: str = ""
    started: str = ""
    updated: str = ""
    forecast: Forecast | None = None
    """None where the work was too small to forecast, or asks no model."""
    schema: int = SCHEMA

    @property
    def title(self) -> str:
        """What a reader calls the run: verb and plugin, when it began (UTC), and the digits that name it."""
        told = self.config.get(_TOLD.get(self.verb, ""), "")
        plugin = ", ".join(map(str, told)) if isinstance(told, list | tuple) else str(told).partition("#")[0]
        stamp, digits = self.id.partition("-")[0], self.id[-8:]
        try:
            when = datetime.strptime(stamp, "%Y%m%dT%H%M%S").strftime("%d %b %H:%M")
        except ValueError:
            when = stamp
        return f"{self.verb} {plugin[:40]}".strip() + f", {when}, {digits}"


_TOLD = {
    "load": "source", "generate": "names", "judge": "judge", "audit": "judge", "pairs": "rule", "train": "trainer",
    "evaluate": "benchmark", "lab": "study", "corrupt": "kind",
}  # fmt: skip
"""Verb to the setting that tells its runs apart best."""

Record = Prompt | Completion | Judgment | PreferencePair | Demonstration | Estimate | Outcome
R = TypeVar("R")

TABLES: Mapping[str, type[Record]] = {
    "prompts": Prompt,
    "completions": Completion,
    "judgments": Judgment,
    "pairs": PreferencePair,
    "demonstrations": Demonstration,
    "estimates": Estimate,
    "outcomes": Outcome,
}
"""Table name to record type, as they lie in a store."""


def to_row(record: Any) -> dict[str, Any]:
    """The record as plain JSON values."""
    row: dict[str, Any] = msgspec.to_builtins(record)
    return row


def from_row(kind: type[R], row: Any) -> R:
    """The record that ``row`` describes.

    Raises BadRecord naming the field that is missing, unknown or of the wrong type.
    """
    if not isinstance(row, Mapping):
        raise BadRecord(f"a {kind.__name__} is a JSON object, not {type(row).__name__}")
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    for name in row:
        if name not in known:
            raise BadRecord(f"{kind.__name__} has no field '{name}'.{nearest(name, known)}")
    try:
        return msgspec.convert(dict(row), kind)
    except msgspec.ValidationError as error:
        raise BadRecord(f"{kind.__name__}: {error}") from error


def to_json(record: Any) -> bytes:
    """One line of JSON, without the newline."""
    return msgspec.json.encode(record)


def from_json(kind: type[R], line: bytes | str) -> R:
    """The record in one line of JSON; raises BadRecord saying where it breaks."""
    try:
        row = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise BadRecord(f"not valid JSON: {error}") from error
    return from_row(kind, row)
