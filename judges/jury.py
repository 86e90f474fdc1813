"""Several judges compare two answers, and their votes become one.

Inside one run, ``judge`` asks every member and takes the mean of their shares or the majority. Over the stored judgments of
several judges, ``pool`` does the same and can also weigh each judge by its estimated errors (Dawid and Skene, 1979).
Before buying a panel, ask ``advice``: judges that err on the same items are worth few independent votes (nine frontier
judges about two), and then the best of them alone is better.

    rlhf-eval judge --judge jury --judge-model openai:NAME@http://localhost:8000/v1
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from judges.members import Models, ask_models, compare, seats
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, Prompt, Usage, Verdict
from rlhf_eval.stats.dawid_skene import dawid_skene
from rlhf_eval.stats.judge_quality import effective_votes, error_correlation

ARITY = 2

Table = Mapping[str, Any]
FEW = 2.0
"""Effective votes below which a panel of three or more adds little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the jury."""

    members: tuple[dict[str, Any], ...] = (
        {"judge": "pairwise"},
        {"judge": "rlaif"},
        {"judge": "grade"},
    )
    """The judges on it: tables with judge, model, settings, name."""
    method: Literal["mean", "majority"] = "mean"
    """mean of the members' shares, or the side that more of them are for."""
    quorum: float = 0.5
    """Share of the members whose verdict must be readable."""

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise ValueError("a jury needs at least two members")
        if not 0 < self.quorum <= 1:
            raise ValueError(f"quorum is {self.quorum}; it must lie over 0 and up to 1")


def models(config: Config) -> tuple[str, ...]:
    """The models that members name, each once: what a verb must open for them."""
    return tuple(dict.fromkeys(one.model for one in seats(config.members, where="jury") if one.model))


def needs_model(config: Config) -> bool:
    """Whether any member asks a model."""
    return ask_models(config.members, where="jury")


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Models, config: Config) -> Verdict:
    """Ask every member about two completions, in the order given; raises RequestFailed where a member gets no reply."""
    panel = seats(config.members, where="jury")
    verdicts = await asyncio.gather(*(compare(prompt, completions, one, model) for one in panel))
    names = [one.name for one in panel]
    rationale = "\n\n".join(f"{name}: {verdict.rationale}" for name, verdict in zip(names, verdicts, strict=True))
    votes = {n: v.scores[0] for n, v in zip(names, verdicts, strict=True) if v.error is None}
    if len(votes) < config.quorum * len(panel):
        cause = (
            f"unparsed: {len(votes)} of {len(panel)} members gave a readable verdict; the quorum is {config.quorum:g}"
        )
        return Verdict(error=cause, rationale=rationale, metadata={"votes": votes})
    share = vote([*votes.values()], config.method)
    return Verdict(scores=(share, 1 - share), rationale=rationale, metadata={"votes": votes})


def vote(shares: Sequence[float], method: Literal["mean", "majority"]) -> float:
    """One share of the first answer from the members' shares."""
    if method == "mean":
        return sum(shares) / len(shares)
    lead = sum((share > 0.5) - (share < 0.5) for share in shares)
    return 0.5 if lead == 0 else float(lead > 0)


def votes_of(judgments: Iterable[Judgment]) -> tuple[list[Judgment], list[str], np.ndarray]:
    """Stored comparisons as a table of votes: one judgment to stand for each item, the judges, shape (items, judges).

    An item is a pair in one order and repeat; a share is that of the pair's first completion, NaN where a judge has none.
    Raises UserError on judgments that compare nothing.
    """
    items: dict[tuple[Any, ...], dict[str, Judgment]] = {}
    for judgment in judgments:
        if len(judgment.completion_ids) != 2:
            raise UserError(
                f"{judgment.judge} gave {len(judgment.completion_ids)} scores: a panel pools comparisons of two"
            )
        key = (judgment.prompt_id, judgment.completion_ids, judgment.order, judgment.repeat)
        items.setdefault(key, {})[judgment.judge] = judgment
    judges = sorted({name for voters in items.values() for name in voters})
    table = np.full((len(items), len(judges)), np.nan)
    for row, voters in enumerate(items.values()):
        for column, name in enumerate(judges):
            if name in voters and voters[name].error is None:
                table[row, column] = voters[name].scores[0]
    return [next(iter(voters.values())) for voters in items.values()], judges, table


def pool(
    judgments: Iterable[Judgment], *, method: Literal["mean", "majority", "dawid_skene"] = "mean"
) -> list[Judgment]:
    """One judgment an item from those of several judges; an item on which nobody gave a verdict stays a failure.

    Nothing is asked and nothing is paid. Raises UserError below two judges.
    """
    items, judges, table = votes_of(judgments)
    if len(judges) < 2:
        raise UserError(f"there are judgments of {len(judges)} judge; a panel needs two or more")
    heard = ~np.isnan(table).all(axis=1)
    shares = np.full(len(items), np.nan)
    if method == "dawid_skene":
        if heard.any():
            shares[heard] = _dawid_skene(table[heard])
    else:
        for row in np.flatnonzero(heard):
            shares[row] = vote([float(x) for x in table[row] if not np.isnan(x)], method)
    name = f"jury:{method}({' + '.join(judges)})"
    return [
        _pooled(item, name, float(share), dict(zip(judges, row, strict=True)))
        for item, share, row in zip(items, shares, table.tolist(), strict=True)
    ]


def advice(judgments: Iterable[Judgment], truth: Mapping[tuple[str, ...], float]) -> str:
    """Whether a panel of these judges is worth its price, in one sentence.

    ``truth`` maps the two completion ids to the true share of the first. Only items with a truth and a verdict of every
    judge count; raises UserError below 10 of them or below two judges.
    """
    items, judges, table = votes_of(judgments)
    known = np.array([item.completion_ids in truth for item in items], dtype=bool) & ~np.isnan(table).any(axis=1)
    if len(judges) < 2 or known.sum() < 10:
        raise UserError(
            f"{int(known.sum())} items have a truth and a verdict of all {len(judges)} judges; advice on a panel needs "
            "two judges and 10 such items"
        )
    right = np.array([truth[item.completion_ids] for item, use in zip(items, known, strict=True) if use])
    verdicts = np.sign(table[known] - 0.5) / 2 + 0.5
    accuracy = 1 - np.abs(verdicts - right[:, None]).mean(axis=0)
    majority = np.sign((verdicts - 0.5).sum(axis=1)) / 2 + 0.5
    together = 1 - float(np.abs(majority - right).mean())
    best = int(np.argmax(accuracy))
    rho = error_correlation(verdicts - right[:, None])
    worth = effective_votes(len(judges), rho)
    found = (
        f"{len(judges)} judges whose errors correlate by {rho:.2f} are worth {worth:.1f} independent votes; "
        f"the majority is right on {together:.0%} of {int(known.sum())} items, the best alone ({judges[best]}) on "
        f"{accuracy[best]:.0%}"
    )
    if together <= accuracy[best] or (worth < FEW and len(judges) > 2):
        return f"do not buy the panel: {found}"
    return f"a panel helps: {found}"


def _dawid_skene(table: np.ndarray) -> np.ndarray:
    """The posterior share of the first answer: win, tie and loss are three classes if anybody ever tied, else two."""
    ties = bool((table == 0.5).any())
    classes = np.where(table > 0.5, 1, np.where(table < 0.5, 0, 2))
    codes = np.where(np.isnan(table), -1, classes).astype(int)
    posterior = dawid_skene(codes, classes=3 if ties else 2).posterior
    shares: np.ndarray = posterior[:, 1] + (posterior[:, 2] / 2 if ties else 0.0)
    return shares


def _pooled(item: Judgment, name: str, share: float, votes: Mapping[str, float]) -> Judgment:
    heard = {judge: value for judge, value in votes.items() if not np.isnan(value)}
    return Judgment.of(
        prompt_id=item.prompt_id,
        completion_ids=item.completion_ids,
        judge=name,
        order=item.order,
        repeat=item.repeat,
        scores=(share, 1 - share) if heard else (),
        error=None if heard else "unparsed: no judge of the panel gave a readable verdict",
        usage=Usage(),
        metadata={"votes": heard},
    )
