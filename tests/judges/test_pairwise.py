"""The question holds the answers letter for letter; a verdict is soft where it can be, and a failure where it is none."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.pairwise import Config, ask, judge, read_verdict
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import ChatRequest, Choice, Reply, TokenLogprob
from rlhf_eval.models.mock import Config as MockConfig
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Prompt

PROMPT = Prompt.of("2+2?", reference="It is 4.")
probabilities = st.floats(0.001, 0.999)


def answer(text: str) -> Completion:
    return Completion.of(prompt_id=PROMPT.id, model="m", text=text, origin=text)


def reply(letter: str, shares: dict[str, float]) -> Choice:
    top = tuple((name, math.log(p)) for name, p in shares.items())
    tokens = (TokenLogprob("[[", 0.0), TokenLogprob(letter, math.log(shares[letter]), top), TokenLogprob("]]", 0.0))
    return Choice(text=f"[[{letter}]]", logprobs=tokens)


# The question ---------------------------------------------------------------------------------------------------------


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_answers_stand_in_the_question_letter_for_letter(first: str, second: str) -> None:
    system, user = ask(PROMPT, (first, second), Config())
    assert (system.role, user.role) == ("system", "user")
    assert user.content == f"Question:\n2+2?\n\nAnswer A:\n{first}\n\nAnswer B:\n{second}\n\nWhich answer is better?"


def test_an_answer_cannot_fill_another_slot() -> None:
    _, user = ask(PROMPT, ("{answer_b}", "{question} {{reference}}"), Config(reference=True))
    assert "Answer A:\n{answer_b}\n\nAnswer B:\n{question} {{reference}}\n" in user.content


def test_the_reference_is_shown_where_it_is_wanted_and_there() -> None:
    shown = ask(PROMPT, ("4", "5"), Config(reference=True))[1].content
    assert "It is 4." in shown
    assert "It is 4." not in ask(PROMPT, ("4", "5"), Config())[1].content
    assert "Reference" not in ask(Prompt.of("2+2?"), ("4", "5"), Config(reference=True))[1].content


def test_the_judge_is_told_which_verdicts_there_are() -> None:
    assert "[[C]]" not in ask(PROMPT, ("4", "5"), Config())[0].content
    assert "[[C]]" in ask(PROMPT, ("4", "5"), Config(ties=True))[0].content
    assert "Explain" in ask(PROMPT, ("4", "5"), Config(reasoning=True))[0].content


def test_a_template_of_ones_own_is_used(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("{question}|{answer_b}|{answer_a}|{reference}")
    config = Config(template=str(tmp_path / "mine.txt"))
    assert ask(PROMPT, ("4", "5"), config)[1].content == "2+2?|5|4|It is 4."
    (tmp_path / "wrong.txt").write_text("{question} {answer_a} {answer_b} {refrence}")
    with pytest.raises(UserError, match=r"\{refrence\} that is not filled. Did you mean 'reference'"):
        ask(PROMPT, ("4", "5"), Config(template=str(tmp_path / "wrong.txt")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", r"never shows \{answer_a\}; it has no slot"),
        ("{question} {answer_a} {answer}", r"never shows \{answer_b\}; it has \{question\}, \{answer_a\}, \{answer\}"),
    ],
)
def test_a_template_that_hides_an_answer_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        ask(PROMPT, ("4", "5"), Config(template=str(tmp_path / "mine.txt")))


def test_constraint_and_reasoning_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="no room for reasoning"):
        Config(constrain=True, reasoning=True)


# The answer -----------------------------------------------------------------------------------------------------------


@given(probabilities, probabilities)
def test_a_soft_verdict_is_the_share_of_the_first_letter(a: float, b: float) -> None:
    verdict = read_verdict(reply("A", {"A": a, "B": b}), Config())
    assert verdict.scores == pytest.approx((a / (a + b), b / (a + b)))
    assert sum(verdict.scores) == 1.0
    assert read_verdict(reply("A", {"A": a, "B": b}), Config(soft=False)).scores == (1.0, 0.0)


@given(probabilities, probabilities, probabilities)
def test_a_tie_gives_half_of_its_mass_to_each_side(a: float, b: float, c: float) -> None:
    scores = read_verdict(reply("C", {"A": a, "B": b, "C": c}), Config(ties=True)).scores
    assert scores[0] == pytest.approx((a + c / 2) / (a + b + c))
    assert 0 <= scores[1] <= 1
    assert read_verdict(Choice(text="[[C]]"), Config(ties=True)).scores == (0.5, 0.5)


@pytest.mark.parametrize(("letter", "scores"), [("A", (1.0, 0.0)), ("B", (0.0, 1.0))])
def test_without_logprobs_a_verdict_is_hard(letter: str, scores: tuple[float, float]) -> None:
    verdict = read_verdict(Choice(text=f"Because. [[{letter}]]"), Config())
    assert (verdict.scores, verdict.rationale, verdict.error) == (scores, f"Because. [[{letter}]]", None)


@pytest.mark.parametrize("text", ["", "Both are fine.", "[[C]]", "A", "[[A]] or rather [[C]]"])
def test_what_cannot_be_read_is_a_failure_and_never_a_score(text: str) -> None:
    verdict = read_verdict(Choice(text=text), Config())
    assert verdict.scores == ()
    assert verdict.error is not None
    assert verdict.error.startswith("unparsed: no [[A]] or [[B]]")
    assert verdict.rationale == text


def test_a_reply_that_was_cut_off_says_so() -> None:
    cut = read_verdict(Choice(text="I think that", finish_reason="length"), Config(ties=True))
    assert cut.error == "unparsed: no [[A]] or [[B]] or [[C]] in the reply, which was cut off at max_tokens"


# Both together --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 9999), st.integers(0, 9999), st.floats(0.5, 12))
def test_a_judge_without_bias_gives_opposite_scores_in_opposite_orders(x: int, y: int, sharpness: float) -> None:
    model = MockModel("judge", config=MockConfig(sharpness=sharpness))
    first, second = answer(f"one quality={x / 1e4:.4f}"), answer(f"two quality={y / 1e4:.4f}")
    straight = asyncio.run(judge(PROMPT, (first, second), model, Config()))
    swapped = asyncio.run(judge(PROMPT, (second, first), model, Config()))
    assert straight.scores == pytest.approx(swapped.scores[::-1], abs=1e-9)
    assert (straight.scores[0] > 0.5) == (x > y) or abs(x - y) * sharpness < 1e-6


def test_the_request_asks_for_what_the_settings_say() -> None:
    seen: list[ChatRequest] = []

    class Spy(MockModel):
        async def chat(self, request: ChatRequest) -> Reply:
            seen.append(request)
            return await super().chat(request)

    for config in (Config(), Config(soft=False, temperature=0.7, max_tokens=9), Config(constrain=True, ties=True)):
        asyncio.run(judge(PROMPT, (answer("4"), answer("5")), Spy("judge"), config))
    assert [r.top_logprobs for r in seen] == [5, 0, 5]
    assert [r.choices for r in seen] == [(), (), ("[[A]]", "[[B]]", "[[C]]")]
    assert [(r.sampling.temperature, r.sampling.max_tokens) for r in seen] == [(0, 1024), (0.7, 9), (0, 1024)]
