"""Labels of people that stop anywhere in a queue still correct a biased judge, with the coverage that is printed."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, Prompt
from rlhf_eval.stages.human import corrected
from rlhf_eval.stages.route import chances, in_order_of_worth, open_comparisons, second_first


class Comparisons:
    """Two models on n prompts: a judge that favours the first by .12, and people who draw the truth."""

    def __init__(self, n: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.share = rng.beta(2, 1.4, n)
        self.truth = (rng.random(n) < np.clip(self.share - 0.12, 0, 1)).astype(float)
        self.prompts = [Prompt.of(f"Question {seed}/{k}?") for k in range(n)]
        self.answers = [
            [Completion.of(prompt_id=p.id, model=m, text=f"{m} {p.id}") for m in ("new", "old")] for p in self.prompts
        ]
        self.judged = [self.verdict(k, "judge", float(s)) for k, s in enumerate(self.share)]
        self.evidence = Evidence.of(self.prompts, [c for pair in self.answers for c in pair], self.judged)

    def verdict(self, k: int, judge: str, share: float, **metadata: float) -> Judgment:
        ids = tuple(c.id for c in self.answers[k])
        return Judgment.of(
            prompt_id=self.prompts[k].id, completion_ids=(ids[0], ids[1]), judge=judge, scores=(share, 1 - share),
            metadata=metadata,
        )  # fmt: skip

    def labels(self, count: int, seed: int) -> list[Judgment]:
        """The first ``count`` rows of the queue, labelled."""
        items = open_comparisons(self.judged)
        place = {p.id: k for k, p in enumerate(self.prompts)}
        chance = chances(items, len(items) // 4)
        asked = in_order_of_worth(items, chance, seed=seed)[:count]
        ks = [place[items[i].prompt_id] for i in asked]
        told = [float(chance[i]) for i in asked]
        return [self.verdict(k, "human/ada", self.truth[k], chance=c) for k, c in zip(ks, told, strict=True)]


@pytest.mark.parametrize("count", [12, 30])
def test_stopping_anywhere_in_the_queue_keeps_the_coverage(count: int) -> None:
    hits, errors, bias = 0, [], []
    for seed in range(80):
        world = Comparisons(120, seed)
        (found,) = corrected(world.evidence, world.labels(count, seed))
        hits += found.low <= world.truth.mean() <= found.high
        errors.append(found.value - world.truth.mean())
        bias.append(world.share.mean() - world.truth.mean())
    assert hits >= 70  # .95 of 80 less 3 standard errors
    assert abs(np.mean(errors)) < 0.03
    assert np.mean(bias) > 0.08


def test_the_doubtful_come_first_and_the_order_outlives_a_reload() -> None:
    world = Comparisons(200, 1)
    items = open_comparisons(world.judged)
    chance = chances(items, 50)
    order = in_order_of_worth(items, chance, seed=3)
    assert order == in_order_of_worth(items, chance, seed=3) != in_order_of_worth(items, chance, seed=4)
    assert sorted(order) == list(range(len(items)))
    doubt = [abs(next(iter(items[i].shares.values())) - 0.5) for i in order]
    assert np.mean(doubt[:50]) < np.mean(doubt[-50:]) - 0.05
    sides = [second_first(item, person="ada") for item in items]
    assert 0.35 < np.mean(sides) < 0.65
    assert sides != [second_first(item, person="bob") for item in items]


def test_a_corrected_win_rate_is_a_share_and_never_certain() -> None:
    world = Comparisons(40, 0)
    won = [world.verdict(k, "human/ada", 1.0) for k in range(40)]
    for count in (3, 6, 40):
        (found,) = corrected(world.evidence, won[:count])
        assert 0 <= found.low < found.value <= found.high <= 1, count


def test_what_cannot_correct_says_why() -> None:
    world = Comparisons(40, 0)
    assert corrected(world.evidence, []) == []
    with pytest.raises(UserError, match="2 labelled prompts of new are too few"):
        corrected(world.evidence, world.labels(2, 0))
    mixed = [*world.labels(4, 0)[:3], world.verdict(39, "human/bob", 1.0)]
    with pytest.raises(UserError, match="some labelled rows have a 'chance'"):
        corrected(world.evidence, mixed)
