"""The provider's batch API: half the price, hours of delay. Requests wait here until they fill a batch.

A ``BatchedModel`` stands between the door and an OpenAI model. It collects what the flow asks until nobody asks for more,
sends that as one batch, waits for it, and answers each request as if it had just been asked; whatever depends on answers
(a judge, after a generator) makes the next batch. The first request of each shape is asked directly, so that no batch is
written in a dialect that the endpoint does not speak.

Every batch has a folder (``state.json``, ``input.jsonl``, ``output.jsonl``) from before it is sent until its replies have
gone through the door, so that a killed process sends nothing twice: the next one waits for the same batch.

Source: platform.openai.com/docs/guides/batch (at most 50,000 requests and 200 MB a batch, done within 24 hours).

    model = BatchedModel(OpenAIModel("gpt-4.1-mini"), Path("store/batches"))
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from rlhf_eval.errors import ModelUnavailable, RequestFailed, UserError
from rlhf_eval.models.base import ChatRequest, Conversation, Reply
from rlhf_eval.models.prices import Price
from rlhf_eval.models.served.batch_api import FINAL, BatchApi, BatchStatus, Line
from rlhf_eval.records import Usage, fingerprint

PAUSE = 1.0
"""Seconds without a new request after which a batch is sent."""
POLLS = (1.0, 60.0)
"""Seconds between two looks at a batch, at first and at last."""
MOST_REQUESTS = 50_000
MOST_BYTES = 150_000_000
KEPT_DAYS = 30.0
"""Days after which replies that no run has asked for are deleted; providers keep them as long."""


@runtime_checkable
class Batchable(Protocol):
    """A model whose requests can be written down and whose replies can be read later."""

    name: str
    id: str

    def batch_api(self) -> BatchApi:
        """The endpoint's batch API."""
        ...

    def most_samples(self, request: ChatRequest) -> int:
        """Most samples of one request."""
        ...

    def write(self, request: ChatRequest) -> dict[str, Any]:
        """The body of ``request``."""
        ...

    def read(self, request: ChatRequest, status: int, body: bytes) -> Reply:
        """The reply in a response to ``request``; raises RequestFailed."""
        ...

    async def chat(self, request: ChatRequest) -> Reply:
        """Answer at once."""
        ...

    async def probe(self) -> None:
        """Return if the endpoint is there."""
        ...

    async def close(self) -> None:
        """Give back sockets."""
        ...


class _State(msgspec.Struct):
    """What must be known of a batch to go on with it."""

    token: str
    created: float
    batch: str = ""
    """The provider's id; empty until it has answered."""
    seconds: float = 0.0
    """From sending to the last reply."""


class _Waiting:
    """A request that waits for its batch."""

    __slots__ = ("body", "folder", "line")

    def __init__(self, body: bytes, folder: Path | None) -> None:
        self.line: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
        self.body, self.folder = body, folder


class BatchedModel:
    """A model that answers when its batch has."""

    def __init__(
        self,
        model: Batchable,
        folder: Path,
        *,
        price: Price | None = None,
        busy: Callable[[int], bool] = lambda count: False,
        say: Callable[[str], None] = lambda words: None,
    ) -> None:
        self.name = model.name
        self.id = model.id
        self._model = model
        self._api = model.batch_api()
        self._folder = folder / fingerprint(model.id)
        self._price = price
        self._busy = busy
        self._say = say
        self._lock: int | None = None
        self._start: asyncio.Task[None] | None = None
        self._shapes: dict[object, asyncio.Lock] = {}
        self._spoken: set[object] = set()
        self._waiting: dict[str, _Waiting] = {}
        self._unsent: dict[str, _Waiting] = {}
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._owed: dict[Path, set[str]] = {}
        """Requests of each batch whose replies the door has not had yet."""
        self._seconds: dict[Path, float] = {}
        """Of each batch, its time divided by its requests."""

    async def chat(self, request: ChatRequest) -> Reply:
        """Answer when the batch is done; raises RequestFailed for this request, ModelUnavailable for all of them."""
        if self._start is None:
            self._start = asyncio.ensure_future(self._resume())
        await asyncio.shield(self._start)
        key = fingerprint(request)
        if key not in self._waiting:
            shape = (
                request.n > 1,
                bool(request.top_logprobs),
                bool(request.choices),
                request.sampling.temperature == 0,
            )
            if shape not in self._spoken:
                async with self._shapes.setdefault(shape, asyncio.Lock()):
                    if shape not in self._spoken:
                        reply = await self._model.chat(request)
                        self._spoken.add(shape)
                        return reply
            self._collect(key, request)
        waiting = self._waiting[key]
        line = await asyncio.shield(waiting.line)
        self._waiting.pop(key, None)
        self._owed.get(waiting.folder or Path(), set()).discard(key)
        if line.status == 0:
            raise RequestFailed("server", line.body.decode("utf-8", "replace"))
        reply = self._model.read(self._fitted(request), line.status, line.body)
        return replace(reply, usage=self._priced(reply.usage, waiting.folder))

    @property
    def outstanding(self) -> int:
        """Requests that have been sent and not answered."""
        return len(self._waiting) - len(self._unsent)

    def most_samples(self, request: ChatRequest) -> int:
        """As many as the model gives."""
        return self._model.most_samples(request)

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """Not what this protocol does; raises UserError."""
        raise UserError(f"{self.name} writes text and scores nothing; for a reward model use hf:PATH or vllm:PATH")

    async def probe(self) -> None:
        """Make sure that the endpoint is there; raises ModelUnavailable."""
        await self._model.probe()

    async def close(self) -> None:
        """Stop waiting, and forget the batches whose every reply has been used; the others wait for the next run."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for folder, owed in self._owed.items():
            if not owed:
                shutil.rmtree(folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        await self._model.close()

    # Collecting -------------------------------------------------------------------------------------------------------

    def _collect(self, key: str, request: ChatRequest) -> None:
        body = self._model.write(self._fitted(request))
        line = {"custom_id": key, "method": "POST", "url": self._api.endpoint, "body": body}
        waiting = _Waiting(msgspec.json.encode(line) + b"\n", None)
        self._waiting[key] = self._unsent[key] = waiting
        self._bytes += len(waiting.body)
        if len(self._unsent) >= MOST_REQUESTS or self._bytes >= MOST_BYTES:
            self._send()
        else:
            self._wait_for_more()

    def _fitted(self, request: ChatRequest) -> ChatRequest:
        return replace(request, n=min(request.n, self._model.most_samples(request)))

    def _wait_for_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(PAUSE, self._send_if_idle)

    def _send_if_idle(self) -> None:
        if self._busy(len(self._unsent)):  # what a model beside this one is writing will be asked about here
            self._wait_for_more()
        elif self._unsent:
            self._send()

    def _send(self) -> None:
        requests, self._unsent, self._bytes = self._unsent, {}, 0
        self._spawn(self._one_batch(requests), requests)

    def _spawn(self, work: Any, requests: dict[str, _Waiting]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001  whoever waits must hear of it, whatever it is
                for key, waiting in requests.items():
                    self._waiting.pop(key, None)
                    if not waiting.line.done():
                        waiting.line.set_exception(error)

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Batches ----------------------------------------------------------------------------------------------------------

    async def _one_batch(self, requests: dict[str, _Waiting]) -> None:
        state = _State(token=os.urandom(8).hex(), created=time.time())
        folder = self._folder / state.token
        folder.mkdir(parents=True)
        content = b"".join(waiting.body for waiting in requests.values())
        _write(folder / "input.jsonl", content)
        _keep(folder, state)
        for waiting in requests.values():
            waiting.folder, waiting.body = folder, b""
        self._owed[folder] = set(requests)
        state.batch = await self._api.submit(content, state.token)
        _keep(folder, state)
        self._say(f"batch {state.batch}: {len(requests):,} requests sent to {self.name}; Ctrl-C leaves it running")
        await self._follow(folder, state, requests)

    async def _follow(self, folder: Path, state: _State, requests: dict[str, _Waiting]) -> None:
        """Wait for a batch and hand out its lines."""
        if not (folder / "output.jsonl").exists():
            status = await self._ended(state)
            if status.status == "failed":
                self._owed.pop(folder)
                shutil.rmtree(folder)
                raise ModelUnavailable(f"{self.name} refuses the batch {state.batch}: {status.words()}")
            lines = await self._api.results(status)
            state.seconds = time.time() - state.created
            _keep(folder, state)
            _write(folder / "output.jsonl", b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            if status.status == "cancelled" and len(lines) < len(requests):
                raise ModelUnavailable(
                    f"{self.name}: the batch {state.batch} was cancelled with {len(lines)} of {len(requests)} requests "
                    "done; run the same command again to send the rest"
                )
        self._hand_out(folder, state, requests)

    def _hand_out(self, folder: Path, state: _State, requests: dict[str, _Waiting]) -> None:
        content = (folder / "output.jsonl").read_bytes()
        found = {line.key: line for line in map(_LINES.decode, content.splitlines())}
        self._seconds[folder] = state.seconds / max(1, len(found))
        for key, waiting in requests.items():
            missing = Line(key, 0, f"the batch {state.batch} ended before this request was done".encode())
            if not waiting.line.done():
                waiting.line.set_result(found.get(key, missing))

    async def _ended(self, state: _State) -> BatchStatus:
        pause = POLLS[0]
        said = -1
        while True:
            status = await self._api.status(state.batch)
            if status.status in FINAL:
                return status
            if status.done != said and time.time() - state.created > 10:
                said = status.done
                self._say(f"batch {state.batch}: {status.status}, {status.done:,} of {status.total:,} done")
            await asyncio.sleep(pause)
            pause = min(POLLS[1], pause * 1.5)

    # Going on with what an earlier process sent -----------------------------------------------------------------------

    async def _resume(self) -> None:
        """Take up the batches that an earlier process left; raises UserError while another one is at work here."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process sends batches to {self.name} from this store; wait for it, or leave out --batch"
            ) from None
        for folder in sorted(path.parent for path in self._folder.glob("*/state.json")):
            state = msgspec.json.decode((folder / "state.json").read_bytes(), type=_State)
            if time.time() - state.created > KEPT_DAYS * 86_400:
                shutil.rmtree(folder)
                continue
            state.batch = state.batch or await self._api.find(state.token)
            if not state.batch:  # never sent: whoever still wants these requests will ask for them
                shutil.rmtree(folder)
                continue
            _keep(folder, state)
            self._take_up(folder, state)

    def _take_up(self, folder: Path, state: _State) -> None:
        keys = [_KEYS.decode(line).custom_id for line in (folder / "input.jsonl").read_bytes().splitlines()]
        requests = {key: _Waiting(b"", folder) for key in keys}
        self._waiting |= requests
        self._owed[folder] = set(requests)
        self._say(f"batch {state.batch}: {len(requests):,} requests were sent by an earlier run; waiting for them")
        self._spawn(self._follow(folder, state, requests), requests)

    def _priced(self, usage: Usage, folder: Path | None) -> Usage:
        cost = usage.cost or (self._price.batched().cost(usage) if self._price else 0.0)
        return replace(usage, cost=cost, seconds=self._seconds.get(folder or Path(), 0.0))


class _Key(msgspec.Struct):
    custom_id: str


_KEYS = msgspec.json.Decoder(_Key)
_LINES = msgspec.json.Decoder(Line)


def _keep(folder: Path, state: _State) -> None:
    _write(folder / "state.json", msgspec.json.encode(state))


def _write(path: Path, content: bytes) -> None:
    """Write beside, then move: no reader sees half of it, and no power cut leaves half."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
