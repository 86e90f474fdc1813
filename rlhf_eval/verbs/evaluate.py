"""``evaluate``: run a benchmark in one resumable run; estimates come out.

Some benchmarks compare models with a baseline, some grade models by themselves, some measure a judge against labels:

    rlhf-eval evaluate winrate --model tonight=hf:checkpoints/dpo --baseline sandbox:policy --judge-model sandbox:judge
    rlhf-eval evaluate gsm8k --prompts test.jsonl --model hf:checkpoints/dpo
    rlhf-eval evaluate reward_bench --prompts data.parquet --judge reward_model --judge-model hf:checkpoints/rm
    rlhf-eval evaluate alpaca_eval --judgments latest

A model is a spec, or ``NAME=run:REF`` for answers that a run already holds (its completions, or the SFT set that ``pairs``
selected). ``--judgments RUN`` scores judgments that a run holds, a loaded results folder for instance, without any call.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from rlhf_eval.benchmarks.evidence import GOLD, Evidence, Shape, estimate
from rlhf_eval.config import as_settings
from rlhf_eval.errors import UserError
from rlhf_eval.interop.loaded import Loaded
from rlhf_eval.records import Completion, Estimate, Judgment, Outcome, Prompt, Run, Usage, fingerprint
from rlhf_eval.stages.drive import Tally
from rlhf_eval.stages.flow import Generation
from rlhf_eval.stats.intervals import Interval, mean_interval, paired
from rlhf_eval.verbs.arms import PROMPTS, Arm, answer_tokens, answers_of, is_stored, open_arms
from rlhf_eval.verbs.decide import Decision
from rlhf_eval.verbs.flow import Bench, FlowResult, Ledger, account, follow, open_judge, prompt_source
from rlhf_eval.verbs.human import corrected
from rlhf_eval.verbs.labelled import Labelled, labelled
from rlhf_eval.verbs.lm_eval import ask, load_task
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.manifest import manifest, unequal_budgets
from rlhf_eval.verbs.plans import check_of, judging_of
from rlhf_eval.verbs.session import Session, split_settings

HARNESS = "lm_eval"
"""The benchmark whose tasks lm-evaluation-harness lays out."""

DEFAULT_JUDGE: Mapping[Shape, Mapping[str, Any]] = {"versus": {}, "answers": {"judge": "grade"}, "labels": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to evaluate."""

    benchmark: str = "winrate"
    """The plugin that scores."""
    prompts: str = "latest"
    """A run that holds prompts, or a file or folder of the benchmark's data."""
    model: tuple[str, ...] | str = ()
    """The models in question: specs, or NAME=run:REF."""
    baseline: str = ""
    """The model that they are compared with, where the benchmark compares."""
    generate: dict[str, Any] = field(default_factory=dict)
    """Settings of the generator, for the models that answer now."""
    judge: dict[str, Any] = field(default_factory=dict)
    """Settings of the judge: judge, judge_model, orders, and the judge's own."""
    check: str = ""
    """A judge by program (gold) to hold beside the judge's opinion."""
    judgments: str = ""
    """A run whose judgments are scored as they are, without any call."""
    labels: str = "gold"
    """The judge whose labels are right, where a judge is evaluated: gold, human/NAME."""
    human: str = ""
    """A file of people's labels, or a folder of such files, that corrects the win rate."""
    stop_when: Literal["never", "decided"] = "never"
    """decided: stop as soon as a win rate against one baseline is decided, at one of ten looks, with the error held."""


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """The run, its account, and the numbers."""

    run: Run
    flow: FlowResult
    estimates: list[Estimate]
    scoring: Scoring | None = None
    """How the run became numbers; None where stored judgments were scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An evaluation that is understood: the benchmark, its settings, and what it works on."""

    settings: Settings
    plugin: ModuleType
    config: Any
    shape: Shape
    harness: str = ""
    """The task of lm-evaluation-harness, where it is one."""

    def resolved(self, arms: Sequence[Arm], bench: Bench) -> dict[str, Any]:
        """Everything that the numbers depend on, for the run's record."""
        settings = self.settings
        chosen: dict[str, Any] = {
            "benchmark": settings.benchmark,
            "models": {arm.name: arm.identity for arm in arms},
            "baseline": arms[-1].name if self.shape == "versus" else "",
            "generate": {k: v for k, v in settings.generate.items() if k != "model"},
            "judge": bench.settings,
            "check": settings.check,
            **as_settings(self.config),
        }
        if settings.human:
            chosen["human"] = fingerprint(_content(settings.human))
        if settings.stop_when != "never":
            chosen["stop_when"] = settings.stop_when
        if self.shape == "labels":
            chosen["labels"] = settings.labels
        return chosen

    def score(self, evidence: Evidence) -> list[Estimate]:
        """The benchmark's estimates, people's correction, and what the answers cost in tokens."""
        found: list[Estimate] = list(self.plugin.score(evidence, self.config))
        if self.settings.human:
            found += corrected(evidence, Path(self.settings.human))
        return found if self.shape == "labels" else found + _token_account(evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How the answers and judgments of one run, or of several that differ in the seed, become numbers."""

    task: Task
    prompts: Sequence[Prompt]
    arms: Sequence[Arm]
    items: Labelled | None

    @property
    def headline(self) -> str:
        """The name of the estimate that stands for the benchmark; empty if it is the first."""
        return str(getattr(self.task.plugin, "HEADLINE", ""))

    def evidence(self, session: Session, runs: Sequence[Run]) -> Evidence:
        """What the runs hold together; raises UserError where models were to be compared and never were."""
        ids = [run.id for run in runs]
        told, check = session.store.read(Judgment, run=ids), self.task.settings.check
        if self.items:
            return Evidence.of(self.prompts, self.items.completions.values(), [*told, *self.items.labels])
        versus = self.task.shape == "versus"
        kept = [j for j in told if not versus or not check or not j.judge.startswith(check)]
        if versus and not any(len(j.completion_ids) == 2 for j in kept):
            raise UserError("no comparison was judged: every prompt failed or was skipped; the run's outcomes say why")
        baseline = self.arms[-1].name if versus else ""
        completions = session.store.read(Completion, run=ids)
        return Evidence.of(self.prompts, completions, kept, baseline=baseline, gold="", dealt=True)

    def estimates(self, session: Session, runs: Sequence[Run]) -> list[Estimate]:
        """The benchmark's numbers over the runs, and each side's score by the checking judge."""
        found = self.task.score(self.evidence(session, runs))
        check = self.task.settings.check
        if check and self.task.shape == "versus":
            baseline = self.arms[-1].name
            for arm in self.arms[:-1]:
                found += _checked(session, [run.id for run in runs], arm.name, baseline, check)
        return found


def understand(table: Mapping[str, Any]) -> Task:
    """The evaluation that a table asks for; raises UserError where its parts do not fit each other."""
    name, _, harness = str(table.get("benchmark", "")).partition(":")
    named = {**table, "benchmark": name} if harness else table
    settings, plugin, config = split_settings(named, "evaluate", Settings, "benchmark", "benchmark")
    shape: Shape = getattr(plugin, "SHAPE", "versus")
    task = Task(settings=settings, plugin=plugin, config=config, shape=shape, harness=harness)
    if bool(harness) != (name == HARNESS) and not settings.judgments:
        raise UserError(f"a task of the harness is written {HARNESS}:TASK, {HARNESS}:gsm8k for instance")
    if not settings.judgments:
        _check_sides(task)
    return task


async def evaluate(session: Session, table: Mapping[str, Any]) -> EvaluateResult:
    """Run a benchmark over models or a judge; the same command again prints the finished result."""
    task = understand(table)
    settings, plugin, shape = task.settings, task.plugin, task.shape
    if settings.judgments:
        return _stored(session, task)
    if task.harness:
        return await _harness(session, task)
    arms = open_arms(session, _specs(settings), settings.generate)
    defaults = getattr(plugin, "JUDGE", DEFAULT_JUDGE[shape])
    own = settings.judge.get("judge", defaults.get("judge")) == defaults.get("judge")
    _, bench = open_judge(session, {**(defaults if own else {}), **settings.judge})
    _check_judge(task, bench)
    if getattr(task.config, "proxy", None) == "":
        task = replace(task, config=replace(task.config, proxy=bench.instrument.name))
    source = _source(session, task)
    items = labelled(session, source, settings.labels) if shape == "labels" else None
    prompts = items.prompts if items else session.prompts(source)
    inputs = {PROMPTS: source.id, **{arm.name: arm.stored for arm in arms if arm.stored}}
    scoring = Scoring(task=task, prompts=prompts, arms=arms, items=items)
    made_with = manifest(session, prompts, arms, bench)
    if unequal_budgets(made_with):
        session.say(f"warning: {unequal_budgets(made_with)}")
    with session.begin("evaluate", {**task.resolved(arms, bench), "manifest": made_with}, inputs) as writer:
        run = Ledger(writer)
        generations, answers = _answers(session, arms, prompts, run, items)
        baseline = arms[-1].name if shape == "versus" else ""
        judgings = [judging_of(shape, bench, baseline, run, prompts, session.options.seed, items)]
        if settings.check:
            judgings.append(check_of(session, settings.check, run))
        decision = _decision(session, task, arms, prompts, run, bench)

        def conclude() -> None:
            for made in scoring.estimates(session, [run.run]):
                run.append("estimates", made)
            for made in decision.estimates() if decision else ():
                run.append("estimates", made)

        flow = await follow(
            session, "evaluate", prompts, [run], generations=generations, judgings=judgings, answers=answers,
            conclude=conclude, batches=decision.batches if decision else None,
        )  # fmt: skip
        return EvaluateResult(flow.run, flow, session.read(Estimate, run.run), scoring)


async def _harness(session: Session, task: Task) -> EvaluateResult:
    """Run a task of lm-evaluation-harness; interrupted, the same command goes on from the cache of replies."""
    if session.options.dry_run:
        raise UserError("a task of the harness has no dry run: it alone knows its requests; try --limit 5")
    if any(is_stored(session, spec) for spec in _specs(task.settings)):
        raise UserError("a task of the harness asks models itself; give it a spec and no stored answers")
    known = load_task(task.harness, fewshot=task.config.fewshot, include=task.config.include)
    doors = [session.door(spec) for spec in _specs(task.settings)]
    config = {
        "benchmark": f"{HARNESS}:{task.harness}", "models": {door.name: door.id for door in doors},
        "harness": known.version, **as_settings(task.config),
    }  # fmt: skip
    with session.begin("evaluate", config, {"task": known.content}) as writer:
        run = Ledger(writer)
        total = Tally(total=0)
        if run.run.status != "done":
            loaded = await ask(session, known, doors)
            for table, records in (("prompts", loaded.prompts), ("completions", loaded.completions),
                                   ("judgments", loaded.judgments)):  # fmt: skip
                there = run.ids(table)
                for record in records:
                    if record.id not in there:
                        run.append(table, record)
            total = Tally(total=len(loaded.prompts))
            for outcome in _outcomes(loaded):
                run.append("outcomes", outcome)
                total.add(outcome)
            evidence = Evidence.of(loaded.prompts, loaded.completions, loaded.judgments)
            for warning in loaded.warnings:
                session.say(f"warning: {warning}")
            for made in task.score(evidence):
                run.append("estimates", made)
            writer.finish("done", total.counts(), run.usage)
            return EvaluateResult(run.run, FlowResult(run.run, total, 0), session.read(Estimate, run.run))
        total = account(session, run.run, run.run.counts.get("total", 0))
        return EvaluateResult(run.run, FlowResult(run.run, total, total.total), session.read(Estimate, run.run))


def _outcomes(loaded: Loaded) -> Iterator[Outcome]:
    """How each document ended: failed where one of its requests did."""
    wrong = {c.prompt_id: c.error for c in loaded.completions if c.error}
    for prompt in loaded.prompts:
        reason = wrong.get(prompt.id)
        yield Outcome.of(prompt.id, "evaluate", "failed" if reason else "done", reason=reason or "")


def _specs(settings: Settings) -> list[str]:
    models = (settings.model,) if isinstance(settings.model, str) else settings.model
    return [spec for spec in (*models, settings.baseline) if spec]


def _check_sides(task: Task) -> None:
    name, settings = task.settings.benchmark, task.settings
    if task.shape == "versus" and (not settings.model or not settings.baseline):
        raise UserError(f"evaluate {name} needs two sides: --model SPEC and --baseline SPEC")
    if task.shape == "answers" and not settings.model:
        raise UserError(f"evaluate {name} needs a model: --model SPEC")
    if task.shape != "versus" and settings.baseline:
        raise UserError(f"evaluate {name} compares with no baseline; leave --baseline out")
    if task.shape == "labels" and settings.model:
        raise UserError(f"evaluate {name} measures a judge (--judge, --judge-model), not a model; leave --model out")
    if settings.stop_when == "decided" and (task.shape != "versus" or len(_specs(settings)) != 2):
        raise UserError("--stop-when decided needs one --model and one --baseline: it is one decision that is made")
    if settings.labels != GOLD and task.shape != "labels":
        raise UserError(f"--labels belongs to benchmarks that measure a judge; evaluate {name} reads no labels")
    if settings.human and task.shape != "versus":
        raise UserError("--human corrects a win rate; this benchmark has none")


def _check_judge(task: Task, bench: Bench) -> None:
    arity, name = bench.instrument.arity, bench.instrument.name
    if task.shape == "versus" and arity != 2:
        raise UserError(f"a win rate needs a judge that compares two answers; '{name}' does not")
    if task.shape == "answers" and arity != 1:
        raise UserError(f"{task.settings.benchmark} needs a judge that grades one answer; '{name}' does not")


def _source(session: Session, task: Task) -> Run:
    """The run of the prompts; a path is loaded by the benchmark's own format first, or by the one that it looks like."""
    path = Path(task.settings.prompts)
    if not path.exists():
        return prompt_source(session, task.settings.prompts)
    return load(session, {"source": _format(path, task.plugin), "path": task.settings.prompts}).run


def _format(path: Path, plugin: ModuleType) -> str:
    from rlhf_eval import registry
    from rlhf_eval.interop.recognise import recognise

    own: str = getattr(plugin, "FORMAT", "")
    if own and registry.load("format", own).detect(path):
        return own
    return recognise(path)


def _answers(
    session: Session, arms: Sequence[Arm], prompts: Sequence[Prompt], run: Ledger, items: Labelled | None
) -> tuple[list[Generation], dict[str, list[Completion]]]:
    return ([], items.answers()) if items else answers_of(session, arms, prompts, run)


def _decision(
    session: Session, task: Task, arms: Sequence[Arm], prompts: Sequence[Prompt], run: Ledger, bench: Bench
) -> Decision | None:
    if task.settings.stop_when == "never" or session.options.dry_run:
        return None

    def evidence() -> Evidence:
        told = [j for j in session.read(Judgment, run.run) if j.judge == bench.instrument.name]
        return Evidence.of(prompts, session.read(Completion, run.run), told, baseline=arms[-1].name, dealt=True)

    return Decision(seed=session.options.seed, total=len(prompts), evidence=evidence)


def _checked(session: Session, runs: list[str], model: str, baseline: str, check: str) -> list[Estimate]:
    """Mean score of each side by the checking judge, and their paired difference over the prompts that both answered."""
    model_of = {c.id: c.model for c in session.store.read(Completion, run=runs)}
    scores: dict[str, dict[str, list[float]]] = {model: {}, baseline: {}}
    for judgment in session.store.read(Judgment, run=runs):
        side = model_of[judgment.completion_ids[0]]
        if judgment.judge.startswith(check) and judgment.scores and side in scores:
            scores[side].setdefault(judgment.prompt_id, []).append(judgment.scores[0])
    shared = sorted(scores[model].keys() & scores[baseline].keys())
    if not shared:
        return []
    mine, theirs = ([float(np.mean(scores[side][p])) for p in shared] for side in (model, baseline))
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


def _stored(session: Session, task: Task) -> EvaluateResult:
    """Score the judgments that a run holds."""
    settings = task.settings
    for name in ("model", "baseline", "check"):
        if getattr(settings, name):
            raise UserError(f"--judgments scores what is there; leave --{name} out")
    source = session.find(settings.judgments, verbs=("evaluate", "judge", "audit", "load"), loaded="judgments")
    lineage = session.lineage(source)
    told = session.store.read(Judgment, run=lineage)
    if not told:
        raise UserError(f"run {source.id} holds no judgments, and neither do the runs that it was made from")
    prompts = session.prompts(source)
    wanted = {prompt.id for prompt in prompts}
    told = [judgment for judgment in told if judgment.prompt_id in wanted]
    completions = session.store.read(Completion, run=[*lineage])
    gold = settings.labels if task.shape == "labels" else GOLD
    dealt = not any(
        run.verb == "load" and run.counts.get("judgments") for run in session.store.runs() if run.id in lineage
    )
    evidence = Evidence.of(prompts, completions, told, gold=gold, dealt=dealt)
    resolved = {
        "benchmark": settings.benchmark, "labels": settings.labels, **as_settings(task.config),
        "human": fingerprint(_content(settings.human)) if settings.human else "",
    }  # fmt: skip
    tally = Tally(total=len(prompts))
    judged = {judgment.prompt_id for judgment in told}
    for prompt in prompts:
        tally.add(Outcome.of(prompt.id, "evaluate", "done" if prompt.id in judged else "skipped"))
    with session.begin("evaluate", resolved, session.reads("judgments", source, Judgment), free=True) as run:
        if run.run.status != "done":
            for made in task.score(evidence):
                run.append("estimates", made)
            run.finish("done", tally.counts(), Usage())
        return EvaluateResult(run.run, FlowResult(run.run, tally, 0), session.read(Estimate, run.run))


def _token_account(evidence: Evidence) -> list[Estimate]:
    """Mean tokens of each model's answers, and how many were cut at the budget: unequal budgets are a common unfairness.

    A request books the tokens of all its samples at once, and a reply from the cache books none; so tokens a character
    are taken where they were counted, and all answers by their characters. Where a model has none, characters are shown.
    """
    answers: dict[str, list[Completion]] = defaultdict(list)
    for completion in evidence.completions.values():
        if completion.error is None:
            answers[completion.model].append(completion)
    densities = {model: _density(own) for model, own in answers.items()}
    known = all(densities.values())
    return [_mean_length(model, own, densities[model] if known else None) for model, own in sorted(answers.items())]


def _density(answers: Sequence[Completion]) -> float | None:
    """Tokens a character, over the prompts of which tokens were booked; None where none were."""
    booked: Counter[str] = Counter()
    for completion in answers:
        booked[completion.prompt_id] += answer_tokens(completion)
    counted = sum(len(completion.text) for completion in answers if booked[completion.prompt_id])
    return sum(booked.values()) / counted if counted else None


def _mean_length(model: str, answers: Sequence[Completion], density: float | None) -> Estimate:
    lengths = [(density or 1.0) * len(completion.text) for completion in answers]
    about = {
        "model": model, "answers": len(answers), "cut_at_the_budget": sum(c.finish_reason == "length" for c in answers),
        "characters": sum(len(completion.text) for completion in answers) / len(answers),
    }  # fmt: skip
    prompts = np.array([completion.prompt_id for completion in answers])
    name = "answer_tokens" if density else "answer_characters"
    return estimate(f"{name}: {model}", mean_interval(lengths, prompts), settings=about)


def _content(path: str) -> str:
    """The text of a file of labels, or of all files of a folder of them."""
    try:
        files = sorted(Path(path).glob("*.jsonl")) if Path(path).is_dir() else [Path(path)]
        return "".join(file.read_text(encoding="utf-8") for file in files)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
