"""What ``--engine ray`` is made of, without Ray: workers on parts of the prompts, one after another in this process.

The cluster itself, and a worker that is killed, are in ``tests/verbs/test_engine_ray.py`` (make test-ray).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from contents import accounts, contents

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion
from rlhf_eval.store.runs import Store
from rlhf_eval.verbs import engine_ray
from rlhf_eval.verbs.engine_ray import PARTS_A_WORKER, Row, Task, Worker
from rlhf_eval.verbs.session import Cluster, Options

LINE = """\
load: {source: jsonl, path: prompts.jsonl}
generate: {model: "mock:writer?fail=0.1", n: 2}
judge: {judge_model: "mock:judge?bias=1", orders: one}
pairs: {rule: best_worst}
"""
RAY = ("--engine", "ray", "--workers", "2")


class Machine:
    """What is asked of a cluster."""

    has: Mapping[str, float] = {"CPU": 2.0}

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> Mapping[str, float]:
        return self.has


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """The work that was handed out; it is done by workers in this process, who take turns."""
    seen: list[Task] = []

    def run(task: Task, workers: int, resources: Mapping[str, float], say: Callable[[str], None]) -> list[Row]:
        seen.append(task)
        turns = cycle([Worker(task) for _ in range(workers)])
        return [
            row for part, worker in zip(range(task.parts), turns, strict=False) for row in worker({"id": [part]})["end"]
        ]

    monkeypatch.setattr(engine_ray, "_run", run)
    monkeypatch.setattr(engine_ray, "library", lambda *_: Machine())
    return seen


def left(path: Path) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str, dict[str, int]]]]:
    """Records by table and id without what they cost, and the runs with their accounts."""
    store = Store(path)
    return contents(store), accounts(store)


def test_parts_make_the_tables_of_one_process(cli: Any, tasks: list[Task]) -> None:
    cli.prompts(50)
    (cli.home / "line.yaml").write_text(LINE)
    cli.done("run", "line.yaml", "--store", "local")
    cli.done("run", "line.yaml", "--store", "spread", "--max-tokens", "1000000", *RAY)
    assert left(cli.home / "spread") == left(cli.home / "local")
    (task,) = tasks
    assert (task.verb, task.parts) == ("generate+judge", 2 * PARTS_A_WORKER)
    assert task.options.max_tokens == 500_000
    again = cli.done("run", "line.yaml", "--store", "spread", "--max-tokens", "1000000", *RAY)
    assert "finished earlier" in again.out
    assert left(cli.home / "spread") == left(cli.home / "local")


def test_what_stops_a_worker_stops_the_command_and_the_rest_is_kept(cli: Any, tasks: list[Task]) -> None:
    cli.prompts(50)
    (cli.home / "line.yaml").write_text(LINE.replace("?fail=0.1", "").replace("n: 2", "n: 2, max_tokens: 30"))
    stopped = cli("run", "line.yaml", "--max-tokens", "4000", "--concurrency", "2", *RAY)
    assert stopped.code == 5, stopped.err
    assert "stopped by --max-tokens 2000" in stopped.err
    assert "(a worker's share of the limit)" in stopped.err
    kept = {c.id for c in cli.store.read(Completion)}
    assert 0 < len(kept) < 100
    assert "50 prompts: 50 done" in cli.done("run", "line.yaml", *RAY).out
    whole = cli.store.read(Completion)
    assert len(whole) == 100
    assert kept < {c.id for c in whole}


def test_a_mistake_at_a_worker_is_the_commands(cli: Any, tasks: list[Task]) -> None:
    cli.prompts(4)
    (cli.home / "line.yaml").write_text(LINE.replace("mock:writer", "mock:wrriter"))
    result = cli("run", "line.yaml", *RAY)
    assert result.code == 2
    assert "there is no mock 'wrriter'. Did you mean 'writer'?" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("has", "tables", "cluster", "wanted"),
    [
        ({"CPU": 8.0}, "openai:a@http://x/v1", Cluster(), (8, {"num_cpus": 1.0})),
        ({"CPU": 8.0, "GPU": 4.0}, "openai:a@http://x/v1", Cluster(), (8, {"num_cpus": 1.0})),
        ({"CPU": 8.0, "GPU": 4.0}, "vllm:a", Cluster(), (4, {"num_gpus": 1.0, "num_cpus": 1.0})),
        ({"CPU": 8.0, "GPU": 4.0}, "vllm:a", Cluster(tensor_parallel=2), (2, {"num_gpus": 2.0, "num_cpus": 1.0})),
        ({"CPU": 8.0}, "hf:a", Cluster(workers=3), (3, {"num_cpus": 1.0})),
    ],
)
def test_workers_fill_what_the_cluster_has(
    has: Mapping[str, float], tables: str, cluster: Cluster, wanted: tuple[int, Mapping[str, float]]
) -> None:
    machine = Machine()
    machine.has = has
    assert engine_ray._shape(machine, cluster, [{"model": tables}]) == wanted


def test_more_workers_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(UserError, match=r"--workers 3: the cluster has room for 2"):
        engine_ray._shape(Machine(), Cluster(workers=3), [{"model": "mock:writer"}])


def test_a_worker_gets_its_share_of_limits_and_paths_that_hold_anywhere(cli: Any) -> None:
    shared = engine_ray._share(Options(max_cost=8.0, rpm=100.0, tpm=1000.0, store=Path("here")), 4)
    assert (shared.max_cost, shared.rpm, shared.tpm, shared.cluster) == (2.0, 25.0, 250.0, None)
    assert shared.store == cli.home / "here"
    (cli.home / "ckpt").mkdir()
    placed = engine_ray._placed({"model": ["x=hf:ckpt?batch_size=4", "vllm:org/name?dtype=auto", "vllm:org/name"]}, 2)
    assert placed == {
        "model": [
            f"x=hf:{cli.home / 'ckpt'}?batch_size=4",
            "vllm:org/name?dtype=auto&tensor_parallel_size=2",
            "vllm:org/name?tensor_parallel_size=2",
        ]
    }


def test_workers_hold_no_copies_of_their_own(cli: Any, tasks: list[Task]) -> None:
    cli.prompts(5)
    (cli.home / "line.yaml").write_text(LINE.replace("mock:writer", "ray:mock:writer"))
    result = cli("run", "line.yaml", *RAY)
    assert result.code == 2
    assert "--engine ray gives every worker models of its own: name them without ray:" in result.err
