"""Advantages: what each token of a completion is worth beyond what was expected. Pure functions of tensors.

(B, T) is completions by generated tokens; ``mask`` is True where the policy chose the token and False on padding and on
tokens that were put into its mouth. (P, G) is prompts by the completions of one prompt; ``valid`` is False where a
completion has no score.

    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=0.95)
    advantages = whitened(advantages, mask)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Group = Literal["leave_one_out", "group", "group_mean"]

STD_FLOOR = 1e-4
"""Added to the standard deviation of a group; a group of equal scores has no advantage, not an infinite one."""


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of ``values`` where ``mask`` holds, a scalar; 0 where it holds nowhere."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def whitened(values: Tensor, mask: Tensor, *, centre: bool = True) -> Tensor:
    """``values`` scaled to unit variance over the mask (Bessel's), and to mean 0 if ``centre``; 0 outside the mask.

    Padding does not count: with it, the zeros would lift every real token above the mean. Fewer than two values are
    left as they are, since they have no spread.
    """
    count = mask.sum()
    if int(count) < 2:
        return torch.where(mask, values, 0.0)
    mean = masked_mean(values, mask)
    variance = torch.where(mask, (values - mean) ** 2, 0.0).sum() / (count - 1)
    scaled = (values - mean) * torch.rsqrt(variance + 1e-8)
    return torch.where(mask, scaled if centre else scaled + mean, 0.0)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) and the returns that the critic should predict.

    All (B, T). Masked steps are skipped, not decayed through: a step's successor is the next step of the mask, and what
    stands at masked places changes nothing. The completion ends after its last step, whose successor is worth 0.
    """
    advantages = torch.zeros_like(rewards)
    next_value = next_advantage = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        live = mask[:, t]
        surprise = rewards[:, t] + gamma * next_value - values[:, t]
        advantages[:, t] = torch.where(live, surprise + gamma * lam * next_advantage, 0.0)
        next_advantage = torch.where(live, advantages[:, t], next_advantage)
        next_value = torch.where(live, values[:, t], next_value)
    return advantages, torch.where(mask, advantages + values, 0.0)


def rewards_to_go(rewards: Tensor, mask: Tensor, *, gamma: float) -> Tensor:
    """The discounted sum of rewards from each step on, (B, T); 0 outside the mask."""
    return gae(rewards, torch.zeros_like(rewards), mask, gamma=gamma, lam=1.0)[0]


def group_advantages(scores: Tensor, valid: Tensor, how: Group) -> Tensor:
    """The advantage of each completion over the others of its prompt, (P, G).

    ``leave_one_out``: score minus the mean of the others (RLOO, Ahmadian et al. 2024), which is G/(G-1) times
    ``group_mean``: score minus the group's mean (Dr. GRPO, Liu et al. 2025). ``group``: that over the group's standard
    deviation (Bessel's) as well (GRPO, Shao et al. 2024, eq. 4), which weighs very easy and very hard prompts more.
    Completions without a score, and those that stand alone, get 0.
    """
    count = valid.sum(1, keepdim=True)
    mean = torch.where(valid, scores, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(valid & (count > 1), scores - mean, 0.0)
    others = (count - 1).clamp(min=1)
    if how == "leave_one_out":
        return centred * count / others
    if how == "group":
        return centred / (((centred**2).sum(1, keepdim=True) / others).sqrt() + STD_FLOOR)
    return centred


def batch_baseline(scores: Tensor, valid: Tensor) -> Tensor:
    """For each completion the mean score of all others, (B,): the baseline of REINFORCE, unbiased since it leaves one out.

    0 where there is no other.
    """
    kept = torch.where(valid, scores, 0.0)
    others = valid.sum() - valid.long()
    return torch.where(others > 0, (kept.sum() - kept) / others.clamp(min=1), 0.0)


def shaped_rewards(scores: Tensor, penalties: Tensor, mask: Tensor) -> Tensor:
    """Per-token rewards (B, T): minus ``penalties`` at each token, plus the score (B,) on the last token generated.

    The last token is found by the mask, never by the padding token, which may be the end mark itself. A completion of no
    tokens gets nothing.
    """
    rewards = torch.where(mask, -penalties, 0.0)
    places = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, places, -1).amax(1, keepdim=True)
    return torch.where(places == last, rewards + scores[:, None], rewards)


def next_kl_coef(coef: float, kl: float, *, target: float, horizon: float, completions: int) -> float:
    """The KL coefficient of the next step (Ziegler et al. 2019, section 2.2): raised where KL exceeds its target.

    ``kl`` and ``target`` are nats a completion; ``horizon`` is in completions. One step moves it by at most 20 % of
    ``completions / horizon``.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coef * (1 + error * completions / horizon)
