"""From scores to the rewards of tokens: scaling, clipping, penalties of length, and rewards that hooks give to every token.

scores = shaped_scores(rollout, config, seen)     # (B,), to be put on the last token of each completion
rewards = rewards + table(given, rollout)         # (B, T)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Prompt
from trainers.algorithms import Config
from trainers.rollout import Rollout

TokenReward = Callable[[Sequence[Prompt], Sequence[Completion], Sequence[Sequence[int]]], Sequence[Sequence[float]]]
"""``(prompts, completions, token ids) -> a reward for every token``, added to the score's."""


@dataclass(slots=True)
class Seen:
    """Count, mean and sum of squared deviations of all scores so far (Welford 1962)."""

    count: int = 0
    mean: float = 0.0
    spread: float = 0.0

    def scaled(self, scores: Tensor, valid: Tensor) -> Tensor:
        """Take in the valid scores, then standardise all by what has been seen."""
        for score in scores[valid].tolist():
            self.count += 1
            gap = score - self.mean
            self.mean += gap / self.count
            self.spread += gap * (score - self.mean)
        deviation = math.sqrt(self.spread / max(1, self.count - 1))
        return (scores - self.mean) / max(deviation, 1e-6)


def shaped_scores(rollout: Rollout, config: Config, seen: Seen) -> Tensor:
    """(B,): the scores as the settings scale and clip them, less the penalties for being cut off or overlong."""
    scores = rollout.scores
    if config.scale_rewards == "running":
        scores = seen.scaled(scores, rollout.valid)
    if config.reward_clip:
        scores = scores.clamp(-config.reward_clip, config.reward_clip)
    scores = scores - config.missing_eos_penalty * (~rollout.ended).float()
    if config.overlong_buffer:  # DAPO (Yu et al., arXiv 2503.14476), eq. 13
        over = rollout.mask.sum(1) - (config.max_new_tokens - config.overlong_buffer)
        scores = scores - (over / config.overlong_buffer).clamp(0, 1)
    return scores


def table(given: Sequence[Sequence[float]], rollout: Rollout) -> Tensor:
    """(B, T): what a hook gave for each token; raises UserError where it gave too few or too many."""
    drawn, mask = rollout.drawn, rollout.mask
    wrong = next((i for i, (row, one) in enumerate(zip(given, drawn, strict=True)) if len(row) != len(one.ids)), None)
    if wrong is not None:
        raise UserError(
            f"the token reward gave {len(given[wrong])} numbers for a completion of {len(drawn[wrong].ids)} tokens"
        )
    flat = torch.tensor([value for row in given for value in row], device=mask.device)
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, flat)
