"""How often does an interval that says 95% hold the truth? Ours beside what others print, on data where the truth is known.

    python tests/bench/coverage.py --reps 1000            # the whole table, about five minutes on one core
    python tests/bench/coverage.py --reps 200 --only rate

The others' procedures are written here from their formulas: Arena-Hard's bootstrap of exploded rows, lm-eval's and
AlpacaEval's standard error over rows, AlpacaEval's length-controlled standard error, arena-rank's and FastChat's
per-game sandwich, ppi_py's normal interval, a fixed-size test looked at after every prompt.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special

from rlhf_eval.cli.show import FEW
from rlhf_eval.stats.agreement import agreement
from rlhf_eval.stats.bradley_terry import bradley_terry, newton, rating_intervals
from rlhf_eval.stats.human import ppi_mean, rogan_gladen
from rlhf_eval.stats.intervals import mean_interval, paired, wilson
from rlhf_eval.stats.jackknife import block_jackknife
from rlhf_eval.stats.length_control import length_controlled
from rlhf_eval.stats.passk import pass_at_k
from rlhf_eval.stats.reward_models import macro_average
from rlhf_eval.stats.sequential import betting_test, group_sequential_look
from rlhf_eval.stats.style_published import alpaca_eval_2
from rlhf_eval.verbs.decide import LOOKS

Data = Any
Ends = tuple[float, float] | tuple[float, float, str]
"""Low, high, and what the interval says against itself."""
OURS = "ours: "
TOLERANCE = 0.02


@dataclass(frozen=True)
class Case:
    """One kind of data, its true value, and the procedures that are to cover it."""

    name: str
    truth: float
    draw: Callable[[np.random.Generator], Data]
    procedures: dict[str, Callable[[Data], Ends]]
    level: float = 0.95


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    case: str
    procedure: str
    level: float
    coverage: float
    error: float
    width: float
    warned: float
    """Share of the intervals that came with a warning."""


def ends(interval: Any) -> Ends:
    return interval.low, interval.high, interval.note or ("few" if interval.n < FEW else "")


def normal(value: float, se: float, level: float = 0.95) -> Ends:
    z = special.ndtri((1 + level) / 2)
    return value - z * se, value + z * se


# Win rates: every prompt judged in both orders, with ties, position bias and prompts that differ.


def verdicts(rng: np.random.Generator, prompts: int, merit: float, repeats: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores and prompt numbers; a verdict is a tie where the judge's impression lies within half a logit of zero."""
    taste = rng.normal(merit, 1.2, prompts)[:, None, None]
    side = np.array([0.3, -0.3])[None, :, None]
    impression = taste + side + rng.logistic(size=(prompts, 2, repeats))
    scores = np.where(impression > 0.5, 1.0, np.where(impression < -0.5, 0.0, 0.5))
    return scores.ravel(), np.repeat(np.arange(prompts), 2 * repeats)


def true_rate(merit: float) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    eta = merit + 1.2 * nodes[:, None] + np.array([0.3, -0.3])
    return float(weights @ (special.expit(eta + 0.5) + special.expit(eta - 0.5)).mean(axis=1) / 2 / weights.sum())


def arena_hard(data: Data) -> Ends:
    """Arena-Hard: rows exploded threefold for strong verdicts, 100 bootstrap rounds of rows, 5% and 95%."""
    scores, prompts = data
    strong = (scores != 0.5) & (np.random.default_rng(len(prompts)).random(len(scores)) < 0.3)
    rows = np.repeat(scores, np.where(strong, 3, 1))
    rng = np.random.default_rng(0)
    means = rows[rng.integers(len(rows), size=(100, len(rows)))].mean(axis=1)
    low, high = np.quantile(means, [0.05, 0.95])
    return float(low), float(high)


def over_rows(data: Data) -> Ends:
    scores, _ = data
    return normal(scores.mean(), scores.std(ddof=1) / np.sqrt(len(scores)))


def rate_cases() -> Iterator[Case]:
    for rate, prompts in ((0.55, 60), (0.55, 500), (0.9, 60), (0.953, 60), (0.98, 30), (0.75, 15)):
        merit = optimize.brentq(lambda m, rate=rate: true_rate(m) - rate, -8, 12)
        yield Case(
            name=f"rate {rate:g}, {prompts} prompts, 2 orders, ties",
            truth=rate,
            draw=lambda rng, prompts=prompts, merit=merit: verdicts(rng, prompts, merit),
            procedures={
                OURS + "wilson, clustered": lambda d: ends(wilson(*d)),
                "t, clustered (inspect)": lambda d: ends(mean_interval(*d)),
                "normal over rows (lm-eval)": over_rows,
                "row bootstrap x3, its 90% (arena-hard)": arena_hard,
            },
        )
    for rate, prompts in ((0.95, 100), (0.95, 20)):
        yield Case(
            name=f"rate {rate:g}, {prompts} prompts, independent yes or no",
            truth=rate,
            draw=lambda rng, prompts=prompts, rate=rate: (
                (rng.random(prompts) < rate).astype(float),
                np.arange(prompts),
            ),
            procedures={
                OURS + "wilson, clustered": lambda d: ends(wilson(*d)),
                "normal over rows (lm-eval)": over_rows,
            },
        )
    for prompts, lean in ((60, 0.8), (200, 1.5)):

        def one_order(rng: np.random.Generator, prompts: int = prompts, lean: float = lean) -> Data:
            swapped = rng.permutation(np.arange(prompts) % 2 == 1)
            return (rng.random(prompts) < special.expit(np.where(swapped, -lean, lean))).astype(float), swapped

        yield Case(
            name=f"rate 0.5, {prompts} prompts in one balanced order, first slot worth {lean:g}",
            truth=0.5,
            draw=one_order,
            procedures={
                OURS + "wilson, order-stratified": lambda d: ends(wilson(d[0], swapped=d[1])),
                "wilson, orders not told apart": lambda d: ends(wilson(d[0])),
            },
        )
    yield Case(
        name="rate, 60 prompts, soft verdicts about 1, 3% losses",
        truth=0.97 * 0.98 + 0.03 * 0.05,
        draw=lambda rng: (
            np.where(rng.random(60) < 0.03, 0.05, 0.98) + rng.uniform(-0.02, 0.02, 60),
            np.arange(60),
        ),
        procedures={OURS + "wilson, clustered": lambda d: ends(wilson(*d)), "normal over rows (lm-eval)": over_rows},
    )
    yield Case(
        name="rate, 60 prompts, soft verdicts near 1, 3% losses",
        truth=0.97 * 0.98 + 0.03 * 0.05,
        draw=lambda rng: (np.where(rng.random(60) < 0.03, 0.05, 0.98), np.arange(60)),
        procedures={OURS + "wilson, clustered": lambda d: ends(wilson(*d)), "normal over rows (lm-eval)": over_rows},
    )


def paired_cases() -> Iterator[Case]:
    def draw(rng: np.random.Generator) -> Data:
        difficulty = rng.normal(0, 1, 100)
        chance = [special.expit(difficulty + shift) for shift in (0.6, 0.3)]
        samples = [(rng.random((100, 3)) < c[:, None]).ravel().astype(float) for c in chance]
        return samples[0], samples[1], np.repeat(np.arange(100), 3)

    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    truth = float(weights @ (special.expit(nodes + 0.6) - special.expit(nodes + 0.3)) / weights.sum())
    yield Case(
        name="paired difference, 100 prompts, 3 samples",
        truth=truth,
        draw=draw,
        procedures={
            OURS + "paired t, clustered": lambda d: ends(paired(*d)),
            "unpaired, over rows": lambda d: normal(
                d[0].mean() - d[1].mean(), np.sqrt((d[0].var(ddof=1) + d[1].var(ddof=1)) / len(d[0]))
            ),
        },
    )


# Length control: one verdict per prompt, a judge that likes length, prompts of different difficulty.


def length_cases() -> Iterator[Case]:
    def published(data: Data) -> Ends:
        scores, gap, difficulty = data
        fit = alpaca_eval_2(scores, gap, difficulty, c=np.inf)
        return normal(fit.value, fit.published_se)

    def ours(data: Data) -> Ends:
        scores, gap, difficulty = data
        fit = length_controlled(scores, np.tanh(-gap), covariates=difficulty)
        return ends(fit.adjusted) if fit.adjusted else (0.0, 1.0)

    for shift in (0.0, -1.0):
        for soft in (False, True):

            def draw(rng: np.random.Generator, shift: float = shift, soft: bool = soft) -> Data:
                gap, difficulty = rng.normal(shift, 1, 805), rng.normal(size=805)
                eta = -0.9 * np.tanh(gap) + 0.6 * difficulty
                hard = (rng.random(805) < special.expit(eta)).astype(float)
                return (special.expit(eta + rng.normal(0, 1, 805)) if soft else hard), gap, difficulty

            yield Case(
                name=f"length control, {'soft' if soft else 'hard'} verdicts, lengths {shift:g} sd apart",
                truth=0.5,  # the models are equal, and both noises are symmetric
                draw=draw,
                procedures={OURS + "influence function": ours, "published SE (alpaca_eval)": published},
            )


# Ranking: every pair of six models on every prompt in both orders; prompts favour some models.


def ranking_cases() -> Iterator[Case]:
    strengths = np.linspace(0.6, -0.6, 6)
    i, j = np.triu_indices(6, 1)
    a, b = np.tile(i, 200), np.tile(j, 200)
    prompts = np.repeat(np.arange(100), 30)

    def draw(rng: np.random.Generator) -> Data:
        taste = rng.normal(0, 1, (100, 6))
        gap = strengths[a] - strengths[b] + taste[prompts, a] - taste[prompts, b]
        return (rng.random(len(a)) < special.expit(gap)).astype(float)

    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    wins = np.zeros((6, 6))
    for x, y in zip(i, j, strict=True):
        wins[x, y] = weights @ special.expit(strengths[x] - strengths[y] + np.sqrt(2) * nodes) / weights.sum()
        wins[y, x] = 1 - wins[x, y]
    population = newton(wins[None])[0]
    yield Case(
        name="bradley-terry, best of 6 models, 100 prompts, 15 pairs, 2 orders",
        truth=float(population[0] - population.mean()),
        draw=draw,
        procedures={
            OURS + "sandwich clustered by prompt": lambda s: ends(rating_intervals(bradley_terry(a, b, s, prompts))[0]),
            "sandwich over games (arena-rank)": lambda s: ends(rating_intervals(bradley_terry(a, b, s))[0]),
        },
    )


# Agreement, pass@k, human labels.


def set_cases() -> Iterator[Case]:
    """Means of subsets, and statistics of a whole set of answers."""
    sizes, weights = (30, 100, 60, 40), (1.0, 2.0, 1.0, 1.0)
    for rates in ((0.75, 0.8, 0.7, 0.6), (0.97, 0.9, 0.99, 0.95)):

        def subsets(rng: np.random.Generator, rates: tuple[float, ...] = rates) -> Data:
            return [(rng.random(n) < p).astype(float) for n, p in zip(sizes, rates, strict=True)]

        yield Case(
            name=f"weighted mean of four subsets, rates {rates}",
            truth=float(np.dot(rates, weights)) / sum(weights),
            draw=subsets,
            procedures={
                OURS + "mover": lambda d: ends(macro_average([wilson(x) for x in d], weights)),
                "normal over subsets": lambda d: normal(
                    np.average([x.mean() for x in d], weights=weights),
                    np.sqrt(sum((w / 5) ** 2 * x.var(ddof=1) / len(x) for w, x in zip(weights, d, strict=True))),
                ),
            },
        )

    def answers(rng: np.random.Generator) -> Data:
        return rng.zipf(1.5, (120, 8)).clip(max=5000)

    def distinct(words: Data) -> float:
        return len(np.unique(words)) / words.size

    rng = np.random.default_rng(99)
    yield Case(
        name="share of distinct words, 120 answers of 8",
        truth=float(np.mean([distinct(answers(rng)) for _ in range(4000)])),
        draw=answers,
        procedures={
            OURS + "block jackknife": lambda d: ends(block_jackknife(len(d), lambda kept: distinct(d[kept]))),
            "bootstrap of answers": lambda d: tuple(
                np.quantile([distinct(d[rng.integers(len(d), size=len(d))]) for _ in range(200)], [0.025, 0.975])
            ),
        },
    )


def other_cases() -> Iterator[Case]:
    def labels(rng: np.random.Generator) -> Data:
        truth = rng.random(60) < 0.7
        right = rng.random(60)[:, None] < np.array([0.9, 0.8])  # a prompt that fools one rater fools it in every repeat
        said = np.where(right, truth[:, None], ~truth[:, None])
        return np.repeat(said[:, 0], 3), np.repeat(said[:, 1], 3), np.repeat(np.arange(60), 3)

    # One number per prompt decides both raters: both are right with chance .8, only the first with .1, neither with .1.
    agree, yes = 0.8 + 0.1, (0.7 * 0.9 + 0.3 * 0.1, 0.7 * 0.8 + 0.3 * 0.2)
    chance = yes[0] * yes[1] + (1 - yes[0]) * (1 - yes[1])
    kappa = (agree - chance) / (1 - chance)
    yield Case(
        name="cohen's kappa, 60 prompts, 3 repeats",
        truth=kappa,
        draw=labels,
        procedures={
            OURS + "cluster bootstrap": lambda d: ends(agreement(*d, draws=500).kappa),
            "bootstrap of rows": lambda d: ends(agreement(d[0], d[1], draws=500).kappa),
        },
    )

    def problems(rng: np.random.Generator) -> Data:
        chance = rng.beta(0.4, 1.2, 50)
        return rng.binomial(10, chance)

    k = 5
    truth = 1 - float(special.beta(0.4, 1.2 + k) / special.beta(0.4, 1.2))
    yield Case(
        name="pass@5, 50 problems, 10 samples",
        truth=truth,
        draw=problems,
        procedures={
            OURS + "wilson over problems": lambda c: ends(pass_at_k(np.full(50, 10), c, k=k)),
            "biased 1-(1-c/n)^k, normal": lambda c: normal(
                (1 - (1 - c / 10) ** k).mean(), (1 - (1 - c / 10) ** k).std(ddof=1) / np.sqrt(50)
            ),
        },
    )


def judged(rng: np.random.Generator, n: int, share: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    truth = (rng.random(n) < share).astype(float)
    return truth, np.where(truth == 1, rng.random(n) < 0.85, rng.random(n) >= 0.75).astype(float)


def counts(data: Data) -> dict[str, int]:
    """What Rogan and Gladen need to know of labels, the judge on them, and the judge on the rest."""
    truth, said, rest = data
    return {
        "positive": int(rest.sum()),
        "n": len(rest),
        "true_negative": int(((truth == 0) & (said == 0)).sum()),
        "negatives": int((truth == 0).sum()),
        "true_positive": int(((truth == 1) & (said == 1)).sum()),
        "positives": int((truth == 1).sum()),
    }


def human_cases() -> Iterator[Case]:
    for n in (20, 200):
        yield Case(
            name=f"human share .6, {n} labels, 2000 judged",
            truth=0.6,
            draw=lambda rng, n=n: (*judged(rng, n), judged(rng, 2000)[1]),
            procedures={
                OURS + "ppi++, t": lambda d: ends(ppi_mean(*d)),
                OURS + "rogan-gladen, fieller": lambda d: ends(rogan_gladen(**counts(d))),
                "rogan-gladen, adjusted (Lee et al.)": lambda d: ends(rogan_gladen(**counts(d), published=True)),
                "ppi++, normal (ppi_py)": lambda d: ends(ppi_mean(*d, small_sample=False)),
                "judge alone": lambda d: normal(d[2].mean(), d[2].std(ddof=1) / np.sqrt(len(d[2]))),
            },
        )


# Early stopping: the interval at the time one stops.


def stopping_cases() -> Iterator[Case]:
    def looks(scores: np.ndarray) -> Ends:
        """The interval that a run with ``--stop-when decided`` shows."""
        for number in range(1, LOOKS + 1):
            look = group_sequential_look(scores[: math.ceil(len(scores) / LOOKS) * number], look=number, looks=LOOKS)
            if look.stop:
                break
        return ends(look.interval)

    def peeking(scores: np.ndarray) -> Ends:
        t = np.arange(30, 806)
        mean = np.cumsum(scores)[t - 1] / t
        se = np.sqrt(np.maximum(mean * (1 - mean), 1e-9) / (t - 1))
        stop = np.flatnonzero(np.abs(mean - 0.5) > 1.96 * se)
        last = int(stop[0]) if len(stop) else len(t) - 1
        return normal(float(mean[last]), float(se[last]))

    for rate in (0.5, 0.55):
        yield Case(
            name=f"stopped early, rate {rate:g}, up to 805 prompts",
            truth=rate,
            draw=lambda rng, rate=rate: (rng.random(805) < rate).astype(float),
            procedures={
                OURS + f"{LOOKS} looks, repeated interval": looks,
                OURS + "betting sequence": lambda s: ends(betting_test(s, grid=200).interval),
                "1.96 after every prompt": peeking,
            },
        )


GROUPS: dict[str, Callable[[], Iterator[Case]]] = {
    "rate": rate_cases,
    "paired": paired_cases,
    "length": length_cases,
    "ranking": ranking_cases,
    "sets": set_cases,
    "other": other_cases,
    "human": human_cases,
    "stopping": stopping_cases,
}


def measure(case: Case, reps: int, seed: int) -> Iterator[Row]:
    """The coverage and mean width of every procedure of a case over ``reps`` data sets; all see the same data."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Ends]] = {name: [] for name in case.procedures}
    for _ in range(reps):
        data = case.draw(rng)
        for name, procedure in case.procedures.items():
            found[name].append(procedure(data))
    for name, intervals in found.items():
        low, high = (np.array([interval[k] for interval in intervals], dtype=float) for k in (0, 1))
        warned = float(np.mean([len(interval) > 2 and bool(interval[2]) for interval in intervals]))
        held = float(((low <= case.truth) & (case.truth <= high)).mean())
        error = float(np.sqrt(max(held * (1 - held), 0.25 / reps) / reps))
        yield Row(case.name, name, case.level, held, error, float((high - low).mean()), warned)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=500, help="data sets per case (default 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(GROUPS), action="append", help="a group of cases; repeatable")
    options = parser.parse_args(arguments)
    print(f"coverage of nominal 95% intervals, {options.reps} data sets each, seed {options.seed}")
    outside = []
    for group in options.only or GROUPS:
        for case in GROUPS[group]():
            print(f"\n{case.name}: true value {case.truth:.4f}")
            for row in measure(case, options.reps, options.seed):
                warned = f"   warned {row.warned:.2f}" if row.warned else ""
                print(
                    f"  {row.procedure:42} {row.coverage:.3f} +-{row.error:.3f}   width {row.width:.3f}{warned}",
                    flush=True,
                )
                if row.procedure.startswith(OURS) and abs(row.coverage - row.level) > TOLERANCE:
                    outside.append(
                        f"  {row.coverage:.3f} +-{row.error:.3f}, warned {row.warned:.2f}: {row.case}, {row.procedure}"
                    )
    print(f"\nours that are further than {TOLERANCE} from their level:", *(outside or ["  none"]), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
