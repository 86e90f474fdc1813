"""Labels turned on purpose: as many as was said, marked, and turned wholly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, PreferencePair, Prompt
from rlhf_eval.stages.corrupt import Corruption, Rewards, corrupt, last_part, stated_margins, turned


def pair(number: int, margin: float = 0.0, probability: float = 1.0, **texts: str) -> PreferencePair:
    prompt = Prompt.of(f"Question {number}?")
    good, bad = texts.get("chosen", f"good {number}"), texts.get("rejected", f"bad answer {number}")
    sides = [Completion.of(prompt_id=prompt.id, model=m, text=t) for m, t in (("strong", good), ("weak", bad))]
    return PreferencePair.of(
        prompt=prompt, chosen=sides[0], rejected=sides[1], probability=probability, margin=margin, labeler="j",
        rule="best_worst", metadata={"chosen_model": "strong", "rejected_model": "weak"},
    )  # fmt: skip


PAIRS = [pair(k, margin=k) for k in range(20)]


def test_a_turned_pair_is_the_other_pair_with_the_same_claim() -> None:
    before = pair(0, margin=2.0, probability=0.9)
    after = turned(before)
    assert (after.chosen, after.rejected) == (before.rejected, before.chosen)
    assert (after.chosen_id, after.rejected_id) == (before.rejected_id, before.chosen_id)
    assert (after.margin, after.probability, after.labeler) == (2.0, 0.9, "j")
    assert after.metadata == {"chosen_model": "weak", "rejected_model": "strong", "flipped": True}
    assert after.id != before.id
    assert replace(turned(after), metadata=before.metadata) == before


def test_the_order_stays_and_every_pair_says_whether_it_was_turned() -> None:
    made = corrupt(PAIRS, Corruption(kind="top_margin", rate=0.1))
    assert np.flatnonzero(made.flipped).tolist() == [18, 19]
    assert [p.metadata["flipped"] for p in made.pairs] == made.flipped.tolist()
    assert [p.prompt_id for p in made.pairs] == [p.prompt_id for p in PAIRS]


def test_true_rewards_outrank_stated_margins() -> None:
    rewards = Rewards(margin=-np.arange(20.0), part=np.where(np.arange(20) == 7, -1.0, 1.0))
    assert np.flatnonzero(corrupt(PAIRS, Corruption(kind="top_margin", rate=0.05), rewards=rewards).flipped) == [0]
    assert np.flatnonzero(corrupt(PAIRS, Corruption(kind="myopic"), rewards=rewards).flipped) == [7]


@pytest.mark.parametrize("kind", ["random", "stochastic", "irrational"])
def test_the_seed_decides(kind: Any) -> None:
    settings = Corruption(kind=kind, rate=0.3 if kind == "random" else None, batch=10)
    once, again, other = (corrupt(PAIRS, settings, seed=seed).flipped for seed in (1, 1, 2))
    assert (once == again).all()
    assert (once != other).any()


def test_a_labeler_who_likes_length_or_markup_turns_what_has_less_of_it() -> None:
    found = [pair(0, chosen="short", rejected="much longer than that"), pair(1, chosen="- a list", rejected="plain")]
    assert corrupt(found, Corruption(kind="systematic")).flipped.tolist() == [True, False]
    swapped = [turned(p) for p in found]
    assert corrupt(swapped, Corruption(kind="systematic", feature="markup")).flipped.tolist() == [False, True]


def test_margins_are_the_stated_ones_or_the_log_odds() -> None:
    assert stated_margins(PAIRS).tolist() == list(range(20))
    soft = [pair(k, probability=p) for k, p in enumerate((0.6, 0.9))]
    np.testing.assert_allclose(stated_margins(soft), np.log([1.5, 9.0]))
    with pytest.raises(UserError, match="state no strength"):
        stated_margins([pair(0), pair(1)])


def test_the_last_part_has_a_word_at_least() -> None:
    assert last_part("one two three four", 0.5) == "three four"
    assert last_part("one two three", 0.01) == "three"
    assert last_part("", 0.5) == ""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "random"}, "needs a rate"),
        ({"kind": "irrational", "rate": 0.1}, "leave rate out"),
        ({"rate": 1.1}, "a share"),
        ({"rate": 0.1, "part": 0.0}, "a share of an answer"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Corruption(**settings)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UserError, match="name a judge"):
        corrupt(PAIRS, Corruption(kind="myopic"))
    with pytest.raises(UserError, match="no pairs"):
        corrupt([], Corruption(rate=0.1))
