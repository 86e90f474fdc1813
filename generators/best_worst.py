"""Pair the best answer of a prompt with its worst, by the judge's scores; keep the best one for SFT.

The widest contrast that the stored judgments hold (RLHF book, arXiv 2504.12501, chapters on rejection sampling and
synthetic data). Ties make no pair, and a pair whose two answers met carries the judge's own probability.

    rlhf-eval pairs --rule best_worst
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rlhf_eval.records import Completion, Demonstration, Judgment, Outcome, PreferencePair, Prompt
from rlhf_eval.stages.pairs import Case, Selection, cases, labeler_of

RULE = "best_worst"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the best-against-worst rule."""

    min_margin: float = 0.0
    """Smallest difference of scores that makes a pair; at 0 any difference does."""


def select(
    prompts: Iterable[Prompt], completions: Iterable[Completion], judgments: Iterable[Judgment], config: Config
) -> Selection:
    """One pair and one demonstration a prompt where the scores allow it, and an outcome for every prompt."""
    pairs: list[PreferencePair] = []
    best_ones: list[Demonstration] = []
    outcomes: list[Outcome] = []
    for case in cases(prompts, completions, judgments):
        pair, best, reason = _pick(case, config)
        pairs += [pair] if pair else []
        best_ones += [best] if best else []
        if pair:
            outcomes.append(Outcome.of(case.prompt.id, "pairs", "done", records=1))
        else:
            outcomes.append(Outcome.of(case.prompt.id, "pairs", "skipped", reason=reason))
    return Selection(pairs=tuple(pairs), demonstrations=tuple(best_ones), outcomes=tuple(outcomes))


def _pick(case: Case, config: Config) -> tuple[PreferencePair | None, Demonstration | None, str]:
    scores = case.scores()
    scored = [c for c in case.completions if c.id in scores]
    if len(scored) < 2:
        return None, None, "fewer than two completions have a readable judgment"
    best = max(scored, key=lambda c: scores[c.id])
    worst = min(scored, key=lambda c: scores[c.id])
    labeler = labeler_of(case.judgments)
    kept = Demonstration.of(prompt=case.prompt, completion=best, score=scores[best.id], labeler=labeler, rule=RULE)
    margin = scores[best.id] - scores[worst.id]
    if margin <= config.min_margin:
        return None, kept, "tie" if margin == 0 else f"margin not over {config.min_margin}"
    if best.text == worst.text:
        return None, kept, "tie: the best and the worst answer are the same words"
    share, met = case.between(best.id, worst.id)
    if share is not None and share < 0.5:
        return None, kept, "contradiction: where they met, the judge preferred the worst to the best"
    about = tuple(j.id for j in case.judgments if best.id in j.completion_ids or worst.id in j.completion_ids)
    pair = PreferencePair.of(
        prompt=case.prompt,
        chosen=best,
        rejected=worst,
        probability=share if share is not None else _unmet(margin, case),
        margin=margin,
        labeler=labeler,
        rule=RULE,
        judgment_ids=met or about,
        metadata={"chosen_model": best.model, "rejected_model": worst.model},
    )
    return pair, kept, ""


def _unmet(margin: float, case: Case) -> float:
    """Probability of a pair that was never compared: half way up the difference of win shares; 1 where grades say so."""
    compared = any(len(j.completion_ids) == 2 for j in case.judgments)
    return min(1.0, 0.5 + margin / 2) if compared else 1.0
