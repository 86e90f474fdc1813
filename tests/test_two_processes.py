"""Two processes that write one store at once lose nothing, on one run or on two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from contents import accounts, contents

from rlhf_eval.cli import main
from rlhf_eval.records import TABLES
from rlhf_eval.store.runs import Store

COMMAND = [sys.executable, "-m", "rlhf_eval"]
RECIPE = """\
load: {source: jsonl, path: prompts.jsonl}
generate: {model: "mock:writer?latency=0.01", n: 2}
judge: {judge_model: "mock:judge?latency=0.01"}
pairs: {rule: best_worst}
"""
PROMPTS = 150


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "line.yaml").write_text(RECIPE)
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "Question {k}?"}}\n' for k in range(PROMPTS)))
    return tmp_path


def together(home: Path, *commands: list[str]) -> list[str]:
    """Run commands at the same time; all must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [*COMMAND, *words, "--json"],
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for words in commands
    ]
    ends = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * len(started), [err for _, err in ends]
    return [out for out, _ in ends]


def test_two_processes_do_one_recipe(home: Path) -> None:
    words = ["run", "line.yaml", "--concurrency", "4"]
    together(home, [*words, "--store", "both"], [*words, "--store", "both"])
    assert main([*words, "--store", "one"]) == 0
    both, one = Store(home / "both"), Store(home / "one")
    assert contents(both) == contents(one)
    assert [run.verb for run in both.runs()] == ["load", "generate", "judge", "pairs"]
    assert accounts(both) == accounts(one)
    assert both.problems == []
    assert not list((home / "both").rglob("log/*.jsonl"))
    assert not list((home / "both").rglob("*.tmp"))


def test_two_processes_do_two_runs_of_one_store_and_a_third_reads(home: Path) -> None:
    assert main(["load", "jsonl", "prompts.jsonl"]) == 0
    writers = [["generate", "--model", f"w{seed}=mock:writer?seed={seed}&latency=0.01", "-n", "2"] for seed in (1, 2)]
    out = together(home, *writers, ["runs", "ls"], ["status"])
    assert '"verb":"load"' in out[2].replace(" ", "")
    store = Store(home / "rlhf-eval-store")
    first, second = store.runs("generate")
    for run in (first, second):
        assert (run.status, run.counts["done"]) == ("done", PROMPTS)
    held = [store.read(TABLES["completions"], run=run.id) for run in (first, second)]
    assert [len(found) for found in held] == [2 * PROMPTS] * 2
    assert {record.model for found in held for record in found} == {"w1", "w2"}  # type: ignore[union-attr]
    assert store.sql("select count(*) as n, count(distinct id) as d from completions").to_pylist() == [
        {"n": 600, "d": 600}
    ]
    assert store.problems == []
