"""Suites: several benchmarks, models, judges and seeds as one command that resumes, and one table of judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_eval.records import Completion, Estimate
from rlhf_eval.stats.intervals import wilson


@pytest.fixture
def pairs(cli: Any) -> Path:
    rows = [{"prompt": f"q{n}", "chosen": f"a longer answer {n}", "rejected": f"no {n}"} for n in range(30)]
    path: Path = cli.home / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def suite(cli: Any, text: str) -> Path:
    path: Path = cli.home / "suite.yaml"
    path.write_text(text)
    return path


def of(events: list[dict[str, Any]], benchmark: str, name: str) -> list[dict[str, Any]]:
    return [e for e in events if e.get("benchmark") == benchmark and e["name"] == name]


def test_models_seeds_and_judges_in_one_command(cli: Any, pairs: Path) -> None:
    questions = cli.prompts(20)
    path = suite(
        cli,
        f"""
seeds: [0, 1]
judges: [{{judge: length}}, {{judge: random}}]
benchmarks:
  - {{benchmark: winrate, prompts: {questions}, baseline: 'mock:echo', judge: {{judge_model: 'mock:judge?length_bias=3'}}}}
  - {{benchmark: diversity, prompts: {questions}, generate: {{n: 2}}}}
  - {{benchmark: preference, prompts: {pairs}}}
""",
    )
    words = ("evaluate", path, "--model", "a=mock:writer?seed=1", "--model", "b=mock:writer?seed=2", "--json")
    events = cli.done(*words).events
    assert len(cli.store.runs("evaluate")) == 2 + 2 + 2
    assert {e["settings"]["model"] for e in of(events, "winrate", "win_rate")} == {"a", "b"}
    assert all(e["seeds"] == 2 and e["headline"] for e in of(events, "winrate", "win_rate"))
    best, other = sorted(of(events, "preference", "accuracy"), key=lambda e: e["value"], reverse=True)
    assert best["settings"]["judge"].startswith("length")
    assert best["gap"] is None
    assert other["gap"]["value"] == pytest.approx(best["value"] - other["value"])
    assert other["p_holm"] < 0.05

    (run,) = cli.store.runs("suite")
    assert len(run.inputs) == 6
    assert len(cli.read(Estimate, run.id)) == sum(e["event"] == "estimate" for e in events)
    again = cli.done(*words).events
    assert again == events
    assert len(cli.store.runs()) == len(cli.store.runs("evaluate")) + len(cli.store.runs("load")) + 1
    shown = cli.done(*words[:-1]).out
    assert "6 runs" in shown
    assert shown.count("winrate") == 2


def test_seeds_are_pooled_by_prompt(cli: Any) -> None:
    path = suite(
        cli,
        f"""
seeds: [3, 4]
benchmarks: [{{benchmark: winrate, prompts: {cli.prompts(25)}, baseline: 'mock:echo',
              judge: {{judge_model: 'mock:judge?sharpness=2', orders: one}}}}]
""",
    )
    (pooled,) = of(
        cli.done("evaluate", path, "--model", "a=mock:writer?seed=1", "--json").events, "winrate", "win_rate"
    )
    shares: dict[str, list[float]] = {}
    table = cli.store.sql(
        "select j.prompt_id, j.scores[1] as share from judgments j join completions c on c.id = j.completion_ids[1] "
        "and c.run_id = j.run_id where c.model = 'a' and len(j.completion_ids) = 2"
    )
    for prompt, share in zip(table["prompt_id"].to_pylist(), table["share"].to_pylist(), strict=True):
        shares.setdefault(prompt, []).append(share)
    means = np.array([np.mean(own) for own in shares.values()])
    assert pooled["n"] == 25
    assert pooled["value"] == pytest.approx(means.mean())
    assert pooled["low"] == pytest.approx(wilson(means).low)
    seeds = {c.sampling.seed for c in cli.store.read(Completion) if c.model == "a"}
    assert seeds == {3, 4}


def test_several_judges_make_one_table(cli: Any, pairs: Path) -> None:
    words = (
        "evaluate",
        "preference",
        "--prompts",
        pairs,
        "--judge",
        "length",
        "--judge",
        "pairwise=mock:judge?sharpness=60",
    )
    shown = cli.done(*words).out
    assert "2 runs" in shown
    assert "length#" in shown
    assert "pairwise/mock:judge" in shown
    questions = cli.prompts(10)
    versus = cli.done("evaluate", "winrate", "--prompts", questions, "--model", "mock:writer", "--baseline", "mock:echo",
                      "--judge", "pairwise=mock:judge", "--judge", "pairwise=two=mock:judge?seed=2")  # fmt: skip
    assert versus.out.count("winrate") == 2


def test_one_table_holds_every_kind_of_scorer(cli: Any, pairs: Path) -> None:
    """Classifier, process and implicit rewards, a generative judge and a rule answer one question, on the same items."""
    path = suite(
        cli,
        f"""
judges:
  - {{judge: reward_model, judge_model: 'mock:judge'}}
  - {{judge: reward_model, judge_model: 'mock:judge', steps: lines, aggregate: min}}
  - {{judge: implicit, judge_model: 'sandbox:judge', reference: 'sandbox:policy'}}
  - {{judge: pairwise, judge_model: 'mock:judge?sharpness=60'}}
  - {{judge: length}}
benchmarks: [{{benchmark: preference, prompts: {pairs}}}]
""",
    )
    rows = of(cli.done("evaluate", path, "--limit", "8", "--json").events, "preference", "accuracy")
    kinds = [row["settings"]["judge"].partition("#")[0].partition("/")[0] for row in rows]
    assert kinds == ["reward_model", "reward_model", "implicit", "pairwise", "length"]
    assert all(row["n"] == 8 and row["low"] <= row["value"] <= row["high"] for row in rows)
    assert sum(row["gap"] is None for row in rows) == 1
    assert len({row["settings"]["judge"] for row in rows}) == 5


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("benchmarks: []", (), "nothing to run"),
        ("benchmark: [winrate]", (), "no setting 'benchmark'"),
        ("benchmarks: [{benchmark: winrat}]", (), "there is no benchmark 'winrat'. Did you mean 'winrate'?"),
        ("benchmarks: [{benchmark: winrate, promts: x}]", (), "promts"),
        ("benchmarks: [{benchmark: winrate}]", ("--model", "mock:writer"), "needs two sides"),
        ("benchmarks: [{benchmark: gsm8k}]", ("--baseline", "mock:echo"), "--baseline belongs into the file"),
        ("benchmarks: [{benchmark: winrate, judgments: latest}]", (), "a suite asks"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(cli: Any, text: str, words: tuple[str, ...], said: str) -> None:
    ended = cli("evaluate", suite(cli, text), *words)
    assert ended.code == 2
    assert said in ended.err
    assert not cli.path.exists() or not cli.store.runs()


def test_a_run_that_fails_leaves_a_part_of_the_table(cli: Any) -> None:
    questions = cli.prompts(12)
    row = "{{benchmark: winrate, prompts: {0}, baseline: 'mock:echo', judge: {{judge_model: 'mock:judge{1}'}}}}"
    tables = [row.format(questions, option) for option in ("?fail=1", "")]
    words = ("evaluate", suite(cli, f"benchmarks: [{', '.join(tables)}]"), "--model", "a=mock:writer")
    ended = cli(*words)
    assert ended.code == 3
    assert "a part: 1 of 2 runs, 12 of 12 prompts done" in ended.out
    assert "all 12 prompts failed" in ended.err
    (part,) = cli.store.runs("suite")
    assert part.status == "failed"
    assert cli.done("leaderboard", "--json").events[0]["n"] == 12
    assert cli(*words, "--json").events[-1]["event"] == "partial"
    assert len(cli.store.runs("suite")) == 1
    suite(cli, f"benchmarks: [{tables[1]}]")
    assert "suite: 1 runs, 12 of 12 prompts done" in cli.done(*words).out
    assert [run.status for run in cli.store.runs("suite")] == ["failed", "done"]


def test_several_judges_name_their_own_models(cli: Any, pairs: Path) -> None:
    words = ("evaluate", "preference", "--prompts", pairs, "--judge", "length", "--judge", "pairwise")
    assert "each names its own model" in cli(*words, "--judge-model", "mock:judge").err


def test_a_dry_run_counts_every_cell_and_stores_nothing(cli: Any, pairs: Path) -> None:
    questions = cli.prompts(5)
    path = suite(
        cli,
        f"""
seeds: [0, 1, 2]
benchmarks: [{{benchmark: winrate, prompts: {questions}, baseline: 'mock:echo', judge: {{judge_model: 'mock:judge'}}}}]
""",
    )
    shown = cli.done("evaluate", path, "--model", "a=mock:writer", "--dry-run").out
    assert "3 runs, dry run" in shown
    assert not cli.store.runs("evaluate")


def test_every_result_has_its_manifest(cli: Any) -> None:
    cli.done("load", "jsonl", cli.prompts(6))
    cli.done(
        "evaluate", "winrate", "--model", "a=mock:writer", "--baseline", "mock:echo", "--judge-model", "mock:judge"
    )
    made = cli.store.find("latest:evaluate").config["manifest"]
    assert made["prompts"]["count"] == 6
    assert len(made["prompts"]["hash"]) == 20
    assert made["sampling"]["a"]["temperature"] == 1.0
    assert made["token_budgets"]["a"] == 512
    assert set(made["models"]) == {"a", "mock:echo"}
    assert "#" in made["judge"]
