"""A local server that speaks the OpenAI protocol, answers by rule, and misbehaves on demand.

Replies depend only on (messages, seed, sample index); faults depend only on (request body, attempt), so a test that runs
twice sees the same thing whatever the order in which its requests arrive. A written answer ends with a marker,
``(quality=0.731 words=42 author=alpha)``; a request whose last message holds two markers is judged with planted biases,
one with one marker is graded. Bare asyncio, because the speed of clients is measured against it.

    python tests/server.py --port 0 --latency 0.2 --models alpha,judge      # prints http://127.0.0.1:PORT/v1

    with running_server(latency=0.05, error_500=0.1) as base_url: ...
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from email.utils import formatdate
from hashlib import blake2b
from pathlib import Path
from time import time
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """How the server behaves; shares are probabilities for one attempt at one request."""

    host: str = "127.0.0.1"
    port: int = 0
    models: str = "test-model,alpha=0.6,beta=0.4,judge"
    """Names served, each with the mean quality of its answers (.5 where none is given)."""
    latency: float = 0.0
    jitter: float = 0.0
    """Seconds; the latency is drawn evenly from latency plus or minus this."""
    error_500: float = 0.0
    error_429: float = 0.0
    slow: float = 0.0
    """Share of replies that take ten times the latency."""
    hang: float = 0.0
    drop: float = 0.0
    truncate: float = 0.0
    empty: float = 0.0
    """Share of replies without any choice."""
    retry_after: str = "0.05"
    """Seconds, ``date:SECONDS`` for an HTTP date, ``ms:MILLISECONDS``, or nothing for no header."""
    capacity: int = 0
    """Requests in flight beyond which it answers 429; 0 for no bound."""
    api_key: str = ""
    """If set, any other key is answered 401 (403 for the key ``forbidden``)."""
    poison: str = ""
    """A prompt that contains this is answered 400."""
    filter_prompt: str = ""
    """A prompt that contains this is answered 400 with the code of a content filter."""
    filter_reply: str = ""
    """A prompt that contains this gets an empty choice with finish_reason content_filter."""
    context: int = 0
    """Words of prompt and answer that fit; 0 for no bound."""
    n: str = "yes"
    """``yes``; ``refuse`` answers 400 to n > 1; ``ignore`` answers one choice whatever n says."""
    logprobs: str = "yes"
    """``yes``; ``refuse`` answers 400; ``ignore`` leaves them out."""
    structured: str = "vllm"
    """What constrains decoding: ``vllm``, ``guided_choice``, ``json_schema``; others are ignored unless ``strict``."""
    strict: bool = False
    """Answer 400 to parameters it does not know, as api.openai.com does."""
    reasoning_model: bool = False
    """Accept max_completion_tokens only, temperature 1 only."""
    reasoning: str = ""
    """Field of the message (``reasoning`` or ``reasoning_content``) that gets a thought."""
    reasoning_only: bool = False
    """Leave the content empty: the thought used all tokens."""
    sharpness: float = 8.0
    """Judge: log-odds for a quality difference of one."""
    position_bias: float = 0.0
    """Judge: log-odds added to the answer shown first."""
    length_bias: float = 0.0
    """Judge: log-odds a unit of log length ratio."""
    self_preference: float = 0.0
    """Judge: log-odds added to an answer whose author is the judge."""
    tie_width: float = 0.0
    """Judge: log-odds closer to 0 than this are a tie, ``[[C]]``."""
    noise: float = 0.0
    """Judge: standard deviation of a log-odds error that is fixed for each conversation."""
    unparsed: float = 0.0
    """Judge: share of replies that name no winner."""
    batch_seconds: float = 0.3
    """Seconds until a batch is done."""
    batch_expire: float = 0.0
    """Share of a batch's requests that are not done in time."""
    batch_fail: str = ""
    """If set, batches fail with these words."""
    log: str = ""
    """Append one JSON line a request to this file."""


WORDS = (
    "the",
    "model",
    "gives",
    "a",
    "clear",
    "answer",
    "with",
    "steps",
    "that",
    "follow",
    "from",
    "what",
    "was",
    "asked",
)
MARKER = re.compile(r"quality=([01](?:\.\d+)?)(?: words=(\d+))?(?: author=([\w/:@+.-]*\w))?")
PARAMETERS = frozenset(
    {"model", "messages", "prompt", "n", "seed", "stop", "max_tokens", "max_completion_tokens", "temperature", "top_p"}
    | {"logprobs", "top_logprobs", "stream", "response_format"}
)
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
}
Json = dict[str, Any]


class Refusal(Exception):
    """An answer other than 200, in the shape that OpenAI gives its errors."""

    def __init__(self, status: int, message: str, code: str = "", headers: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers


def uniform(*parts: object) -> float:
    """A number in [0, 1) that is a hash of ``parts``."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=7).digest(), "big") / (1 << 56)


def normal(*parts: object) -> float:
    """A standard normal deviate that is a hash of ``parts``."""
    return math.sqrt(-2 * math.log(1 - uniform("r", *parts))) * math.cos(2 * math.pi * uniform("phi", *parts))


def written(digest: str, skill: float, author: str, limit: int) -> tuple[str, int, str]:
    """An answer of 5 to 60 words with its marker: text, tokens, finish reason."""
    words = 5 + int(56 * uniform(digest, "length"))
    start = int(len(WORDS) * uniform(digest, "start"))
    body = " ".join(WORDS[(start + 5 * i) % len(WORDS)] for i in range(min(words, limit)))
    if words > limit:
        return body, limit, "length"
    quality = min(max(skill + 0.2 * normal(digest, "quality"), 0.0), 1.0)
    return f"{body}. (quality={quality:.3f} words={words} author={author})", words, "stop"


def log_odds(knobs: Knobs, markers: Sequence[tuple[str, str, str]], judge: str, conversation: str) -> float:
    """The planted preference for the first answer over the second."""
    (qa, wa, author_a), (qb, wb, author_b) = markers[-2:]
    odds = knobs.sharpness * (float(qa) - float(qb)) + knobs.position_bias
    if wa and wb:
        odds += knobs.length_bias * math.log(max(int(wa), 1) / max(int(wb), 1))
    odds += knobs.self_preference * ((author_a == judge) - (author_b == judge))
    return odds + knobs.noise * normal(conversation, "noise")


def verdict(knobs: Knobs, body: Json, text: str, digest: str) -> tuple[str, dict[str, float]] | None:
    """The letter or grade that the planted rule gives, with the probability of each; None if nothing is to be judged."""
    markers = MARKER.findall(text)
    if not markers:
        return None
    if len(markers) == 1:
        mean = 1 + 9 * float(markers[0][0])
        weights = {str(grade): math.exp(-((grade - mean) ** 2)) for grade in range(1, 11)}
        total = sum(weights.values())
        shares = {grade: weight / total for grade, weight in weights.items()}
    else:
        odds = log_odds(knobs, markers, body["model"], text)
        if abs(odds) < knobs.tie_width:
            return "C", {"C": 0.9, "A": 0.05, "B": 0.05}
        first = 1 / (1 + math.exp(-odds))
        shares = {"A": first, "B": 1 - first}
    if not body.get("temperature", 1.0):
        return max(shares, key=shares.__getitem__), shares
    ticket = uniform(digest, "verdict")
    for label, share in shares.items():
        ticket -= share
        if ticket < 0:
            return label, shares
    return label, shares


def content(message: Json) -> str:
    """The text of a message, which may come in parts."""
    said = message["content"]
    return str(said) if isinstance(said, str) else "".join(part.get("text", "") for part in said)


def constraint(knobs: Knobs, body: Json) -> list[str]:
    """The strings among which this server was asked to choose, in the dialect that it understands."""
    if knobs.structured == "vllm":
        return list((body.get("structured_outputs") or {}).get("choice") or [])
    if knobs.structured == "guided_choice":
        return list(body.get("guided_choice") or [])
    if knobs.structured == "json_schema":
        schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema") or {}
        return [value for field in schema.get("properties", {}).values() for value in field.get("enum", ())]
    return []


def top(shares: dict[str, float], k: int) -> list[Json]:
    """The k likeliest tokens with their log-probabilities."""
    ranked = sorted(shares.items(), key=lambda item: -item[1])[:k]
    return [{"token": token, "logprob": math.log(max(share, 1e-9)), "bytes": None} for token, share in ranked]


def token_rows(text: str, label: str, shares: dict[str, float], k: int) -> list[Json]:
    """Log-probabilities of a reply, one a token; the token that is the verdict has the planted shares."""
    tokens = re.findall(r"\s?\w+|\s?[^\w\s]+|\s+", text)
    last = max((i for i, token in enumerate(tokens) if token.strip() == label), default=-1)
    rows = []
    for i, token in enumerate(tokens):
        choices = (
            {token: shares[label], **{t: s for t, s in shares.items() if t != label}} if i == last else {token: 0.9}
        )
        share = choices[token]
        rows.append({"token": token, "logprob": math.log(share), "bytes": None, "top_logprobs": top(choices, k)})
    return rows


class Replies:
    """The deterministic part: a request body in, a response body out."""

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self.skills = {}
        for entry in knobs.models.split(","):
            name, _, skill = entry.partition("=")
            self.skills[name] = float(skill or 0.5)
        self.drawn: Counter[str] = Counter()

    def answer(self, body: Json, *, chat: bool) -> Json:
        """The whole response to a request; raises Refusal."""
        said = [content(message) for message in body["messages"]] if chat else [body["prompt"]]
        prompt, text = "\n".join(said), said[-1]
        tokens = len(prompt.split())
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 4096
        self.check(body, prompt, tokens + limit)
        n = 1 if self.knobs.n == "ignore" else body.get("n") or 1
        key = blake2b(repr((body["model"], prompt)).encode(), digest_size=16).hexdigest()
        first = body.get("seed")
        if first is None:
            first = 0 if body.get("temperature") == 0 else self.drawn[key]
            self.drawn[key] += n
        choices, used = [], 0
        for index in range(n):
            choice, words = self.choice(body, text, f"{key}:{first + index}", limit, chat)
            choices.append({"index": index, **choice})
            used += words
        usage = {"prompt_tokens": tokens, "completion_tokens": used, "total_tokens": tokens + used}
        usage["prompt_tokens_details"] = {"cached_tokens": tokens // 2}  # type: ignore[assignment]
        kind = "chat.completion" if chat else "text_completion"
        return {
            "id": f"r-{key[:8]}",
            "object": kind,
            "created": 0,
            "model": body["model"],
            "choices": choices,
            "usage": usage,
        }

    def check(self, body: Json, prompt: str, tokens: int) -> None:
        """Raise the refusal that these parameters and this prompt deserve."""
        knobs, name = self.knobs, body.get("model")
        if name not in self.skills:
            raise Refusal(404, f"The model `{name}` does not exist.", "model_not_found")
        if knobs.poison and knobs.poison in prompt:
            raise Refusal(400, f"the prompt could not be processed: it contains {knobs.poison!r}", "invalid_prompt")
        if knobs.filter_prompt and knobs.filter_prompt in prompt:
            raise Refusal(400, "The response was filtered due to the content management policy.", "content_filter")
        if knobs.context and tokens > knobs.context:
            words = f"This model's maximum context length is {knobs.context} tokens, but you asked for {tokens}."
            raise Refusal(400, words, "context_length_exceeded")
        if knobs.n == "refuse" and (body.get("n") or 1) > 1:
            raise Refusal(400, "Invalid value for 'n': only one completion choice is allowed", "invalid_value")
        if knobs.logprobs == "refuse" and body.get("logprobs"):
            raise Refusal(400, "logprobs are not supported by this model", "unsupported_parameter")
        if knobs.reasoning_model and "max_tokens" in body:
            words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' with this model instead."
            raise Refusal(400, words, "unsupported_parameter")
        if knobs.reasoning_model and body.get("temperature", 1) != 1:
            raise Refusal(
                400, "Unsupported value: 'temperature' does not support 0 with this model.", "unsupported_value"
            )
        unknown = [key for key in body if key not in PARAMETERS]
        if knobs.strict and unknown:
            raise Refusal(400, f"Unrecognized request argument supplied: {unknown[0]}", "unknown_parameter")

    def choice(self, body: Json, text: str, digest: str, limit: int, chat: bool) -> tuple[Json, int]:
        """One choice and the tokens it used."""
        if self.knobs.filter_reply and self.knobs.filter_reply in text:
            return self.shaped("", "content_filter", None, chat), 0
        judged = verdict(self.knobs, body, text, digest)
        options = constraint(self.knobs, body)
        label, shares = judged or ("", {})
        finish = "stop"
        if options:
            content = next((o for o in options if label and label in re.findall(r"\w+", o)), "")
            content = content or options[int(len(options) * uniform(digest, "option"))]
            used = 1
            if self.knobs.structured == "json_schema":
                (field,) = body["response_format"]["json_schema"]["schema"]["properties"]
                content = json.dumps({field: content})
        elif judged:
            content = self.opinion(label, digest, limit, len(shares) > 3)
            used = len(content.split())
        else:
            content, used, finish = written(digest, self.skills[body["model"]], body["model"], limit)
        rows = None
        if body.get("logprobs") and self.knobs.logprobs == "yes":
            k = body.get("top_logprobs") or 0 if chat else int(body["logprobs"])
            rows = token_rows(content, label, shares, k)
        return self.shaped(content, finish, rows, chat), used

    def opinion(self, label: str, digest: str, limit: int, grade: bool) -> str:
        """The judge's reply in words; bare where there is no room."""
        if uniform(digest, "unparsed") < self.knobs.unparsed:
            return "Both have their merits and I would rather not say."
        if limit <= 4:
            return label
        if limit <= 16:
            return f"[[{label}]]"
        opening = "I read the answer with care." if grade else "I compared the two answers with care."
        return f"{opening} My final verdict is: [[{label}]]"

    def shaped(self, content: str, finish: str, rows: list[Json] | None, chat: bool) -> Json:
        """The choice as its endpoint shows it."""
        if not chat:
            wide = rows and {
                "tokens": [row["token"] for row in rows],
                "token_logprobs": [row["logprob"] for row in rows],
                "top_logprobs": [{t["token"]: t["logprob"] for t in row["top_logprobs"]} for row in rows],
                "text_offset": [0] * len(rows),
            }
            return {"text": content, "finish_reason": finish, "logprobs": wide or None}
        message: Json = {"role": "assistant", "content": content, "refusal": None}
        if self.knobs.reasoning:
            message[self.knobs.reasoning] = "Let me think about that first."
        if self.knobs.reasoning_only:
            message["content"], finish = None, "length"
        return {"message": message, "finish_reason": finish, "logprobs": rows and {"content": rows, "refusal": None}}


class Service:
    """What all connections share: knobs, counters, the log, and the decision to misbehave."""

    def __init__(self, knobs: Knobs) -> None:
        self.initial = knobs
        self.set(knobs)
        self.reset()

    def set(self, knobs: Knobs) -> None:
        self.knobs, self.replies = knobs, Replies(knobs)

    def reset(self) -> None:
        self.batches = Batches(self)
        self.counts: Counter[str] = Counter()
        self.attempts: Counter[bytes] = Counter()
        self.in_flight = self.most = 0

    def stats(self) -> Json:
        return {
            **self.counts,
            "requests": self.counts["requests"],
            "in_flight": self.in_flight,
            "max_in_flight": self.most,
        }

    def fault(self, body: bytes) -> tuple[str, float]:
        """What to do to this attempt at this request, and the seconds that it takes."""
        knobs, digest = self.knobs, blake2b(body, digest_size=12).digest()
        self.attempts[digest] += 1
        ticket, attempt = uniform(digest, self.attempts[digest]), self.attempts[digest]
        delay = (
            knobs.latency + knobs.jitter * (2 * uniform(digest, attempt, "jitter") - 1)
            if knobs.jitter
            else knobs.latency
        )
        if knobs.capacity and self.in_flight > knobs.capacity:
            return "error_429", 0.0
        for kind in ("error_500", "error_429", "slow", "hang", "drop", "truncate", "empty"):
            ticket -= getattr(knobs, kind)
            if ticket < 0:
                return kind, delay * 10 if kind == "slow" else delay
        return "ok", delay

    def retry_after(self) -> str:
        """The header that says when to come back."""
        value = self.knobs.retry_after
        if value.startswith("date:"):
            value = formatdate(math.ceil(time() + float(value[5:])), usegmt=True)
        if value.startswith("ms:"):
            return f"retry-after-ms: {value[3:]}\r\n"
        return f"retry-after: {value}\r\n" if value else ""

    def respond(self, path: str, raw: bytes, fault: str, key: str) -> bytes | None:
        """The bytes of a response; None closes the connection instead."""
        try:
            if fault == "drop":
                return None
            if fault == "error_500":
                raise Refusal(500, "The server had an error while processing your request.", "server_error")
            if fault == "error_429":
                raise Refusal(429, "Rate limit reached.", "rate_limit_exceeded", self.retry_after())
            self.authorize(key)
            body = msgspec.json.decode(raw)
            reply = self.replies.answer(body, chat=path.endswith("/chat/completions"))
            if fault == "empty":
                reply["choices"] = []
            self.counts["choices"] += len(reply["choices"])
            payload = msgspec.json.encode(reply)
            return http(200, payload[: len(payload) // 2] if fault == "truncate" else payload)
        except Refusal as refusal:
            self.counts[str(refusal.status)] += 1
            return error(refusal)

    def authorize(self, key: str) -> None:
        """Raise the refusal that this key deserves."""
        wanted = self.knobs.api_key
        if wanted and key == "forbidden":
            raise Refusal(403, "You are not allowed to use this model.", "permission_denied")
        if wanted and key != wanted:
            raise Refusal(401, f"Incorrect API key provided: {key[:3]}***.", "invalid_api_key")

    def note(self, path: str, raw: bytes, fault: str) -> None:
        """One line of the request log."""
        row = {"time": time(), "path": path, "fault": fault, "body": msgspec.json.decode(raw)}
        with Path(self.knobs.log).open("ab") as out:
            out.write(msgspec.json.encode(row) + b"\n")


def http(status: int, payload: bytes, headers: str = "") -> bytes:
    """An HTTP/1.1 response with a JSON body."""
    reason = REASONS.get(status, "Error")
    head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(payload)}\r\n"
    return f"{head}{headers}\r\n".encode() + payload


def error(refusal: Refusal) -> bytes:
    """A refusal in OpenAI's shape."""
    kind = "invalid_request_error" if refusal.status < 500 else "server_error"
    body = {"error": {"message": refusal.message, "type": kind, "param": None, "code": refusal.code or None}}
    return http(refusal.status, json.dumps(body).encode(), refusal.headers)


class Batches:
    """Files and batches: what was uploaded is answered line by line when its time has come."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Json] = {}

    def answer(self, path: str, raw: bytes) -> bytes:
        """The response to one call of the batch protocol; raises Refusal."""
        _, _, kind, *rest = path.split("/")
        if kind == "files" and not rest:
            boundary = raw.split(b"\r\n", 1)[0]
            part = next(part for part in raw.split(boundary) if b"filename=" in part)
            return http(
                200,
                msgspec.json.encode(
                    {
                        "id": self.file(part.partition(b"\r\n\r\n")[2][:-2]),
                        "object": "file",
                        "bytes": len(part),
                        "created_at": 0,
                        "filename": "x.jsonl",
                        "purpose": "batch",
                        "status": "processed",
                    }
                ),
            )
        if kind == "files" and rest[0] in self.files:
            return http(200, self.files[rest[0]])
        if kind == "batches" and not rest and raw:
            return http(200, msgspec.json.encode(self.create(msgspec.json.decode(raw))))
        if kind == "batches" and not rest:
            listed = [self.state(batch) for batch in reversed(self.batches.values())]
            return http(200, msgspec.json.encode({"object": "list", "data": listed, "has_more": False}))
        if kind == "batches" and rest[0] in self.batches:
            return http(200, msgspec.json.encode(self.state(self.batches[rest[0]])))
        raise Refusal(404, f"Not Found: {path}")

    def file(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def create(self, body: Json) -> Json:
        """A new batch of an uploaded file."""
        self.service.counts["batches"] += 1
        batch = {
            "id": f"batch_{len(self.batches)}", "object": "batch", "endpoint": body["endpoint"], "errors": None,
            "input_file_id": body["input_file_id"], "completion_window": body["completion_window"],
            "status": "in_progress", "created_at": time(), "metadata": body.get("metadata"),
        }  # fmt: skip
        self.batches[batch["id"]] = batch
        return batch

    def state(self, batch: Json) -> Json:
        """The batch as it is now."""
        knobs = self.service.knobs
        if batch["status"] == "in_progress" and time() - batch["created_at"] >= knobs.batch_seconds:
            if knobs.batch_fail:
                batch |= {"status": "failed", "errors": {"object": "list", "data": [{"message": knobs.batch_fail}]}}
            else:
                self.finish(batch)
        return batch

    def finish(self, batch: Json) -> None:
        """Answer every line."""
        good, bad = [], []
        for row in self.files[batch["input_file_id"]].splitlines():
            line = msgspec.json.decode(row)
            name, raw = line["custom_id"], msgspec.json.encode(line["body"])
            self.service.counts["batched"] += 1
            if uniform(name, batch["id"], "expire") < self.service.knobs.batch_expire:
                expired = {"code": "batch_expired", "message": "This request could not be executed in time."}
                bad.append({"id": "x", "custom_id": name, "response": None, "error": expired})
                continue
            fault, _ = self.service.fault(raw)
            response = self.service.respond(line["url"], raw, fault, self.service.knobs.api_key) or http(500, b"{}")
            status, payload = int(response[9:12]), response.partition(b"\r\n\r\n")[2]
            try:
                body = msgspec.json.decode(payload)
            except msgspec.DecodeError:
                status, body = 500, {"error": {"message": "the reply was lost", "type": "server_error"}}
            result = {
                "id": "x",
                "custom_id": name,
                "response": {"status_code": status, "request_id": "r", "body": body},
            }
            (good if status == 200 else bad).append({**result, "error": None})
        bad_ones = b"\n".join(map(msgspec.json.encode, bad))
        batch["output_file_id"] = self.file(b"\n".join(map(msgspec.json.encode, good))) if good else None
        batch["error_file_id"] = self.file(bad_ones) if bad else None
        batch["request_counts"] = {"total": len(good) + len(bad), "completed": len(good), "failed": len(bad)}
        batch["status"] = "expired" if b"batch_expired" in bad_ones else "completed"


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, service: Service) -> None:
        self.service, self.buffer = service, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].decode("latin-1")
            length = re.search(r"(?im)^content-length:\s*(\d+)", head)
            stop = end + 4 + (int(length.group(1)) if length else 0)
            if len(self.buffer) < stop:
                return
            body, self.buffer = self.buffer[end + 4 : stop], self.buffer[stop:]
            self.request(head, body)

    def request(self, head: str, raw: bytes) -> None:
        """Answer what is administrative at once, the rest when its time has come."""
        method, path, _ = head.split(" ", 2)
        path = re.sub(r"^https?://[^/]+", "", path).partition("?")[0]
        key = re.search(r"(?im)^authorization:\s*bearer\s+(\S+)", head)
        if method == "POST" and path in ("/v1/completions", "/v1/chat/completions"):
            self.queue(path, raw, key.group(1) if key else "")
        else:
            self.transport.write(self.administer(path, raw, key.group(1) if key else ""))

    def administer(self, path: str, raw: bytes, key: str) -> bytes:
        """The model list, files and batches, the counters and the knobs."""
        service = self.service
        if path.startswith(("/v1/files", "/v1/batches")):
            try:
                service.authorize(key)
                return service.batches.answer(path, raw)
            except Refusal as refusal:
                return error(refusal)
        if path == "/stats":
            return http(200, msgspec.json.encode(service.stats()))
        if path == "/reset":
            service.reset()
            return http(200, b"{}")
        if path == "/knobs":
            service.set(replace(service.initial, **msgspec.json.decode(raw)))
            return http(200, msgspec.json.encode(asdict(service.knobs)))
        if path == "/v1/models":
            try:
                service.authorize(key)
            except Refusal as refusal:
                return error(refusal)
            names = [{"id": name, "object": "model", "owned_by": "test"} for name in service.replies.skills]
            return http(200, msgspec.json.encode({"object": "list", "data": names}))
        return error(Refusal(404, f"Not Found: {path}"))

    def queue(self, path: str, raw: bytes, key: str) -> None:
        """Count the request and answer it when its latency has passed."""
        service = self.service
        service.in_flight += 1
        service.most = max(service.most, service.in_flight)
        fault, delay = service.fault(raw)
        service.counts["requests"] += 1
        service.counts[fault] += 1
        if service.knobs.log:
            service.note(path, raw, fault)
        if fault != "hang":
            asyncio.get_running_loop().call_later(delay, self.finish, path, raw, fault, key)

    def finish(self, path: str, raw: bytes, fault: str, key: str) -> None:
        """Write the response, or drop the connection."""
        self.service.in_flight -= 1
        response = self.service.respond(path, raw, fault, key)
        if self.transport.is_closing():
            return
        if response is None:
            self.transport.abort()
        else:
            self.transport.write(response)


async def serve(knobs: Knobs, *, until_stdin_closes: bool = False) -> None:
    """Listen until killed, printing the base URL first."""
    loop, service = asyncio.get_running_loop(), Service(knobs)
    server = await loop.create_server(lambda: Connection(service), knobs.host, knobs.port, backlog=4096)
    print(f"http://{knobs.host}:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    if until_stdin_closes:
        await loop.run_in_executor(None, sys.stdin.read)
    else:
        await server.serve_forever()


@contextmanager
def running_server(**knobs: Any) -> Iterator[str]:
    """Start the server in a process of its own and yield its base URL, ending in /v1; it dies with the test."""
    Knobs(**knobs)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in knobs.items() if value is not False]
    command = [sys.executable, __file__, *(flag.removesuffix("=True") for flag in flags), "--until-stdin-closes"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    try:
        base_url = process.stdout.readline().strip()
        assert base_url, f"the test server did not start: {' '.join(command)}"
        yield base_url
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


def ask(base_url: str, path: str, body: Json | None = None) -> Json:
    """One administrative request to a running server."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(base_url.removesuffix("/v1") + path, data=data, timeout=10) as response:
        return dict(json.load(response))


def stats(base_url: str) -> Json:
    """Its counters: requests, choices, max_in_flight, and one a fault and a status."""
    return ask(base_url, "/stats")


def reset(base_url: str) -> None:
    """Set its counters to zero."""
    ask(base_url, "/reset", {})


def set_knobs(base_url: str, **knobs: Any) -> None:
    """Change its behaviour while it runs; knobs that are not named go back to what it was started with."""
    Knobs(**knobs)
    ask(base_url, "/knobs", knobs)


def main() -> None:
    """Read the knobs from the command line and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for knob in fields(Knobs):
        flag = f"--{knob.name.replace('_', '-')}"
        if isinstance(knob.default, bool):
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=type(knob.default), default=knob.default)
    parser.add_argument("--until-stdin-closes", action="store_true")
    given = vars(parser.parse_args())
    watch = given.pop("until_stdin_closes")
    asyncio.run(serve(Knobs(**given), until_stdin_closes=watch))


if __name__ == "__main__":
    main()
