"""The optimizer: directions are orthogonal, momentum and decay are what they say, untouched weights stay."""

from __future__ import annotations

import pytest
import torch

from rlhf_eval.sandbox.fit import new_model
from rlhf_eval.sandbox.muon import DECAY, Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 20), (2, 20, 8)])
def test_directions_keep_singular_vectors_and_level_singular_values(shape: tuple[int, ...]):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    found = orthogonal(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    levels = (u.mT @ found @ v.mT).diagonal(dim1=-2, dim2=-1)
    assert found.shape == shape
    assert levels.median() > 0.6
    assert levels.max() < 1.3
    rest = u.mT @ found @ v.mT - torch.diag_embed(levels)
    assert rest.abs().max() < 1e-3


def test_scale_of_the_gradient_does_not_matter():
    torch.manual_seed(0)
    matrix = torch.randn(1, 8, 8)
    assert torch.allclose(orthogonal(matrix), orthogonal(1000 * matrix), atol=1e-4)


def test_a_step_moves_against_the_gradient_and_decays():
    model = new_model(20, 0, 1, 0)
    optimizer = Muon(model, 0.01)
    weight = optimizer.matrices[0]
    before = weight.detach().clone()
    for other in model.parameters():
        other.grad = torch.zeros_like(other)
    weight.grad = torch.eye(len(weight))
    optimizer.step(0.5)
    moved = weight.detach() - before * (1 - 0.01 * 0.5 * DECAY)
    assert (moved.diagonal() < 0).all()
    assert (moved - torch.diag(moved.diagonal())).abs().max() < 1e-6


def test_weights_without_a_gradient_stay():
    model = new_model(20, 0, 1, 0)
    optimizer = Muon(model, 0.01)
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer.step(1.0)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
