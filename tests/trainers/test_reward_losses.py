"""Losses of reward models against values worked out by hand, brute force, and each other."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from trainers.losses import (  # noqa: E402
    centring,
    davidson,
    mean_by,
    outcome_per_sequence,
    outcome_per_token,
    outlier,
    plackett_luce,
    process,
    r3m,
    rao_kupper,
    sigmoid,
    soft,
)

gaps = st.floats(-8, 8)


def of(*values: float):
    return torch.tensor(values, dtype=torch.float64)


def test_the_books_identities() -> None:
    """Chapter 5: ln 2 at equal rewards; a margin of 3 against a gap of 3 is ln 2 again; a constant changes nothing."""
    assert sigmoid(of(0.0)).item() == pytest.approx(math.log(2))
    assert sigmoid(of(3.0) - 3).item() == pytest.approx(math.log(2))
    # torchtune's vectors: -log sigma of 0, 1, 2.
    assert sigmoid(of(0, 1, 2)).tolist() == pytest.approx([0.693147, 0.313262, 0.126928], abs=1e-6)
    assert soft(sigmoid, of(1.0), of(0.8)).item() == pytest.approx(0.8 * 0.3132617 + 0.2 * 1.3132617, abs=1e-6)


@given(gaps, st.floats(0, 1), st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_swapping_the_sides_changes_nothing(gap: float, p: float, lam: float) -> None:
    def loss(delta):
        return r3m(delta, lam)

    there, back = soft(loss, of(gap), of(p)), soft(loss, of(-gap), of(1 - p))
    assert there.item() == pytest.approx(back.item())
    nu = of(-0.3).squeeze()
    for tied in (davidson, rao_kupper):
        assert tied(of(gap), of(p), nu).item() == pytest.approx(tied(of(-gap), of(1 - p), nu).item())


@given(gaps, st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.95]))
def test_r3m_is_the_best_perturbation_and_clips_the_gradient(gap: float, lam: float) -> None:
    grid = torch.arange(0, 20, 1e-3, dtype=torch.float64)
    paid = sigmoid(gap + grid) + lam * grid
    assert r3m(of(gap), lam).item() == pytest.approx(paid.min().item(), abs=1e-6)
    assert outlier(of(gap), lam).item() == pytest.approx(grid[paid.argmin()].item(), abs=2e-3)
    delta = of(gap).requires_grad_()
    (slope,) = torch.autograd.grad(r3m(delta, lam).sum(), delta)
    assert -slope.item() == pytest.approx(min(torch.sigmoid(of(-gap)).item(), lam))


def test_r3m_near_one_is_plain() -> None:
    delta = torch.linspace(-6, 6, 101, dtype=torch.float64)
    assert torch.allclose(r3m(delta, 1.0), sigmoid(delta), atol=1e-12)
    assert torch.equal(outlier(delta, 1.0), torch.zeros_like(delta))
    assert (r3m(delta, 0.9999) - sigmoid(delta)).abs().max() < 1e-3


def test_a_ranking_by_hand() -> None:
    # exp(2), exp(1), exp(0): (7.389 / 11.107) (2.718 / 3.718) = 0.66524 * 0.73106
    assert plackett_luce(of(2, 1, 0)[None], torch.ones(1, 3, dtype=bool)).item() == pytest.approx(
        -math.log(0.66524096 * 0.73105858), abs=1e-7
    )


@given(st.lists(gaps, min_size=2, max_size=4))
def test_rankings_are_a_distribution_and_two_places_bradley_terry(rewards: list[float]) -> None:
    rows = torch.stack([of(*order) for order in permutations(rewards)])
    present = torch.ones_like(rows, dtype=bool)
    assert (-plackett_luce(rows, present)).exp().sum().item() == pytest.approx(1)
    two = of(*rewards[:2])
    filled = torch.cat([two, of(99.0)])[None]
    expected = sigmoid(two[0] - two[1]).item()
    filled.requires_grad_()
    loss = plackett_luce(filled, torch.tensor([[True, True, False]]))
    assert loss.item() == pytest.approx(expected)
    (slope,) = torch.autograd.grad(loss.sum(), filled)
    assert slope.isfinite().all()
    assert slope[0, 2] == 0


@pytest.mark.parametrize(("loss", "p_tie"), [(davidson, 0.5 / 2.5), (rao_kupper, 0.5 / 2.5)])
def test_ties_by_hand(loss, p_tie: float) -> None:
    # Davidson with nu = .5 and Rao-Kupper with theta = 1.5 both give equals a tie with probability .2.
    tie = of(math.log(0.5)).squeeze()
    assert loss(of(0.0), of(0.5), tie).exp().item() == pytest.approx(1 / p_tie)
    for gap in (-1.5, 0.0, 2.0):
        chances = [(-loss(of(gap), of(p), tie)).exp().item() for p in (1.0, 0.5, 0.0)]
        assert sum(chances) == pytest.approx(1)
        # The model's own statement: odds of a win against a loss, and where the tie's chance comes from.
        strong, weak = math.exp(gap / 2), math.exp(-gap / 2)
        if loss is davidson:
            assert chances[0] == pytest.approx(strong / (strong + weak + 0.5))
        else:
            assert chances[0] == pytest.approx(strong / (strong + 1.5 * weak))


def test_ties_agree_with_the_rooms_of_statistics() -> None:
    import numpy as np

    from rlhf_eval.stats.ties import _davidson, _rao_kupper

    gap = np.linspace(-3, 3, 7)
    for ours, theirs in ((davidson, _davidson), (rao_kupper, _rao_kupper)):
        chances = theirs(gap, -0.4)[0]
        for column, p in enumerate((1.0, 0.5, 0.0)):
            got = (-ours(torch.from_numpy(gap), torch.full((7,), p).double(), of(-0.4).squeeze())).exp()
            assert got.numpy() == pytest.approx(chances[:, column])


def test_centring_by_hand() -> None:
    rewards, chosen, rejected = of(1, 2, -3), torch.tensor([0, 1]), torch.tensor([1, 2])
    assert centring(rewards, chosen, rejected).tolist() == [9, 1]


def test_outcomes_and_steps_by_hand() -> None:
    logits, answer = of(0, 2, -1), torch.tensor([0, 0, 1])
    # Right answer: mean of softplus(-0), softplus(-2); wrong one: softplus(-1).
    token = [(math.log(2) + math.log1p(math.exp(-2))) / 2, math.log1p(math.exp(-1))]
    assert outcome_per_token(logits, answer, of(1, 0)).tolist() == pytest.approx(token)
    # The mean logit, not the mean probability: sigma(1), not (sigma(0) + sigma(2)) / 2.
    sequence = [math.log1p(math.exp(-1)), math.log1p(math.exp(-1))]
    assert outcome_per_sequence(logits, answer, of(1, 0)).tolist() == pytest.approx(sequence)
    steps = process(logits, of(1, 0, 0), answer, 3)
    assert steps.tolist() == pytest.approx([(math.log(2) + math.log1p(math.exp(2))) / 2, token[1], 0.0])


def test_heads_are_independent() -> None:
    torch.manual_seed(0)
    delta, p, tie = torch.randn(5, 3).double(), torch.rand(5).double(), torch.zeros(()).double()
    cases = [
        lambda d: soft(sigmoid, d, p),
        lambda d: soft(lambda x: r3m(x, 0.4), d, p),
        lambda d: davidson(d, p, tie),
        lambda d: plackett_luce(d[None], torch.ones(1, 5, dtype=bool)),
        lambda d: outcome_per_token(d, torch.tensor([0, 0, 1, 1, 1]), of(1, 0)),
        lambda d: mean_by(d, torch.tensor([0, 1, 1, 0, 0]), 2),
    ]
    for loss in cases:
        alone = torch.stack([loss(delta[:, h]) for h in range(3)], dim=-1)
        assert torch.allclose(loss(delta), alone)


def test_all_pairs_at_equal_weight_are_the_mean_over_pairs() -> None:
    """InstructGPT's batch element: 1 / C(K, 2) for each of a prompt's pairs."""
    rewards = of(0.3, -1.2, 2.0, 0.9)
    first, second = (torch.tensor(side) for side in zip(*combinations(range(4), 2), strict=True))
    losses = sigmoid(rewards[first] - rewards[second])
    weights = torch.full((6,), 1 / math.comb(4, 2), dtype=torch.float64)
    assert (losses * weights).sum().item() == pytest.approx(losses.mean().item())
