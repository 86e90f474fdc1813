"""``doctor``: is everything here that the line needs, and does this model answer?

rlhf-eval doctor --model openai:NAME@http://localhost:8000/v1
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rlhf_eval import registry
from rlhf_eval.errors import RlhfEvalError
from rlhf_eval.models.base import ChatRequest
from rlhf_eval.records import Message, Sampling
from rlhf_eval.verbs.session import Options, Session, versions


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; ``good`` is None where it is merely optional and absent."""

    name: str
    good: bool | None
    words: str


async def doctor(store: Path, models: Sequence[str]) -> list[Check]:
    """Look at Python, the packages, the store, and every model named."""
    found = dict(versions())
    checks = [Check("python", sys.version_info >= (3, 11), found.pop("python"))]
    checks += [_package(name, found.get(name)) for name in ("rlhf-eval", "openai", "numpy", "scipy", "duckdb")]
    checks += [_extra(name) for name in ("torch", "transformers", "vllm", "streamlit", "ray")]
    checks += [_plugins(), _accelerator(), _store(store)]
    session = Session(Options(store=store, use_cache=False))
    try:
        checks += [await _model(session, spec) for spec in models]
    finally:
        await session.close()
    return checks


def _package(name: str, version: str | None) -> Check:
    here = version is not None or find_spec(name) is not None
    return Check(name, here, version or ("installed" if here else f"missing: {registry.install_hint(name)}"))


def _extra(name: str) -> Check:
    here = find_spec(name) is not None
    return Check(name, True if here else None, "installed" if here else f"not installed: {registry.install_hint(name)}")


def _plugins() -> Check:
    try:
        registry.check_packages()
    except RlhfEvalError as error:
        return Check("plugins", False, str(error))
    return Check("plugins", True, ", ".join(registry.PACKAGES))


def _accelerator() -> Check:
    if find_spec("torch") is None:
        return Check("accelerator", None, "torch is not installed")
    import torch

    if torch.cuda.is_available():
        return Check("accelerator", True, torch.cuda.get_device_name(0))
    return Check("accelerator", None, "none; local models run on the CPU")


def _store(store: Path) -> Check:
    place = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Check("store", True, f"{store} can be written")
    return Check("store", False, f"{store} cannot be written; name another folder with --store")


async def _model(session: Session, spec: str) -> Check:
    try:
        door = session.door(spec)
        request = ChatRequest(messages=(Message("user", "Say hello."),), sampling=Sampling(temperature=0, max_tokens=8))
        reply = await door.chat(request)
    except RlhfEvalError as error:
        return Check(spec, False, str(error).removeprefix(f"{spec}: "))
    return Check(spec, True, f"answers: {reply.choices[0].text[:60]!r}")
