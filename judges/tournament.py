"""Find the best of n answers by matches between pairs: a knock-out of n - 1 matches, or a Swiss of a few rounds.

Each match is put to one pairwise judge in both orders, so that no seat favours anybody; the share of wins decides, and the
earlier answer goes on in a dead heat. Far fewer calls than all pairs, and every match stays in the metadata for a ranking
model to use. One run of it is enough: judge with ``--orders one``.

    rlhf-eval judge --judge tournament --judge-model openai:NAME@http://localhost:8000/v1 --orders one
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from judges.members import Models, Seat, compare, seat
from rlhf_eval.records import Completion, Prompt, Verdict

ARITY = 0

MOST_TRIES = 10_000
"""Pairings of a Swiss round that are looked at before old opponents meet again."""

Match = tuple[int, int]
Play = Callable[[Match], Awaitable[float]]
"""Two players to the share of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the tournament."""

    system: Literal["knockout", "swiss"] = "knockout"
    """knockout: who loses is out; swiss: everybody plays in every round, against somebody with as many points."""
    rounds: int = 0
    """Rounds of a Swiss; 0 for as many as a knock-out has."""
    member: dict[str, Any] = field(default_factory=lambda: {"judge": "pairwise"})
    """The judge of each match: a table with judge, model, settings."""

    def __post_init__(self) -> None:
        if self.rounds < 0 or (self.rounds and self.system == "knockout"):
            raise ValueError("rounds must be at least 0, and a knock-out has as many as it needs: leave it out there")


class Unread(Exception):
    """A match whose verdict could be read in neither order; the text is the judge's."""


@dataclass(slots=True)
class Record:
    """What happened in one tournament."""

    matches: list[tuple[int, int, float]] = field(default_factory=list)
    """The two players, as positions, and the share of the first."""
    words: list[str] = field(default_factory=list)


def models(config: Config) -> tuple[str, ...]:
    """The model that the member names, if any: what a verb must open for it."""
    named = seat(config.member, where="tournament").model
    return (named,) if named else ()


async def knockout(players: int, play: Play) -> list[float]:
    """Scores in [0, 1]: the share of the rounds that each player survived; the winner alone has 1.

    Neighbours meet; an odd player out goes through.
    """
    rounds = max(1, math.ceil(math.log2(max(players, 2))))
    survived = [0.0] * players
    left = list(range(players))
    for number in range(1, rounds + 1):
        matches = [*zip(left[::2], left[1::2], strict=False)]
        shares = await asyncio.gather(*map(play, matches))
        winners = [a if share >= 0.5 else b for (a, b), share in zip(matches, shares, strict=True)]
        left = winners + left[2 * len(matches) :]
        for player in left:
            survived[player] = number / rounds
    return survived


async def swiss(players: int, rounds: int, play: Play) -> list[float]:
    """Scores in [0, 1]: each player's mean share over the rounds; who has no opponent in a round gets a full point."""
    points = [0.0] * players
    met: set[frozenset[int]] = set()
    byes: set[int] = set()
    for _ in range(rounds):
        matches, idle = paired(points, met, byes)
        shares = await asyncio.gather(*map(play, matches))
        for (a, b), share in zip(matches, shares, strict=True):
            points[a] += share
            points[b] += 1 - share
            met.add(frozenset((a, b)))
        for player in idle:
            points[player] += 1
            byes.add(player)
    return [total / rounds for total in points]


def paired(points: Sequence[float], met: set[frozenset[int]], byes: set[int]) -> tuple[list[Match], list[int]]:
    """The matches of a round and who sits out: neighbours in the table that have not met, the lowest without a bye out."""
    table = sorted(range(len(points)), key=lambda player: (-points[player], player))
    idle: list[int] = []
    if len(table) % 2:
        out = next((player for player in reversed(table) if player not in byes), table[-1])
        table.remove(out)
        idle.append(out)
    tries = iter(range(MOST_TRIES))
    return _fresh(table, met, tries) or [*zip(table[::2], table[1::2], strict=True)], idle


def _fresh(table: list[int], met: set[frozenset[int]], tries: Iterator[int]) -> list[Match] | None:
    """Matches of all in ``table`` with nobody they have met, neighbours first; None where there are none to be found."""
    if not table:
        return []
    first, rest = table[0], table[1:]
    for second in rest:
        if next(tries, None) is None:
            return None
        if frozenset((first, second)) not in met:
            others = _fresh([player for player in rest if player != second], met, tries)
            if others is not None:
                return [(first, second), *others]
    return None


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Models, config: Config) -> Verdict:
    """Play a tournament among the completions; raises RequestFailed where a match gets no reply."""
    member = seat(config.member, where="tournament")
    record = Record()

    async def play(match: Match) -> float:
        return await _play(prompt, completions, match, member, model, record)

    players = len(completions)
    rounds = config.rounds or max(1, math.ceil(math.log2(max(players, 2))))
    try:
        scores = await (knockout(players, play) if config.system == "knockout" else swiss(players, rounds, play))
    except Unread as failure:
        return Verdict(error=f"unparsed: {failure}", rationale="\n\n".join(record.words))
    metadata = {"matches": [list(match) for match in record.matches]}
    return Verdict(scores=tuple(scores), rationale="\n\n".join(record.words), metadata=metadata)


async def _play(
    prompt: Prompt, completions: Sequence[Completion], match: Match, member: Seat, models: Models, record: Record
) -> float:
    """The share of the match's first player over both orders, or over the one that could be read."""
    a, b = (completions[player] for player in match)
    if a.text == b.text:
        record.matches.append((*match, 0.5))
        return 0.5
    straight, reverse = await asyncio.gather(
        compare(prompt, (a, b), member, models), compare(prompt, (b, a), member, models)
    )
    record.words.extend((straight.rationale, reverse.rationale))
    shares = [v.scores[k] for v, k in ((straight, 0), (reverse, 1)) if v.error is None]
    if not shares:
        raise Unread(
            f"the match of answers {match[0] + 1} and {match[1] + 1} has no readable verdict ({straight.error})"
        )
    share = sum(shares) / len(shares)
    record.matches.append((*match, share))
    return share
