"""Labels' data: a blind queue that stays as it is, answers that count once, and numbers equal to the command line's."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dashboards.data import labels
from dashboards.data.state import Nothing
from rlhf_eval import cli
from rlhf_eval.interop import human
from rlhf_eval.records import Judgment


@pytest.fixture
def world(planted: ModuleType, tmp_path: Path) -> Any:
    """Comparisons of two models with gold, and nobody's label."""
    return planted.comparisons(tmp_path / "store")


def better(world: Any, question: labels.Question) -> labels.Choice:
    """What somebody says who knows the planted quality."""
    return "a" if world.gold[question.ids[0]] > world.gold[question.ids[1]] else "b"


def label(world: Any, count: int, person: str = "ada") -> list[labels.Question]:
    """The first ``count`` questions of the queue, answered truly."""
    queue = labels.questions(world.store, world.runs["judge"], person)
    for question in queue[:count]:
        labels.save(world.store, question, better(world, question), person=person)
    return queue


def test_the_runs_with_comparisons_are_offered(world: Any, planted: ModuleType, full: Any) -> None:
    (source,) = labels.sources(world.store)
    assert (source.run, source.judges, source.comparisons) == (world.runs["judge"], (planted.JUDGE,), 80)
    assert full.runs["audit"] not in [s.run for s in labels.sources(full.store)]


def test_the_queue_is_blind_whole_and_stays_as_it_is(world: Any) -> None:
    run = world.runs["judge"]
    queue = labels.questions(world.store, run, "ada")
    assert len({q.id for q in queue}) == len(queue) == 40
    assert all(0 < q.chance <= 1 for q in queue)
    label(world, 5)
    assert labels.questions(world.store, run, "ada") == queue
    shown = json.dumps([(q.a, q.b, [turn.content for turn in q.prompt]) for q in queue])
    assert "new" not in shown and "old" not in shown
    first = {c.id for c in world.answers["new"]}
    left = sum(q.ids[0] in first for q in queue)
    assert 10 <= left <= 30
    other = {q.id: q.ids for q in labels.questions(world.store, run, "bob")}
    assert any(other[q.id] != q.ids for q in queue) and [q.id for q in queue] == list(other)


def test_an_answer_is_on_disk_and_the_last_one_counts(world: Any) -> None:
    queue = labels.questions(world.store, world.runs["judge"], "ada")
    path = labels.save(world.store, queue[0], "a", person="ada", comment="clearer")
    labels.save(world.store, queue[1], "both_bad", person="ada")
    labels.save(world.store, queue[0], "tie", person="ada")
    assert labels.answered(world.store, "ada") == {queue[0].ids: "tie", queue[1].ids: "both_bad"}
    assert labels.answered(world.store, "bob") == {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["choice"] for row in rows] == ["a", "both_bad", "tie"]
    assert rows[0]["labeler"] == "ada" and rows[0]["comment"] == "clearer" and rows[0]["time"].startswith("20")
    told = human.read(path).judgments
    assert {j.judge for j in told} == {"human/ada"} and all(j.scores == (0.5, 0.5) for j in told)


def test_a_broken_line_is_left_out_and_named(world: Any) -> None:
    label(world, 4)
    path = world.store.labels_folder / "ada.jsonl"
    with path.open("a") as file:
        file.write('{"id": "x", "choice": "maybe", "labeler": "ada"}\n{"half": \n')
    told, problems = labels.said_by_people(world.store)
    assert len(told) == 4 and len(problems) == 2
    assert any("the choice is 'maybe'" in problem for problem in problems)
    assert labels.standing(world.store, world.runs["judge"]).labels == 4


def test_labels_correct_the_win_rate_as_the_command_does(
    world: Any, planted: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    run = world.runs["judge"]
    assert "nobody has labelled" in labels.standing(world.store, run).why_not
    label(world, 2)
    assert "too few to correct by" in labels.standing(world.store, run).why_not
    label(world, 25)
    found = labels.standing(world.store, run, planted.JUDGE)
    (estimate,) = found.estimates
    assert found.people == {"ada": 25} and not found.why_not and estimate.settings["labelled"] == 25
    path = str(world.store.labels_folder / "ada.jsonl")
    asked = ["evaluate", "winrate", "--judgments", run, "--human", path, "--store", str(world.store.path), "--json"]
    assert cli.main(asked) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    theirs = next(e for e in done["estimates"] if e["name"] == "win_rate_human")
    assert [theirs[k] for k in ("value", "low", "high", "n")] == [
        estimate.value, estimate.low, estimate.high, estimate.n,
    ]  # fmt: skip
    agreement = next(f for f in found.findings if f.name == "agreement.human")
    assert agreement.estimate is not None and 5 <= agreement.estimate.n <= 25
    assert agreement.estimate.value > 0.6


def test_two_people_are_held_against_each_other(world: Any) -> None:
    label(world, 20, "ada")
    label(world, 20, "bob")
    found = labels.standing(world.store, world.runs["judge"])
    ceiling = next(f for f in found.findings if f.name == "ceiling.human")
    assert ceiling.estimate is not None and ceiling.estimate.value == 1.0 and ceiling.estimate.n == 20
    assert found.people == {"ada": 20, "bob": 20}


def test_everybodys_labels_correct_together(
    world: Any, planted: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = world.runs["judge"], str(world.store.labels_folder)
    asked = ["evaluate", "winrate", "--judgments", run, "--human", folder, "--store", str(world.store.path), "--json"]
    world.store.labels_folder.mkdir()
    assert cli.main(asked) == 2 and "nobody has labelled here yet" in capsys.readouterr().err
    label(world, 12, "ada")
    label(world, 20, "bob")
    assert cli.main(asked) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    theirs = next(e for e in done["estimates"] if e["name"] == "win_rate_human")
    (ours,) = labels.standing(world.store, run, planted.JUDGE).estimates
    assert theirs["settings"]["labelled"] == 20
    assert [theirs[k] for k in ("value", "low", "high")] == [ours.value, ours.low, ours.high]


def test_labels_enter_the_store_by_load(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    label(world, 10)
    path = str(world.store.labels_folder / "ada.jsonl")
    assert cli.main(["load", "human", path, "--store", str(world.store.path), "-q"]) == 0
    told = [j for j in world.store.read(Judgment) if j.judge == "human/ada"]
    assert len(told) == 10 and "10 judgments" in capsys.readouterr().out


def test_without_comparisons_the_command_is_named(planted: ModuleType, tmp_path: Path) -> None:
    world = planted.Planted(planted.Store(tmp_path / "store"))
    world.put("load", "load", {})
    with pytest.raises(Nothing) as caught:
        labels.sources(world.store)
    assert caught.value.command.startswith("rlhf-eval judge")
