"""Records to token rows: the chat template, the boundary between prompt and answer, masks, and rows that are too long.

The boundary is TRL's: the answer starts where the tokens of the prompt and of prompt plus answer part. A row longer than
``max_length`` is refused, or cut at the left of its prompt, as the settings say; it is never dropped in silence.

    tokens = Tokenized.load("checkpoint/")
    examples, account = encode_pairs(pairs, tokens, Limit(max_length=1024))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from rlhf_eval.errors import UserError
from rlhf_eval.models.local.checkpoints import UNBOUNDED, first_line, need, open_checkpoint, quiet
from rlhf_eval.records import Demonstration, Message, PreferencePair
from rlhf_eval.stages.pairs import Labelled

Ids = tuple[int, ...]
Turns = tuple[Message, ...]
TooLong = Literal["cut", "refuse"]
Trained = Literal["completion", "final_turn", "all_turns"]
R = TypeVar("R")
E = TypeVar("E", bound="Example")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One prompt and the answers to it: one for SFT, two (chosen first) for a pair, more for a ranking."""

    id: str
    """Of the record; names the row in messages."""
    prompt: Ids
    answers: tuple[Ids, ...]
    masks: tuple[tuple[bool, ...], ...] = ()
    """Per answer, the tokens that are scored; empty scores all."""
    probability: float = 1.0
    """That the first answer is the better one."""
    margin: float = 0.0
    label: bool = True
    """Of a single answer: liked or not."""
    score: float = 0.0
    labeler: str = ""
    reference: tuple[float, ...] = ()
    """Per answer, the log-probability that a reference gives it, where that is known."""

    def __len__(self) -> int:
        """Tokens of the longest sequence: the prompt with its longest answer."""
        return len(self.prompt) + max(len(answer) for answer in self.answers)

    @property
    def scored(self) -> int:
        """Tokens that are scored, over all answers."""
        return sum(map(sum, self.masks)) if self.masks else sum(map(len, self.answers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What to do with rows that are too long."""

    max_length: int = 1024
    """Most tokens of a prompt with its answer."""
    too_long: TooLong = "cut"
    """cut takes tokens from the left of the prompt; refuse names the first row that is too long."""


@dataclass(slots=True)
class Account:
    """What became of the rows; ``rows`` and ``left_out`` sum to those that came in."""

    rows: int = 0
    cut: int = 0
    """Rows whose prompt lost tokens at its left."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason to rows that cannot be trained on."""
    unstable: int = 0
    """Rows in which the template writes the end of the prompt differently once an answer follows."""

    def notes(self) -> tuple[str, ...]:
        """One line for each thing that the user should know."""
        lines = [f"{count:,} rows left out: {reason}" for reason, count in sorted(self.left_out.items())]
        if self.cut:
            lines.append(
                f"{self.cut:,} of {self.rows:,} rows were longer than max_length: their prompts are cut at the left"
            )
        if self.unstable:
            lines.append(
                f"in {self.unstable:,} rows the chat template writes the end of the prompt differently once an answer "
                "follows; the answer starts where they part"
            )
        return tuple(lines)


class Tokenized:
    """A tokenizer that is fit for training: with a chat template, an end-of-sequence token and a pad token."""

    def __init__(self, tokenizer: Any, where: str, context: int = UNBOUNDED) -> None:
        self.tokenizer = tokenizer
        self.where = where
        self.context = context
        if not tokenizer.chat_template:
            raise UserError(
                f"{where}: the tokenizer has no chat template, so prompts cannot be written out; put the template of the "
                "model's family into chat_template.jinja in that folder"
            )
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"{where}: the tokenizer names no eos_token, so a model trained with it never stops; set eos_token in "
                "tokenizer_config.json"
            )
        self.eos: int = tokenizer.eos_token_id
        # Padding is told by the mask, never by the token: a pad token that equals EOS hides no answer's end.
        self.pad: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos

    @classmethod
    def load(cls, path: str) -> Tokenized:
        """The tokenizer of a checkpoint; raises UserError where it is missing or unfit for training."""
        transformers = need("transformers", f"train {path}")
        found = open_checkpoint(path, scheme="hf")
        try:
            with quiet():
                tokenizer = transformers.AutoTokenizer.from_pretrained(found.path, **found.origin)
        except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: its tokenizer cannot be loaded: {first_line(error)}") from error
        return cls(tokenizer, path, found.context)

    def check_vocabulary(self, rows: int) -> None:
        """Raises UserError where the tokenizer knows tokens for which the model has no embedding row."""
        if len(self.tokenizer) > rows:
            raise UserError(
                f"{self.where}: the tokenizer has {len(self.tokenizer):,} tokens and the model {rows:,} embeddings; use "
                "the model's own tokenizer, or resize its embeddings"
            )

    def render(self, turns: Turns, *, answer: bool) -> Ids:
        """The tokens of a conversation, with the header of the coming answer if ``answer``."""
        said = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            text = self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=answer)
        except Exception as error:  # templates raise whatever they like
            raise UserError(f"{self.where}: the chat template refuses a conversation: {first_line(error)}") from error
        # The template writes the special tokens itself: a second BOS is a common silent error.
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return tuple(ids)

    def split(self, prompt: Turns, answers: Sequence[Turns]) -> tuple[Ids, tuple[Ids, ...], bool]:
        """Prompt and answers as tokens, parted where all of them still agree; and whether the prompt stayed whole."""
        asked = self.render(prompt, answer=True)
        whole = [self.render((*prompt, *answer), answer=False) for answer in answers]
        at = min(_common(asked, ids) for ids in whole)
        return asked[:at], tuple(ids[at:] for ids in whole), at == len(asked)


def encode_pairs(pairs: Iterable[PreferencePair], tokens: Tokenized, limit: Limit) -> tuple[list[Example], Account]:
    """Pairs as examples of two answers, chosen first; raises UserError where none is left."""

    def one(pair: PreferencePair) -> Example | str:
        if pair.chosen == pair.rejected:
            return "chosen equals rejected"
        if not text_of(pair.chosen) or not text_of(pair.rejected):
            return "an answer is empty"
        prompt, answers, stable = tokens.split(pair.prompt, (pair.chosen, pair.rejected))
        account.unstable += not stable
        return Example(
            id=pair.id, prompt=prompt, answers=answers, probability=pair.probability, margin=pair.margin,
            labeler=pair.labeler,
        )  # fmt: skip

    account = Account()
    return encode(pairs, one, limit, account, tokens), account


def check_margins(pairs: Iterable[PreferencePair], what: str) -> None:
    """Raise UserError where a pair that is no tie has a margin of 0: nobody has said how much better its answer is."""
    decided = [pair for pair in pairs if pair.probability > 0.5]
    if unstated := [pair.id for pair in decided if pair.margin == 0]:
        raise UserError(
            f"{what} reads the margin of each pair, and {len(unstated)} of {len(decided)} have none "
            f"(first: {unstated[0]}); make the pairs from graded answers, or leave these out"
        )


def encode_demonstrations(
    demonstrations: Iterable[Demonstration], tokens: Tokenized, limit: Limit, trained: Trained = "completion"
) -> tuple[list[Example], Account]:
    """Demonstrations as examples of one answer.

    ``completion`` scores everything after the prompt, ``final_turn`` the last assistant turn alone, ``all_turns`` each
    assistant turn, those inside the prompt too. Raises UserError where none is left.
    """

    def one(demonstration: Demonstration) -> Example | str:
        if not text_of(demonstration.completion):
            return "the answer is empty"
        prompt, answer = demonstration.prompt, demonstration.completion
        if trained == "completion":
            asked, answers, stable = tokens.split(prompt, (answer,))
            account.unstable += not stable
            return Example(id=demonstration.id, prompt=asked, answers=answers, score=demonstration.score)
        ids, mask = _assistant_mask((*prompt, *answer), tokens, last_only=trained == "final_turn")
        start = mask.index(True)
        return Example(
            id=demonstration.id, prompt=ids[:start], answers=(ids[start:],), masks=(mask[start:],),
            score=demonstration.score,
        )  # fmt: skip

    account = Account()
    return encode(demonstrations, one, limit, account, tokens), account


def encode_labelled(rows: Iterable[Labelled], tokens: Tokenized, limit: Limit) -> tuple[list[Example], Account]:
    """Answers with a label of their own as examples of one answer; raises UserError where none is left."""

    def one(row: Labelled) -> Example | str:
        if not text_of(row.completion):
            return "the answer is empty"
        prompt, answers, stable = tokens.split(row.prompt, (row.completion,))
        account.unstable += not stable
        return Example(id=row.id, prompt=prompt, answers=answers, label=row.label, score=row.score, labeler=row.labeler)

    account = Account()
    return encode(rows, one, limit, account, tokens), account


def encode(
    records: Iterable[R], one: Callable[[R], E | str], limit: Limit, account: Account, tokens: Tokenized
) -> list[E]:
    """The examples that ``one`` makes of the records, or counts as left out for the reason that it gives instead.

    Raises UserError where none is left, one is longer than the model reads, or no answer ends as an answer must.
    """
    examples = []
    for record in records:
        made = one(record)
        if not isinstance(made, str):
            made = fitted(made, limit, account)
        if isinstance(made, str):
            account.left_out[made] = account.left_out.get(made, 0) + 1
        else:
            examples.append(made)
    account.rows = len(examples)
    if not examples:
        why = "; ".join(f"{reason} ({count:,})" for reason, count in account.left_out.items())
        raise UserError(f"nothing to train on: {why or 'the data holds no rows'}")
    if (longest := max(map(len, examples))) > tokens.context:
        raise UserError(
            f"a row has {longest:,} tokens and {tokens.where} reads at most {tokens.context:,}; set "
            f"max_length={tokens.context}"
        )
    if not any(tokens.eos in answer for example in examples for answer in example.answers):
        raise UserError(
            f"{tokens.where}: no answer ends with the end-of-sequence token "
            f"({tokens.tokenizer.convert_ids_to_tokens(tokens.eos)!r}), so the model would never learn to stop; let the "
            "chat template write it after each assistant turn"
        )
    return examples


def fitted(example: E, limit: Limit, account: Account) -> E | str:
    """The example within ``limit``, or why it cannot be; at least one token of the prompt stays."""
    over = len(example) - limit.max_length
    if over <= 0:
        return example
    if limit.too_long == "refuse":
        raise UserError(
            f"row {example.id} has {len(example):,} tokens and max_length is {limit.max_length:,}; raise max_length, or "
            "set too_long=cut to shorten prompts at their left"
        )
    if over >= len(example.prompt):
        return "the answer alone is longer than max_length"
    account.cut += 1
    return replace(example, prompt=example.prompt[over:])


def _assistant_mask(turns: Turns, tokens: Tokenized, *, last_only: bool) -> tuple[Ids, tuple[bool, ...]]:
    """The tokens of a conversation and which of them an assistant turn wrote, its end token included.

    A turn's tokens are what its rendering adds to the header that asks for it; raises UserError where the template writes
    earlier turns differently once later ones follow, for then no such difference exists.
    """
    whole = tokens.render(turns, answer=False)
    mask = [False] * len(whole)
    spoken = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    for i in spoken[-1:] if last_only else spoken:
        start = len(_same(whole, tokens.render(turns[:i], answer=True), tokens))
        end = len(_same(whole, tokens.render(turns[: i + 1], answer=False), tokens))
        mask[start:end] = [True] * (end - start)
    return whole, tuple(mask)


def _same(whole: Ids, part: Ids, tokens: Tokenized) -> Ids:
    if whole[: len(part)] != part:
        raise UserError(
            f"{tokens.where}: the chat template rewrites earlier turns once later ones follow, so the assistant's tokens "
            "cannot be told; train on 'completion'"
        )
    return part


def _common(a: Ids, b: Ids) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def text_of(turns: Turns) -> str:
    """The words of some turns, without the space around them."""
    return "".join(turn.content for turn in turns).strip()
