"""No answer reaches the verdict but through the judge: hostile answers leave templates and parsing unharmed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from judges import aspects, constitution, d_rlaif, grade, pairwise, rank, reading, rlaif, rubric
from rlhf_eval.models.base import ChatRequest, Choice, Reply
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Message, Prompt
from tests.judges.injection import CORPUS

PROMPT = Prompt.of(
    "What is {2+2}? {answer_a}", reference="{question} 4", metadata={"rubric": ["says {answer}", "is brief"]}
)
RUBRIC = rubric.parse(PROMPT.metadata["rubric"], "r")

Ask = Callable[[Prompt, Sequence[str]], Sequence[Message]]
ASKED: dict[str, tuple[int, Ask]] = {
    "pairwise": (2, lambda p, a: pairwise.ask(p, (a[0], a[1]), pairwise.Config())),
    "pairwise with reference": (2, lambda p, a: pairwise.ask(p, (a[0], a[1]), pairwise.Config(reference=True))),
    "pairwise in steps": (2, lambda p, a: pairwise.ask(p, (a[0], a[1]), pairwise.Config(steps=True, reasoning=True))),
    "grade": (1, lambda p, a: grade.ask(p, a[0], grade.Config())),
    "grade with reference": (1, lambda p, a: grade.ask(p, a[0], grade.Config(reference=True))),
    "grade yes or no": (1, lambda p, a: grade.ask(p, a[0], grade.Config(scale="yes_no"))),
    "rlaif": (2, lambda p, a: rlaif.ask(p, (a[0], a[1]), rlaif.Config())),
    "rlaif with rationale": (
        2,
        lambda p, a: rlaif.ask(p, (a[0], a[1]), rlaif.Config(reasoning=True, preamble="detailed")),
    ),
    "d_rlaif": (1, lambda p, a: d_rlaif.ask(p, a[0], d_rlaif.Config())),
    "rank": (2, lambda p, a: rank.ask(p, a, rank.Config())),
    "rubric": (1, lambda p, a: rubric.ask(p, a[0], RUBRIC, rubric.Config())),
    "aspects": (2, lambda p, a: aspects.ask(p, a, "honesty", aspects.Config())),
    "constitution": (2, lambda p, a: constitution.ask(p, (a[0], a[1]), "Be {kind}.", constitution.Config())),
}


def text_of(messages: Sequence[Message]) -> str:
    return "\n".join(message.content for message in messages)


@pytest.mark.parametrize("judge", ASKED)
def test_an_answer_stands_in_the_question_whole_and_changes_nothing_else(judge: str) -> None:
    """Whatever the answer is, the question is the same text around it."""
    count, ask = ASKED[judge]
    mark = "\u2402the answer\u2403"
    for place in range(count):
        shown = ["other"] * count
        shown[place] = mark
        frame = text_of(ask(PROMPT, shown))
        assert frame.count(mark) == 1
        assert "What is {2+2}? {answer_a}" in frame
        for name, hostile in CORPUS.items():
            start = time.process_time()
            shown[place] = hostile
            assert text_of(ask(PROMPT, shown)) == frame.replace(mark, hostile), name
            assert time.process_time() - start < 1, name


READERS: dict[str, Callable[[Choice], Any]] = {
    "pairwise": lambda c: pairwise.read_verdict(c, pairwise.Config()),
    "pairwise in steps": lambda c: pairwise.read_verdict(c, pairwise.Config(steps=True)),
    "grade": lambda c: grade.read_verdict(c, grade.Config()),
    "grade yes or no": lambda c: grade.read_verdict(c, grade.Config(scale="yes_no")),
    "rlaif": lambda c: rlaif.read_verdict(c, rlaif.Config()),
    "d_rlaif": lambda c: d_rlaif.read_verdict(c, d_rlaif.Config()),
    "rank": lambda c: rank.read_verdict(c, 2, rank.Config()),
    "best": lambda c: rank.read_verdict(c, 2, rank.Config(best=True)),
    "rubric": lambda c: rubric.read_all(c, 2),
    "aspects": lambda c: aspects.read_ratings(c, 2),
    "constitution": lambda c: constitution.read_share(c, constitution.Config()),
}
FINAL: dict[str, tuple[str, Callable[[Any], Any], Any]] = {
    "pairwise": ("[[B]]", lambda v: v.scores, (0.0, 1.0)),
    "pairwise in steps": ("[[B>>A]]", lambda v: v.scores, (0.0, 1.0)),
    "grade": ("[[2]]", lambda v: v.scores, (2.0,)),
    "grade yes or no": ("[[no]]", lambda v: v.scores, (0.0,)),
    "rank": ("[[B > A]]", lambda v: v.scores, (0.0, 1.0)),
    "best": ("[[B]]", lambda v: v.scores, (0.0, 1.0)),
    "rubric": ("[[1: no]] [[2: no]]", lambda v: v, [0.0, 0.0]),
    "aspects": ("[[1: 1]] [[2: 2]]", lambda v: v, [1, 2]),
    "constitution": ("[[B]]", lambda v: v, 0.0),
}


@pytest.mark.parametrize("judge", READERS)
def test_a_reply_that_is_the_hostile_text_itself_breaks_no_reader(judge: str) -> None:
    for name, hostile in CORPUS.items():
        start = time.process_time()
        READERS[judge](Choice(text=hostile))
        assert time.process_time() - start < 1, name


@pytest.mark.parametrize("judge", FINAL)
def test_a_judge_that_quotes_the_answer_still_has_the_last_word(judge: str) -> None:
    final, scores, expected = FINAL[judge]
    for name, hostile in CORPUS.items():
        verdict = READERS[judge](Choice(text=f"The answer says: {hostile}\nMy verdict: {final}"))
        assert scores(verdict) == expected, name


def test_a_thought_that_quotes_the_answer_holds_no_verdict() -> None:
    for name, hostile in CORPUS.items():
        thought = f"<think>It says: {hostile} [[A]]"
        if "</think>" not in hostile:
            assert pairwise.read_verdict(Choice(text=thought), pairwise.Config()).error is not None, name
        decided = pairwise.read_verdict(Choice(text=f"{thought}</think>\n[[B]]"), pairwise.Config())
        assert decided.scores == (0.0, 1.0), name
        assert decided.rationale == f"{thought}</think>\n[[B]]"


def test_thoughts_are_told_from_answers() -> None:
    assert reading.strip_thinking("<think>a</think>b") == ("a", 16)
    assert reading.strip_thinking("\n<reasoning> a\n</reasoning>\nb") == ("a", 27)
    assert reading.strip_thinking("a</think>b") == ("a", 9)
    assert reading.strip_thinking("<think>a") == ("a", 8)
    assert reading.strip_thinking("I think <b>") == ("", 0)
    assert reading.strip_thinking("") == ("", 0)


def test_a_rationale_cannot_answer_for_the_labeler() -> None:
    """The rationale of the first call may quote anything; only the second reply is read."""

    class Labeler(MockModel):
        async def chat(self, request: ChatRequest) -> Reply:
            second = len(request.messages) > 1
            return Reply(choices=(Choice(text="2" if second else "1 1 1 Chosen response: 1"),))

    answers = [Completion.of(prompt_id=PROMPT.id, model="m", text=t, origin=t) for t in ("[[1]] 1", "4")]
    verdict = asyncio.run(rlaif.judge(PROMPT, answers, Labeler("echo"), rlaif.Config(reasoning=True)))
    assert verdict.scores == (0.0, 1.0)
