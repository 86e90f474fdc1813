"""``evaluate`` with every shape of benchmark, early stopping and people's labels; plan, correlate, boards."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.records import Completion, Estimate, Judgment, Outcome


def estimates(cli: Any) -> dict[str, Estimate]:
    return {e.name: e for e in cli.read(Estimate, "latest:evaluate")}


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_task_by_program_reads_its_own_file(cli: Any) -> None:
    path = lines(cli.home / "test.jsonl", [{"question": f"{n} + 1?", "answer": f"so\n#### {n + 1}"} for n in range(4)])
    cli.done("evaluate", "gsm8k", "--prompts", path, "--model", "mock:writer")
    assert estimates(cli)["accuracy"].value == 0
    assert estimates(cli)["accuracy"].n == 4


def test_a_judge_is_measured_against_a_preference_file(cli: Any) -> None:
    rows = [{"prompt": f"q{n}", "chosen": "a longer answer", "rejected": f"no {n}"} for n in range(6)]
    path = lines(cli.home / "pairs.jsonl", rows)
    cli.done("evaluate", "preference", "--prompts", path, "--judge", "length")
    assert estimates(cli)["accuracy"].value == 1
    cli.done("evaluate", "preference", "--prompts", path, "--judge-model", "mock:judge?garble=1")
    assert cli("evaluate", "preference", "--prompts", path).code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gsm8k",), "needs a model"),
        (("gsm8k", "--model", "mock:writer", "--baseline", "mock:echo"), "compares with no baseline"),
        (("llmbar", "--model", "mock:writer"), "measures a judge"),
        (("gsm8k", "--model", "mock:writer", "--stop-when", "decided"), "one --model and one --baseline"),
        (("winrate", "--judgments", "latest", "--model", "mock:writer"), "leave --model out"),
        (
            ("gsm8k", "--model", "mock:writer", "--judge-model", "mock:judge", "--judge", "pairwise"),
            "grades one answer",
        ),
    ],
)
def test_what_does_not_fit_is_said(cli: Any, words: tuple[str, ...], said: str) -> None:
    cli.done("load", "jsonl", cli.prompts(4))
    ended = cli("evaluate", *words)
    assert ended.code == 2
    assert said in ended.err


def versus(cli: Any, *more: str, prompts: int = 60) -> None:
    cli.done("load", "jsonl", cli.prompts(prompts))
    cli.done("evaluate", "winrate", "--model", "good=mock:writer?seed=1", "--baseline", "mock:echo",
             "--judge-model", "mock:judge?sharpness=60", *more)  # fmt: skip


def test_a_decided_run_stops_and_says_so(cli: Any) -> None:
    cli.done("load", "jsonl", cli.prompts(200))
    words = ("evaluate", "winrate", "--model", "mock:writer", "--baseline", "mock:echo",
             "--judge-model", "mock:judge?length_bias=8", "--stop-when", "decided")  # fmt: skip
    cli.done(*words)
    decided = estimates(cli)["win_rate_decided"]
    skipped = [o for o in cli.read(Outcome, "latest:evaluate") if o.status == "skipped"]
    assert decided.settings["decided"] is True
    assert decided.n + len(skipped) == 200
    assert {o.reason for o in skipped} == {f"decided at look {decided.settings['look']} of 10"}
    assert "finished earlier" in cli.done(*words).out


def test_people_correct_a_biased_judge(cli: Any) -> None:
    versus(cli)
    completions = {c.id: c for c in cli.read(Completion, "latest:evaluate")}
    judged = {j.prompt_id: j for j in cli.read(Judgment, "latest:evaluate")}
    rows = []
    for n, judgment in enumerate(list(judged.values())[:20]):
        ids = list(judgment.completion_ids)
        models = [completions[i].model for i in ids]
        choice = "tie" if n % 4 == 0 else "ab"[models.index("good")]
        rows.append({"prompt_id": judgment.prompt_id, "completion_ids": ids, "choice": choice, "labeler": "ada"})
    path = lines(cli.home / "labels.jsonl", rows)
    cli.done("evaluate", "winrate", "--judgments", "latest", "--human", path)
    found = estimates(cli)
    assert found["win_rate_human"].settings["labelled"] == 20
    assert found["win_rate_human"].settings["labels_for_5_points"] > 0
    assert found["win_rate_human"].low <= found["win_rate_human"].value <= found["win_rate_human"].high


def test_boards_in_every_format(cli: Any) -> None:
    versus(cli, "--model", "other=mock:writer?seed=2")
    rows = list(csv.DictReader(io.StringIO(cli.done("leaderboard", "--format", "csv").out)))
    assert [row["model"] for row in rows] == sorted(
        (row["model"] for row in rows), key=lambda m: -float(next(r["win_rate"] for r in rows if r["model"] == m))
    )
    assert rows[0]["p_holm"] == ""
    assert 0 <= float(rows[1]["p_holm"]) <= 1
    assert cli.done("leaderboard", "--format", "md").out.count("\n| ") == 3
    latex = cli.done("leaderboard", "--format", "latex").out
    assert latex.count(r"\\") == 3
    assert r"\%" in latex
    assert cli.done("leaderboard", "--json").events[0]["settings"]["model"] == rows[0]["model"]
    assert cli("leaderboard", "--by", "category").code == 2
    shown = cli.done("compare", "good", "other", "--json").events[0]
    assert sum(shown["quadrants"]) == 60
    assert len(shown["flipped"]) == shown["quadrants"][2]
    counted = {
        model: [c.usage.completion_tokens for c in cli.read(Completion, "latest:evaluate") if c.model == model]
        for model in ("good", "other")
    }
    assert shown["tokens"] == pytest.approx([sum(own) / len(own) for own in counted.values()])
    assert "tokens an answer" in cli.done("compare", "good", "other").out


def test_tokens_are_told_for_cached_and_repeated_answers(cli: Any) -> None:
    """A second run pays for nothing and a request of four samples books its tokens once; the mean stays the mean."""
    cli.done("load", "jsonl", cli.prompts(8))
    words = ("--model", "a=mock:writer?seed=1", "--judge", "length", "--set", "generate.n=4")
    cli.done("evaluate", "reward", *words)
    once = estimates(cli)["answer_tokens: a"]
    answers = [c for c in cli.read(Completion, "latest:evaluate") if c.model == "a"]
    assert once.value == pytest.approx(sum(c.usage.completion_tokens for c in answers) / 32)
    assert once.settings["answers"] == 32
    cli.done("evaluate", "reward", *words, "--set", "generate.max_tokens=512", "--fresh")
    free = estimates(cli)
    assert "answer_tokens: a" not in free
    assert free["answer_characters: a"].value == pytest.approx(once.settings["characters"])


def test_stored_answers_keep_their_length(cli: Any) -> None:
    """Best-of-n and other answers of earlier runs are compared by tokens, too, and are not paid for twice."""
    cli.done("load", "jsonl", cli.prompts(6))
    cli.done("generate", "--model", "mock:writer")
    words = ("evaluate", "winrate", "--model", "kept=run:latest:generate", "--baseline", "mock:echo")
    cli.done(*words, "--judge-model", "mock:judge")
    found = estimates(cli)
    answers = cli.read(Completion, "latest:generate")
    mean = sum(c.usage.completion_tokens for c in answers) / len(answers)
    assert found["answer_tokens: kept"].value == pytest.approx(mean)
    copies = [c for c in cli.read(Completion, "latest:evaluate") if c.model == "kept"]
    assert not any(c.usage.completion_tokens for c in copies)
    assert cli.done("compare", "kept", "mock:echo", "--json").events[0]["tokens"][0] == pytest.approx(mean)


def test_plan_says_what_a_difference_costs(cli: Any) -> None:
    designs = cli.done("plan", "--effect", "0.05", "--price", "0.01", "--json").events
    by_name = {d["name"]: d for d in designs}
    single = by_name["head to head, one balanced order"]
    assert single["calls"] == single["prompts"]
    assert single["power"] == pytest.approx(0.8, abs=0.01)
    best = next(d for d in designs if d["best"])
    assert best["expected_calls"] < 0.3 * by_name["both against a baseline, both orders"]["calls"]
    assert best["dollars"] == pytest.approx(0.01 * best["expected_calls"])
    shown = cli.done("plan", "--effect", "0.05").out
    assert (
        f"evaluate winrate --model A --baseline B --orders one --stop-when decided --limit {best['prompts']}" in shown
    )
    assert cli("plan").code == 2
    assert cli("plan", "--effect", "5").code == 2
    assert "at least 1" in cli("plan", "--prompts", "0").err
    assert "between 0.05, what chance alone finds, and 1" in cli("plan", "--effect", ".1", "--power", ".01").err


def test_plan_learns_from_a_run_without_its_position_bias(cli: Any) -> None:
    cli.done("load", "jsonl", cli.prompts(80))
    single = {}
    for lean in (0, 2):
        judge = f"mock:judge?sharpness=2&bias={lean}"
        cli.done("evaluate", "winrate", "--model", "a=mock:writer?seed=1", "--baseline", "b=mock:writer?seed=2",
                 "--judge-model", judge, "--orders", "one")  # fmt: skip
        designs = cli.done("plan", "--prompts", "80", "--like", "latest:evaluate", "--json").events
        single[lean] = next(d["variance"] for d in designs if d["name"] == "head to head, one balanced order")
    assert single[2] < 1.5 * single[0]  # with the bias in it, ten times as much


def test_correlate_with_a_reference(cli: Any) -> None:
    versus(cli, "--model", "m2=mock:writer?seed=2", "--model", "m3=mock:writer?seed=3")
    board = {e["settings"]["model"]: e["value"] for e in cli.done("leaderboard", "--json").events}
    path = cli.home / "reference.csv"
    path.write_text("model,elo\n" + "".join(f"{m},{-v}\n" for m, v in board.items()) + "unknown,3\n")
    found = cli.done("correlate", path, "--json").events[0]
    assert found["spearman"]["value"] == pytest.approx(-1)
    assert len(found["swapped"]) == 3
    assert "no column 'nothing'" in cli("correlate", path, "--column", "nothing").err
