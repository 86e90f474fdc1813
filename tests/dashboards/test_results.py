"""Leaderboard, Compare and Head-to-head: their numbers are the command line's, and a planted truth is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboards.data import results
from dashboards.data.state import Nothing, state, unfinished
from rlhf_eval.cli import main
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, Prompt, Usage
from rlhf_eval.store.runs import Store


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def league(path: Path, strength: dict[str, float], *, prompts: int = 60, seed: int = 0) -> Store:
    """Everybody meets everybody in both orders; who wins is drawn by Bradley and Terry's law."""
    rng = np.random.default_rng(seed)
    store = Store(path)
    names = list(strength)
    with store.begin("judge", {"seed": seed}, inputs={}, seed=0, versions={}) as run:
        for k in range(prompts):
            prompt = Prompt.of(f"Question {k}?", category="even" if k % 2 == 0 else "odd")
            run.append("prompts", prompt)
            answers = [Completion.of(prompt_id=prompt.id, model=name, text=f"{name} {k}") for name in names]
            for answer in answers:
                run.append("completions", answer)
            for i, a in enumerate(answers):
                for b in answers[i + 1 :]:
                    won = float(rng.random() < 1 / (1 + np.exp(strength[b.model] - strength[a.model])))
                    for order in ((0, 1), (1, 0)):
                        verdict = Judgment.of(
                            prompt_id=prompt.id, completion_ids=(a.id, b.id), judge="j", order=order, scores=(won, 1 - won)
                        )  # fmt: skip
                        run.append("judgments", verdict)
        run.finish("done", {"done": prompts}, Usage())
    return store


def test_the_board_of_the_page_is_the_board_of_the_command(full: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = results.met(full.store)
    rows = printed(capsys, "leaderboard", "--store", str(full.store.path))
    shown = {}
    for judge in results.judges(found):
        for baseline in results.baselines(found, judge):
            board = results.board(found, judge, baseline)
            for row, behind in zip(board.rows, board.behind, strict=True):
                key = (judge, baseline, str(row.settings["model"]))
                shown[key] = (row.value, row.low, row.high, row.n, row.failed, behind.p_holm)
    said = {
        (r["settings"]["judge"], r["settings"]["baseline"], r["settings"]["model"]): (
            r["value"], r["low"], r["high"], r["n"], r["failed"], r["p_holm"],
        )
        for r in rows
    }  # fmt: skip
    assert shown == said
    assert len(shown) > 1


def test_a_category_of_the_page_is_a_category_of_the_command(full: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows = printed(capsys, "leaderboard", "--by", "category", "--store", str(full.store.path))
    found, known = results.met(full.store), results.prompt_categories(full.store)
    assert set(known) == {"maths", "lists"}
    for row in rows:
        about = row["settings"]
        board = results.board(found, about["judge"], about["baseline"], known[row["category"]])
        mine = next(r for r in board.rows if r.settings["model"] == about["model"])
        assert (mine.value, mine.low, mine.high, mine.n) == (row["value"], row["low"], row["high"], row["n"])


def test_a_comparison_of_the_page_is_that_of_the_command(full: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found, known = results.met(full.store), results.prompt_categories(full.store)
    judge = results.judges(found)[0]
    rows = printed(capsys, "compare", "new", "old", "--by", "category", "--store", str(full.store.path))
    duels = results.compared(full.store, found, judge, "new", "old", known)
    assert [(d.category, d.estimate.value, d.estimate.low, d.estimate.high, d.better, d.worse) for d in duels] == [
        (r["category"], r["value"], r["low"], r["high"], r["better"], r["worse"]) for r in rows
    ]
    assert [list(d.flipped) for d in duels] == [r["flipped"] for r in rows]
    assert set(results.prompt_texts(full.store, duels[0].flipped)) == set(duels[0].flipped)


def test_mean_grades_of_the_page_are_those_of_the_command(full: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows = printed(capsys, "leaderboard", "--grades", "--by", "category", "--store", str(full.store.path))
    found, known = results.graded_answers(full.store), results.prompt_categories(full.store)
    assert results.graders(found)[-1] == "gold", "what others are measured by comes last"
    assert {row["settings"]["judge"] for row in rows} == set(results.graders(found))
    for row in rows:
        about = row["settings"]
        board = results.grade_board(found, about["judge"], prompts=known[row["part"]])
        place = next(n for n, r in enumerate(board.rows) if r.settings["model"] == about["model"])
        mine, behind = board.rows[place], board.behind[place]
        assert (mine.value, mine.low, mine.high, mine.n) == (row["value"], row["low"], row["high"], row["n"])
        assert behind.p_holm == row["p_holm"]


def test_one_run_of_the_page_is_one_run_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = league(tmp_path / "store", {"a": 0.5, "b": 0.0}, prompts=20)
    league(store.path, {"a": -2.0, "b": 0.0}, prompts=30, seed=1)
    shown = set()
    for run in results.runs_with_judgments(store):
        flags = ["--run", run[-8:], "--store", str(store.path)]
        found = results.met(store, run=run)
        (row,) = printed(capsys, "leaderboard", *flags)
        mine = results.board(found, "j", "b").rows[0]
        assert (mine.value, mine.n) == (row["value"], row["n"])
        (told,) = printed(capsys, "compare", "a", "b", *flags)
        (duel,) = results.compared(store, found, "j", "a", "b", {})
        assert (duel.estimate.value, duel.estimate.n) == (told["value"], told["n"])
        shown.add(row["n"])
    assert shown == {20, 30}
    assert results.met(store)[0].share.shape == (30,), "the two runs share 20 prompts"


def test_strengths_and_ranks_recover_a_planted_order(tmp_path: Path) -> None:
    truth = {"strong": 1.2, "middle": 0.0, "weak": -1.2}
    played = results.tournament(results.met(league(tmp_path / "store", truth, prompts=150)), "j")
    assert played.models == ("strong", "middle", "weak")
    for name, strength in zip(played.models, played.strengths, strict=True):
        assert strength.low < truth[name] < strength.high
    assert played.ranks == ((1, 1), (2, 2), (3, 3))
    assert (played.cycles, played.triples) == (0, 1)
    assert len(played.cells) == 6
    for cell in played.cells:
        expected = 1 / (1 + np.exp(truth[cell.opponent] - truth[cell.model]))
        assert cell.low < expected < cell.high
        assert cell.low <= cell.expected <= cell.high


def test_a_circle_is_counted(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.begin("judge", {}, inputs={}, seed=0, versions={}) as run:
        for k in range(5):
            prompt = Prompt.of(f"Question {k}?")
            a, b, c = (Completion.of(prompt_id=prompt.id, model=name, text=name) for name in "abc")
            for record in (a, b, c):
                run.append("completions", record)
            for one, other in ((a, b), (b, c), (c, a)):
                verdict = Judgment.of(
                    prompt_id=prompt.id, completion_ids=(one.id, other.id), judge="j", scores=(1.0, 0.0)
                )
                run.append("judgments", verdict)
        run.finish("done", {}, Usage())
    played = results.tournament(results.met(store), "j")
    assert (played.cycles, played.triples) == (1, 1)


def test_who_is_compared_unless_others_are_named(tmp_path: Path) -> None:
    store = league(tmp_path / "store", {"best": 2.0, "second": 0.5, "base": -1.0}, prompts=40)
    found = results.met(store)
    assert results.default_pair(found, "j")[0] == "best"
    assert set(results.models(found, "j")) == {"best", "second", "base"}


def test_the_judge_on_the_board_carries_its_card(full: Any, planted: Any) -> None:
    assert "flip with the order" in results.badge(full.store, planted.JUDGE)
    assert "measured by" in results.badge(full.store, "gold")
    assert "never measured" in results.badge(full.store, "somebody")


def test_an_empty_store_says_what_fills_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(UserError, match="no store here"):
        results.met(store)
    with store.begin("load", {}, inputs={}, seed=0, versions={}) as run:
        run.append("prompts", Prompt.of("Question?"))
        run.finish("done", {"prompts": 1}, Usage())
    with pytest.raises(Nothing, match="no comparison") as caught:
        results.met(store)
    assert caught.value.command.startswith("rlhf-eval evaluate")


def test_the_state_changes_with_every_write_and_only_then(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    states = [state(store)]
    with store.begin("load", {}, inputs={}, seed=0, versions={}) as run:
        states.append(state(store))
        assert [u.run.id for u in unfinished(store)] == [run.run.id]
        run.finish("interrupted", {"total": 10, "done": 4}, Usage())
    states.append(state(store))
    assert [(u.done, u.total) for u in unfinished(store)] == [(4, 10)]
    store.labels_folder.mkdir(parents=True)
    (store.labels_folder / "ada.jsonl").write_text("{}\n")
    states.append(state(store))
    assert len(set(states)) == len(states)
    assert state(store) == states[-1]
