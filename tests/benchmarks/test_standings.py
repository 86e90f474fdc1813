"""The fast leaderboard query gives what the slow one gives, from one run or several, and pairs by prompt."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.benchmarks.boards import Uncompared
from rlhf_eval.benchmarks.comparisons import comparisons
from rlhf_eval.benchmarks.ratings import ratings
from rlhf_eval.benchmarks.standings import Standing, difference, facing, standings
from rlhf_eval.benchmarks.winrate import Config, rates
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment
from rlhf_eval.store.runs import Store


def written(write, models=("a", "b"), seed=0, prompts=12, judge="j", one_order=False, verb="judge"):
    rng = np.random.default_rng(seed)
    completions, judgments = [], []
    for n in range(prompts):
        made = {m: Completion.of(prompt_id=f"p{n}", model=m, text=f"{m}{n}") for m in (*models, "base")}
        completions += made.values()
        for m in models:
            both = ((0, 1), (1, 0))
            for order in (both[n % 2],) if one_order else both:
                ids = (made[m].id, made["base"].id)
                share = float(rng.choice([0.0, 0.5, 1.0, 0.3]))
                failed = rng.random() < 0.15
                judgments.append(Judgment.of(
                    prompt_id=f"p{n}", completion_ids=ids, judge=judge, order=order,
                    scores=() if failed else (share, 1 - share), error="unparsed: x" if failed else None,
                ))  # fmt: skip
    return write(completions, judgments, verb=verb), judgments


@pytest.mark.parametrize("one_order", [False, True])
def test_equals_the_query_that_keeps_every_judgment(store: Store, write, one_order) -> None:
    written(write, one_order=one_order, prompts=30)
    slow = {g.model: rates(g, Config())[0] for g in comparisons(store)}
    fast = {s.model: s.estimate() for s in standings(store)}
    assert fast.keys() == slow.keys() == {"a", "b"}
    for model, estimate in fast.items():
        assert estimate.value == pytest.approx(slow[model].value)
        assert (estimate.n, estimate.failed) == (slow[model].n, slow[model].failed)
        for name in ("judgments", "unreadable", "wins", "ties", "losses", "se"):
            assert estimate.settings[name] == pytest.approx(slow[model].settings[name]), name
        assert estimate.method == slow[model].method
    sides = {s.model: s.swapped for s in standings(store)}
    assert all((side is not None) == one_order for side in sides.values())


def test_the_sides_of_loaded_judgments_are_nobodys_design(store: Store, write) -> None:
    written(write, one_order=True, prompts=30, verb="load")
    assert [s.swapped for s in standings(store)] == [None, None]
    assert [g.swapped() for g in comparisons(store)] == [None, None]


def test_a_judgment_in_two_runs_counts_once(store: Store, write) -> None:
    written(write)
    once = {s.model: s.readable.sum() for s in standings(store)}
    written(write)
    assert {s.model: s.readable.sum() for s in standings(store)} == once


def test_runs_and_judges_can_be_chosen(store: Store, write) -> None:
    first, _ = written(write)
    written(write, judge="k", seed=1)
    assert {s.judge for s in standings(store)} == {"j", "k"}
    assert {s.judge for s in standings(store, runs=[first])} == {"j"}
    assert {s.judge for s in standings(store, judge="k")} == {"k"}


def test_differences_are_paired_by_prompt(store: Store, write) -> None:
    written(write, prompts=40)
    rivals = {s.model: s for s in facing(standings(store), "base")}
    gap = difference(rivals["a"], rivals["b"])
    shared = sorted(set(rivals["a"].prompt) & set(rivals["b"].prompt))
    means = [dict(zip(rivals[m].prompt, rivals[m].share, strict=True)) for m in "ab"]
    assert gap.value == pytest.approx(np.mean([means[0][p] - means[1][p] for p in shared]))
    assert gap.n == len(shared)
    turned = facing([s.mirrored() for s in standings(store)], "base")
    assert {s.model: s.share.mean() for s in turned} == {m: s.share.mean() for m, s in rivals.items()}


def test_a_ranking_is_surer_the_more_prompts_it_has() -> None:
    def met(a: str, b: str, prompts: int) -> Standing:
        asked, none = np.arange(prompts, dtype=np.uint64), np.zeros(prompts, dtype=np.int64)
        return Standing(judge="j", model=a, opponent=b, prompt=asked, share=np.full(prompts, 0.7), readable=none + 1,
                        asked=asked, unread=none)  # fmt: skip

    def ranks(prompts: int) -> list[tuple[int, int]]:
        (board,) = ratings([met(a, b, prompts) for a, b in ("xy", "yz", "xz")])
        return [(row.best, row.worst) for row in board.rows]

    assert ranks(1) == [(1, 3)] * 3
    assert ranks(200) == [(1, 1), (2, 2), (3, 3)]
    with pytest.raises(Uncompared, match="no comparison of two models yet"):
        ratings([])
    with pytest.raises(UserError, match="no judge is called 'k'"):
        ratings([met("x", "y", 1)], judge="k")


def test_a_part_knows_what_it_lost(store: Store, write) -> None:
    """A category of prompts had failed none, whatever happened, and as many judgments as prompts."""
    written(write, prompts=60, one_order=True)
    for whole in standings(store):
        halves = [whole.only(whole.asked[n::2]).estimate() for n in (0, 1)]
        every = whole.estimate()
        assert every.failed == len(whole.lost) > 0
        assert sum(half.failed for half in halves) == every.failed
        for name in ("judgments", "unreadable"):
            assert sum(half.settings[name] for half in halves) == every.settings[name] > 0
