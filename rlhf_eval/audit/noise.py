"""The part of an audit that needs no truth: what chance does to the verdicts, what cannot be read, what it all costs.

Noise is measured before it is blamed: flips and circles that repetition alone would make are no bias and no inconsistency
of taste.

Source: a verdict that is turned with chance e makes a circle of three true preferences with chance ``e(1-e)``, which is
half the chance that two repeats disagree, ``2e(1-e)``; with unequal chances, as distances in quality give them, it is less.

    for entry in noise(evidence): ...
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

from rlhf_eval.audit.evidence import Evidence, Pair, sign
from rlhf_eval.audit.measures import Entry, Missing, difference_of, mean_of, share_of
from rlhf_eval.audit.probes import CONTROL, COPIES, is_probe
from rlhf_eval.records import Judgment

NOISE, READING, COST = "noise", "reading", "cost"


def noise(evidence: Evidence) -> list[Entry]:
    """Whether it says the same when it is asked again, and whether what changes with the order is more than that."""
    repeats = list(_repeats(evidence))
    if not repeats:
        why = "nothing was asked twice in the same order; --buy repeats buys that"
        found: list[Entry] = [Missing(name="repeat_agreement", section=NOISE, why=why)]
    else:
        found = [
            share_of(
                [same for same, _ in repeats], [prompt for _, prompt in repeats], name="repeat_agreement", section=NOISE,
                says="it names the same winner when the same question is put again",
            )
        ]  # fmt: skip
    return [*found, *_flips(evidence), *_circles(evidence)]


def _repeats(evidence: Evidence) -> Iterator[tuple[float, str]]:
    """For each question that was put more than once: the share of pairs of answers that agree, and the prompt."""
    if evidence.arity == 1:
        yield from _same_grades(evidence)
        return
    for pair in evidence.natural():
        for order, by_repeat in pair.said.items():
            if order and len(by_repeat) > 1:
                yield _agreeing([sign(share) for share in by_repeat.values()]), pair.prompt


def _same_grades(evidence: Evidence) -> Iterator[tuple[float, str]]:
    grades: dict[tuple[str, str], list[float]] = defaultdict(list)
    for judgment in _readable(evidence):
        if not _probed(evidence, judgment):
            grades[judgment.prompt_id, judgment.completion_ids[0]].append(judgment.scores[0])
    yield from ((_agreeing(given), prompt) for (prompt, _), given in grades.items() if len(given) > 1)


def _agreeing(values: Sequence[float]) -> float:
    pairs = [*combinations(values, 2)]
    return sum(x == y for x, y in pairs) / len(pairs)


def _unsteady(pair: Pair) -> float | None:
    """The share of its repeats that disagree; None where nothing was repeated."""
    shares = [
        1 - _agreeing([sign(share) for share in by_repeat.values()])
        for order, by_repeat in pair.said.items()
        if order and len(by_repeat) > 1
    ]
    return sum(shares) / len(shares) if shares else None


def _flips(evidence: Evidence) -> list[Entry]:
    """Flips with the order minus flips without it, on the pairs where both are known."""
    if evidence.arity == 1:
        return []
    rows = [
        (float(sign(orders[0]) * sign(orders[1]) < 0) - unsteady, pair.prompt)
        for pair in evidence.natural()
        if (orders := pair.orders) is not None and (unsteady := _unsteady(pair)) is not None
    ]
    name = "flips_beyond_noise"
    if not rows:
        why = "no pair was judged in both orders and put again; --buy swaps,repeats buys that"
        return [Missing(name=name, section="position", why=why)]
    return [
        difference_of(
            [gap for gap, _ in rows], [prompt for _, prompt in rows], name=name, section="position", neutral=0.0, side=1,
            says="verdicts that flip with the order, beyond those that flip without any change",
        )
    ]  # fmt: skip


def _circles(evidence: Evidence) -> list[Entry]:
    """Threes of answers of which each beats the next, against what noise gives."""
    name = "circles"
    if evidence.arity == 1:
        return [Missing(name=name, section=NOISE, why="grades are numbers: they cannot run in a circle")]
    threes = [(circle, prompt, group) for prompt, group, circle in _threes(evidence)]
    if not threes:
        why = (
            "no three answers of a prompt all met each other; --buy triples buys that where a prompt has three answers"
        )
        return [Missing(name=name, section=NOISE, why=why)]
    found = [
        share_of(
            [circle for circle, _, _ in threes], [prompt for _, prompt, _ in threes], name=name, section=NOISE,
            says="of three answers the first beats the second, the second the third, and the third the first",
        )
    ]  # fmt: skip
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for pair in evidence.natural():
        if (unsteady := _unsteady(pair)) is not None:
            by_prompt[pair.prompt].append(unsteady)
    rows = [
        (circle - sum(by_prompt[prompt]) / len(by_prompt[prompt]) / 2, prompt)
        for circle, prompt, _ in threes
        if by_prompt.get(prompt)
    ]
    if rows:
        found.append(
            difference_of(
                [gap for gap, _ in rows], [prompt for _, prompt in rows], name="circles_beyond_noise", section=NOISE,
                neutral=0.0, side=1,
                says="circles beyond those that its own noise can make (half the disagreement of repeats, at most)",
            )
        )  # fmt: skip
    return found


def _threes(evidence: Evidence) -> Iterator[tuple[str, tuple[str, str, str], float]]:
    """Prompt, three answers that all met with a winner each time, and 1 where they run in a circle."""
    beats: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    for pair in evidence.natural():
        if pair.mean is not None and sign(pair.mean):
            beats[pair.prompt][pair.a.id, pair.b.id] = sign(pair.mean)
    for prompt, won in beats.items():
        answers = sorted({answer for key in won for answer in key})
        for x, y, z in combinations(answers, 3):
            if (x, y) in won and (y, z) in won and (x, z) in won:
                yield prompt, (x, y, z), float(won[x, y] == won[y, z] == -won[x, z])


def reading(evidence: Evidence) -> list[Entry]:
    """Verdicts that cannot be read, with and without an order in the answers, and ties."""
    natural = [j for j in evidence.judgments if not _probed(evidence, j)]
    attacked = [j for j in evidence.judgments if _probed(evidence, j) and not _copied(evidence, j)]
    found = [
        share_of(
            [float(j.error is not None) for j in natural], [j.prompt_id for j in natural], name="unreadable",
            section=READING, neutral=0.0, side=1, says="replies that hold no verdict; they are failures, never ties",
        )
    ]  # fmt: skip
    if attacked:
        found.append(
            share_of(
                [float(j.error is not None) for j in attacked], [j.prompt_id for j in attacked],
                name="unreadable_under_attack", section=READING, says="the same, where an answer holds an order",
            )
        )  # fmt: skip
    rows = [(float(sign(share) == 0), pair.prompt) for pair in evidence.natural() for _, share in pair.single]
    found.append(
        share_of(
            [tie for tie, _ in rows], [prompt for _, prompt in rows], name="tie_rate", section=READING,
            says="it finds neither answer better",
        )
    )  # fmt: skip
    return found


def _readable(evidence: Evidence) -> Iterator[Judgment]:
    return (j for j in evidence.judgments if j.error is None)


def _probed(evidence: Evidence, judgment: Judgment) -> bool:
    return any(is_probe(evidence.completions[c]) for c in judgment.completion_ids)


def _copied(evidence: Evidence, judgment: Judgment) -> bool:
    kinds = {f"audit:{kind}" for kind in (*COPIES, CONTROL)}
    return any(evidence.completions[c].generator in kinds for c in judgment.completion_ids)


def cost(evidence: Evidence) -> list[Entry]:
    """What a call costs in dollars, tokens and seconds, over those that were not answered from the cache."""
    paid = [j for j in evidence.judgments if j.usage.prompt_tokens or j.usage.completion_tokens]
    if not paid:
        why = "these judgments carry no usage: they were imported, or answered from the cache"
        return [Missing(name="cost_per_call", section=COST, why=why)]
    prompts = [j.prompt_id for j in paid]
    tokens = [float(j.usage.prompt_tokens + j.usage.completion_tokens) for j in paid]
    found = [
        mean_of(tokens, prompts, name="tokens_per_call", section=COST, unit="tokens", says="tokens in and out"),
        mean_of(
            [j.usage.seconds for j in paid], prompts, name="seconds_per_call", section=COST, unit="seconds",
            says="seconds until the reply, under the load that it was asked with",
        ),
    ]  # fmt: skip
    if not any(j.usage.cost for j in paid):
        why = "no price is known for its calls; --prices FILE gives one"
        return [Missing(name="cost_per_call", section=COST, why=why), *found]
    costs = [j.usage.cost for j in paid]
    dollars = mean_of(costs, prompts, name="cost_per_call", section=COST, unit="dollars", says="US dollars a call")
    return [dollars, *found]
