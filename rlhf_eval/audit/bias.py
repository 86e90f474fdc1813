"""The part of an audit that asks what moves a judge beside quality: place, length, dress, authorship.

Each is asked twice where it can be. By association: among the answers that were given, does it name the right one more
often when that one is the longer (the first, its own)? By intervention: what does it say about a copy that differs in
nothing else? Only the second is a cause; the first is shown beside it.

Sources: Zheng et al. (arXiv 2306.05685, section 3.3) for the kinds of bias; Lee et al. (arXiv 2309.00267, section 4.3)
for the direction of position bias; the log-odds effects are the coefficients of
``logit = quality + beta side + phi length + delta own``.

    for entry in position(evidence): ...
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import combinations

import numpy as np

from rlhf_eval.audit.effects import NO_LOG_ODDS, doublings, effect, ownership
from rlhf_eval.audit.evidence import FIRST, Evidence, Pair, sign
from rlhf_eval.audit.measures import (
    Entry,
    Measure,
    Missing,
    decided,
    difference_of,
    is_soft,
    log_odds,
    mean_of,
    share_of,
    winners_share,
)
from rlhf_eval.audit.probes import traits
from rlhf_eval.errors import UserError
from rlhf_eval.stats.arrays import Floats, Ints
from rlhf_eval.stats.intervals import Interval
from rlhf_eval.stats.judge_effects import difference_of_groups, fair_gap
from rlhf_eval.stats.judge_quality import position_bias

POSITION, LENGTH, STYLE, SELF = "position", "length", "style", "self-preference"
GRADES = "it grades one answer at a time: no answer stands before another"
FAVOUR = "its share for the right answer where that is the {more} one, minus where it is not"


def position(evidence: Evidence) -> list[Entry]:
    """Flips when the order is swapped, and which place wins."""
    if evidence.arity == 1:
        return [Missing(name="flip_rate", section=POSITION, why=GRADES)]
    both = [(pair, pair.orders) for pair in evidence.natural() if pair.orders is not None]
    if not both:
        why = "no pair was judged in both orders; --buy swaps buys the other one"
        return [Missing(name="flip_rate", section=POSITION, why=why), *_one_order(evidence)]
    prompts = [pair.prompt for pair, _ in both]
    first = [orders[0] for _, orders in both if orders]
    second = [orders[1] for _, orders in both if orders]
    counts = position_bias(first, second, np.asarray(prompts))
    flips = [float(sign(x) * sign(y) < 0) for x, y in zip(first, second, strict=True)]
    about = {
        "to_first": counts.both_first,
        "to_second": counts.both_second,
        "mcnemar_p": counts.p_value,
        "pairs": len(both),
    }
    lean = [(x - y) / 2 for x, y in zip(first, second, strict=True)]
    found = [
        share_of(
            flips, prompts, name="flip_rate", section=POSITION, settings=about,
            says="the two orders name different winners; noise alone makes flips too",
        ),
        difference_of(
            lean, prompts, name="first_slot", section=POSITION, most=0.5, neutral=0.0,
            says="share won by the answer shown first, over one half; negative leans to the second",
        ),
    ]  # fmt: skip
    if is_soft(evidence):
        slot = [(log_odds(x) - log_odds(y)) / 2 for x, y in zip(first, second, strict=True)]
        found.append(
            mean_of(
                slot, prompts, name="position_log_odds", section=POSITION, unit="log-odds",
                says="log-odds that standing first adds",
            )
        )  # fmt: skip
    return found


def _one_order(evidence: Evidence) -> list[Entry]:
    """The lean to a place from pairs that were shown once, which is fair only if the sides were drawn by lot."""
    rows = [
        (share if order == FIRST else 1 - share, pair.prompt)
        for pair in evidence.natural()
        for order, share in pair.single
        if order
    ]
    if not rows:
        return []
    values, prompts = [share - 0.5 for share, _ in rows], [prompt for _, prompt in rows]
    return [
        difference_of(
            values, prompts, name="first_slot", section=POSITION, most=0.5,
            says="share won by the answer shown first, over one half; from single orders, fair if sides were drawn by lot",
        )
    ]  # fmt: skip


def length(evidence: Evidence) -> list[Entry]:
    """What words are worth, among the answers as they are and when the same answer is padded."""
    return [
        _favour(evidence, "length", LENGTH, "longer", "padded"),
        _length_log_odds(evidence),
        _copy(evidence, "padded", LENGTH, "the same answer wins once sentences that say nothing are added", side=1),
        _padded_log_odds(evidence),
    ]


def style(evidence: Evidence) -> list[Entry]:
    """What Markdown and lists are worth, among the answers as they are and when the same words are dressed up."""
    return [
        _favour(evidence, "markdown", STYLE, "more marked-up", "bold"),
        _copy(evidence, "bold", STYLE, "the same words win once they are set in bold type", side=1),
        _favour(evidence, "list", STYLE, "more listed", "listed"),
        _copy(evidence, "listed", STYLE, "the same words win once they are set as a list", side=1),
    ]


def _favour(evidence: Evidence, trait: str, section: str, more: str, copy: str) -> Entry:
    """The favour for a trait by association; it raises an alarm only where no copy tells cause from company."""
    name = f"{trait}_favour"
    reference, _ = evidence.truth
    if not reference:
        why = "by association: who was right must be known; load gold or human labels, or name one with --reference"
        return Missing(name=name, section=section, why=why)
    having = []
    for pair, winner in decided(evidence):
        difference = traits(pair.a.text)[trait] - traits(pair.b.text)[trait]
        if difference:
            having.append((pair, winner, difference * winner > 0))
    tested = not any(True for _ in evidence.probes(copy))
    return _between(evidence, having, name=name, section=section, says=FAVOUR.format(more=more), tested=tested)


def _between(
    evidence: Evidence,
    having: Sequence[tuple[Pair, int, bool]],
    *,
    name: str,
    section: str,
    says: str,
    tested: bool,
    side: int = 0,
) -> Entry:
    """The share for the right answer where that has a trait, minus where it has not, for pairs with their winner.

    Clear cases are easier, and a model that wins more often wins more clearly: with margins, pairs of like margin are
    compared; without, the difference is held against what a judge without favour would show.
    """
    if not having:
        return Missing(name=name, section=section, why="no two of the judged answers differ in it")
    values = np.array([winners_share(pair, winner) for pair, winner, _ in having])
    inside = np.array([has for _, _, has in having])
    prompts = np.asarray([pair.prompt for pair, _, _ in having])
    margins = [abs(evidence.margins.get((pair.a.id, pair.b.id), math.nan)) for pair, _, _ in having]
    strata = None if any(map(math.isnan, margins)) else _strata(np.array(margins))
    neutral, held = _fair(evidence, float(inside.mean()), float(values.mean()), strata is not None)

    @cache
    def at(level: float) -> Interval:
        return difference_of_groups(values, inside, prompts, strata=strata, level=level)

    try:
        at(0.95)
    except UserError as error:
        return Missing(name=name, section=section, why=str(error))
    about: dict[str, object] = {"reference": evidence.truth[0], "kind": f"association; {held}"}
    about |= {"with": int(inside.sum()), "pairs": len(having)}
    return Measure(
        name=name, section=section, says=says, at=at, unit="difference", neutral=neutral if tested else None,
        side=side, settings=about,
    )  # fmt: skip


def _fair(evidence: Evidence, share: float, accuracy: float, like: bool) -> tuple[float | None, str]:
    """What a judge without favour would show, and in words; None where the noise of the labels is not known."""
    if like:
        return 0.0, "pairs of like margin"
    name, labels = evidence.truth
    votes = [[sign(vote) for vote in label.votes.values()] for label in labels.values()]
    meetings = [one == other for group in votes for one, other in combinations(group, 2) if one and other]
    if name != "gold" and not meetings:
        return None, f"the noise of {name} is not known, so what a fair judge would show is not either"
    agreement = 1.0 if name == "gold" else sum(meetings) / len(meetings)
    neutral = fair_gap(share, accuracy, agreement)
    return neutral, f"a fair judge of such answers would show {100 * neutral:+.1f} points"


def _strata(margins: Floats) -> Ints:
    """Pairs of about the same margin: up to eight groups of at least ten."""
    groups = max(1, min(8, len(margins) // 10))
    edges = np.unique(np.quantile(margins, np.arange(1, groups) / groups))
    return np.searchsorted(edges, margins, side="left")


def _copy(evidence: Evidence, kind: str, section: str, says: str, *, side: int) -> Entry:
    """How often an altered copy beats its original; one half is what the alteration is worth."""
    rows = [
        (pair.of_probe(pair.mean), pair.prompt)
        for pair in evidence.probes(kind)
        if pair.settled and pair.mean is not None
    ]
    name = f"{kind}_wins"
    if not rows:
        why = "by intervention: no altered copy met its original; --buy copies buys them"
        return Missing(name=name, section=section, why=why)
    return share_of(
        [share for share, _ in rows], [prompt for _, prompt in rows],
        name=name, section=section, says=says, neutral=0.5, side=side, settings={"kind": "intervention"},
    )  # fmt: skip


def _length_log_odds(evidence: Evidence) -> Entry:
    return effect(evidence, "length", "length_log_odds", LENGTH, "log-odds that go with twice the words")


def _padded_log_odds(evidence: Evidence) -> Entry:
    name = "padded_log_odds"
    if not is_soft(evidence):
        return Missing(name=name, section=LENGTH, why=NO_LOG_ODDS)
    values, prompts = [], []
    for pair in evidence.probes("padded"):
        if pair.orders is not None and (more := doublings(pair)):
            values.append(sum(map(log_odds, pair.orders)) / 2 / more)
            prompts.append(pair.prompt)
    return mean_of(
        values, prompts, name=name, section=LENGTH, unit="log-odds", settings={"kind": "intervention"},
        says="log-odds that padding to twice the words adds",
    )  # fmt: skip


def self_preference(evidence: Evidence) -> list[Entry]:
    """Whether it finds its own answers better than they are; not identified from its verdicts alone."""
    found = [pair for pair in evidence.natural() if pair.mean is not None and ownership(evidence, pair)]
    reference, _ = evidence.truth
    name = "self_preference"
    if not found:
        return [Missing(name=name, section=SELF, why=_nothing_of_its_own(evidence))]
    if not reference:
        why = (
            "not identified: that it prefers its own answers may be because they are better; gold or human labels of the "
            "same pairs (--reference) tell the two apart"
        )
        return [Missing(name=name, section=SELF, why=why)]
    having = [
        (pair, winner, mine * winner > 0) for pair, winner in decided(evidence) if (mine := ownership(evidence, pair))
    ]
    says = "its share for the right answer where that is its own, minus where it is another's"
    return [
        _between(evidence, having, name=name, section=SELF, says=says, tested=True, side=1),
        effect(evidence, "own", "self_log_odds", SELF, "log-odds that go with being its own"),
    ]


def _nothing_of_its_own(evidence: Evidence) -> str:
    """Why no pair sets an answer of the judge's against another's."""
    names = " or ".join(evidence.own)
    if any(pair.a.model in evidence.own for pair in evidence.natural()):
        return f"every judged pair is of two answers by {names} itself; judge them against another model's"
    whose = f"none of the judged answers is by {names}" if names else "it is no model's"
    return f"{whose}; --own NAME names the models whose answers are the judge's own"
