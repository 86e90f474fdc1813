"""What a copy of a model raises arrives as it was raised; the cluster itself is in ``tests/verbs/test_engine_ray.py``."""

from __future__ import annotations

import pickle

import pytest

from rlhf_eval.errors import ModelUnavailable, RequestFailed, RlhfEvalError, UserError
from rlhf_eval.models.copies import Failed


@pytest.mark.parametrize(
    "error",
    [
        RequestFailed("rate_limit", "slow down", retry_after=2.5),
        RequestFailed("context_overflow", "context_overflow: 9 tokens"),
        UserError("there is no mock 'wrter'"),
        ModelUnavailable("gone"),
    ],
)
def test_an_error_survives_the_way_out_of_its_process(error: RlhfEvalError) -> None:
    back = pickle.loads(pickle.dumps(Failed.of(error))).again()
    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))
