"""Any server that speaks the OpenAI protocol: vLLM, SGLang, llama.cpp, Ollama, OpenRouter, OpenAI itself.

One attempt a call, through the openai package's async client; what failed is named, and the door decides about a retry.
The key is read from an environment variable and neither printed nor stored.

    model = OpenAIModel("Qwen/Qwen3-8B", "http://localhost:8000/v1")
    await model.probe()
    reply = await model.chat(ChatRequest(messages=(Message("user", "Name three primes."),), n=4))
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import openai

from rlhf_eval.errors import ModelUnavailable, RequestFailed, RlhfEvalError, UserError
from rlhf_eval.models.base import ChatRequest, Conversation, Reply
from rlhf_eval.models.served.batch_api import BatchApi
from rlhf_eval.models.served.connections import NotConnected, address
from rlhf_eval.models.served.http import LeanClient, Letterhead, client_for, http
from rlhf_eval.models.served.replies import Received, failure, read, server_words, unwrapped
from rlhf_eval.models.served.requests import (
    Constraint,
    Dialect,
    Endpoint,
    adapt,
    body_of,
    constraint_in,
    reject_constraint,
)
from rlhf_eval.records import Message, Sampling, fingerprint

_log = logging.getLogger(__name__)
_NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of an OpenAI-compatible endpoint."""

    timeout: float = 120.0
    """Seconds until a request that has no answer has failed."""
    endpoint: Endpoint = "chat"
    """``chat`` sends messages; ``completions`` sends the text of one message as it is, for base models."""
    structured: Literal["auto"] | Constraint = "auto"
    """How to ask for one of several strings: ``vllm``, ``guided_choice``, ``json_schema``, ``off``, or find out."""
    max_n: int = 0
    """Most samples of one request; 0 asks for all at once and learns from a refusal or a short reply."""
    extra_body: str = ""
    """JSON object that every request carries besides, for instance {"top_k": 20}."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key."""
    identity: str = ""
    """What the cache knows this model as; give two addresses of the same weights the same one."""


class OpenAIModel:
    """One model of one endpoint."""

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        name: str | None = None,
        config: Config | None = None,
        api_key: str | None = None,
    ) -> None:
        self.config = config or Config()
        self.model = model
        self.base_url = (base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1").rstrip("/")
        self.name = name or f"openai:{model}@{self.base_url}"
        try:
            address(self.base_url)
        except (NotConnected, ValueError) as error:
            raise UserError(f"{self.name}: '{self.base_url}' is no address; write http://HOST:PORT/v1") from error
        self._hosted = _is_openai(self.base_url)
        self._extra = _extra(self.config.extra_body, self.name)
        self._key = self._find_key(api_key)
        self._http = client_for(self.base_url, timeout=self.config.timeout)
        self._client = openai.AsyncOpenAI(
            api_key=self._key, base_url=self.base_url, max_retries=0, http_client=self._http
        )
        path = "chat/completions" if self.config.endpoint == "chat" else "completions"
        self._url = f"{self.base_url}/{path}"
        self._dialect = self._first_dialect()
        self._letterhead: Letterhead | None = None
        """The header as the package writes it, to be sent with every body."""
        self._writing: asyncio.Task[Letterhead] | None = None
        self._warned = False
        self.id = self.config.identity or self._identity()

    def __repr__(self) -> str:
        return f"OpenAIModel({self.model!r}, {self.base_url!r})"

    async def chat(self, request: ChatRequest) -> Reply:
        """As many of the ``n`` samples as one request gets, the first ones; raises RequestFailed or ModelUnavailable."""
        received = await self._ask(request)
        return Reply(choices=received.choices, usage=received.usage)

    def most_samples(self, request: ChatRequest) -> int:
        """Most choices of one request, as the user says or as far as the server has been heard on it."""
        # vLLM refuses n > 1 where nothing is drawn.
        if request.sampling.temperature == 0:
            return 1
        return self._dialect.max_n or request.n

    def write(self, request: ChatRequest) -> dict[str, Any]:
        """The body of ``request`` in the endpoint's dialect, for a batch."""
        return body_of(self.model, request, self._dialect, self.config.endpoint) | self._extra

    def read(self, request: ChatRequest, status: int, body: bytes) -> Reply:
        """The reply in a response to what ``write`` wrote; raises RequestFailed."""
        if status != 200:
            failed = failure(status, body)
            raise RequestFailed(failed.kind, self._scrubbed(failed.args[0]))
        received = self._understood(request, self.write(request), body)
        return Reply(choices=received.choices, usage=received.usage)

    def batch_api(self) -> BatchApi:
        """The endpoint's batch API."""
        path = urlsplit(self._url).path
        return BatchApi(self._client, path[path.find("/v1") :], name=self.name, scrub=self._scrubbed)

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """Not what this protocol does; raises UserError."""
        raise UserError(f"{self.name} writes text and scores nothing; for a reward model use hf:PATH or vllm:PATH")

    async def probe(self, timeout: float = 10.0) -> None:
        """Make sure that the server is up, takes the key and has the model; raises ModelUnavailable saying which is not."""
        try:
            async with asyncio.timeout(timeout):
                await self._probe()
        except TimeoutError:
            raise ModelUnavailable(f"{self.name}: {self.base_url} did not answer within {timeout:g} s") from None

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _ask(self, wanted: ChatRequest) -> Received:
        most = self.most_samples(wanted)
        request = wanted if wanted.n <= most else replace(wanted, n=most)
        body = self.write(request)
        try:
            raw = await self._post(body)
        except _Refused as refused:
            if refused.status in (400, 422) and adapt(self._dialect, body, server_words(refused.content)[0]):
                return await self._ask(wanted)
            raise await self._refusal(refused) from refused
        received = self._understood(request, body, raw)
        used = constraint_in(body)
        if used and not self._dialect.settled and not self._obeyed(request, received):
            reject_constraint(self._dialect, used)
            return await self._ask(wanted)
        return received

    def _understood(self, request: ChatRequest, body: Mapping[str, Any], raw: bytes) -> Received:
        """The success in ``raw``; fewer choices than were asked for say what the server's bound is."""
        received = read(raw)
        if received.unanswered and not self._warned:
            self._warned = True
            _log.warning("%s used all %s tokens to reason and gave no answer", self.name, request.sampling.max_tokens)
        choices = received.choices
        if constraint_in(body) == "json_schema":
            choices = tuple(map(unwrapped, choices))
        if len(choices) < request.n:
            self._dialect.max_n = len(choices)
        return Received(choices[: request.n], received.usage)

    def _obeyed(self, request: ChatRequest, received: Received) -> bool:
        """Whether the server kept to the choices, rather than pass over a field that it does not know."""
        texts = [(choice.text.strip(), choice.finish_reason == "length") for choice in received.choices]
        obeyed = all(any(text == c or (cut and c.startswith(text)) for c in request.choices) for text, cut in texts)
        self._dialect.settled = obeyed
        return obeyed

    async def _post(self, body: dict[str, Any]) -> bytes:
        """The bytes of a success; raises _Refused, or RequestFailed where there was no response."""
        try:
            if not isinstance(self._http, LeanClient):
                return await self._post_by_package(body)
            under = self._letterhead or await self._write(self._http)
            answer = await self._http.post_under(under, msgspec.json.encode(body))
            if 300 <= answer.status < 400:
                return await self._post_by_package(body)
        except (openai.APITimeoutError, TimeoutError) as error:
            words = f"no reply from {self.base_url} within {self.config.timeout:g} s (the model's option timeout)"
            raise RequestFailed("timeout", words) from error
        except (openai.APIConnectionError, ConnectionError) as error:
            raise RequestFailed("connection", f"{self.base_url}: {_cause(error)}") from error
        if answer.status != 200:
            raise _Refused(answer.status, answer.headers, answer.body)
        return answer.body

    async def _write(self, client: LeanClient) -> Letterhead:
        """Have the package write a header; all that wait for the first one share it."""
        loop = asyncio.get_running_loop()
        if self._writing is None or self._writing.get_loop() is not loop:
            self._writing = loop.create_task(client.letterhead(self._client, self._url))
        self._letterhead = await asyncio.shield(self._writing)
        return self._letterhead

    async def _post_by_package(self, body: dict[str, Any]) -> bytes:
        try:
            response = await self._client.post(self._url, body=body, cast_to=http.Response)
        except openai.APIStatusError as error:
            raise _Refused(error.status_code, error.response.headers, bytes(error.response.content)) from error
        return bytes(response.content)

    async def _refusal(self, refused: _Refused) -> RlhfEvalError:
        """What a refusal means: for this request, or for all of them."""
        status = refused.status
        message, code = server_words(refused.content)
        if status in (401, 403):
            return ModelUnavailable(self._about_key(status))
        if status == 404:
            return ModelUnavailable(await self._about_model())
        if status == 429 and code == "insufficient_quota":
            return ModelUnavailable(f"{self.name}: the account has no credit left: {self._scrubbed(message)}")
        failed = failure(status, refused.content, refused.headers)
        return RequestFailed(failed.kind, self._scrubbed(failed.args[0]), retry_after=failed.retry_after)

    async def _probe(self) -> None:
        try:
            names = await self._names()
        except openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise ModelUnavailable(self._about_key(error.status_code)) from error
            names = None
        except openai.APIConnectionError as error:
            raise ModelUnavailable(
                f"{self.name}: cannot reach {self.base_url} ({_cause(error)}); start the server, or mend the address"
            ) from error
        if names is None or self.model not in names:
            # Some servers list other names than they answer to: only a request tells.
            request = ChatRequest(messages=(Message("user", "Hi"),), sampling=Sampling(max_tokens=1))
            try:
                await self._ask(request)
            except RequestFailed as failed:
                _log.info("%s: the probe failed with %s", self.name, failed)

    async def _names(self) -> list[str]:
        """The models that the server says it has."""
        response = await self._client.get(f"{self.base_url}/models", cast_to=http.Response)
        try:
            listed = msgspec.json.decode(response.content)
            return [str(entry["id"]) for entry in listed["data"]]
        except (msgspec.DecodeError, KeyError, TypeError):
            return []

    async def _about_model(self) -> str:
        try:
            names = await self._names()
        except openai.OpenAIError:
            names = []
        if not names:
            hint = "" if urlsplit(self.base_url).path else f"; did you mean {self.base_url}/v1?"
            return f"{self.name}: there is no {self._url} (404), or it has no model '{self.model}'{hint}"
        likeness = SequenceMatcher(b=self.model.lower())

        def distance(name: str) -> float:
            likeness.set_seq1(name.lower())
            return -likeness.ratio()

        ranked = sorted(names, key=distance)
        more = f" and {len(ranked) - _NAMES_SHOWN} more" if len(ranked) > _NAMES_SHOWN else ""
        return f"{self.base_url} has no model '{self.model}'. It has: {', '.join(ranked[:_NAMES_SHOWN])}{more}."

    def _about_key(self, status: int) -> str:
        variable = self.config.key_variable
        if self._key == "EMPTY":
            return f"{self.name}: the server wants a key ({status}): export {variable}=..."
        if status == 403:
            return f"{self.name}: the key in {variable} may not use '{self.model}' (403)"
        return f"{self.name}: the server refuses the key in {variable} ({status})"

    def _find_key(self, given: str | None) -> str:
        variable = self.config.key_variable
        key = (given or os.environ.get(variable) or "").strip()
        if not key and self._hosted:
            raise ModelUnavailable(f"{self.name} needs a key: export {variable}=...")
        if not key.isascii() or any(c.isspace() for c in key):
            raise UserError(f"{variable} holds a space, a line break or a letter that no key has")
        return key or "EMPTY"

    def _scrubbed(self, words: str) -> str:
        return words.replace(self._key, "***") if self._key != "EMPTY" else words

    def _first_dialect(self) -> Dialect:
        chosen = self.config.structured
        constraint: Constraint = "json_schema" if self._hosted else "vllm"
        return Dialect(
            max_n=self.config.max_n or None,
            top_p=not self._hosted,
            constraint=constraint if chosen == "auto" else chosen,
            settled=chosen != "auto",
        )

    def _identity(self) -> str:
        settings = (self.config.endpoint, self.config.structured, self._extra)
        plain = settings == ("chat", "auto", {})
        return f"openai:{self.model}@{self.base_url}" + ("" if plain else f"#{fingerprint(settings)[:8]}")


def _is_openai(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "openai.com" or host.endswith(".openai.com")


def _extra(text: str, where: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise UserError(f'{where}: extra_body is no JSON object ({error}); write it like {{"top_k": 20}}') from error


class _Refused(Exception):
    """A response other than 200."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        super().__init__(status)
        self.status, self.headers, self.content = status, headers, content


def _cause(error: Exception) -> str:
    return str(error.__cause__ if isinstance(error, openai.OpenAIError) and error.__cause__ else error)
