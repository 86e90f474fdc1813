"""Decoding that can say nothing but one of a few choices: which tokens may follow which.

A choice may be spelled in any way that the vocabulary allows, not only as the tokenizer would, so that the probability of a
choice is that of its text; vLLM's grammars count in the same way.

    trie = trie_of({"yes": [4], "no": [5]}, {"yes": [4], "no": [5], "n": [6], "o": [7]})
    trie   # {4: {END: {}}, 5: {END: {}}, 6: {7: {END: {}}}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

END = -1
"""The mark of a complete choice."""

Trie = dict[int, Any]


def trie_of(choices: Mapping[str, Sequence[int]], spelled: Mapping[str, Sequence[int]]) -> Trie:
    """Token to subtree, all the way to ``END``.

    ``choices`` maps each choice to its own tokenization, which is always allowed (it may begin with a space that decoding
    drops); ``spelled`` maps a text to the tokens that spell just that.
    """
    longest = max(map(len, spelled), default=0)
    known: dict[str, Trie] = {}
    beginnings = {choice[:length] for choice in choices for length in range(len(choice) + 1)}
    for said in sorted(beginnings, key=len, reverse=True):  # what comes after is known before it is needed
        node = known[said] = {}
        for rest in (choice[len(said) :] for choice in choices if choice.startswith(said)):
            if not rest:
                node[END] = {}
            for piece in (rest[:end] for end in range(1, min(len(rest), longest) + 1)):
                if known[said + piece]:  # else no token completes it
                    node.update((token, known[said + piece]) for token in spelled.get(piece, ()))
    for tokens in choices.values():
        node = known[""]
        for token in tokens:
            node = node.setdefault(token, {})
        node[END] = {}
    return known[""]
