"""Plain sampling: n answers a prompt and model, numbered, and the same whatever else is asked for."""

from __future__ import annotations

import asyncio

import pytest

from generators.sample import Config, generate
from rlhf_eval.errors import RequestFailed
from rlhf_eval.models.base import ChatRequest, Model, Reply
from rlhf_eval.models.mock import Config as MockConfig
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Prompt, Sampling

PROMPTS = [Prompt.of(f"Question {k}?") for k in range(3)]


def draw(config: Config, *models: Model, prompts: list[Prompt] = PROMPTS) -> list[Completion]:
    async def work() -> list[Completion]:
        return [c async for c in generate(prompts, models or (MockModel("writer"),), config)]

    return asyncio.run(work())


def test_n_answers_a_prompt_and_model() -> None:
    models = MockModel("writer", name="one"), MockModel("writer", name="two")
    found = draw(Config(n=4), *models)
    assert [(c.prompt_id, c.model, c.sample) for c in found] == [
        (p.id, m.name, k) for p in PROMPTS for m in models for k in range(4)
    ]
    assert len({c.id for c in found}) == 24


def test_more_samples_later_are_the_samples_that_more_at_once_would_have_been() -> None:
    whole = draw(Config(n=8))
    parts = draw(Config(n=4)) + draw(Config(n=4, first_sample=4))
    assert {(c.id, c.text) for c in parts} == {(c.id, c.text) for c in whole}


def test_another_seed_draws_other_answers_under_other_ids() -> None:
    first, second = draw(Config(n=2)), draw(Config(n=2, sample_seed=1))
    assert not {c.id for c in first} & {c.id for c in second}
    assert not {c.text for c in first} & {c.text for c in second}


def test_weights_and_not_names_make_the_id_and_the_reply_its_text() -> None:
    plain = draw(Config())[0]
    assert draw(Config(), MockModel("writer", config=MockConfig(seed=1)))[0].id != plain.id
    assert draw(Config(), MockModel("writer", config=MockConfig(latency=0.001)))[0].id != plain.id


def test_the_request_says_what_the_settings_say() -> None:
    seen: list[ChatRequest] = []

    class Spy(MockModel):
        async def chat(self, request: ChatRequest) -> Reply:
            seen.append(request)
            return await super().chat(request)

    settings = {"temperature": 0.3, "top_p": 0.9, "max_tokens": 7, "stop": ("\n",)}
    found = draw(Config(n=2, first_sample=3, sample_seed=5, **settings), Spy("writer"), prompts=PROMPTS[:1])  # type: ignore[arg-type]
    sampling = Sampling(seed=5, **settings)  # type: ignore[arg-type]
    assert seen == [ChatRequest(messages=PROMPTS[0].messages, sampling=sampling, n=2, first_sample=3)]
    assert [(c.sample, c.sampling, c.finish_reason) for c in found] == [(3, sampling, "stop"), (4, sampling, "stop")]


def test_a_model_that_gives_no_reply_ends_the_drawing() -> None:
    with pytest.raises(RequestFailed, match="bad_request"):
        draw(Config(), MockModel("echo", config=MockConfig(fail=1.0)))


@pytest.mark.parametrize("n", [0, -1, 10**20])
def test_no_answers_is_no_setting(n: int) -> None:
    with pytest.raises(ValueError, match="takes 1 to 100,000 completions"):
        Config(n=n)
