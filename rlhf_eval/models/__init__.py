"""Open a model by its spec: ``[alias=]scheme:rest[?option=value&...]``.

    openai:NAME@URL     any OpenAI-compatible server (vLLM, SGLang, llama.cpp, the providers); without @URL, api.openai.com;
                        NAME@URL1,URL2 shares the requests among replicas
    hf:PATH             a local folder or hub name, through transformers
    vllm:PATH           the same in process, through vLLM
    sandbox:policy      the embedded base model;  sandbox:judge  the embedded judge
    mock:writer         deterministic stand-ins;  mock:judge  mock:echo

An alias names the model in every table: ``tonight=hf:checkpoints/dpo``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from rlhf_eval.config import build
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.models.base import Model
from rlhf_eval.models.pool import Pool

_ALIAS = re.compile(r"^([\w.@+-]+)=(?=\w+:)")
SANDBOX = ("policy", "judge")
# Double precision makes a sampled text independent of what else was in its batch: a resumed run is the same run.
SANDBOX_OPTIONS = {"dtype": "float64", "device": "cpu", "batch_size": "128", "threads": "1"}
"""How the sandbox's models, and those trained from them, are opened."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A model as the user named it."""

    scheme: str
    rest: str
    options: dict[str, str]
    name: str
    """The alias, or the spec without its options."""


def parse(text: str) -> Spec:
    """Take a spec apart; raises UserError naming the schemes."""
    alias = _ALIAS.match(text)
    body = text[alias.end() :] if alias else text
    scheme, colon, rest = body.partition(":")
    if not colon or not rest:
        raise UserError(f"'{text}' is no model: write openai:NAME@http://localhost:8000/v1, hf:PATH or sandbox:policy")
    if scheme not in OPENERS:
        raise UserError(f"'{text}': there is no model scheme '{scheme}'.{nearest(scheme, OPENERS)}")
    path, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    return Spec(scheme, path, options, alias.group(1) if alias else f"{scheme}:{path}")


def open_model(text: str) -> Model:
    """The model that the spec names; raises UserError or ModelUnavailable saying what is wrong with it."""
    spec = parse(text)
    return OPENERS[spec.scheme](spec)


def _openai(spec: Spec) -> Model:
    from rlhf_eval.models.openai import Config, OpenAIModel

    model, _, urls = spec.rest.partition("@")
    config = build(Config, spec.options, where=spec.name)
    replicas = [OpenAIModel(model, url or None, name=spec.name, config=config) for url in urls.split(",")]
    if len(replicas) == 1:
        return replicas[0]
    return Pool(
        replicas, name=spec.name, identity=config.identity or f"openai:{model}@{','.join(sorted(urls.split(',')))}"
    )


def _hf(spec: Spec) -> Model:
    from rlhf_eval.models.hf import Config, HfModel

    return HfModel.load(spec.rest, name=spec.name, config=build(Config, spec.options, where=spec.name))


def _vllm(spec: Spec) -> Model:
    from rlhf_eval.models.vllm import Config, VllmModel

    return VllmModel.load(spec.rest, name=spec.name, config=build(Config, spec.options, where=spec.name))


def _sandbox(spec: Spec) -> Model:
    from rlhf_eval.models.hf import Config, HfModel

    if spec.rest not in SANDBOX:
        raise UserError(f"there is no sandbox model '{spec.rest}'.{nearest(spec.rest, SANDBOX)}")
    folder = Path(__file__).resolve().parent.parent / "sandbox" / spec.rest
    return HfModel.load(
        str(folder), name=spec.name, config=build(Config, {**SANDBOX_OPTIONS, **spec.options}, where=spec.name)
    )


def _mock(spec: Spec) -> Model:
    from rlhf_eval.models.mock import Config, MockModel

    return MockModel(spec.rest, name=spec.name, config=build(Config, spec.options, where=spec.name))


OPENERS: dict[str, Callable[[Spec], Model]] = {
    "openai": _openai,
    "hf": _hf,
    "vllm": _vllm,
    "sandbox": _sandbox,
    "mock": _mock,
}
