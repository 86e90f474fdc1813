"""How judges read replies: strict, last verdict wins, probabilities from the token that carries the verdict.

Nothing here guesses: what is not in the allowed set is no verdict, and the caller records a failure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_eval.models.base import Choice, TokenLogprob
from rlhf_eval.records import Verdict


def last_verdict(text: str, letters: str) -> tuple[str, int] | None:
    """The last ``[[X]]``, if X is among ``letters``, and the character offset of X; None where there is none.

    A last letter that is not allowed is no verdict: the one before it was not the judge's final word.
    """
    found = None
    for match in re.finditer(r"\[\[([A-Z])\]\]", text):
        found = match
    if found is None or found.group(1) not in letters:
        return None
    return found.group(1), found.start(1)


def last_rating(text: str, low: int, high: int) -> tuple[int, int] | None:
    """The last ``[[number]]``, if it is whole and in ``low..high``, and the offset of its first digit; else None.

    A last number that is not on the scale is no rating: the one before it was not the judge's final word.
    """
    found = None
    for match in re.finditer(r"\[\[\s*(-?[0-9]+(?:[.,/][0-9]+)?)\s*\]\]", text):
        found = match
    if found is None or not found.group(1).isdigit() or len(found.group(1)) > 4:
        return None
    rating = int(found.group(1))
    return (rating, found.start(1)) if low <= rating <= high else None


def token_at(choice: Choice, offset: int) -> tuple[TokenLogprob, int] | None:
    """The generated token that covers character ``offset`` of the text, and where in the token that is.

    None where the server gave no tokens or they do not spell the text (byte fragments).
    """
    if not choice.logprobs or not "".join(t.token for t in choice.logprobs).startswith(choice.text):
        return None
    start = 0
    for token in choice.logprobs:
        if offset < start + len(token.token):
            return token, offset - start
        start += len(token.token)
    return None


def letter_probabilities(choice: Choice, offset: int, letters: str) -> dict[str, float] | None:
    """Share of each letter at the verdict's position, renormalised over ``letters``; None without log-probabilities.

    Alternatives count only if they are the same token but for the letter, so that ``A`` is compared with ``B`` and not
    with another way to begin a sentence.
    """
    located = token_at(choice, offset)
    if located is None or not located[0].top:
        return None
    token, at = located
    before, after = token.token[:at], token.token[at + 1 :]
    known = dict(token.top)
    known.setdefault(token.token, token.logprob)
    mass = {x: math.exp(known[before + x + after]) for x in letters if before + x + after in known}
    total = sum(mass.values())
    return {x: p / total for x, p in mass.items()} if total > 0 else None


def bare_letter_probabilities(choice: Choice, offset: int, letters: str) -> dict[str, float] | None:
    """Share of each letter at the first token with text from ``offset`` on, whatever was written there; None if unknown.

    For verdicts of one bare token, where the alternatives are the verdict (AlpacaEval 2): a reply that begins with
    another word still had a probability for each letter. Only the spelling with the same leading space counts.
    """
    while choice.text[offset : offset + 1].isspace():
        offset += 1
    located = token_at(choice, offset)
    if located is None or located[0].token[: located[1]].strip():
        return None
    token, at = located
    known = {token.token: token.logprob, **dict(token.top)}
    spelled = {x: token.token[:at] + x for x in letters}
    mass = {x: math.exp(known[name]) if name in known else 0.0 for x, name in spelled.items()}
    total = sum(mass.values())
    return {x: p / total for x, p in mass.items()} if total > 0 else None


_THOUGHT = re.compile(r"\A\s*<(think|thinking|thought|reasoning)>(.*?)(?:</\1>|\Z)", re.DOTALL)
_THOUGHT_END = re.compile(r"</(?:think|thinking|thought|reasoning)>")


def strip_thinking(text: str) -> tuple[str, int]:
    """The thought that a reasoning model wrote before its answer, and the offset at which the answer begins.

    ``<think>...</think>`` at the start, or text that only ends with ``</think>`` because the chat template opened the tag.
    A thought that never ends is all thought: the answer is empty and holds no verdict. The first closing tag counts, so
    that one quoted in the answer cannot hide the verdict before it from a reader of the last one.
    """
    opened = _THOUGHT.match(text)
    if opened:
        return opened.group(2).strip(), opened.end()
    closed = _THOUGHT_END.search(text)
    return (text[: closed.start()].strip(), closed.end()) if closed else ("", 0)


def last_label(text: str, labels: tuple[str, ...]) -> tuple[str, int] | None:
    """The last ``[[label]]``, if it is among ``labels``, and the offset of its first character; None where there is none.

    Letters may be of either case and spaces stand around the label. A last bracketed word that is not allowed is no
    verdict.
    """
    found = None
    for match in re.finditer(r"\[\[ *([^\[\]\n]{1,40}?) *\]\]", text):
        found = match
    allowed = {label.lower(): label for label in labels}
    if found is None or found.group(1).lower() not in allowed:
        return None
    return allowed[found.group(1).lower()], found.start(1)


@dataclass(frozen=True, slots=True)
class Shares:
    """Probabilities of the options at one token."""

    of: dict[str, float]
    """Option to its share; the shares sum to one."""
    mass: float
    """Probability of all options together, before renormalising: the rest went to tokens that are no option."""


def option_shares(choice: Choice, offset: int, options: tuple[str, ...]) -> Shares | None:
    """Shares of ``options`` at the token over ``offset``; None where no log-probabilities are known there.

    All spellings of an option count together (`` 1``, ``1``, ``Yes``, ``yes``), and so does a token that is the beginning
    of exactly one option.
    """
    located = token_at(choice, offset)
    if located is None or not located[0].top:
        return None
    token, at = located
    before = token.token[:at].strip()
    known = {token.token: token.logprob, **dict(token.top)}
    mass = dict.fromkeys(options, 0.0)
    for spelled, logprob in known.items():
        rest = spelled.strip().lower()
        if rest.startswith(before.lower()):
            rest = rest[len(before) :]
            named = [o for o in options if rest and (_begins(rest, o.lower()) or o.lower().startswith(rest))]
            if len(named) == 1:
                mass[named[0]] += math.exp(logprob)
    total = sum(mass.values())
    return Shares({o: p / total for o, p in mass.items()}, total) if total > 0 else None


def _begins(text: str, option: str) -> bool:
    """Whether ``text`` is ``option``, alone or followed by no letter or digit."""
    return text.startswith(option) and not text[len(option) : len(option) + 1].isalnum()


def check_samples(samples: int, temperature: float) -> None:
    """Raise ValueError where no reply is asked for, or several that could not differ."""
    if samples < 1 or (samples > 1 and temperature == 0):
        raise ValueError("samples must be at least 1, and more than one needs a temperature above 0 to differ")


def check_scale(low: int, high: int) -> None:
    """Raise ValueError unless a scale of grades rises and lies within 0 to 100."""
    if not 0 <= low < high <= 100:
        raise ValueError(f"the scale {low} to {high} must rise and lie within 0 to 100")


def average(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict from several of the same question: the mean of those that could be read."""
    readable = [verdict for verdict in verdicts if verdict.error is None]
    rationale = "\n\n---\n\n".join(verdict.rationale for verdict in verdicts)
    if not readable:
        return Verdict(error=verdicts[0].error, rationale=rationale)
    columns = zip(*(verdict.scores for verdict in readable), strict=True)
    metadata = {
        "verdicts": [verdict.metadata.get("verdict") for verdict in readable],
        "unparsed": len(verdicts) - len(readable),
    }
    means = tuple(sum(column) / len(readable) for column in columns)
    return Verdict(scores=means, rationale=rationale, metadata=metadata)


def numbered_labels(text: str, count: int, labels: Sequence[str]) -> list[str] | None:
    """The last ``[[k: label]]`` of each k from 1 to ``count``; None where one is missing or is not among ``labels``."""
    said = {int(m.group(1)): m.group(2).lower() for m in re.finditer(r"\[\[ *(\d{1,3}) *: *(\w{1,20}) *\]\]", text)}
    found = [said.get(k, "") for k in range(1, count + 1)]
    return found if all(label in labels for label in found) else None
