"""Prompt templates: text files beside the plugin that asks them, filled in one pass.

One pass means that an answer which contains ``{question}`` or any brace stays exactly what it is.

    fill(read("judges", "pairwise.txt"), {"question": "2+2?", "answer_a": "4", "answer_b": "5"})
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.records import Prompt

_SLOT = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


@cache
def read(package: str, name: str) -> str:
    """The template file ``name`` that lies in ``package``, without its final newline."""
    return files(package).joinpath(name).read_text(encoding="utf-8").removesuffix("\n")


@cache
def read_file(path: str) -> str:
    """A template of the user's own; raises UserError where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the template {path} cannot be read: {error}") from error


def chosen(own: str, package: str, name: str, *needs: str) -> str:
    """The user's template at the path ``own``, where one is named, else the file ``name`` of ``package``.

    Raises UserError where the user's has not all of the slots ``needs``: what it leaves out would never be seen.
    """
    if not own:
        return read(package, name)
    template = read_file(own)
    shown = _SLOT.findall(template)
    for slot in needs:
        if slot not in shown:
            has = ", ".join(f"{{{name}}}" for name in dict.fromkeys(shown)) or "no slot"
            raise UserError(f"the template {own} never shows {{{slot}}}; it has {has}")
    return template


def fill(template: str, slots: Mapping[str, str]) -> str:
    """``template`` with every ``{slot}`` replaced once; raises UserError on a slot that nobody fills."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in slots:
            raise UserError(f"the template has a slot {{{name}}} that is not filled.{nearest(name, slots)}")
        return slots[name]

    return _SLOT.sub(value, template)


def conversation(prompt: Prompt) -> str:
    """The prompt as a judge reads it: a single question as it is, several turns with their speakers."""
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in prompt.messages)
