"""Two judges on the same pairs: flips, rankings, and whether what changes surely changes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from rlhf_eval.audit.compare import compare_judgments
from rlhf_eval.benchmarks.comparisons import Comparisons
from rlhf_eval.errors import UserError
from rlhf_eval.records import fingerprint


def judged(
    judge: str, skills: Mapping[str, float], *, prompts: int = 60, noise: float = 0.0, swap: bool = False
) -> list[Comparisons]:
    """All pairs of models on all prompts; the share is 1 for the higher skill, but for a hash of the pair."""
    groups = []
    for a, b in combinations(sorted(skills), 2):
        model, opponent = (b, a) if swap else (a, b)
        ids = [f"prompt {k}" for k in range(prompts)]
        pairs = [fingerprint(p, model) + fingerprint(p, opponent) for p in ids]
        turned = np.array([int(fingerprint(judge, p, a, b)[:6], 16) / 16**6 < noise for p in ids])
        share = np.where(turned, 1.0 - (skills[model] > skills[opponent]), float(skills[model] > skills[opponent]))
        groups.append(
            Comparisons(
                judge=judge, model=model, opponent=opponent, prompt=np.array(ids, dtype=object),
                pair=np.array(pairs, dtype=object), share=share, shown_first=np.ones(prompts, dtype=bool),
            )
        )  # fmt: skip
    return groups


def test_the_same_verdicts_change_nothing_however_they_are_listed() -> None:
    skills = {"a": 3, "b": 2, "c": 1}
    found = compare_judgments(judged("old", skills), judged("new", skills, swap=True))
    assert (found.flips.value, found.one_tie.value, found.turned, found.changes) == (0, 0, (), False)
    assert found.tau is not None and found.tau.value == 1
    assert found.models == ("a", "b", "c")
    assert found.flips.settings["pairs"] == 180
    assert all(change.value == 0 for _, _, change in found.scores)


def test_a_judge_of_the_opposite_mind_turns_everything() -> None:
    found = compare_judgments(judged("old", {"a": 3, "b": 2, "c": 1}), judged("new", {"a": 1, "b": 2, "c": 3}))
    assert found.flips.value == 1
    assert found.tau is not None and found.tau.value == -1
    assert [(t.ahead, t.behind, t.surely) for t in found.turned] == [
        ("a", "b", True),
        ("a", "c", True),
        ("b", "c", True),
    ]
    assert found.changes
    old, new, change = found.scores[0]
    assert (old.value, new.value, change.value) == (1, 0, -1)
    assert old.settings["model"] == "a"


def test_one_swap_of_neighbours_is_named_and_tau_is_scipys() -> None:
    old, new = {"a": 4, "b": 3, "c": 2, "d": 1}, {"a": 4, "b": 2, "c": 3, "d": 1}
    found = compare_judgments(judged("old", old, noise=0.1), judged("new", new, noise=0.1))
    assert [(t.ahead, t.behind) for t in found.turned] == [("b", "c")]
    turn = found.turned[0]
    assert turn.old.low > 0 > turn.new.high
    assert found.pairs_of_models == 6
    scores = [[scores[i].value for scores in found.scores] for i in (0, 1)]
    assert found.tau is not None
    assert found.tau.value == pytest.approx(stats.kendalltau(*scores).statistic)
    assert found.tau.low <= found.tau.value <= found.tau.high


def test_a_change_within_the_noise_is_not_called_sure() -> None:
    level = {"a": 2, "b": 1}
    for prompts in (8, 12):
        found = compare_judgments(
            judged("old", level, prompts=prompts, noise=0.5), judged("other", level, prompts=prompts, noise=0.5)
        )
        assert not found.changes


def test_a_tie_of_one_judge_is_no_flip() -> None:
    old, new = judged("old", {"a": 2, "b": 1}), judged("new", {"a": 2, "b": 1})
    new[0].share[:30] = 0.5
    found = compare_judgments(old, new)
    assert (found.flips.value, found.one_tie.value) == (0, 0.5)


def test_judges_without_a_common_pair_are_refused() -> None:
    with pytest.raises(UserError, match="no pair of answers in common"):
        compare_judgments(judged("old", {"a": 2, "b": 1}), judged("new", {"a": 2, "c": 1}))
