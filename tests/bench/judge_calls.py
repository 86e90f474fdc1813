"""How many judge calls the same power costs: the published design against ours, and how often ours is wrong about equals.

The published design judges A and B against a common baseline in both orders, on every prompt, and tests the paired
difference once. Ours is what ``evaluate --stop-when decided --orders one`` does: A against B, one order a prompt with the
sides balanced, the order's effect kept out of the noise, ten O'Brien-Fleming looks. Judge, models, error and power are the
same in both.

1. Computed: a grid of worlds, every combination of six properties that real judges and models differ in. Effects and
   variances are integrals, stopping chances are integrated look by look, nothing is drawn. The values are those of judges
   and boards elsewhere, and none is left out; ``lean_spread`` was added after a first look, since it hurts us.
2. Simulated: worlds drawn from the grid, to check what was computed, and equal models, to count false alarms.
3. Recorded, with ``--groundtruth``: every pair of models in AlpacaEval's published annotations. There no two models met, so
   the head-to-head verdict is what the two recorded preferences imply (log-odds subtract): an assumption.

    python tests/bench/judge_calls.py --groundtruth path/to/checkouts
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from scipy import optimize
from scipy.special import expit, logit

from rlhf_eval.interop import alpaca_eval
from rlhf_eval.stats.intervals import paired
from rlhf_eval.stats.sequential import (
    group_sequential_boundary,
    group_sequential_drift,
    group_sequential_look,
    stop_chances,
)
from rlhf_eval.verbs.decide import LOOKS

GOAL = 0.2
WIN_RATE = 0.55
"""Of A over B head to head: what is to be found."""
POWERS = (0.8, 0.9)
NOISE = 0.8
"""Standard deviation, in log-odds, of what a judge adds to each comparison anew."""
TIE = 0.5
"""Log-odds within which a judge that may call a tie does."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(24)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
LEADS = np.linspace(-16, 16, 1601)


@dataclass(frozen=True, slots=True)
class World:
    """What judge and models are like; all but the kind and the kinship in log-odds."""

    verdict: str
    """``hard``, ``ties`` or ``soft``: the judge's probability."""
    spread: float
    """Standard deviation, over prompts, of the difference of two unrelated models' qualities."""
    ahead: float
    """How far A and B together are ahead of the baseline, or behind it."""
    kinship: float
    """Correlation of A's and B's qualities over prompts: high for checkpoints of one model."""
    lean: float
    """What the first slot is worth."""
    lean_spread: float
    """How much that differs from prompt to prompt."""


GRID = {
    "verdict": ("hard", "ties", "soft"),
    "spread": (0.6, 1.2, 1.7),
    "ahead": (0.0, 1.0, 2.0),
    "kinship": (0.0, 0.5, 0.8),
    "lean": (0.0, 0.3, 0.8),
    "lean_spread": (0.0, 0.5),
}


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Moments of a judge's verdicts at each of LEADS."""

    mean: tuple[np.ndarray, np.ndarray]
    """Of each order."""
    square: tuple[np.ndarray, np.ndarray]
    product: np.ndarray
    """Of the two orders' verdicts on one prompt."""


def moments(world: World) -> Verdicts:
    """What the judge says, on average, of a model that leads by so much."""
    leans = world.lean + world.lean_spread * NODES
    means, squares = [], []
    for sign in (1, -1):
        seen = LEADS[:, None, None] + sign * leans[:, None] + NOISE * NODES
        wins, losses = chances(world, seen)
        soft = world.verdict == "soft"
        means.append((wins + (1 - wins - losses) / 2) @ WEIGHTS)
        squares.append((wins**2 if soft else wins + (1 - wins - losses) / 4) @ WEIGHTS)
    mean, square = ((found[0] @ WEIGHTS, found[1] @ WEIGHTS) for found in (means, squares))
    return Verdicts(mean, square, (means[0] * means[1]) @ WEIGHTS)


def chances(world: World, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chance of a win and of a loss; a soft verdict is its own chance."""
    band = TIE if world.verdict == "ties" else 0.0
    return expit(seen - band), expit(-seen - band)


def at(table: np.ndarray, leads: np.ndarray) -> np.ndarray:
    return np.interp(leads, LEADS, table)


def head_to_head(world: World, verdicts: Verdicts, gap: float) -> tuple[float, float, float]:
    """A's win rate from one balanced order, and the variance of a prompt without and with the order's effect."""
    leads = gap + world.spread * math.sqrt(1 - world.kinship) * NODES
    means = [float(at(table, leads) @ WEIGHTS) for table in verdicts.mean]
    squares = [float(at(table, leads) @ WEIGHTS) for table in verdicts.square]
    within = float(np.mean([square - mean**2 for square, mean in zip(squares, means, strict=True)]))
    return float(np.mean(means)), within, within + (means[0] - means[1]) ** 2 / 4


def through_baseline(world: World, verdicts: Verdicts, gap: float) -> tuple[float, float]:
    """A's share less B's against the baseline, both orders of each, and the variance of a prompt."""
    own = world.spread / math.sqrt(2)
    common, first, second = np.meshgrid(NODES, NODES, NODES, indexing="ij", sparse=True)
    # The two leads share the models' kinship and the baseline's quality: together one normal variable.
    shared = own * math.sqrt(1 + world.kinship) * common
    apart = own * math.sqrt(1 - world.kinship)
    weights = WEIGHTS[:, None, None] * WEIGHTS[:, None] * WEIGHTS
    both = (verdicts.mean[0] + verdicts.mean[1]) / 2
    spread = (verdicts.square[0] + verdicts.square[1] + 2 * verdicts.product) / 4 - both**2
    leads = [world.ahead + side * gap / 2 + shared + apart * x for side, x in ((1, first), (-1, second))]
    difference = at(both, leads[0]) - at(both, leads[1])
    noise = at(spread, leads[0]) + at(spread, leads[1])
    mean = float((weights * difference).sum())
    return mean, float((weights * (difference**2 + noise)).sum()) - mean**2


def gap_of(world: World, verdicts: Verdicts) -> float:
    """The difference in quality with which A wins as often as it is to."""
    return float(optimize.brentq(lambda gap: head_to_head(world, verdicts, gap)[0] - WIN_RATE, 0, 6))


def prompts_of(effect: float, variance: float, power: float, looks: int = 1) -> int:
    """The prompts with which a design of that many looks finds the effect with that power."""
    return math.ceil(group_sequential_drift(looks, power=power) ** 2 * variance / effect**2)


def expected_prompts(prompts: int, power: float, looks: int) -> float:
    """How many of them are judged before a look decides, on average."""
    found = stop_chances(np.array(group_sequential_boundary(looks)), group_sequential_drift(looks, power=power))
    return prompts * (1 - float(found[:-1] @ np.arange(looks - 1, 0, -1)) / looks)


@dataclass(frozen=True, slots=True)
class Costs:
    """Judge calls for the same power: through the baseline, and head to head with the looks and the noise of a design."""

    theirs: float
    ours: float
    before: float
    """Five looks, the position bias left in the noise."""


def costs(world: World, power: float) -> Costs:
    """What a decision costs in a world."""
    verdicts = moments(world)
    gap = gap_of(world, verdicts)
    rate, clean, plain = head_to_head(world, verdicts, gap)
    difference, variance = through_baseline(world, verdicts, gap)

    def looked(variance: float, looks: int) -> float:
        return expected_prompts(prompts_of(rate - 0.5, variance, power, looks), power, looks)

    return Costs(4 * prompts_of(difference, variance, power), looked(clean, LOOKS), looked(plain, 5))


def computed() -> None:
    """Over the whole grid: the share of worlds where our calls are at most a fifth of theirs."""
    worlds = [World(*values) for values in itertools.product(*GRID.values())]
    for power in POWERS:
        found = [costs(world, power) for world in worlds]
        shares = np.array([cost.ours / cost.theirs for cost in found])
        before = np.array([cost.before / cost.theirs for cost in found])
        print(f"{len(worlds)} worlds, head-to-head win rate {WIN_RATE:g}, power {power:g}: our share of their calls")
        for name, values in ((f"{LOOKS} looks, order-stratified", shares), ("5 looks, plain SE", before)):
            low, middle, high = np.quantile(values, [0, 0.5, 1])
            met = (values <= GOAL).mean()
            print(f"  {name:30} median {middle:.1%}, from {low:.1%} to {high:.1%}; at most 20 % in {met:.1%} of worlds")
        print(f"  worst: {worlds[int(shares.argmax())]}")
        for key, values in GRID.items():
            chosen = [[getattr(world, key) == value for world in worlds] for value in values]
            parts = [f"{value}: {(shares[c] <= GOAL).mean():.0%}" for value, c in zip(values, chosen, strict=True)]
            print(f"    met by {key:12} {', '.join(parts)}")


def drawn(world: World, rng: np.random.Generator, lead: np.ndarray, leans: np.ndarray) -> np.ndarray:
    """Verdicts on prompts on which the model leads by so much and its slot is worth ``leans``."""
    wins, losses = chances(world, lead + leans + rng.normal(0, NOISE, lead.shape))
    if world.verdict == "soft":
        return wins
    coin = rng.random(lead.shape)
    return np.where(coin < wins, 1.0, np.where(coin < 1 - losses, 0.5, 0.0))


def leans(world: World, rng: np.random.Generator, prompts: int) -> np.ndarray:
    return rng.normal(world.lean, world.lean_spread, prompts)


def ours(world: World, rng: np.random.Generator, gap: float, prompts: int) -> tuple[bool, int]:
    """Whether a run of ours found a difference, and its calls."""
    lead = gap + world.spread * math.sqrt(1 - world.kinship) * rng.normal(size=prompts)
    swapped = rng.permutation(np.arange(prompts) % 2 == 1)
    scores = drawn(world, rng, lead, np.where(swapped, -1, 1) * leans(world, rng, prompts))
    return looked_at(scores, swapped)


def looked_at(scores: np.ndarray, swapped: np.ndarray | None = None) -> tuple[bool, int]:
    """Whether one of the looks stops, and after how many prompts."""
    size = -(-len(scores) // LOOKS)
    for look in range(1, LOOKS + 1):
        end = min(look * size, len(scores))
        sides = None if swapped is None else swapped[:end]
        if end > 1 and group_sequential_look(scores[:end], swapped=sides, look=look, looks=LOOKS).stop:
            return True, end
    return False, len(scores)


def theirs(world: World, rng: np.random.Generator, gap: float, prompts: int) -> tuple[bool, int]:
    """The same of the published design."""
    own, kin = world.spread / math.sqrt(2), math.sqrt(world.kinship)
    base, family, *alone = rng.normal(size=(4, prompts))
    shares = []
    for side, x in zip((1, -1), alone, strict=True):
        quality = own * (kin * family + math.sqrt(1 - world.kinship) * x - base)
        lead, slot = world.ahead + side * gap / 2 + quality, leans(world, rng, prompts)
        shares.append((drawn(world, rng, lead, slot) + drawn(world, rng, lead, -slot)) / 2)
    return paired(shares[0], shares[1]).p_value < 0.05, 4 * prompts


def simulated(reps: int) -> None:
    """Worlds drawn from the grid, with what was computed beside it; then equal models."""
    rng = np.random.default_rng(20)
    print(f"\nsimulated, {reps} runs of each design, power .8 computed")
    for _ in range(6):
        world = World(*(values[rng.integers(len(values))] for values in GRID.values()))
        verdicts = moments(world)
        gap = gap_of(world, verdicts)
        rate, clean, _ = head_to_head(world, verdicts, gap)
        sizes = prompts_of(rate - 0.5, clean, 0.8, LOOKS), prompts_of(*through_baseline(world, verdicts, gap), 0.8)
        mine = np.mean([ours(world, rng, gap, sizes[0]) for _ in range(reps)], axis=0)
        other = np.mean([theirs(world, rng, gap, sizes[1]) for _ in range(reps)], axis=0)
        computed = costs(world, 0.8)
        print(f"  {astuple(world)}: power {mine[0]:.3f} with {mine[1]:.0f} calls, published {other[0]:.3f} with "
              f"{other[1]:.0f}; share {mine[1] / other[1]:.1%}, computed {computed.ours / computed.theirs:.1%}",
              flush=True)  # fmt: skip
    print(f"equal models, {2 * reps} runs each: share in which ours finds a difference (at most 5.5 % wanted)")
    for verdict, lean in itertools.product(GRID["verdict"], (0.0, 0.8)):
        world = World(str(verdict), 1.2, 0.0, 0.0, lean, 0.5)
        rates = {n: np.mean([ours(world, rng, 0.0, n)[0] for _ in range(2 * reps)]) for n in (60, 200, 805)}
        print(
            f"  {verdict}, slot worth {lean}: " + ", ".join(f"{n} prompts {x:.2%}" for n, x in rates.items()),
            flush=True,
        )


def recorded(checkouts: Path) -> None:
    """The cost of telling recorded models apart, and what ten looks would have said on their judgments."""
    shares = recorded_shares(checkouts)
    rng = np.random.default_rng(0)
    pairs = list(itertools.combinations(sorted(shares), 2))
    for power, verdict in itertools.product(POWERS, ("soft", "hard")):
        ratios = np.array([recorded_share(shares[a], shares[b], power, verdict) for a, b in pairs])
        low, middle, high = np.quantile(ratios, [0, 0.5, 1])
        worst = " and ".join(pairs[int(ratios.argmax())])
        print(f"recorded, {len(pairs)} pairs, {verdict} verdicts, power {power:g}: median {middle:.1%}, from {low:.1%} to "
              f"{high:.1%} ({worst}); at most 20 % in {(ratios <= GOAL).sum()}")  # fmt: skip
    agree, calls, alarms, undecided = [], [], [], 0
    for a, b in pairs:
        gaps = np.array(list(differences(shares[a], shares[b])))
        found, taken = looked_at((1 + rng.permutation(gaps)) / 2)
        alarms += [looked_at((1 + gaps * rng.choice([-1.0, 1.0], len(gaps))) / 2)[0] for _ in range(1000)]
        if paired(gaps, np.zeros(len(gaps))).p_value < 0.05:
            agree.append(found)
            calls.append(taken / len(gaps))
        else:
            undecided += 1
    print(f"looks at the recorded differences: {len(agree)} pairs differ on all prompts and {undecided} do not")
    print(f"  {LOOKS} looks find {np.mean(agree):.1%} of those that differ, with {np.mean(calls):.1%} of the prompts")
    print(f"  signs flipped at random: they find a difference in {np.mean(alarms):.2%} of {len(alarms)} runs")


def recorded_share(a: dict[str, float], b: dict[str, float], power: float, verdict: str) -> float:
    """Our calls over theirs for two models whose preferences against the baseline are recorded."""
    x, y = (np.array([side[prompt] for prompt in sorted(a.keys() & b.keys())]) for side in (a, b))
    met = expit(logit(x.clip(1e-7, 1 - 1e-7)) - logit(y.clip(1e-7, 1 - 1e-7)))
    hard = verdict == "hard"
    theirs = (x - y).var() + (hard * (x * (1 - x) + y * (1 - y)) / 2).mean()
    mine = met.mean() * (1 - met.mean()) if hard else met.var()
    prompts = prompts_of(met.mean() - 0.5, mine, power, LOOKS)
    return expected_prompts(prompts, power, LOOKS) / (4 * prompts_of((x - y).mean(), theirs, power))


def differences(a: dict[str, float], b: dict[str, float]) -> Iterator[float]:
    return (a[prompt] - b[prompt] for prompt in sorted(a.keys() & b.keys()))


def recorded_shares(checkouts: Path) -> dict[str, dict[str, float]]:
    """Model to prompt to its share against the common baseline, by the AlpacaEval 2 judge."""
    loaded = alpaca_eval.read(checkouts / "alpaca_eval")
    model_of = {completion.id: completion.model for completion in loaded.completions}
    found: dict[str, dict[str, float]] = {}
    for judgment in loaded.judgments:
        if judgment.scores and "weighted_alpaca_eval_gpt4_turbo" in judgment.judge:
            found.setdefault(model_of[judgment.completion_ids[0]], {})[judgment.prompt_id] = judgment.scores[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=3000)
    parser.add_argument("--groundtruth", type=Path, help="upstream checkouts, for the recorded judgments")
    options = parser.parse_args()
    computed()
    if options.groundtruth:
        recorded(options.groundtruth)
    simulated(options.reps)


if __name__ == "__main__":
    main()
