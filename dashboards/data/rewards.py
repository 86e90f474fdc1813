"""What the store knows about what grades single answers: reward models, graders, verifiers.

Accuracy against gold or people by category, whether larger margins are surer ones, whether length is what is rewarded,
and what choosing the best of n by it is worth under its own score and under others.

    for name in graders(store): print(report(store, name).accuracy)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy

from dashboards.data.judges import Bin, binned, estimate_of, gathered, overview
from dashboards.data.reading import MOST, about, pick, prompts_of
from dashboards.data.state import Nothing
from rlhf_eval.audit.evidence import Evidence as Known
from rlhf_eval.audit.measures import credit, decided, winners_share
from rlhf_eval.audit.probes import words
from rlhf_eval.benchmarks.best_of_n import Scored, samples
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate, Judgment
from rlhf_eval.stats.best_of_n import best_of_n_curve, best_of_n_kl
from rlhf_eval.stats.calibration import fit_temperature
from rlhf_eval.stats.intervals import wilson
from rlhf_eval.stats.reward_models import macro_average, margin_calibration, within_prompt_correlation
from rlhf_eval.store.runs import Store

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BENCHMARKS = ("reward_bench", "reward_bench_2", "judge_bench", "llmbar", "best_of_n", "overoptimization")
"""Benchmarks whose stored estimates are about a judge or reward model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Best of n at one n: what it scores by one judge, and how far it is from the policy at most."""

    n: int
    kl: float
    """Nats: ``log n - (n-1)/n``, an upper bound where answers repeat."""
    found: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The best of n of one model by one grader, scored by itself or by another."""

    model: str
    chooser: str
    scorer: str
    samples: int
    points: tuple[Point, ...]
    left_out: int
    """Prompts with fewer samples, or with one that could not be scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """Whether the difference of two scores says how surely the better one is better."""

    temperature: float
    """T at which ``sigmoid(margin / T)`` fits best; infinite where margins say nothing."""
    ece: float
    ece_null: float
    """What perfectly calibrated margins would show."""
    bins: tuple[Bin, ...]
    """Accuracy by size of the margin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a page says about one grader."""

    judge: str
    reference: str
    subsets: tuple[Estimate, ...]
    """Accuracy in each category of prompts, ``settings['category']``."""
    accuracy: Estimate | None
    macro: Estimate | None
    """The mean of the categories; None where there is one."""
    margins: Margins | None
    length: Estimate | None
    """Mean within-prompt rank correlation of score and words; None where no prompt has three different answers."""
    curves: tuple[Curve, ...]
    missing: Mapping[str, str]
    """What could not be worked out: name to why."""
    prompts: int
    of: int


def graders(store: Store) -> list[str]:
    """Everything that graded single answers and is not the truth itself; raises Nothing where there is none."""
    found = [row.judge for row in overview(store) if row.grades and not row.role]
    if not found:
        raise Nothing(
            "No reward model or grader has scored an answer in this store yet.",
            command="rlhf-eval judge --judge reward_model --judge-model hf:PATH",
        )
    return found


def stored(store: Store) -> list[tuple[str, Estimate]]:
    """Estimates of the benchmarks that measure judges and reward models: run id and number, newest run first."""
    found = []
    for run in reversed(store.runs("evaluate")):
        if run.config.get("benchmark") in BENCHMARKS:
            found += [(run.id, e) for e in store.read(Estimate, run=run.id) if not e.name.startswith("answer_tokens")]
    return found


def report(store: Store, judge: str, *, most: int = MOST) -> Report:
    """Accuracy, margins, length and best-of-n of one grader, from at most ``most`` of its prompts."""
    known, category, (read, of) = gathered(store, judge, most=most)
    missing: dict[str, str] = {}
    subsets, whole, macro = _accuracy(known, category)
    margins = _margins(known)
    if whole is None:
        missing["accuracy"] = "no gold or human label is known for two answers that it graded"
    if margins is None:
        missing["margins"] = missing.get("accuracy", "it gives too few different scores")
    length = _length(known, missing)
    return Report(
        judge=judge, reference=known.truth[0], subsets=subsets, accuracy=whole, macro=macro, margins=margins,
        length=length, curves=_curves(store, judge, most, missing), missing=missing, prompts=read, of=of,
    )  # fmt: skip


def _accuracy(
    known: Known, category: Mapping[str, str]
) -> tuple[tuple[Estimate, ...], Estimate | None, Estimate | None]:
    rows: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for pair, winner in decided(known):
        rows[category.get(pair.prompt, "")].append((credit(winners_share(pair, winner), 1), pair.prompt))
    every = [row for group in rows.values() for row in group]
    if not every:
        return (), None, None
    about_it = {"judge": known.judge, "reference": known.truth[0]}
    intervals = {name: wilson([c for c, _ in own], np.array([p for _, p in own])) for name, own in sorted(rows.items())}
    subsets = tuple(
        estimate_of("accuracy", interval, {**about_it, "category": name or "no category", "pairs": len(rows[name])})
        for name, interval in intervals.items()
    )
    whole = wilson([c for c, _ in every], np.array([p for _, p in every]))
    macro = macro_average(list(intervals.values())) if len(intervals) > 1 else None
    finite = macro is not None and np.isfinite(macro.low + macro.high)
    return (
        subsets,
        estimate_of("accuracy", whole, {**about_it, "pairs": len(every)}),
        estimate_of("macro accuracy", macro, about_it) if macro is not None and finite else None,
    )


def _grades(known: Known) -> dict[str, float]:
    given: dict[str, list[float]] = defaultdict(list)
    for judgment in known.judgments:
        if len(judgment.scores) == 1:
            given[judgment.completion_ids[0]].append(judgment.scores[0])
    return {identity: float(np.mean(scores)) for identity, scores in given.items()}


def _margins(known: Known) -> Margins | None:
    grade = _grades(known)
    rows = [
        (winner * (grade[pair.a.id] - grade[pair.b.id]), pair.prompt)
        for pair, winner in decided(known)
        if pair.a.id in grade and pair.b.id in grade
    ]
    margin = np.array([m for m, _ in rows])
    if len(margin) < 10 or not np.ptp(np.abs(margin)):
        return None
    try:
        temperature = fit_temperature(np.concatenate([margin, -margin]), np.repeat([1.0, 0.0], len(margin)))
        fit = margin_calibration(margin, temperature=temperature)
        ece, null = fit.ece, fit.ece_null
    except UserError:  # always right, or no better than chance: no temperature fits
        temperature, ece, null = np.inf, np.nan, np.nan
    right = np.where(margin > 0, 1.0, np.where(margin < 0, 0.0, 0.5))
    bins = binned(np.abs(margin), right, [p for _, p in rows], "accuracy", known.judge)
    return Margins(temperature=float(temperature), ece=float(ece), ece_null=float(null), bins=bins)


def expected(margins: Margins, at: float) -> float:
    """The accuracy that the fitted temperature states for a margin."""
    return float(scipy.special.expit(at / margins.temperature))


def _length(known: Known, missing: dict[str, str]) -> Estimate | None:
    grade = _grades(known)
    ids = [identity for identity in grade if identity in known.completions]
    answers = [known.completions[identity] for identity in ids]
    try:
        interval = within_prompt_correlation(
            [grade[i] for i in ids], [words(c.text) for c in answers], np.array([c.prompt_id for c in answers])
        )
    except UserError as error:
        missing["length"] = str(error)
        return None
    if not np.isfinite(interval.low + interval.high):
        missing["length"] = "one prompt alone has three answers of different score and length: no interval"
        return None
    return estimate_of("within-prompt correlation of score and words", interval, {"judge": known.judge})


def _curves(store: Store, judge: str, most: int, missing: dict[str, str]) -> tuple[Curve, ...]:
    ids, _ = prompts_of(store, "judge = ?", [judge], most=most)
    told = pick(store, Judgment, "len(completion_ids) = 1 and prompt_id in (select unnest(?::varchar[]))", [ids])
    prompts, completions = about(store, ids, (c for j in told for c in j.completion_ids))
    # An altered copy of an audit is no sample of a model.
    mine = {i for i, c in completions.items() if not c.model.startswith("audit/")}
    told = [j for j in told if j.completion_ids[0] in mine and j.prompt_id in prompts]
    graded = {j.completion_ids[0] for j in told if j.judge == judge}
    others = dict.fromkeys(j.judge for j in told if j.judge != judge and j.completion_ids[0] in graded)
    scored: list[Scored] = []
    for scorers in ([], *([other] for other in others)):
        own = [j for j in told if j.judge in (judge, *scorers)]
        try:
            found = samples(Evidence.of(prompts.values(), completions.values(), own, gold=""), judge)
        except UserError as error:
            missing["best of n"] = str(error)
            continue
        scored += [group for group in found if (group.gold == judge) != bool(scorers)]
    curves = []
    for group in scored:
        count = group.proxy_scores.shape[1]
        sizes = [n for n in SIZES if n <= count]
        if len(sizes) < 2 or group.proxy != judge or len(group.prompts) < 2:
            continue
        intervals = best_of_n_curve(group.proxy_scores, group.gold_scores, sizes)
        points = tuple(
            Point(
                n=n, kl=float(best_of_n_kl(n)),
                found=estimate_of(f"best of {n}", interval, {"judge": group.gold, "model": group.model}),
            )
            for n, interval in zip(sizes, intervals, strict=True)
        )  # fmt: skip
        curves.append(
            Curve(
                model=group.model, chooser=group.proxy, scorer=group.gold, samples=count, points=points,
                left_out=group.left_out,
            )
        )  # fmt: skip
    if curves:
        missing.pop("best of n", None)
    else:
        missing["best of n"] = "no model has two or more graded answers a prompt; rlhf-eval generate -n 16 makes them"
    return tuple(curves)
