"""How judges read replies: strict, last verdict wins, probabilities from the token that carries the verdict.

Nothing here guesses: what is not in the allowed set is no verdict, and the caller records a failure.
"""

from __future__ import annotations

import math
import re

from rlhf_eval.models.base import Choice, TokenLogprob


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
