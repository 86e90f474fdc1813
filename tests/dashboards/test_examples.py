"""Examples: filters against a slow reading of the records, addresses, orders, differences."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.data import examples
from dashboards.data.examples import Filters
from dashboards.data.state import Nothing
from rlhf_eval.records import Completion, Judgment, Prompt


@pytest.fixture
def pairs(full: Any, planted: Any) -> examples.Pairs:
    return examples.pairs(full.store, planted.JUDGE)


def slowly(full: Any, judge: str, wanted: Filters) -> set[tuple[str, str]]:
    """The pairs that pass, by walking over every record."""
    completions = {c.id: c for c in full.store.read(Completion)}
    category = {p.id: p.category for p in full.store.read(Prompt)}
    shares: dict[tuple[str, str], dict[bool, list[float]]] = defaultdict(lambda: {True: [], False: []})
    for verdict in full.store.read(Judgment):
        if verdict.judge == judge and len(verdict.completion_ids) == 2:
            sides = shares[verdict.completion_ids]
            if verdict.scores:
                sides[verdict.order[0] == 0].append(verdict.scores[0])
    passing = set()
    for (x, y), sides in shares.items():
        a, b = completions[x], completions[y]
        for left, right, turned in ((a, b, False), (b, a, True)):
            if wanted.model not in ("", left.model) or wanted.opponent not in ("", right.model):
                continue
            every = sides[True] + sides[False]
            mean = float(np.mean(every)) if every else float("nan")
            mean = 1 - mean if turned else mean
            first, second = (float(np.mean(s)) if s else float("nan") for s in (sides[True], sides[False]))
            long, short = (len(c.text) + 1 for c in (left, right))
            outcome = {
                "": True, "won": mean > 0.5, "lost": mean < 0.5, "tied": mean == 0.5, "unread": not every,
                "flipped": (first - 0.5) * (second - 0.5) < 0, "disputed": False,
            }  # fmt: skip
            gap = {
                "": True, "longer": long > 1.5 * short, "shorter": short > 1.5 * long,
                "alike": not (long > 1.5 * short or short > 1.5 * long),
            }  # fmt: skip
            if outcome[wanted.outcome] and gap[wanted.gap] and wanted.category in ("", category[a.prompt_id]):
                passing.add((x, y))
            break
    return passing


@pytest.mark.parametrize(
    "wanted",
    [
        Filters(),
        Filters(model="new"),
        Filters(model="old", outcome="won"),
        Filters(model="new", opponent="old", outcome="lost"),
        Filters(opponent="new", outcome="lost"),
        Filters(outcome="flipped"),
        Filters(outcome="tied"),
        Filters(outcome="unread"),
        Filters(outcome="disputed"),
        Filters(category="maths", outcome="won"),
        Filters(model="new", gap="longer"),
        Filters(model="new", gap="shorter", outcome="won"),
        Filters(gap="alike", category="lists"),
        Filters(model="nobody"),
    ],
    ids=lambda w: "-".join(filter(None, (w.model, w.opponent, w.outcome, w.gap, w.category))) or "all",
)
def test_filters_keep_what_a_slow_reading_keeps(
    full: Any, planted: Any, pairs: examples.Pairs, wanted: Filters
) -> None:
    prompts = examples.prompts_in(full.store, wanted.category) if wanted.category else None
    kept = examples.select(pairs, wanted, prompts=prompts, chars=examples.lengths(full.store) if wanted.gap else None)
    assert {pairs.ids(int(row))[1:] for row in kept} == slowly(full, planted.JUDGE, wanted)


def test_every_pair_has_an_address_that_leads_back(pairs: examples.Pairs) -> None:
    kept = examples.select(pairs, Filters())
    addresses = [examples.address(pairs, kept, place) for place in range(len(kept))]
    assert len(set(addresses)) == len(kept)
    assert [examples.place_of(pairs, kept, address) for address in addresses] == list(range(len(kept)))
    assert examples.place_of(pairs, kept, addresses[3].partition(":")[0][:12]) is not None
    for nothing in ("", "zzz", ":", ":2"):
        assert examples.place_of(pairs, kept, nothing) is None


def test_an_example_holds_both_orders_and_what_graded_each(full: Any, planted: Any, pairs: examples.Pairs) -> None:
    row = int(examples.select(pairs, Filters(model="new", opponent="old"))[5])
    one = examples.example(full.store, *pairs.ids(row), judge=planted.JUDGE, model="old")
    assert (one.left.model, one.right.model) == ("old", "new")
    assert one.prompt is not None
    assert {one.left_first(v) for v in one.verdicts} == {True, False}
    vote = examples.votes(one)[0]
    assert vote.share == pytest.approx(1 - float(pairs.share[row]))
    assert vote.first == pytest.approx(1 - float(pairs.second[row]))
    assert vote.says == ("A" if float(pairs.share[row]) < 0.5 else "B")
    assert {g.judge for g in one.grades} == {"gold"}
    assert {g.completion_ids[0] for g in one.grades} == {one.left.id, one.right.id}


def test_a_verdict_that_could_not_be_read_is_told(full: Any, planted: Any, pairs: examples.Pairs) -> None:
    failed = next(j for j in full.store.read(Judgment) if j.error)
    ids = (failed.prompt_id, *failed.completion_ids)
    vote = examples.votes(examples.example(full.store, *ids, judge=planted.JUDGE))[0]
    assert vote.problem == "unparsed: no verdict"
    assert (vote.asked, vote.read) == (2, 1)
    assert vote.share is not None


def test_judges_that_name_the_other_winner_are_found(tmp_path: Any) -> None:
    from rlhf_eval.records import Usage
    from rlhf_eval.store.runs import Store

    store = Store(tmp_path / "store")
    said = {"a": [("j", 1.0), ("k", 0.9)], "b": [("j", 1.0), ("k", 0.2)], "c": [("j", 0.5), ("k", 0.1)]}
    with store.begin("judge", {}, inputs={}, seed=0, versions={}) as run:
        for name, votes in said.items():
            prompt = Prompt.of(name)
            x, y = (Completion.of(prompt_id=prompt.id, model=m, text=m) for m in ("x", "y"))
            for record in (x, y):
                run.append("completions", record)
            for n, (judge, share) in enumerate(votes):
                ids, scores = ((x.id, y.id), (share, 1 - share)) if n == 0 else ((y.id, x.id), (1 - share, share))
                run.append(
                    "judgments", Judgment.of(prompt_id=prompt.id, completion_ids=ids, judge=judge, scores=scores)
                )
        run.finish("done", {}, Usage())
    found = examples.pairs(store, "j")
    kept = examples.select(found, Filters(outcome="disputed"))
    assert [found.ids(int(row))[0] for row in kept] == [Prompt.of("b").id]


def test_a_judge_without_comparisons_has_nothing_to_show(full: Any) -> None:
    with pytest.raises(Nothing):
        examples.pairs(full.store, "nobody")


@given(st.text(alphabet="ab \n<&", max_size=80), st.text(alphabet="ab \n<&", max_size=80))
def test_marked_differences_lose_no_character(left: str, right: str) -> None:
    found = examples.difference(left, right)
    assert "".join(text for text, _ in found.left) == left
    assert "".join(text for text, _ in found.right) == right
    shared = ["".join(text for text, only in side if not only) for side in (found.left, found.right)]
    assert found.reason or shared[0] == shared[1]


def test_only_what_differs_is_marked() -> None:
    found = examples.difference("the cat sat on the mat", "the dog sat on the mat")
    assert [text for text, only in found.left if only] == ["cat"]
    assert [text for text, only in found.right if only] == ["dog"]
    assert examples.difference("x " * 5000, "y").reason
    assert "few words" in examples.difference("alpha beta gamma", "one two three four").reason
