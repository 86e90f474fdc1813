"""Rankings hold each letter once; a score is the share of the others beaten."""

from __future__ import annotations

import asyncio
import math
from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.rank import Config, ask, judge, read_ranking, read_verdict
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import ChatRequest, Choice, Reply, TokenLogprob
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Prompt

PROMPT = Prompt.of("2+2?")


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("[[B > A > C]]", [0.5, 1.0, 0.0]),
        ("I first had [[A > B > C]], now [[C>B>A]].", [0.0, 0.5, 1.0]),
        ("[[A = B > C]]", [0.75, 0.75, 0.0]),
        ("[[ A = B = C ]]", [0.5, 0.5, 0.5]),
        ("[[B > A]]", None),
        ("[[A > B > C > D]]", None),
        ("[[A > B > B]]", None),
        ("[[A B C]]", None),
        ("[[A >> B > C]]", None),
        ("B > A > C", None),
        ("[[A > B > C]] or rather [[none]]", None),
        ("", None),
    ],
)
def test_the_last_ranking_counts_if_it_is_one(text: str, scores: list[float] | None) -> None:
    assert read_ranking(text, 3) == scores


@given(st.permutations(range(6)), st.lists(st.sampled_from([" > ", " = "]), min_size=5, max_size=5))
def test_scores_are_the_shares_of_the_others_beaten(order: list[int], signs: list[str]) -> None:
    text, level, levels = "", 0, {}
    for place, who in enumerate(order):
        text += ascii_uppercase[who] + (signs[place] if place < 5 else "")
        levels[who] = level
        level += place < 5 and signs[place] == " > "
    scores = read_ranking(f"[[{text}]]", 6)
    beaten = [
        sum((levels[o] > levels[w]) + (levels[o] == levels[w]) / 2 for o in range(6) if o != w) / 5 for w in range(6)
    ]
    assert scores == pytest.approx(beaten)


def test_all_answers_stand_in_the_question_under_their_letters() -> None:
    system, user = ask(PROMPT, ["four", "{answers}", "5"], Config())
    assert "Answer A:\nfour\n\nAnswer B:\n{answers}\n\nAnswer C:\n5\n\n" in user.content
    assert "[[C > B > A]]" in system.content
    assert "[[B]]" in ask(PROMPT, ["4", "5"], Config(best=True))[0].content
    with pytest.raises(UserError, match="27 answers"):
        ask(PROMPT, ["x"] * 27, Config())


def test_the_best_of_four_is_soft_where_it_can_be() -> None:
    top = tuple((letter, math.log(p)) for letter, p in zip("ABCD", (0.1, 0.6, 0.2, 0.1), strict=True))
    tokens = (TokenLogprob("[[", 0.0), TokenLogprob("B", math.log(0.6), top), TokenLogprob("]]", 0.0))
    choice = Choice(text="[[B]]", logprobs=tokens)
    assert read_verdict(choice, 4, Config(best=True)).scores == pytest.approx((0.1, 0.6, 0.2, 0.1))
    assert read_verdict(choice, 4, Config(best=True, soft=False)).scores == (0, 1, 0, 0)
    assert (
        read_verdict(Choice(text="[[E]]"), 4, Config(best=True)).error
        == "unparsed: no [[letter]] from A to D in the reply"
    )


def test_one_call_ranks_them_all() -> None:
    class Ranker(MockModel):
        async def chat(self, request: ChatRequest) -> Reply:
            return Reply(choices=(Choice(text="<think>[[A > B > C]]</think>[[C > A = B]]"),))

    answers = [Completion.of(prompt_id=PROMPT.id, model="m", text=t, origin=t) for t in "abc"]
    verdict = asyncio.run(judge(PROMPT, answers, Ranker("echo"), Config()))
    assert verdict.scores == (0.25, 0.25, 1.0)
    cut = read_verdict(Choice(text="<think>hm", finish_reason="length"), 3, Config())
    assert (
        cut.error
        == "unparsed: no [[ranking]] that holds each letter from A to C once in the reply, which was cut off at max_tokens"
    )
