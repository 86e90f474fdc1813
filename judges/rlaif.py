"""The RLAIF labeler: which response is preferred, as the probability of the token that names it.

Preamble, optional exemplars, the two responses; with ``reasoning`` the model first writes a rationale and then, in a second
call, the number (Lee et al., arXiv 2309.00267, section 2.1). The label is the softmax over the log-probabilities of "1" and
"2". The stage shows both orders as two judgments; ``combine`` makes one label of them: by the mean of the probabilities as
in the paper, or by the mean of the log-odds, which cancels an additive position bias exactly.

    rlhf-eval judge --judge rlaif --judge-model openai:NAME@http://localhost:8000/v1 --set reasoning=true
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from judges.reading import check_samples, option_shares, strip_thinking
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import ChatRequest, Choice, Model
from rlhf_eval.records import Completion, Judgment, Message, Prompt, Sampling, Verdict
from rlhf_eval.templates import conversation, fill, read, read_file

ARITY = 2

OPTIONS = ("1", "2")
FARTHEST = 40.0
"""Log-odds at which a probability counts as certain: beyond it floating point knows no difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the RLAIF labeler."""

    preamble: Literal["base", "detailed", "harmless"] = "base"
    """base: the better response; detailed: the better summary, with its criteria; harmless: the less harmful response."""
    template: str = ""
    """A preamble file of your own, in place of the one named by preamble."""
    inverted: bool = False
    """The preamble of your own asks for the worse response, so the label is turned round (harmless always is)."""
    exemplars: str = ""
    """A file of worked examples, shown between the preamble and the pair."""
    reasoning: bool = False
    """Ask for a rationale first, in a call of its own."""
    constrain: bool = False
    """Ask the server to allow nothing but 1 and 2 in the call that asks for the number."""
    rationale_tokens: int = 512
    """Longest rationale, in tokens."""
    max_tokens: int = 16
    """Longest reply to the question for the number, in tokens; more for a model that thinks first."""
    samples: int = 1
    """Where the server gives no log-probabilities: votes to draw; their smoothed share is the label."""
    temperature: float = 0.0
    """Sampling temperature of rationale and label."""

    def __post_init__(self) -> None:
        check_samples(self.samples, self.temperature)
        if self.inverted and not self.template:
            raise ValueError("inverted speaks of a preamble of your own; set template as well")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What both orders of a pair say together."""

    probability: float
    """That the first of the pair is preferred."""
    same_position: bool
    """Both orders chose the same position: the sign of position bias, or of a coin flip half of the time."""
    first_position: bool
    """The first order chose the first position; with ``same_position`` it gives the direction of the bias."""


def ask(prompt: Prompt, answers: tuple[str, str], config: Config) -> tuple[Message, ...]:
    """The conversation up to the question for the rationale, or for the number where none is wanted."""
    preamble = read_file(config.template) if config.template else read("judges", f"rlaif_{config.preamble}.txt")
    slots = {
        "preamble": preamble,
        "exemplars": f"\n{read_file(config.exemplars)}\n" if config.exemplars else "",
        "question": conversation(prompt),
        "answer_1": answers[0],
        "answer_2": answers[1],
        "task": read("judges", "rlaif_reasoning.txt" if config.reasoning else "rlaif_ending.txt"),
    }
    return (Message("user", fill(read("judges", "rlaif.txt"), slots)),)


def read_verdict(choice: Choice, config: Config, rationale: str = "") -> Verdict:
    """The label in the reply to the question for the number: the share of "1" among the two, or the number written."""
    whole = f"{rationale}\n\n{choice.text}" if rationale else choice.text
    start = strip_thinking(choice.text)[1]
    written = re.match(r"[\s\[(*\"'`]*+([12])(?!\d)", choice.text[start:])
    at = start + (written.start(1) if written else _first_text(choice.text[start:]))
    shares = option_shares(choice, at, OPTIONS)
    if shares is None and written is None:
        cause = "unparsed: the reply begins with neither 1 nor 2"
        return Verdict(error=cause + _cut(choice), rationale=whole)
    if shares is not None:
        first, mass = shares.of["1"], shares.mass
    else:
        first, mass = float(written is not None and written.group(1) == "1"), None
    if config.inverted or (config.preamble == "harmless" and not config.template):
        first = 1 - first
    metadata = {"mass": mass, "verdict": written.group(1) if written else None}
    return Verdict(scores=(first, 1 - first), rationale=whole, metadata=metadata)


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model, config: Config) -> Verdict:
    """Label two completions, in the order given; raises RequestFailed where the model gives no reply."""
    first, second = completions
    messages, rationale = ask(prompt, (first.text, second.text), config), ""
    if config.reasoning:
        thinking = Sampling(temperature=config.temperature, max_tokens=config.rationale_tokens)
        told = (await model.chat(ChatRequest(messages=messages, sampling=thinking))).choices[0].text
        rationale = told.strip()
        said = rationale[strip_thinking(rationale)[1] :].strip() or "(none)"
        messages = (*messages, Message("assistant", said), Message("user", read("judges", "rlaif_ending.txt")))
    request = ChatRequest(
        messages=messages,
        sampling=Sampling(temperature=config.temperature, max_tokens=config.max_tokens),
        top_logprobs=20,
        choices=OPTIONS if config.constrain else (),
        n=config.samples,
    )
    verdicts = [read_verdict(choice, config, rationale) for choice in (await model.chat(request)).choices]
    return _voted(verdicts) if config.samples > 1 else verdicts[0]


def combine(straight: float, reverse: float, how: Literal["probability", "log_odds"] = "probability") -> Label:
    """One label from both orders of a pair: the probability that its first answer is preferred.

    ``straight`` and ``reverse`` are the shares of whatever stood first, with the pair's first answer first and with its
    second answer first. The mean of probabilities keeps the winner and shrinks the label towards .5 under position bias;
    the mean of log-odds removes an additive bias. Swapping the two arguments gives one minus the label, to the last bit.
    """
    if how == "probability":
        probability = _mirrored(straight - reverse, lambda x: 0.5 + x / 2)
    else:
        probability = _mirrored((log_odds(straight) - log_odds(reverse)) / 2, lambda x: 1 / (1 + math.exp(-x)))
    first = straight > 0.5
    return Label(probability=probability, same_position=first == (reverse > 0.5), first_position=first)


def label_of(
    judgments: tuple[Judgment, Judgment], how: Literal["probability", "log_odds"] = "probability"
) -> Label | None:
    """One label from the stored judgments of a pair in its two orders; None where one of them failed.

    Raises UserError unless they are of the same two completions, once in each order.
    """
    by_order = {judgment.order: judgment for judgment in judgments}
    if set(by_order) != {(0, 1), (1, 0)} or judgments[0].completion_ids != judgments[1].completion_ids:
        raise UserError("a label needs two judgments of the same two completions, one in each order")
    if any(judgment.error for judgment in judgments):
        return None
    return combine(by_order[0, 1].scores[0], by_order[1, 0].scores[1], how)


def log_odds(probability: float) -> float:
    """``log(p/(1-p))``, held within what floating point can tell apart."""
    if not 0 < probability < 1:
        return FARTHEST if probability >= 1 else -FARTHEST
    return min(FARTHEST, max(-FARTHEST, math.log(probability / (1 - probability))))


def smoothed_share(votes: int, of: int) -> float:
    """The share of ``votes``, never 0 or 1: ``(k + .5)/(m + 1)``."""
    return (votes + 0.5) / (of + 1)


def _mirrored(x: float, rising: Callable[[float], float]) -> float:
    """``rising(x)``, and one minus its mirror image for a negative ``x``: exact antisymmetry around .5."""
    return rising(x) if x >= 0 else 1 - rising(-x)


def _voted(verdicts: Sequence[Verdict]) -> Verdict:
    """One label from several replies: the mean of soft ones, the smoothed share of hard ones."""
    readable = [verdict for verdict in verdicts if verdict.error is None]
    rationale = "\n\n---\n\n".join(verdict.rationale for verdict in verdicts)
    if not readable:
        return Verdict(error=verdicts[0].error, rationale=rationale)
    if all(verdict.metadata["mass"] is None for verdict in readable):
        first = smoothed_share(sum(verdict.scores[0] > 0.5 for verdict in readable), len(readable))
    else:
        first = sum(verdict.scores[0] for verdict in readable) / len(readable)
    metadata = {"mass": readable[0].metadata["mass"], "votes": len(readable), "unparsed": len(verdicts) - len(readable)}
    return Verdict(scores=(first, 1 - first), rationale=rationale, metadata=metadata)


def _first_text(text: str) -> int:
    return len(text) - len(text.lstrip())


def _cut(choice: Choice) -> str:
    return ", which was cut off at max_tokens" if choice.finish_reason == "length" else ""
