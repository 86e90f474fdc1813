"""Policy losses, KL estimators and aggregation against exact values and worked examples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainers.losses import kl_estimate, policy_losses, token_weights, value_losses

KINDS = ("k1", "k2", "k3")


def two_policies(choices: int = 8) -> tuple[Tensor, Tensor]:
    """Log-probabilities of a policy and of a reference over a few choices, float64."""
    rng = torch.Generator().manual_seed(0)
    return tuple(torch.randn(choices, generator=rng, dtype=torch.float64).log_softmax(-1) for _ in range(2))


def test_estimators_against_the_exact_kl_of_an_enumerable_policy():
    logp, ref = two_policies()
    chance = logp.exp()
    exact = float((chance * (logp - ref)).sum())
    mean = {how: float((chance * kl_estimate(logp, ref, how)).sum()) for how in KINDS}
    assert exact == pytest.approx(0.8208, abs=5e-5)
    assert mean["k1"] == pytest.approx(exact, abs=1e-12)  # positive: the code of the RLHF book pays -.8208 for drifting
    assert mean["k3"] == pytest.approx(exact, abs=1e-12)
    assert mean["k2"] == pytest.approx(0.8886, abs=5e-5)
    # That code's k3 turns the ratio round, which makes it chi-squared minus KL.
    turned = float((chance * kl_estimate(ref, logp, "k3")).sum())
    assert turned == pytest.approx(1.5962, abs=5e-5)
    assert turned == pytest.approx(float((chance**2 / ref.exp()).sum()) - 1 - exact)


@pytest.mark.parametrize(("how", "right"), [("k1", False), ("k2", True)])
def test_the_gradient_of_k2_is_that_of_the_kl_and_that_of_k1_is_nothing(how, right):
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn(8, generator=rng, dtype=torch.float64, requires_grad=True)
    ref = torch.randn(8, generator=rng, dtype=torch.float64).log_softmax(-1)
    logp = logits.log_softmax(-1)
    (exact,) = torch.autograd.grad((logp.exp() * (logp - ref)).sum(), logits, retain_graph=True)
    (ours,) = torch.autograd.grad((logp.exp().detach() * kl_estimate(logp, ref, how)).sum(), logits)
    assert torch.allclose(ours, exact if right else torch.zeros(8).double(), atol=1e-12)


def test_k3_is_never_negative_and_keeps_its_digits_near_zero():
    shift = torch.tensor([1e-4, -1e-4, 5.0, -5.0], dtype=torch.float32)
    values = kl_estimate(shift, torch.zeros(4), "k3")
    assert (values >= 0).all()
    assert values[:2].tolist() == pytest.approx([5e-9, 5e-9], rel=0.05)


def one(ratio: float, advantage: float, how: str = "clip") -> tuple[float, float, bool]:
    """Loss, gradient by the log-probability, and whether it was clipped, of a single token."""
    logps = torch.tensor([[ratio]]).double().log().requires_grad_()
    losses, clipped = policy_losses(
        logps, torch.zeros(1, 1).double(), torch.full((1, 1), advantage).double(), torch.ones(1, 1).bool(),
        how=how, clip_low=0.2, clip_high=0.28,
    )  # fmt: skip
    losses.sum().backward()
    return losses.item(), logps.grad.item(), bool(clipped)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("ratio", [0.5, 1.1, 1.5])
def test_ppo_has_no_gradient_in_exactly_two_of_six_regions(ratio, advantage):
    loss, gradient, clipped = one(ratio, advantage)
    dead = (advantage > 0 and ratio > 1.28) or (advantage < 0 and ratio < 0.8)
    assert clipped == dead
    assert gradient == pytest.approx(0.0 if dead else -advantage * ratio)
    bounded = min(max(ratio, 0.8), 1.28)
    assert loss == pytest.approx(-min(ratio * advantage, bounded * advantage))


def test_cispo_keeps_every_gradient_and_reinforce_needs_no_ratio():
    assert one(3.0, 1.0, "cispo")[1] == pytest.approx(-1.28)
    assert one(0.1, -1.0, "cispo")[1] == pytest.approx(0.8)
    assert one(3.0, 2.0, "reinforce")[1] == pytest.approx(-2.0)


def test_gspo_takes_the_geometric_mean_of_a_completion_s_ratios():
    old = torch.zeros(2, 3)
    logps = torch.tensor([[0.3, -0.1, 9.0], [0.2, 0.2, 0.2]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    losses, _ = policy_losses(logps, old, torch.ones(2, 3), mask, how="sequence_clip", clip_low=0.5, clip_high=0.5)
    assert losses[0, :2].tolist() == pytest.approx([-torch.tensor(0.1).exp().item()] * 2)
    assert losses[1].tolist() == pytest.approx([-torch.tensor(0.2).exp().item()] * 3)
    (losses * token_weights(mask, "sequence")).sum().backward()
    assert logps.grad[0].tolist() == pytest.approx([-torch.tensor(0.1).exp().item() / 2 / 2] * 2 + [0.0])


@pytest.mark.parametrize(("how", "wanted"), [("sequence", 2.35), ("token", 2.2), ("fixed", (1.4 + 1.9) / 2)])
def test_aggregation_of_the_book_s_example(how, wanted):
    losses = torch.tensor([[1.0] * 4 + [10.0] + [777.0] * 5, [1.0] * 9 + [10.0]])
    mask = torch.arange(10) < torch.tensor([[5], [10]])
    weights = token_weights(mask, how, longest=10)
    assert (losses * weights).sum().item() == pytest.approx(wanted)
    if how == "fixed":
        assert (losses * weights * 2).sum(1).tolist() == pytest.approx([1.4, 1.9])


def test_weight_of_a_token_by_aggregation():
    mask = torch.arange(7) < torch.tensor([[4], [7]])
    each = {how: (2 * token_weights(mask, how, longest=7))[:, 0].tolist() for how in ("sequence", "fixed", "token")}
    assert each["sequence"] == pytest.approx([1 / 4, 1 / 7])
    assert each["fixed"] == pytest.approx([1 / 7, 1 / 7])
    assert each["token"] == pytest.approx([2 / 11, 2 / 11])


def test_rows_of_no_tokens_do_not_count():
    mask = torch.tensor([[True, True], [False, False]])
    assert token_weights(mask, "sequence").tolist() == [[0.5, 0.5], [0, 0]]
    assert token_weights(mask, "fixed", longest=4).tolist() == [[0.25, 0.25], [0, 0]]


def test_the_critic_s_loss():
    values, old, returns = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.9]), torch.tensor([1.0, 0.0])
    assert value_losses(values, old, returns, clip=0.2).tolist() == pytest.approx([0.8**2 / 2, 0.5])
    assert value_losses(values, old, returns, clip=0.0).tolist() == [0.0, 0.5]
