"""Panels: members vote, votes become one, and a panel of alike judges is advised against."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from judges.jury import Config, advice, judge, models, pool, vote
from judges.members import seat
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import ChatRequest, Choice, Reply
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Judgment, Prompt

PROMPT = Prompt.of("2+2?")
ANSWERS = tuple(Completion.of(prompt_id=PROMPT.id, model="m", text=t, origin=t) for t in ("four words of text", "five"))


class Says(MockModel):
    def __init__(self, name: str, text: str) -> None:
        super().__init__("echo", name=name)
        self.text = text

    async def chat(self, request: ChatRequest) -> Reply:
        return Reply(choices=(Choice(text=self.text),))


def member(model: str, **settings: Any) -> dict[str, Any]:
    return {"judge": "pairwise", "model": model, "settings": settings}


DOORS = {
    "one": Says("one", "[[A]]"),
    "two": Says("two", "[[B]]"),
    "three": Says("three", "[[A]]"),
    "mute": Says("mute", "hm"),
}


def ruling(*members: dict[str, Any], doors: Any = DOORS, **settings: Any):
    return asyncio.run(judge(PROMPT, ANSWERS, doors, Config(members=members, **settings)))


# Asking -----------------------------------------------------------------------------------------------------------------


def test_members_of_several_models_vote() -> None:
    panel = (member("one"), member("two"), member("three"))
    assert ruling(*panel).scores == pytest.approx((2 / 3, 1 / 3))
    assert ruling(*panel, method="majority").scores == (1.0, 0.0)
    assert ruling(*panel).metadata == {"votes": {"pairwise/one": 1.0, "pairwise/two": 0.0, "pairwise/three": 1.0}}
    assert models(Config(members=(*panel, member("one")))) == ("one", "two", "three")


def test_graders_and_programs_sit_beside_comparers() -> None:
    grader = {"judge": "grade", "model": "same", "settings": {"soft": False}}
    verdict = ruling({"judge": "length"}, {"judge": "length", "settings": {"prefer": "shorter"}}, grader,
                     doors={"same": Says("same", "[[7]]")})  # fmt: skip
    assert verdict.metadata["votes"] == {"length#1": 1.0, "length#2": 0.0, "grade/same": 0.5}
    assert verdict.scores == (0.5, 0.5)


def test_all_members_may_share_one_model() -> None:
    verdict = ruling({"judge": "pairwise"}, {"judge": "constitution"}, doors=DOORS["two"])
    assert verdict.scores == (0.0, 1.0)


def test_an_unreadable_member_is_left_out_unless_too_few_remain() -> None:
    assert ruling(member("one"), member("mute"), member("three")).scores == (1.0, 0.0)
    failed = ruling(member("one"), member("mute"), member("mute", ties=True))
    assert failed.scores == ()
    assert failed.error == "unparsed: 1 of 3 members gave a readable verdict; the quorum is 0.5"


@pytest.mark.parametrize(
    ("shares", "mean", "majority"),
    [([0.9, 0.4, 0.4], 1.7 / 3, 0.0), ([1.0, 0.0], 0.5, 0.5), ([0.5, 0.5, 0.6], 1.6 / 3, 1.0), ([0.5], 0.5, 0.5)],
)
def test_the_mean_keeps_strength_and_the_majority_counts_heads(
    shares: list[float], mean: float, majority: float
) -> None:
    assert vote(shares, "mean") == pytest.approx(mean)
    assert vote(shares, "majority") == majority


def test_mistakes_in_a_member_are_named() -> None:
    with pytest.raises(UserError, match="a member of jury has no setting 'plugin'"):
        ruling({"plugin": "pairwise"}, member("one"))
    with pytest.raises(UserError, match=r"jury, member pairwise has no setting 'tie'. Did you mean 'ties'"):
        ruling(member("one", tie=True), member("two"))
    with pytest.raises(UserError, match="there is no judge 'pair'"):
        seat({"judge": "pair"}, where="jury")
    with pytest.raises(UserError, match="needs the model 'four', which is not open"):
        ruling(member("four"), member("one"))
    with pytest.raises(ValueError, match="at least two"):
        Config(members=({"judge": "length"},))


# Pooling what is stored -------------------------------------------------------------------------------------------------


def stored(judge_name: str, item: int, share: float | None) -> Judgment:
    return Judgment.of(
        prompt_id=f"p{item}", completion_ids=(f"a{item}", f"b{item}"), judge=judge_name,
        scores=() if share is None else (share, 1 - share), error="unparsed: x" if share is None else None,
    )  # fmt: skip


def test_stored_judgments_are_pooled_item_by_item() -> None:
    rows = [stored("x", 0, 1.0), stored("y", 0, 0.0), stored("z", 0, 0.8), stored("x", 1, None), stored("y", 1, None)]
    by_mean = {j.prompt_id: j for j in pool(rows)}
    assert by_mean["p0"].scores == pytest.approx((0.6, 0.4))
    assert by_mean["p0"].metadata["votes"] == pytest.approx({"x": 1.0, "y": 0.0, "z": 0.8})
    assert by_mean["p1"].error is not None
    assert by_mean["p0"].judge == "jury:mean(x + y + z)"
    assert {j.prompt_id: j.scores for j in pool(rows, method="majority")}["p0"] == (1.0, 0.0)
    with pytest.raises(UserError, match="two or more"):
        pool(rows[:1])
    with pytest.raises(UserError, match="comparisons of two"):
        pool([Judgment.of(prompt_id="p", completion_ids=("a",), judge="x", scores=(1.0,)), *rows])


def panel(accuracies: list[float], *, shared: float, items: int = 500) -> tuple[list[Judgment], dict[Any, float]]:
    """Judges of these accuracies; with chance ``shared`` an item's errors are those of the first judge."""
    rng = np.random.default_rng(0)
    truth = rng.random(items) < 0.5
    right = rng.random((items, len(accuracies))) < np.array(accuracies)
    copied = rng.random((items, len(accuracies))) < shared
    right = np.where(copied, right[:, :1], right)
    rows = [
        stored(f"judge {k}", i, float(truth[i] == right[i, k])) for i in range(items) for k in range(len(accuracies))
    ]
    return rows, {(f"a{i}", f"b{i}"): float(truth[i]) for i in range(items)}


def accuracy(judgments: list[Judgment], truth: dict[Any, float]) -> float:
    return float(np.mean([(j.scores[0] > 0.5) == truth[j.completion_ids] for j in judgments]))


def test_dawid_and_skene_beat_the_majority_of_independent_unequal_judges() -> None:
    rows, truth = panel([0.92, 0.62, 0.6, 0.6, 0.58], shared=0.0)
    assert accuracy(pool(rows, method="dawid_skene"), truth) > accuracy(pool(rows, method="majority"), truth) + 0.05


def test_a_panel_of_independent_judges_is_advised_and_one_of_copies_is_not() -> None:
    assert advice(*panel([0.75] * 5, shared=0.0)).startswith("a panel helps: 5 judges whose errors correlate by")
    copies = advice(*panel([0.75] * 9, shared=0.85))
    assert copies.startswith("do not buy the panel: 9 judges")
    assert "independent votes" in copies
    with pytest.raises(UserError, match="needs two judges and 10"):
        advice(*panel([0.75] * 3, shared=0.0, items=5))
