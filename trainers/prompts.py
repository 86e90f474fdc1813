"""The prompts of policy-gradient training: which fit, which are held out, and in which order they are drawn.

prompts, heldout, notes = fitting(data, tokens, context=2048, config=config, seed=0)
order = Order(prompts, seed=0)
order[0], order[len(prompts)]    # the first prompt drawn, and the first of the second pass
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlhf_eval.errors import UserError
from rlhf_eval.records import Prompt, fingerprint
from rlhf_eval.stages.training import Data
from trainers.algorithms import Config
from trainers.data import Tokenized


class Order:
    """Which prompt is drawn when: each pass through the data has an order of its own."""

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        self._prompts, self._seed = prompts, seed
        self._lap, self._order = -1, np.arange(0)

    def __len__(self) -> int:
        """Prompts in a pass."""
        return len(self._prompts)

    def __getitem__(self, number: int) -> Prompt:
        """The ``number``-th prompt drawn, over all passes."""
        lap, place = divmod(number, len(self._prompts))
        if lap != self._lap:
            self._lap, self._order = lap, stream("order", self._seed, lap).permutation(len(self._prompts))
        return self._prompts[int(self._order[place])]


def fitting(
    data: Data, tokens: Tokenized, context: int, config: Config, seed: int
) -> tuple[list[Prompt], list[Prompt], tuple[str, ...]]:
    """The prompts to train on, those to evaluate on, and notes; a prompt must leave room for the longest completion.

    Without held-out prompts, some are taken from the others, a fifth at most. Raises UserError where none is left.
    """

    def roomy(prompts: Sequence[Prompt]) -> list[Prompt]:
        return [p for p in prompts if len(tokens.render(p.messages, answer=True)) + config.max_new_tokens <= context]

    prompts, heldout = roomy(data.prompts), roomy(data.heldout)
    if not prompts:
        raise UserError(
            f"none of {len(data.prompts)} prompts leaves room for max_new_tokens={config.max_new_tokens} in a context of "
            f"{context} tokens; lower it, or take other prompts"
        )
    left_out = len(data.prompts) + len(data.heldout) - len(prompts) - len(heldout)
    notes = []
    if left_out:
        notes.append(f"{left_out:,} prompts left out: with max_new_tokens they exceed the context of {context}")
    if not heldout and config.eval_prompts:
        order = stream("heldout", seed).permutation(len(prompts)).tolist()
        aside = set(order[: min(config.eval_prompts, len(prompts) // 5)])
        heldout = [prompt for i, prompt in enumerate(prompts) if i in aside]
        prompts = [prompt for i, prompt in enumerate(prompts) if i not in aside]
        notes.append(f"{len(heldout):,} prompts are held out for evaluation and not trained on")
    return prompts, heldout[: config.eval_prompts], tuple(notes)


def stream(*name: Any) -> np.random.Generator:
    """Random numbers that depend on their name alone."""
    return np.random.Generator(np.random.Philox(key=int(fingerprint(*name), 16)))
