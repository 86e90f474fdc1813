"""One request and one reply for every model, local or far: the contract of the inference door.

A backend answers ``chat`` (text with optional log-probabilities) or ``score`` (one number a conversation), or both; one
that has the weights can also read a given answer (``logprobs``). It does one attempt and says how that failed; caching,
retries, concurrency and money are the business of ``models.door``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rlhf_eval.errors import UserError
from rlhf_eval.records import Message, Sampling, Usage

Conversation = tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """``n`` samples of one conversation, numbered ``first_sample`` onwards.

    Sample ``first_sample + k`` must not depend on ``n``: that is what lets 8 samples reuse the 4 already paid for.
    """

    messages: Conversation
    sampling: Sampling = Sampling()
    n: int = 1
    first_sample: int = 0
    top_logprobs: int = 0
    """How many alternatives to return at each generated token; 0 asks for no log-probabilities."""
    choices: tuple[str, ...] = ()
    """If given, the reply must be one of these strings; a backend constrains decoding where it can."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token, its natural-log probability, and the likeliest alternatives (token, logprob)."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One sampled answer."""

    text: str
    finish_reason: str = "stop"
    """``stop``, ``length`` or ``content_filter``, as the server says."""
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back: one choice a sample, in order, and what the call used."""

    choices: tuple[Choice, ...]
    usage: Usage = Usage()
    cached: int = 0
    """How many of the choices were in the cache and cost nothing."""


@runtime_checkable
class Probes(Protocol):
    """A model that can say at once whether it will answer at all."""

    async def probe(self) -> None:
        """Return if the endpoint is there; raises ModelUnavailable, within seconds, if it is not."""
        ...


@runtime_checkable
class Served(Protocol):
    """A model at an address: what it takes at once, it takes of all models there together."""

    base_url: str


@runtime_checkable
class Reads(Protocol):
    """A language model that can say how likely a given answer is."""

    async def logprobs(self, conversations: Sequence[Conversation]) -> list[float]:
        """Log-probability of each conversation's last turn given all before it, in nats, summed over its tokens.

        What the template writes to end the turn counts too. Raises like ``chat``.
        """
        ...


class Model(Protocol):
    """Anything that answers; the door wraps one and is one."""

    name: str
    """What tables show: an alias or the spec that the user typed."""
    id: str
    """What the cache and record ids depend on: the spec with the revision of its weights or the endpoint's address."""

    async def chat(self, request: ChatRequest) -> Reply:
        """Answer; raises RequestFailed for this request, ModelUnavailable for all of them."""
        ...

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """One number a conversation (a reward), in order; raises like ``chat``."""
        ...

    async def close(self) -> None:
        """Give back sockets and memory."""
        ...


def reads(model: Model) -> Reads:
    """The model as one that reads; raises UserError where it cannot tell how likely a given text is."""
    if isinstance(model, Reads):
        return model
    raise UserError(f"{model.name} does not tell how likely a given text is; name the weights: hf:PATH or vllm:PATH")
