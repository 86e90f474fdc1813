"""What a token costs: a dated list of prices, and the user's own list before it (``--prices FILE``).

prices = Prices.load(Path("prices.yaml"))       # date, source, models: {NAME or PATTERN: {input, output, cached}}
cost("openai:gpt-4o-mini", usage, prices)       # US dollars; None where nobody knows
What runs on this machine has no price of its own, and costs nothing unless a list says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

from rlhf_eval.config import build, read_yaml
from rlhf_eval.errors import UserError
from rlhf_eval.records import Usage

BUILT_IN = Path(__file__).with_name("prices.yaml")
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_SCHEME = re.compile(r"^\w+:(?!//)")
_HERE = ("hf:", "vllm:", "sandbox:")
"""How the ids of models begin that run on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens of one model."""

    input: float
    output: float
    cached: float | None = None
    """For prompt tokens that the provider had in its cache; None charges them like the others."""

    batch: float = 1.0
    """What a request of a batch costs, as a share of these prices."""

    def __post_init__(self) -> None:
        if not 0 <= self.batch <= 1:
            raise ValueError(f"batch is {self.batch}; it is a share of the other prices, from 0 to 1")
        if min(self.input, self.output, self.cached or 0.0) < 0:
            raise ValueError("a price is negative")

    def batched(self) -> Price:
        """The price of the same model in a batch."""
        cached = None if self.cached is None else self.cached * self.batch
        return Price(input=self.input * self.batch, output=self.output * self.batch, cached=cached)

    def cost(self, usage: Usage) -> float:
        """US dollars for ``usage``; its cached prompt tokens at their own price."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (fresh * self.input + usage.cached_tokens * cached + usage.completion_tokens * self.output) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """The table in a prices file."""

    models: Mapping[str, Mapping[str, Any]]
    date: Any = ""
    source: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Prices:
    """Lists of prices, the first that knows a model decides."""

    lists: tuple[Mapping[str, Price], ...]
    sources: tuple[str, ...] = field(default=())
    """Where each list comes from and of what date it is, for the run's manifest."""

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """The built-in list, behind the one in ``path`` if given; raises UserError naming the file and the entry."""
        files = [*([path] if path else []), BUILT_IN]
        read = [_read(file) for file in files]
        return cls(tuple(models for models, _ in read), tuple(source for _, source in read))

    def batched(self) -> Prices:
        """What the same models cost in a batch."""
        lists = tuple({name: price.batched() for name, price in known.items()} for known in self.lists)
        return Prices(lists, self.sources)

    def of(self, model: str) -> Price | None:
        """The price of ``model`` (a name, or a spec like ``openai:NAME@URL``), or None where no list has it."""
        name = listed_as(model)
        undated = _DATED.sub("", name)
        for known in self.lists:
            for candidate in dict.fromkeys((name, undated)):
                if candidate in known:
                    return known[candidate]
            patterns = [key for key in known if fnmatchcase(name, key)]
            if patterns:
                return known[max(patterns, key=len)]
        return FREE if model.startswith(_HERE) else None

    def must_know(self, model: str, path: Path | None) -> None:
        """Raises UserError, saying where to write it, if the price of ``model`` is unknown: no limit could hold."""
        if self.of(model) is None:
            raise UserError(
                f"--max-cost cannot hold for {model}: {path or BUILT_IN.name} has no price for it. Name one in your own "
                f'file with --prices FILE: models: {{"{listed_as(model)}": {{input: 0.5, output: 1.5}}}}, in US dollars '
                "per million tokens (0 and 0 for a server of yours); or limit --max-tokens"
            )


FREE = Price(input=0.0, output=0.0)


def listed_as(model: str) -> str:
    """The name of a model in a prices file: its spec without scheme and address."""
    return _SCHEME.sub("", model).partition("@")[0]


def cost(model: str, usage: Usage, prices: Prices) -> float | None:
    """US dollars that ``usage`` of ``model`` costs, or None where its price is unknown."""
    price = prices.of(model)
    return None if price is None else price.cost(usage)


def _read(path: Path) -> tuple[dict[str, Price], str]:
    table = build(_File, read_yaml(path), where=str(path))
    models = {str(name): build(Price, entry, where=f"{path}: {name}") for name, entry in table.models.items()}
    if not models:
        raise UserError(f"{path}: it names no model; write models: {{NAME: {{input: 1.0, output: 2.0}}}}")
    return models, f"{path.name} {table.date} {table.source}".strip()
