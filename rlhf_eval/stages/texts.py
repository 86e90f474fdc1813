"""What can be seen of a text without a model: refusal, truncation, language, markup, its words and shingles.

Heuristics, each with one job: they feed filters that a person switches on and shares that a card reports, never a label.

    refuses("I'm sorry, but I can't help with that.")    # True
"""

from __future__ import annotations

import re
import string
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint32]

_REFUSAL = re.compile(
    r"^\W*(?:i(?:'|’)?m (?:really |very |truly )?sorry,? but"
    r"|i apologi[sz]e,? but"
    r"|sorry,? (?:but )?i (?:can(?:'|’)?t|can ?not|am unable|won(?:'|’)?t)"
    r"|(?:unfortunately,? )?i (?:can(?:'|’)?t|can ?not|won(?:'|’)?t|am (?:not able|unable)|(?:'|’)?m (?:not able|unable))"
    r" (?:to )?(?:help|assist|provide|answer|fulfil|comply|do that|do this|support|create|write|generate|discuss|share)"
    r"|i(?:'|’)m (?:not able|unable) to (?:help|assist|provide|answer|fulfil|comply|create|write|generate|discuss|share)"
    r"|as an ai(?: language model)?,? i (?:can(?:'|’)?t|can ?not|am not able|am unable|do not|don(?:'|’)?t)"
    r"|i must (?:decline|refuse))",
    re.IGNORECASE,
)
_ENDS = re.compile(r"""[.!?…:;。！？।؟)\]}"'”’»`*_|>~\d]\s*$""")
_MARKUP = re.compile(r"^\s{0,3}(?:[-*+]\s|\d{1,2}[.)]\s|#{1,6}\s)|\*\*[^*\n]+\*\*|^\|.+\|", re.MULTILINE)
_MARKS = str.maketrans(dict.fromkeys(string.punctuation + "“”‘’«»…–—。，、？！：；（）", " "))

_FUNCTION_WORDS = {
    "en": "the of and to in is that it for was with as on are this be you not have from or an at by",
    "de": "der die das und ist nicht ein eine zu den mit sich auf für von dem im es auch wie ich sie",
    "es": "el la los las de que y en un una es se no por con para su lo como más pero del al",
    "fr": "le la les de des et est un une que qui dans pour pas sur au avec ce il elle sont du en",
    "it": "il lo la gli le di che e è un una per non con del della sono si da in nel come più ma",
    "pt": "o a os as de que e em um uma é se não por com para seu sua do da no na mais mas ao dos",
    "nl": "de het een en van is niet dat die op te zijn met voor er aan ook als maar om bij nog wel",
    "pl": "i w na z się nie do to że jest jak po co ale o od za przez dla tak już czy być oraz",
}
_LANGUAGES: dict[str, list[str]] = {}
for _language, _words in _FUNCTION_WORDS.items():
    for _word in _words.split():
        _LANGUAGES.setdefault(_word, []).append(_language)


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case and without punctuation marks."""
    return text.lower().translate(_MARKS).split()


def plain(text: str) -> str:
    """A text without case, punctuation and extra space: what two copies of it share."""
    return " ".join(words_of(text)) or text.strip()


def refuses(text: str) -> bool:
    """Whether an answer opens by declining, in English."""
    return _REFUSAL.match(text[:200]) is not None


def truncated(text: str) -> bool:
    """Whether a text of some length stops in the middle: a code fence left open, or no end of sentence."""
    if text.count("```") % 2:
        return True
    stripped = text.rstrip()
    return len(stripped) > 200 and _ENDS.search(stripped[-4:]) is None and _last_is_letter(stripped)


def _last_is_letter(text: str) -> bool:
    # Scripts without sentence marks in common use (Thai) end in a letter every time.
    last = text[-1]
    return (last.isalpha() and script_of(last) in ("LATIN", "CYRILLIC", "GREEK")) or last in ",-(–"


def markup(text: str) -> int:
    """How many list items, headings, bold spans and table rows a text has."""
    return len(_MARKUP.findall(text))


def script_of(text: str) -> str:
    """The script of most of the letters at the head of a text: LATIN, CYRILLIC, CJK, ...; empty without letters."""
    head = text[:400]
    if head.isascii():
        return "LATIN" if any(map(str.isalpha, head)) else ""
    letters = [c for c in head if c.isalpha()]
    if not letters:
        return ""
    if all(c < "\u0250" for c in letters):
        return "LATIN"
    names = Counter(unicodedata.name(c, "").partition(" ")[0] for c in letters)
    # Japanese mixes three scripts, and the Chinese characters often outnumber the others.
    if names["HIRAGANA"] + names["KATAKANA"]:
        return "JAPANESE"
    return names.most_common(1)[0][0]


def language_of(text: str) -> str:
    """The language of a text in Latin letters by its function words, else its script; empty where nothing can be said.

    Function words must be two and a twelfth of all words at least, and half as many again as of the runner-up.
    """
    script = script_of(text)
    if script != "LATIN":
        return script.lower()
    words = words_of(text[:1000])
    counts = Counter(language for word in words for language in _LANGUAGES.get(word, ()))
    found = [*counts.most_common(2), ("", 0), ("", 0)]
    (name, most), (_, second) = found[0], found[1]
    return name if most >= max(2, 0.08 * len(words)) and most > 1.5 * second else ""


def shingles(text: str, size: int = 3) -> Hashes:
    """Hashes of the runs of ``size`` words of a text, sorted and each once; a shorter text is one run."""
    words = np.array([zlib.crc32(word.encode()) for word in words_of(text)], dtype=np.uint32)
    count = max(1, len(words) - size + 1)
    runs = np.zeros(count, dtype=np.uint32)
    for step in range(min(size, len(words))):
        # Multiplication wraps around, as a polynomial hash wants.
        runs = runs * np.uint32(0x9E3779B1) + words[step : step + count]
    return np.unique(runs)


def jaccard(first: Hashes, second: Hashes) -> float:
    """Share of the runs of either text that both have."""
    if not len(first) or not len(second):
        return 0.0
    both = len(np.intersect1d(first, second, assume_unique=True))
    return both / (len(first) + len(second) - both)


def exact_duplicates(texts: Sequence[str]) -> NDArray[np.int64]:
    """For each text the place of the first that is the same but for case, punctuation and space."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(plain(text), i) for i, text in enumerate(texts)], dtype=np.int64)


def near_duplicates(texts: Sequence[str], *, threshold: float = 0.8, seed: int = 1) -> NDArray[np.int64]:
    """For each text the place of the first that it nearly repeats: a Jaccard similarity of 3-word runs over ``threshold``.

    MinHash with 48 permutations and an LSH of 12 bands of 4 finds the candidates (a pair at .8 is missed 2 times in 1000,
    at .9 3 times in a million), and each candidate is then compared exactly. Source: Broder (1997).
    """
    from datasketch import MinHash, MinHashLSH

    scheme = "affine32"
    permutations = MinHash(num_perm=48, seed=seed, hashfunc=_identity, scheme=scheme).permutations
    lsh = MinHashLSH(num_perm=48, params=(12, 4))
    first: dict[str, int] = {}
    kept: dict[int, Hashes] = {}
    place = np.empty(len(texts), dtype=np.int64)
    for i, text in enumerate(texts):
        place[i] = first.setdefault(plain(text), i)
        if place[i] != i:
            place[i] = place[place[i]]
            continue
        runs = shingles(text)
        sketch = MinHash(num_perm=48, seed=seed, hashfunc=_identity, permutations=permutations, scheme=scheme)
        sketch.update_batch(runs.tolist())
        alike = [(j, jaccard(runs, kept[j])) for j in sorted(lsh.query(sketch))]
        twin = next((j for j, similarity in alike if similarity >= threshold), None)
        if twin is None:
            lsh.insert(i, sketch, check_duplication=False)
            kept[i] = runs
        else:
            place[i] = twin
    return place


def _identity(value: int) -> int:
    return value
