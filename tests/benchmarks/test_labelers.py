"""Labelers of the same pairs: planted dissent, by hand."""

from __future__ import annotations

import pytest

from rlhf_eval.benchmarks import labelers
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, Prompt

VOTES = [
    {"a": 1.0, "b": 1.0, "c": 1.0},
    {"a": 1.0, "b": 1.0, "c": 0.0},  # c alone; with a or b gone it is a tie
    {"a": 0.0, "b": 0.0, "c": 1.0},
    {"a": 1.0, "b": 0.5, "c": 0.0},  # nobody is alone: no two agree
    {"a": 1.0, "b": 1.0},
]


def evidence(votes: list[dict[str, float]] = VOTES) -> Evidence:
    prompts, answers, judgments = [], [], []
    for n, said in enumerate(votes):
        prompt = Prompt.of(f"question {n}")
        sides = [Completion.of(prompt_id=prompt.id, model=m, text=f"{m} {n}") for m in ("one", "other")]
        prompts.append(prompt)
        answers += sides
        for name, share in said.items():
            turned = name == "b"  # the order of the answers in a judgment must not matter
            ids, scores = (sides[0].id, sides[1].id), (share, 1 - share)
            judgments.append(
                Judgment.of(
                    prompt_id=prompt.id, judge=f"human/{name}",
                    completion_ids=ids[::-1] if turned else ids, scores=scores[::-1] if turned else scores,
                )
            )  # fmt: skip
    return Evidence.of(prompts, answers, judgments)


def test_who_decides_and_who_stands_alone() -> None:
    found = {e.name: e for e in labelers.score(evidence(), labelers.Config(labelers="human"))}
    alone = {name: found[f"alone: human/{name}"] for name in "abc"}
    assert [alone[name].value for name in "abc"] == [0, 0, 0.5]
    assert {alone[name].n for name in "abc"} == {4}  # the last pair has too few others
    decides = {name: found[f"influence, majority: human/{name}"] for name in "abc"}
    assert [decides[name].value for name in "abc"] == pytest.approx([0.6, 0.4, 0.25])
    assert all(e.low <= e.value <= e.high for e in found.values())


def test_nobody_to_compare_with_is_said() -> None:
    with pytest.raises(
        UserError, match="no two judges whose names begin with 'gold' labelled one pair; found: human/a"
    ):
        labelers.score(evidence(), labelers.Config(labelers="gold"))
