"""The gold judge is the sandbox's reward, and nothing outside the sandbox has one."""

from __future__ import annotations

import asyncio

import pytest

from judges.gold import ARITY, NEEDS_MODEL, Config, judge
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Prompt, Verdict
from rlhf_eval.sandbox.gold import reward
from rlhf_eval.sandbox.world import prompts


def verdict(prompt: Prompt, text: str) -> Verdict:
    return asyncio.run(judge(prompt, (Completion.of(prompt_id=prompt.id, model="m", text=text),), None, Config()))


def test_the_verdict_is_the_reward_with_its_parts() -> None:
    assert (ARITY, NEEDS_MODEL) == (1, False)
    for prompt in prompts("heldout", limit=24):
        assert prompt.reference is not None
        right, wrong = verdict(prompt, prompt.reference), verdict(prompt, "I do not know.")
        assert right.scores == (1.0,)
        assert right.metadata == {"correct": 1.0, "followed": 1.0, "brief": 1.0}
        assert wrong.scores == (reward(prompt, "I do not know.").reward,)
        assert wrong.scores[0] < 0.5


def test_an_empty_answer_has_a_score_of_zero_and_is_no_failure() -> None:
    empty = verdict(prompts("heldout", limit=1)[0], "")
    assert (empty.scores, empty.error) == ((0.0,), None)


def test_a_prompt_from_elsewhere_has_no_gold() -> None:
    with pytest.raises(UserError, match="is not of the sandbox"):
        verdict(Prompt.of("2+2?"), "4")
