"""A local Ray cluster on CPU: two workers, or two copies of a model, make the tables of one process, killed or not.

Slow: a cluster and its workers are a dozen processes, each of which imports for seconds before it does anything.

    make test-ray
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from contents import accounts, contents

from rlhf_eval.store.runs import Store

pytest.importorskip("ray", reason="needs Ray: pip install 'rlhf-eval[ray]'")
pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "rlhf_eval"]
RAY = ["--engine", "ray", "--workers", "2"]
PATIENCE = 240.0
MOCK = """\
load: {source: jsonl, path: prompts.jsonl}
generate: {model: "mock:writer?latency=%s&fail=0.05", n: 2}
judge: {judge_model: "mock:judge?latency=%s", orders: one}
pairs: {rule: best_worst}
"""
SANDBOX = """\
load: {source: sandbox}
generate: {model: "sandbox:policy", n: 2}
judge: {judge: gold}
"""
PROMPTS = 120


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *words], cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """What the process printed, once it has ended with ``code``; its cluster dies with it if that takes too long."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == code, err
    return out + err


def home_of(tmp_path: Path, recipe: str) -> Path:
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "Question {k}?"}}\n' for k in range(PROMPTS)))
    (tmp_path / "line.yaml").write_text(recipe)
    return tmp_path


def left(path: Path) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str, dict[str, int]]]]:
    """Records by table and id without what they cost, and the runs with their accounts."""
    store = Store(path)
    assert store.problems == []
    assert not list(path.rglob("log/*.jsonl"))
    assert not list(path.rglob("*.tmp"))
    return contents(store), accounts(store)


def writers(store: Path, verb: str) -> set[int]:
    """The processes that have written into the runs of a verb, by the names of their files."""
    names = [path.name for path in store.glob(f"runs/*-{verb}-*/*/*-*p*r*.*")]
    return {int(found.group(1)) for found in (re.search(r"p(\d+)r[0-9a-f]{6}-", name) for name in names) if found}


def test_two_workers_make_the_tables_of_one_process(tmp_path: Path) -> None:
    home = home_of(tmp_path, SANDBOX)
    finish(start(home, "run", "line.yaml", "--limit", "40", "--store", "local"))
    shown = finish(start(home, "run", "line.yaml", "--limit", "40", "--store", "spread", *RAY))
    assert "ray: 8 of 8 parts done by 2 workers" in shown
    assert left(home / "spread") == left(home / "local")
    assert len(writers(home / "spread", "generate")) == 2


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    home = home_of(tmp_path, MOCK % (0.25, 0.25))
    finish(start(home, "run", "line.yaml", "--store", "local"))
    process = start(home, "run", "line.yaml", "--store", "spread", "--concurrency", "4", *RAY)
    deadline = time.monotonic() + PATIENCE
    while len(writers(home / "spread", "judge")) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    victim = min(writers(home / "spread", "judge"))
    os.kill(victim, signal.SIGKILL)
    finish(process)
    assert left(home / "spread") == left(home / "local")
    assert len(writers(home / "spread", "judge")) == 3


def test_a_workers_mistake_is_the_commands(tmp_path: Path) -> None:
    home = home_of(tmp_path, "load: {source: jsonl, path: prompts.jsonl}\ngenerate: {model: 'mock:wrriter'}\n")
    shown = finish(start(home, "run", "line.yaml", *RAY), code=2)
    assert "there is no mock 'wrriter'. Did you mean 'writer'?" in shown
    assert "Traceback" not in shown


def copies() -> set[int]:
    """The processes that hold a copy of a model."""
    shown = subprocess.run(["ps", "-eo", "pid,args"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {int(line.split()[0]) for line in shown.splitlines() if "ray::Copy" in line}


def test_copies_of_two_models_answer_as_one_of_each_does(tmp_path: Path) -> None:
    models = ("w=%ssandbox:policy%s", "j=%ssandbox:judge%s")
    home = tmp_path
    for name, parts in (("local", ("", "")), ("copies", ("ray:", "?replicas=2"))):
        writer, judge = (model % parts for model in models)
        (home / f"{name}.yaml").write_text(
            f"load: {{source: sandbox}}\ngenerate: {{model: '{writer}', n: 2, max_tokens: 32}}\n"
            f"judge: {{judge_model: '{judge}', orders: one, max_tokens: 8}}\n"
        )
        finish(start(home, "run", f"{name}.yaml", "--limit", "20", "--store", name))
    assert left(home / "copies") == left(home / "local")
    assert not copies()


def test_a_killed_copy_loses_nothing(tmp_path: Path) -> None:
    home = home_of(tmp_path, MOCK % (0.25, 0.25))
    line = (home / "line.yaml").read_text()
    (home / "line.yaml").write_text(line.replace("mock:writer", "w=mock:writer"))
    (home / "copies.yaml").write_text(line.replace("mock:writer?", "w=ray:mock:writer?replicas=2&"))
    finish(start(home, "run", "line.yaml", "--store", "local"))
    process = start(home, "run", "copies.yaml", "--store", "copies", "--concurrency", "4")
    deadline = time.monotonic() + PATIENCE
    while not writers(home / "copies", "generate"):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(1.0)
    os.kill(min(copies()), signal.SIGKILL)
    finish(process)
    assert left(home / "copies") == left(home / "local")


def test_a_copys_mistake_is_the_commands(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why?"}\n')
    finish(start(tmp_path, "load", "jsonl", "prompts.jsonl"))
    shown = finish(start(tmp_path, "generate", "--model", "ray:mock:wrriter?replicas=2"), code=2)
    assert "there is no mock 'wrriter'. Did you mean 'writer'?" in shown
    assert "Traceback" not in shown
