"""What a data card measures of the texts and labels of a preference set, every share with its interval.

The unit is the prompt: pairs of one prompt are one cluster. Formulas: Cohen (1988) for d; Bamber (1975) for the AUC of a
feature; Li et al. (arXiv 1510.03055), Zhu et al. (arXiv 1802.01886), Friedman and Dieng (arXiv 2210.02410) for diversity.

    measures = of_lengths(sheet) + of_repeats(sheet)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from rlhf_eval.records import Estimate
from rlhf_eval.stages.filters import overlap_with
from rlhf_eval.stages.matrix import Floats
from rlhf_eval.stages.sheet import Sheet
from rlhf_eval.stages.texts import (
    jaccard,
    language_of,
    markup,
    near_duplicates,
    refuses,
    shingles,
    truncated,
    words_of,
)
from rlhf_eval.stats.diversity import (
    distinct_n,
    expectation_adjusted_distinct,
    ngram_similarity,
    self_bleu,
    vendi_score,
)
from rlhf_eval.stats.intervals import Interval, bounded_mean, mean_interval, wilson, within

VOCABULARY = 50_000
"""Words that a language has, for the length-corrected distinct-n; any set measured here uses the same."""
SAMPLE = 100
"""Answers a sample of a diversity measure, which depends on it: compare cards at equal counts."""


def estimate(name: str, interval: Interval, **settings: object) -> list[Estimate]:
    """The interval as an estimate; none where the data cannot bound it."""
    if not math.isfinite(interval.low + interval.high):
        return []
    return [
        Estimate(
            name=name,
            value=interval.value,
            low=interval.low,
            high=interval.high,
            n=interval.n,
            method=interval.method,
            settings={**settings, "level": interval.level},
        )
    ]


def share(name: str, hits: ArrayLike, cluster: Sequence[int] | None = None, **settings: object) -> list[Estimate]:
    """The share of rows that are hit; none without rows."""
    rows = np.asarray(hits, dtype=np.float64)
    return estimate(name, wilson(rows, cluster), **settings) if len(rows) else []


def of_lengths(sheet: Sheet) -> list[Estimate]:
    """Chosen-longer rate, Cohen's d, AUC of length alone, and the ratio of mean lengths, all in words."""
    chosen = np.array([len(text.split()) for text in sheet.chosen], dtype=np.float64)
    rejected = np.array([len(text.split()) for text in sheet.rejected], dtype=np.float64)
    cluster, gap = sheet.cluster, chosen - rejected
    spread = math.sqrt((chosen.var() + rejected.var()) / 2)
    found = share("chosen_longer", (np.sign(gap) + 1) / 2, cluster)
    if spread > 0:
        found += estimate("length_d", mean_interval(gap / spread, cluster))
    found += _length_auc(gap, cluster)
    if chosen.mean() > 0 and rejected.mean() > 0:
        ratio = float(chosen.mean() / rejected.mean())
        relative = mean_interval(chosen / chosen.mean() - rejected / rejected.mean(), cluster)
        low, high = (
            ratio * math.exp(bound) if math.isfinite(bound) else bound for bound in (relative.low, relative.high)
        )
        moved = replace(
            relative, value=ratio, low=low, high=high, se=ratio * relative.se,
            method="ratio of means, log delta method, clustered SE, t",
        )  # fmt: skip
        found += estimate("length_ratio", moved)
    more = [np.sign(markup(a) - markup(b)) / 2 + 0.5 for a, b in zip(sheet.chosen, sheet.rejected, strict=True)]
    return found + share("chosen_more_markup", more, cluster)


def _length_auc(gap: Floats, cluster: Sequence[int]) -> list[Estimate]:
    """How well the difference of lengths tells which side is chosen: P(D + D' > 0) for two independent pairs.

    Its standard error is that of a one-sample U-statistic of order 2: twice that of the projections.
    """
    ordered = np.sort(gap)
    above = len(gap) - np.searchsorted(ordered, -gap, side="right")
    level = np.searchsorted(ordered, -gap, side="right") - np.searchsorted(ordered, -gap, side="left")
    projection = (above + level / 2) / len(gap)
    inner = bounded_mean(projection, 0, 1, cluster)
    low, high = inner.value - 2 * (inner.value - inner.low), inner.value + 2 * (inner.high - inner.value)
    doubled = replace(inner, low=low, high=high, se=2 * inner.se, method="U-statistic, clustered SE, t")
    return estimate("length_auc", within(doubled, 0.0, 1.0))


def of_strength(sheet: Sheet) -> list[Estimate]:
    """How sure the labels are, where they say so: mean probability, and the share of near coin flips."""
    known = np.isfinite(sheet.probability)
    p = np.asarray(sheet.probability)[known]
    if not len(p):
        return []
    cluster = list(np.asarray(sheet.cluster)[known])
    return [
        *estimate("mean_probability", wilson(p, cluster)),
        *share("coin_flips", np.abs(p - 0.5) < 0.1, cluster, within=0.1),
        *estimate("stated_noise", wilson(1 - p, cluster)),
    ]


def of_repeats(sheet: Sheet, *, similarity: float = 0.8) -> list[Estimate]:
    """Rows that repeat others: exact copies, near-duplicate prompts, contradictions, and the label noise behind them."""
    # Case and punctuation may be all that tells two answers apart; only space is looked through.
    columns = ([" ".join(text.split()) for text in column] for column in (sheet.prompt, sheet.chosen, sheet.rejected))
    rows = [*zip(*columns, strict=True)]
    first = {row: i for i, row in reversed([*enumerate(rows)])}
    copies = [first[row] != i for i, row in enumerate(rows)]
    found = share("duplicate_rows", copies)
    found += share("contradictions", [(a, c, b) in first for a, b, c in rows], sheet.cluster)
    prompts = list(dict.fromkeys(sheet.prompt))
    near = near_duplicates(prompts, threshold=similarity) != np.arange(len(prompts))
    found += share("near_duplicate_prompts", near, similarity=similarity)
    found += share("alike_answers", _alike(sheet), sheet.cluster, similarity=0.9)
    return found + _noise_of_repeats(rows)


def _alike(sheet: Sheet) -> list[bool]:
    """Whether the two answers of each pair are nearly the same words."""
    hits = []
    for a, b in zip(sheet.chosen, sheet.rejected, strict=True):
        near = 0.9 * max(len(a), len(b)) <= min(len(a), len(b))
        hits.append(near and jaccard(shingles(a), shingles(b)) >= 0.9)
    return hits


def _noise_of_repeats(rows: Sequence[tuple[str, ...]]) -> list[Estimate]:
    """Label noise from pairs that stand in the set more than once: two labels of error e disagree with 2 e (1 - e)."""
    labels: dict[tuple[str, ...], list[bool]] = {}
    for prompt, chosen, rejected in rows:
        labels.setdefault((prompt, *sorted((chosen, rejected))), []).append(chosen < rejected)
    return noise_of_disagreement([_disagreement(votes) for votes in labels.values() if len(votes) > 1], "repeated rows")


def _disagreement(votes: Sequence[bool]) -> float:
    """Chance that two different labels of an item disagree."""
    n, first = len(votes), sum(votes)
    return 2 * first * (n - first) / (n * (n - 1))


def noise_of_disagreement(disagreement: Sequence[float], source: str, *, least: int = 20) -> list[Estimate]:
    """The error rate e of labels whose independent repeats disagree so often: ``e = (1 - sqrt(1 - 2 d)) / 2``.

    None below ``least`` items. A rate of disagreement over one half has no such e; it is cut there.
    """
    if len(disagreement) < least:
        return []
    d = wilson(disagreement)
    value, low, high = ((1 - math.sqrt(max(0.0, 1 - 2 * x))) / 2 for x in (d.value, d.low, d.high))
    moved = Interval(
        value=value, low=low, high=high, se=d.se, n=d.n, n_eff=d.n_eff, level=d.level,
        method="disagreement of repeats, wilson",
    )  # fmt: skip
    return estimate("label_noise", moved, source=source)


def of_answers(sheet: Sheet) -> list[Estimate]:
    """Refusals and truncation of either side, and answers in another language than their prompt."""
    found: list[Estimate] = []
    for side, texts in (("chosen", sheet.chosen), ("rejected", sheet.rejected)):
        found += share(f"refusals_{side}", [refuses(text) for text in texts], sheet.cluster)
        found += share(f"truncated_{side}", [truncated(text) for text in texts], sheet.cluster)
    languages: dict[str, str] = {}
    other = []
    for prompt, chosen in zip(sheet.prompt, sheet.chosen, strict=True):
        if prompt not in languages:
            languages[prompt] = language_of(prompt)
        asked, answered = languages[prompt], language_of(chosen)
        other.append(bool(asked and answered and asked != answered))
    return found + share("other_language", other, sheet.cluster)


def of_contamination(sheet: Sheet, against: Sequence[str]) -> list[Estimate]:
    """Share of prompts that hold a test prompt, and of test prompts that some prompt holds, by the 8-gram rule."""
    if not against:
        return []
    prompts = list(dict.fromkeys(sheet.prompt))
    overlap, which = overlap_with(prompts, against)
    hit = overlap > 0.5
    tests = np.zeros(len(against))
    tests[which[hit]] = 1
    return [
        *share("contaminated_prompts", hit, ngram=8, threshold=0.5),
        *share("leaked_test_prompts", tests, ngram=8, threshold=0.5),
    ]


def of_diversity(sheet: Sheet, seed: int) -> list[Estimate]:
    """Distinct-2, EAD, self-BLEU and Vendi of the chosen answers, over up to five samples of equal size."""
    order = np.random.default_rng([0xD1, seed]).permutation(len(sheet))
    size = min(SAMPLE, len(sheet) // 2)
    if size < 10:
        return []
    tokens = [[words_of(sheet.chosen[i])[:256] for i in order[k * size : (k + 1) * size]] for k in range(5)]
    # Whole samples only: all of these measures move with the number of answers.
    samples = [some for some in tokens if len(some) == size and any(some)]
    values = {
        "distinct_2": [distinct_n(some, n=2) for some in samples],
        "ead": [expectation_adjusted_distinct(some, vocabulary=VOCABULARY) for some in samples],
        "self_bleu": [self_bleu(some) for some in samples],
        "vendi": [vendi_score(ngram_similarity(some)) for some in samples],
    }
    bounds = {"distinct_2": (0.0, 1.0), "ead": (0.0, math.inf), "self_bleu": (0.0, 1.0), "vendi": (1.0, float(size))}
    found: list[Estimate] = []
    for name, column in values.items():
        told = within(mean_interval(column), *bounds[name])
        found += estimate(name, told, answers=size, samples=len(column), tokens=256)
    return found


def of_policy(sheet: Sheet, policy: Sequence[str]) -> list[Estimate]:
    """Share of pairs with a side that one of the named models wrote."""
    if not policy:
        return []
    own = [a in policy or b in policy for a, b in zip(sheet.chosen_model, sheet.rejected_model, strict=True)]
    return share("on_policy", own, sheet.cluster, policy=list(policy))


def win_matrix(sheet: Sheet) -> list[tuple[str, str, int]]:
    """How often each model's answer was chosen over each other's."""
    met = Counter(zip(sheet.chosen_model, sheet.rejected_model, strict=True))
    return [(a, b, count) for (a, b), count in sorted(met.items()) if a or b]


def histogram(values: Floats, *, bins: int = 10) -> list[tuple[float, float, int]]:
    """Counts of values between equally spaced edges: (from, to, count)."""
    if not len(values):
        return []
    counts, edges = np.histogram(values, bins=bins)
    return [
        (float(low), float(high), int(count)) for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
