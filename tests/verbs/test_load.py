"""Loading: once, whole, resumable, and known by its content."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, Prompt, Usage
from rlhf_eval.verbs.load import load, provenance


def test_the_same_file_is_loaded_once_whatever_its_folder(world: Any) -> None:
    first = world.load(5)
    again = world.load(5)
    moved = world.home / "elsewhere"
    moved.mkdir()
    (world.home / "prompts.jsonl").rename(moved / "prompts.jsonl")
    third = world.do(lambda s: load(s, {"source": "jsonl", "path": str(moved / "prompts.jsonl")}))
    assert (first.resumed, again.resumed, third.resumed) == (False, True, True)
    assert first.run.id == again.run.id == third.run.id
    assert dict(first.run.counts) == {"prompts": 5}


def test_another_content_is_another_run(world: Any) -> None:
    assert world.load(5).run.id != world.load(6).run.id
    runs = world.session().store.runs("load")
    assert [dict(run.counts) for run in runs] == [{"prompts": 5}, {"prompts": 6}]


def test_a_load_that_was_killed_goes_on(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf_eval.store.writer import RunWriter

    append = RunWriter.append

    def failing(self: RunWriter, table: str, record: Any) -> None:
        if len(self.ids(table)) == 3:
            raise KeyboardInterrupt
        append(self, table, record)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunWriter, "append", failing)
        world.load(5)
    (run,) = world.session().store.runs()
    assert run.status == "interrupted"
    result = world.load(5)
    assert (result.run.id, result.run.status, result.resumed) == (run.id, "done", False)
    assert len(world.session().store.read(Prompt)) == 5


def test_a_limit_keeps_what_belongs_to_the_first_prompts(world: Any) -> None:
    path = world.prompts(8)
    result = world.do(lambda s: load(s, {"source": "jsonl", "path": str(path)}), limit=3)
    assert [p.text for p in world.session().store.read(Prompt, run=result.run.id)] == [
        f"Question {k}?" for k in range(3)
    ]


def test_the_sandbox_gives_prompts_of_a_split_and_a_seed(world: Any) -> None:
    sandbox = {"source": "sandbox", "split": "train"}
    one, two = (world.do(lambda s: load(s, sandbox), limit=6, seed=seed) for seed in (0, 1))
    store = world.session().store
    first, second = ({p.id for p in store.read(Prompt, run=result.run.id)} for result in (one, two))
    assert len(first) == len(second) == 6
    assert first != second
    assert all(p.source == "sandbox:train" for p in store.read(Prompt))


def test_loading_is_free(world: Any) -> None:
    assert world.load().run.usage == Usage()


def test_a_wrong_source_leaves_no_store_behind(world: Any) -> None:
    for table in (
        {"source": "jsonl", "path": "none.jsonl"},
        {"source": "jsnol", "path": "x"},
        {"source": "jsonl", "pth": "x"},
    ):
        with pytest.raises(UserError):
            world.do(lambda s, table=table: load(s, table))
    assert not (world.home / "store").exists()


@pytest.mark.groundtruth
def test_a_peers_judgments_come_with_their_answers(world: Any, groundtruth: Any) -> None:
    result = world.do(lambda s: load(s, {"source": "alpaca_eval", "path": str(groundtruth / "alpaca_eval")}))
    store = world.session().store
    assert result.run.counts["prompts"] == 805
    known = {c.id for c in store.records(Completion)}
    assert all(set(j.completion_ids) <= known for j in store.records(Judgment))


def test_a_run_keeps_the_hash_of_every_file_and_the_revision_of_a_checkout(world: Any) -> None:
    path = world.home / "prompts.jsonl"
    run = world.load(5).run
    assert run.config["files"] == {"prompts.jsonl": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert "revision" not in run.config

    commit = "0123456789abcdef0123456789abcdef01234567"
    git = world.home / "checkout" / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert provenance(git.parent, {}) == {}
    (git / "packed-refs").write_text(f"# pack-refs\n{commit} refs/heads/main\n")
    assert provenance(git.parent, {}) == {"revision": commit}
    (git / "refs" / "heads" / "main").write_text(f"{commit[::-1]}\n")
    assert provenance(git.parent, {}) == {"revision": commit[::-1]}
    (git / "HEAD").write_text(f"{commit}\n")
    assert provenance(git.parent, {}) == {"revision": commit}
    assert provenance(world.home / "hub" / "snapshots" / commit / "data" / "x.parquet", {}) == {"revision": commit}
    assert provenance(world.home / "snapshots" / "notes.txt", {}) == {}
    assert provenance(path, {str(n): "h" for n in range(30)})["files"]["count"] == 30
