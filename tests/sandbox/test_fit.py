"""The training loop: it learns, padding changes nothing, and equal seeds give equal weights."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest
import torch

from rlhf_eval.sandbox import corpus
from rlhf_eval.sandbox.fit import Example, Schedule, collate, fit, new_model

VOCABULARY = 40


def lessons(seed: int):
    """Copy a token twice."""
    rng = Random(seed)
    while True:
        token = rng.randrange(2, VOCABULARY)
        lead = [token] * rng.randint(1, 3)
        yield Example((*lead, token, 1), (*[0.0] * len(lead), 1.0, 1.0))


def trained(seed: int, lines: list[str] | None = None) -> dict[str, torch.Tensor]:
    model = new_model(VOCABULARY, 0, 1, seed)
    fit(model, lessons(seed), Schedule(steps=5, batch=5, rate=1e-3), seed, (lines or []).append, "test")
    weights: dict[str, torch.Tensor] = model.state_dict()
    return weights


def test_equal_seeds_give_equal_weights():
    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_loss_falls():
    model = new_model(VOCABULARY, 0, 1, 0)
    schedule = Schedule(steps=2, batch=16, rate=3e-3)
    before = fit(model, lessons(0), schedule, 0, str, "before")
    after = fit(model, lessons(1), Schedule(steps=25, batch=16, rate=3e-3), 0, str, "after")
    assert after < before - 1


def test_two_threads_give_the_gradient_of_the_whole_batch():
    from concurrent.futures import ThreadPoolExecutor
    from copy import deepcopy

    from rlhf_eval.sandbox.fit import _gradients, _loss

    model = new_model(VOCABULARY, 0, 1, 0)
    ids, weights = collate(list(islice(lessons(2), 7)), 0)
    whole = deepcopy(model)
    expected = _loss(whole, ids, weights) / weights[:, 1:].sum()
    expected.backward()
    twin = deepcopy(model)
    with ThreadPoolExecutor(2) as pool:
        found = _gradients(pool, model, twin, (ids, weights))
    assert found == pytest.approx(expected.item(), rel=1e-5)
    for own, other in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(own.grad, other.grad, atol=1e-6)


def test_collate_pads_on_the_right_with_no_weight():
    ids, weights = collate([Example((5, 6), (0.0, 1.0)), Example((7, 8, 9), (0.0, 0.0, 2.0))], pad=0)
    assert ids.tolist() == [[5, 6, 0], [7, 8, 9]]
    assert weights.tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]


def test_only_training_tasks_are_taught(tokenizer):
    from rlhf_eval.sandbox.world import prompts

    asked = {p.text for p in prompts("heldout")}
    for lesson in islice(corpus.training(tokenizer, Random(9), corpus.ideal), 300):
        text = tokenizer.decode(lesson.ids).removeprefix("<|user|>").partition("<|end|>")[0]
        assert text not in asked
