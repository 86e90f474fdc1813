"""Advantages against slow definitions, published vectors and what padding must not change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainers.advantages import (
    batch_baseline,
    gae,
    group_advantages,
    masked_mean,
    next_kl_coef,
    rewards_to_go,
    shaped_rewards,
    whitened,
)


def drawn(seed: int, rows: int = 4, columns: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values and a mask with holes and an empty row."""
    rng = torch.Generator().manual_seed(seed)
    rewards, values = (torch.randn(rows, columns, generator=rng, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(rows, columns, generator=rng) < 0.7
    mask[-1] = False
    return rewards, values, mask


def double_sum(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """GAE as it is defined: a sum of discounted surprises from every step on."""
    ahead = [*values, 0.0][1:]
    surprises = [r + gamma * n - v for r, n, v in zip(rewards, ahead, values, strict=True)]
    return [sum((gamma * lam) ** k * s for k, s in enumerate(surprises[t:])) for t in range(len(rewards))]


@given(seed=st.integers(0, 10_000), gamma=st.floats(0.5, 1.0), lam=st.floats(0.0, 1.0))
def test_gae_is_the_double_sum_over_the_steps_of_the_mask(seed, gamma, lam):
    rewards, values, mask = drawn(seed)
    advantages, returns = gae(rewards, values, mask, gamma=gamma, lam=lam)
    for b in range(len(mask)):
        live = mask[b]
        slow = double_sum(rewards[b][live].tolist(), values[b][live].tolist(), gamma, lam)
        assert advantages[b][live].tolist() == pytest.approx(slow, abs=1e-12)
        assert not advantages[b][~live].any()
        assert not returns[b][~live].any()


def test_gae_gives_the_returns_of_torchtune():
    given_ = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    _, returns = gae(given_, given_, torch.ones(1, 4, dtype=torch.bool), gamma=0.9, lam=0.95)
    wanted = [0.9**3 * 0.95**2, 0.9**2 * 0.95, 0.9, 1.0]
    assert returns[0].tolist() == pytest.approx(wanted, abs=1e-7)


def test_gae_ends_in_monte_carlo_and_in_temporal_differences():
    rewards, values, mask = drawn(3)
    mask[:-1] = True
    whole, _ = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    step, _ = gae(rewards, values, mask, gamma=0.9, lam=0.0)
    ahead = torch.cat([values[:, 1:], torch.zeros(len(values), 1)], 1)
    assert torch.allclose(whole[0], rewards[0].flip(0).cumsum(0).flip(0) - values[0])
    assert torch.allclose(step[0], (rewards + 0.9 * ahead - values)[0])


@given(seed=st.integers(0, 1000))
def test_what_stands_outside_the_mask_changes_nothing(seed):
    rewards, values, mask = drawn(seed)
    others = (torch.where(mask, rewards, 1e6), torch.where(mask, values, -1e6))
    for a, b in zip(
        gae(rewards, values, mask, gamma=0.9, lam=0.8), gae(*others, mask, gamma=0.9, lam=0.8), strict=True
    ):
        assert torch.equal(a, b)
    assert torch.equal(whitened(rewards, mask), whitened(others[0], mask))
    assert masked_mean(rewards, mask) == masked_mean(others[0], mask)


def test_whitening_over_the_mask_has_no_length_bonus():
    values = torch.rand(8, 20, generator=torch.Generator().manual_seed(0)) + 1
    mask = torch.arange(20) < torch.tensor([[5]] * 4 + [[20]] * 4)
    white = whitened(values, mask)
    assert masked_mean(white, mask).item() == pytest.approx(0, abs=1e-6)
    assert white[mask].var().item() == pytest.approx(1, abs=1e-5)
    padded = (values * mask - (values * mask).mean()) / (values * mask).std()
    assert masked_mean(padded, mask) > 0.3  # what the published code of CD-RLHF pays for a token that is merely there
    assert whitened(values, mask, centre=False)[mask].mean().item() == pytest.approx(
        values[mask].mean().item(), abs=1e-5
    )
    assert whitened(values[:1, :1], torch.ones(1, 1, dtype=torch.bool)).item() == values[0, 0].item()


def test_groups():
    scores = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0], [1.0, 3.0, 9.0]])
    valid = torch.tensor([[True] * 3, [True] * 3, [True, True, False]])
    loo, z, plain = (group_advantages(scores, valid, how) for how in ("leave_one_out", "group", "group_mean"))
    assert loo[0].tolist() == [1 - 4.0, 2 - 3.5, 6 - 1.5]
    assert torch.allclose(loo[0], plain[0] * 3 / 2)  # RLOO is G / (G - 1) times Dr. GRPO
    assert torch.allclose(z[0], plain[0] / scores[0].std(), atol=1e-3)
    assert not z[1].any()
    assert loo[2].tolist() == [-2.0, 2.0, 0.0]
    alone = torch.tensor([[True, False, False]])
    assert not group_advantages(scores[:1], alone, "leave_one_out").any()


def test_the_baseline_leaves_out_the_completion_itself():
    scores, valid = torch.tensor([1.0, 2.0, 6.0, 100.0]), torch.tensor([True, True, True, False])
    assert batch_baseline(scores, valid).tolist() == [4.0, 3.5, 1.5, 3.0]
    assert batch_baseline(scores[:1], valid[:1]).tolist() == [0.0]


def test_rewards_to_go():
    mask = torch.tensor([[True, True, False, True]])
    assert rewards_to_go(torch.tensor([[1.0, 1.0, 50.0, 4.0]]), mask, gamma=0.5).tolist() == [[2.5, 3.0, 0.0, 4.0]]


def test_shaped_rewards_are_those_of_torchtune():
    logps = torch.tensor([[0.1] * 3, [0.2] * 3, [0.3] * 3])
    rewards = shaped_rewards(torch.tensor([1.0, 2.0, 3.0]), 0.5 * (logps - 2 * logps), torch.ones(3, 3).bool())
    wanted = [[0.05, 0.05, 1.05], [0.1, 0.1, 2.1], [0.15, 0.15, 3.15]]
    assert torch.allclose(rewards, torch.tensor(wanted))


def test_the_score_lands_on_the_last_generated_token():
    mask = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    rewards = shaped_rewards(torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3, 3), mask)
    assert rewards.tolist() == [[0, 1, 0], [0, 0, 2], [0, 0, 0]]


def test_the_adaptive_price_of_kl():
    moved = [next_kl_coef(0.1, kl, target=6.0, horizon=1000, completions=100) for kl in (6.0, 6.3, 60.0, 0.0)]
    assert moved == pytest.approx([0.1, 0.1 * (1 + 0.05 * 0.1), 0.1 * 1.02, 0.1 * 0.98])
