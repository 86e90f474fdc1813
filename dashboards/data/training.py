"""Trainings of the store: curves, health, what was written at each step, and where they should have stopped.

Over-optimisation is drawn from what evaluation steps stored: proxy reward (what was optimised) and gold or a judged win
rate over ``d = sqrt(KL)``, with ``R = d (a - b log d)`` fitted to the gold gained since the first step (Gao, Schulman and
Hilton, arXiv 2210.10760, equation 1) and its interval from a bootstrap of prompts.

    for row in trainings(store): print(row.run, row.final)
    overoptimization(store, run).stop
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dashboards.data.judges import estimate_of
from dashboards.data.reading import about
from dashboards.data.state import Nothing
from rlhf_eval.benchmarks.standings import facing, standings
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Estimate, Prompt, Run
from rlhf_eval.stats.arrays import Floats
from rlhf_eval.stats.best_of_n import OverOptimization, best_of_n_kl, fit_overoptimization
from rlhf_eval.stats.bootstrap import cluster_draws, expanded_percentiles
from rlhf_eval.stats.intervals import mean_interval, paired
from rlhf_eval.store.runs import Store

MARKS = 400
"""Points of a curve that a chart shows; of more it shows means of neighbours."""
NEAREST = 0.3
"""d below which the form of reinforcement learning is too steep to be fitted."""
DRAWS = 400

WHAT = {
    "loss": "loss", "learning_rate": "learning rate", "grad_norm": "gradient norm", "epoch": "epoch",
    "accuracy": "chosen over rejected (share)", "margin": "margin, chosen minus rejected", "reward": "proxy reward",
    "gold": "gold reward", "kl": "KL to the reference (nats a completion)", "entropy": "entropy (nats)",
    "length": "length (tokens)", "clip_fraction": "clipped (share)", "value_loss": "value loss",
    "truncated": "truncated (share)", "explained_variance": "explained variance of the critic",
    "kl_coef": "KL coefficient", "failed": "without a reward (share)", "nll": "negative log-likelihood (nats)",
    "chosen_logps": "log-probability of chosen (nats)", "rejected_logps": "log-probability of rejected (nats)",
    "chosen_reward": "implicit reward of chosen", "rejected_reward": "implicit reward of rejected",
    "liked_reward": "implicit reward of liked", "disliked_reward": "implicit reward of disliked",
    "outliers": "taken for wrong labels (share)",
}  # fmt: skip
"""The scalars of ``metrics.jsonl`` in the order of a page, and what they are."""
ALWAYS = ("step", "split", "seconds", "tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One training."""

    run: str
    status: str
    message: str
    trainer: str
    base: str
    """What it started from."""
    data: tuple[str, ...]
    """Runs and files that it learned from."""
    steps: int
    tokens: int
    seconds: float
    final: Mapping[str, float]
    """The last value of every scalar, ``eval`` before ``train``."""
    worries: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One scalar of one training."""

    run: str
    split: str
    name: str
    step: Floats
    value: Floats
    averaged: int
    """Neighbouring rows in a point: 1 where every row is shown."""

    @property
    def moves(self) -> bool:
        """Whether its values differ, or are too few to say."""
        return len(self.value) < 3 or bool(np.ptp(self.value) > 0) or not bool(np.isfinite(self.value).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an evaluation step wrote."""

    step: int
    model: str
    completions: int
    prompts: int
    kl: float | None
    """Mean nats, from the completions or else from the metrics of the step."""
    reward: Estimate | None
    gold: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One completion of a step with its prompt."""

    prompt: Prompt
    completion: Completion
    reward: float | None
    gold: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Where the fitted gold reward is highest."""

    fit: OverOptimization
    b_low: float
    b_high: float
    d_low: float
    d_high: float
    """95 % over prompts; infinite where some draws never bend."""
    step: int
    """The evaluated step to keep: next to the peak, or, where gold has no peak inside, the best of those measured."""
    bends: bool
    """Whether the bend is shown: its interval lies above 0, and the peak inside what was measured."""
    gained: Estimate
    """Gold of the last evaluated step minus that of the first, paired by prompt."""
    draws: int

    @property
    def falls(self) -> bool:
        """Whether gold is surely lower in the end than before the training, without a peak on the way."""
        return not self.bends and self.gained.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """The over-optimisation curve of one training."""

    steps: tuple[Step, ...]
    stop: Stop | None
    why_not: str
    """Why nothing is fitted; empty where something is."""
    won: tuple[tuple[int, Estimate], ...] = ()
    """Step to its judged win rate, where other runs judged its completions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bend:
    """A best-of-n over-optimisation curve that ``evaluate overoptimization`` stored."""

    run: str
    model: str
    proxy: str
    judge: str
    b: Estimate
    a: float
    best_n: Any
    points: tuple[tuple[int, float, Estimate], ...]
    """n, d = sqrt(KL) at most, and the gold of the best of n."""

    @property
    def peak_d(self) -> float:
        """Where ``d (a - b d)`` is highest; infinite where it never bends."""
        return self.a / (2 * self.b.value) if self.b.value > 0 else math.inf


def trainings(store: Store) -> list[Row]:
    """Every training, newest first; raises Nothing where there is none."""
    runs = store.runs("train")
    if not runs:
        raise Nothing(
            "Nothing has been trained in this store yet.",
            command="rlhf-eval train dpo --model sandbox:policy --data latest:pairs",
        )
    return [_row(store, run) for run in reversed(runs)]


def series(store: Store, runs: Sequence[str], *, most: int = MARKS) -> list[Series]:
    """Every scalar of some trainings, thinned to ``most`` points by means of neighbours."""
    found = []
    for run in runs:
        columns: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        for row in store.metrics(run):
            for name, value in row.items():
                if name not in ALWAYS and _is_number(value):
                    columns[str(row.get("split", "train")), name].append((float(row.get("step", 0)), float(value)))
        for (split, name), rows in columns.items():
            step, value = np.array(rows).T
            block = max(1, math.ceil(len(rows) / most))
            found.append(
                Series(
                    run=run, split=split, name=name, step=_blocks(step, block), value=_blocks(value, block),
                    averaged=block,
                )
            )  # fmt: skip
    order = list(WHAT)
    return sorted(found, key=lambda s: (order.index(s.name) if s.name in WHAT else len(order), s.name, s.run, s.split))


def worries(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What in a training's metrics should be looked at, in words; a rule of thumb each, named with its bound."""
    found = []
    broken = sorted({n for row in rows for n, v in row.items() if isinstance(v, float) and not math.isfinite(v)})
    if broken:
        first = next(row["step"] for row in rows if any(n in row and not math.isfinite(row[n]) for n in broken))
        found.append(f"{', '.join(broken)} is not a number from step {first}: the training has diverged")
    train, held = _column(rows, "train"), _column(rows, "eval")
    for name, ratio, words in (
        ("entropy", 0.2, "entropy fell to {share:.0%} of what it was: the policy has little left to explore"),
        ("length", 2.0, "answers are {share:.1f} times as long as at the start: is length what is rewarded?"),
    ):
        curve = train.get(name) or held.get(name) or []
        if len(curve) >= 4 and curve[0] > 0:
            share = curve[-1] / curve[0]
            if share < ratio < 1 or share > ratio > 1:
                found.append(words.format(share=share))
    clipped = train.get("clip_fraction", [])
    if clipped and clipped[-1] > 0.3:
        found.append(f"{clipped[-1]:.0%} of the tokens are clipped (over 30 %): the steps are too large")
    cut = held.get("truncated") or train.get("truncated") or []
    if cut and cut[-1] > 0.1:
        found.append(f"{cut[-1]:.0%} of the answers are cut off (over 10 %): raise max_tokens")
    if train.get("accuracy") and held.get("accuracy") and train["accuracy"][-1] - held["accuracy"][-1] > 0.15:
        gap = train["accuracy"][-1] - held["accuracy"][-1]
        found.append(f"{100 * gap:.0f} points more accurate on its own pairs than on held-out ones: it memorises")
    gold, proxy = held.get("gold", []), held.get("reward", [])
    if len(gold) >= 3 and len(proxy) == len(gold) and proxy[-1] > proxy[0] and gold[-1] < max(gold) - 0.02:
        found.append("the proxy reward still rises while gold is below its best: look at over-optimisation below")
    return found


def steps_of(store: Store, run: str) -> list[Step]:
    """The evaluation steps that stored completions, with what they scored; clustered by prompt."""
    query = """
        select try_cast(regexp_extract(model, '@([0-9]+)$', 1) as bigint) as step, any_value(model) as model,
               list(prompt_id order by id) as prompts, list(metadata order by id) as metadata
        from completions where run_id = ? and error is null and regexp_matches(model, '@[0-9]+$') group by 1 order by 1"""
    measured: dict[int, dict[str, float]] = {}
    for row in store.metrics(run):
        if row.get("split") == "eval":
            measured[int(row["step"])] = {n: v for n, v in row.items() if _is_number(v)}
    return [_step(row, measured.get(int(row["step"]), {})) for row in store.sql(query, [run]).to_pylist()]


def measured(store: Store, run: str, steps: Sequence[Step]) -> list[tuple[str, Estimate]]:
    """What a training came to, with its interval: gold and proxy of its last evaluation, or a reward model's accuracy."""
    last = steps[-1] if steps else None
    found = [(f"{e.name.capitalize()} at step {last.step:,}", e) for e in (last.gold, last.reward) if e] if last else []
    held = [e for e in store.read(Estimate, run=run) if e.name == "accuracy"]
    return found + [("Accuracy on held-out pairs", e) for e in held]


def written(store: Store, run: str, step: int, *, page: int = 0, size: int = 10) -> tuple[list[Written], int]:
    """One page of what a step wrote, prompt by prompt, and how many completions there are."""
    where = "run_id = ? and error is null and regexp_extract(model, '@([0-9]+)$', 1) = ?"
    params = [run, str(step)]
    total = store.sql(f"select count(*) as n from completions where {where}", params).column("n")[0].as_py()
    ids = store.sql(
        f"select id, prompt_id from completions where {where} order by prompt_id, id limit ? offset ?",
        [*params, size, page * size],
    ).to_pylist()
    prompts, answers = about(store, [row["prompt_id"] for row in ids], [row["id"] for row in ids])
    found = []
    for row in ids:
        if row["prompt_id"] in prompts and row["id"] in answers:
            answer = answers[row["id"]]
            found.append(
                Written(
                    prompt=prompts[row["prompt_id"]], completion=answer, reward=_number(answer.metadata, "reward"),
                    gold=_number(answer.metadata, "gold"),
                )
            )  # fmt: skip
    return found, int(total)


def overoptimization(store: Store, run: str, *, draws: int = DRAWS, seed: int = 0) -> Over:
    """Proxy, gold and judged win rate of every step over sqrt(KL), and where the fitted gold is highest."""
    steps = tuple(steps_of(store, run))
    won = tuple(_won(store, run, steps))
    usable = [s for s in steps if s.kl is not None and s.gold is not None]
    far = [s for s in usable if _d(s) >= NEAREST]
    why = ""
    if not steps:
        why = "no evaluation step stored completions; only online trainers (ppo) do, when evaluation is on"
    elif not usable:
        why = "gold is not known for these prompts: in the sandbox it is, elsewhere judge the steps against a baseline"
    elif len(far) < 3:
        why = f"{len(far)} evaluation steps lie beyond sqrt(KL) = {NEAREST:g}; the form needs at least 3"
    if why:
        return Over(steps=steps, stop=None, why_not=why, won=won)
    table, prompts = _gold_table(store, run, [s.step for s in usable])
    if len(prompts) < 2:
        return Over(steps=steps, stop=None, why_not="one prompt has no spread: no interval, no fit", won=won)
    return Over(steps=steps, stop=_fitted(usable, table, draws, seed), why_not="", won=won)


def bends(store: Store) -> list[Bend]:
    """The best-of-n curves that ``evaluate overoptimization`` stored, newest first."""
    found = []
    for run in reversed(store.runs("evaluate")):
        if run.config.get("benchmark") != "overoptimization":
            continue
        groups: dict[tuple[str, str, str], list[Estimate]] = defaultdict(list)
        for e in store.read(Estimate, run=run.id):
            if "proxy" in e.settings:
                groups[e.settings["model"], e.settings["proxy"], e.settings["judge"]].append(e)
        for (model, proxy, judge), group in groups.items():
            b = next((e for e in group if e.name == "bend"), None)
            if b is None:
                continue
            gold = [e for e in group if e.name.startswith("gold of the best of ")]
            points = sorted(((int(e.settings["n"]), e) for e in gold), key=lambda point: point[0])
            found.append(
                Bend(
                    run=run.id, model=model, proxy=proxy, judge=judge, b=b, a=float(b.settings["a"]),
                    best_n=b.settings["best_n"],
                    points=tuple((n, math.sqrt(float(best_of_n_kl(n))), e) for n, e in points),
                )
            )  # fmt: skip
    return found


def curve(fit: OverOptimization, start: float, end: float, *, points: int = 60) -> tuple[Floats, Floats]:
    """The fitted gold gain over d, for a line: shapes (points,)."""
    d = np.linspace(max(start, 1e-3), end, points)
    bend = d if fit.form == "best_of_n" else np.log(d)
    return d, d * (fit.a - fit.b * bend)


# Inside ---------------------------------------------------------------------------------------------------------------


def _row(store: Store, run: Run) -> Row:
    rows = store.metrics(run.id)
    final: dict[str, float] = {}
    for split in ("train", "eval"):
        for row in rows:
            if row.get("split", "train") == split:
                final |= {n: float(v) for n, v in row.items() if n not in ALWAYS and _is_number(v)}
    return Row(
        run=run.id, status=run.status, message=run.message, trainer=str(run.config.get("trainer", "")),
        base=str(run.config.get("model", "")), data=tuple(v for k, v in run.inputs.items() if k != "model"),
        steps=max((int(row.get("step", 0)) for row in rows), default=0),
        tokens=max((int(row.get("tokens", 0)) for row in rows), default=0),
        seconds=max((float(row.get("seconds", 0)) for row in rows), default=0.0), final=final,
        worries=tuple(worries(rows)),
    )  # fmt: skip


def _blocks(values: Floats, block: int) -> Floats:
    starts = np.arange(0, len(values), block)
    means: Floats = np.add.reduceat(values, starts) / np.diff([*starts, len(values)])
    return means


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(metadata: Mapping[str, Any], name: str) -> float | None:
    value = metadata.get(name)
    return float(value) if _is_number(value) and math.isfinite(value) else None  # type: ignore[arg-type]


def _column(rows: Sequence[Mapping[str, Any]], split: str) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.get("split", "train") == split:
            for name, value in row.items():
                if _is_number(value) and math.isfinite(value):
                    columns[name].append(float(value))
    return columns


def _step(row: Mapping[str, Any], measured: Mapping[str, float]) -> Step:
    import msgspec

    metadata = [msgspec.json.decode(text) for text in row["metadata"]]
    prompts = row["prompts"]
    kl = [value for entry in metadata if (value := _number(entry, "kl")) is not None]
    step = int(row["step"])
    return Step(
        step=step,
        model=row["model"],
        completions=len(prompts),
        prompts=len(set(prompts)),
        kl=max(0.0, float(np.mean(kl))) if kl else _known(measured, "kl"),
        reward=_mean("proxy reward", metadata, "reward", prompts, row["model"]),
        gold=_mean("gold reward", metadata, "gold", prompts, row["model"]),
    )


def _known(measured: Mapping[str, float], name: str) -> float | None:
    return max(0.0, measured[name]) if name in measured and math.isfinite(measured[name]) else None


def _mean(
    name: str, metadata: Sequence[Mapping[str, Any]], key: str, prompts: Sequence[str], model: str
) -> Estimate | None:
    rows = [(v, p) for entry, p in zip(metadata, prompts, strict=True) if (v := _number(entry, key)) is not None]
    if len({p for _, p in rows}) < 2:
        return None
    interval = mean_interval([v for v, _ in rows], np.array([p for _, p in rows]))
    return estimate_of(name, interval, {"model": model}, failed=len(prompts) - len(rows))


def _d(step: Step) -> float:
    return math.sqrt(step.kl or 0.0)


def _gold_table(store: Store, run: str, steps: Sequence[int]) -> tuple[Floats, list[str]]:
    """Mean gold of each prompt at each step, for the prompts that have one at all of them; shape (prompts, steps)."""
    import msgspec

    query = """
        select try_cast(regexp_extract(model, '@([0-9]+)$', 1) as bigint) as step, prompt_id, metadata from completions
        where run_id = ? and error is null and regexp_matches(model, '@[0-9]+$')"""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in store.sql(query, [run]).to_pylist():
        gold = _number(msgspec.json.decode(row["metadata"]), "gold")
        if gold is not None:
            values[row["prompt_id"]][int(row["step"])].append(gold)
    prompts = sorted(p for p, by_step in values.items() if all(step in by_step for step in steps))
    table = [[float(np.mean(values[p][step])) for step in steps] for p in prompts]
    return np.array(table, dtype=np.float64).reshape(len(prompts), len(steps)), prompts


def _fitted(usable: Sequence[Step], table: Floats, draws: int, seed: int) -> Stop:
    """The form of reinforcement learning, fitted to the gold gained since the first evaluated step."""
    d = np.array([_d(step) for step in usable])
    far = d >= NEAREST

    def fit(weights: Floats) -> OverOptimization:
        means = weights @ table / weights.sum()
        return fit_overoptimization(d[far], (means - means[0])[far], form="rl")

    whole = fit(np.ones(len(table)))
    drawn = [fit(row) for block in cluster_draws(len(table), draws, seed) for row in block]
    b_low, b_high = expanded_percentiles(np.array([one.b for one in drawn]), len(table), 0.95)
    peaks = np.minimum([one.peak_d for one in drawn], 1e6)
    d_low, d_high = expanded_percentiles(peaks, len(table), 0.95)
    bends = bool(b_low > 0 and whole.peak_d < d.max())
    best = int(np.argmin(np.abs(d - whole.peak_d))) if bends else int(np.argmax(table.mean(axis=0)))
    gained = paired(table[:, -1], table[:, 0])
    return Stop(
        fit=whole, b_low=min(b_low, whole.b), b_high=max(b_high, whole.b), d_low=min(d_low, whole.peak_d),
        d_high=max(d_high, whole.peak_d) if d_high < 1e6 else math.inf, step=usable[best].step,
        bends=bends, draws=draws, gained=estimate_of("gold gained", gained, {}),
    )  # fmt: skip


def _won(store: Store, run: str, steps: Sequence[Step]) -> list[tuple[int, Estimate]]:
    """The judged win rates of the steps against whoever most of them met."""
    names = {step.model: step.step for step in steps}
    if not names:
        return []
    try:
        found = standings(store)
    except UserError:
        return []
    opponents: dict[tuple[str, str], int] = defaultdict(int)
    for standing in found:
        for mine, theirs in ((standing.model, standing.opponent), (standing.opponent, standing.model)):
            if mine in names:
                opponents[standing.judge, theirs] += 1
    if not opponents:
        return []
    judge, opponent = max(opponents, key=lambda key: (opponents[key], key))
    rivals = facing([s for s in found if s.judge == judge], opponent)
    return sorted((names[s.model], s.estimate()) for s in rivals if s.model in names and len(s.share))
