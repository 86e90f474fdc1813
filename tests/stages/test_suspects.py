"""The audit of labels: turned ones rise to the top where words tell, and nothing is claimed where they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.interop import pandalm
from rlhf_eval.records import Completion, Judgment, Prompt
from rlhf_eval.stages.sheet import Sheet, sheet_of_votes
from rlhf_eval.stages.suspects import suspects
from rlhf_eval.stats.suspects import cross_fitted, fitted, perturbation

GOOD, BAD = ["clear", "short", "exact", "right", "sound"], ["vague", "long", "wrong", "odd", "loose"]
PLAIN = [f"word{k}" for k in range(60)]


def planted(rate: float, *, telling: bool = True, pairs: int = 300, seed: int = 0) -> Sheet:
    """Answers of ten words of which two say how good they are; the share ``rate`` of the labels is turned."""
    rng = np.random.default_rng(seed)
    sheet = Sheet()
    for n in range(pairs):
        sides = [
            " ".join([*rng.choice(PLAIN, 8), *rng.choice(words if telling else PLAIN, 2)]) for words in (GOOD, BAD)
        ]
        flip = bool(rng.random() < rate)
        chosen, rejected = sides[::-1] if flip else sides
        sheet.add(f"prompt {n % (pairs // 2)}", chosen, rejected, flipped=flip, labeler="someone")
    return sheet


def test_turned_labels_come_first() -> None:
    sheet = planted(0.15)
    found = suspects(sheet)
    assert found.auroc is not None
    assert found.auroc > 0.95
    assert found.agreement > 0.75
    worst = [sheet.flipped[one.row] for one in found.ranked[:20]]
    assert sum(map(bool, worst)) >= 18
    assert [one.delta for one in found.ranked] == sorted((one.delta for one in found.ranked), reverse=True)
    assert found.flagged == sum(one.delta > 0 for one in found.ranked)
    assert all((one.delta > 0) == (one.believed < 0.3) for one in found.ranked)


def test_it_knows_nothing_where_words_tell_nothing() -> None:
    found = suspects(planted(0.15, telling=False))
    assert found.auroc == pytest.approx(0.5, abs=0.13)
    assert found.agreement == pytest.approx(0.5, abs=0.1)


def test_a_set_that_does_not_say_has_no_auroc() -> None:
    assert suspects(planted(0.0)).auroc is None


def votes(shares: list[list[float]]) -> tuple[list[Prompt], list[Completion], list[Judgment]]:
    """A pair an item, with one vote a labeler."""
    prompts = [Prompt.of(f"question {n}") for n in range(len(shares))]
    answers = [
        [Completion.of(prompt_id=p.id, model=m, text=f"{m} {n}") for m in ("one", "other")]
        for n, p in enumerate(prompts)
    ]
    judgments = [
        Judgment.of(
            prompt_id=prompt.id, completion_ids=(a.id, b.id), judge=f"human/{k}", scores=(share, 1 - share)
        )
        for prompt, (a, b), own in zip(prompts, answers, shares, strict=True)
        for k, share in enumerate(own)
    ]  # fmt: skip
    return prompts, [side for pair in answers for side in pair], judgments


def test_what_most_people_say_is_the_label_and_their_discord_is_kept() -> None:
    sheet = sheet_of_votes(*votes([[1, 1, 0], [0, 0, 0.5], [1, 0, 0.5], [0, 0, 0]]), "human/")
    assert sheet.chosen == ["one 0", "other 1", "other 3"]
    assert sheet.split == [True, True, False]
    assert dict(sheet.broken) == {"a tie": 1}
    assert sheet_of_votes(*votes([[1.0]]), "human/").split == [None]
    with pytest.raises(UserError, match="nobody whose name begins with 'gold'"):
        sheet_of_votes(*votes([[1.0]]), "gold")


def test_pandalms_people_are_no_more_split_on_what_is_flagged(groundtruth: Path) -> None:
    loaded = pandalm.read(groundtruth / "PandaLM")
    found = suspects(sheet_of_votes(loaded.prompts, loaded.completions, loaded.judgments, "human/"))
    assert found.split is not None
    of, others = found.split
    assert of.low < others.value < of.high  # it does not find what people disagree on
    assert len(found.ranked) == 861


def test_a_pair_does_not_vouch_for_itself() -> None:
    """With as many features as pairs a model that saw a label agrees with it; one that did not is right half the time."""
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=(80, 80)), np.repeat(np.arange(40), 2)
    assert (x @ fitted(x, lam=0.5, ridge=1e-3) > 0).mean() > 0.95
    assert (cross_fitted(x, groups, ridge=1e-3) > 0).mean() == pytest.approx(0.5, abs=0.2)


def test_the_perturbation_is_r3ms() -> None:
    margin = np.array([-3.0, -0.5, 0.0, 2.0])
    grid = np.linspace(0, 10, 20_001)
    for lam in (0.3, 0.5, 0.8):
        best = [grid[np.argmin(np.logaddexp(0, -(d + grid)) + lam * grid)] for d in margin]
        np.testing.assert_allclose(perturbation(margin, lam), best, atol=1e-3)
    with pytest.raises(UserError, match="between 0 and 1"):
        perturbation(margin, 1.0)


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(UserError, match="3 prompts cannot be cut into 5 parts"):
        cross_fitted(np.ones((3, 2)), np.arange(3))
