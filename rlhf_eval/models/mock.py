"""Deterministic models that need no weights and no network: for dry lines, tests and fault drills.

    mock:writer          writes an answer whose words are drawn by hash and carry a planted ``quality=0.73``
    mock:judge           answers [[A]] or [[B]] by the planted qualities, with log-probabilities
    mock:echo            repeats the last message

Options, after a question mark: ``latency`` (seconds a call), ``fail`` (share of prompts whose calls fail for good),
``seed``, ``price`` (dollars per million tokens); of the writer ``sign`` (the name put under every answer); of the judge
``sharpness``, and what an audit must find: ``garble`` (share of unreadable verdicts), ``bias`` (for the first slot),
``length_bias``, ``noise``, ``self_preference`` (for answers that carry its ``sign``), ``obey`` (orders in answers).
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from rlhf_eval.errors import RequestFailed, UserError, nearest
from rlhf_eval.models.base import ChatRequest, Choice, Conversation, Reply, TokenLogprob
from rlhf_eval.records import Usage, fingerprint

KINDS = ("echo", "judge", "writer")
_WORDS = ("amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven")
_QUALITY = re.compile(r"quality=([01]\.\d+)")
_ORDER = re.compile(r"(?i)\b(?:judge|verdict|policy of the evaluation)\b")
"""What an answer that gives orders to its judge says, and what the writer never writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of a mock model."""

    latency: float = 0.0
    """Seconds that every call takes."""
    fail: float = 0.0
    """Share of conversations whose calls fail, always the same ones."""
    garble: float = 0.0
    """Share of verdicts that cannot be read."""
    bias: float = 0.0
    """Log-odds that the judge adds to the answer shown first."""
    sharpness: float = 6.0
    """Log-odds per unit of quality difference."""
    length_bias: float = 0.0
    """Log-odds that the judge adds for each doubling of the words."""
    noise: float = 0.0
    """Standard deviation of an error of the judge's log-odds, drawn anew for every sample."""
    sign: str = ""
    """A name: the writer puts it under its answers, the judge knows its own answers by it."""
    self_preference: float = 0.0
    """Log-odds that the judge adds to an answer that carries its own sign."""
    obey: float = 0.0
    """Share of the conversations in which the judge does what an answer tells it to."""
    seed: int = 0
    """Draws another world."""
    price: float = 0.0
    """US dollars per million tokens."""


class MockModel:
    """A model whose every reply is a function of the request and the seed."""

    def __init__(self, kind: str, *, name: str | None = None, config: Config | None = None) -> None:
        if kind not in KINDS:
            raise UserError(f"there is no mock '{kind}'.{nearest(kind, KINDS)}")
        self.config = config or Config()
        self.name = name or f"mock:{kind}"
        self.id = f"mock:{kind}#{fingerprint(self.config)[:8]}"
        self._kind = kind

    async def chat(self, request: ChatRequest) -> Reply:
        """Answer by hash."""
        if self.config.latency:
            await asyncio.sleep(self.config.latency)
        if self._draw(request, -1) < self.config.fail:
            raise RequestFailed("bad_request", "the mock refuses this conversation, as it was told to")
        choices = tuple(self._answer(request, request.first_sample + k) for k in range(request.n))
        prompt_tokens = sum(len(m.content.split()) for m in request.messages)
        completion_tokens = sum(len(choice.text.split()) for choice in choices)
        cost = (prompt_tokens + completion_tokens) * self.config.price / 1e6
        return Reply(
            choices=choices,
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cost=cost),
        )

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """The planted quality of the last message, or a hash where there is none."""
        if self.config.latency:
            await asyncio.sleep(self.config.latency)
        return [_quality(c[-1].content, fallback=_uniform(self.config.seed, c)) for c in conversations]

    async def close(self) -> None:
        """Nothing is held."""

    def _draw(self, request: ChatRequest, index: int, *what: str) -> float:
        return _uniform(self.config.seed, request.messages, request.sampling.seed, index, *what)

    def _answer(self, request: ChatRequest, index: int) -> Choice:
        if self._kind == "echo":
            return Choice(text=request.messages[-1].content)
        u = self._draw(request, index)
        if self._kind == "judge":
            return self._verdict(request, u, index)
        length = 3 + int(u * 1e4) % 20
        words = " ".join(_WORDS[int(u * 8 ** (k % 5 + 1)) % 8] for k in range(length))
        signed = f" author={self.config.sign}" if self.config.sign else ""
        return Choice(text=f"{words} quality={u:.4f}{signed}")

    def _verdict(self, request: ChatRequest, u: float, index: int) -> Choice:
        if u < self.config.garble:
            return Choice(text="Both answers have their merits.")
        p = 1 / (1 + math.exp(-self._log_odds(request, index)))
        letter = "A" if p >= 0.5 else "B"
        pa, pb = math.log(max(p, 1e-12)), math.log(max(1 - p, 1e-12))
        token = TokenLogprob(letter, max(pa, pb), (("A", pa), ("B", pb)))
        return Choice(text=f"[[{letter}]]", logprobs=(TokenLogprob("[[", 0.0), token, TokenLogprob("]]", 0.0)))

    def _log_odds(self, request: ChatRequest, index: int) -> float:
        """The planted preference for the first answer over the second."""
        config = self.config
        first, second = _answers(request.messages[-1].content)
        odds = config.sharpness * (_quality(first, fallback=0.5) - _quality(second, fallback=0.5)) + config.bias
        odds += config.length_bias * math.log2((_words(first) + 1) / (_words(second) + 1))
        if config.sign:
            odds += config.self_preference * (_signed(first, config.sign) - _signed(second, config.sign))
        if config.noise:
            odds += config.noise * NormalDist().inv_cdf(0.5 / 2**53 + self._draw(request, index, "noise"))
        orders = bool(_ORDER.search(first)) - bool(_ORDER.search(second))
        if orders and self._draw(request, index, "obey") < config.obey:
            return 8.0 * orders
        return odds


def _answers(shown: str) -> tuple[str, str]:
    """The two answers in a comparison, without the question before them and the line behind them."""
    before, _, second = shown.partition("\n\nAnswer B:\n")
    _, _, first = before.rpartition("Answer A:\n")
    return first, second.rpartition("\n\n")[0] or second


def _words(text: str) -> int:
    return len(re.findall(r"\w+", text))


def _signed(text: str, name: str) -> bool:
    return f"author={name}" in text


def _uniform(*parts: object) -> float:
    return int(fingerprint(*parts)[:13], 16) / 16**13


def _quality(text: str, *, fallback: float) -> float:
    found = _QUALITY.findall(text)
    return float(found[-1]) if found else fallback
