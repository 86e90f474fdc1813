"""Suspect labels: R3M's rule on planted margins, and what is only said where it is known which labels were turned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlhf_eval.benchmarks.evidence import FLIPPED, Evidence
from rlhf_eval.benchmarks.suspects import Config, score
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Estimate, Judgment, Prompt
from rlhf_eval.stats.corruption import auroc

MARGINS = [2.0, -1.0, -0.8, 0.5, -3.0, 1.0]  # of the label's answer over the other
TURNED = [False, True, False, False, True, True]


def evidence(*, told: bool = True, compared: bool = False) -> Evidence:
    prompts, answers, judgments = [], [], []
    for n, (margin, turned) in enumerate(zip(MARGINS, TURNED, strict=True)):
        prompt = Prompt.of(f"question {n}")
        sides = [Completion.of(prompt_id=prompt.id, model="m", text=f"{n} {k}", sample=k) for k in range(2)]
        ids = (sides[0].id, sides[1].id)
        about = {FLIPPED: turned} if told else {}
        prompts.append(prompt)
        answers += sides
        judgments.append(
            Judgment.of(prompt_id=prompt.id, completion_ids=ids, judge="gold", scores=(1.0, 0.0), metadata=about)
        )
        share = float(1 / (1 + np.exp(-margin)))
        given = [(ids[::-1], (1 - share, share))] if compared else [((ids[0],), (margin,)), ((ids[1],), (0.0,))]
        judgments += [
            Judgment.of(prompt_id=prompt.id, completion_ids=which, judge="rm", scores=said) for which, said in given
        ]
    return Evidence.of(prompts, answers, judgments)


@pytest.mark.parametrize("compared", [False, True])
def test_turned_labels_are_ranked_and_flagged_by_r3ms_rule(compared: bool) -> None:
    found: dict[str, Estimate] = {e.name: e for e in score(evidence(compared=compared), Config(lam=0.7))}
    assert found["suspects"].value == pytest.approx(2 / 6)  # sigmoid(-0.8) is .31, over .3
    assert found["auroc"].value == pytest.approx(auroc(-np.array(MARGINS), TURNED))
    assert (found["precision"].value, found["recall"].value) == pytest.approx((1.0, 2 / 3))
    assert all(e.low <= e.value <= e.high for e in found.values())


def test_a_judge_that_tells_no_two_labels_apart_has_no_sure_auroc() -> None:
    world = evidence()
    blind = tuple(j if len(j.scores) != 1 else replace(j, scores=(1.0,)) for j in world.judgments)
    found = {e.name: e for e in score(replace(world, judgments=blind), Config())}
    assert (found["auroc"].value, found["auroc"].low, found["auroc"].high) == (0.5, 0.0, 1.0)


def test_a_set_that_does_not_say_is_only_flagged() -> None:
    assert [e.name for e in score(evidence(told=False), Config())] == ["suspects"]


def test_no_judgment_is_no_audit() -> None:
    bare = evidence()
    with pytest.raises(UserError, match="no judgment on a labelled pair"):
        score(Evidence(prompts=bare.prompts, completions=bare.completions, judgments=(), labels=bare.labels), Config())
