"""Replies and refusals of the OpenAI protocol: choices out of bytes, and what each failure means.

Sources: platform.openai.com/docs/api-reference/chat/object and .../guides/error-codes; docs.vllm.ai, "Reasoning Outputs"
(``reasoning``, once ``reasoning_content``); RFC 9110 section 10.2.3 (Retry-After).

    received = read(b'{"choices": [{"message": {"content": "Paris"}}]}')
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from rlhf_eval.errors import RequestFailed
from rlhf_eval.models.base import Choice, TokenLogprob
from rlhf_eval.models.served.requests import CHOICE_FIELD
from rlhf_eval.records import Usage

WORDS = 300
"""Characters of a server's own words that an error message keeps."""

_OVERFLOW = (
    "context length",
    "context_length",
    "context window",
    "context size",
    "exceed_context",
    "maximum context",
    "maximum model length",
    "max_model_len",
    "maximum input length",
    "too many tokens",
    "prompt is too long",
    "input is too long",
    "max_new_tokens` must be <=",
)
_FILTERED = ("content_filter", "content management policy", "content_policy_violation", "responsibleaipolicy")


class _Top(msgspec.Struct):
    token: str
    logprob: float


class _Token(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Top] | None = None


class _Logprobs(msgspec.Struct):
    """Of the chat endpoint (``content``) or of completions (the rest)."""

    content: list[_Token] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Message(msgspec.Struct):
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")
        return self.content or self.refusal or ""


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    cost: float | None = None
    """US dollars; some routers (OpenRouter) say what they charge."""


class _Reply(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Reply)


@dataclass(frozen=True, slots=True)
class Received:
    """One response: its choices in order and what it used."""

    choices: tuple[Choice, ...]
    usage: Usage
    unanswered: int = 0
    """Choices whose reasoning left no room for an answer: their text is empty."""


def read(raw: bytes) -> Received:
    """The response in ``raw``; raises RequestFailed where it is broken, empty, or an error in disguise."""
    try:
        reply = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestFailed("malformed", f"the reply is not what the protocol says: {error}") from error
    if reply.error:
        code = reply.error.get("code") if isinstance(reply.error, dict) else None
        raise failure(code if isinstance(code, int) else 500, raw)
    if not reply.choices:
        raise RequestFailed("malformed", "the reply has no choices")
    ordered = sorted(reply.choices, key=lambda choice: choice.index)
    choices = tuple(_choice(choice) for choice in ordered)
    unanswered = sum(not choice.text and _reasoned(given) for choice, given in zip(choices, ordered, strict=True))
    used = reply.usage or _Usage()
    details = used.prompt_tokens_details or _Details()
    usage = Usage(
        prompt_tokens=used.prompt_tokens or 0,
        completion_tokens=used.completion_tokens or 0,
        cost=used.cost or 0.0,
        cached_tokens=details.cached_tokens or 0,
    )
    return Received(choices, usage, unanswered)


def _choice(choice: _Choice) -> Choice:
    text = choice.message.text() if choice.message is not None else choice.text
    if text is None:
        raise RequestFailed("malformed", "a choice of the reply has neither message nor text")
    return Choice(text=text, finish_reason=choice.finish_reason or "stop", logprobs=_logprobs(choice.logprobs))


def _reasoned(choice: _Choice) -> bool:
    return bool(choice.message and (choice.message.reasoning or choice.message.reasoning_content))


def _logprobs(found: _Logprobs | None) -> tuple[TokenLogprob, ...]:
    if found is None:
        return ()
    if found.content is not None:
        return tuple(
            TokenLogprob(t.token, t.logprob, tuple((o.token, o.logprob) for o in t.top_logprobs or ()))
            for t in found.content
        )
    tokens = found.tokens or []
    tops = found.top_logprobs or [None] * len(tokens)
    return tuple(
        TokenLogprob(token, value, tuple((top or {}).items()))
        for token, value, top in zip(tokens, found.token_logprobs or [], tops, strict=False)
        if value is not None
    )


def unwrapped(choice: Choice) -> Choice:
    """The string in the JSON object that a schema forced, with the log-probabilities of its tokens alone."""
    try:
        value = msgspec.json.decode(choice.text)[CHOICE_FIELD]
    except (msgspec.DecodeError, KeyError, TypeError):
        return choice
    start = choice.text.find(value, choice.text.find(":"))
    kept, position = [], 0
    for token in choice.logprobs:
        end = position + len(token.token)
        if position < start + len(value) and end > start:
            kept.append(token)
        position = end
    return Choice(text=value, finish_reason=choice.finish_reason, logprobs=tuple(kept))


def server_words(raw: bytes) -> tuple[str, str]:
    """The message (shortened) and the code in an error body, whichever of the usual shapes it has."""
    text = raw.decode("utf-8", "replace")
    message, code = text, ""
    try:
        body = msgspec.json.decode(text)
    except msgspec.DecodeError:
        body = None
    if isinstance(body, dict):
        error = body.get("error", body)
        if isinstance(error, dict):
            message = str(error.get("message") or error.get("detail") or text)
            code = str(error.get("code") or error.get("type") or "")
        else:
            message = str(error)
    message = " ".join(message.split())
    return message if len(message) <= WORDS else f"{message[: WORDS - 1]}…", code


def failure(status: int, raw: bytes, headers: Mapping[str, str] | None = None) -> RequestFailed:
    """What a refusal of one request means; 401, 403 and 404 refuse all of them and are told apart before."""
    message, code = server_words(raw)
    hint = f"{message} {code}".lower()
    words = f"{status}: {message}" if message else f"status {status}"
    wait = retry_after(headers or {})
    if status == 429:
        return RequestFailed("rate_limit", words, retry_after=wait)
    if status == 408:
        return RequestFailed("timeout", words, retry_after=wait)
    if status >= 500 or status == 409:
        return RequestFailed("server", words, retry_after=wait)
    if any(sign in hint for sign in _FILTERED):
        return RequestFailed("content_filter", words)
    if status == 413 or any(sign in hint for sign in _OVERFLOW):
        return RequestFailed("context_overflow", words)
    return RequestFailed("bad_request", words)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: ``retry-after-ms``, else ``retry-after`` in seconds or as an HTTP date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or not value:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
