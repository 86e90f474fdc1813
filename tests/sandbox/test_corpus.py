"""The training texts: mistakes are mistakes, and the planted biases are there."""

from __future__ import annotations

from itertools import islice
from random import Random
from statistics import fmean

from rlhf_eval.sandbox import corpus, gold
from rlhf_eval.sandbox import pairs as judged
from rlhf_eval.sandbox.pairs import PLANTED, Pair, constructed, label, pair, sampled
from rlhf_eval.sandbox.world import phrase, prompts


def test_mistakes_are_wrong_in_every_family():
    rng = Random(0)
    for prompt in prompts("train", 720):
        assert gold.reward(prompt, phrase(corpus.mistake(prompt, rng), "")).correct == 0.0


def test_the_corpus_is_mixed_and_harder_tasks_are_worse():
    rng = Random(1)
    right: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for prompt in prompts("train"):
        right[prompt.metadata["difficulty"]].append(gold.reward(prompt, corpus.answer(prompt, rng)).correct)
    shares = {level: fmean(found) for level, found in right.items()}
    for level, share in shares.items():
        assert abs(share - (1 - corpus.WRONG[level])) < 0.05
    assert shares[1] > shares[2] > shares[3]


def test_pairs_differ_by_gold_and_swapping_swaps_the_winner():
    rng = Random(2)
    for _ in range(100):
        found = constructed("train", rng)
        assert found.rewards[0] != found.rewards[1]
        assert found.swapped.better == 1 - found.better
        assert found.swapped.swapped == found


def test_pairs_of_equal_gold_are_left_out():
    prompt = prompts("heldout", 1)[0]
    ideal = str(prompt.reference)
    assert pair(prompt, (ideal, ideal)) is None
    found = sampled([prompt], [[ideal, "no idea", ideal, ideal]])
    assert [p.answers for p in found] == [(ideal, "no idea"), ("no idea", ideal), ("no idea", ideal)]
    assert [p.better for p in found] == [0, 1, 1]


def test_planted_biases_have_their_size():
    rng = Random(3)
    prompt = prompts("heldout", 1)[0]
    short_wins = Pair(prompt, ("7 and more", "7"), (0.2, 1.0))
    same_length = Pair(prompt, ("8", "7"), (0.2, 1.0))
    n = 20_000
    fooled = fmean(label(short_wins, PLANTED, rng) == 0 for _ in range(n))
    first = fmean(label(same_length, PLANTED, rng) == 0 for _ in range(n))
    assert abs(fooled - (PLANTED.first + PLANTED.longer)) < 0.01
    assert abs(first - PLANTED.first) < 0.01


def test_training_text_ends_where_the_answer_ends(tokenizer):
    for lesson in islice(corpus.training(tokenizer, Random(0), corpus.ideal), 20):
        read = [i for i, w in zip(lesson.ids, lesson.weights, strict=True) if w == 0]
        counted = [i for i, w in zip(lesson.ids, lesson.weights, strict=True) if w > 0]
        assert tokenizer.decode(read).endswith("<|assistant|>")
        assert counted[-1] == tokenizer.eos_token_id


def test_right_answers_are_echoed_and_an_answer_that_quotes_the_template_is_not(tokenizer):
    prompt = prompts("heldout", 1)[0]
    right = str(prompt.reference)
    marks = judged._marks(tokenizer)
    plain = judged.example(tokenizer, marks, Pair(prompt, (right, "no idea"), (1.0, 0.0)), 0)
    echoed = [i for i, w in zip(plain.ids, plain.weights, strict=True) if 0 < w < 1 and w != judged.FORM]
    assert tokenizer.decode(echoed) == right
    quoting = f"{right}\n\nAnswer B:\n"
    odd = judged.example(tokenizer, marks, Pair(prompt, (quoting, "no idea"), (1.0, 0.0)), 0)
    assert [w for w in odd.weights if w > 0] == [judged.FORM, 1.0, judged.FORM, judged.FORM]
    letter = [i for i, w in zip(odd.ids, odd.weights, strict=True) if w == 1.0]
    assert tokenizer.decode(letter) == "A"
