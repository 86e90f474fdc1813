"""The part of an audit that needs to know who was right: agreement and its ceiling, decision value, calibration.

Sources: Gwet (2008) and Krippendorff (2011) for agreement beside kappa; Zheng et al. (arXiv 2306.05685, section 4) for
the comparison of judge and people with people and people; ``stats.calibration`` for the ECE's null.

    for entry in agreement(evidence): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import combinations

import numpy as np

from rlhf_eval.audit.evidence import Evidence, Key, Label, Pair, sign
from rlhf_eval.audit.measures import (
    Entry,
    Missing,
    credit,
    decided,
    difference_of,
    fixed,
    is_soft,
    mapped,
    share_of,
    winners_share,
)
from rlhf_eval.stats import agreement as tables
from rlhf_eval.stats.calibration import calibration as calibrate
from rlhf_eval.stats.calibration import ece_interval
from rlhf_eval.stats.intervals import Interval, clustered_mean
from rlhf_eval.stats.judge_effects import krippendorff_interval, youden_interval

AGREEMENT, CALIBRATION = "agreement", "calibration"
DRAWS = 200
NO_REFERENCE = (
    "no reference label is known for what it judged; load gold or human labels (rlhf-eval load), or name one with "
    "--reference"
)


def agreement(evidence: Evidence) -> list[Entry]:
    """How often the judge and each reference name the same winner, in one order and in both, raw and beyond chance."""
    if not evidence.references:
        return [Missing(name="accuracy", section=AGREEMENT, why=NO_REFERENCE)]
    found: list[Entry] = []
    for name, labels in evidence.references.items():
        known = [
            (pair, labels[pair.a.id, pair.b.id]) for pair in evidence.natural() if (pair.a.id, pair.b.id) in labels
        ]
        spoken = [(pair, label) for pair, label in known if pair.mean is not None]
        judged = [(pair, label) for pair, label in spoken if label.winner]
        found += _one_call(name, judged, len(spoken) - len(judged))
        found += _table(name, spoken)
        found += _ceiling(name, labels, judged)
    return found


def _one_call(name: str, judged: list[tuple[Pair, Label]], ties: int) -> list[Entry]:
    rows = [(share, label.winner, pair.prompt) for pair, label in judged for _, share in pair.single]
    prompts = [prompt for _, _, prompt in rows]
    credits_ = [credit(share, winner) for share, winner, _ in rows]
    about = {"reference": name, "reference_ties": ties, "verdicts": len(rows)}
    said, true = [0.5 + 0.5 * sign(share) for share, _, _ in rows], [float(winner > 0) for _, winner, _ in rows]
    return [
        share_of(
            credits_, prompts, name=f"accuracy.{name}", section=AGREEMENT,
            says=f"one verdict names the answer that {name} prefers (a tie counts half)",
            neutral=0.5, side=-1, settings=about,
        ),
        fixed(
            lambda: youden_interval(said, true, np.asarray(prompts)), prompts,
            name=f"youden.{name}", section=AGREEMENT, unit="index", settings=about,
            says="J, the part of a true gap in win rate that one verdict shows; prompts needed grow as 1/J^2",
        ),
    ]  # fmt: skip


def _table(name: str, spoken: list[tuple[Pair, Label]]) -> list[Entry]:
    """Agreement over both orders where they are known, else over one.

    A tie of the reference counts for a judge that can answer with a tie, and is left out for one that cannot.
    """
    can_tie = any(sign(share) == 0 for pair, _ in spoken for _, share in pair.single)
    rows = [(pair, label) for pair, label in spoken if can_tie or label.winner]
    settled = [(pair, label) for pair, label in rows if pair.settled]
    rows = settled or rows
    prompts = [pair.prompt for pair, _ in rows]
    clusters = np.asarray(prompts)
    said = np.array([sign(pair.mean) for pair, _ in rows if pair.mean is not None])
    true = np.array([label.winner for _, label in rows])
    orders = "over both orders" if settled else "in the one order that was asked"
    about = {
        "reference": name,
        "pairs": len(rows),
        "judge_ties": int((said == 0).sum()),
        "reference_ties": int((true == 0).sum()),
        "orders": 2 if settled else 1,
    }

    @cache
    def table() -> tables.Agreement:
        return tables.agreement(said, true, clusters)

    def row(which: str, says: str, interval: Callable[[], Interval]) -> Entry:
        return fixed(
            interval, prompts,
            name=f"{which}.{name}", section=AGREEMENT, says=says, settings=about,
            unit="share" if which == "agreement" else "index",
        )  # fmt: skip

    return [
        row("agreement", f"the verdict {orders} is {name}'s, ties told apart", lambda: table().raw),
        row("kappa", "Cohen's kappa of the same", lambda: table().kappa),
        row("ac1", "Gwet's AC1 of the same", lambda: table().ac1),
        row("alpha", "Krippendorff's alpha of the same", lambda: krippendorff_interval(said, true, clusters)),
    ]


def _ceiling(name: str, labels: Mapping[Key, Label], judged: list[tuple[Pair, Label]]) -> list[Entry]:
    """People with people on the items that the judge judged too, and the judge with single people on the same ones."""
    several = [(pair, label) for pair, label in judged if len(label.votes) > 1]
    if not several:
        why = f"nobody else labelled the same pairs as {name}: the labels' own noise is not known; load a second rater"
        return [Missing(name=f"ceiling.{name}", section=AGREEMENT, why=why)]
    people, judge = _Rows(), _Rows()
    for pair, label in several:
        votes = [sign(share) for share in label.votes.values()]
        for one, other in combinations(votes, 2):
            if one and other:
                people.add(float(one == other), pair.prompt)
        for vote in votes:
            if vote and pair.mean is not None:
                judge.add(credit(pair.mean, vote), pair.prompt)
    about = {"reference": name, "pairs": len(several)}
    return [
        share_of(
            people.values, people.prompts, name=f"ceiling.{name}", section=AGREEMENT, settings=about,
            says="two people name the same winner, where both name one: no judge can be shown to do better",
        ),
        share_of(
            judge.values, judge.prompts, name=f"same_items.{name}", section=AGREEMENT, settings=about,
            says="the judge and one person name the same winner, on those very pairs",
        ),
    ]  # fmt: skip


class _Rows:
    """Values with their prompts."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.prompts: list[str] = []

    def add(self, value: float, prompt: str) -> None:
        """One more row."""
        self.values.append(value)
        self.prompts.append(prompt)


def information(evidence: Evidence) -> list[Entry]:
    """What a verdict, and a dollar of verdicts, tells about a win rate near one half: ``J^2/(q(1-q))`` at ``q = 1/2``."""
    name, _ = evidence.truth
    rows = [(share, winner, pair.prompt) for pair, winner in decided(evidence) for _, share in pair.single]
    if not name or not rows:
        return [Missing(name="information_per_call", section="cost", why=NO_REFERENCE)]
    said, true = [0.5 + 0.5 * sign(share) for share, _, _ in rows], [float(winner > 0) for _, winner, _ in rows]
    prompts = [prompt for _, _, prompt in rows]

    def per_call() -> Interval:
        youden = youden_interval(said, true, np.asarray(prompts))
        return mapped(youden, lambda j: 4 * max(0.0, j) ** 2, "4 J^2, with the interval")

    costs = [j.usage.cost for j in evidence.judgments if j.usage.cost > 0]
    found = [
        fixed(
            per_call, prompts, name="information_per_call", section="cost", unit="number", settings={"reference": name},
            says="what one verdict tells about a win rate; a judge that is never wrong has 4",
        )
    ]  # fmt: skip
    if not costs:
        why = "no price is known for its calls; --prices FILE gives one"
        return [*found, Missing(name="information_per_dollar", section="cost", why=why)]
    mean, _, _ = clustered_mean(np.array(costs))
    calls = 2 if evidence.arity == 1 else 1

    def per_dollar() -> Interval:
        return mapped(per_call(), lambda i: i / (calls * mean), "per dollar, the mean price taken as known,")

    found.append(
        fixed(
            per_dollar, prompts, name="information_per_dollar", section="cost", unit="number",
            settings={"reference": name, "dollars_per_verdict": calls * mean},
            says="the same for a dollar: the larger, the better the buy, among judges without bias",
        )
    )  # fmt: skip
    return found


def calibration(evidence: Evidence) -> list[Entry]:
    """Whether the stated probabilities are kept, against the first reference; orders are averaged where both are known."""
    name, _ = evidence.truth
    if not name:
        return [Missing(name="brier", section=CALIBRATION, why=NO_REFERENCE)]
    if not is_soft(evidence):
        why = "its verdicts state no probabilities; a judge with log-probabilities (--set soft=true) or samples does"
        return [Missing(name="brier", section=CALIBRATION, why=why)]
    rows = decided(evidence)
    prompts = [pair.prompt for pair, _ in rows]
    p = np.array([pair.mean for pair, _ in rows], dtype=np.float64)
    y = np.array([float(winner > 0) for _, winner in rows])
    clusters = np.asarray(prompts)
    if not len(p):
        return [Missing(name="brier", section=CALIBRATION, why=f"{name} names no winner of any pair that it judged")]
    whole = calibrate(p, y, clusters, draws=DRAWS)
    null = {"reference": name, "null": whole.ece_null, "p_value": whole.p_value, "bins": whole.bins}
    stated = [
        max(share, 1 - share) - credit(winners_share(pair, winner), 1)
        for (pair, winner), share in zip(rows, p, strict=True)
    ]
    return [
        fixed(lambda: whole.brier, prompts, name="brier", section=CALIBRATION, unit="index", settings={"reference": name},
              says="mean squared error of the stated probability; .25 is what saying one half gives"),
        fixed(lambda: whole.log_loss, prompts, name="log_loss", section=CALIBRATION, unit="index",
              settings={"reference": name}, says="mean log loss; .693 is what saying one half gives"),
        fixed(lambda: ece_interval(p, y, clusters, draws=DRAWS), prompts, name="ece", section=CALIBRATION, unit="index",
              settings=null, says=f"expected calibration error; perfect calibration would show {whole.ece_null:.3f} here"),
        difference_of(stated, prompts, name="overconfidence", section=CALIBRATION, neutral=0.0, side=1,
                      settings={"reference": name}, says="how much surer it is of its verdicts than it is right"),
    ]  # fmt: skip
