"""Which answers meet, in which orders, and how a verdict becomes a judgment."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import pairwise
from rlhf_eval.errors import BudgetExceeded, RequestFailed, UserError
from rlhf_eval.models.door import Door
from rlhf_eval.models.mock import Config as MockConfig
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Judgment, Prompt, Usage, Verdict
from rlhf_eval.stages.judge import Call, Design, Instrument, balanced_sides, calls, judge_prompt, matches, put

PROMPT = Prompt.of("2+2?")


def answers(count: int, prompt: Prompt = PROMPT) -> list[Completion]:
    return [
        Completion.of(prompt_id=prompt.id, model="m", text=f"answer {k} quality=0.{k}5", sample=k) for k in range(count)
    ]


def instrument(judge: Any, arity: int = 2, **changes: Any) -> Instrument:
    return Instrument(**{"judge": judge, "config": None, "model": None, "arity": arity, "name": "j#1", **changes})


def mock_judge(**options: Any) -> Instrument:
    door = Door(MockModel("judge", config=MockConfig(**options)))
    return instrument(pairwise.judge, config=pairwise.Config(), model=door)


def scores_of(*scores: float) -> Any:
    async def judge(prompt: Prompt, shown: Sequence[Completion], model: Any, config: Any) -> Verdict:
        return Verdict(scores=scores)

    return judge


# Which answers meet ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 9))
def test_all_is_every_pair_once(count: int) -> None:
    given_ = answers(count)
    found = matches(given_, 2, "all")
    assert found == [*combinations(given_, 2)]
    assert len(found) == count * (count - 1) // 2


@given(st.integers(2, 12), st.integers(1, 15))
def test_a_ring_meets_each_neighbour_once(count: int, reach: int) -> None:
    found = matches(answers(count), 2, f"ring:{reach}")
    met = {frozenset((a.id, b.id)) for a, b in found}
    assert len(met) == len(found) == min(count * reach, count * (count - 1) // 2)
    games = Counter(c.id for pair in found for c in pair)
    assert set(games.values()) == {min(2 * reach, count - 1)}  # nobody plays more than another


def test_first_sets_all_the_others_against_the_first_who_stands_second() -> None:
    given_ = answers(4)
    assert matches(given_, 2, "first") == [(c, given_[0]) for c in given_[1:]]


@pytest.mark.parametrize("design", ["all", "first", "ring:2"])
def test_one_answer_meets_nobody(design: str) -> None:
    assert matches(answers(1), 2, design) == []
    assert matches([], 2, design) == []


def test_a_grade_takes_one_and_a_ranking_all() -> None:
    given_ = answers(3)
    assert matches(given_, 1, "all") == [(c,) for c in given_]
    assert matches(given_, 0, "all") == [tuple(given_)]
    assert matches(given_[:1], 0, "all") == []


@pytest.mark.parametrize("design", ["ring", "ring:", "ring:0", "ring:-1", "ring:x", "ring:²", "All", "", "first:2"])
def test_a_design_that_is_none_is_named(design: str) -> None:
    with pytest.raises(ValueError, match="allowed: all, first, ring:K"):
        Design(matches=design)
    with pytest.raises(ValueError, match="at least once"):
        Design(repeats=0)


# Orders ---------------------------------------------------------------------------------------------------------------


@given(st.sets(st.text(max_size=6), max_size=60), st.integers())
def test_sides_are_exactly_balanced_whatever_the_order_of_the_prompts(identities: set[str], seed: int) -> None:
    sides = balanced_sides(identities, seed)
    assert sides.keys() == identities
    assert sum(sides.values()) == len(identities) // 2
    assert balanced_sides(sorted(identities, reverse=True) * 2, seed) == sides


def test_another_seed_draws_other_sides() -> None:
    identities = [str(k) for k in range(100)]
    assert balanced_sides(identities, 0) != balanced_sides(identities, 1)


@given(st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_both_orders_show_each_answer_first_as_often(count: int, repeats: int, swapped: bool) -> None:
    groups = matches(answers(count + 1), 2, "all")
    laid = calls(groups, Design(repeats=repeats), swapped)
    questions = {(*(c.id for c in call.completions), call.order, call.repeat) for call in laid}
    assert len(laid) == 2 * repeats * len(groups) == len(questions)
    shown_first = Counter((*(c.id for c in call.completions), call.order[0]) for call in laid)
    assert set(shown_first.values()) == {repeats}


@given(st.integers(2, 6), st.integers(0, 20), st.integers())
def test_one_order_is_balanced_over_prompts_and_within_them(count: int, prompts: int, seed: int) -> None:
    sides = balanced_sides(map(str, range(prompts)), seed)
    total = 0
    for swapped in sides.values():
        laid = calls(matches(answers(count), 2, "all"), Design(orders="one"), swapped)
        mine = sum(1 if call.order == (0, 1) else -1 for call in laid)
        assert abs(mine) <= 1
        total += mine
    assert abs(total) <= 1


def test_a_grade_has_one_order() -> None:
    laid = calls([(c,) for c in answers(2)], Design(repeats=2), swapped=True)
    assert [(call.order, call.repeat) for call in laid] == [((0,), 0), ((0,), 1)] * 2


# A question -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "scores"), [((0, 1), (0.9, 0.1)), ((1, 0), (0.1, 0.9))])
def test_scores_return_to_the_completions_that_they_are_about(
    order: tuple[int, int], scores: tuple[float, ...]
) -> None:
    first, second = answers(2)
    made = asyncio.run(put(PROMPT, Call((first, second), order, 0), instrument(scores_of(0.9, 0.1))))
    assert (made.completion_ids, made.order, made.scores) == ((first.id, second.id), order, scores)


@given(st.permutations(range(4)))
def test_a_ranking_returns_to_its_completions(order: list[int]) -> None:
    given_ = answers(4)

    async def judge(prompt: Prompt, shown: Sequence[Completion], model: Any, config: Any) -> Verdict:
        return Verdict(scores=tuple(float(c.sample) for c in shown))

    made = asyncio.run(put(PROMPT, Call(tuple(given_), tuple(order), 0), instrument(judge, 0)))
    assert made.scores == (0, 1, 2, 3)


def test_orders_of_one_pair_agree_under_a_judge_without_bias_and_differ_under_a_biased_one() -> None:
    pair = tuple(answers(2))
    for bias, gap in ((0.0, 0.0), (3.0, 0.5)):
        ends = [asyncio.run(put(PROMPT, Call(pair, order, 0), mock_judge(bias=bias))) for order in ((0, 1), (1, 0))]
        assert abs(ends[0].scores[0] - ends[1].scores[0]) >= gap
        if not bias:
            assert ends[0].scores == pytest.approx(ends[1].scores)


def test_the_same_words_are_a_tie_that_costs_nothing() -> None:
    async def never(*_: Any) -> Verdict:
        raise AssertionError

    first = Completion.of(prompt_id=PROMPT.id, model="a", text="4")
    second = Completion.of(prompt_id=PROMPT.id, model="b", text="4")
    made = asyncio.run(put(PROMPT, Call((first, second), (1, 0), 0), instrument(never)))
    assert (made.scores, made.usage, made.metadata) == ((0.5, 0.5), Usage(), {"identical": True})


def test_an_unreadable_reply_is_a_judgment_that_failed() -> None:
    made = asyncio.run(put(PROMPT, Call(tuple(answers(2)), (0, 1), 0), mock_judge(garble=1.0)))
    assert made.scores == ()
    assert made.error is not None
    assert made.error.startswith("unparsed")
    assert made.rationale == "Both answers have their merits."
    assert made.usage.completion_tokens > 0


def test_a_judge_that_miscounts_is_named() -> None:
    with pytest.raises(UserError, match=r"j#1 returned 1 scores for 2 completions"):
        asyncio.run(put(PROMPT, Call(tuple(answers(2)), (0, 1), 0), instrument(scores_of(1.0))))


# A prompt -------------------------------------------------------------------------------------------------------------


def laid_out(count: int) -> list[Call]:
    return calls(matches(answers(count), 2, "all"), Design(), swapped=False)


def test_every_question_is_answered_once_and_stored(sink: Any) -> None:
    outcome = asyncio.run(judge_prompt(PROMPT, laid_out(3), mock_judge(), sink, set()))
    assert (outcome.status, outcome.records) == ("done", 6)
    assert len(sink.ids("judgments")) == len(sink.tables["judgments"]) == 6


def test_what_is_known_is_not_asked(sink: Any) -> None:
    first = mock_judge()
    asyncio.run(judge_prompt(PROMPT, laid_out(3), first, sink, set()))
    stored = [j.id for j in sink.tables["judgments"]]
    second = mock_judge()
    outcome = asyncio.run(judge_prompt(PROMPT, laid_out(3), second, sink, set(stored[:4])))
    assert (outcome.status, outcome.records, second.model.traffic.requests) == ("done", 6, 2)
    assert [j.id for j in sink.tables["judgments"][6:]] == stored[4:]


def test_failed_requests_are_the_prompts_outcome_and_the_others_are_kept(sink: Any) -> None:
    async def moody(prompt: Prompt, shown: Sequence[Completion], model: Any, config: Any) -> Verdict:
        if shown[0].sample == 0:
            raise RequestFailed("timeout", "no reply")
        return Verdict(scores=(1.0, 0.0))

    outcome = asyncio.run(judge_prompt(PROMPT, laid_out(3), instrument(moody), sink, set()))
    assert (outcome.status, outcome.records) == ("failed", 4)
    assert outcome.reason == "2 of 6 calls failed: timeout: no reply"
    assert len(sink.tables["judgments"]) == 4


def test_an_unreadable_reply_fails_a_judgment_and_not_the_prompt(sink: Any) -> None:
    outcome = asyncio.run(judge_prompt(PROMPT, laid_out(2), mock_judge(garble=1.0), sink, set()))
    assert outcome.status == "done"
    assert [bool(j.error) for j in sink.tables["judgments"]] == [True, True]


def test_a_fatal_error_waits_for_the_neighbours_that_are_paid_for(sink: Any) -> None:
    async def judge(prompt: Prompt, shown: Sequence[Completion], model: Any, config: Any) -> Verdict:
        if shown[0].sample == 0:
            raise BudgetExceeded("spent")
        await asyncio.sleep(0.01)
        return Verdict(scores=(1.0, 0.0))

    with pytest.raises(BudgetExceeded):
        asyncio.run(judge_prompt(PROMPT, laid_out(3), instrument(judge), sink, set()))
    assert len(sink.tables["judgments"]) == 4


def test_with_too_few_answers_a_prompt_is_skipped_and_says_so(sink: Any) -> None:
    outcome = asyncio.run(judge_prompt(PROMPT, [], mock_judge(), sink, set()))
    assert (outcome.status, outcome.reason) == ("skipped", "too few completions to judge")


def test_a_judgment_has_the_id_that_was_foretold(sink: Any) -> None:
    asyncio.run(judge_prompt(PROMPT, laid_out(2), mock_judge(), sink, set()))
    for made in sink.tables["judgments"]:
        foretold = Judgment.id_of(
            prompt_id=PROMPT.id, completion_ids=made.completion_ids, judge="j#1", order=made.order, repeat=made.repeat
        )
        assert made.id == foretold
