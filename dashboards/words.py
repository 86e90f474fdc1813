"""How numbers and foreign text are written on pages and in reports; nothing here draws.

rate(estimate)       '54.2 % [50.9, 57.5]'
about(estimate)      'n = 500 prompts, judge gpt-4, 3 failed'
safe(text)           control characters made visible, the rest as it is
"""

from __future__ import annotations

import math
import shlex
import unicodedata
from collections.abc import Mapping
from typing import Any

from rlhf_eval.records import Estimate

FEW = 30
"""Prompts below which a number is shown in grey, with the reason."""

LONGEST = 20_000
"""Characters of one text that a page shows; what is cut is said."""

_SHOWN_AS_THEY_ARE = frozenset("\n\t\u200c\u200d")
"""Line breaks, and the two joiners without which some scripts and emoji fall apart."""
_HIDDEN = ("Cc", "Cf", "Co", "Cs")
_MARKDOWN = frozenset("\\`*_{}[]()<>#+-.!|~$:&")


def rate(estimate: Estimate) -> str:
    """A share as a percentage with its interval."""
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def points(estimate: Estimate) -> str:
    """A difference of shares in percentage points with its interval."""
    return f"{100 * estimate.value:+.1f} points [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"


def number(estimate: Estimate, *, sign: str = "") -> str:
    """A number without a unit, with its interval; as many decimals as the interval's width gives a meaning to."""
    half = (estimate.high - estimate.low) / 2
    if not 0 < half < math.inf:
        return f"{estimate.value:{sign}.3g} [{estimate.low:{sign}.3g}, {estimate.high:{sign}.3g}]"
    form = f"{sign},.{min(6, max(0, 1 - math.floor(math.log10(half))))}f"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def difference(estimate: Estimate) -> str:
    """A difference without a unit, with its interval."""
    return number(estimate, sign="+")


def p_value(p: float) -> str:
    """How surprising a result is where there is no difference."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def about(estimate: Estimate, *, judge: str = "", unit: str = "prompts") -> str:
    """What a number must be read with: n, judge, failures; ``judge`` where the estimate does not say it."""
    settings: Mapping[str, Any] = estimate.settings
    named = judge or str(settings.get("judge", ""))
    failed = estimate.failed + int(settings.get("unreadable", 0) or 0)
    parts = [f"n = {_count(estimate.n, unit)}", f"judge {named}" if named else ""]
    parts.append(f"{failed:,} failed or unreadable" if failed else "none failed")
    return ", ".join(part for part in parts if part)


def doubt(n: int, *, unit: str = "prompts") -> str:
    """Why a number of so few prompts is grey; empty where it is not."""
    return f"only {_count(n, unit)}: too few to believe, at least {FEW} are wanted" if n < FEW else ""


def _count(n: int, unit: str) -> str:
    return f"{n:,} {unit if n != 1 else unit.removesuffix('s')}"


def command(*words: str, store: str) -> str:
    """The command line that gives the same numbers; empty words are left out."""
    flag = [] if store == "rlhf-eval-store" else ["--store", store]
    return shlex.join(["rlhf-eval", *(word for word in words if word), *flag])


def safe(text: str, *, longest: int = LONGEST) -> str:
    """Foreign text with invisible and control characters replaced by their names, cut after ``longest`` characters.

    Bidirectional overrides are among them: they would let an answer rearrange what stands beside it.
    """
    shown = "".join(_visible(c) for c in text[:longest])
    return shown + (f"\n[{len(text) - longest:,} more characters are not shown]" if len(text) > longest else "")


def escaped(text: str) -> str:
    """Foreign text for a place that reads Markdown: on one line, every mark a letter."""
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in " ".join(safe(text, longest=300).split()))


def short(text: str, width: int = 80) -> str:
    """The beginning of a text on one line."""
    line = " ".join(safe(text, longest=4 * width).split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def name(text: str, width: int = 80) -> str:
    """A name of a model, judge or arm on one line, cut in its middle: what tells names apart often stands at their end."""
    line = " ".join(safe(text).split())
    end = width // 2
    return line if len(line) <= width else f"{line[: width - 1 - end]}…{line[-end:]}"


def _visible(character: str) -> str:
    if character in _SHOWN_AS_THEY_ARE or unicodedata.category(character) not in _HIDDEN:
        return character
    return "" if character == "\r" else f"⟨U+{ord(character):04X}⟩"


def markdown(text: str, *, longest: int = LONGEST) -> str:
    """Foreign Markdown as HTML in which links, images and raw HTML are plain words, so that nothing is ever fetched."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
    reader.disable(["link", "image", "autolink", "reference", "html_inline", "html_block"])
    return str(reader.render(safe(text, longest=longest)))
