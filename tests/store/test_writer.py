"""What ``append`` acknowledged is there: after kill -9 at any moment, with two writers, and however the block ends."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from rlhf_eval.errors import BadRecord, BudgetExceeded, ModelUnavailable, UserError
from rlhf_eval.records import Completion, Estimate, Judgment, Usage
from rlhf_eval.store import runs as listing
from rlhf_eval.store import writer as writing
from rlhf_eval.store.reading import files_of
from rlhf_eval.store.runs import Store

WORKER = """
import os, sys
from pathlib import Path
from rlhf_eval.records import Completion, Usage
from rlhf_eval.store.runs import Store
place, start, stop, rows = Path(sys.argv[1]), *map(int, sys.argv[2:5])
with Store(place).begin("generate", {"n": 1}, inputs={}, seed=0, versions={}, rows_a_part=rows) as run:
    for i in range(start, stop):
        record = Completion.of(prompt_id=str(i), model="m", text="x" * (i % 300), usage=Usage(completion_tokens=1))
        run.append("completions", record)
        os.write(1, record.id.encode() + b"\\n")
    run.finish("done", {"done": stop - start}, Usage(completion_tokens=stop - start, cost=0.5))
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def begin(store, **more):
    return store.begin("generate", {"n": 1}, inputs={}, seed=0, versions={}, **more)


def completion(i, **more):
    return Completion.of(prompt_id=str(i), model="m", text=f"answer {i}", **more)


def worker(store, start, stop, rows=50):
    command = [sys.executable, "-c", WORKER, str(store.path), str(start), str(stop), str(rows)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def soon(look, expected):
    """Sealing goes on behind ``append``: look again until it is over."""
    deadline = time.monotonic() + 10
    while look() != expected and time.monotonic() < deadline:
        time.sleep(0.005)
    assert look() == expected


def names(run, folder):
    return sorted(path.name.partition("-")[0] + path.suffix for path in (run.folder / folder).iterdir())


def test_a_record_can_be_read_as_soon_as_append_returns(store):
    with begin(store) as run:
        for i in range(3):
            run.append("completions", completion(i))
            assert store.read(Completion) == [completion(k) for k in range(i + 1)]
            assert run.ids("completions") == {completion(k).id for k in range(i + 1)}
        assert names(run, "log") == ["completions.jsonl"]
        assert names(run, "parts") == []
    assert names(run, "log") == []
    assert names(run, "parts") == ["completions.parquet"]
    assert store.read(Completion) == [completion(k) for k in range(3)]


def test_logs_are_sealed_as_they_fill_and_order_is_kept(store):
    with begin(store, rows_a_part=10) as run:
        for i in range(35):
            run.append("completions", completion(i))
        soon(lambda: names(run, "parts"), ["completions.parquet"] * 3)
        soon(lambda: names(run, "log"), ["completions.jsonl"])
        assert store.read(Completion) == [completion(i) for i in range(35)]
    assert store.read(Completion) == [completion(i) for i in range(35)]


def test_large_records_seal_a_log_early(store, monkeypatch):
    monkeypatch.setattr(writing, "BYTES_A_PART", 10_000)
    with begin(store) as run:
        for i in range(4):
            run.append("completions", Completion.of(prompt_id=str(i), model="m", text="x" * 6000))
        soon(lambda: names(run, "parts"), ["completions.parquet"] * 2)


def test_tables_are_kept_apart_and_mistakes_are_refused(store):
    with begin(store) as run:
        run.append("completions", completion(0))
        run.append("estimates", Estimate(name="w", value=0.5, low=0.4, high=0.6, n=9))
        with pytest.raises(TypeError, match="table 'judgments' does not hold a Completion"):
            run.append("judgments", completion(0))
        with pytest.raises(TypeError, match="table 'verdicts'"):
            run.append("verdicts", completion(0))
        with pytest.raises(BadRecord, match="lone surrogate"):
            run.append("completions", Completion.of(prompt_id="p", model="m", text="\ud800"))
        run.append("completions", completion(1))
    assert store.read(Completion) == [completion(0), completion(1)]
    assert store.read(Estimate)[0].value == 0.5


def test_a_success_replaces_a_failure_and_is_never_replaced_by_one(store):
    with begin(store, rows_a_part=2) as run:
        run.append("completions", completion(0, error="timeout"))
        run.append("completions", completion(1, error="timeout"))
        assert run.ids("completions", failures=False) == set()
        assert len(run.ids("completions")) == 2
        run.append("completions", completion(0))
        run.append("completions", completion(0, error="late"))
        assert run.ids("completions", failures=False) == {completion(0).id}
        by_id = {c.id: c for c in store.read(Completion)}
        assert by_id[completion(0).id] == completion(0)
        assert by_id[completion(1).id].error == "timeout"
        assert len(by_id) == 2


def test_a_later_estimate_of_the_same_thing_replaces_the_earlier(store):
    with begin(store) as run:
        for value in (0.5, 0.6):
            run.append("estimates", Estimate(name="w", value=value, low=0.4, high=0.7, n=9))
        assert [e.value for e in store.read(Estimate)] == [0.6]
    assert [e.value for e in store.read(Estimate)] == [0.6]


@pytest.mark.parametrize("seed", range(5))
def test_kill_9_loses_nothing_that_was_acknowledged(store, seed, monkeypatch):
    monkeypatch.setattr(listing, "SILENT", 0.0)
    process = worker(store, 0, 1_000_000, rows=random.Random(seed).choice([3, 20, 400]))
    acknowledged = [process.stdout.readline()]
    time.sleep(random.Random(seed).uniform(0, 0.3))
    assert store.find("latest").status == "running"
    process.send_signal(signal.SIGKILL)
    *lines, _torn = (b"".join(acknowledged) + process.stdout.read()).split(b"\n")
    process.wait()
    assert store.find("latest").status == "interrupted"
    ids = {line.decode() for line in lines}
    found = [c.id for c in store.read(Completion)]
    assert ids <= set(found)
    assert len(found) == len(set(found)) <= len(ids) + 1
    with begin(store) as run:
        assert run.run.status == "running"
        assert ids <= run.ids("completions")
        run.append("completions", completion("after"))
    assert {c.id for c in store.read(Completion)} == {*found, completion("after").id}
    assert names(run, "log") == []
    assert not [name for name in names(run, "parts") if not name.endswith(".parquet")]
    assert store.problems == []


def test_two_processes_on_one_run_add_up(store):
    workers = [worker(store, 0, 120, rows=30), worker(store, 80, 200, rows=30)]
    for process in workers:
        process.communicate(timeout=60)
    assert [process.returncode for process in workers] == [0, 0]
    (run,) = store.runs()
    assert run.status == "done"
    assert sorted(int(c.prompt_id) for c in store.read(Completion)) == list(range(200))
    assert store.sql("SELECT count(*) AS n, count(DISTINCT id) AS ids FROM completions").to_pylist() == [
        {"n": 200, "ids": 200}
    ]
    assert list((store.folder(run.id) / "log").iterdir()) == []


def test_two_writers_usage_and_records_add_up_in_one_process(store):
    one, two = begin(store), begin(store)
    assert one.folder == two.folder
    one.append("completions", completion(1))
    two.append("completions", completion(2))
    one.finish("done", {"done": 1}, Usage(cost=1.0, prompt_tokens=3))
    two.finish("done", {"done": 2}, Usage(cost=0.25, prompt_tokens=4))
    (run,) = store.runs()
    assert run.usage == Usage(cost=1.25, prompt_tokens=7)
    assert len(store.read(Completion)) == 2


def test_usage_adds_up_over_interruptions(store):
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), begin(store) as run:
            run.heartbeat({"done": 1}, Usage(cost=1.0, seconds=2.0))
            run.heartbeat({"done": 2}, Usage(cost=2.0, seconds=3.0))
            raise KeyboardInterrupt
    (run,) = store.runs()
    assert (run.usage.cost, run.usage.seconds, run.counts) == (6.0, 9.0, {"done": 2})


def test_heartbeats_are_written_every_two_seconds_at_most(store, monkeypatch):
    with begin(store) as run:
        run.heartbeat({"done": 1}, Usage(cost=1.0))
        assert store.find("latest").counts == {}
        monkeypatch.setattr(writing, "_HEARTBEAT_EVERY", 0.0)
        run.heartbeat({"done": 2}, Usage(cost=2.0))
        written = store.find("latest")
        assert (written.status, written.counts, written.usage.cost) == ("running", {"done": 2}, 2.0)
        assert written.updated > written.started


def test_run_json_is_whole_whenever_it_is_read(store, monkeypatch):
    monkeypatch.setattr(writing, "_HEARTBEAT_EVERY", 0.0)
    with begin(store) as run:
        stop = threading.Event()

        def beat():
            while not stop.is_set():
                run.heartbeat({"done": 1}, Usage(cost=1.0))

        thread = threading.Thread(target=beat)
        thread.start()
        for _ in range(300):
            assert len(store.runs()) == 1
        stop.set()
        thread.join()
    assert store.problems == []


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), "interrupted", ""),
        (asyncio.CancelledError(), "interrupted", ""),
        (SystemExit(143), "interrupted", "143"),
        (BudgetExceeded("spent $5.00 of $5.00"), "stopped", "spent $5.00 of $5.00"),
        (ModelUnavailable("http://x: 401"), "failed", "http://x: 401"),
        (ZeroDivisionError("division\nby zero"), "failed", "ZeroDivisionError: division by zero"),
        (ValueError(), "failed", "ValueError"),
        (ExceptionGroup("tasks", [BudgetExceeded("spent")]), "stopped", "spent"),
        (BaseExceptionGroup("tasks", [asyncio.CancelledError(), ValueError("x")]), "failed", "ValueError: x"),
    ],
    ids=repr,
)
def test_how_a_block_ends_is_what_the_run_says(store, error, status, message):
    with pytest.raises(type(error)), begin(store) as run:
        run.append("completions", completion(1))
        run.heartbeat({"done": 1}, Usage(cost=0.5))
        raise error
    written = store.find("latest")
    assert (written.status, written.message, written.counts, written.usage.cost) == (status, message, {"done": 1}, 0.5)
    assert run.run == written
    assert names(run, "parts") == ["completions.parquet"]


def test_a_block_that_ends_well_is_done_and_finish_says_more(store):
    with begin(store):
        pass
    assert store.find("latest").status == "done"
    with begin(store, fresh=True) as run:
        result = run.finish("stopped", {"done": 3}, Usage(), message="sequential test decided")
    assert result == store.find("latest")
    assert (result.status, result.counts, result.message) == ("stopped", {"done": 3}, "sequential test decided")


def test_a_full_disk_is_said_so_and_what_came_before_is_kept(store, monkeypatch):
    run = begin(store)
    run.append("completions", completion(1))
    real = os.write
    monkeypatch.setattr(writing.os, "write", lambda file, line: real(file, line[: len(line) // 2]))
    with pytest.raises(UserError, match="no space left"):
        run.append("completions", completion(2))
    monkeypatch.undo()
    run.append("completions", completion(3))
    run.finish("done", {}, Usage())
    assert store.read(Completion) == [completion(1), completion(3)]
    assert store.problems == []


def test_sealing_that_fails_leaves_the_log_readable(store, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    with begin(store) as run:
        run.append("completions", completion(1))
        monkeypatch.setattr(writing.tables, "write_parquet", refuse)
        with pytest.raises(UserError, match="cannot be sealed: No space left on device; it stays readable"):
            run.finish("done", {}, Usage())
    monkeypatch.undo()
    assert store.read(Completion) == [completion(1)]
    with begin(store) as again:
        assert again.ids("completions") == {completion(1).id}
    assert names(again, "log") == []


def test_sealing_that_fails_behind_append_is_told_at_the_next_chance(store, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.tables, "write_parquet", refuse)
    with (
        pytest.raises(UserError, match="cannot be sealed: No space left on device"),
        begin(store, rows_a_part=2) as run,
    ):
        for i in range(4):
            run.append("completions", completion(i))
    assert store.read(Completion) == [completion(i) for i in range(4)]
    assert store.find("latest").status == "failed"


@pytest.mark.parametrize("moment", ["before the part", "after the part", "half a line"])
def test_a_writer_killed_while_sealing_is_tidied_by_the_next(store, tmp_path, moment):
    with begin(store) as run:
        for i in range(5):
            run.append("completions", completion(i))
        (log,) = files_of(run.folder, "completions")
        content = log.read_bytes()
        run.finish("interrupted", {}, Usage())
    (part,) = (run.folder / "parts").iterdir()
    log.write_bytes(content + (b'{"id": "torn' if moment == "half a line" else b""))
    if moment != "after the part":
        part.unlink()
    assert store.read(Completion) == [completion(i) for i in range(5)]
    with begin(store):
        assert names(run, "log") == []
        assert names(run, "parts") == ["completions.parquet"]
    assert store.read(Completion) == [completion(i) for i in range(5)]
    assert store.problems == []


def test_a_living_writers_log_is_left_alone(store):
    one = begin(store)
    one.append("completions", completion(1))
    two = begin(store)
    assert names(two, "log") == ["completions.jsonl"]
    one.append("completions", completion(2))
    two.finish("done", {}, Usage())
    one.append("completions", completion(3))
    assert len(store.read(Completion)) == 3
    one.finish("done", {}, Usage())
    assert len(store.read(Completion)) == 3


def test_a_log_taken_for_dead_as_it_was_born_is_opened_anew(store, monkeypatch):
    run = begin(store)
    real, taken = writing.fcntl.flock, []

    def steal(file, how):
        if not taken:
            taken.append(file)
            (log,) = (run.folder / "log").iterdir()
            log.unlink()
        real(file, how)

    monkeypatch.setattr(writing.fcntl, "flock", steal)
    run.append("completions", completion(1))
    assert store.read(Completion) == [completion(1)]


def test_threads_may_share_a_writer(store):
    with begin(store, rows_a_part=25) as run:
        threads = [
            threading.Thread(
                target=lambda k=k: [run.append("completions", completion(k * 100 + i)) for i in range(100)]
            )
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(store.read(Completion)) == 400


def test_judgments_of_a_large_run_come_back_as_they_went(store):
    sent = [
        Judgment.of(prompt_id=f"p{i % 7}", completion_ids=("a", "b"), judge="j", scores=(0.25, 0.75), repeat=i)
        for i in range(3000)
    ]
    with begin(store, rows_a_part=1000) as run:
        for judgment in sent:
            run.append("judgments", judgment)
    assert store.read(Judgment) == sent
