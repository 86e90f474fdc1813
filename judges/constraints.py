"""The 25 verifiable instructions of IFEval, each a yes-or-no question about a text (Zhou et al., arXiv 2311.07911).

    from judges.constraints import follows
    follows("punctuation:no_comma", {}, "No pause at all.") is True

A check never raises on any text; a missing or mistyped setting is a UserError that names the instruction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from judges.language import detect
from judges.sentences import count_sentences, words
from rlhf_eval.errors import UserError, nearest

Settings = Mapping[str, Any]
ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""What the constrained response may be."""


def follows(instruction: str, settings: Settings, text: str) -> bool:
    """Whether ``text`` obeys one instruction; white space alone obeys none.

    ``settings`` are those of the published data set (``num_words``, ``relation``, ...). Raises UserError on an unknown
    instruction or a setting that it lacks.
    """
    if instruction not in CHECKS:
        raise UserError(f"there is no instruction '{instruction}'.{nearest(instruction, CHECKS)}")
    if not text.strip():
        return False
    try:
        return CHECKS[instruction](text, {k: v for k, v in settings.items() if v is not None})
    except KeyError as error:
        raise UserError(f"the instruction {instruction} needs the setting {error}; it has {dict(settings)}") from None


def loosened(text: str) -> list[str]:
    """The eight readings of the loose metric: with and without the first line, the last line and all asterisks."""
    lines = text.split("\n")
    cuts = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    readings = [text, *cuts]
    return [*readings, *(reading.replace("*", "") for reading in readings)]


def _compare(count: int, relation: str, bound: int) -> bool:
    if relation == "at least":
        return count >= bound
    if relation == "less than":
        return count < bound
    raise UserError(f"relation is '{relation}'; allowed: at least, less than")


def _pattern(word: str) -> str:
    """The data set's keywords are regular expressions; one that is not (``*note:``) stands for itself."""
    try:
        re.compile(word)
    except re.error:
        return re.escape(word)
    return word


def _keywords(text: str, s: Settings) -> bool:
    return all(re.search(_pattern(word), text, re.IGNORECASE) for word in s["keywords"])


def _keyword_frequency(text: str, s: Settings) -> bool:
    return _compare(len(re.findall(_pattern(s["keyword"]), text, re.IGNORECASE)), s["relation"], s["frequency"])


def _forbidden(text: str, s: Settings) -> bool:
    return not any(re.search(rf"\b{_pattern(word)}\b", text, re.IGNORECASE) for word in s["forbidden_words"])


def _letters(text: str, s: Settings) -> bool:
    return _compare(text.lower().count(s["letter"].lower()), s["let_relation"], s["let_frequency"])


def _language(text: str, s: Settings) -> bool:
    return detect(text) in (s["language"], None)


def _sentences(text: str, s: Settings) -> bool:
    return _compare(count_sentences(text), s["relation"], s["num_sentences"])


def _paragraphs(text: str, s: Settings) -> bool:
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == s["num_paragraphs"]


def _words(text: str, s: Settings) -> bool:
    return _compare(len(re.findall(r"\w+", text)), s["relation"], s["num_words"])


def _first_word(text: str, s: Settings) -> bool:
    parts = [part.strip() for part in text.split("\n\n")]
    nth = s["nth_paragraph"]
    if sum(map(bool, parts)) != s["num_paragraphs"] or not 0 < nth <= min(len(parts), s["num_paragraphs"]):
        return False
    opening = (parts[nth - 1].split() or [""])[0].lstrip("'\"").lower()
    word = re.match(r"[^.,?!'\"]*", opening)
    return word is not None and word.group() == str(s["first_word"]).lower()


def _placeholders(text: str, s: Settings) -> bool:
    return sum(map(_bracketed, text.split("\n"))) >= int(s["num_placeholders"])


def _bracketed(line: str) -> int:
    """How many ``[...]`` a line has, each from an opening bracket to the next closing one, in one pass."""
    found, at = 0, 0
    while (start := line.find("[", at)) >= 0 and (end := line.find("]", start)) >= 0:
        found, at = found + 1, end + 1
    return found


def _postscript(text: str, s: Settings) -> bool:
    marker = s["postscript_marker"]
    known = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}
    return re.search(known.get(marker, re.escape(marker.lower())), text.lower()) is not None


def _bullets(text: str, s: Settings) -> bool:
    stars = re.findall(r"^[^\S\n]*\*[^*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^[^\S\n]*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == int(s["num_bullets"])


def _constrained(text: str, s: Settings) -> bool:
    return any(answer in text for answer in ANSWERS)


def _highlights(text: str, s: Settings) -> bool:
    single = [m.strip("*").strip() for m in re.findall(r"\*[^\n*]*\*", text)]
    double = [m.removeprefix("**").removesuffix("**").strip() for m in re.findall(r"\*\*[^\n*]*\*\*", text)]
    return sum(map(bool, single + double)) >= int(s["num_highlights"])


def _sections(text: str, s: Settings) -> bool:
    return len(re.findall(rf"{re.escape(s['section_spliter'])}\s?\d+", text)) >= int(s["num_sections"])


def _json(text: str, s: Settings) -> bool:
    bare = re.sub(r"^```(?i:json)?", "", text.strip()).removesuffix("```").strip()
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, s: Settings) -> bool:
    return any(_titled(line) for line in text.split("\n"))


def _titled(line: str) -> bool:
    start, end = line.find("<<"), line.rfind(">>")
    return 0 <= start < end - 2 and bool(line[start : end + 2].lstrip("<").rstrip(">").strip())


def _two_responses(text: str, s: Settings) -> bool:
    parts = [part.strip() for part in text.split("******")]
    answers = [part for part in parts if part]
    return all(parts[1:-1]) and len(answers) == 2 and answers[0] != answers[1]


def _repeats_prompt(text: str, s: Settings) -> bool:
    return text.strip().lower().startswith(str(s["prompt_to_repeat"]).strip().lower())


def _ending(text: str, s: Settings) -> bool:
    return text.strip().strip('"').lower().endswith(str(s["end_phrase"]).strip().lower())


def _quotation(text: str, s: Settings) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare.startswith('"') and bare.endswith('"')


def _capital_words(text: str, s: Settings) -> bool:
    return _compare(sum(word.isupper() for word in words(text)), s["capital_relation"], s["capital_frequency"])


def _capitals(text: str, s: Settings) -> bool:
    return text.isupper() and detect(text) == "en"


def _lowercase(text: str, s: Settings) -> bool:
    return text.islower() and detect(text) == "en"


def _no_comma(text: str, s: Settings) -> bool:
    return "," not in text


CHECKS: Mapping[str, Callable[[str, Settings], bool]] = {
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _capitals,
    "change_case:english_lowercase": _lowercase,
    "combination:repeat_prompt": _repeats_prompt,
    "combination:two_responses": _two_responses,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:json_format": _json,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:title": _title,
    "keywords:existence": _keywords,
    "keywords:forbidden_words": _forbidden,
    "keywords:frequency": _keyword_frequency,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_words": _words,
    "punctuation:no_comma": _no_comma,
    "startend:end_checker": _ending,
    "startend:quotation": _quotation,
}
"""Instruction id to its check."""
