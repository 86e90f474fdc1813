"""Losses against published numbers, hand-made ones, and the rules that they must keep."""

from __future__ import annotations

import math

import pytest
import torch

from trainers import losses
from trainers.dpo import LOSSES, Config, Scores

# The example of the RLHF book's own code (natolambert/rlhf-book, code/direct_alignment/loss.py), in double precision.
BOOK = Scores(
    chosen=torch.tensor([-10.0, -20.0], dtype=torch.float64),
    rejected=torch.tensor([-14.0, -18.0], dtype=torch.float64),
    ref_chosen=torch.tensor([-11.0, -19.0], dtype=torch.float64),
    ref_rejected=torch.tensor([-12.0, -18.5], dtype=torch.float64),
    len_chosen=torch.ones(2),
    len_rejected=torch.ones(2),
    probability=torch.ones(2, dtype=torch.float64),
    margin=torch.tensor([1.0, 2.0], dtype=torch.float64),
)
MEANS = BOOK._replace(
    chosen=torch.tensor([-1.0, -1.2], dtype=torch.float64), rejected=torch.tensor([-1.5, -1.1], dtype=torch.float64)
)


def mean(loss: str, scores: Scores = BOOK, **settings: object) -> float:
    return LOSSES[loss](scores, Config(loss=loss, **settings))[0].mean().item()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "published"),
    [
        (lambda: mean("sigmoid"), 0.66265615),
        (lambda: mean("sigmoid", label_smoothing=0.1), 0.67015615),
        (lambda: mean("ipo"), 23.125),
        (lambda: mean("apo_zero") - 1, -0.0186683),  # the book leaves the constant 1 out
        (lambda: mean("apo_down") - 1, -0.01850634),
        (lambda: mean("simpo", MEANS, beta=2.0, gamma=1.0), 1.07821482),  # the book's gamma is the paper's over beta
        (lambda: mean("orpo", MEANS, orpo_weight=0.1), 1.15850769),
    ],
)
def test_the_numbers_of_the_book(found, published) -> None:
    assert found() == pytest.approx(published, abs=1e-7)


def test_ktos_number_in_the_book() -> None:
    """Its reference point is the mean log-ratio of the rejected answers, here -.75, cut at 0."""
    h = torch.cat([BOOK.h_chosen, BOOK.h_rejected])
    label = torch.tensor([True, True, False, False])
    found = losses.kto(h, label, 0.1, losses.mismatched_kl(BOOK.h_rejected))
    assert (found[:2].mean() + found[2:].mean()).item() == pytest.approx(0.9813317, abs=1e-7)


def test_torchtunes_vectors() -> None:
    scores = Scores(
        chosen=torch.tensor([-0.5, -10.0, -1.0]), rejected=torch.tensor([-0.1, -30.0, -21.0]),
        ref_chosen=torch.tensor([-0.5, -10.1, -0.1]), ref_rejected=torch.tensor([-0.1, -20.1, -0.1]),
        len_chosen=torch.ones(3), len_rejected=torch.ones(3), probability=torch.ones(3), margin=torch.zeros(3),
    )  # fmt: skip
    sigmoid, delta = LOSSES["sigmoid"](scores, Config())
    assert delta.tolist() == pytest.approx([0.0, 1.0, 2.0], abs=1e-6)
    assert sigmoid.tolist() == pytest.approx([0.693147, 0.313262, 0.126928], abs=1e-6)
    assert LOSSES["hinge"](scores, Config())[0].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"orpo", "rebel"}))
def test_swapping_sides_and_label_leaves_the_loss(loss: str) -> None:
    """orpo learns the chosen answer's likelihood and rebel a signed margin: neither is a function of a label alone."""
    p = torch.tensor([0.7, 0.9], dtype=torch.float64)
    one = BOOK._replace(probability=p, len_chosen=torch.tensor([3.0, 4.0]), len_rejected=torch.tensor([2.0, 7.0]))
    other = Scores(
        one.rejected, one.chosen, one.ref_rejected, one.ref_chosen, one.len_rejected, one.len_chosen, 1 - p, one.margin
    )
    settings = {"loss": loss, "label_smoothing": 0.1}
    a, b = (LOSSES[loss](scores, Config(**settings))[0] for scores in (one, other))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("loss", "start"),
    [
        ("sigmoid", math.log(2)), ("robust", math.log(2)), ("sigmoid_norm", math.log(2)), ("hinge", 1.0), ("ipo", 25.0),
        ("ipo_norm", 25.0), ("apo_zero", 1.0), ("apo_down", 1.0), ("rebel", 2.5), ("r3m", math.log(2)),
    ],
)  # fmt: skip
def test_a_policy_that_equals_its_reference_starts_where_theory_says(loss: str, start: float) -> None:
    """For r3m with a cap over a half the line has not begun at 0; rebel starts at the mean squared margin, (1 + 4) / 2."""
    same = BOOK._replace(ref_chosen=BOOK.chosen, ref_rejected=BOOK.rejected, probability=torch.tensor([0.6, 0.9]))
    if loss == "rebel":
        assert mean(loss, same) == pytest.approx(start)
    else:
        assert LOSSES[loss](same, Config(loss=loss, label_smoothing=0.1))[0].tolist() == pytest.approx(
            [start] * 2, abs=1e-6
        )


@pytest.mark.parametrize("cap", [0.1, 0.5, 0.75, 0.99])
def test_r3m_is_the_papers_minimum_and_caps_the_gradient(cap: float) -> None:
    delta = torch.linspace(-6, 6, 49, dtype=torch.float64, requires_grad=True)
    found = losses.r3m(delta, cap)
    (slope,) = torch.autograd.grad(found.sum(), delta)
    torch.testing.assert_close(-slope, torch.sigmoid(-delta.detach()).clamp(max=cap), atol=1e-9, rtol=0)
    perturbations = torch.linspace(0, 20, 200_001, dtype=torch.float64)
    for d, value in zip(delta.detach()[::6], found.detach()[::6], strict=True):
        brute = (torch.nn.functional.softplus(-(d + perturbations)) + cap * perturbations).min()
        assert value.item() == pytest.approx(brute.item(), abs=1e-7)


def test_r3m_without_a_cap_is_the_logistic_loss() -> None:
    delta = torch.linspace(-4, 4, 9)
    torch.testing.assert_close(losses.r3m(delta, 1 - 1e-7), losses.sigmoid(delta), atol=1e-5, rtol=0)


def test_robust_is_unbiased_under_flips() -> None:
    """Its mean over flipped and unflipped labels is the loss of the true label."""
    delta = torch.linspace(-3, 3, 7, dtype=torch.float64)
    mean_of_both = 0.8 * losses.robust(delta, 0.2) + 0.2 * losses.robust(-delta, 0.2)
    torch.testing.assert_close(mean_of_both, losses.sigmoid(delta))


def test_the_best_margin_of_a_soft_label_is_its_log_odds() -> None:
    delta = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    best = delta[losses.sigmoid(delta, 0.8).argmin()]
    assert best.item() == pytest.approx(math.log(4), abs=0.005)


def test_an_offset_asks_for_more_between_answers_that_are_far_apart() -> None:
    _, plain = LOSSES["sigmoid"](BOOK, Config())
    _, linear = LOSSES["sigmoid"](BOOK, Config(offset=0.5, offset_form="linear"))
    _, log = LOSSES["sigmoid"](BOOK, Config(offset=0.5))
    torch.testing.assert_close(plain - linear, torch.tensor([0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(plain - log, torch.tensor([0.0, 0.5 * math.log(2)], dtype=torch.float64))


def test_slic_is_flat_once_the_margin_is_reached() -> None:
    found, _ = LOSSES["slic"](BOOK, Config(loss="slic", gamma=1.0))
    assert found.tolist() == pytest.approx([0.0, 3.0])
