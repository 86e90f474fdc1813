"""Judges inside a judge: how a panel, a cascade or a tournament names the judges that it asks, and asks them.

A member is a table: ``{judge: pairwise, model: "openai:NAME@URL", settings: {...}}``. Members without a model share the
one that the verb opened with ``--judge-model``. Those with one are found in the mapping from model to door that a verb
passes in its place; ``models(config)`` of such a judge lists what must be in it.

    seat({"judge": "grade", "settings": {"high": 5}}, where="jury")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from rlhf_eval import registry
from rlhf_eval.config import build
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import Model
from rlhf_eval.records import Completion, Prompt, Verdict

Models = Model | Mapping[str, Model] | None
"""One model for all members, or those that they name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A judge that another judge asks."""

    judge: str = "pairwise"
    """The plugin that asks: a registered name or the dotted path of a module."""
    model: str = ""
    """The model behind it; empty for the one that all share."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The plugin's own settings."""
    name: str = ""
    """What tables call it; empty for judge/model."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A member ready to be asked."""

    name: str
    plugin: ModuleType
    config: Any
    model: str


def seat(table: Mapping[str, Any], *, where: str) -> Seat:
    """The member that ``table`` describes; raises UserError on an unknown judge, key or setting."""
    member = build(Member, table, where=f"a member of {where}")
    plugin = registry.load("judge", member.judge)
    config = build(plugin.Config, member.settings, where=f"{where}, member {member.judge}")
    name = member.name or "/".join(filter(None, (member.judge, member.model)))
    return Seat(name, plugin, config, member.model)


def seats(tables: Sequence[Mapping[str, Any]], *, where: str) -> list[Seat]:
    """All members; equal names are numbered apart."""
    found = [seat(table, where=where) for table in tables]
    names = [one.name for one in found]
    return [
        Seat(f"{s.name}#{k}", s.plugin, s.config, s.model) if names.count(s.name) > 1 else s
        for k, s in enumerate(found, start=1)
    ]


def ask_models(tables: Sequence[Mapping[str, Any]], *, where: str) -> bool:
    """Whether any member asks a model at all."""
    return any(getattr(one.plugin, "NEEDS_MODEL", True) for one in seats(tables, where=where))


def model_of(one: Seat, models: Models) -> Model | None:
    """The door of a member; raises UserError where it names one that is not open."""
    if not getattr(one.plugin, "NEEDS_MODEL", True):
        return None
    if isinstance(models, Mapping):
        if one.model in models:
            return models[one.model]
        if not one.model and len(models) == 1:
            return next(iter(models.values()))
    elif models is not None and one.model in ("", models.name):
        return models
    raise UserError(
        f"the member {one.name} needs the model '{one.model or 'of --judge-model'}', which is not open; "
        "leave 'model' out of the member to use that of --judge-model"
    )


async def compare(prompt: Prompt, pair: Sequence[Completion], one: Seat, models: Models) -> Verdict:
    """A member's verdict on two completions as shares that sum to one: its own, or from the two scores that it gives.

    The higher score takes all, equal scores are a tie. Raises RequestFailed like the member.
    """
    model = model_of(one, models)
    if one.plugin.ARITY == 2:
        verdict: Verdict = await one.plugin.judge(prompt, pair, model, one.config)
        return verdict
    if one.plugin.ARITY == 0:
        both = [await one.plugin.judge(prompt, pair, model, one.config)]
    else:
        both = [await one.plugin.judge(prompt, [completion], model, one.config) for completion in pair]
    rationale = "\n\n".join(verdict.rationale for verdict in both)
    failed = next((verdict.error for verdict in both if verdict.error is not None), None)
    if failed is not None:
        return Verdict(error=failed, rationale=rationale)
    first, second = (score for verdict in both for score in verdict.scores)
    share = 0.5 if first == second else float(first > second)
    return Verdict(scores=(share, 1 - share), rationale=rationale, metadata={"grades": [first, second]})
