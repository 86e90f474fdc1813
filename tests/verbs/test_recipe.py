"""Recipes: steps by name, references between them, and what a dry run can know."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion
from rlhf_eval.stages.study import overlaid
from rlhf_eval.verbs.lab import read_study, studies
from rlhf_eval.verbs.recipe import Step, check_settings, check_tables, read_recipe, references, run_recipe, with_sets
from rlhf_eval.verbs.session import Options, Session

LINE: dict[str, dict[str, Any]] = {
    "load.some": {"source": "sandbox", "limit": 6},
    "load.more": {"source": "sandbox", "split": "train", "limit": 4},
    "generate": {"model": "mock:writer", "n": 2, "prompts": "run:load.some"},
    "judge": {"judge": "gold"},
    "judge.length": {"judge": "length", "completions": "run:generate"},
    "pairs": {"rule": "best_worst", "judgments": "run:judge.length"},
    "evaluate": {"model": "best=run:pairs", "baseline": "mock:writer", "judge": {"judge_model": "mock:judge"}},
}


def steps(store: Path, tables: Any, **options: Any) -> list[Step]:
    async def work() -> list[Step]:
        session = Session(Options(store=store, quiet=True, **options))
        try:
            return [step async for step in run_recipe(session, tables)]
        finally:
            await session.close()

    return asyncio.run(work())


def test_steps_of_one_verb_are_told_apart_and_read_what_they_name(tmp_path: Path) -> None:
    tables = {**LINE, "evaluate": {**LINE["evaluate"], "prompts": "run:load.some"}}
    made = {step.name: step.result.run for step in steps(tmp_path, tables)}
    assert list(made) == list(LINE)
    assert made["generate"].counts["done"] == 6
    assert made["pairs"].inputs["judgments"] == made["judge.length"].id
    assert made["judge"].inputs == {"completions": made["generate"].id}


@pytest.mark.parametrize(
    ("step", "table", "said"),
    [
        ("train", {"trainer": "sft", "model": "sandbox:policy", "nope": 1}, "no setting 'nope'"),
        ("evaluate", {"model": "a=mock:writer"}, "needs two sides"),
        ("corrupt", {"rate": 0.1}, "no setting 'rate'"),
        ("pairs.more", {"rule": "threshold"}, "a threshold needs"),
    ],
)
def test_a_setting_that_is_wrong_further_down_costs_nothing(
    step: str, table: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        steps(tmp_path / "store", {**LINE, step: table})
    assert not (tmp_path / "store").exists()


def test_all_recipes_and_studies_that_ship_are_well_set() -> None:
    for file in Path(str(files("rlhf_eval.recipes"))).glob("*.yaml"):
        check_settings(read_recipe(file))
    for name in studies():
        study = read_study(name)
        for over in study.arms.values():
            check_settings(overlaid(study.line, over))
            check_settings(overlaid(overlaid(study.line, study.quick.line), over))


def test_a_step_reads_the_newest_of_its_kind_unless_it_says_otherwise(tmp_path: Path) -> None:
    tables = {
        "load.a": {"source": "sandbox", "limit": 3},
        "load.b": {"source": "sandbox", "split": "train", "limit": 2},
        "generate": {"model": "mock:writer"},
    }
    made = {step.name: step.result.run for step in steps(tmp_path, tables)}
    assert made["generate"].inputs["prompts"] == made["load.b"].id
    assert len(Session(Options(store=tmp_path)).read(Completion, made["generate"])) == 2


def test_the_same_recipe_again_finds_its_runs(tmp_path: Path) -> None:
    tables = {name: LINE[name] for name in ("load.some", "generate", "judge")}
    first, again = (steps(tmp_path, tables) for _ in range(2))
    assert [step.result.run.id for step in first] == [step.result.run.id for step in again]


def test_a_dry_run_stops_before_what_it_cannot_know(tmp_path: Path) -> None:
    assert [step.name for step in steps(tmp_path, LINE, dry_run=True)] == [
        "load.some",
        "load.more",
        "generate",
        "judge",
    ]


def test_references_are_found_however_deep_and_a_models_path_is_none() -> None:
    table = {"model": ["dpo=run:train.dpo", "hf:some/run:thing/x"], "reward": {"judge_model": "run:train.rm"}}
    assert references(table) == ["train.dpo", "train.rm"]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"lood": {}}, "'lood' is no verb of a recipe. Did you mean 'load'"),
        ({"load": 3}, "'load' must be a table"),
        ({"pairs": {"judgments": "run:judge"}}, "'pairs' reads run:judge, and no such step stands above it"),
    ],
)
def test_a_recipe_that_does_not_hold_together_is_refused_before_it_runs(tables: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_tables(tables, "here")


def test_sets_go_to_the_step_that_they_name() -> None:
    tables = {"train.sft": {"trainer": "sft"}, "train.dpo": {"trainer": "dpo", "beta": 0.1}, "judge": {"judge": "gold"}}
    laid = with_sets(tables, ["train.dpo.beta=0.5", "judge.orders=one", "train.epochs=2"])
    assert laid["train.dpo"] == {"trainer": "dpo", "beta": 0.5}
    assert laid["judge"] == {"judge": "gold", "orders": "one"}
    assert laid["train.sft"] == {"trainer": "sft", "epochs": 2}
    with pytest.raises(UserError, match=r"has no step 'train\.ppo'|has no step 'evaluate'"):
        with_sets(tables, ["evaluate.model=x"])
