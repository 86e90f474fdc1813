"""Win rates corrected by people's labels: prediction-powered inference over the judge's verdicts (arXiv 2311.01453).

A few labels on a random part of the prompts take the judge's bias out; the judge's verdicts on the rest make the interval
narrower than people alone could. Labels that carry unequal chances (``chance``, the known probability of having been sent
to a person) are weighted by them instead. Where only some of the drawn rows have been answered, every chance is smaller by
the same factor, which the weights themselves tell (Hajek): rows answered in the order in which they were drawn are enough.

    for estimate in corrected(evidence, labels): ...
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from rlhf_eval.benchmarks.comparisons import Comparisons
from rlhf_eval.benchmarks.evidence import Evidence, estimate
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate, Judgment
from rlhf_eval.stats.human import Corrected, ipw_mean, labels_needed, ppi_mean, share_of
from rlhf_eval.stats.intervals import wilson

HALF_WIDTHS = (0.05, 0.03)
"""Half-widths for which the number of further labels is told."""

LEAST = 3
"""Labelled prompts from which a correction can be learned."""


def corrected(evidence: Evidence, labels: Sequence[Judgment], level: float = 0.95) -> list[Estimate]:
    """The corrected win rate of every group that has labels; none where no label is about any of them.

    Raises UserError where a group has labels, and fewer than three, or some of them carry a chance and others do not.
    """
    groups = [group for group in evidence.comparisons() if len(group.share)]
    return [made for group in groups for made in _group(evidence, group, labels, level)]


def _group(evidence: Evidence, group: Comparisons, labels: Sequence[Judgment], level: float) -> list[Estimate]:
    mine = _by_prompt(evidence, group, labels)
    prompts, shares = group.by_prompt()
    judged = dict(zip(prompts.tolist(), shares.tolist(), strict=True))
    known = [prompt for prompt in judged if prompt in mine]
    if not known:
        return []
    if len(known) < LEAST:
        raise UserError(
            f"{len(known)} labelled prompts of {group.model} are too few to correct by; label at least {LEAST}"
        )
    human = np.array([mine[prompt][0] for prompt in known])
    machine = np.array([judged[prompt] for prompt in known])
    spread = float(human.std() * machine.std())
    rho = float(((human - human.mean()) * (machine - machine.mean())).mean()) / spread if spread else 0.0
    interval = _interval(judged, mine, level)
    variance = float(human.var()) or 0.25
    needed = {
        f"labels_for_{100 * h:g}_points": labels_needed(h, max(0.0, rho), variance=variance, level=level)
        for h in HALF_WIDTHS
    }
    settings = {
        "model": group.model, "baseline": group.opponent, "judge": group.judge, "labelled": len(known), "rho": rho,
        "judge_weight": interval.judge_weight, "judge_alone": float(shares.mean()), **needed,
    }  # fmt: skip
    return [estimate("win_rate_human", interval, failed=group.lost, settings=settings)]


def _interval(judged: Mapping[str, float], mine: Mapping[str, tuple[float, float | None]], level: float) -> Corrected:
    known = [prompt for prompt in judged if prompt in mine]
    rest = [prompt for prompt in judged if prompt not in mine]
    human = [mine[prompt][0] for prompt in known]
    chances = [mine[prompt][1] for prompt in known]
    told = [chance for chance in chances if chance is not None]
    if told and len(told) < len(chances):
        raise UserError("some labelled rows have a 'chance' and others do not; the correction needs all or none")
    if not rest:
        plain = wilson(human, level=level)
        return Corrected(
            value=plain.value, low=plain.low, high=plain.high, se=plain.se, n=plain.n, n_eff=plain.n_eff,
            level=level, method=f"people alone: every prompt is labelled; {plain.method}", judge_weight=0.0,
            note=plain.note,
        )  # fmt: skip
    if len(set(told)) > 1:
        answered = sum(1 / chance for chance in told) / len(judged)
        chance_of = {p: min(1.0, c * answered) for p in known if (c := mine[p][1]) is not None}
        # A prompt that was not labelled enters by its verdict alone, so its chance does not matter.
        everyone = [chance_of.get(prompt, 1.0) for prompt in judged]
        found = ipw_mean(human, list(judged.values()), everyone, [p in mine for p in judged], level=level)
    else:
        found = ppi_mean(human, [judged[p] for p in known], [judged[p] for p in rest], level=level)
    return share_of(found, len(known))


def _by_prompt(
    evidence: Evidence, group: Comparisons, labels: Sequence[Judgment]
) -> Mapping[str, tuple[float, float | None]]:
    """Prompt to people's mean share for the model, and the chance of having been asked where it is known."""
    shares: dict[str, list[float]] = defaultdict(list)
    chances: dict[str, float | None] = {}
    for label in labels:
        models = [evidence.completions[i].model for i in label.completion_ids if i in evidence.completions]
        if models in ([group.model, group.opponent], [group.opponent, group.model]):
            shares[label.prompt_id].append(label.scores[models.index(group.model)])
            chance = label.metadata.get("chance")
            chances[label.prompt_id] = float(chance) if chance is not None else None
    return {prompt: (float(np.mean(given)), chances[prompt]) for prompt, given in shares.items()}
