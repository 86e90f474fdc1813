"""``run RECIPE.yaml``: the line, written down. Each table is a verb; they run in the order of the line.

    load: {source: sandbox, limit: 60}
    generate: {model: sandbox:policy, n: 8}
    judge: {judge: pairwise, judge_model: sandbox:judge}
    pairs: {rule: best_worst}
    evaluate: {model: best-of-8=run:pairs, baseline: sandbox:policy, judge: {judge_model: sandbox:judge}}

``generate`` and ``judge`` run as one flow: a prompt is judged as soon as its completions exist. Inside a recipe
``run:pairs`` is what the recipe's own ``pairs`` made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rlhf_eval.config import read_yaml
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.verbs.audit import AuditResult, audit
from rlhf_eval.verbs.engine_ray import spread
from rlhf_eval.verbs.evaluate import EvaluateResult, evaluate
from rlhf_eval.verbs.flow import FlowResult, generate, generate_and_judge, judge
from rlhf_eval.verbs.load import LoadResult, load
from rlhf_eval.verbs.pairs import PairsResult, pairs
from rlhf_eval.verbs.session import Session

LINE = ("load", "generate", "judge", "audit", "pairs", "evaluate")
Result = LoadResult | FlowResult | AuditResult | PairsResult | EvaluateResult


@dataclass(frozen=True, slots=True)
class Step:
    """A verb of the recipe and what it brought."""

    verb: str
    result: Result


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
    """The tables of a recipe; raises UserError on one that is no verb."""
    tables = read_yaml(path)
    for verb, table in tables.items():
        if verb not in LINE:
            raise UserError(f"{path}: '{verb}' is no verb of a recipe.{nearest(verb, LINE)}")
        if not isinstance(table, dict):
            raise UserError(f"{path}: '{verb}' must be a table of settings")
    return tables


async def run_recipe(session: Session, tables: Mapping[str, dict[str, Any]]) -> AsyncIterator[Step]:
    """Run the verbs of a recipe in the order of the line, each reading what the one before it made."""
    made: dict[str, str] = {}
    for verb in LINE:
        if verb not in tables or (verb == "judge" and "judge" in made):
            continue
        if session.options.dry_run and _needs_results(verb, tables):
            continue
        table = _linked(verb, dict(tables[verb]), made)
        if verb == "load":
            loaded = load(session, table)
            made["load"] = loaded.run.id
            yield Step("load", loaded)
        elif verb == "generate" and "judge" in tables:
            await spread(session, "generate+judge", table, tables["judge"])
            written, judged = await generate_and_judge(session, table, tables["judge"])
            made |= {"generate": written.run.id, "judge": judged.run.id}
            yield Step("generate", written)
            yield Step("judge", judged)
        else:
            result = await _one(session, verb, table)
            made[verb] = result.run.id
            yield Step(verb, result)


async def _one(session: Session, verb: str, table: Mapping[str, Any]) -> Result:
    if verb not in ("audit", "pairs"):
        await spread(session, verb, table)
    if verb == "generate":
        return await generate(session, table)
    if verb == "judge":
        return await judge(session, table)
    if verb == "audit":
        return await audit(session, table)
    if verb == "pairs":
        return pairs(session, table)
    return await evaluate(session, table)


def _needs_results(verb: str, tables: Mapping[str, dict[str, Any]]) -> bool:
    """Whether a verb works on what the recipe's models answer, which a dry run does not know."""
    if verb == "evaluate":
        return "run:" in str(tables[verb].get("model")) + str(tables[verb].get("baseline"))
    return verb in ("audit", "pairs") and "judge" in tables


def _linked(verb: str, table: dict[str, Any], made: Mapping[str, str]) -> dict[str, Any]:
    """The table with its source set to what the recipe made, and ``run:<verb>`` turned into that verb's run."""
    reads = {
        "generate": ("prompts", "load"),
        "judge": ("completions", "generate"),
        "audit": ("completions", "generate"),
        "pairs": ("judgments", "judge"),
    }
    key, maker = reads.get(verb, ("prompts", "load"))
    if verb != "load" and maker in made:
        table.setdefault(key, made[maker])
    for name in ("model", "baseline"):
        if isinstance(table.get(name), str):
            alias, mark, ref = str(table[name]).rpartition("run:")
            if mark and ref in made:
                table[name] = f"{alias}run:{made[ref]}"
    return table
