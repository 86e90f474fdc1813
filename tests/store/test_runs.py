"""Runs: the same work finds its own run, names find runs, and every refusal says why."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
import yaml

from rlhf_eval.errors import UserError
from rlhf_eval.records import SCHEMA, Completion, Judgment, Prompt, Usage
from rlhf_eval.store import manifest
from rlhf_eval.store.runs import Store

CONFIG = {"judge": {"name": "pairwise", "temperature": 0.0}, "tags": ("a", "b")}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "a store's [odd] name")


def begin(store, verb="judge", config=CONFIG, seed=0, inputs=None, **more):
    return store.begin(verb, config, inputs=inputs or {}, seed=seed, versions={"rlhf-eval": "0.1.0"}, **more)


def finished(store, **more):
    with begin(store, **more) as run:
        run.finish("done", {"n": 1}, Usage())
    return run.run


def completion(i, **more):
    return Completion.of(prompt_id=f"p{i:03}", model="m", text=f"answer {i}", **more)


def test_a_new_run_is_written_before_any_work(store):
    run = begin(store, inputs={"completions": "abc"}, seed=7)
    assert run.run.status == "running"
    assert run.folder.parent == store.path / "runs"
    row = msgspec.json.decode((run.folder / "run.json").read_bytes())
    assert (row["id"], row["verb"], row["seed"], row["schema"]) == (run.folder.name, "judge", 7, SCHEMA)
    assert row["inputs"] == {"completions": "abc"}
    assert row["started"].endswith("+00:00")
    assert yaml.safe_load((run.folder / "config.yaml").read_text()) == {**CONFIG, "tags": ["a", "b"]}
    assert store.runs() == [run.run]


def test_the_same_work_resumes_its_run(store):
    with pytest.raises(ZeroDivisionError), begin(store) as run:
        run.append("completions", completion(1))
        raise ZeroDivisionError
    assert store.find("latest").status == "failed"
    again = begin(store)
    assert again.folder == run.folder
    assert again.run.status == "running"
    assert again.run.message == ""
    assert again.run.started == run.run.started
    assert again.ids("completions") == {completion(1).id}
    assert store.find("latest").status == "running"


@pytest.mark.parametrize(
    "change",
    [{"verb": "generate"}, {"config": {"judge": 1}}, {"seed": 1}, {"inputs": {"x": "y"}}, {"fresh": True}],
    ids=lambda change: next(iter(change)),
)
def test_other_work_is_another_run(store, change):
    first = begin(store)
    other = begin(store, **change)
    assert other.folder != first.folder
    assert len(store.runs()) == 2


def test_a_done_run_comes_back_as_it_is_and_takes_nothing_more(store):
    done = finished(store)
    before = (store.folder(done.id) / "run.json").read_bytes()
    with begin(store) as run:
        assert run.run == done
        with pytest.raises(RuntimeError, match="nothing can be added"):
            run.append("completions", completion(1))
        run.finish("failed", {}, Usage())
    assert (store.folder(done.id) / "run.json").read_bytes() == before


def test_fresh_runs_of_one_second_are_distinct_and_the_newest_is_resumed(store):
    folders = [begin(store, fresh=True).folder for _ in range(4)]
    assert len(set(folders)) == 4
    assert folders == sorted(folders)
    assert begin(store).folder == folders[-1]


def test_a_run_of_the_same_short_hash_but_other_work_is_not_resumed(store):
    run = begin(store)
    row = msgspec.json.decode((run.folder / "run.json").read_bytes())
    row["seed"] = 99
    (run.folder / "run.json").write_bytes(msgspec.json.encode(row))
    assert begin(store).folder != run.folder


def test_leftovers_of_a_killed_begin_are_no_runs_and_go(store):
    finished(store)
    (store.path / "runs" / ".new-20260101T000000-judge-00000000").mkdir()
    assert len(store.runs()) == 1
    begin(store, fresh=True)
    assert not list((store.path / "runs").glob(".new-*"))


def test_runs_are_listed_oldest_first_and_by_verb(store):
    one = finished(store, verb="generate")
    two, three = finished(store, seed=1), finished(store, seed=1, fresh=True)
    assert {run.id for run in store.runs()} == {one.id, two.id, three.id}
    assert [run.id for run in store.runs("judge")] == [two.id, three.id]
    assert [run.id for run in store.runs()] == sorted(run.id for run in store.runs())
    assert store.runs("train") == []


def test_names_that_find_a_run(store):
    generated, judged = finished(store, verb="generate"), finished(store, verb="judge")
    newest = max(generated.id, judged.id)
    digits = judged.id.rpartition("-")[2]
    assert store.find(judged.id) == judged
    assert store.find(digits) == store.find(digits[:4]) == judged
    assert store.find("latest").id == newest
    assert store.find("latest:generate") == generated


@pytest.mark.parametrize("ref", ["latest:train", "0000", "abc", "", "20200101T000000-judge-00000000", "../.."])
def test_names_that_find_nothing_are_answered_with_the_nearest(store, ref):
    done = finished(store)
    with pytest.raises(UserError, match=rf"no run '{ref}' in .*{done.id}"):
        store.find(ref)


def test_a_misspelt_verb_is_recognised(store):
    generated = finished(store, verb="generate")
    finished(store, verb="judge")
    with pytest.raises(UserError, match=rf"Nearest: {generated.id}\."):
        store.find("latest:genrate")


def test_a_prefix_of_two_hashes_is_ambiguous(store):
    one, two = finished(store, seed=1), finished(store, seed=2)
    for run, digits in ((one, "abcd0001"), (two, "abcd0002")):
        store.folder(run.id).rename(store.folder(f"{run.id.rpartition('-')[0]}-{digits}"))
    with pytest.raises(UserError, match=r"'abcd' is the start of several runs: .*abcd0001, .*abcd0002"):
        store.find("abcd")
    assert store.find("abcd0002").seed == 2


def test_a_broken_run_is_named_and_the_others_are_listed(store):
    good, bad = finished(store, seed=1), finished(store, seed=2)
    (store.folder(bad.id) / "run.json").write_text('{"id": "x')
    assert store.runs() == [good]
    store.runs()
    (problem,) = store.problems
    assert f"{bad.id}/run.json: not valid JSON" in problem
    (store.folder(bad.id) / "run.json").unlink()
    assert store.runs() == [good]
    assert "No such file" in store.problems[-1]


def test_a_newer_schema_is_refused_by_name(store):
    run = finished(store)
    path = store.folder(run.id) / "run.json"
    path.write_bytes(
        path.read_bytes().replace(
            f'"schema": {SCHEMA}'.encode(), b'"schema": 99, "unheard_of": 1'.replace(b"1", b"true")
        )
    )
    for read in (store.runs, lambda: store.find(run.id), lambda: begin(store), lambda: store.read(Prompt)):
        with pytest.raises(UserError, match=rf"{run.id}: written with schema 99, .* knows {SCHEMA}; upgrade rlhf-eval"):
            read()


def test_no_store_is_said_so_and_nothing_is_made(tmp_path):
    store = Store(tmp_path / "none")
    for read in (
        store.runs,
        lambda: store.find("latest"),
        lambda: store.read(Prompt),
        lambda: store.sql("SELECT 1"),
    ):
        with pytest.raises(UserError, match="no store here"):
            read()
    assert not store.path.exists()


def test_a_file_where_a_folder_is_wanted(tmp_path):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file")
    with pytest.raises(UserError, match="no run can be kept here"):
        begin(store)
    with pytest.raises(UserError, match="cannot be read"):
        store.runs()


@pytest.fixture
def closed():
    """A folder that this process may read and not write, whoever runs it: root may write anywhere and acts as nobody."""
    root = os.geteuid() == 0
    with TemporaryDirectory() as folder:  # not below ``tmp_path``, which nobody else may enter
        Path(folder).chmod(0o555)
        if root:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)


def test_a_folder_without_permission(closed):
    with pytest.raises(UserError, match="no run can be kept here: Permission denied"):
        begin(Store(closed / "store"))


def test_a_verb_must_be_a_name(store):
    for verb in ("Judge", "a-b", "../x", ""):
        with pytest.raises(UserError, match="cannot name a run"):
            begin(store, verb=verb)


def test_remove_takes_one_run_and_leaves_the_rest(store):
    keep, go = finished(store, seed=1), finished(store, seed=2)
    assert store.remove(go.id) == go
    assert store.runs() == [keep]
    assert [path.name for path in (store.path / "runs").glob("[!.]*")] == [keep.id]


def test_a_run_that_is_being_written_is_not_removed(store):
    with begin(store) as run:
        run.metric({"step": 1})  # a training keeps no other record until it ends
        with pytest.raises(UserError, match="is being written"):
            store.remove("latest")
    store.remove("latest")
    assert store.runs() == []


def test_what_a_killed_remove_left_goes_with_the_next_run(store):
    store.folder(finished(store, seed=1).id).rename(store.path / "runs" / ".removed-20260101T000000-judge-00000000")
    begin(store)
    assert not list((store.path / "runs").glob(".removed-*"))


def test_a_run_that_needs_its_process_alone_takes_no_second_writer(store, monkeypatch):
    monkeypatch.setattr(manifest, "_PATIENCE", 0.0)
    with begin(store, alone=True):
        for alone in (True, False):
            with pytest.raises(UserError, match="is being written by another process; wait for it or stop it"):
                begin(store, alone=alone)
        assert store.find("latest").status == "running"
    assert store.find("latest").status == "done"
    with begin(store, fresh=True), pytest.raises(UserError, match="is being written"):
        begin(store, alone=True)


def test_reading_some_runs_or_all_with_each_id_once(store):
    with begin(store, seed=1) as one:
        one.append("completions", completion(1))
        one.append("completions", completion(2))
    with begin(store, seed=2) as two:
        two.append("completions", completion(2))
        two.append("completions", completion(3))
    assert store.read(Completion, run=one.run.id) == [completion(1), completion(2)]
    assert {c.prompt_id for c in store.read(Completion)} == {"p001", "p002", "p003"}
    assert len(store.read(Completion)) == 3
    assert len(store.read(Completion, run=[one.run.id, two.run.id, one.run.id])) == 3
    assert store.read(Judgment) == []
    assert next(store.records(Completion, run=two.run.id)) == completion(2)


def test_metrics_keep_what_is_not_finite(store):
    with begin(store, verb="train") as run:
        run.metric({"step": 1, "loss": 0.5})
        run.metric({"step": 2, "loss": float("nan"), "kl": float("inf"), "note": "spike"})
    first, second = store.metrics("latest")
    assert first == {"step": 1, "loss": 0.5}
    assert second["loss"] != second["loss"]
    assert (second["kl"], second["note"]) == (float("inf"), "spike")
    assert store.metrics(finished(store).id) == []


def test_a_torn_metric_line_spoils_no_later_one(store):
    with begin(store, verb="train") as run:
        run.metric({"step": 1})
    path = Path(run.folder / "metrics.jsonl")
    path.write_bytes(path.read_bytes() + b'{"step": 2, "lo')
    with begin(store, verb="train", fresh=False) as resumed:
        assert resumed.run.status == "done"
    assert store.metrics("latest") == [{"step": 1}]
    row = msgspec.json.decode((run.folder / "run.json").read_bytes())
    (run.folder / "run.json").write_bytes(msgspec.json.encode({**row, "status": "interrupted"}))
    with begin(store, verb="train") as resumed:
        resumed.metric({"step": 3})
    assert store.metrics("latest") == [{"step": 1}, {"step": 3}]
    assert "metrics.jsonl:2: skipped a broken line" in store.problems[0]


def test_places_beside_the_runs(store):
    assert store.cache_path == store.path / "cache" / "responses.sqlite"
    assert store.labels_folder == store.path / "labels"
