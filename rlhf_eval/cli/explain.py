"""What ``--help`` says beyond the flags: the plugins that a verb takes, and the settings of what is named before it.

rlhf-eval train dpo --help
rlhf-eval judge --judge rubric --help
rlhf-eval generate --model openai: --help
"""

from __future__ import annotations

import argparse
import ast
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rlhf_eval import registry
from rlhf_eval.config import Setting, describe
from rlhf_eval.errors import UserError
from rlhf_eval.models import options_of

PLAIN: tuple[Any, ...] = (None, "", (), {}, [])
"""Defaults that say nothing."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The plugins that a verb takes: their kind, the option that names one, and the one that is taken unasked."""

    kind: str
    option: str
    unasked: str = ""
    """Empty where there is none."""

    @property
    def how(self) -> str:
        """How one is named on the command line."""
        return f"--{self.option} NAME" if self.unasked else "NAME"


TAKES = {
    "load": Taken("format", "source"),
    "generate": Taken("generator", "generator", "sample"),
    "judge": Taken("judge", "judge", "pairwise"),
    "pairs": Taken("selection", "rule", "best_worst"),
    "train": Taken("trainer", "trainer"),
    "evaluate": Taken("benchmark", "benchmark", "winrate"),
}


MODELS = ("model", "judge_model", "baseline")
"""Flags that name a model."""


class Help(argparse.Action):
    """``-h`` of a verb, which is its ``const``."""

    def __init__(self, option_strings: Sequence[str], dest: str, const: str, **_: Any) -> None:
        super().__init__(
            option_strings, argparse.SUPPRESS, nargs=0, const=const, help="show this help message and exit"
        )

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any) -> None:
        """Print the help of the flags, then that of plugins and models; exits 2 where there is no such one."""
        taken = TAKES.get(str(self.const))
        lines: list[str] = []
        try:
            if taken:
                lines += explain(taken, str(getattr(namespace, taken.option, None) or taken.unasked))
            for flag in MODELS:
                specs = getattr(namespace, flag, None) or []
                for spec in [specs] if isinstance(specs, str) else specs:
                    lines += explain_model(spec)
        except UserError as error:
            parser.exit(2, f"rlhf-eval: {error}\n")
        parser.print_help()
        if lines:
            print("\n".join(lines))
        parser.exit()


def explain_model(spec: str) -> Iterator[str]:
    """The options of a model, of which the scheme is enough; raises UserError on an unknown scheme."""
    for scheme, config in options_of(spec).items():
        yield f"\noptions of a model {scheme}:, written {scheme}:NAME?option=value&option=value :"
        yield from _columns(list(_rows(describe(config))))


def explain(taken: Taken, named: str) -> Iterator[str]:
    """The plugins of a kind, a line each, and the settings of the one that is ``named``; raises UserError on an unknown."""
    yield f"\n{taken.kind}s ({taken.how} --help shows the settings of one):"
    yield from _columns([(name, _headline(path)) for name, path in registry.PLUGINS[taken.kind].items()])
    config = getattr(registry.load(taken.kind, named), "Config", None) if named else None
    settings = list(_rows(describe(config))) if config else []
    if settings:
        yield f"\nsettings of the {taken.kind} '{named}', for --set NAME=VALUE, --config or a recipe:"
        yield from _columns(settings)


def _rows(settings: Sequence[Setting], within: str = "") -> Iterator[tuple[str, str]]:
    """Name and explanation; the settings of a table inside follow it with its name before theirs."""
    for setting in settings:
        name = f"{within}{setting.name}"
        told = all(word in setting.doc for word in setting.words)
        words = "" if told else f" One of {', '.join(setting.words)}."
        known = "" if setting.default in PLAIN or is_dataclass(setting.default) else f" ({_written(setting.default)})"
        yield name, f"{setting.doc}{words}{known}".replace("``", "")
        if setting.table:
            yield from _rows(describe(setting.table), f"{name}.")


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _columns(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Names and their explanations as argparse sets them out."""
    width = min(shutil.get_terminal_size().columns, 120) - 2
    indent = min(max(len(name) for name, _ in rows), 28) + 4
    for name, words in rows:
        label = f"  {name}".ljust(indent)
        if len(label) > indent:
            yield label
            label = " " * indent
        yield textwrap.fill(words, width, initial_indent=label, subsequent_indent=" " * indent) if words else label


def _headline(path: str) -> str:
    """The first sentence of a module's docstring, read without importing the module."""
    spec = find_spec(path)
    if spec is None or spec.origin is None:
        return ""
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split())
