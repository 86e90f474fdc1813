"""Over-optimisation: where more choosing by a proxy stops paying in gold (Gao, Schulman and Hilton, arXiv 2210.10760).

The gold curve of best-of-n over ``d = sqrt(KL)`` is fitted by ``R = d (a - b d)``: over-optimisation is shown where the
interval of ``b`` lies above 0. A gold that has a highest value flattens by itself, and then ``b`` is above 0 without it:
``late gain``, of the largest n over the middle one, says whether gold really falls. The gold must be another judge than the
proxy, or the curve cannot bend. KL is ``log n - (n - 1)/n``, an upper bound; ``KL of the best of n`` is exact for the
samples at hand, where answers repeat.

    rlhf-eval evaluate overoptimization --model sandbox:policy --set generate.n=64 --judge length --check gold
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_eval.benchmarks.best_of_n import Scored, samples
from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate
from rlhf_eval.stats.best_of_n import (
    best_of_n_curve,
    best_of_n_kl,
    best_of_n_kl_exact,
    best_of_n_optimum,
    best_of_n_scores,
)
from rlhf_eval.stats.intervals import mean_interval

SHAPE: Shape = "answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the over-optimisation curve."""

    level: float = 0.95
    """Confidence of the intervals."""
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
    """Values of n; those above the number of samples are left out."""
    proxy: str = ""
    """The judge that chooses (the start of its name); empty takes the first."""
    draws: int = 1000
    """Bootstrap draws of prompts."""
    seed: int = 0
    """Seed of the bootstrap."""


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """The bend, the best n and the gold curve, for every model and every judge but the proxy."""
    pairs = [scored for scored in samples(evidence, config.proxy) if scored.gold != scored.proxy]
    if not pairs:
        raise UserError(
            "overoptimization needs two judges of single answers: --judge for the proxy and --check for the gold; "
            "under the proxy itself the curve cannot bend"
        )
    return [found for scored in pairs for found in _fitted(scored, config)]


def _fitted(scored: Scored, config: Config) -> list[Estimate]:
    sizes = [n for n in sorted(set(config.sizes)) if n <= scored.proxy_scores.shape[1]]
    optimum = best_of_n_optimum(
        scored.proxy_scores, scored.gold_scores, sizes, level=config.level, draws=config.draws, seed=config.seed
    )
    about = {"model": scored.model, "proxy": scored.proxy, "judge": scored.gold}
    fit = {"a": optimum.fit.a, "best_n": optimum.n, "best_n_low": optimum.n_low, "best_n_high": optimum.n_high}
    finite = {name: value if value < 1e300 else "beyond every n tried" for name, value in fit.items()}
    found = [estimate("bend", optimum.b, failed=scored.left_out, settings={**about, **finite})]
    curve = best_of_n_curve(scored.proxy_scores, scored.gold_scores, sizes, level=config.level)
    for n, interval in zip(sizes, curve, strict=True):
        found.append(estimate(f"gold of the best of {n}", interval, failed=scored.left_out, settings={**about, "n": n}))
    middle, last = sizes[len(sizes) // 2], sizes[-1]
    ends = best_of_n_scores(scored.proxy_scores, scored.gold_scores, [middle, last])
    late = mean_interval(ends[:, 1] - ends[:, 0], level=config.level)
    found.append(estimate("late gain", late, failed=scored.left_out, settings={**about, "from": middle, "to": last}))
    exact = best_of_n_kl_exact(scored.proxy_scores, sizes)
    for n, column in zip(sizes, exact.T, strict=True):
        settings = {**about, "n": n, "bound": float(best_of_n_kl(n))}
        divergence = mean_interval(column, level=config.level)
        found.append(estimate(f"KL of the best of {n}", divergence, failed=scored.left_out, settings=settings))
    return found
