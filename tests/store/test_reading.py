"""Reading: torn and broken lines, spoilt parts, and files that move while they are read."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Usage
from rlhf_eval.store import reading
from rlhf_eval.store.reading import Snapshot, _surely_unique, files_of
from rlhf_eval.store.runs import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def begin(store, **more):
    return store.begin("generate", {"n": 1}, inputs={}, seed=0, versions={}, **more)


def completion(i):
    return Completion.of(prompt_id=str(i), model="m", text=f"answer {i}")


def test_a_torn_last_line_at_any_byte_costs_only_itself(store):
    run = begin(store)
    for i in range(3):
        run.append("completions", completion(i))
    (log,) = files_of(run.folder, "completions")
    content = log.read_bytes()
    ends = [k + 1 for k, byte in enumerate(content) if byte == 10]
    for cut in range(len(content)):
        log.write_bytes(content[:cut])
        assert reading.read_log(log) == ([completion(i) for i in range(sum(end <= cut for end in ends))], [])
    assert store.read(Completion) == [completion(0), completion(1)]
    assert store.problems == []


def test_a_broken_inner_line_is_named_and_kept_for_inspection(store):
    run = begin(store)
    for i in range(3):
        run.append("completions", completion(i))
    (log,) = files_of(run.folder, "completions")
    lines = log.read_bytes().split(b"\n")
    log.write_bytes(b"\n".join([lines[0], b'{"id": 5}', lines[2], b""]))
    expected = [completion(0), completion(2)]
    assert store.read(Completion) == expected
    assert store.sql("SELECT count(*) AS n FROM completions").to_pylist() == [{"n": 2}]
    (problem,) = store.problems
    assert f"{log}:2: skipped a broken line" in problem
    run.finish("done", {}, Usage())
    assert store.read(Completion) == expected
    assert log.with_suffix(".bad").read_bytes().split(b"\n")[1] == b'{"id": 5}'
    assert "held broken lines" in store.problems[-1]


def test_an_unreadable_part_is_named_and_the_rest_is_read(store):
    with begin(store, rows_a_part=2) as run:
        for i in range(6):
            run.append("completions", completion(i))
    parts = files_of(run.folder, "completions")
    parts[1].write_bytes(b"PAR1 this is not what it says PAR1")
    expected = [completion(i) for i in (0, 1, 4, 5)]
    assert store.read(Completion) == expected
    assert store.sql("SELECT count(*) AS n FROM completions").to_pylist() == [{"n": 4}]
    (problem,) = store.problems
    assert f"{parts[1]}: skipped, not a readable part" in problem


def test_a_part_in_which_bits_have_turned_is_refused_and_not_believed(store):
    with begin(store) as run:
        for i in range(200):
            run.append("completions", completion(i))
    (part,) = files_of(run.folder, "completions")
    group = pq.ParquetFile(part).metadata.row_group(0)
    (texts,) = (group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == "text")
    content = bytearray(part.read_bytes())
    content[texts.data_page_offset + texts.total_compressed_size // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(UserError, match=rf"{part.name}: damaged \(.*\); put back a copy of it, or remove the run"):
        store.read(Completion)


def test_a_log_sealed_between_listing_and_reading_is_found_again(store, monkeypatch):
    run = begin(store)
    for i in range(4):
        run.append("completions", completion(i))
    real, calls = reading.read_log, []

    def seal_first(path):
        if not calls:
            calls.append(path)
            run.finish("done", {}, Usage())
        return real(path)

    monkeypatch.setattr(reading, "read_log", seal_first)
    snapshot = Snapshot(Completion, [run.folder], report=pytest.fail)
    assert list(snapshot.records()) == [completion(i) for i in range(4)]
    assert calls


def test_a_run_removed_while_it_is_read_is_said_so(store):
    with begin(store, rows_a_part=2) as run:
        for i in range(6):
            run.append("completions", completion(i))
    records = store.records(Completion, run.run.id)
    assert next(records) == completion(0)
    store.remove(run.run.id)
    with pytest.raises(UserError, match="compacted or removed while it was being read; read again"):
        list(records)


def test_parts_and_logs_of_two_writers_come_in_order_of_writing(store):
    one = begin(store, rows_a_part=2)
    for i in range(5):
        one.append("completions", completion(i))
    one.finish("interrupted", {}, Usage())
    two = begin(store, rows_a_part=2)
    for i in range(5, 8):
        two.append("completions", completion(i))
    assert [c.prompt_id for c in store.read(Completion)] == [str(i) for i in range(8)]


@pytest.mark.parametrize("ids", [["a" * 20, "b" * 20], [f"{n:020d}" for n in range(50)], []])
def test_ids_are_known_to_be_unique(ids):
    assert _surely_unique(pa.chunked_array([ids[:1], ids[1:]], pa.string()))


@pytest.mark.parametrize("ids", [["a" * 20, "b" * 20, "a" * 20], ["short", "other"]])
def test_a_repeat_is_never_overlooked(ids):
    assert not _surely_unique(pa.chunked_array([ids[:1], ids[1:]], pa.string()))
