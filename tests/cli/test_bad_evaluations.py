"""Evaluations that cannot say anything say so: a clear message each, and no number dressed up as one."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.records import Completion, Estimate, Judgment, Prompt, Usage

Met = tuple[str, str, float | None]


def judged(cli: Any, games: dict[int, list[Met]]) -> None:
    """Comparisons by judge j: prompt to (model, opponent, the model's share; None is unreadable)."""
    with cli.store.begin("judge", {"planted": len(games)}, inputs={}, seed=0, versions={}, fresh=True) as run:
        for number, met in games.items():
            prompt = Prompt.of(f"question {number}")
            run.append("prompts", prompt)
            names = dict.fromkeys(itertools.chain.from_iterable(pair[:2] for pair in met))
            answers = {m: Completion.of(prompt_id=prompt.id, model=m, text=f"{m} {number}") for m in names}
            for answer in answers.values():
                run.append("completions", answer)
            for model, opponent, share in met:
                ids = answers[model].id, answers[opponent].id
                scores = () if share is None else (share, 1 - share)
                error = "unparsed: no verdict" if share is None else None
                made = Judgment.of(prompt_id=prompt.id, completion_ids=ids, judge="j", scores=scores, error=error)
                run.append("judgments", made)
        run.finish("done", {"judgments": len(games)}, Usage())


def test_no_prompt_in_common(cli: Any) -> None:
    judged(cli, {n: [("a" if n < 5 else "b", "base", float(n % 2))] for n in range(10)})
    ended = cli("compare", "a", "b")
    assert ended.code == 2
    assert "'a' and 'b' share no prompt against base" in ended.err
    (first, second) = cli.done("leaderboard", "--json").events
    assert second["behind_first"] is None
    assert second["p_holm"] is None
    assert first["n"] == second["n"] == 5
    assert "? 1 of 1 share no prompt with it" in cli.done("leaderboard").out


def test_baselines_that_do_not_match(cli: Any) -> None:
    judged(cli, {n: [("a", "old", float(n % 2)), ("b", "new", 1.0)] for n in range(6)})
    ended = cli("compare", "a", "b")
    assert ended.code == 2
    assert "never met and share no baseline" in ended.err
    assert {e["settings"]["baseline"] for e in cli.done("leaderboard", "--json").events} == {"old", "new"}
    assert "no judgment compares a model with 'ancient'" in cli("leaderboard", "--baseline", "ancient").err


def test_one_model_only(cli: Any) -> None:
    judged(cli, {n: [("a", "base", float(n % 2))] for n in range(6)})
    shown = cli.done("leaderboard").out
    assert "first place" not in shown
    assert "few prompts" in shown
    assert "no judgment is about 'b'" in cli("compare", "a", "b").err
    cli.done("load", "jsonl", cli.prompts(3))
    assert "needs two sides" in cli("evaluate", "winrate", "--model", "mock:writer", "--judge-model", "mock:judge").err
    same = cli(
        "evaluate", "winrate", "--model", "mock:writer", "--baseline", "mock:writer", "--judge-model", "mock:judge"
    )
    assert "two sides are called 'mock:writer'" in same.err


def test_a_judge_that_never_answers(cli: Any) -> None:
    cli.done("load", "jsonl", cli.prompts(6))
    words = ("evaluate", "winrate", "--model", "mock:writer", "--baseline", "mock:echo", "--judge-model")
    garbled = cli(*words, "mock:judge?garble=1")
    assert garbled.code == 2
    assert "all 12 judgments" in garbled.err
    assert "unreadable; there is no win rate to show" in garbled.err
    broken = cli(*words, "mock:judge?fail=1")
    assert broken.code == 3
    assert "all 6 prompts failed" in broken.err
    assert not [e for run in cli.store.runs("evaluate") for e in cli.read(Estimate, run.id)]


def test_all_ties_are_no_knowledge(cli: Any) -> None:
    judged(cli, {n: [("a", "base", 0.5), ("b", "base", 0.5)] for n in range(20)})
    first, second = cli.done("leaderboard", "--json").events
    assert first["value"] == second["value"] == 0.5
    assert first["high"] - first["low"] > 0.3
    assert second["separable_from_first"] is False
    (found,) = cli.done("compare", "a", "b", "--json").events
    assert found["value"] == 0
    assert found["low"] < -0.1 < 0.1 < found["high"]
    assert found["needed"] is None
    assert "not separable" in cli.done("compare", "a", "b").out


def test_an_undefeated_model_has_no_strength(cli: Any) -> None:
    games = {n: [("top", "mid", 1.0), ("mid", "low", float(n % 3 > 0)), ("top", "low", 1.0)] for n in range(30)}
    judged(cli, games)
    shown = cli.done("leaderboard", "--rank").out
    assert "not connected: no wins lead both ways between the groups" in shown
    assert "first place is not identified" in shown
    rows = cli.done("leaderboard", "--rank", "--json").events
    assert [row["model"] for row in rows] == ["top", "mid", "low"]
    assert len({round(row["strength"]["value"], 6) for row in rows}) == 3
    assert all(math.isfinite(row["strength"]["high"]) for row in rows)


def test_soft_verdicts_do_not_make_a_losers_strength(cli: Any) -> None:
    near = {n: 1 - 1e-7 * (1 + n % 5) for n in range(30)}
    judged(cli, {n: [("top", "low", share)] for n, share in near.items()})
    shown = cli.done("leaderboard", "--rank").out
    assert "not connected: no wins lead both ways" in shown
    (row,) = cli.done("leaderboard", "--json").events
    assert row["low"] < 0.9
    (found,) = cli.done("compare", "top", "low", "--json").events
    assert found["low"] < 0.9
    assert "p < 1e-12" in cli.done("compare", "top", "low").out
    assert "compared with itself" in cli("compare", "top", "top").err


def test_models_that_never_met_are_told_apart(cli: Any) -> None:
    games = {n: [("a", "b", float(n % 2)), ("c", "d", float(n % 3 > 0))] for n in range(30)}
    judged(cli, games)
    shown = cli.done("leaderboard", "--rank").out
    assert "[a, b; c, d]" in shown or "[c, d; a, b]" in shown
    assert "never met" in cli("compare", "a", "c").err


def test_a_ranking_of_models_that_met(cli: Any) -> None:
    won = {("a", "b"): 3, ("b", "c"): 4, ("a", "c"): 7}
    judged(cli, {n: [(*pair, float(n % every > 0)) for pair, every in won.items()] for n in range(84)})
    rows = cli.done("leaderboard", "--rank", "--json").events
    assert [(row["model"], row["best"], row["worst"]) for row in rows] == [("a", 1, 1), ("b", 2, 2), ("c", 3, 3)]
    shown = cli.done("leaderboard", "--rank").out
    assert "252 comparisons on 84 prompts" in shown
    assert "b would lead instead of a" in shown
    assert "leave the rest out" in cli("leaderboard", "--rank", "--by", "category").err


@pytest.mark.parametrize(
    ("number", "said"),
    [("NaN", "unparsed"), ("Infinity", "unparsed"), ('"high"', "unparsed"), ("null", "unparsed")],
)
def test_scores_that_are_no_numbers_are_failures(cli: Any, number: str, said: str) -> None:
    rows = [{"id": str(n), "subset": "math-prm", "scores_chosen": 2.0, "scores_rejected": 1.0} for n in range(6)]
    text = "".join(json.dumps(row) + "\n" for row in rows).replace("2.0", number, 1)
    path = cli.home / "scores.jsonl"
    path.write_text(text)
    done = cli("load", "reward_bench", path)
    assert done.code in (0, 2)
    if done.code == 2:
        assert "scores.jsonl" in done.err
        return
    cli.done("evaluate", "reward_bench", "--judgments", "latest")
    found = {e.name: e for e in cli.read(Estimate, "latest:evaluate")}
    values = [x for e in found.values() for x in (e.value, e.low, e.high)]
    assert all(math.isfinite(x) for x in values)
    told = [j for j in cli.read(Judgment, "latest:load") if j.error]
    assert len(told) == 1 or "left out" in done.err
    assert all(said in str(j.error) for j in told)


def test_a_nan_reward_in_a_preference_file_is_named(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"prompt_id": "x", "completion_ids": ["a", "b"], "scores": [NaN, 1], "labeler": "ada"}\n')
    judged(cli, {n: [("a", "base", float(n % 2))] for n in range(6)})
    ended = cli("evaluate", "winrate", "--judgments", "latest", "--human", path)
    assert ended.code == 2
    assert "labels.jsonl" in ended.err
