"""Final answers in free text: where they stand, and when two of them are the same.

Extraction is strict about the form asked for and always takes the last one, because models restate. Comparison knows
numbers (``1,000`` is ``1000.0``; ``1/2`` is ``0.5``) and simple LaTeX, nothing more.

    from judges.answers import last_number, same_number
    same_number(last_number("so 3 + 4 = 7.0"), "7")
"""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|[-+]?\.\d+"
_LAST_NUMBER = re.compile(rf"(?<![\w.])(?:{_NUMBER})(?:/\d+)?")
_GSM8K = re.compile(r"^[ \t]*(?:A:|####)[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_LETTER_MARKED = re.compile(
    r"(?i:answer|choice|option)(?i:\s+is)?\s*[:=]?\s*(?:\*\*|\$|\\\()?\s*(?:\\boxed\{|\\text\{|[(\[]+)?\s*([A-Z])\b(?!['’]\w)"
)
_LETTER_CLOSED = re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*\(?([A-Z])\)?\s*\}|\[\[\s*([A-Z])\s*\]\]|\(([A-Z])\)")
_LETTER_ALONE = re.compile(r"^[\s*(\[]*([A-Z])[\s*)\].:]*$")


def last_number(text: str) -> str | None:
    """The last number in ``text`` as it is written, commas removed; None where there is none."""
    found = None
    for match in _LAST_NUMBER.finditer(text):
        found = match.group()
    return found.replace(",", "") if found else None


def gsm8k_answer(text: str) -> str | None:
    """What stands after the last ``A:`` or ``####`` at the start of a line, commas removed; None where neither stands."""
    found = None
    for match in _GSM8K.finditer(text):
        found = match.group(1)
    return found.replace(",", "") if found is not None else None


def last_boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{...}``, braces balanced; None where there is none or it never closes."""
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len(r"\boxed{")
    for at in range(begin, len(text)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return text[begin:at].strip()
    return None


def last_letter(text: str, letters: str) -> str | None:
    """The option that ``text`` settles on, among ``letters``; None where it names none.

    In this order: the last "answer is C" (or choice, option), the last boxed or bracketed letter, a last line that is
    nothing but a letter. The word "A" inside a sentence is no option.
    """
    for pattern in (_LETTER_MARKED, _LETTER_CLOSED):
        named = [next(filter(None, match.groups())) for match in pattern.finditer(text)]
        if named:
            return named[-1] if named[-1] in letters else None
    last_line = text.strip().rsplit("\n", 1)[-1][:40]
    alone = _LETTER_ALONE.match(last_line)
    return alone.group(1) if alone and alone.group(1) in letters else None


def number(text: str) -> Fraction | None:
    """The exact value of a written number: integer, decimal, fraction, percentage, ``\\frac{a}{b}``; None for others."""
    bare = re.sub(r"[\s$£€,]|\\[!,;]", "", text).replace("\\%", "%").removesuffix(".")
    latex = re.fullmatch(r"([-+]?)\\[dt]?frac\{(\d+)\}\{(\d+)\}", bare)
    if latex:
        bare = f"{latex.group(1)}{latex.group(2)}/{latex.group(3)}"
    percent = bare.endswith("%")
    if not re.fullmatch(
        r"[-+]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:/0*[1-9]\d{0,400})?", bare.removesuffix("%")
    ):
        return None
    top, _, bottom = bare.removesuffix("%").partition("/")
    value = Fraction(top.removesuffix(".")) / Fraction(bottom or "1")
    return value / 100 if percent else value


def same_number(given: str, truth: str, tolerance: float = 0.0) -> bool:
    """Whether two written numbers differ by no more than ``tolerance`` times the truth; False where one is no number."""
    a, b = number(given), number(truth)
    return a is not None and b is not None and abs(a - b) <= Fraction(tolerance) * abs(b)


def same_expression(given: str, truth: str) -> bool:
    """Whether two short mathematical answers are the same number or, spaces and markup aside, the same expression."""
    return same_number(given, truth) or plain_expression(given) == plain_expression(truth)


def plain_expression(text: str) -> str:
    r"""``text`` without what carries no meaning in an answer: spaces, dollars, ``\left``, ``\text{...}``, a final stop."""
    bare = re.sub(r"\\(?:left|right|displaystyle|mathrm|text|textbf|mathbf)(?![a-zA-Z])", "", text.strip())
    bare = re.sub(r"\\[!,;: ]|\\\(|\\\)|\^\\circ|\^\{\\circ\}|\\%|[\s$%]", "", bare).removesuffix(".")
    bare = re.sub(r"\\[dt]frac", r"\\frac", bare)
    bare = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", bare)
    return bare[1:-1] if re.fullmatch(r"\{[^{}]*\}", bare) else bare


def plain_text(text: str) -> str:
    """``text`` as exact matching compares it: lower case, single spaces, no space or full stop at the ends."""
    return " ".join(text.lower().split()).rstrip(".").rstrip()
