"""Best-of-n: what choosing among n answers by a judge is worth, in the judge's own score and in gold.

Every n up to the number of samples follows exactly from one scored set, without drawing again (Nakano et al.,
arXiv 2112.09332, appendix I). The first judge chooses; ``--check gold`` or another grading judge says what the choice was
worth. Under the judge that chose, the best of n looks better than it is.

    rlhf-eval evaluate best_of_n --model sandbox:policy --set generate.n=16 --judge gold
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Grades, Shape, estimate, nothing_to_score
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.best_of_n import best_of_n_curve, best_of_n_kl

SHAPE: Shape = "answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of best-of-n."""

    level: float = 0.95
    """Confidence of the intervals."""
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
    """Values of n; those above the number of samples are left out."""
    proxy: str = ""
    """The judge that chooses (the start of its name); empty takes the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One model's samples, scored by the judge that chooses and by another; shape (prompts, samples)."""

    model: str
    proxy: str
    gold: str
    proxy_scores: Floats
    gold_scores: Floats
    prompts: tuple[str, ...]
    left_out: int
    """Prompts without as many samples as the others, or with a sample that one of the judges could not score."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """The curve over n of every model, in the proxy's score and in each other judge's."""
    found: list[Estimate] = []
    for scored in samples(evidence, config.proxy):
        sizes = [n for n in sorted(set(config.sizes)) if 1 <= n <= scored.proxy_scores.shape[1]]
        curve = best_of_n_curve(scored.proxy_scores, scored.gold_scores, sizes, level=config.level)
        for n, interval in zip(sizes, curve, strict=True):
            about = {"model": scored.model, "proxy": scored.proxy, "judge": scored.gold, "n": n}
            name = f"best of {n}, by {scored.gold.partition('#')[0]}"
            settings = {**about, "kl": float(best_of_n_kl(n))}
            found.append(estimate(name, interval, failed=scored.left_out, settings=settings))
    return found


def samples(evidence: Evidence, proxy: str = "") -> list[Scored]:
    """Scores of every model by the proxy and by each judge, the proxy itself first.

    Raises UserError where no judge graded single answers, or there is no such proxy.
    """
    grades = evidence.grades()
    if not grades:
        raise nothing_to_score("best_of_n", "graded answer")
    chosen = next((judge for judge in evidence.judges if judge.startswith(proxy)), None)
    if chosen is None:
        raise UserError(f"no judge is called '{proxy}'; found: {', '.join(evidence.judges)}")
    found = []
    for model in dict.fromkeys(g.model for g in grades):
        mine = {g.judge: _by_prompt(g) for g in grades if g.model == model}
        if chosen in mine:
            others = [judge for judge in mine if judge != chosen]
            found += [_scored(model, chosen, gold, mine) for gold in (chosen, *others)]
    return found


def _by_prompt(grades: Grades) -> Mapping[str, Mapping[str, float]]:
    """Prompt to completion to its mean grade."""
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for completion, value in zip(grades.completions, grades.score.tolist(), strict=True):
        table[completion.prompt_id][completion.id].append(value)
    return {prompt: {c: float(np.mean(v)) for c, v in own.items()} for prompt, own in table.items()}


def _scored(model: str, proxy: str, gold: str, by_judge: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Scored:
    chosen, truth = by_judge[proxy], by_judge[gold]
    shared: dict[str, Sequence[str]] = {
        prompt: sorted(own.keys() & truth.get(prompt, {}).keys()) for prompt, own in chosen.items()
    }
    sizes = [len(ids) for ids in shared.values()]
    most = max(set(sizes), key=lambda size: (sizes.count(size), size), default=0)
    kept = [prompt for prompt, ids in shared.items() if len(ids) == most]
    if most < 1:
        raise UserError(f"{proxy} and {gold} scored no answer of {model} in common; there is no best-of-n curve")
    return Scored(
        model=model,
        proxy=proxy,
        gold=gold,
        proxy_scores=np.array([[chosen[p][c] for c in shared[p]] for p in kept]),
        gold_scores=np.array([[truth[p][c] for c in shared[p]] for p in kept]),
        prompts=tuple(kept),
        left_out=len(shared) - len(kept),
    )
