"""Markdown style of an answer as counts: headers, list items, bold, as Arena-Hard and Chatbot Arena count them.

Code blocks are taken out first. Counts per kind, as both projects store them.

    from rlhf_eval.benchmarks.style import counts
    counts("# Title\\n- **one**").headers    # 1
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_CODE = re.compile(r"```[^`]*```")
_HEADERS = {f"h{level}": re.compile(rf"^#{{{level}}}\s", re.MULTILINE) for level in range(1, 7)}
_LISTS = {
    "ordered": re.compile(r"^\s*\d+\.\s", re.MULTILINE),
    "unordered": re.compile(r"^\s*[-*+]\s", re.MULTILINE),
}
_BOLD = {"**": re.compile(r"\*\*[^*\n]+\*\*"), "__": re.compile(r"__[^_\n]+__")}


@dataclass(frozen=True, slots=True)
class Style:
    """Counts by kind, under the names of the published metadata."""

    header_count: dict[str, int]
    list_count: dict[str, int]
    bold_count: dict[str, int]

    @property
    def headers(self) -> int:
        """Headers of all levels."""
        return sum(self.header_count.values())

    @property
    def lists(self) -> int:
        """List items of both kinds."""
        return sum(self.list_count.values())

    @property
    def bold(self) -> int:
        """Bold passages."""
        return sum(self.bold_count.values())


def counts(text: str) -> Style:
    """The style of an answer."""
    plain = _CODE.sub("", text)
    families: tuple[Any, ...] = (_HEADERS, _LISTS, _BOLD)
    found = [{name: len(pattern.findall(plain)) for name, pattern in family.items()} for family in families]
    return Style(*found)
