"""The verbs ``generate`` and ``judge``, and both as one flow: a prompt is judged as soon as its completions exist.

rlhf-eval generate --model sandbox:policy -n 8
rlhf-eval judge --judge pairwise --model sandbox:judge
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from rlhf_eval.config import as_settings
from rlhf_eval.errors import TooManyFailures, UserError
from rlhf_eval.models.base import Model
from rlhf_eval.records import NOTHING, Completion, Judgment, Outcome, Prompt, Record, Run, Usage, fingerprint
from rlhf_eval.stages.drive import AT_ONCE, Tally, drive
from rlhf_eval.stages.flow import Generation, Judging, walk
from rlhf_eval.stages.generate import Writer
from rlhf_eval.stages.judge import Call, Design, Instrument, balanced_sides, calls, matches
from rlhf_eval.stages.progress import Progress
from rlhf_eval.store.writer import RunWriter
from rlhf_eval.templates import read_file
from rlhf_eval.verbs.forecast import LEAST, added, foresee
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.session import PartDone, ScratchRun, Session, split_settings

Batches = Callable[[Sequence[Prompt], Sequence[Prompt]], Iterator[tuple[Sequence[Prompt], str]]]
"""``(all prompts, those that wait) -> batches``, each with the reason why it is skipped; an empty one does it."""


USER_FILES = frozenset({"template", "rubric", "file", "exemplars"})
"""Settings of judges that name a file of the user's: its contents, not its name, belong to the judge's identity."""
WRITER_FILES = frozenset({"constraints", "principles", "personas", "seeds"})
"""The same of generators, whose runs they tell apart."""


_ENDS: tuple[Literal["done", "failed", "skipped"], ...] = ("done", "failed", "skipped")
_PLAIN = {status: Outcome.of("", "", status) for status in _ENDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateSettings:
    """What to generate from."""

    prompts: str = "latest"
    """A run that holds prompts, or a file of them."""
    generator: str = "sample"
    """The plugin that asks."""
    model: tuple[str, ...] | str = ()
    """One or more models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """What to judge, and how."""

    completions: str = "latest"
    """A run that holds completions."""
    judge: str = "pairwise"
    """The plugin that asks."""
    judge_model: str = ""
    """The model behind the judge; judges by program need none."""
    matches: str = "all"
    """Which completions meet: all, first, ring:K."""
    orders: Literal["both", "one"] = "both"
    """Both orders of each comparison, or one with balanced sides."""
    repeats: int = 1
    """How often each question is put."""


@dataclass(frozen=True, slots=True)
class FlowResult:
    """A run with its account; ``resumed`` counts the prompts that an earlier process had finished."""

    run: Run
    tally: Tally
    resumed: int


@dataclass(slots=True)
class Ledger:
    """A run being written, with what its own records cost: two runs of one flow share doors, not bills."""

    writer: RunWriter | ScratchRun
    usage: Usage = field(default_factory=Usage)

    @property
    def run(self) -> Run:
        """The run as it stands."""
        return self.writer.run

    def ids(self, table: str) -> set[str]:
        """Ids that are already stored."""
        return self.writer.ids(table)

    def append(self, table: str, record: Record) -> None:
        """Store a record and book what it cost."""
        self.writer.append(table, record)
        if isinstance(record, Completion | Judgment) and record.usage is not NOTHING:
            self.usage = self.usage + record.usage


@dataclass(frozen=True, slots=True)
class Bench:
    """A judge with the design of its questions and their resolved settings."""

    instrument: Instrument
    design: Design
    settings: dict[str, Any]


def open_writer(session: Session, table: Mapping[str, Any]) -> tuple[GenerateSettings, Writer, dict[str, Any]]:
    """The generator that a table names, with its doors, and its resolved settings."""
    settings, plugin, config = split_settings(table, "generate", GenerateSettings, "generator", "generator")
    specs = (settings.model,) if isinstance(settings.model, str) else settings.model
    if not specs:
        raise UserError(
            "generate needs a model: --model sandbox:policy, or --model openai:NAME@http://localhost:8000/v1"
        )
    doors = [session.door(spec) for spec in specs]
    own = as_settings(config)
    held = {k: fingerprint(read_file(v)) for k, v in own.items() if k in WRITER_FILES and v and Path(v).is_file()}
    resolved = {
        "generator": settings.generator,
        "model": [door.id for door in doors],
        "names": [door.name for door in doors],
        **own,
        **({"files": held} if held else {}),
    }
    return settings, Writer(generate=plugin.generate, config=config, models=doors), resolved


def open_judge(session: Session, table: Mapping[str, Any]) -> tuple[JudgeSettings, Bench]:
    """The judge that a table names, with its door and its identity."""
    settings, plugin, config = split_settings(table, "judge", JudgeSettings, "judge", "judge")
    model = _judge_models(session, settings, plugin, config)
    try:
        design = Design(matches=settings.matches, orders=settings.orders, repeats=settings.repeats)
    except ValueError as error:
        raise UserError(f"judge: {error}") from error
    name = judge_name(settings.judge, plugin, config, model)
    instrument = Instrument(judge=plugin.judge, config=config, model=model, arity=plugin.ARITY, name=name)
    resolved = {"judge": name, **as_settings(design), **as_settings(config)}
    return settings, Bench(instrument, design, resolved)


def _judge_models(
    session: Session, settings: JudgeSettings, plugin: ModuleType, config: Any
) -> Model | dict[str, Model] | None:
    """The door of a judge; or, for one made of members that name models of their own, the doors by spec."""
    own = plugin.models(config) if hasattr(plugin, "models") else ()
    if own:
        shared = {"": settings.judge_model} if settings.judge_model else {}
        return {name: session.door(spec) for name, spec in {**{spec: spec for spec in own}, **shared}.items()}
    asks = plugin.needs_model(config) if hasattr(plugin, "needs_model") else getattr(plugin, "NEEDS_MODEL", True)
    if not asks:
        return None
    if not settings.judge_model:
        raise UserError(f"the judge '{settings.judge}' needs a model: --judge-model sandbox:judge, for instance")
    return session.door(settings.judge_model)


def judge_name(name: str, plugin: ModuleType, config: Any, model: Model | Mapping[str, Model] | None) -> str:
    """Identity of a judge: what it is called and a hash of everything that its verdicts depend on.

    That is its settings, the templates beside it and those the user names, its version, and the weights of its models. A
    judge made of members depends on the templates of all judges in its package.
    """
    package, _, stem = plugin.__name__.rpartition(".")
    composed = isinstance(model, Mapping) or hasattr(plugin, "models")
    beside = files(package).iterdir() if package else ()
    templates = sorted(
        (f.name, f.read_text("utf-8"))
        for f in beside
        if f.name.endswith(".txt") and (composed or f.name.startswith(stem))
    )
    values = as_settings(config)
    named = sorted((key, read_file(path)) for key, path in _named_files(values))
    doors = list(model.values()) if isinstance(model, Mapping) else [model] if model else []
    parts = (values, templates, named, getattr(plugin, "VERSION", 1), sorted(door.id for door in doors))
    asked = f"{name}/{'+'.join(dict.fromkeys(door.name for door in doors))}" if doors else name
    return f"{asked}#{fingerprint(*parts)[:8]}"


def _named_files(value: Any) -> Iterator[tuple[str, str]]:
    """The settings that name a file, those of a judge's members too."""
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _named_files(inner)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key in USER_FILES and isinstance(inner, str) and inner:
                yield key, inner
            else:
                yield from _named_files(inner)


async def generate(session: Session, table: Mapping[str, Any]) -> FlowResult:
    """Draw completions for every prompt of a run or file."""
    settings, writer, config = open_writer(session, table)
    source = prompt_source(session, settings.prompts)
    prompts = session.prompts(source)
    with session.begin("generate", config, {"prompts": source.id}) as run:
        ledger = Ledger(run)
        generation = generation_into(session, writer, ledger)
        return await follow(session, "generate", prompts, [ledger], generations=[generation])


async def judge(session: Session, table: Mapping[str, Any]) -> FlowResult:
    """Judge the completions of a run."""
    settings, bench = open_judge(session, table)
    source = session.find(settings.completions, verbs=("generate", "load"), loaded="completions")
    prompts = session.prompts(source)
    answers = completions_of(session, source)
    if not answers:
        raise UserError(f"run {source.id} holds no completions; run 'rlhf-eval generate --prompts {source.id}' first")
    with session.begin("judge", bench.settings, session.reads("completions", source, Completion)) as run:
        ledger = Ledger(run)
        judging = judging_into(bench, ledger, prompts, session.options.seed)
        return await follow(session, "judge", prompts, [ledger], judgings=[judging], answers=answers)


async def generate_and_judge(
    session: Session, generate_table: Mapping[str, Any], judge_table: Mapping[str, Any]
) -> tuple[FlowResult, FlowResult]:
    """Both verbs at once, into the two runs that they would have made one after the other."""
    settings, writer, config = open_writer(session, generate_table)
    _, bench = open_judge(session, judge_table)
    source = prompt_source(session, settings.prompts)
    prompts = session.prompts(source)
    with ExitStack() as stack:
        first = session.begin("generate", config, {"prompts": source.id})
        stack.enter_context(first)
        run = Ledger(first)
        second = session.begin("judge", bench.settings, {"completions": run.run.id})
        stack.enter_context(second)
        judged = Ledger(second)
        generation = generation_into(session, writer, run)
        judging = judging_into(bench, judged, prompts, session.options.seed)
        result = await follow(
            session, "generate+judge", prompts, [run, judged], generations=[generation], judgings=[judging]
        )
        written = FlowResult(run.run, account(session, run.run, len(prompts)), result.resumed)
        return written, FlowResult(judged.run, result.tally, result.resumed)


async def follow(
    session: Session,
    label: str,
    prompts: Sequence[Prompt],
    ledgers: Sequence[Ledger],
    *,
    generations: Sequence[Generation] = (),
    judgings: Sequence[Judging] = (),
    answers: Mapping[str, list[Completion]] | None = None,
    conclude: Callable[[], None] = lambda: None,
    batches: Batches | None = None,
) -> FlowResult:
    """Walk every prompt down the line into the open runs; the account is that of the last run.

    ``conclude`` runs after the last prompt and before the runs are sealed. ``batches`` lays the waiting prompts out, a
    batch at a time, and may name a reason to skip one.
    """
    last = ledgers[-1]
    if last.run.status == "done" and not (session.options.retry_failed and last.run.counts.get("failed")):
        tally = account(session, last.run, len(prompts))
        return FlowResult(last.run, tally, tally.ended)
    part = session.options.part
    if part is not None:
        prompts = prompts[part[0] :: part[1]]
    earlier = _earlier(session, last.run, prompts)
    tally = Tally(total=len(prompts))
    for outcome in earlier.values():
        tally.add(outcome)
    doors = list(session.doors.values())
    if not earlier:
        await _expect(session, ledgers, prompts, generations, judgings, answers or {})
    progress = Progress(label, tally, doors, quiet=session.options.quiet, resumed=len(earlier))

    def beat() -> None:
        progress()
        for ledger in ledgers:
            ledger.writer.heartbeat({} if part else tally.counts(), ledger.usage)

    async def work(prompt: Prompt) -> Outcome:
        return await walk(prompt, generations, judgings, answers or {})

    try:
        waiting = [prompt for prompt in prompts if prompt.id not in earlier]
        for batch, skipped in batches(prompts, waiting) if batches else [(waiting, "")]:
            if skipped:
                _set_aside(batch, skipped, label, last, tally)
                continue
            await drive(
                batch,
                work,
                tally=tally,
                halt=session.budget,
                width=session.width,
                at_once=session.width if session.options.batch else AT_ONCE,  # a batch takes all that is asked together
                max_errors=session.options.max_errors,
                progress=beat,
            )
    finally:
        beat()  # what was drained after the last beat belongs to the account of a stopped run too
        progress.close()
    if part is not None:
        for ledger in ledgers:
            ledger.writer.finish("running", {}, ledger.usage)
        raise PartDone
    _check(tally)
    _seal(session, ledgers, tally, conclude)
    return FlowResult(last.run, tally, 0 if session.absent else len(earlier))


async def _expect(
    session: Session,
    ledgers: Sequence[Ledger],
    prompts: Sequence[Prompt],
    generations: Sequence[Generation],
    judgings: Sequence[Judging],
    answers: Mapping[str, list[Completion]],
) -> None:
    """Keep with every run that starts here what it is expected to use."""
    options = session.options
    elsewhere = options.part is not None or session.absent or options.batch  # workers and batches have other paces
    if len(prompts) < LEAST or options.dry_run or elsewhere:
        return
    written = [g for g in generations if g.sink in ledgers]
    judged = [j for j in judgings if j.sink in ledgers]  # what an audit asks depends on the answers that it gets
    sinks = [*(g.sink for g in written), *(j.sink for j in judged)]
    try:
        found = await foresee(session, prompts, written, judged, answers)
    except Exception as error:  # noqa: BLE001  a plugin may choke on rehearsed answers, and the work must not
        session.say(f"no forecast: {error}")
        return
    for ledger in ledgers:
        own = added([f for f, sink in zip(found, sinks, strict=True) if sink is ledger])
        if own is not None and isinstance(ledger.writer, RunWriter):
            ledger.writer.expect(own)


def _set_aside(prompts: Sequence[Prompt], reason: str, label: str, ledger: Ledger, tally: Tally) -> None:
    for prompt in prompts:
        outcome = Outcome.of(prompt.id, label, "skipped", reason=reason)
        ledger.append("outcomes", outcome)
        tally.add(outcome)


def _seal(session: Session, ledgers: Sequence[Ledger], tally: Tally, conclude: Callable[[], None]) -> None:
    if not session.options.dry_run:
        conclude()
    for ledger in ledgers:
        own = tally if ledger is ledgers[-1] else account(session, ledger.run, tally.total)
        ledger.writer.finish("done", own.counts(), ledger.usage)


def _earlier(session: Session, run: Run, prompts: Sequence[Prompt]) -> dict[str, Outcome]:
    """The prompts that need no further work; what has just failed at a worker is not tried again here."""
    wanted = {prompt.id for prompt in prompts}
    found: dict[str, Outcome] = {}
    for outcome in session.records(Outcome, run):
        counts = outcome.status != "failed" or (session.absent and outcome.prompt_id not in found)
        if counts and outcome.prompt_id in wanted:
            found[outcome.prompt_id] = _counted(outcome)
    return found


def _check(tally: Tally) -> None:
    """Every prompt has ended, and not all of them badly."""
    if tally.ended != tally.total:
        raise AssertionError(f"{tally.total} prompts went in and {tally.ended} have an outcome")
    if tally.total and tally.status["failed"] == tally.total:
        raise TooManyFailures(f"all {tally.total} prompts failed: {tally.reasons.most_common(1)[0][0]}")


def generation_into(session: Session, writer: Writer, run: Ledger, *, own_account: bool = True) -> Generation:
    """A generation that stores into ``run`` and skips what an earlier process finished there."""
    known = run.ids("completions")
    finished: dict[str, list[Completion]] = {}
    if own_account and known:
        # Outcomes first: another process may be writing, and a prompt's outcome follows its completions.
        ended = [o.prompt_id for o in session.read(Outcome, run.run) if o.status == "done"]
        stored = completions_of(session, run.run)
        finished = {prompt_id: stored.get(prompt_id, []) for prompt_id in ended}
    return Generation(writer=writer, sink=run, known=known, finished=finished, own_account=own_account)


def judging_into(bench: Bench, run: Ledger, prompts: Sequence[Prompt], seed: int) -> Judging:
    """A judging that stores into ``run``, with the sides of one-order designs balanced over the prompts."""
    instrument, design = bench.instrument, bench.design
    swapped = balanced_sides((p.id for p in prompts), seed)

    def plan(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
        return calls(matches(completions, instrument.arity, design.matches), design, swapped[prompt.id])

    return Judging(instrument=instrument, plan=plan, sink=run, known=run.ids("judgments"))


def account(session: Session, run: Run, total: int) -> Tally:
    """The account of a run that has ended, from its stored outcomes."""
    best: dict[str, Outcome] = {}
    for outcome in session.records(Outcome, run):
        if outcome.prompt_id not in best or outcome.status == "done":
            best[outcome.prompt_id] = _counted(outcome)
    tally = Tally(total=total)
    for outcome in best.values():
        tally.add(outcome)
    return tally


def _counted(outcome: Outcome) -> Outcome:
    """What a tally reads of an outcome: of a million prompts that are done, one object is enough."""
    return outcome if outcome.reason else _PLAIN[outcome.status]


def prompt_source(session: Session, ref: str) -> Run:
    """The run that holds the prompts; a path is loaded first."""
    if Path(ref).is_file():
        return load(session, {"source": "jsonl", "path": ref}).run
    return session.find(ref, verbs=("load",), loaded="prompts")


def completions_of(session: Session, run: Run) -> dict[str, list[Completion]]:
    """Prompt to its completions of one run, by model and sample."""
    groups: dict[str, list[Completion]] = {}
    for completion in session.read(Completion, run):
        if completion.error is None:
            groups.setdefault(completion.prompt_id, []).append(completion)
    for group in groups.values():
        group.sort(key=lambda c: (c.model, c.sample, c.id))
    return groups
