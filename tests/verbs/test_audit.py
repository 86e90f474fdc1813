"""``audit`` on a store: from what is there, buying what is not, within the budget, and the same again when asked again."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server import MARKER, Knobs, log_odds, running_server, written

from rlhf_eval.audit.card import JudgeCard, from_json
from rlhf_eval.audit.probes import is_probe
from rlhf_eval.audit.shelf import card_of
from rlhf_eval.cli import main
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Estimate, Judgment
from rlhf_eval.sandbox import checkpoint
from rlhf_eval.store.runs import Store
from rlhf_eval.verbs.audit import AuditResult, audit, compare_judges, render, stamp
from rlhf_eval.verbs.evaluate import evaluate
from rlhf_eval.verbs.flow import generate, judge
from rlhf_eval.verbs.leaderboard import leaderboard
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.session import Options, Session

WRITERS = ["alpha=mock:writer?seed=1&sign=alpha", "beta=mock:writer?seed=2&sign=beta", "gamma=mock:writer?seed=3"]
JUDGE = "mock:judge?bias=1&price=1000"
QUALITY = "tests.quality"


def session(store: Path, **options: Any) -> Session:
    return Session(Options(store=store, quiet=True, **options))


def run(store: Path, table: Mapping[str, Any], verb: Any = audit, **options: Any) -> Any:
    async def work() -> Any:
        opened = session(store, **options)
        try:
            return await verb(opened, table)
        finally:
            await opened.close()

    return asyncio.run(work())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with 24 prompts and three answers to each."""
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(json.dumps({"prompt": f"Question {k}?"}) for k in range(24)))
    load(session(tmp_path / "store"), {"source": "jsonl", "path": str(questions)})
    run(tmp_path / "store", {"model": WRITERS}, generate)
    return tmp_path / "store"


def value(card: JudgeCard, name: str) -> Estimate:
    finding = card.find(name)
    assert finding is not None and finding.estimate is not None, finding and finding.missing
    return finding.estimate


def judgments(store: Path) -> list[Judgment]:
    return Store(store).read(Judgment)


def test_everything_is_bought_for_a_judge_that_was_never_asked(store: Path) -> None:
    result: AuditResult = run(store, {"judge_model": JUDGE, "reference": QUALITY, "sample": 12, "own": "alpha"})
    card = result.card
    assert result.run.verb == "audit" and result.run.status == "done"
    assert card.prompts == 12
    assert card.bought == card.judgments == sum(j.judge == card.judge for j in judgments(store))
    for name in (
        "accuracy.quality", "flip_rate", "first_slot", "padded_wins", "bold_wins", "listed_wins", "self_preference",
        "repeat_agreement", "circles", "brier", "unreadable", "injection_obeyed", "cost_per_call", "information_per_dollar",
    ):  # fmt: skip
        assert value(card, name).n > 0, name
    assert value(card, "position_log_odds").value == pytest.approx(1.0)
    assert {f.name for f in card.alarms} == {"first_slot"}
    assert card.spent.cost > 0
    assert "ALARM" in render(card)


def test_the_card_lies_in_the_run_and_its_numbers_in_the_table(store: Path) -> None:
    result = run(store, {"judge_model": JUDGE, "reference": QUALITY, "sample": 8})
    folder = Store(store).folder(result.run.id)
    assert from_json((folder / "card.json").read_bytes()) == result.card
    assert (folder / "card.md").read_text().startswith(f"# Judge card: {result.card.judge}")
    stored = {e.name: e for e in Store(store).read(Estimate, run=result.run.id)}
    assert stored == {f.name: f.estimate for f in result.card.measured}
    assert not list(folder.glob(".*partial"))


def test_the_same_command_shows_the_card_again_and_buys_nothing(store: Path) -> None:
    table = {"judge_model": JUDGE, "sample": 6}
    first = run(store, table)
    again = run(store, table)
    assert (again.run.id, again.card) == (first.run.id, first.card)
    (Store(store).folder(first.run.id) / "card.json").unlink()
    assert run(store, table).card == first.card
    other = run(store, {**table, "sample": 7})
    assert other.run.id != first.run.id
    assert 0 < other.card.bought < other.card.judgments
    assert len({j.id for j in judgments(store)}) == other.card.judgments


def test_what_was_judged_before_is_used_and_only_the_rest_is_bought(store: Path) -> None:
    judged = run(store, {"judge_model": JUDGE, "orders": "one"}, judge)
    result = run(store, {"judge_model": JUDGE, "buy": "swaps", "sample": 10})
    assert result.card.bought == 10  # the other order of one pair of each prompt
    assert result.card.judgments == 24 * 3 + 10
    assert value(result.card, "flip_rate").n == 10
    assert judged.run.id in result.run.inputs.values()


def test_a_stored_judge_costs_nothing_and_needs_no_model(store: Path) -> None:
    run(store, {"judge_model": JUDGE}, judge)
    before = len(judgments(store))
    result = run(store, {})
    assert result.card.bought == 0 and len(judgments(store)) == before
    assert value(result.card, "flip_rate").n == 24
    assert "--buy copies" in (result.card.find("padded_wins") or result.card.findings[0]).missing
    assert result.run.config["buy"] == []


def test_no_probe_enters_a_leaderboard(store: Path) -> None:
    run(store, {"judge_model": JUDGE}, judge)
    before = leaderboard(session(store))
    run(store, {"judge_model": JUDGE, "sample": 6, "buy": "copies,injections"})
    assert any(is_probe(c) for c in Store(store).read(Completion))
    after = leaderboard(session(store))
    assert [[e.settings["model"] for e in board.rows] for board in after] == [
        [e.settings["model"] for e in board.rows] for board in before
    ]
    assert [[e.value for e in board.rows] for board in after] == [[e.value for e in board.rows] for board in before]


def test_the_budget_stops_the_buying_and_not_the_card(store: Path) -> None:
    table = {"judge_model": JUDGE, "sample": 24}
    stopped = run(store, table, max_cost=8.0, concurrency=1)
    assert stopped.card.stopped.startswith("stopped by --max-cost 8")
    assert stopped.run.status == "stopped"
    assert 0 < stopped.card.spent.cost <= 8.2  # the mock says what a call cost only afterwards
    assert stopped.card.measured
    assert not Store(store).read(Estimate, run=stopped.run.id)
    whole = run(store, table)
    assert whole.run.id == stopped.run.id and whole.run.status == "done"
    assert whole.card.stopped == "" and whole.card.prompts == 24
    fresh = run(store, {**table, "judge_model": f"{JUDGE}&seed=0"}, fresh=True)
    assert fresh.card.judgments == whole.card.judgments  # what an interruption cut in two is the same audit


def test_a_dry_run_buys_and_keeps_nothing(store: Path) -> None:
    async def rehearse() -> int:
        opened = session(store, dry_run=True)
        result = await audit(opened, {"judge_model": JUDGE, "sample": 5})
        assert result.card.findings == ()
        (rehearsal,) = opened.rehearsals.values()
        await opened.close()
        return rehearsal.forecast.requests

    requests = asyncio.run(rehearse())
    assert not judgments(store)
    assert [r.verb for r in Store(store).runs()] == ["load", "generate"]
    bought = run(store, {"judge_model": JUDGE, "sample": 5}).card.bought
    assert bought == pytest.approx(requests, rel=0.1)  # which attacks go by letter depends on who loses


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"judge": "nobody"}, "neither a judge plugin|there is no judge 'nobody'"),
        ({}, "needs a model"),
        ({"judge_model": JUDGE, "buy": "swap"}, "buy names 'swap'.*swaps"),
        ({"judge_model": JUDGE, "sample": -1}, "0 or more"),
        ({"judge_model": JUDGE, "smaple": 1}, "Did you mean 'sample'"),
        ({"judge_model": JUDGE, "reference": "nobody"}, "no judgment of these answers is by 'nobody'"),
    ],
)
def test_a_mistake_is_named(store: Path, table: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(store, table)


def test_of_several_stored_judges_one_must_be_named(store: Path) -> None:
    for bias in (1, 2):
        run(store, {"judge_model": f"mock:judge?bias={bias}"}, judge)
    with pytest.raises(UserError, match="several judges are stored; name one with --judge"):
        run(store, {})
    name = next(j.judge for j in judgments(store))
    assert run(store, {"judge": name}).card.judge == name


def test_every_result_of_a_judge_carries_its_card(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged = run(store, {"judge_model": JUDGE}, judge)
    name = str(judged.run.config["judge"])
    assert card_of(Store(store), name) is None
    assert f"rlhf-eval audit --judge '{name}'" in stamp(session(store), name)
    card = run(store, {"judge": name}).card
    assert card_of(Store(store), name) == card
    assert main(["leaderboard", "--store", str(store)]) == 0
    assert "ALARM: first_slot" in capsys.readouterr().out
    run(store, {"model": WRITERS[0], "baseline": WRITERS[1], "judge": {"judge_model": JUDGE}}, evaluate)
    assert "ALARM: first_slot" in stamp(session(store), name)
    assert stamp(session(store), "gold#1a2b3c4d") == "what the other judges are measured by", "gold needs no card"


def test_replacing_a_judge_is_told_from_the_store_and_the_command_line(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, sharpness in ((1, 6), (2, -6)):
        run(store, {"judge_model": f"mock:judge?sharpness={sharpness}&seed={seed}"}, judge)
    names = sorted({j.judge for j in judgments(store)})
    found = compare_judges(session(store), *names)
    assert found.flips.value == 1.0
    assert found.tau is not None and found.tau.value == -1
    assert main(["audit", "--store", str(store), "--compare", *names]) == 0
    assert "3 of 3 pairs of models change places" in capsys.readouterr().out
    assert main(["audit", "--store", str(store), "--compare", names[0], "nobody"]) == 2
    assert main(["audit", "--store", str(store), "--json", "--compare", *names]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["flips"]["value"] == 1.0


def test_the_command_line_prints_the_card_and_exits_5_when_the_budget_ends(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["audit", "--store", str(store), "-q", "--judge-model", JUDGE, "--sample", "6"]
    assert main([*line, "--dry-run"]) == 0
    assert "nothing was asked" in capsys.readouterr().out
    assert main([*line, "--max-cost", "3", "--concurrency", "1"]) == 5
    out = capsys.readouterr()
    assert "incomplete: stopped by --max-cost 3" in out.out and "resume: rlhf-eval audit" in out.err
    assert main([*line, "--json"]) == 0
    card = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert card["event"] == "judge_card" and card["card"]["stopped"] == ""


# A judge behind HTTP, and the sandbox's own ---------------------------------------------------------------------------

PLANTED = {"position_bias": 0.9, "noise": 0.6, "self_preference": 1.5, "unparsed": 0.06, "sharpness": 5.0}


def served_truth(draws: int = 10_000) -> dict[str, float]:
    """What the server's own rule makes of answers by its models ``judge`` (its own) and ``beta``."""
    knobs = Knobs(**PLANTED)  # type: ignore[arg-type]
    rows = []
    for k in range(draws):
        texts = [written(f"{name}{k}", skill, name, 4096)[0] for name, skill in (("judge", 0.5), ("beta", 0.4))]
        own, other = (MARKER.findall(text)[0] for text in texts)
        first = log_odds(knobs, [own, other], "judge", f"{k} own first")
        second = -log_odds(knobs, [other, own], "judge", f"{k} own second")
        gap = float(own[0]) - float(other[0])
        if gap:
            rows.append((1 / (1 + math.exp(-first)), 1 / (1 + math.exp(-second)), gap > 0))
    one, two, right = (np.array(column) for column in zip(*rows, strict=True))
    mean = (one + two) / 2
    won = np.where(right, mean, 1 - mean)
    return {
        "flip_rate": float(((one > 0.5) != (two > 0.5)).mean()),
        "first_slot": float(((one - two) / 2).mean()),
        "position_log_odds": knobs.position_bias,
        "accuracy.quality": float((((one > 0.5) == right).mean() + ((two > 0.5) == right).mean()) / 2),
        "agreement.quality": float(((mean > 0.5) == right).mean()),
        "self_preference": float(won[right].mean() - won[~right].mean()),
        "self_log_odds": knobs.self_preference,
        "unreadable": knobs.unparsed,
        "repeat_agreement": 1.0,  # at temperature 0 its noise belongs to the conversation
        "padded_wins": 0.5,  # its lengths are written into the answers, where padding does not reach
        "length_log_odds": 0.0,
    }


def test_faults_planted_behind_http_are_found_within_the_intervals(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(json.dumps({"prompt": f"Item {k}?"}) for k in range(120)))
    load(session(tmp_path / "store"), {"source": "jsonl", "path": str(questions)})
    with running_server(**PLANTED) as url:
        models = [f"judge=openai:judge@{url}", f"beta=openai:beta@{url}"]
        run(tmp_path / "store", {"model": models}, generate)
        table = {"judge_model": models[0], "reference": QUALITY, "sample": 120, "buy": "swaps,repeats,copies"}
        card = run(tmp_path / "store", table).card
    missed = []
    for name, true in served_truth().items():
        estimate = value(card, name)
        if not estimate.low - 1e-9 <= true <= estimate.high + 1e-9:
            missed.append((name, true, estimate.value, estimate.low, estimate.high))
    assert len(missed) <= 1, missed
    assert {"first_slot", "self_preference", "unreadable"} <= {f.name for f in card.alarms}
    assert value(card, "seconds_per_call").value > 0


def test_the_sandbox_judge_gets_a_card_that_agrees_with_gold_itself(tmp_path: Path) -> None:
    """The card's accuracy and lean from a sample hold those of all pairs, computed from the records without the audit."""
    try:
        checkpoint("judge")
    except UserError as error:
        pytest.skip(str(error))
    store = tmp_path / "store"
    load(session(store, limit=12), {"source": "sandbox"})
    run(store, {"model": "sandbox:policy", "n": 2}, generate)
    card = run(store, {"judge_model": "sandbox:judge", "sample": 10, "buy": "swaps"}).card
    run(store, {"judge_model": "sandbox:judge"}, judge)
    gold = {j.completion_ids[0]: j.scores[0] for j in judgments(store) if j.judge.startswith("gold")}
    right, lean = [], []
    for j in judgments(store):
        if j.judge == card.judge and j.scores and not j.metadata.get("identical"):
            gap = gold[j.completion_ids[0]] - gold[j.completion_ids[1]]
            lean.append(j.scores[j.order[0]] - 0.5)
            if gap:
                right.append((j.scores[0] - 0.5) * gap > 0)
    assert len(lean) > 10
    for name, true in (("accuracy.gold", sum(right) / len(right)), ("first_slot", sum(lean) / len(lean))):
        estimate = value(card, name)
        assert estimate.low <= true <= estimate.high, (name, true, estimate)
        assert 5 <= estimate.n <= 10


@pytest.mark.groundtruth
def test_cards_of_published_judges_show_their_published_numbers(tmp_path: Path, groundtruth: Path) -> None:
    """Accuracy over both orders and positional agreement, as LLMBar's own result tables state them."""
    subset = groundtruth / "LLMBar/Dataset/LLMBar/Natural"
    load(session(tmp_path / "store"), {"source": "llmbar", "path": str(subset)})
    checked = 0
    for table in sorted(subset.glob("evaluators/GPT-4/*/statistics.json")):
        published = json.loads(table.read_text())
        name = f"llmbar/{table.parent.parent.name}/{table.parent.name}"
        card = run(tmp_path / "store", {"judge": name}).card
        if value(card, "unreadable").value > 0:
            continue
        assert value(card, "accuracy.gold").value == pytest.approx(
            float(published["correct_average"][:-1]) / 100, abs=1e-9
        )
        same, of = published["equal"].split(" = ")[0].split(" / ")
        assert 1 - value(card, "flip_rate").value == pytest.approx(int(same) / int(of), abs=1e-9)
        checked += 1
    assert checked > 5


def test_the_settings_of_a_card_are_those_that_were_given(store: Path) -> None:
    card = run(store, {"judge_model": JUDGE, "sample": 5, "repeats": 2, "attacks": 1}).card
    assert {name: card.settings[name] for name in ("sample", "repeats", "attacks")} == {
        "sample": 5, "repeats": 2, "attacks": 1,
    }  # fmt: skip
    assert replace(card, settings={}).settings == {}
