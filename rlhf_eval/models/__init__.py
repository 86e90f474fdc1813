"""Open a model by its spec: ``[alias=]scheme:rest[?option=value&...]``.

    openai:NAME@URL     any OpenAI-compatible server (vLLM, SGLang, llama.cpp, the providers); without @URL, api.openai.com;
                        NAME@URL1,URL2 shares the requests among replicas
    hf:PATH             a local folder or hub name, through transformers
    vllm:PATH           the same in process, through vLLM
    ray:SPEC            copies of one of the others, each on GPUs of its own, on a Ray cluster: ray:vllm:PATH?replicas=4
    sandbox:policy      the embedded base model;  sandbox:judge  the embedded judge
    mock:writer         deterministic stand-ins;  mock:judge  mock:echo

An alias names the model in every table: ``tonight=hf:checkpoints/dpo``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from rlhf_eval.config import build
from rlhf_eval.errors import UserError, nearest
from rlhf_eval.models.base import Model
from rlhf_eval.models.pool import Pool

_ALIAS = re.compile(r"^([\w.@+-]+)=(?=\w+:)")
SANDBOX = ("policy", "judge")
HELD = ("hf", "vllm")
"""Schemes whose models take a GPU of this machine, and are named by a folder or hub name."""
IN_PROCESS = (*HELD, "sandbox", "mock")
"""Schemes whose models live in the process that opens them."""
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


def options_of(text: str) -> dict[str, type[Any]]:
    """Scheme to the settings that a spec may carry after its question mark; of ``ray:`` those of the inner model too.

    Of the spec only schemes are read: ``openai:`` will do. Raises UserError naming the schemes.
    """
    alias = _ALIAS.match(text)
    scheme, _, rest = (text[alias.end() :] if alias else text).partition(":")
    if scheme not in _HOMES:
        raise UserError(f"'{text}': there is no model scheme '{scheme}'.{nearest(scheme, _HOMES)}")
    found: type[Any] = import_module(f"{__name__}.{_HOMES[scheme]}").Config
    inner = options_of(rest) if scheme == "ray" and rest.partition(":")[0] in IN_PROCESS else {}
    return {scheme: found, **inner}


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


def _ray(spec: Spec) -> Model:
    from rlhf_eval.models.copies import Config, open_copies

    inner = parse(spec.rest)
    if inner.scheme not in IN_PROCESS:
        raise UserError(
            f"{spec.name}: ray: holds models in its own processes: {', '.join(f'{s}:' for s in IN_PROCESS)}; "
            "servers are shared as openai:NAME@URL1,URL2"
        )
    own = {field.name for field in fields(Config)}
    config = build(Config, {key: value for key, value in spec.options.items() if key in own}, where=spec.name)
    options = {key: value for key, value in spec.options.items() if key not in own}
    # What is wrong with the inner model's options is said before a cluster starts.
    held = build(options_of(f"{inner.scheme}:")[inner.scheme], options, where=spec.name)
    path = str(Path(inner.rest).absolute()) if inner.scheme in HELD and Path(inner.rest).exists() else inner.rest
    return open_copies(
        f"{inner.scheme}:{path}" + (f"?{urlencode(options)}" if options else ""),
        name=spec.name,
        tensor_parallel=getattr(held, "tensor_parallel_size", 1),
        on_gpu=inner.scheme in HELD and not options.get("device", "").startswith("cpu"),
        config=config,
    )


def _mock(spec: Spec) -> Model:
    from rlhf_eval.models.mock import Config, MockModel

    return MockModel(spec.rest, name=spec.name, config=build(Config, spec.options, where=spec.name))


_HOMES = {"openai": "openai", "hf": "hf", "vllm": "vllm", "ray": "copies", "sandbox": "hf", "mock": "mock"}
"""Scheme to the module of its backend, whose ``Config`` holds the options."""

OPENERS: dict[str, Callable[[Spec], Model]] = {
    "openai": _openai,
    "hf": _hf,
    "vllm": _vllm,
    "ray": _ray,
    "sandbox": _sandbox,
    "mock": _mock,
}
