"""Losses where the truth is a vector: what R3M and soft labels gain, and where R3M gains nothing.

The worlds of R3M (Bukharin et al., arXiv 2406.15568) and of soft labels (Lee et al., arXiv 2309.00267), small enough to be
solved exactly: a linear reward, a thousand pairs, ten seeds. Thresholds are directions with slack, no published numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from rlhf_eval.stats import corruption
from trainers import losses

SEEDS, PAIRS, WIDTH = 10, 1000, 20


@dataclass(frozen=True)
class World:
    """Chosen minus rejected as labelled, (seeds, pairs, width), with what is true of it."""

    x: Tensor
    truth: Tensor
    flipped: Tensor
    clean: Tensor


def solved(x: Tensor, loss: Callable[[Tensor], Tensor], ridge: float = 1e-3) -> Tensor:
    """The weights of each seed, (seeds, width): the minimum of the mean loss, found to 1e-9."""
    w = torch.zeros(x.shape[0], x.shape[2], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([w], max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = loss(torch.einsum("spw,sw->sp", x, w)).mean(-1).sum() + ridge / 2 * (w**2).sum()
        total.backward()
        return total

    optimizer.step(closure)
    return w.detach()


@cache
def world(kind: str) -> World:
    truth, pairs, flips, clean = [], [], [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng([26, seed])
        w = rng.normal(size=WIDTH)
        w *= 4 / np.linalg.norm(w)
        x, fresh = (rng.normal(size=(n, WIDTH)) for n in (PAIRS, 5000))
        x, fresh = (rows * np.sign(rows @ w)[:, None] for rows in (x, fresh))
        flip = {
            "clean": lambda: np.zeros(PAIRS, dtype=bool),
            "random": lambda s=seed: corruption.random(PAIRS, rate=0.2, seed=s),
            "top_margin": lambda x=x, w=w: corruption.top_margin(x @ w, rate=0.1),
            "systematic": lambda x=x: corruption.systematic(x[:, 0], rate=0.2),
        }[kind]()
        truth.append(w)
        pairs.append(np.where(flip[:, None], -x, x))
        flips.append(flip)
        clean.append(fresh)
    return World(*(torch.tensor(np.stack(rows)) for rows in (pairs, truth, flips, clean)))


@cache
def fitted(kind: str, lam: float) -> Tensor:
    return solved(world(kind).x, (lambda d: losses.r3m(d, lam)) if lam < 1 else losses.sigmoid)


def accuracy(kind: str, lam: float) -> Tensor:
    return (torch.einsum("spw,sw->sp", world(kind).clean, fitted(kind, lam)) > 0).double().mean(-1)


def gain(kind: str) -> float:
    return float((accuracy(kind, 0.5) - accuracy(kind, 1.0)).mean())


def margins(kind: str, lam: float) -> Tensor:
    return torch.einsum("spw,sw->sp", world(kind).x, fitted(kind, lam))


def spotted(kind: str, lam: float) -> tuple[float, float]:
    """Precision and recall of the labels that R3M explains away, over all seeds."""
    suspect, flipped = losses.outlier(margins(kind, lam), lam) > 0, world(kind).flipped
    both = (suspect & flipped).sum()
    return float(both / suspect.sum()), float(both / flipped.sum())


def auroc(kind: str, lam: float) -> float:
    rows = zip(-margins(kind, lam), world(kind).flipped, strict=True)
    return float(np.mean([corruption.auroc(score.numpy(), flipped.numpy()) for score, flipped in rows]))


def test_r3m_undoes_the_flips_that_hurt_most_and_names_them() -> None:
    assert gain("top_margin") >= 0.03
    alike = torch.cosine_similarity(fitted("top_margin", 0.5), world("top_margin").truth)
    assert float(alike.mean()) >= 0.975
    precision, recall = spotted("top_margin", 0.5)
    assert precision >= 0.6
    assert recall >= 0.99
    assert min(spotted("top_margin", 0.7)) >= 0.98


def test_r3m_gains_a_little_where_labels_are_turned_at_random() -> None:
    assert 0.005 <= gain("random") <= 0.025
    assert auroc("random", 0.5) >= 0.97
    assert auroc("random", 0.5) > auroc("random", 1.0)


def test_r3m_costs_clean_labels_nothing() -> None:
    assert abs(gain("clean")) <= 0.005


def test_r3m_is_no_help_against_a_mistake_that_everybody_makes() -> None:
    assert gain("systematic") <= 0.02


def test_dpo_with_r3m_orders_as_reward_models_do() -> None:
    """A log-linear policy's implicit margin is beta times a linear one: the same weights, beta times smaller."""
    beta = 0.5
    found = solved(world("top_margin").x, lambda d: losses.r3m(beta * d, 0.5), ridge=1e-3 * beta**2)
    torch.testing.assert_close(beta * found, fitted("top_margin", 0.5), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [100, 1000])
def test_soft_labels_keep_the_scale_of_the_reward_and_hard_ones_blow_it_up(count: int) -> None:
    """Ranking is no better for it: that is not claimed."""
    rng = np.random.default_rng(7)
    truth = rng.normal(size=10)
    truth *= 2 / np.linalg.norm(truth)
    x = torch.tensor(rng.normal(size=(1, count, 10)))
    p = torch.sigmoid(x[0] @ torch.tensor(truth))
    soft = solved(x, lambda d: losses.soft(losses.sigmoid, d[0], p), ridge=1e-6)[0].numpy()
    hard = solved(x, lambda d: losses.soft(losses.sigmoid, d[0], (p > 0.5).double()))[0].numpy()
    votes = (torch.tensor(rng.random(count)) < p).double()
    drawn = solved(x, lambda d: losses.soft(losses.sigmoid, d[0], votes))[0].numpy()
    np.testing.assert_allclose(soft, truth, atol=0.02)
    assert np.linalg.norm(hard) > 2.5 * np.linalg.norm(truth)
    assert hard @ truth / np.linalg.norm(hard) / 2 > 0.95
    assert drawn @ truth / np.linalg.norm(drawn) / 2 < 0.999
