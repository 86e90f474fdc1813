"""The distribution of a grade over its scale, from the log-probabilities of the tokens that spell it.

A grade may be one token or several: many tokenizers write "10" as "1" and "0", so that the probability of "1" is that of 1
and 10 together. Where the reply itself went on from "1", the next token's alternatives split it:
``P(10) = P("1") P("0" | "1")``. Where it did not, the split is unknown and is reported as such; ``ask_splits`` finds it out
with constrained calls.

    from judges.scale import read_grades
    read_grades(choice, offset, low=1, high=10).mean
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from judges.reading import token_at
from rlhf_eval.models.base import ChatRequest, Choice, Model, TokenLogprob

NEGLIGIBLE = 0.01
"""Share of the mass that may stay unsplit without moving the mean by more than a tenth of a grade."""
MOST_SPLITS = 2
"""Most beginnings of a grade that are asked about."""
SPLIT_SAMPLES = 16
"""Constrained draws by which digits are split where log-probabilities do not tell."""


@dataclass(slots=True)
class Grades:
    """Probability mass on each grade, before renormalising."""

    mass: dict[int, float] = field(default_factory=dict)
    unsplit: dict[str, float] = field(default_factory=dict)
    """Digits that may be a grade or the beginning of a longer one, with their mass."""

    @property
    def known(self) -> bool:
        """Whether enough of the mass lies on grades for their mean to be one."""
        total = sum(self.mass.values())
        return total > 0 and sum(self.unsplit.values()) <= NEGLIGIBLE * total

    @property
    def mean(self) -> float:
        """The mean grade, of the mass that lies on grades."""
        return sum(g * p for g, p in self.mass.items()) / sum(self.mass.values())

    def put(self, digits: str, mass: float, low: int, high: int) -> None:
        """Add mass to the grade that is written as ``digits``, if it is on the scale."""
        if low <= int(digits) <= high and str(int(digits)) == digits:
            self.mass[int(digits)] = self.mass.get(int(digits), 0.0) + mass


def read_grades(choice: Choice, offset: int, *, low: int, high: int) -> Grades:
    """The mass on each grade in ``low..high`` at the grade that begins at ``offset``; empty without log-probabilities."""
    grades = Grades()
    located = token_at(choice, offset)
    if located is None or not located[0].top:
        return grades
    token, at = located
    start = next(i for i, t in enumerate(choice.logprobs) if t is token)
    before = token.token[:at]
    joined = any(re.match(r"\d\d", name[at:]) for name, _ in token.top if name.startswith(before))
    for name, p in _alternatives(token).items():
        if name.startswith(before):
            follow = start + 1 if name == token.token and not joined else None
            _spread(grades, choice.logprobs, name[at:], "", p, follow, joined, low, high)
    return grades


def _spread(
    grades: Grades,
    tokens: tuple[TokenLogprob, ...],
    piece: str,
    digits: str,
    mass: float,
    follow: int | None,
    joined: bool,
    low: int,
    high: int,
) -> None:
    """Put the mass of ``digits`` and ``piece`` where it belongs; ``follow`` is the token after them, if it was written."""
    more = re.match(r"\d*", piece)
    new = more.group() if more else ""
    digits, rest = digits + new, piece[len(new) :]
    if not digits:
        return
    if rest or not new or joined or not _may_go_on(digits, high):
        grades.put(digits, mass, low, high)
        return
    if follow is None or follow >= len(tokens) or not tokens[follow].top:
        grades.unsplit[digits] = grades.unsplit.get(digits, 0.0) + mass
        return
    following = tokens[follow]
    alternatives = _alternatives(following)
    for name, p in alternatives.items():
        onward = follow + 1 if name == following.token else None
        _spread(grades, tokens, name, digits, mass * p, onward, joined, low, high)
    grades.put(digits, mass * max(0.0, 1 - sum(alternatives.values())), low, high)


def _may_go_on(digits: str, high: int) -> bool:
    """Whether a grade up to ``high`` begins with ``digits`` and is longer."""
    return digits != "0" and int(digits) * 10 <= high


def _alternatives(token: TokenLogprob) -> dict[str, float]:
    known = {token.token: token.logprob, **dict(token.top)}
    return {name: math.exp(logprob) for name, logprob in known.items()}


async def ask_splits(model: Model, request: ChatRequest, grades: Grades, form: str, *, low: int, high: int) -> Grades:
    """``grades`` with the mass of ambiguous digits split, by constrained calls for each of them.

    ``form`` is how a reply holds a grade, with one ``{}``. Digits of negligible mass are not asked about, and nothing is
    where more than ``MOST_SPLITS`` are in doubt. A server that cannot constrain a reply leaves the split unknown.
    """
    total = sum(grades.mass.values()) + sum(grades.unsplit.values())
    doubtful = {digits for digits, mass in grades.unsplit.items() if mass > NEGLIGIBLE / 10 * total}
    if len(doubtful) > MOST_SPLITS:
        return grades
    split = Grades(dict(grades.mass))
    for digits, mass in grades.unsplit.items():
        options = [g for g in range(low, high + 1) if str(g).startswith(digits)]
        shares = await _shares(model, request, form, digits, options) if digits in doubtful else {}
        if not shares:
            split.unsplit[digits] = mass
        for grade, share in shares.items():
            split.mass[grade] = split.mass.get(grade, 0.0) + mass * share
    return split


async def _shares(
    model: Model, request: ChatRequest, form: str, digits: str, options: Sequence[int]
) -> Mapping[int, float]:
    """How the mass of ``digits`` divides among the grades that begin so; empty where the server does not constrain.

    Log-probabilities of the next token tell, unless the reply ended there: servers do not report the token that ends a
    reply. Then ``SPLIT_SAMPLES`` draws tell.
    """
    written = {form.format(g): g for g in options}
    held = replace(request, choices=tuple(written), n=1, first_sample=0)
    choice = (await model.chat(held)).choices[0]
    if choice.text not in written:
        return {}
    found = read_grades(choice, form.index("{}"), low=min(options), high=max(options))
    mass = {g: p for g, p in found.mass.items() if g in options}
    if sum(mass.values()) > 0 and not found.unsplit:
        return {g: p / sum(mass.values()) for g, p in mass.items()}
    drawing = replace(held, sampling=replace(held.sampling, temperature=1.0), top_logprobs=0, n=SPLIT_SAMPLES)
    drawn = [choice.text for choice in (await model.chat(drawing)).choices]
    if not written.keys() >= set(drawn):
        return {}
    return {grade: drawn.count(text) / len(drawn) for text, grade in written.items()}
