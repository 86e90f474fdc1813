"""Diversity measures: exact oracles, length effects, and BLEU written the slow way."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.stats.diversity import (
    distinct_n,
    distinct_product,
    expectation_adjusted_distinct,
    ngram_similarity,
    self_bleu,
    vendi_score,
    vendi_score_of_embeddings,
)


def zipf_answers(count, length, seed, vocabulary=500):
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, vocabulary + 1)
    return [[f"w{t}" for t in rng.choice(vocabulary, length, p=share / share.sum())] for _ in range(count)]


def test_distinct_by_hand():
    answers = [["a", "b", "a"], ["a", "b"]]
    assert distinct_n(answers, n=1) == 2 / 5
    assert distinct_n(answers, n=2) == 2 / 3  # ab, ba, ab
    assert distinct_n(answers, n=4) == 0
    assert distinct_product(answers, longest=2) == (2 / 5) * (3 / 4)  # joined: a b a a b, so ab ba aa ab


def test_distinct_falls_with_length_and_ead_less():
    short, long = zipf_answers(20, 50, 0), zipf_answers(20, 200, 0)
    fall = distinct_n(long, n=1) / distinct_n(short, n=1)
    adjusted = [expectation_adjusted_distinct(x, vocabulary=500, longest=1) for x in (short, long)]
    assert fall < 0.6
    assert adjusted[1] / adjusted[0] > fall + 0.2


def test_ead_of_one_repeated_token():
    answers = [["a"] * 10]
    v = 256_000
    assert expectation_adjusted_distinct(answers, vocabulary=v, longest=1) == pytest.approx(
        1 / (v * (1 - (1 - 1 / v) ** 10))
    )
    with pytest.raises(UserError, match="no answer"):
        expectation_adjusted_distinct([[]], vocabulary=v)


def test_self_bleu_extremes():
    assert self_bleu([["the", "cat", "sat", "on", "the", "mat"]] * 10) == pytest.approx(1)
    disjoint = [[f"{i}-{j}" for j in range(20)] for i in range(10)]
    assert self_bleu(disjoint) < 0.02
    with pytest.raises(UserError, match="at least two"):
        self_bleu([["a"]])


def test_self_bleu_equals_the_slow_and_obvious_one():
    answers = zipf_answers(6, 30, 1, vocabulary=12) + zipf_answers(2, 17, 2, vocabulary=12)

    def grams(tokens, n):
        return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))

    scores = []
    for i, own in enumerate(answers):
        others = [a for j, a in enumerate(answers) if j != i]
        product = 1.0
        for n in range(1, 5):
            mine = grams(own, n)
            matched = sum(min(c, max(grams(o, n)[g] for o in others)) for g, c in mine.items())
            product *= (matched or 0.1) / sum(mine.values())
        nearest = min((abs(len(o) - len(own)), len(o)) for o in others)[1]
        scores.append(min(1, math.exp(1 - nearest / len(own))) * product**0.25)
    assert self_bleu(answers) == pytest.approx(np.mean(scores), rel=1e-12)


def test_vendi_oracles():
    assert vendi_score(np.eye(5)) == pytest.approx(5)
    assert vendi_score(np.ones((5, 5))) == pytest.approx(1)
    assert vendi_score(np.kron(np.eye(2), np.ones((3, 3)))) == pytest.approx(2)
    with pytest.raises(UserError, match="symmetric"):
        vendi_score([[1, 0.5], [0.2, 1]])


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_vendi_in_the_smaller_space_is_the_same(shape):
    x = np.random.default_rng(3).normal(size=shape)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert vendi_score_of_embeddings(x) == pytest.approx(vendi_score(unit @ unit.T), rel=1e-9)


def test_ngram_similarity():
    ours = ngram_similarity([["a", "b"], ["b", "a"], ["c", "d"], []])
    assert ours == pytest.approx(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    assert ngram_similarity([["a", "b"], ["b", "a"]], n=2)[0, 1] == 0
    assert vendi_score(ours) == pytest.approx(math.exp(1.5 * math.log(2)))
