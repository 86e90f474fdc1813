"""Conversations to tokens by the checkpoint's own chat template, and tokens back to text.

The template writes all special tokens, so none are added a second time (a doubled BOS is a common silent error).

    tokens = Tokens.of(open_checkpoint("runs/dpo/final", scheme="hf"), "hf:runs/dpo/final")
    tokens.render((Message("user", "Hi"),), answer=True)
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

from rlhf_eval.errors import RequestFailed, UserError
from rlhf_eval.models.base import Choice, Conversation, TokenLogprob
from rlhf_eval.models.local.checkpoints import Checkpoint, first_line, need, quiet

DIGITS = 9
"""Decimals of a log-probability."""

TokenChance = tuple[float, tuple[tuple[int, float], ...]]
"""The log-probability of a drawn token, and the likeliest tokens with theirs."""


class Tokens:
    """Conversations to tokens and tokens to text, for several threads."""

    def __init__(self, tokenizer: Any, spec: str) -> None:
        self.tokenizer = tokenizer
        self._lock = Lock()
        self._spelled: dict[int, str] = {}
        self._spellings: dict[str, list[int]] = {}
        if not tokenizer.chat_template:
            raise UserError(
                f"{spec} has no chat template, so a conversation cannot be written out; put a chat_template.jinja in its "
                "folder, or use a model tuned for chat"
            )
        anchors = tokenizer.encode("a", add_special_tokens=False)
        self._anchor: int | None = anchors[-1] if anchors else None

    @classmethod
    def of(cls, checkpoint: Checkpoint, spec: str) -> Tokens:
        """The tokenizer of a checkpoint; raises UserError where it is missing or has no chat template."""
        transformers = need("transformers", spec)
        try:
            with quiet():
                tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.path, **checkpoint.origin)
        except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError) as error:
            raise UserError(f"{spec}: its tokenizer cannot be loaded: {first_line(error)}") from error
        return cls(tokenizer, spec)

    def render(self, messages: Conversation, *, answer: bool) -> list[int]:
        """The tokens of a conversation, with the header of the coming answer if ``answer``.

        The template writes the special tokens itself, so none are added. Raises RequestFailed where it refuses.
        """
        turns = [{"role": m.role, "content": m.content} for m in messages]
        with self._lock:
            try:
                text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer)
            except Exception as error:  # templates raise whatever they like; it is this conversation that failed
                raise RequestFailed("bad_request", f"the chat template refuses: {first_line(error)}") from error
            ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def turn(self, messages: Conversation) -> tuple[list[int], int]:
        """The tokens of a conversation, and where its last turn begins in them: after all that the prompt has too.

        Raises RequestFailed where the last turn is not the assistant's, or the template refuses.
        """
        if len(messages) < 2 or messages[-1].role != "assistant":
            raise RequestFailed("bad_request", "an answer's log-probability needs a conversation that ends with one")
        whole, prompt = self.render(messages, answer=False), self.render(messages[:-1], answer=True)
        # A template may write an old turn otherwise than it opens a new one: what both share is the prompt.
        shared = min(len(whole), len(prompt))
        return whole, next((i for i in range(shared) if whole[i] != prompt[i]), shared)

    def encode(self, text: str) -> list[int]:
        """The tokens of bare text."""
        with self._lock:
            ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of ``ids``; special tokens are shown only if ``special``."""
        with self._lock:
            text: str = self.tokenizer.decode(
                list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False
            )
        return text

    def spell(self, token: int) -> str:
        """One token as it stands inside a text: a leading space is kept, special tokens are shown."""
        if token not in self._spelled:
            if self._anchor is None:
                self._spelled[token] = self.decode([token], special=True)
            else:
                lead = self.decode([self._anchor], special=True)
                self._spelled[token] = self.decode([self._anchor, token], special=True)[len(lead) :]
        return self._spelled[token]

    def spelled(self) -> dict[str, list[int]]:
        """Text to the tokens that spell just that, special tokens left out."""
        if not self._spellings:
            special = set(self.tokenizer.all_special_ids)
            for token in sorted(set(range(len(self.tokenizer))) - special):
                self._spellings.setdefault(self.spell(token), []).append(token)
        return self._spellings

    def pieces(self, ids: Sequence[int], text: str) -> list[str]:
        """One string a token, which together are ``text`` (up to characters split over tokens)."""
        spelled = [self.spell(token) for token in ids]
        if "".join(spelled) == text:
            return spelled
        pieces, said = [], ""
        for end in range(1, len(ids) + 1):
            now = text if end == len(ids) else self.decode(ids[:end]).rstrip("\N{REPLACEMENT CHARACTER}")
            pieces.append(now[len(said) :] if now.startswith(said) else "")
            said += pieces[-1]
        return pieces

    def choice(self, ids: Sequence[int], finish: str, chances: Sequence[TokenChance], stop: tuple[str, ...]) -> Choice:
        """The answer that ``ids`` spell, cut before the first stop string; the token with the cut in it is kept."""
        text = self.decode(ids)
        pieces = self.pieces(ids, text) if chances else []
        cuts = [at for at in (text.find(s) for s in stop) if at >= 0]
        text = text[: min(cuts)] if cuts else text
        logprobs, length = [], 0
        for piece, (own, top) in zip(pieces, chances, strict=False):
            if cuts and length >= len(text):
                break
            length += len(piece)
            alternatives = tuple((self.spell(token), round(value, DIGITS)) for token, value in top)
            logprobs.append(TokenLogprob(piece, round(own, DIGITS), alternatives))
        return Choice(text=text, finish_reason=finish, logprobs=tuple(logprobs))
