"""Judge quality's data: counts and findings equal what a count by hand gives, and what is broken is named and skipped."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dashboards.data import judges
from dashboards.data.state import Nothing
from rlhf_eval.errors import UserError
from rlhf_eval.records import Judgment
from rlhf_eval.store.runs import Store


def by_hand(world: Any, judge: str) -> dict[str, float]:
    """Agreement over both orders, flips and the lean to the first place, from the verdicts themselves."""
    shares: dict[tuple[str, ...], dict[int, float]] = defaultdict(dict)
    for j in world.store.read(Judgment, run=world.runs["judge"]):
        if j.judge == judge and j.scores:
            shares[j.completion_ids][j.order[0]] = j.scores[0]
    both = {ids: given for ids, given in shares.items() if len(given) == 2}
    gold = {ids: world.gold[ids[0]] - world.gold[ids[1]] for ids in both}
    right = [(np.mean([*given.values()]) > 0.5) == (gold[ids] > 0) for ids, given in both.items()]
    return {
        "agreement": float(np.mean(right)),
        "flips": float(np.mean([(given[0] - 0.5) * (given[1] - 0.5) < 0 for given in both.values()])),
        "lean": float(np.mean([(given[0] - given[1]) / 2 for given in both.values()])),
    }


@pytest.fixture(scope="module")
def world(planted: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Comparisons with gold, and no audit."""
    return planted.comparisons(tmp_path_factory.mktemp("judges") / "store")


def test_every_judge_is_counted_with_its_role_and_card(full: Any, planted: ModuleType) -> None:
    rows = {row.judge: row for row in judges.overview(full.store)}
    judge = rows[planted.JUDGE]
    assert (judge.comparisons, judge.grades, judge.unreadable, judge.prompts) == (120, 0, 1, 40)
    assert judge.dollars == pytest.approx(0.079) and judge.tokens == 79 * 105
    assert judge.audited == full.runs["audit"]
    assert rows["gold"].role == "gold" and rows[planted.GRADER].grades == 320 and not rows[planted.GRADER].role


def test_findings_equal_a_count_by_hand(world: Any, planted: ModuleType) -> None:
    found = judges.quality(world.store, planted.JUDGE)
    hand = by_hand(world, planted.JUDGE)
    assert found.reference == "gold" and found.card is None
    values = {name: found.find(name) for name in ("agreement", "flip_rate", "first_slot")}
    assert all(finding is not None and finding.estimate is not None for finding in values.values())
    assert [f.estimate.value for f in values.values()] == pytest.approx(
        [hand["agreement"], hand["flips"], hand["lean"]]
    )  # type: ignore[union-attr]
    lean = values["first_slot"]
    assert lean is not None and lean.alarm  # the planted bias is found
    assert {answer.source for answer in found.answers} == {"stored verdicts"}
    assert found.find("injection_obeyed").estimate is None  # type: ignore[union-attr]


def test_charts_hold_every_pair_once(world: Any, planted: ModuleType) -> None:
    found = judges.quality(world.store, planted.JUDGE)
    assert sum(b.found.n for b in found.reliability) == 40
    assert all(b.low <= b.at <= b.high and 0.5 <= b.at <= 1 for b in found.reliability)
    assert all(b.found.low <= b.found.value <= b.found.high for b in (*found.reliability, *found.lengths))
    assert all(b.at > 1 for b in found.lengths)


def test_of_many_prompts_some_are_read_and_it_is_said(world: Any, planted: ModuleType) -> None:
    found = judges.quality(world.store, planted.JUDGE, most=10)
    assert (found.prompts, found.of) == (10, 40)
    assert found.find("unreadable").estimate.n == 10  # type: ignore[union-attr]


def test_a_card_is_preferred_and_a_broken_one_named(planted: ModuleType, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store")
    run = planted.audited(world)
    assert {a.source for a in judges.quality(world.store, planted.JUDGE).answers if a.finding.estimate} == {"audit"}
    (world.store.folder(run) / "card.json").write_bytes(b'{"judge": ')
    store = Store(world.store.path)
    found = judges.quality(store, planted.JUDGE)
    assert found.card is None and found.find("agreement").estimate is not None  # type: ignore[union-attr]
    assert any("card.json: skipped" in problem for problem in store.problems)


def test_two_judges_are_held_against_each_other(planted: ModuleType, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store")
    told = [j for j in world.store.read(Judgment) if j.judge == planted.JUDGE and j.scores]
    contrary = [
        Judgment.of(prompt_id=j.prompt_id, completion_ids=j.completion_ids, judge="contrary", order=j.order,
                    scores=j.scores[::-1]) for j in told
    ]  # fmt: skip
    world.put("contrary", "judge", {"judgments": contrary}, inputs={"completions": world.runs["generate"]})
    assert (planted.JUDGE, "contrary") in judges.rivals(world.store)
    ((one, other, raw, _),) = judges.agreements(world.store)
    assert {one, other} == {planted.JUDGE, "contrary"} and raw.value == 0
    found = judges.compare(world.store, planted.JUDGE, "contrary")
    assert found.changes and found.flips.value == pytest.approx(1.0)
    with pytest.raises(UserError, match="no pair of answers in common"):
        judges.compare(world.store, planted.JUDGE, "gold")


def test_an_empty_store_names_the_command(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.begin("load", {}, inputs={}, seed=0, versions={}):
        pass
    with pytest.raises(Nothing) as caught:
        judges.overview(store)
    assert caught.value.command.startswith("rlhf-eval judge")
    with pytest.raises(UserError, match="no stored judgment is by 'nobody'"):
        judges.quality(store, "nobody")
