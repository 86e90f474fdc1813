"""A model is named by a spec, and a wrong one is answered with the right ones."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.errors import UserError
from rlhf_eval.models import OPENERS, Spec, open_model, parse


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("mock:writer", Spec("mock", "writer", {}, "mock:writer")),
        ("tonight=mock:writer", Spec("mock", "writer", {}, "tonight")),
        ("v1.2+dpo-x@7=hf:a/b", Spec("hf", "a/b", {}, "v1.2+dpo-x@7")),
        ("mock:writer?latency=0.1&seed=3", Spec("mock", "writer", {"latency": "0.1", "seed": "3"}, "mock:writer")),
        ("hf:/models/my model", Spec("hf", "/models/my model", {}, "hf:/models/my model")),
        (
            "openai:org/name@http://localhost:8000/v1",
            Spec("openai", "org/name@http://localhost:8000/v1", {}, "openai:org/name@http://localhost:8000/v1"),
        ),
        (
            'j=openai:m@http://h:1/v1?extra_body={"top_k":20}',
            Spec("openai", "m@http://h:1/v1", {"extra_body": '{"top_k":20}'}, "j"),
        ),
        ("openai:ft:gpt:x=y", Spec("openai", "ft:gpt:x=y", {}, "openai:ft:gpt:x=y")),
    ],
)
def test_a_spec_is_taken_apart(text: str, spec: Spec) -> None:
    assert parse(text) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gpt-4o", "is no model: write openai:NAME@"),
        ("", "is no model"),
        ("mock:", "is no model"),
        (":writer", "there is no model scheme ''"),
        ("opanai:gpt-4o", r"there is no model scheme 'opanai'\. Did you mean 'openai'\?"),
        ("a=b=mock:writer", "there is no model scheme 'a=b=mock'"),
        ("mock:writer?latncy=1", r"mock:writer has no setting 'latncy'\. Did you mean 'latency'\?"),
        ("mock:writer?latency=fast", "`latency`"),
        ("mock:wrter", r"there is no mock 'wrter'\. Did you mean 'writer'\?"),
        ("sandbox:polcy", r"there is no sandbox model 'polcy'\. Did you mean 'policy'\?"),
        ("ray:mock", "'mock' is no model"),
        ("ray:openai:m@http://h:1/v1", r"holds models in its own processes: hf:, vllm:, sandbox:, mock:; servers are"),
        ("ray:vllm:PATH?tensor_parallel_size=x", "Expected `int`, got `str` - at `tensor_parallel_size`"),
        ("ray:mock:writer?replicas=2&latncy=1", r"no setting 'latncy'\. Did you mean 'latency'\?"),
        ("ray:mock:writer?replicas=-1", "replicas and gpus must be at least 0"),
        ("hf:/no/such/folder", "/no/such/folder"),
        ("openai:m@localhost:8000", r"'localhost:8000' is no address; write http://HOST:PORT/v1"),
        ("openai:m@http://localhost:80000/v1", r"'http://localhost:80000/v1' is no address"),
        ("openai:m@http://:8000/v1", r"'http://:8000/v1' is no address"),
        ("openai:m@http://[::1/v1", r"'http://\[::1/v1' is no address"),
    ],
)
def test_a_wrong_spec_is_one_line_that_helps(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        open_model(text)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@given(st.text(max_size=30))
def test_any_text_is_a_spec_or_the_users_mistake(text: str) -> None:
    with contextlib.suppress(UserError):
        assert parse(text).scheme in OPENERS
