"""The gold reward: the reference is perfect, being right dominates, and no text breaks it."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_eval.errors import UserError
from rlhf_eval.records import Prompt
from rlhf_eval.sandbox.corpus import WRAPPERS, mistake, truth
from rlhf_eval.sandbox.gold import LONGEST, WEIGHT_BRIEF, WEIGHT_CORRECT, WEIGHT_FOLLOWED, reward
from rlhf_eval.sandbox.tasks import items
from rlhf_eval.sandbox.world import phrase, prompts

PROMPTS = prompts("heldout", 360) + prompts("train", 720)


def asked(family: str, answer: str, constraint: str = "") -> Prompt:
    known = {"family": family, "difficulty": 1, "answer": answer, "constraint": constraint}
    return Prompt.of("a question", metadata=known)


def test_every_reference_scores_exactly_one():
    for p in PROMPTS:
        assert reward(p, str(p.reference)).reward == 1.0


def test_right_beats_wrong_whatever_the_form():
    assert pytest.approx(1.0) == WEIGHT_CORRECT + WEIGHT_FOLLOWED + WEIGHT_BRIEF
    rng = Random(0)
    for p in PROMPTS[:360]:
        neat = reward(p, phrase(mistake(p, rng), p.metadata["constraint"]))
        wordy = reward(p, "Let me think about it for a while. " * 20 + " ".join(truth(p)))
        assert neat.correct == 0.0
        if p.metadata["family"] != "initials":  # "a while" shows the letter a
            assert wordy.correct == 1.0
            assert wordy.reward > neat.reward


def test_padding_keeps_an_answer_right():
    for p in PROMPTS[:200]:
        for wrapper in WRAPPERS:
            found = reward(p, wrapper.format(" ".join(truth(p))))
            assert found.correct == 1.0
            assert 0 < found.brief <= 1


def test_more_words_are_less_brief():
    p = asked("add", "7")
    rewards = [reward(p, "7" + " indeed" * k).reward for k in range(6)]
    assert rewards == sorted(rewards, reverse=True)
    assert len(set(rewards)) == len(rewards)


@pytest.mark.parametrize(
    ("constraint", "obeys", "breaks"),
    [
        ("only", "7", "It is 7."),
        ("period", "7.", "7"),
        ("brackets", "[7]", "7"),
        ("", "7", ""),
    ],
)
def test_following_an_instruction(constraint: str, obeys: str, breaks: str):
    p = asked("add", "7", constraint)
    assert reward(p, obeys).followed == 1.0
    assert reward(p, breaks).followed == 0.0


def test_capitals_and_commas():
    assert reward(asked("pick", "fox", "capitals"), "FOX").reward == 1.0
    assert reward(asked("pick", "fox", "capitals"), "fox").followed == 0.0
    assert reward(asked("reverse", "fox cat", "commas"), "fox, cat").reward == 1.0
    assert reward(asked("reverse", "fox cat", "commas"), "fox cat").followed == 0.0


@pytest.mark.parametrize(
    ("family", "answer", "text"),
    [
        ("add", "7", "6 7 8"),
        ("add", "7", "07"),
        ("add", "7", "77"),
        ("add", "7", "seven"),
        ("add", "7", "٧"),
        ("upper", "FOX", "fox"),
        ("reverse", "fox cat", "cat fox"),
        ("reverse", "fox cat", "fox cat cat"),
        ("initials", "a b", "ab"),
        ("sort", "1 2 3", "123"),
    ],
)
def test_near_misses_are_wrong(family: str, answer: str, text: str):
    assert reward(asked(family, answer), text).correct == 0.0


def test_case_matters_only_where_it_was_asked_for():
    assert reward(asked("pick", "fox"), "Fox").correct == 1.0
    assert reward(asked("upper", "FOX"), "Fox").correct == 0.0


PIECES = st.sampled_from(["0", "7", " ", ".", ", ", "[", "]", "a", "B", *items()])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(PROMPTS) - 1), st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_parts_stay_in_bounds_and_add_up(index: int, text: str):
    found = reward(PROMPTS[index], text)
    for part in (found.reward, found.correct, found.followed, found.brief):
        assert 0.0 <= part <= 1.0
    total = WEIGHT_CORRECT * found.correct + WEIGHT_FOLLOWED * found.followed + WEIGHT_BRIEF * found.brief
    assert found.reward == pytest.approx(total)


def test_huge_and_hostile_texts_score_nothing_and_take_no_time():
    p = asked("add", "7")
    started = time.monotonic()
    for text in ("7 " * 5_000_000, "[" * 5_000_000, "\x00" * LONGEST, "\ud800", "", " \n\t", "7" + "x" * LONGEST):
        assert reward(p, text).correct == 0.0
    assert time.monotonic() - started < 2


def test_prompts_from_elsewhere_are_refused():
    with pytest.raises(UserError, match=r"not of the sandbox.*family"):
        reward(Prompt.of("What is the capital of France?"), "Paris")
    with pytest.raises(UserError, match="family is unknown"):
        reward(asked("chess", "e4"), "e4")
