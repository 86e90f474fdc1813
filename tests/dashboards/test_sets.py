"""Preference sets' data: cards, the browser's filters against a loop over all pairs, and two sets side by side."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dashboards.data import sets
from dashboards.data.sets import Filter
from dashboards.data.state import Nothing
from rlhf_eval.records import Demonstration, Judgment, PreferencePair
from rlhf_eval.store.runs import Store


@pytest.fixture(scope="module")
def pairs(full: Any) -> list[PreferencePair]:
    """The pairs of the planted set."""
    found: list[PreferencePair] = full.store.read(PreferencePair, run=full.runs["pairs"])
    return found


def words(pair: PreferencePair) -> int:
    """How many words more the chosen answer has."""
    return len(pair.chosen[0].content.split()) - len(pair.rejected[0].content.split())


def flips(pair: PreferencePair, told: dict[str, Judgment]) -> bool:
    shares = [told[i].scores[told[i].completion_ids.index(pair.chosen_id)] for i in pair.judgment_ids]
    return min(shares) < 0.5 < max(shares)


def test_a_set_brings_its_card_and_its_account(full: Any, pairs: list[PreferencePair]) -> None:
    rows = {row.run: row for row in sets.sets(full.store)}
    row = rows[full.runs["pairs"]]
    assert (row.pairs, row.rule, row.verb, row.status) == (len(pairs), "best_worst", "pairs", "done")
    card, source = sets.card(full.store, row.run)
    assert source == "its run" and card.counts["pairs"] == len(pairs)
    assert sum(count for _, _, count in sets.lengths(full.store, row.run)) == len(pairs)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Filter(), lambda pair, told: True),
        (Filter(at_least=0.8), lambda pair, told: pair.probability >= 0.8),
        (Filter(at_most=0.7), lambda pair, told: pair.probability <= 0.7),
        (Filter(longer="chosen"), lambda pair, told: words(pair) > 0),
        (Filter(longer="rejected"), lambda pair, told: words(pair) < 0),
        (Filter(containing="QUESTION 0/7?"), lambda pair, told: "Question 0/7?" in pair.prompt[0].content),
        (Filter(flipped=True), flips),
        (Filter(labeler="nobody"), lambda pair, told: False),
        (Filter(flipped=True, longer="chosen"), lambda pair, told: flips(pair, told) and words(pair) > 0),
    ],
)
def test_a_filter_finds_what_a_loop_finds(full: Any, pairs: list[PreferencePair], wanted: Filter, fits: Any) -> None:
    told = {j.id: j for j in full.store.read(Judgment, run=full.runs["judge"]) if j.scores}
    expected = {pair.id for pair in pairs if fits(pair, told)}
    found = sets.browse(full.store, full.runs["pairs"], wanted, size=100)
    assert {one.pair.id for one in found.shown} == expected and found.total == len(expected)
    assert all(one.flips == flips(one.pair, told) and one.judgments for one in found.shown)


def test_pages_hold_every_pair_once_the_least_sure_first(full: Any, pairs: list[PreferencePair]) -> None:
    pages = [sets.browse(full.store, full.runs["pairs"], page=k, size=15) for k in range(3)]
    seen = [one.pair for page in pages for one in page.shown]
    assert len({pair.id for pair in seen}) == len(seen) == len(pairs)
    assert [pair.probability for pair in seen] == sorted(pair.probability for pair in pairs)


def test_two_sets_differ_in_their_choices(full: Any, pairs: list[PreferencePair]) -> None:
    found = sets.versus(full.store, full.runs["pairs"], full.runs["turned"])
    assert (found.shared_prompts, found.only_one, found.only_other) == (len(pairs), 0, 0)
    assert (found.same_pairs, found.turned) == (0, len(pairs))
    longer = next((a, b) for name, a, b in found.measures if name == "chosen_longer")
    assert longer[0] is not None and longer[1] is not None
    assert longer[0].value + longer[1].value == pytest.approx(1.0)


def test_a_broken_card_is_named_and_worked_out_again(planted: ModuleType, tmp_path: Path) -> None:
    world = planted.comparisons(tmp_path / "store")
    run = planted.paired(world)
    before, _ = sets.card(world.store, run)
    for content, said in ((b"[]", "not a data card"), (b'{"name": "x", "version": 99}', "of version 99")):
        (world.store.folder(run) / "card.json").write_bytes(content)
        store = Store(world.store.path)
        card, source = sets.card(store, run)
        assert source.endswith("measured for this page") and any(said in problem for problem in store.problems)
        assert card.get("chosen_longer") == before.get("chosen_longer")


def test_demonstrations_and_nothing(tmp_path: Path, planted: ModuleType) -> None:
    world = planted.comparisons(tmp_path / "store", prompts=5)
    with pytest.raises(Nothing) as caught:
        sets.sets(world.store)
    assert caught.value.command.startswith("rlhf-eval pairs")
    kept = [
        Demonstration.of(prompt=p, completion=c, score=float(k), labeler="gold", rule="top_per_prompt")
        for k, (p, c) in enumerate(zip(world.prompts, world.answers["new"], strict=True))
    ]
    run = world.put("sft", "pairs", {"demonstrations": kept}, inputs={"judgments": world.runs["judge"]})
    (row,) = sets.sets(world.store)
    assert (row.pairs, row.demonstrations) == (0, 5)
    assert [one.score for one in sets.demonstrations(world.store, run)] == [4.0, 3.0, 2.0, 1.0, 0.0]
    assert sets.browse(world.store, run).total == 0
