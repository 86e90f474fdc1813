"""Sentences and words of English text by rule: what the counting constraints of IFEval need, with nothing to download.

A full stop, question or exclamation mark ends a sentence when white space follows, unless the stop belongs to an
abbreviation, a capital initial, a number before a small letter, or an ellipsis that the sentence runs on from. A line
break alone ends nothing, as in the splitter (Kiss and Strunk, 2006) behind the published verdicts.

    from judges.sentences import count_sentences
    count_sentences("Dr. Smith paid $3.50. Was it fair?") == 2
"""

from __future__ import annotations

import re

_INSIDE = (
    "adm approx apr assn aug ave bros ca capt cf cmdr col dec dept dr ed eds e.g esp est feb fig fr ft gen gov hon i.e jan "
    "jul jun lt maj mar mr mrs ms mt mts no nos nov oct p pp prof ref rep rev sec sen sep sept sgt st u.n v vol vs wed b.a"
)
_EITHER = "etc a.m p.m co inc ltd corp jr sr u.s u.k u.s.a d.c ph.d m.d b.c a.d al"

ENDS_SENTENCE = frozenset(_EITHER.split())
"""Abbreviations that often stand last: before a capital they end the sentence after all."""

ABBREVIATIONS = frozenset(_INSIDE.split()) | ENDS_SENTENCE
"""Lower-case words whose final stop does not end a sentence."""

LONGEST_ABBREVIATION = 24
"""Characters before a stop that are looked at."""

_END = re.compile(r"(?<![.?!])[.?!]++[\"'”’)\]}*_]*+(?=\s+\S)")
_NEXT = re.compile(r"\s+(\S{1,40})")
_CONTRACTION = re.compile(r"(?i)(n[’']t|[’'](?:s|m|d|re|ve|ll))$")
_EDGES = "\"'`“”‘’.,;:!?()[]{}<>*_#~|$%&@+=/\\…"
_JOINTS = re.compile(r"--+|\.\.+|[\s\"“”`,;:!?()\[\]{}<>*#~|$%&@…]+")


def count_sentences(text: str) -> int:
    """How many sentences ``text`` has; 0 for white space."""
    return len(split_sentences(text))


def split_sentences(text: str) -> list[str]:
    """The sentences of ``text`` without the space around them."""
    start, sentences = 0, []
    for match in _END.finditer(text):
        if _ends(text, match):
            sentences.append(text[start : match.end()].strip())
            start = match.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence]


def words(text: str) -> list[str]:
    """The words of ``text``: cut at white space and punctuation, contractions in two (``DON'T`` is ``DO`` and ``N'T``).

    Hyphens, slashes and stops inside a word keep it together.
    """
    found: list[str] = []
    for piece in _JOINTS.split(text):
        word = piece.strip(_EDGES)
        ending = _CONTRACTION.search(word)
        found.extend([word[: ending.start()], ending.group()] if ending else [word])
    return [word for word in found if word]


def _ends(text: str, match: re.Match[str]) -> bool:
    marks = match.group().rstrip("\"'”’)]}*_")
    if marks != ".":
        return set(marks) != {"."} or _next_word(text, match)[:1].isupper()
    before = text[max(0, match.start() - LONGEST_ABBREVIATION) : match.start()]
    word = (before.split() or [""])[-1].lstrip("\"'“‘([{*_").lower()
    if re.fullmatch(r"\d+", word):
        return not _next_word(text, match)[:1].islower()
    if len(word) == 1 and text[match.start() - 1].isupper():
        return False
    if word not in ABBREVIATIONS:
        return True
    return word in ENDS_SENTENCE and _next_word(text, match)[:1].isupper()


def _next_word(text: str, match: re.Match[str]) -> str:
    following = _NEXT.match(text, match.end())
    return following.group(1).lstrip("\"'“‘([{*_") if following else ""
