"""``evaluate``: models against a baseline, generated and judged in one resumable run; estimates come out.

    rlhf-eval evaluate winrate --model tonight=hf:checkpoints/dpo --baseline sandbox:policy --judge-model sandbox:judge

A model is a spec, or ``NAME=run:REF`` for answers that a run already holds (its completions, or the SFT set that ``pairs``
selected).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf_eval.benchmarks.comparisons import comparisons
from rlhf_eval.config import as_settings
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Demonstration, Estimate, Judgment, Prompt, Run
from rlhf_eval.stages.flow import Generation, Judging
from rlhf_eval.stages.judge import Call, Design, balanced_sides, calls, matches
from rlhf_eval.stats.intervals import Interval, mean_interval, paired
from rlhf_eval.verbs.flow import (
    Bench,
    FlowResult,
    Ledger,
    completions_of,
    follow,
    generation_into,
    open_judge,
    open_writer,
    prompt_source,
)
from rlhf_eval.verbs.session import Session, split_settings

_STORED = re.compile(r"^(?:(?P<name>[\w.@+-]+)=)?run:(?P<ref>.+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to evaluate."""

    benchmark: str = "winrate"
    """The plugin that scores."""
    prompts: str = "latest"
    """A run that holds prompts, or a file of them."""
    model: tuple[str, ...] | str = ()
    """The models in question: specs, or NAME=run:REF."""
    baseline: str = ""
    """The model that they are compared with."""
    generate: dict[str, Any] = field(default_factory=dict)
    """Settings of the generator, for the models that answer now."""
    judge: dict[str, Any] = field(default_factory=dict)
    """Settings of the judge: judge, judge_model, orders, and the judge's own."""
    check: str = ""
    """A judge by program (gold) to hold beside the judge's opinion."""


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """The run, its account, and the numbers."""

    run: Run
    flow: FlowResult
    estimates: list[Estimate]


@dataclass(frozen=True, slots=True)
class Arm:
    """One competitor: a model that answers now, or answers that are already there."""

    name: str
    identity: str
    generation: Mapping[str, Any] | None
    stored: str = ""


async def evaluate(session: Session, table: Mapping[str, Any]) -> EvaluateResult:
    """Run a benchmark over models; the same command again prints the finished result."""
    settings, plugin, config = split_settings(table, "evaluate", Settings, "benchmark", "benchmark")
    specs = (settings.model,) if isinstance(settings.model, str) else settings.model
    if not specs or not settings.baseline:
        raise UserError("evaluate winrate needs two sides: --model SPEC and --baseline SPEC")
    arms = [_arm(session, spec, settings.generate) for spec in (*specs, settings.baseline)]
    _refuse_namesakes(arms)
    _, bench = open_judge(session, settings.judge)
    if bench.instrument.arity != 2:
        raise UserError(f"a win rate needs a judge that compares two answers; '{bench.instrument.name}' does not")
    source = prompt_source(session, settings.prompts)
    prompts = session.prompts(source)
    resolved = {
        "benchmark": settings.benchmark,
        "models": {arm.name: arm.identity for arm in arms},
        "baseline": arms[-1].name,
        "generate": {k: v for k, v in settings.generate.items() if k != "model"},
        "judge": bench.settings,
        "check": settings.check,
        **as_settings(config),
    }
    inputs = {"prompts": source.id, **{arm.name: arm.stored for arm in arms if arm.stored}}
    with session.begin("evaluate", resolved, inputs) as writer:
        run = Ledger(writer)
        generations, answers = _answers(session, arms, prompts, run)
        judgings = [_against_baseline(bench, arms[-1].name, run, prompts, session.options.seed)]
        if settings.check:
            judgings.append(_check(session, settings.check, run))

        def conclude() -> None:
            for estimate in _estimates(session, run.run, plugin.score, config, arms[-1].name, settings.check):
                run.append("estimates", estimate)

        flow = await follow(
            session, "evaluate", prompts, [run],
            generations=generations, judgings=judgings, answers=answers, conclude=conclude,
        )  # fmt: skip
        return EvaluateResult(flow.run, flow, session.read(Estimate, run.run))


def _arm(session: Session, spec: str, generate: Mapping[str, Any]) -> Arm:
    stored = _STORED.match(spec)
    if stored is None:
        door = session.door(spec)
        return Arm(door.name, door.id, {**generate, "model": spec})
    run = session.find(stored["ref"], verbs=("pairs", "generate"))
    return Arm(stored["name"] or run.id, f"run:{run.id}", None, run.id)


def _refuse_namesakes(arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two sides are called '{name}'; give one an alias, for instance tonight={name}")


def _answers(
    session: Session, arms: Sequence[Arm], prompts: Sequence[Prompt], run: Ledger
) -> tuple[list[Generation], dict[str, list[Completion]]]:
    """The sources of new answers, and the answers that are already there under their arm's name."""
    generations: list[Generation] = []
    answers: dict[str, list[Completion]] = {}
    wanted = {prompt.id for prompt in prompts}
    known = run.ids("completions")
    for arm in arms:
        if arm.generation is not None:
            _, writer, _ = open_writer(session, arm.generation)
            generations.append(generation_into(session, writer, run, own_account=False))
            continue
        for prompt_id, completion in _stored_answers(session, session.store.find(arm.stored)):
            if prompt_id not in wanted:
                continue
            mine = Completion.of(
                prompt_id=prompt_id, model=arm.name, text=completion.text, sampling=completion.sampling,
                generator="stored", origin=completion.id, metadata={"from": completion.id},
            )  # fmt: skip
            answers.setdefault(prompt_id, []).append(mine)
            if mine.id not in known:
                run.append("completions", mine)
    return generations, answers


def _stored_answers(session: Session, run: Run) -> list[tuple[str, Completion]]:
    """One answer a prompt: what ``pairs`` selected, or the first completion that the run holds."""
    selected = session.read(Demonstration, run)
    if not selected:
        return [(prompt_id, group[0]) for prompt_id, group in completions_of(session, run).items()]
    by_id = {c.id: c for c in session.store.read(Completion, run=session.lineage(run))}
    return [(d.prompt_id, by_id[d.completion_id]) for d in selected]


def _against_baseline(bench: Bench, baseline: str, run: Ledger, prompts: Sequence[Prompt], seed: int) -> Judging:
    swapped = balanced_sides((prompt.id for prompt in prompts), seed)

    def plan(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
        rivals = [c for c in completions if c.model == baseline]
        laid: list[Call] = []
        for name in dict.fromkeys(c.model for c in completions if c.model != baseline):
            mine = [c for c in completions if c.model == name]
            laid += calls(zip(mine, rivals, strict=False), bench.design, swapped[prompt.id])
        return laid

    return Judging(instrument=bench.instrument, plan=plan, sink=run, known=run.ids("judgments"))


def _check(session: Session, name: str, run: Ledger) -> Judging:
    _, bench = open_judge(session, {"judge": name})

    def plan(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
        return calls(matches(completions, bench.instrument.arity, "all"), Design(), swapped=False)

    return Judging(instrument=bench.instrument, plan=plan, sink=run, known=run.ids("judgments"))


def _estimates(session: Session, run: Run, score: Any, config: Any, baseline: str, check: str) -> list[Estimate]:
    found: list[Estimate] = []
    groups = [g for g in comparisons(session.store, runs=[run.id]) if g.opponent == baseline]
    if not groups:
        raise UserError("no comparison was judged: every prompt failed or was skipped; the run's outcomes say why")
    for group in groups:
        found += score(group, config)
        if check:
            found += _checked(session, run, group.model, baseline, check)
    return found


def _checked(session: Session, run: Run, model: str, baseline: str, check: str) -> list[Estimate]:
    """Mean score of each side by the checking judge, and their paired difference over the prompts that both answered."""
    model_of = {c.id: c.model for c in session.read(Completion, run)}
    scores: dict[str, dict[str, float]] = {model: {}, baseline: {}}
    for judgment in session.read(Judgment, run):
        side = model_of[judgment.completion_ids[0]]
        if judgment.judge.startswith(check) and judgment.scores and side in scores:
            scores[side][judgment.prompt_id] = judgment.scores[0]
    shared = sorted(scores[model].keys() & scores[baseline].keys())
    if not shared:
        return []
    mine, theirs = ([scores[side][p] for p in shared] for side in (model, baseline))
    about = {"model": model, "baseline": baseline, "judge": check}
    return [
        _as_estimate(f"{check}: {model}", mean_interval(mine), about),
        _as_estimate(f"{check}: {baseline}", mean_interval(theirs), about),
        _as_estimate(f"{check}: difference", paired(mine, theirs), about),
    ]


def _as_estimate(name: str, interval: Interval, about: Mapping[str, Any]) -> Estimate:
    return Estimate(
        name=name, value=interval.value, low=interval.low, high=interval.high, n=interval.n,
        method=interval.method, settings={**about, "se": interval.se, "level": interval.level},
    )  # fmt: skip
