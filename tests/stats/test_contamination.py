"""Contamination: the overlap cases that the published script gets right and wrong."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.contamination import NgramIndex, contamination

DOCUMENT = [f"t{i}" for i in range(60)]


def changed_every(step):
    return ["new" if i % step == step - 1 else token for i, token in enumerate(DOCUMENT)]


@pytest.mark.parametrize(
    ("prompt", "score"),
    [
        (DOCUMENT, 1.0),
        (DOCUMENT[:30] + [f"u{i}" for i in range(30)], 0.5),
        (changed_every(8), 0.0),
        (changed_every(9), 0.8),
        (DOCUMENT[:8] * 3, 1.0),  # a repeated n-gram counts each time
        ([f"u{i}" for i in range(60)], 0.0),
    ],
)
def test_overlap_oracles(prompt, score):
    assert NgramIndex([["other"] * 20, DOCUMENT]).overlap(prompt).score == pytest.approx(score)


def test_short_prompts_are_compared_whole():
    index = NgramIndex([DOCUMENT, ["two", "plus", "two"]])
    assert index.overlap(["two", "plus", "two"]).score == 1
    assert index.overlap(["two", "plus", "two"]).document == 1
    assert index.overlap(["two", "plus"]).score == 0
    assert index.overlap(DOCUMENT[:7]).score == 0


def test_documents_are_not_pooled():
    index = NgramIndex([DOCUMENT[:30], DOCUMENT[30:]])
    found = index.overlap(DOCUMENT)
    assert found.score == 0.5
    assert found.document == 0


def test_unknown_tokens_match_nothing():
    assert NgramIndex([["a"] * 8]).overlap(["never"] * 8).score == 0


def test_random_text_is_clean_and_a_leak_is_flagged():
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 2001)
    texts = [[f"w{t}" for t in rng.choice(2000, 60, p=share / share.sum())] for _ in range(200)]
    index = NgramIndex(texts[:100])
    clean = contamination(texts[100:], index)
    assert clean.share.value == 0
    assert not clean.flagged
    leaked = contamination(texts[95:], index)
    assert leaked.flagged
    assert [o.document for o in leaked.overlaps[:5]] == [95, 96, 97, 98, 99]
    assert leaked.share.value == pytest.approx(5 / 105)


def test_an_ngram_has_a_token():
    with pytest.raises(UserError, match="at least one token"):
        NgramIndex([DOCUMENT], n=0)
