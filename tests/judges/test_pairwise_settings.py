"""What the pairwise judge can do beyond one letter: five steps, bare letters, categories, samples, thoughts."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted

from judges.pairwise import STEPS, Config, ask, judge, kind_of, read_verdict
from rlhf_eval.models.base import Choice, TokenLogprob
from rlhf_eval.records import Completion, Prompt

PROMPT = Prompt.of("2+2?", category="math")
ANSWERS = [Completion.of(prompt_id=PROMPT.id, model="m", text=t, origin=t) for t in ("four", "five")]


@pytest.mark.parametrize(
    ("text", "share"),
    [("[[A>>B]]", 1.0), ("[[A>B]]", 0.75), ("[[A=B]]", 0.5), ("[[B>A]]", 0.25), ("[[B>>A]]", 0.0), ("[[A<B]]", 0.25),
     ("[[A<<B]]", 0.0), ("[[B=A]]", 0.5), ("[[A>>B]] no, [[ B>A ]]", 0.25)],
)  # fmt: skip
def test_five_steps(text: str, share: float) -> None:
    verdict = read_verdict(Choice(text=text), Config(steps=True))
    assert verdict.scores == (share, 1 - share)
    assert verdict.metadata["verdict"] in STEPS


@pytest.mark.parametrize("text", ["[[A]]", "[[A>>>B]]", "A>B", "[[A>B", "", "[[A>B]] or [[C]]"])
def test_what_is_no_step_is_a_failure(text: str) -> None:
    verdict = read_verdict(Choice(text=text), Config(steps=True))
    assert verdict.error == "unparsed: no [[A>>B]] or [[A>B]] or [[A=B]] or [[B>A]] or [[B>>A]] in the reply"


def test_the_steps_are_told_and_a_slight_win_counts_as_it_is_set() -> None:
    assert "[[A>>B]] if A is much better" in ask(PROMPT, ("a", "b"), Config(steps=True))[0].content
    assert "Explain" in ask(PROMPT, ("a", "b"), Config(steps=True, reasoning=True))[0].content
    assert read_verdict(Choice(text="[[A>B]]"), Config(steps=True, slight=0.6)).scores[0] == 0.6


def bare(text: str, **top: float) -> Choice:
    alternatives = tuple((name, math.log(p)) for name, p in top.items())
    return Choice(text=text, logprobs=(TokenLogprob(text, math.log(top[text]), alternatives),))


def test_a_bare_letter_is_read_by_its_token(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("{question} m: {answer_a} M: {answer_b}")
    config = Config(bracketed=False, letters="mM", template=str(tmp_path / "t.txt"))
    assert read_verdict(bare("M", M=0.6, m=0.3, The=0.1), config).scores == pytest.approx((1 / 3, 2 / 3))
    neither = read_verdict(bare("Neither", Neither=0.5, m=0.4, M=0.1), config)
    assert neither.scores == pytest.approx((0.8, 0.2))
    assert neither.metadata["verdict"] == "m"
    assert read_verdict(Choice(text=" M."), config).scores == (0.0, 1.0)
    assert read_verdict(Choice(text="Maybe"), config).error == "unparsed: no m or M in the reply"
    assert "letter A or B and nothing else" in ask(PROMPT, ("a", "b"), Config(bracketed=False))[0].content


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        ("math", "math"),
        ("Reasoning", "math"),
        ("coding", "code"),
        ("creative_writing", "writing"),
        ("stem", None),
        ("", None),
    ],
)
def test_a_category_has_criteria_of_its_own(category: str, kind: str | None) -> None:
    prompt = Prompt.of("2+2?", category=category)
    assert kind_of(category) == kind
    plain, special = (ask(prompt, ("a", "b"), Config(by_category=flag))[0].content for flag in (False, True))
    assert special.startswith(plain)
    assert (special != plain) == (kind is not None)


def ruled(*choices: Choice, **settings: Any):
    model = Scripted(*choices)
    return asyncio.run(judge(PROMPT, ANSWERS, model, Config(**settings))), model


def test_without_logprobs_several_replies_are_averaged() -> None:
    said = [Choice(text=t) for t in ("[[A]]", "[[B]]", "[[A]]", "hm")]
    verdict, model = ruled(*said, samples=4, temperature=0.7)
    assert verdict.scores == pytest.approx((2 / 3, 1 / 3))
    assert verdict.metadata == {"verdicts": ["A", "B", "A"], "unparsed": 1}
    assert [(r.first_sample, r.n) for r in model.requests] == [(0, 1), (1, 3)]
    assert ruled(Choice(text="hm"), Choice(text="ho"), samples=2, temperature=1.0)[0].error is not None


def test_with_logprobs_one_reply_without_reasoning_says_it_all() -> None:
    verdict, model = ruled(Choice(text="[[A]]", logprobs=(TokenLogprob("[[A]]", -0.1, (("[[A]]", -0.1),)),)),
                           samples=4, temperature=0.7)  # fmt: skip
    assert verdict.scores == (1.0, 0.0)
    assert len(model.requests) == 1


def test_a_thought_is_kept_and_marked() -> None:
    verdict, _ = ruled(Choice(text="<think>[[A]]?</think>[[B]]"))
    assert verdict.scores == (0.0, 1.0)
    assert verdict.metadata == {"verdict": "B", "thought": True}
    assert "[[A]]?" in verdict.rationale


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"steps": True, "ties": True}, "already has a verdict for ties"), ({"letters": "AA"}, "two different letters"),
     ({"letters": "mM"}, "need a template"), ({"slight": 0.5}, "over .5"), ({"samples": 3}, "temperature above 0"),
     ({"bracketed": False, "reasoning": True}, "a bare letter leaves no room")],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_the_default_question_is_the_one_that_the_embedded_judge_was_trained_on() -> None:
    system, user = ask(PROMPT, ("four", "five"), Config())
    assert system.content == (
        "You compare two answers to the same question. The better answer is correct, follows the instructions, "
        "and is brief. Reply with [[A]] or [[B]]."
    )
    assert user.content == "Question:\n2+2?\n\nAnswer A:\nfour\n\nAnswer B:\nfive\n\nWhich answer is better?"
