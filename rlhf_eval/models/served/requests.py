"""Requests in the dialects of the OpenAI protocol.

``Dialect`` is what one endpoint was found to understand. ``adapt`` learns from a refusal, and the backend then writes the
same request anew. Nothing that changes the answer (temperature, log-probabilities, a stop string) is ever dropped.

Sources: platform.openai.com/docs/api-reference/chat; docs.vllm.ai, "Structured Outputs" (``structured_outputs``; before
0.12 ``guided_choice``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlhf_eval.errors import UserError
from rlhf_eval.models.base import ChatRequest

Endpoint = Literal["chat", "completions"]
Constraint = Literal["vllm", "guided_choice", "json_schema", "off"]

CONSTRAINTS: tuple[Constraint, ...] = ("vllm", "guided_choice", "json_schema", "off")
"""Ways to ask for one of several strings, in the order in which they are tried."""

CHOICE_FIELD = "choice"
"""The one property of the JSON object in which a schema wraps the chosen string."""

_ABOUT_N = re.compile(r"['\"`]n['\"`]|\bn\s*(?:must|should|is not|has to|>|=|!=)")
_ABOUT_CONSTRAINT = {
    "vllm": re.compile("structured.outputs"),
    "guided_choice": re.compile("guided"),
    "json_schema": re.compile("response_format|json_schema|structured.output"),
}


@dataclass(slots=True)
class Dialect:
    """What one endpoint was found to understand; every request is written in it."""

    max_n: int | None = None
    """Most choices of one request, None for no known bound."""
    limit_field: str = "max_tokens"
    top_p: bool = True
    """Whether a top_p of 1 is spelled out: vLLM would else take the default of the model's generation_config.json."""
    constraint: Constraint = "vllm"
    settled: bool = False
    """Whether ``constraint`` is the user's word, or has been seen to work."""


def seed_of(seed: int | None, sample: int) -> int | None:
    """The seed of one sample: neighbours for one user's seed, far apart for two.

    vLLM draws choice k of a request with its seed plus k, so that sample i has the same seed in whatever request.
    """
    if seed is None:
        return None
    base = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=4).digest(), "big") >> 2
    return base + sample


def body_of(model: str, request: ChatRequest, dialect: Dialect, endpoint: Endpoint = "chat") -> dict[str, Any]:
    """The JSON of one request for ``request.n`` choices; raises UserError where the endpoint has no words for it."""
    sampling = request.sampling
    body: dict[str, Any] = {"model": model, **_prompt(request, endpoint), "temperature": sampling.temperature}
    if dialect.top_p or sampling.top_p != 1:
        body["top_p"] = sampling.top_p
    body[dialect.limit_field] = sampling.max_tokens
    if request.n > 1:
        body["n"] = request.n
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    seed = seed_of(sampling.seed, request.first_sample)
    if seed is not None:
        body["seed"] = seed
    if request.top_logprobs and endpoint == "chat":
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    elif request.top_logprobs:
        body["logprobs"] = request.top_logprobs
    if request.choices:
        body |= _constrained(request.choices, dialect.constraint)
    return body


def _prompt(request: ChatRequest, endpoint: Endpoint) -> dict[str, Any]:
    if endpoint == "chat":
        return {"messages": [{"role": m.role, "content": m.content} for m in request.messages]}
    if len(request.messages) != 1:
        raise UserError(
            f"the completions endpoint takes plain text: one message, not {len(request.messages)}; "
            "use endpoint=chat, or put the conversation into one message in the model's own format"
        )
    return {"prompt": request.messages[0].content}


def _constrained(choices: Sequence[str], constraint: Constraint) -> dict[str, Any]:
    if constraint == "vllm":
        return {"structured_outputs": {"choice": list(choices)}}
    if constraint == "guided_choice":
        return {"guided_choice": list(choices)}
    if constraint == "off":
        return {}
    schema = {
        "type": "object",
        "properties": {CHOICE_FIELD: {"type": "string", "enum": list(choices)}},
        "required": [CHOICE_FIELD],
        "additionalProperties": False,
    }
    wrapped = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": wrapped}}


def adapt(dialect: Dialect, refused: Mapping[str, Any], words: str) -> bool:
    """Learn from the words of a 400; True if the same request, written anew, has a chance.

    ``refused`` is the body that was sent: with many requests in flight it may be older than what ``dialect`` now says.
    """
    words = words.lower()
    if "max_completion_tokens" in words and "max_tokens" in refused:
        dialect.limit_field = "max_completion_tokens"
        return True
    if "top_p" in words and refused.get("top_p") == 1:
        dialect.top_p = False
        return True
    if "n" in refused and _ABOUT_N.search(words):
        dialect.max_n = 1
        return True
    asked = constraint_in(refused)
    if asked and not dialect.settled and _ABOUT_CONSTRAINT[asked].search(words):
        reject_constraint(dialect, asked)
        return True
    return False


def constraint_in(body: Mapping[str, Any]) -> Constraint | None:
    """The way in which a request body asks for one of several strings."""
    fields: dict[str, Constraint] = {
        "structured_outputs": "vllm",
        "guided_choice": "guided_choice",
        "response_format": "json_schema",
    }
    return next((name for field, name in fields.items() if field in body), None)


def reject_constraint(dialect: Dialect, used: Constraint) -> None:
    """Go on to the next way of asking for one of several strings, unless another request has done so."""
    if dialect.constraint == used and used != "off":
        dialect.constraint = CONSTRAINTS[CONSTRAINTS.index(used) + 1]
