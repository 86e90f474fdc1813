"""``run RECIPE.yaml``: the line, written down. Each table is a step: a verb, or ``verb.name`` where a verb comes twice.

    load: {source: sandbox, limit: 60}
    generate: {model: sandbox:policy, n: 8}
    judge: {judge: pairwise, judge_model: sandbox:judge}
    pairs: {rule: best_worst}
    train.dpo: {trainer: dpo, model: sandbox:policy, data: run:pairs, beta: 0.1}
    evaluate: {model: dpo=run:train.dpo, baseline: sandbox:policy, judge: {judge_model: sandbox:judge}}

Steps run as they are written, each on the newest step of the kind that its verb reads, unless its table says otherwise:
anywhere in a table ``run:STEP`` is what that step made. ``generate`` with ``judge`` right below it is one flow: a prompt is
judged as soon as its completions exist.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rlhf_eval.config import apply_sets, build, read_yaml
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.verbs.audit import AuditResult, audit
from rlhf_eval.verbs.corrupt import CorruptResult, plant
from rlhf_eval.verbs.corrupt import Settings as CorruptSettings
from rlhf_eval.verbs.engine_ray import spread
from rlhf_eval.verbs.evaluate import EvaluateResult, evaluate, understand
from rlhf_eval.verbs.flow import FlowResult, GenerateSettings, JudgeSettings, generate, generate_and_judge, judge
from rlhf_eval.verbs.load import LoadResult, load
from rlhf_eval.verbs.load import Settings as LoadSettings
from rlhf_eval.verbs.pairs import PairsResult, pairs
from rlhf_eval.verbs.pairs_inputs import Settings as PairsSettings
from rlhf_eval.verbs.session import Session, split_settings
from rlhf_eval.verbs.train import Settings as TrainSettings
from rlhf_eval.verbs.train import TrainResult, train

SOURCES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "generate": ("prompts", ("load",)),
    "judge": ("completions", ("generate",)),
    "audit": ("completions", ("generate",)),
    "pairs": ("judgments", ("judge",)),
    "corrupt": ("data", ("pairs",)),
    "train": ("data", ("pairs", "corrupt")),
    "evaluate": ("prompts", ("load",)),
}
"""Verb to the setting that names what it reads, and the verbs that make it."""

VERBS = ("load", *SOURCES)
SPREAD = ("generate", "judge", "evaluate")
"""Verbs whose work ``--engine ray`` can share out."""

PLUGGED: Mapping[str, tuple[type, str, str]] = {
    "generate": (GenerateSettings, "generator", "generator"),
    "judge": (JudgeSettings, "judge", "judge"),
    "pairs": (PairsSettings, "rule", "selection"),
    "train": (TrainSettings, "trainer", "trainer"),
}
"""Verb to its settings, the one of them that names a plugin, and the plugin's kind."""

Tables = Mapping[str, Mapping[str, Any]]
Result = LoadResult | FlowResult | AuditResult | PairsResult | CorruptResult | TrainResult | EvaluateResult
_REFERENCE = re.compile(r"(?<![\w.-])run:([a-z]+(?:\.[\w-]+)?)(?=$|\?)")


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the recipe, by its verb and its name, and what it brought."""

    verb: str
    result: Result
    name: str
    """``verb``, or ``verb.name``."""


def find_recipe(name: str) -> Path:
    """A recipe file, or one of the recipes that ship with the package; raises UserError naming those."""
    if Path(name).is_file():
        return Path(name)
    shipped = {
        file.name.removesuffix(".yaml"): Path(str(file))
        for file in files("rlhf_eval.recipes").iterdir()
        if file.name.endswith(".yaml")
    }
    if name in shipped:
        return shipped[name]
    raise UserError(f"there is no recipe '{name}': neither a file nor one that ships.{nearest(name, shipped)}")


def read_recipe(path: Path) -> dict[str, dict[str, Any]]:
    """The steps of a recipe, as written; raises UserError on one that is no verb."""
    tables = read_yaml(path)
    if not tables:
        raise UserError(f"{path}: the recipe has no step; begin with load: {{source: jsonl, path: prompts.jsonl}}")
    check_tables(tables, str(path))
    return tables


def check_tables(tables: Mapping[str, Any], where: str) -> None:
    """Raise UserError on a step that is no verb or no table, or that reads a step that does not stand above it."""
    above: list[str] = []
    for step, table in tables.items():
        verb = verb_of(step)
        if verb not in VERBS:
            raise UserError(f"{where}: '{step}' is no verb of a recipe.{nearest(verb, VERBS)}")
        if not isinstance(table, dict):
            raise UserError(f"{where}: '{step}' must be a table of settings")
        for wanted in references(table):
            if verb_of(wanted) in VERBS and wanted not in above:
                raise UserError(f"{where}: '{step}' reads run:{wanted}, and no such step stands above it")
        above.append(step)


def verb_of(step: str) -> str:
    """The verb of a step's name."""
    return step.partition(".")[0]


def references(value: Any) -> list[str]:
    """The steps that a table names as ``run:STEP``, however deep."""
    if isinstance(value, Mapping):
        return [step for inner in value.values() for step in references(inner)]
    if isinstance(value, list | tuple):
        return [step for inner in value for step in references(inner)]
    found = _REFERENCE.search(value) if isinstance(value, str) else None
    return [found[1]] if found else []


def with_sets(tables: Tables, assignments: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The recipe with every ``STEP.key=value`` of the command line laid over it; a verb alone stands for its first step."""
    result = {step: dict(table) for step, table in tables.items()}
    for assignment in assignments:
        path = assignment.partition("=")[0]
        named = [step for step in result if path.startswith(f"{step}.")]
        step = max(named, key=len, default="") or next((s for s in result if verb_of(s) == verb_of(path)), "")
        if not step:
            raise UserError(f"--set {assignment}: the recipe has no step '{verb_of(path)}'.{nearest(path, result)}")
        shared = step if named else verb_of(step)
        result[step] = apply_sets(result[step], [assignment[len(shared) + 1 :]])
    return result


def check_settings(tables: Tables) -> None:
    """Raise UserError on a setting that a step or its plugin does not know, before the first step costs anything."""
    for step, table in tables.items():
        verb = verb_of(step)
        if verb == "evaluate":
            understand(table)
        elif verb in PLUGGED:
            split_settings(table, verb, *PLUGGED[verb])
        elif verb in ("load", "corrupt"):
            build(LoadSettings if verb == "load" else CorruptSettings, table, where=verb)


async def run_recipe(session: Session, tables: Tables) -> AsyncIterator[Step]:
    """Run the steps as they are written, each reading what the ones above it made.

    Raises UserError before the first where a setting of any is wrong.
    """
    check_settings(tables)
    made: dict[str, str] = {}
    steps = list(tables)
    rehearsed: set[str] = set()
    for place, step in enumerate(steps):
        if step in made or step in rehearsed:
            continue
        table = _linked(step, tables[step], made)
        if session.options.dry_run and _waits_for(table, step, steps[:place], made):
            rehearsed.add(step)
            continue
        judging = _judging(steps, place, tables)
        if judging:
            judge_table = _linked(judging, {**tables[judging], "completions": ""}, made)
            judge_table.pop("completions")
            await spread(session, "generate+judge", table, judge_table)
            written, judged = await generate_and_judge(session, table, judge_table)
            results: Sequence[tuple[str, Result]] = [(step, written), (judging, judged)]
            rehearsed |= {step, judging} if session.options.dry_run else set()
        else:
            results = [(step, await run_verb(session, verb_of(step), table))]
        for name, result in results:
            if result.run.id:
                made[name] = result.run.id
            yield Step(verb_of(name), result, name)


async def run_verb(session: Session, verb: str, table: Mapping[str, Any]) -> Result:
    """Do one verb, by the workers of ``--engine ray`` where there are any."""
    if verb in SPREAD:
        await spread(session, verb, table)
    if verb == "load":
        return load(session, table)
    if verb == "generate":
        return await generate(session, table)
    if verb == "judge":
        return await judge(session, table)
    if verb == "audit":
        return await audit(session, table)
    if verb == "pairs":
        return pairs(session, table)
    if verb == "corrupt":
        return await plant(session, table)
    if verb == "train":
        return await train(session, table)
    return await evaluate(session, table)


def _judging(steps: Sequence[str], place: int, tables: Tables) -> str:
    """The step of judging that is one flow with this step of generating; empty if there is none."""
    below = steps[place + 1] if place + 1 < len(steps) else ""
    one_flow = verb_of(steps[place]) == "generate" and verb_of(below) == "judge"
    return (
        below if one_flow and tables[below].get("completions", f"run:{steps[place]}") == f"run:{steps[place]}" else ""
    )


def _waits_for(table: Mapping[str, Any], step: str, above: Sequence[str], made: Mapping[str, str]) -> bool:
    """Whether a step works on what a dry run has not made."""
    key, makers = SOURCES.get(verb_of(step), ("", ()))
    unmade = [s for s in above if s not in made]
    return bool(set(references(table)) & set(unmade)) or (
        key not in table and any(verb_of(s) in makers for s in unmade)
    )


def _linked(step: str, table: Mapping[str, Any], made: Mapping[str, str]) -> dict[str, Any]:
    """The table with its source set to the newest run that its verb reads, and every ``run:STEP`` to that step's run."""
    key, makers = SOURCES.get(verb_of(step), ("", ()))
    newest = [run for name, run in made.items() if verb_of(name) in makers]
    source = {key: newest[-1]} if newest and key not in table else {}
    return {**source, **{name: _resolved(value, made) for name, value in table.items()}}


def _resolved(value: Any, made: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _resolved(inner, made) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(inner, made) for inner in value]
    if not isinstance(value, str):
        return value
    return _REFERENCE.sub(lambda found: f"run:{made.get(found[1], found[1])}", value)
