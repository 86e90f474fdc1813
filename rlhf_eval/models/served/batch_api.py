"""The four calls of the OpenAI batch protocol: upload a file, create a batch, look at it, download what it has.

Whatever may pass (no connection, 429, 5xx) is tried again for a while; what cannot pass is ModelUnavailable in the
provider's words. A batch carries a token of ours in its metadata, by which ``find`` knows it again when its id was lost.

Source: platform.openai.com/docs/api-reference/batch.

    api = BatchApi(client, "/v1/chat/completions", name="openai:gpt-4.1-mini", scrub=str)
    batch = await api.submit(lines, token); status = await api.status(batch); lines = await api.results(status)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import openai

from rlhf_eval.errors import ModelUnavailable
from rlhf_eval.models.served.http import http
from rlhf_eval.models.served.replies import server_words

T = TypeVar("T")

FINAL = frozenset({"completed", "failed", "expired", "cancelled"})
TOKEN = "rlhf_eval_token"
"""Name of our token in a batch's metadata."""
TRIES = 8
PAGES = 10
"""Pages of a hundred batches that ``find`` looks through, the newest first."""


class Line(msgspec.Struct, frozen=True):
    """One request's end; status 0 is a request that the batch never came to, with the reason as its body."""

    key: str
    status: int
    body: bytes


class _Counts(msgspec.Struct):
    total: int = 0
    completed: int = 0
    failed: int = 0


class _Error(msgspec.Struct):
    message: str | None = None
    code: str | None = None
    line: int | None = None


class _Errors(msgspec.Struct):
    data: list[_Error] | None = None


class BatchStatus(msgspec.Struct):
    """A batch as the provider describes it."""

    id: str
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: _Counts | None = None
    errors: _Errors | None = None
    metadata: dict[str, str] | None = None

    @property
    def done(self) -> int:
        """Requests that have ended."""
        return self.request_counts.completed + self.request_counts.failed if self.request_counts else 0

    @property
    def total(self) -> int:
        """Requests of the batch."""
        return self.request_counts.total if self.request_counts else 0

    def words(self) -> str:
        """Why it failed, as the provider says."""
        said = [error.message or error.code or "" for error in (self.errors.data if self.errors else None) or []]
        return "; ".join(filter(None, said[:3])) or "no reason given"


class _Response(msgspec.Struct):
    status_code: int
    body: msgspec.Raw


class _Result(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


class _Id(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    data: list[BatchStatus]
    has_more: bool = False


class BatchApi:
    """Batches of one endpoint."""

    def __init__(
        self, client: openai.AsyncOpenAI, endpoint: str, *, name: str, scrub: Callable[[str], str] = str
    ) -> None:
        self.endpoint = endpoint
        """Path that each line of a batch names."""
        self._client = client
        self._name = name
        self._scrub = scrub

    async def submit(self, lines: bytes, token: str) -> str:
        """Send a batch of JSON lines; returns its id."""
        file = await self._insist(lambda: self._upload(lines, token))
        body = {
            "input_file_id": file,
            "endpoint": self.endpoint,
            "completion_window": "24h",
            "metadata": {TOKEN: token},
        }

        async def create() -> str:
            # A try that failed for us may have reached the provider.
            return await self.find(token, pages=1) or (await self._post("/batches", body, BatchStatus)).id

        return await self._insist(create)

    async def status(self, batch: str) -> BatchStatus:
        """How far a batch is."""
        return await self._insist(lambda: self._get(f"/batches/{batch}", BatchStatus))

    async def find(self, token: str, pages: int = PAGES) -> str:
        """The id of the batch that carries ``token``; empty where there is none."""
        after = ""
        for _ in range(pages):
            path = f"/batches?limit=100{after}"
            page = await self._insist(lambda path=path: self._get(path, _Page))  # type: ignore[misc]
            for batch in page.data:
                if (batch.metadata or {}).get(TOKEN) == token:
                    return batch.id
            if not page.has_more or not page.data:
                return ""
            after = f"&after={page.data[-1].id}"
        return ""

    async def results(self, status: BatchStatus) -> list[Line]:
        """The lines of a batch that has ended, answered or refused; what it never came to is left out."""
        lines: list[Line] = []
        for file in filter(None, (status.output_file_id, status.error_file_id)):
            content = await self._insist(lambda file=file: self._raw(f"/files/{file}/content"))  # type: ignore[misc]
            lines += [_line(row) for row in content.splitlines() if row.strip()]
        return [line for line in lines if line.status]

    async def _upload(self, lines: bytes, token: str) -> str:
        file = await self._client.files.create(file=(f"rlhf-eval-{token}.jsonl", lines), purpose="batch")
        return file.id

    async def _post(self, path: str, body: dict[str, Any], kind: type[T]) -> T:
        response = await self._client.post(path, body=body, cast_to=http.Response)
        return msgspec.json.decode(response.content, type=kind)

    async def _get(self, path: str, kind: type[T]) -> T:
        return msgspec.json.decode(await self._raw(path), type=kind)

    async def _raw(self, path: str) -> bytes:
        return bytes((await self._client.get(path, cast_to=http.Response)).content)

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do ``work``, again and again where that may help."""
        for attempt in range(TRIES):
            try:
                return await work()
            except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
                words = _words(error)
                if "insufficient_quota" in words or attempt == TRIES - 1:
                    break
                await asyncio.sleep(min(60.0, 0.5 * 2**attempt))
            except openai.APIStatusError as error:
                words = _words(error)
                break
            except msgspec.DecodeError as error:
                words = f"its reply is not what the batch protocol says: {error}"
                break
        raise ModelUnavailable(
            f"{self._name}: the batch API answers: {self._scrub(words)}; "
            "run the same command again (it goes on with the same batch), or leave out --batch"
        )


def _line(row: bytes) -> Line:
    result = msgspec.json.decode(row, type=_Result)
    if result.response is None:
        reason = (result.error.message or result.error.code) if result.error else None
        return Line(result.custom_id, 0, (reason or "no response").encode())
    return Line(result.custom_id, result.response.status_code, bytes(result.response.body))


def _words(error: openai.APIError) -> str:
    if isinstance(error, openai.APIStatusError):
        message, code = server_words(bytes(error.response.content))
        return f"{error.status_code} {message} {code}".strip()
    return str(error.__cause__ or error)
