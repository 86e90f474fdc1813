"""What each difference between two answers adds to a soft judge's log-odds, all at once.

``logit P(first) = quality + beta side + phi doublings of length + delta own``, by least squares on the stated log-odds:
nothing is shrunk by what is left out, as the coefficients of a logistic fit are. Quality is the reference's where there is
one; else every model gets a strength, and then the judge's liking for its own answers cannot be told from their quality.

    effect(evidence, "length", "length_log_odds", "length", "log-odds that go with twice the words")
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rlhf_eval.audit.evidence import Evidence, Pair
from rlhf_eval.audit.measures import Entry, Missing, fixed, is_soft, log_odds
from rlhf_eval.audit.probes import words
from rlhf_eval.errors import UserError
from rlhf_eval.stats.intervals import Interval
from rlhf_eval.stats.judge_effects import log_odds_effects

NO_LOG_ODDS = "its verdicts state no probabilities, so there are no log-odds; the shares beside it stand"


def doublings(pair: Pair) -> float:
    """How often the words of ``b`` must be doubled to make those of ``a``; an empty one counts one word."""
    return math.log2((words(pair.a.text) + 1) / (words(pair.b.text) + 1))


def ownership(evidence: Evidence, pair: Pair) -> int:
    """1 where only ``a`` is the judge's own answer, -1 where only ``b`` is, else 0."""
    return (pair.a.model in evidence.own) - (pair.b.model in evidence.own)


def effect(evidence: Evidence, column: str, name: str, section: str, says: str) -> Entry:
    """One coefficient of the regression of log-odds on all that is known to differ between two answers."""
    if not is_soft(evidence):
        return Missing(name=name, section=section, why=NO_LOG_ODDS)
    rows = [(pair, order, share) for pair in evidence.natural() for order, share in pair.single]
    columns, held = _columns(evidence, rows)
    prompts = np.asarray([pair.prompt for pair, _, _ in rows])
    if column not in columns:
        why = "how much better each answer is must be known: a reference that grades them"
        return Missing(name=name, section=section, why=why)
    if not any(columns[column]):
        return Missing(name=name, section=section, why="no two of the judged answers differ in it")
    used = [key for key, values in columns.items() if any(values)]
    design = np.column_stack([columns[key] for key in used])
    logits = [log_odds(share) for _, _, share in rows]
    if log_odds_effects(logits, design, prompts) is None:
        why = "not identified: what differs between the answers goes together, or there are too few prompts"
        return Missing(name=name, section=section, why=why)

    def at() -> Interval:
        effects = log_odds_effects(logits, design, prompts)
        if effects is None:
            raise UserError("not identified")
        return effects[used.index(column)]

    return fixed(
        at, list(prompts), name=name, section=section, unit="log-odds", says=says,
        settings={"held_fixed": [key for key in used if key != column], "quality": held, "kind": "association"},
    )  # fmt: skip


def _columns(evidence: Evidence, rows: Sequence[tuple[Pair, int, float]]) -> tuple[dict[str, list[float]], str]:
    """What differs between the two answers of each row, ``a`` minus ``b``, and how their quality is held fixed."""
    pairs = [pair for pair, _, _ in rows]
    columns = {"side": [float(order) for _, order, _ in rows], "length": [doublings(pair) for pair in pairs]}
    reference, labels = evidence.truth
    keys = [(pair.a.id, pair.b.id) for pair in pairs]
    if rows and all(key in evidence.margins for key in keys):
        columns["quality"], held = [evidence.margins[key] for key in keys], f"margin of {reference}"
        if evidence.own:
            columns["own"] = [float(ownership(evidence, pair)) for pair in pairs]
        return columns, held
    if rows and all(key in labels for key in keys):
        columns["quality"] = [labels[key].share - 0.5 for key in keys]
        return {**columns, **_strengths(pairs)}, f"verdict of {reference}, and one strength a model"
    return {**columns, **_strengths(pairs)}, "one strength a model"


def _strengths(pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """A column for each model but one: 1 where ``a`` is its answer, -1 where ``b`` is."""
    models = sorted({c.model for pair in pairs for c in (pair.a, pair.b)})[1:]
    return {
        f"model {name}": [float((pair.a.model == name) - (pair.b.model == name)) for pair in pairs] for name in models
    }
