"""The commands about training sets: lint, verify, route, and rules side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.records import Judgment, PreferencePair
from rlhf_eval.stages.labels import items_of

FAULTY = [{"prompt": f"Question {k}?", "chosen": "long " * (20 + k % 7), "rejected": f"short {k}"} for k in range(60)]


@pytest.fixture
def judged(cli: Any) -> Any:
    cli.done("load", "jsonl", cli.prompts(30))
    cli.done("generate", "--model", "mock:writer", "-n", "4")
    cli.done("judge", "--judge-model", "mock:judge")
    return cli


def rows(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", ["lint", "corrupt", "verify", "route"])
def test_each_explains_itself(cli: Any, command: str) -> None:
    assert f"usage: rlhf-eval {command}" in cli.done(command, "--help").out


def test_lint_shows_the_card_of_anybodys_file_and_writes_it(cli: Any) -> None:
    file = rows(cli.home / "theirs.jsonl", [*FAULTY, {"prompt": "Q", "chosen": "same", "rejected": "same"}])
    shown = cli.done("lint", file, "--out", "card")
    assert "60 pairs" in shown.out
    assert "! length alone tells chosen from rejected" in shown.out
    assert "! 1 of 61 rows cannot be used: chosen equals rejected (first: theirs.jsonl:61)" in shown.out
    assert (cli.home / "card.md").read_text().startswith("# Data card: theirs.jsonl")
    event = cli.done("lint", file, "--json", "--limit", "5").events[0]
    assert event["card"]["counts"]["pairs"] == 5


def test_lint_names_the_labels_that_the_others_speak_against(cli: Any) -> None:
    records = [
        {"prompt": f"Q{n}", "chosen": f"good answer {n % 7}", "rejected": f"bad reply {n % 5}", "flipped": n % 10 == 0}
        for n in range(100)
    ]
    turned = [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} if r["flipped"] else r for r in records]
    shown = cli.done("lint", rows(cli.home / "theirs.jsonl", turned), "--suspects", "doubted.jsonl").out
    assert "speak against: doubted 10, of 100, agreement 0.9, auroc 1" in shown
    doubted = [json.loads(line) for line in (cli.home / "doubted.jsonl").read_text().splitlines()]
    assert sorted(row["row"] for row in doubted) == list(range(0, 100, 10))
    assert all(row["believed"] < 0.3 for row in doubted)


def test_lint_is_a_gate_where_it_is_asked_to(cli: Any) -> None:
    file = rows(cli.home / "theirs.jsonl", FAULTY)
    assert cli("lint", file, "--strict").code == 4
    assert cli("lint", cli.home / "gone.jsonl").code == 2
    leaked = cli.done("lint", file, "--against", file).out
    assert "100.0% of the test prompts stand in this set" in leaked


def test_verify_makes_a_set_again_by_run_and_by_file(judged: Any) -> None:
    judged.done("pairs", "--out", "pairs.jsonl")
    by_run = judged.done("verify", "--json").events[0]
    by_file = judged.done("verify", "pairs.jsonl", "--json").events[0]
    assert by_run == by_file
    assert by_run["good"]
    assert by_run["judgments"] == {"same": 30 * 6 * 2}
    assert "can be made again, to the last field" in judged.done("verify").out
    assert judged("verify", "nothing").code == 2


def test_verify_makes_a_set_again_with_the_limit_that_it_was_made_with(judged: Any) -> None:
    judged.done("pairs", "--limit", "5")
    assert judged.done("verify", "--strict", "--json").events[0]["records"] == 10


def test_verify_fails_the_gate_where_the_judge_is_another_now(judged: Any) -> None:
    judged.done("pairs")
    shown = judged.done("verify", "--judge-model", "mock:judge?bias=2").out
    assert "cannot be replayed" in shown
    assert "360 not replayable" in shown


def test_corrupt_plants_exactly_what_it_says_in_a_run_and_in_any_file(judged: Any) -> None:
    judged.done("pairs", "--out", "pairs.jsonl")
    clean = {pair.prompt_id: pair for pair in judged.read(PreferencePair, "latest")}
    assert "6 of 30 labels turned (20 %)" in judged.done("corrupt", "--rate", "0.2", "--out", "noisy.jsonl").out
    for pair in judged.read(PreferencePair, "latest"):
        assert (pair.chosen == clean[pair.prompt_id].chosen) is not pair.metadata["flipped"]
    written = [json.loads(line) for line in (judged.home / "noisy.jsonl").read_text().splitlines()]
    assert sum(row["flipped"] for row in written) == 6
    again = judged.done("corrupt", "noisy.jsonl", "--kind", "irrational", "--json").events[0]
    assert again["flipped"] == round(30 / 8)
    assert judged.done("corrupt", "pairs.jsonl", "--rate", "0.2", "--seed", "1", "--json").events[0]["flipped"] == 6
    assert [run.verb for run in judged.store.runs()].count("corrupt") == 3


def test_corrupt_takes_true_rewards_from_a_judge_by_program(cli: Any) -> None:
    cli.done("load", "sandbox", "--limit", "12")
    cli.done("generate", "--model", "mock:writer", "-n", "3")
    cli.done("judge", "--judge", "length")
    cli.done("pairs")
    for kind in ("stochastic", "myopic"):
        cli.done("corrupt", "latest", "--kind", kind, "--judge", "gold")
    assert "asks a model" in cli("corrupt", "latest", "--rate", "0.1", "--judge", "pairwise").err
    assert "needs a rate" in cli("corrupt", "latest", "--kind", "top_margin").err


def test_route_asks_people_and_their_labels_come_back_with_provenance(judged: Any) -> None:
    shown = judged.done("route", "-n", "12", "--out", "todo.jsonl")
    command = shown.out.partition("next:")[2].split()
    asked = [json.loads(line) for line in (judged.home / "todo.jsonl").read_text().splitlines()]
    assert len(asked) == 12
    rows(judged.home / "todo.jsonl", [{**row, "choice": "a", "labeler": "ada"} for row in asked])
    judged.done(*command[1:])
    assert judged("route", "--out", "todo.jsonl").code == 2  # never over somebody's answers
    judged.done("load", "human", "todo.jsonl", "--limit", "5")
    labels = judged.read(Judgment, "latest")
    assert {j.judge for j in labels} == {"human/ada"}
    assert len(items_of(labels)) == 12


def test_rules_stand_side_by_side_and_nothing_is_stored(judged: Any) -> None:
    before = [run.id for run in judged.store.runs()]
    shown = judged.done("pairs", "--compare", "best_worst", "all_pairs", "top_per_prompt").out
    assert "best_worst" in shown.splitlines()[1]
    assert "selected minus control" in shown
    events = judged.done("pairs", "--compare", "best_worst", "best_second", "--json").events
    assert [event["rule"] for event in events] == ["best_worst", "best_second"]
    assert all(sum(e["counts"][end] for end in ("pair", "tie", "dropped")) == 30 for e in events)
    assert [run.id for run in judged.store.runs()] == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["best_worst"], "needs two rules or more"),
        (["best_worst", "all_pairs", "--out", "x.jsonl"], "writes no set"),
        (["best_worst", "best_wurst"], "Did you mean 'best_worst'"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(judged: Any, words: list[str], said: str) -> None:
    result = judged("pairs", "--compare", *words)
    assert result.code == 2
    assert said in result.err


def test_an_audit_stands_in_a_recipe_and_its_headline_beside_what_follows(cli: Any) -> None:
    cli.prompts(12)
    recipe = cli.home / "line.yaml"
    recipe.write_text(
        "load: {source: jsonl, path: prompts.jsonl}\n"
        "generate: {model: 'mock:writer', n: 3}\n"
        "judge: {judge_model: 'mock:judge?bias=2'}\n"
        "audit: {judge_model: 'mock:judge?bias=2', buy: none}\n"
        "pairs: {rule: best_worst}\n"
    )
    shown = cli.done("run", recipe).out
    assert shown.count("ALARM: first_slot") == 2  # of the audit, and of the set that the judge made
    made = cli.store.find("latest")
    page = json.loads((cli.store.folder(made.id) / "card.json").read_text())
    assert ["ALARM: first_slot" in told for told in page["about"]["judge cards"].values()] == [True]
    events = cli.done("run", recipe, "--json").events
    assert [event["verb"] for event in events] == ["load", "generate", "judge", "audit", "pairs"]
    assert events[3]["card"]["judge"].startswith("pairwise/mock:judge")
