"""Copies of a model on a Ray cluster, behind one name: ``ray:SPEC?replicas=4``, such as ``ray:vllm:PATH?replicas=4``.

The flow stays in one process. Each copy is an actor that opens SPEC where Ray finds room, on GPUs of its own, and a request
goes to the copy with the fewest in flight. One that dies is started again; what it had in hand is asked elsewhere. Options
of the inner model are its own (``ray:vllm:PATH?replicas=2&tensor_parallel_size=4``), and so is its identity: what one copy
has answered, the model without ``ray:`` finds in the cache. A flow that is too much for one process is spread by
``--engine ray`` instead.

Source: docs.ray.io, "AsyncIO / Concurrency for Actors" and "Actor fault tolerance".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rlhf_eval import errors
from rlhf_eval.errors import RequestFailed, RlhfEvalError, UserError
from rlhf_eval.models.base import ChatRequest, Conversation, Model, Reply, reads
from rlhf_eval.models.cluster import Lease, join, library
from rlhf_eval.models.pool import Pool

T = TypeVar("T")

AT_ONCE = 1000
"""Requests that a copy takes at once; the door says how many there are."""
RESTARTS = 4
"""Deaths after which a copy stays dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of ``ray:`` itself."""

    replicas: int = 0
    """Copies of the model; 0 takes as many as the cluster's GPUs hold, one where it has none."""
    gpus: float = 0.0
    """GPUs of a copy; 0 takes what the model needs: its tensor_parallel_size, or one; none on a CPU."""
    address: str = ""
    """Of the cluster: ``auto`` for the one that this machine belongs to; empty starts one here."""

    def __post_init__(self) -> None:
        if min(self.replicas, self.gpus) < 0:
            raise ValueError("replicas and gpus must be at least 0")


@dataclass(frozen=True, slots=True)
class Failed:
    """An error of ours on its way out of a copy: Ray would wrap what is raised, and pickling lose its fields."""

    error: str
    words: str
    kind: str = ""
    retry_after: float | None = None

    @classmethod
    def of(cls, error: RlhfEvalError) -> Failed:
        """The error as a value."""
        kind, retry_after = getattr(error, "kind", ""), getattr(error, "retry_after", None)
        return cls(type(error).__name__, str(error).removeprefix(f"{kind}: "), kind, retry_after)

    def again(self) -> RlhfEvalError:
        """The value as an error."""
        if self.kind:
            return RequestFailed(self.kind, self.words, retry_after=self.retry_after)
        error: RlhfEvalError = getattr(errors, self.error)(self.words)
        return error


class Copy:
    """The actor: a model in a process of its own, opened when it is first asked for anything."""

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._opening: asyncio.Future[Model] | None = None

    async def identity(self) -> str | Failed:
        """The model's id."""

        async def read(model: Model) -> str:
            return model.id

        return await self._with(read)

    async def chat(self, request: ChatRequest) -> Reply | Failed:
        """The model's."""
        return await self._with(lambda model: model.chat(request))

    async def score(self, conversations: Sequence[Conversation]) -> list[float] | Failed:
        """The model's."""
        return await self._with(lambda model: model.score(conversations))

    async def logprobs(self, conversations: Sequence[Conversation]) -> list[float] | Failed:
        """The model's."""
        return await self._with(lambda model: reads(model).logprobs(conversations))

    async def _with(self, ask: Callable[[Model], Awaitable[T]]) -> T | Failed:
        from rlhf_eval.models import open_model

        if self._opening is None:
            self._opening = asyncio.ensure_future(asyncio.to_thread(open_model, self._spec))
        try:
            return await ask(await asyncio.shield(self._opening))
        except RlhfEvalError as error:
            return Failed.of(error)


class Remote:
    """A copy as this process sees it."""

    def __init__(self, actor: Any, *, name: str, identity: str) -> None:
        self.name, self.id = name, identity
        self._actor = actor

    async def chat(self, request: ChatRequest) -> Reply:
        """Answer; raises like the model, and RequestFailed ``connection`` where the copy has died."""
        reply: Reply = await self._end(self._actor.chat.remote(request))
        return reply

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """One reward a conversation; raises like ``chat``."""
        numbers: list[float] = await self._end(self._actor.score.remote(conversations))
        return numbers

    async def logprobs(self, conversations: Sequence[Conversation]) -> list[float]:
        """The log-probability of each last turn; raises like ``chat``."""
        numbers: list[float] = await self._end(self._actor.logprobs.remote(conversations))
        return numbers

    async def close(self) -> None:
        """End the copy's process."""
        library(self.name).kill(self._actor)

    async def _end(self, reference: Any) -> Any:
        from ray.exceptions import RayActorError

        try:
            end = await reference
        except RayActorError as error:
            raise RequestFailed(
                "connection", f"a copy of {self.name} has died: {str(error).splitlines()[0]}"
            ) from error
        if isinstance(end, Failed):
            raise end.again()
        return end


class Copies(Pool):
    """All copies as one model."""

    def __init__(self, copies: Sequence[Remote], *, name: str, identity: str, lease: Lease) -> None:
        super().__init__(copies, name=name, identity=identity)
        self._lease = lease

    async def logprobs(self, conversations: Sequence[Conversation]) -> list[float]:
        """The log-probability of each last turn, at the least busy copy; raises like the model."""
        async with self._replica() as copy:
            return await reads(copy).logprobs(conversations)

    async def close(self) -> None:
        """End every copy, and with the last model the cluster that was started for it."""
        await super().close()
        self._lease.end()


def open_copies(inner: str, *, name: str, tensor_parallel: int, on_gpu: bool, config: Config) -> Copies:
    """Start the copies and open the model in each; raises UserError where there is no room, or what the model raises."""
    ray = library(name)
    lease = join(ray, config.address)
    try:
        has = ray.cluster_resources().get("GPU", 0.0) if on_gpu or config.gpus else 0.0
        gpus = (config.gpus or float(tensor_parallel)) if has or config.gpus else 0.0
        room = int(has // gpus) if gpus else 0
        count = config.replicas or room or 1
        if gpus and count > room:
            raise UserError(f"{name}: {count} copies of {gpus:g} GPUs each; the cluster has {has:g} GPUs")
        wanted: dict[str, Any] = {"max_concurrency": AT_ONCE, "max_restarts": RESTARTS, "scheduling_strategy": "SPREAD"}
        if gpus:
            wanted["num_gpus"] = gpus
        actors = [ray.remote(Copy).options(**wanted).remote(inner) for _ in range(count)]
        for identity in ray.get([actor.identity.remote() for actor in actors]):
            if isinstance(identity, Failed):
                raise identity.again()
    except BaseException:
        lease.end()
        raise
    copies = [Remote(actor, name=name, identity=identity) for actor in actors]
    return Copies(copies, name=name, identity=identity, lease=lease)
