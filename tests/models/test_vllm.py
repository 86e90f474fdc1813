"""The vLLM door where vLLM is not installed; tests/vllm has the tests against the real one."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from rlhf_eval.config import build
from rlhf_eval.errors import UserError
from rlhf_eval.models.vllm import Config, VllmModel


@pytest.mark.skipif(getattr(find_spec("vllm"), "origin", None) is not None, reason="vLLM is installed here")
def test_a_missing_vllm_is_one_line_with_the_cure(tmp_path):
    with pytest.raises(UserError, match=r"big needs the package 'vllm': pip install 'rlhf-eval\[vllm\]'"):
        VllmModel.load(str(tmp_path), name="big")


def test_settings_come_from_plain_values():
    config = build(Config, {"tensor_parallel_size": "2", "enforce_eager": "true"}, where="vllm:x")
    assert (config.tensor_parallel_size, config.enforce_eager) == (2, True)
    with pytest.raises(UserError, match="Did you mean 'max_model_len'"):
        build(Config, {"max_model_length": "2"}, where="vllm:x")
