"""AlpacaEval 1 and 2: preference over a baseline, raw and at equal length (Dubois et al., arXiv 2404.04475).

The raw win rate is the mean preference; ``discrete_win_rate`` counts each preference as a win, a tie or a loss. At equal
length two numbers stand side by side: ``length_controlled``, this project's estimator with an error that holds, and
``length_controlled_published``, the GLM as AlpacaEval fits it, without an interval of its own because the error that it
prints is two to three times too small. The published GLM needs the difficulty of each instruction, a file of the benchmark.

    rlhf-eval evaluate alpaca_eval --model tonight=hf:checkpoints/dpo --baseline sandbox:policy --judge-model sandbox:judge
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlhf_eval.benchmarks.evidence import Evidence, Shape, estimate, nothing_to_score
from rlhf_eval.errors import UserError
from rlhf_eval.records import Estimate, Judgment
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.intervals import clustered_mean, wilson
from rlhf_eval.stats.length_control import length_controlled, length_feature
from rlhf_eval.stats.style_published import GamedRows, alpaca_eval_2

SHAPE: Shape = "versus"
FORMAT = "alpaca_eval"
"""How a file or folder of its data is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of AlpacaEval."""

    level: float = 0.95
    """Confidence of the intervals."""
    difficulty: str = ""
    """A CSV with instruction_difficulty, in the order of the instructions; empty leaves the published GLM out."""
    gamed: str = ""
    """A CSV of the two gamed baselines' rows, which regularise the published GLM."""
    c: float | None = None
    """Inverse penalty of the published GLM; none chooses it by cross-validation."""

    def __post_init__(self) -> None:
        if (self.gamed or self.c is not None) and not self.difficulty:
            raise ValueError("gamed and c belong to the published length control, which needs 'difficulty' as well")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The annotations of one model in the order of the file: what every number here is computed from."""

    judge: str
    model: str
    baseline: str
    preference: Floats
    """The model's share of the verdict in [0, 1]; NaN where the annotation could not be read."""
    prompt: tuple[str, ...]
    model_length: Floats
    """Characters of the model's output."""
    baseline_length: Floats

    @property
    def judged(self) -> Floats:
        """The preferences that could be read."""
        return self.preference[np.isfinite(self.preference)]

    @property
    def length_difference(self) -> Floats:
        """Baseline minus model, as the published GLM wants it."""
        return self.baseline_length - self.model_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """The columns of AlpacaEval's leaderboards, in percent, with its names."""

    win_rate: float
    standard_error: float
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    discrete_win_rate: float


def score(evidence: Evidence, config: Config) -> list[Estimate]:
    """Raw, discrete and length-controlled win rates of every model against its baseline."""
    found = tables(evidence)
    if not found:
        raise nothing_to_score("alpaca_eval", "comparison of a model with its baseline")
    return [made for rows in found for made in _scored(rows, config)]


def tables(evidence: Evidence) -> list[Rows]:
    """One table for each judge, model and baseline."""
    groups: dict[tuple[str, str, str], list[Judgment]] = {}
    for judgment in evidence.judgments:
        if len(judgment.completion_ids) == 2:
            model, baseline = (evidence.completions[c].model for c in judgment.completion_ids)
            if evidence.baseline in ("", baseline):
                groups.setdefault((judgment.judge, model, baseline), []).append(judgment)
    return [_rows(evidence, key, group) for key, group in groups.items()]


def raw(rows: Rows) -> Raw:
    """What AlpacaEval prints of a model; raises UserError where no annotation could be read."""
    p = rows.judged
    if not len(p):
        raise UserError(f"{rows.model}: none of {len(rows.preference)} annotations by {rows.judge} could be read")
    mean, se, _ = clustered_mean(p)
    return Raw(
        win_rate=100 * mean,
        standard_error=100 * se,
        n_wins=int((p > 0.5).sum()),
        n_wins_base=int((p < 0.5).sum()),
        n_draws=int((p == 0.5).sum()),
        n_total=len(p),
        discrete_win_rate=100 * float(discrete(p).mean()),
    )


def discrete(preference: Floats) -> Floats:
    """Each preference as 1, .5 or 0."""
    return (np.sign(preference - 0.5) + 1) / 2


def from_weights(weights: Sequence[float], difficulty: Floats) -> float:
    """The length-controlled win rate, as a share, of published weights (length, difficulty, model)."""
    return float((1 / (1 + np.exp(-(weights[1] * difficulty + weights[2])))).mean())


def read_difficulty(path: Path) -> Floats:
    """The column ``instruction_difficulty`` of a CSV."""
    return _columns(path, ("instruction_difficulty",))[0]


def read_gamed(path: Path) -> GamedRows:
    """The rows of the gamed baselines."""
    scores, length, difficulty = _columns(path, ("preference", "std_delta_len", "instruction_difficulty"))
    return GamedRows(scores=scores, standardized_length=length, difficulty=difficulty)


def _rows(evidence: Evidence, key: tuple[str, str, str], judgments: Sequence[Judgment]) -> Rows:
    lengths = np.array(
        [[len(evidence.completions[c].text) for c in j.completion_ids] for j in judgments], dtype=np.float64
    )
    return Rows(
        judge=key[0],
        model=key[1],
        baseline=key[2],
        preference=np.array([j.scores[0] if j.scores else math.nan for j in judgments]),
        prompt=tuple(j.prompt_id for j in judgments),
        model_length=lengths[:, 0],
        baseline_length=lengths[:, 1],
    )


def _scored(rows: Rows, config: Config) -> list[Estimate]:
    plain = raw(rows)
    read = np.isfinite(rows.preference)
    prompts = np.array(rows.prompt)[read]
    failed = len(set(rows.prompt) - set(prompts.tolist()))
    about: dict[str, object] = {
        "model": rows.model,
        "baseline": rows.baseline,
        "judge": rows.judge,
        "wins": plain.n_wins,
        "losses": plain.n_wins_base,
        "ties": plain.n_draws,
        "unreadable": int((~read).sum()),
    }
    found = [
        estimate("win_rate", wilson(rows.judged, prompts, level=config.level), failed=failed, settings=about),
        estimate(
            "discrete_win_rate",
            wilson(discrete(rows.judged), prompts, level=config.level),
            failed=failed,
            settings=about,
        ),
    ]
    style = length_feature(rows.model_length, rows.baseline_length)[read]
    controlled = length_controlled(rows.judged, style, prompts, level=config.level)
    gates = {"variance_inflation": controlled.variance_inflation, "overlap": controlled.overlap}
    if controlled.adjusted is not None:
        settings = {**about, **gates, "length_coefficient": controlled.coefficients[0]}
        found.append(estimate("length_controlled", controlled.adjusted, failed=failed, settings=settings))
    if config.difficulty:
        found.append(_published(rows, config, about, failed))
    return found


def _published(rows: Rows, config: Config, about: Mapping[str, object], failed: int) -> Estimate:
    difficulty = read_difficulty(Path(config.difficulty))
    if len(difficulty) != len(rows.preference):
        raise UserError(
            f"{config.difficulty}: {len(difficulty)} difficulties for {len(rows.preference)} annotations of {rows.model}; "
            "the published length control needs one for each, in the same order"
        )
    gamed = read_gamed(Path(config.gamed)) if config.gamed else None
    fit = alpaca_eval_2(rows.preference, rows.length_difference, difficulty, gamed=gamed, c=config.c)
    return Estimate(
        name="length_controlled_published",
        value=fit.value,
        low=0.0,
        high=1.0,
        n=len(rows.judged),
        failed=failed,
        method="AlpacaEval 2 GLM; no interval of its own",
        settings={**about, "published_se": fit.published_se, "c": fit.c, "note": fit.note},
    )


def _columns(path: Path, names: Sequence[str]) -> list[Floats]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [np.array([float(row[name]) for row in rows]) for name in names]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: the columns {', '.join(names)} must be there and hold numbers ({error})") from error
