"""What every verb works with: the store, the open doors, the seed and the limits of one command."""

from __future__ import annotations

import math
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rlhf_eval import registry
from rlhf_eval.config import SEEDS, build
from rlhf_eval.errors import ModelUnavailable, UserError, nearest
from rlhf_eval.models import open_model, parse
from rlhf_eval.models.base import ChatRequest, Conversation, Model, Reply, Served
from rlhf_eval.models.door import Cache, Door
from rlhf_eval.models.limits import Budget, Limiter, Limits
from rlhf_eval.models.prices import Prices
from rlhf_eval.models.rehearsal import ReadOnly, Rehearsal
from rlhf_eval.records import TABLES, Completion, Judgment, Prompt, R, Record, Run, Status, Usage, fingerprint
from rlhf_eval.store.cache import ResponseCache
from rlhf_eval.store.runs import Store
from rlhf_eval.store.tables import id_of
from rlhf_eval.store.writer import RunWriter
from rlhf_eval.verbs.trained import door_spec

if TYPE_CHECKING:
    from rlhf_eval.models.served.batch import BatchedModel

S = TypeVar("S")

BATCH_WIDTH = 10_000
"""Prompts worked on at once, and so the size of a batch, where requests go through batch APIs."""
FEW = 0.1
"""Share of the requests that other models have outstanding below which a batch waits for more."""
UNASKED = Path("rlhf-eval-store")
"""The store of whoever names none."""
LEAST: Mapping[str, int] = {
    "limit": 1, "concurrency": 1, "rpm": 0, "tpm": 0, "max_cost": 0, "max_tokens": 0, "max_errors": 0,
}  # fmt: skip
"""Flag to its smallest value."""
VERSIONED = ("rlhf-eval", "torch", "transformers", "vllm", "openai", "numpy", "scipy")


class PartDone(Exception):
    """A worker has done its part of a run; how the run ends is for the command to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where ``--engine ray`` works."""

    address: str = ""
    """Of the cluster: ``auto`` for the one that this machine belongs to; empty starts one here."""
    workers: int | None = None
    """Copies of the flow; None takes one a CPU, or one a group of GPUs."""
    tensor_parallel: int = 1
    """GPUs that one worker's model is spread over."""

    def __post_init__(self) -> None:
        for flag, value in (("--workers", self.workers), ("--tensor-parallel", self.tensor_parallel)):
            if value is not None and value < 1:
                raise UserError(f"{flag} is {value}; it must be at least 1")


@dataclass(slots=True)
class Absent:
    """A model that has answered elsewhere: its name and identity, and nothing to ask."""

    name: str
    id: str

    async def chat(self, request: ChatRequest) -> Reply:
        """Raises ModelUnavailable."""
        raise ModelUnavailable(
            f"{self.name} is at the workers, and they have left requests open; run the command again"
        )

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """Raises ModelUnavailable."""
        raise ModelUnavailable(f"{self.name} is at the workers, and they have left scores open; run the command again")

    async def logprobs(self, conversations: Sequence[Conversation]) -> list[float]:
        """Raises ModelUnavailable."""
        return await self.score(conversations)

    async def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The flags that every verb shares."""

    store: Path = UNASKED
    seed: int = 0
    limit: int | None = None
    fresh: bool = False
    retry_failed: bool = False
    dry_run: bool = False
    quiet: bool = False
    use_cache: bool = True
    concurrency: int = 64
    rpm: float = 0.0
    tpm: float = 0.0
    max_cost: float | None = None
    max_tokens: int | None = None
    max_errors: int | None = None
    prices: Path | None = None
    cluster: Cluster | None = None
    """The Ray cluster that does the work; None does it here."""
    part: tuple[int, int] | None = None
    """Of a worker: (k, P) works on the prompts k, k + P, k + 2 P, ... and leaves the end of the run to others."""
    cache: Path | None = None
    """Where replies are cached; None takes the store's own place."""
    batch: bool = False
    """Send requests through the providers' batch APIs, where there is one."""
    typed: str = ""
    """The command line, which a run keeps beside the versions: typed again, it resumes the run."""

    def __post_init__(self) -> None:
        if self.seed not in SEEDS:
            raise UserError(f"--seed is {self.seed}; it must be a whole number from 0 to {SEEDS[-1]}")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise UserError(f"--{name.replace('_', '-')} is {value}; it must be a number of at least {least}")

    @property
    def store_flag(self) -> str:
        """`` --store DIR`` as a shell reads it, for the next command to type; empty for the store that is used unasked."""
        return "" if self.store == UNASKED else f" --store {shlex.quote(str(self.store))}"


@dataclass(slots=True)
class ScratchRun:
    """What a dry run writes into: knows what an earlier run holds, and keeps nothing."""

    run: Run
    store: Store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def ids(self, table: str) -> set[str]:
        """Ids that the earlier run has stored."""
        return {id_of(record) for record in self.store.read(TABLES[table], run=self.run.id)} if self.run.id else set()

    def append(self, table: str, record: Record) -> None:
        """Keep nothing."""

    def heartbeat(self, counts: Mapping[str, int], usage: Usage) -> None:
        """Report nothing."""

    def finish(self, status: Status, counts: Mapping[str, int], usage: Usage, message: str = "") -> Run:
        """Seal nothing."""
        return self.run


@dataclass
class Session:
    """One command's view of the world; doors open when first asked for and close with the session."""

    options: Options
    doors: dict[str, Door] = field(default_factory=dict)
    limiters: dict[str, Limiter] = field(default_factory=dict)
    """One an address: the models of one server share what it takes at once."""
    rehearsals: dict[str, Rehearsal] = field(default_factory=dict)
    """In a dry run, what stands in for each model."""
    batched: list[BatchedModel] = field(default_factory=list)
    """With ``--batch``, the models behind batch APIs."""
    absent: dict[str, Absent] = field(default_factory=dict)
    """With ``--engine ray``, the models that the workers had; what failed there is not tried again here."""

    @cached_property
    def store(self) -> Store:
        """The store on disk."""
        return Store(self.options.store)

    @cached_property
    def budget(self) -> Budget:
        """What this command may spend, over all its doors; a dry run spends nothing."""
        if self.options.dry_run:
            return Budget()
        return Budget(self.options.max_cost, self.options.max_tokens)

    @cached_property
    def cache(self) -> ResponseCache | None:
        """Replies that were paid for, shared by all runs of the store."""
        return ResponseCache(self.options.cache or self.store.cache_path) if self.options.use_cache else None

    @cached_property
    def prices(self) -> Prices:
        """What tokens cost: the user's list before the built-in one."""
        return Prices.load(self.options.prices)

    def door(self, spec: str) -> Door:
        """The door to a model, opened once; raises UserError where the spec or the model is wrong."""
        if spec not in self.doors:
            opened = door_spec(self.store, spec)
            model: Model = self.absent[spec] if spec in self.absent else open_model(opened)
            cache: Cache | None = self.cache
            limits = Limits(concurrency=self.options.concurrency, rpm=self.options.rpm, tpm=self.options.tpm)
            prices = self.prices
            if self.options.max_cost is not None and parse(opened).scheme == "openai":
                prices.must_know(model.id, self.options.prices)
            batched = self._batched(model, prices) if self.options.batch else None
            if self.options.dry_run:
                self.rehearsals[spec] = model = Rehearsal(model)
                limits = Limits(concurrency=self.options.concurrency)
                cache = ReadOnly(cache) if cache is not None else None
                prices = prices.batched() if batched else prices
            elif batched:
                model, limits = batched, Limits(concurrency=BATCH_WIDTH, retries=2)
            shared = self.limiters.setdefault(model.base_url, Limiter(limits)) if isinstance(model, Served) else None
            self.doors[spec] = Door(
                model,
                cache=cache,
                limits=limits,
                limiter=shared,
                budget=self.budget,
                prices=prices,
                seed=self.options.seed,
            )
        return self.doors[spec]

    @property
    def width(self) -> int:
        """Prompts to work on at once: enough that the last ones have been begun long before the slots run empty."""
        return BATCH_WIDTH if self.options.batch else 4 * self.options.concurrency

    def say(self, words: str) -> None:
        """One line for whoever waits, beside the results."""
        if not self.options.quiet:
            sys.stderr.write(f"{words}\n")

    def _batched(self, model: Model, prices: Prices) -> Model | None:
        """The model behind its provider's batch API; None where it has none."""
        from rlhf_eval.models.served.batch import Batchable, BatchedModel

        if not isinstance(model, Batchable):
            self.say(f"{model.name} has no batch API: it is asked as without --batch")
            return None

        def busy(count: int) -> bool:
            """Whether ``count`` requests had better wait for those that the models beside this one will cause."""
            online = (door for door in self.doors.values() if door.limits.concurrency != BATCH_WIDTH)
            outstanding = sum(other.outstanding for other in self.batched if other is not batched)
            return any(door.limiter.in_flight for door in online) or count < FEW * outstanding

        place = self.options.store / "batches"
        batched = BatchedModel(model, place, price=prices.of(model.id), busy=busy, say=self.say)
        self.batched.append(batched)
        return batched

    async def close(self) -> None:
        """Close every door, and the cache if it was opened."""
        for door in self.doors.values():
            await door.close()
        cache = self.__dict__.get("cache")
        if cache is not None:
            cache.close()

    def begin(
        self,
        verb: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        *,
        free: bool = False,
        alone: bool = False,
    ) -> RunWriter | ScratchRun:
        """Open the run of this work: the one that was interrupted, or a new one.

        In a dry run it keeps nothing, unless the work is ``free``: what costs nothing is done, for what follows to see.
        What two processes cannot share is done ``alone``.
        """
        settings = {**config, "limit": self.options.limit} if self.options.limit is not None else dict(config)
        if self.options.dry_run and not free:
            known = self.store.same_work(verb, settings, inputs=inputs, seed=self.options.seed)
            known = None if self.options.fresh else known
            return ScratchRun(known or Run(id="", verb=verb, config=settings), self.store)
        return self.store.begin(
            verb,
            settings,
            inputs=dict(inputs),
            seed=self.options.seed,
            versions={**versions(), **({"command": self.options.typed} if self.options.typed else {})},
            fresh=self.options.fresh,
            reopen=self.options.retry_failed,
            alone=alone,
        )

    def read(self, kind: type[R], run: Run) -> list[R]:
        """The records of a run; none where it was only rehearsed."""
        return list(self.records(kind, run))

    def records(self, kind: type[R], run: Run) -> Iterator[R]:
        """The same, a batch in memory at a time."""
        return self.store.records(kind, run=run.id) if run.id else iter(())

    def reads(self, role: str, run: Run, kind: type[Completion | Judgment]) -> dict[str, str]:
        """What a verb reads, for the identity of its run; a run that may still grow is known by what it holds now."""
        if run.status == "done" and not run.counts.get("failed"):
            return {role: run.id}
        return {role: run.id, f"{role}_held": fingerprint(sorted(record.id for record in self.read(kind, run)))}

    def usage(self) -> Usage:
        """What all doors have used so far."""
        total = Usage()
        for door in self.doors.values():
            total = total + door.traffic.usage
        return total

    def find(self, ref: str, *, verbs: Sequence[str], loaded: str = "") -> Run:
        """The run that ``ref`` names; ``latest`` is the newest run of one of ``verbs`` that holds anything.

        So it is with ``latest:<verb>``: a command that failed over a mistake stands in nobody's way. Of runs of ``load``,
        which may hold anything at all, those come first that hold ``loaded``.
        """
        known, _, verb = ref.removeprefix("run:").partition(":")
        if known == "latest" and verb:
            held = [run for run in self.store.runs(verb) if _holds_something(run)]
            return held[-1] if held else self.store.find(ref)
        if ref != "latest":
            return self.store.find(ref)
        found = [run for run in self.store.runs() if run.verb in verbs and _holds_something(run)]
        found = [run for run in found if run.verb != "load" or not loaded or run.counts.get(loaded)] or found
        if not found:
            raise UserError(
                f"the store {self.options.store} has no {' or '.join(verbs)} run yet; run 'rlhf-eval {verbs[0]}' first"
            )
        return found[-1]

    def lineage(self, run: Run) -> list[str]:
        """The run and everything that it was made from, itself first."""
        known = {r.id: r for r in self.store.runs()}
        order: list[str] = []
        waiting = [run.id]
        while waiting:
            identity = waiting.pop(0)
            if identity in order or identity not in known:
                continue
            order.append(identity)
            waiting.extend(known[identity].inputs.values())
        return order

    def prompts(self, run: Run) -> list[Prompt]:
        """The prompts that a run worked on, its own or those of the runs it was made from."""
        prompts = self.store.read(Prompt, run=self.lineage(run))
        if not prompts:
            raise UserError(f"run {run.id} holds no prompts, and neither do the runs that it was made from")
        return limited(prompts, self.options.limit)


def _holds_something(run: Run) -> bool:
    return any(count for name, count in run.counts.items() if name not in ("total", "failed"))


def limited(items: list[S], limit: int | None) -> list[S]:
    """The first ``limit`` items; all of them without a limit."""
    return items if limit is None else items[:limit]


def split_settings(
    table: Mapping[str, Any], verb: str, settings: type[S], plugin_key: str, kind: str
) -> tuple[S, ModuleType, Any]:
    """A verb's table as its settings, its plugin and the plugin's config: whatever the verb does not know is the plugin's.

    Raises UserError on a key that neither knows, naming the nearest of both.
    """
    own = {f.name: f for f in fields(settings)}  # type: ignore[arg-type]
    name = table.get(plugin_key, own[plugin_key].default)
    plugin = registry.load(kind, str(name))
    theirs = [f.name for f in fields(plugin.Config)]
    for key in table:
        if key not in own and key not in theirs:
            raise UserError(f"{verb} with {plugin_key} '{name}' has no setting '{key}'.{nearest(key, [*own, *theirs])}")
    mine = {key: value for key, value in table.items() if key in own}
    rest = {key: value for key, value in table.items() if key not in own}
    return build(settings, mine, where=verb), plugin, build(plugin.Config, rest, where=f"{plugin_key} {name}")


@cache
def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def flat(groups: Iterable[Iterable[S]]) -> list[S]:
    """The items of all groups, in order."""
    return [item for group in groups for item in group]
