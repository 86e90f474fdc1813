"""Batched sampling from the tiny checkpoints while they are built and measured; all else goes through ``rlhf_eval.models``.

Prompts of equal length share a batch, so nothing is padded and every row sees exactly its own prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

from rlhf_eval.records import Message

LARGEST_BATCH = 256
LONGEST_ANSWER = 40
"""Tokens; the longest ideal answer has 16."""


def encode(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant speaks, through the chat template."""
    turns = [{"role": m.role, "content": m.content} for m in messages]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


@torch.inference_mode()
def sample(
    model: Any, tokenizer: Any, conversations: Sequence[Sequence[Message]], *, n: int = 1, seed: int = 0
) -> list[list[str]]:
    """``n`` answers at temperature 1 to each conversation, in order."""
    rows = [(index, ids) for index, c in enumerate(conversations) for ids in [encode(tokenizer, c)] for _ in range(n)]
    by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for index, ids in rows:
        by_length[len(ids)].append((index, ids))
    generator = torch.Generator().manual_seed(seed)
    answers: list[list[str]] = [[] for _ in conversations]
    for length in sorted(by_length):
        group = by_length[length]
        for start in range(0, len(group), LARGEST_BATCH):
            part = group[start : start + LARGEST_BATCH]
            drawn = _draw(model, torch.tensor([ids for _, ids in part]), generator)
            for (index, _), ids in zip(part, drawn, strict=True):
                answers[index].append(tokenizer.decode(ids, skip_special_tokens=True))
    return answers


def _draw(model: Any, ids: torch.Tensor, generator: torch.Generator) -> list[list[int]]:
    end = model.config.eos_token_id
    done = torch.zeros(len(ids), dtype=torch.bool)
    past = None
    step = ids
    drawn: list[torch.Tensor] = []
    for _ in range(LONGEST_ANSWER):
        out = model(input_ids=step, past_key_values=past, use_cache=True, logits_to_keep=1)
        past = out.past_key_values
        step = torch.multinomial(out.logits[:, -1].softmax(-1), 1, generator=generator)
        drawn.append(step)
        done |= step[:, 0] == end
        if bool(done.all()):
            break
    return [row[: row.index(end)] if end in row else row for row in torch.cat(drawn, dim=1).tolist()]


@torch.inference_mode()
def first_shares(model: Any, tokenizer: Any, conversations: Sequence[Sequence[Message]]) -> list[float]:
    """The judge's probability of Answer A for each conversation: its letters A and B after ``[[``, renormalised."""
    opened, a, b = (tokenizer.convert_tokens_to_ids(token) for token in ("[[", "A", "B"))
    encoded = [[*encode(tokenizer, c), opened] for c in conversations]
    shares = [0.0] * len(encoded)
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    pad = model.config.pad_token_id
    for start in range(0, len(order), LARGEST_BATCH):
        part = order[start : start + LARGEST_BATCH]
        width = max(len(encoded[i]) for i in part)
        ids = torch.tensor([encoded[i] + [pad] * (width - len(encoded[i])) for i in part])
        last = torch.tensor([len(encoded[i]) - 1 for i in part])
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[torch.arange(len(part)), last]
        letters = model.lm_head(hidden)[:, [a, b]].softmax(-1)[:, 0]
        for i, share in zip(part, letters.tolist(), strict=True):
            shares[i] = share
    return shares
