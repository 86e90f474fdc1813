"""Lineage: from a leaderboard row up to the prompts and down again, and back to where it began."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from dashboards.data import lineage
from rlhf_eval.errors import UserError


def test_the_walk_up_ends_at_the_prompts(full: Any) -> None:
    found = lineage.trail(full.store, full.runs["evaluate"])
    up = {stop.run.id: stop for stop in found.up}
    names = ("train", "load", "pairs", "judge", "generate")
    assert set(up) == {full.runs[name] for name in names}
    assert (up[full.runs["train"]].depth, up[full.runs["train"]].via) == (1, "ppo@20")
    assert up[full.runs["pairs"]].parent == full.runs["train"] and up[full.runs["judge"]].depth == 3
    assert up[full.runs["load"]].holds == {"prompts": 40} and found.start.holds["judgments"] == 40
    assert found.down == ()


def test_the_walk_down_leads_back(full: Any) -> None:
    down = {stop.run.id for stop in lineage.trail(full.store, full.runs["generate"]).down}
    assert {full.runs[name] for name in ("judge", "gold", "pairs", "turned", "train", "evaluate", "audit")} == down
    for run in down:
        assert full.runs["generate"] in {stop.run.id for stop in lineage.trail(full.store, run).up}


def test_a_row_leads_to_its_verdicts_answers_checkpoint_and_card(full: Any, planted: ModuleType) -> None:
    behind = lineage.behind_row(full.store, planted.JUDGE, "ppo@20", "old")
    assert behind.verdicts == {full.runs["evaluate"]: 40}
    assert behind.answers == {full.runs["evaluate"]: 40, full.runs["train"]: 40} and behind.distinct == 40
    assert behind.checkpoints == (full.runs["train"],) and behind.cards == (full.runs["audit"],)
    older = lineage.behind_row(full.store, planted.JUDGE, "new")
    assert older.runs == (full.runs["judge"],) and older.checkpoints == ()
    with pytest.raises(UserError, match="no verdict of 'nobody' is about 'new'"):
        lineage.behind_row(full.store, "nobody", "new")


def test_the_graph_names_every_run_once(full: Any) -> None:
    found = lineage.trail(full.store, full.runs["pairs"])
    dot = found.dot(ink="#000000")
    for stop in (*found.up, found.start, *found.down):
        assert dot.count(f'\n"{stop.run.id}" [label=') == 1
    assert f'"{full.runs["judge"]}" -> "{full.runs["pairs"]}" [label="judgments"]' in dot


def test_what_is_no_run_of_the_store_is_kept_apart(planted: ModuleType, tmp_path: Any) -> None:
    world = planted.comparisons(tmp_path / "store", prompts=3)
    run = planted.trained(world, steps=(0, 1))
    found = lineage.trail(world.store, run)
    assert found.start.others == {"pairs": "pairs.jsonl"} and [s.run.verb for s in found.up] == ["load"]
    with pytest.raises(UserError, match="no run 'nothing'"):
        lineage.trail(world.store, "nothing")
