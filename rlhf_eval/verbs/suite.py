"""A suite: several benchmarks, checkpoints, judges and seeds, one table at the end.

    models: [dpo=hf:checkpoints/dpo, sft=hf:checkpoints/sft]      # those of --model are added
    seeds: [0, 1, 2]                                              # of the answers
    judges:                                                       # for benchmarks that measure a judge
      - {judge: reward_model, judge_model: hf:path/to/reward-model}
      - {judge: pairwise, judge_model: openai:JUDGE@http://localhost:8001/v1}
    benchmarks:
      - {benchmark: winrate, prompts: questions.jsonl, baseline: sandbox:policy, judge: {judge_model: sandbox:judge}}
      - {benchmark: gsm8k, prompts: test.jsonl}
      - {benchmark: reward_bench, prompts: path/to/reward-bench}

Each combination is an ordinary ``evaluate`` run, found again by its content, so the suite resumes where it was interrupted
and a benchmark that another suite has finished is not bought twice. A run that fails does not keep the others from being
done; the table then holds what there is and says that it is a part. Seeds are pooled by prompt: they tell how much the
answers vary, not how much the prompts do.

    rlhf-eval evaluate suite.yaml --model tonight=hf:checkpoints/dpo
    rlhf-eval evaluate reward_bench --prompts PATH --judge reward_model=hf:PATH --judge pairwise=openai:JUDGE@URL
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from rlhf_eval import registry
from rlhf_eval.benchmarks.labels import agreement_gaps
from rlhf_eval.config import build, read_yaml
from rlhf_eval.errors import BudgetExceeded, Interrupted, RlhfEvalError, UserError
from rlhf_eval.records import Estimate, Run, Status, Usage
from rlhf_eval.stats.intervals import PairedDifference, holm
from rlhf_eval.store.writer import outcome_of
from rlhf_eval.verbs.evaluate import EvaluateResult, Scoring, Settings, evaluate, understand
from rlhf_eval.verbs.session import Session

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What a suite file may say."""

    benchmarks: tuple[dict[str, Any], ...] = ()
    """Tables of ``evaluate``, each with its benchmark."""
    models: tuple[str, ...] = ()
    """Specs of the models, for benchmarks of models."""
    judges: tuple[dict[str, Any], ...] = ()
    """Tables of judges, for benchmarks that measure a judge; empty takes the one that each benchmark names."""
    seeds: tuple[int, ...] = ()
    """Seeds of the answers (sample_seed of the generator); empty asks once with the generator's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run to do."""

    row: int
    """Number of the benchmark's table in the suite."""
    benchmark: str
    table: dict[str, Any]
    """Of ``evaluate``."""
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a suite, done."""

    plan: Plan
    result: EvaluateResult

    @property
    def scoring(self) -> Scoring:
        """How its run became numbers."""
        assert self.result.scoring is not None  # only scoring stored judgments has none, and a suite does not
        return self.result.scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One number of the suite's table."""

    benchmark: str
    estimate: Estimate
    seeds: int
    headline: bool
    gap: PairedDifference | None = None
    """How much less often this judge is right than the best one, on the items that both answered."""
    p_holm: float | None = None
    """P-value of "no difference" from the best judge, corrected for their number."""


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """The suite's own run, which holds every estimate, and the table."""

    run: Run | None
    """None in a dry run, and where no cell was done."""
    cells: tuple[Cell, ...]
    planned: int
    """Runs that the suite stands for."""
    lines: tuple[Line, ...] = field(default=())
    trouble: RlhfEvalError | None = None
    """What the first run that was not done ended with."""


def read_suite(path: Path) -> Suite:
    """The suite in a file; raises UserError where it names no benchmark, or a setting that does not exist."""
    return build(Suite, read_yaml(path), where=f"suite {path.name}")


def with_flags(suite: Suite, *, models: Sequence[str] = (), judges: Sequence[str] = ()) -> Suite:
    """The suite with more models and judges; a judge is PLUGIN, or PLUGIN=SPEC with the model behind it."""
    named = [_judge_of(text) for text in judges]
    return replace(suite, models=(*suite.models, *models), judges=(*suite.judges, *named))


def each_judge(table: Mapping[str, Any], judges: Sequence[str]) -> Suite:
    """One benchmark with each of several judges: those that are measured side by side, or those that judge models."""
    one = Suite(benchmarks=(dict(table),))
    if _measures_judges(table):
        return with_flags(one, judges=judges)
    own = table.get("judge", {})
    return replace(one, benchmarks=tuple({**table, "judge": {**own, **_judge_of(text)}} for text in judges))


async def run_suite(session: Session, suite: Suite) -> SuiteResult:
    """Run every combination, then put their numbers side by side; raises UserError before anything runs if one cannot."""
    plans = [plan for row, table in enumerate(suite.benchmarks) for plan in _plans(row, table, suite)]
    if not plans:
        raise UserError("the suite has nothing to run; give it benchmarks: [{benchmark: winrate, ...}, ...]")
    for plan in plans:
        if understand(plan.table).settings.judgments:
            raise UserError("a suite asks; score the judgments of a run by 'rlhf-eval evaluate NAME --judgments RUN'")
    cells: list[Cell] = []
    trouble: RlhfEvalError | None = None
    for plan in plans:
        session.say(plan.benchmark + (f", seed {plan.seed}" if plan.seed is not None else ""))
        try:
            cells.append(Cell(plan, await evaluate(session, plan.table)))
        except (Interrupted, BudgetExceeded) as error:
            trouble = trouble or error
            break
        except RlhfEvalError as error:
            session.say(f"{plan.benchmark}: {error}")
            trouble = trouble or error
    if session.options.dry_run or not cells:
        return SuiteResult(None, tuple(cells), len(plans), trouble=trouble)
    rows = groupby(cells, key=lambda cell: cell.plan.row)
    lines = tuple(line for _, group in rows for line in _lines(session, list(group)))
    run = _recorded(session, cells, lines, len(plans), trouble)
    return SuiteResult(run, tuple(cells), len(plans), lines, trouble)


def _plans(row: int, table: Mapping[str, Any], suite: Suite) -> list[Plan]:
    """The runs that one benchmark of the suite stands for."""
    name = str(table.get("benchmark", Settings().benchmark))
    own = {**table, "benchmark": name}
    for key in ("judge", "generate"):
        if not isinstance(own.get(key, {}), Mapping):
            raise UserError(f"{name}: '{key}' must be a table of settings, not {own[key]!r}")
    if _measures_judges(own):
        tables = [{**own, "judge": {**own.get("judge", {}), **judge}} for judge in suite.judges or ({},)]
        return [Plan(row=row, benchmark=name, table=made) for made in tables]
    given = own.get("model", ())
    own["model"] = (*(given if isinstance(given, list | tuple) else (given,)), *suite.models)
    if not suite.seeds:
        return [Plan(row=row, benchmark=name, table=own)]
    return [
        Plan(
            row=row,
            benchmark=name,
            seed=seed,
            table={**own, "generate": {**own.get("generate", {}), "sample_seed": seed}},
        )
        for seed in suite.seeds
    ]


def _measures_judges(table: Mapping[str, Any]) -> bool:
    plugin = registry.load("benchmark", str(table.get("benchmark", Settings().benchmark)))
    return getattr(plugin, "SHAPE", "versus") == "labels"


def _judge_of(text: str) -> dict[str, Any]:
    plugin, _, spec = text.partition("=")
    return {"judge": plugin, **({"judge_model": spec} if spec else {})}


def _lines(session: Session, cells: Sequence[Cell]) -> list[Line]:
    """The numbers of one benchmark: pooled over seeds, or of every judge with what separates it from the best."""
    if cells[0].scoring.task.shape == "labels":
        return _judges(session, cells)
    found = cells[0].result.estimates
    if len(cells) > 1:
        found = cells[0].scoring.estimates(session, [cell.result.run for cell in cells])
    return _marked(cells[0], found, seeds=len(cells))


def _judges(session: Session, cells: Sequence[Cell]) -> list[Line]:
    gaps = agreement_gaps([cell.scoring.evidence(session, [cell.result.run]) for cell in cells])
    known = [(judge, gap) for judge, gap in gaps.items() if gap is not None]
    adjusted = holm([gap.p_value for _, gap in known]).tolist() if known else []
    p_values = dict(zip([judge for judge, _ in known], adjusted, strict=True))
    lines = [line for cell in cells for line in _marked(cell, cell.result.estimates)]
    judges = [str(line.estimate.settings.get("judge")) for line in lines]
    return [
        replace(line, gap=gaps.get(judge), p_holm=p_values.get(judge))
        for line, judge in zip(lines, judges, strict=True)
    ]


def _marked(cell: Cell, found: Sequence[Estimate], seeds: int = 1) -> list[Line]:
    """The estimates as lines; the headline is what the benchmark names so, else the first of each model and judge."""
    headline, seen = cell.scoring.headline, set()
    lines = []
    for made in found:
        whose = (made.settings.get("model"), made.settings.get("judge"))
        checking = made.name.startswith(f"{whose[1]}:")  # the judge that looks beside the benchmark's own
        first = made.name == headline if headline else whose not in seen and "judge" in made.settings and not checking
        seen.add(whose)
        lines.append(Line(benchmark=cell.plan.benchmark, estimate=made, seeds=seeds, headline=first))
    return lines


def _recorded(
    session: Session, cells: Sequence[Cell], lines: Sequence[Line], planned: int, trouble: RlhfEvalError | None
) -> Run:
    """The suite's own run: it holds the table, and its inputs are the runs of the cells; a part of a suite is not done."""
    names: dict[str, int] = defaultdict(int)
    inputs = {}
    for cell in cells:
        name = cell.plan.benchmark
        names[name] += 1
        inputs[f"{name}/{names[name]}"] = cell.result.run.id
    config = {"cells": len(cells)} if trouble is None else {"cells": len(cells), "planned": planned}
    with session.begin("suite", config, inputs) as writer:
        if writer.run.status != "done":
            for line in lines:
                about = {"benchmark": line.benchmark, "seeds": line.seeds, "p_holm": line.p_holm}
                writer.append("estimates", replace(line.estimate, settings={**line.estimate.settings, **about}))
            usage = sum((cell.result.run.usage for cell in cells), Usage())
            ended: tuple[Status, str] = ("done", "") if trouble is None else outcome_of(trouble)
            writer.finish(ended[0], {"estimates": len(lines), "runs": len(cells)}, usage, ended[1])
        return writer.run
