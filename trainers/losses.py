"""Losses as pure functions of tensors, each with its paper and equation; values in nats, shapes in the docstrings.

Sections: supervised fine-tuning; pairs (shared by DPO and reward models); DPO and its relatives; reward models; policy
gradients. The golden numbers that hold them lie in ``tests/trainers``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# ======================================================================================================================
# Supervised fine-tuning
# ======================================================================================================================


def nll(logps: Tensor) -> Tensor:
    """Negative log-likelihood of each scored token, (N,) to (N,)."""
    return -logps


# ======================================================================================================================
# Pairs: functions of a margin ``delta`` (P,), shared by DPO (beta times the difference of log-ratios) and reward models
# (difference of rewards)
# ======================================================================================================================


def sigmoid(delta: Tensor, probability: Tensor | float = 1.0) -> Tensor:
    """Logistic loss with a soft label: -p log s(delta) - (1 - p) log s(-delta), (P,).

    ``probability`` is that the chosen answer is the better one, one a pair. p = 1 is Bradley-Terry and DPO (Rafailov et
    al., arXiv 2305.18290, eq. 7); a constant p = 1 - eps is conservative DPO (Mitchell 2023).
    """
    return -probability * F.logsigmoid(delta) - (1 - probability) * F.logsigmoid(-delta)


def robust(delta: Tensor, flip: float) -> Tensor:
    """Unbiased under labels flipped at the rate ``flip`` < .5, (P,): Chowdhury et al., arXiv 2403.00409, eq. 10."""
    return (-(1 - flip) * F.logsigmoid(delta) + flip * F.logsigmoid(-delta)) / (1 - 2 * flip)


def r3m(delta: Tensor, cap: float) -> Tensor:
    """Logistic loss whose gradient weight is min(s(-delta), cap), (P,): Bukharin et al., arXiv 2406.15568, eq. 3.3 to 3.5.

    The paper minimises over a sparse perturbation of each pair; with its closed form put in, nothing needs to be kept
    between steps: softplus(-delta) above tau = log(1 / cap - 1), a straight line of slope -cap below.
    """
    tau = torch.tensor(1 / cap - 1, dtype=delta.dtype, device=delta.device).log()
    # Two branches, not a maximum, whose gradient is halved where both are equal: with cap .5 that is where training starts.
    return torch.where(delta > tau, F.softplus(-delta), F.softplus(-tau) + cap * (tau - delta))


def hinge(delta: Tensor) -> Tensor:
    """max(0, 1 - delta), (P,): SLiC's form of DPO (Zhao et al., arXiv 2305.10425; Liu et al., arXiv 2309.06657)."""
    return F.relu(1 - delta)


# ======================================================================================================================
# DPO and its relatives
# ======================================================================================================================

# Log-probabilities are sums over an answer's tokens, shape (P,); ``h`` is a log-ratio, log pi(y|x) - log ref(y|x).


def mixed(of_delta: Callable[[Tensor], Tensor], delta: Tensor, probability: Tensor | float) -> Tensor:
    """Any loss of a margin with a soft label: p L(delta) + (1 - p) L(-delta), (P,).

    Swapping the sides and p leaves it; with p = 1 it is L. For the logistic loss it is ``sigmoid``.
    """
    return probability * of_delta(delta) + (1 - probability) * of_delta(-delta)


def ipo(h: Tensor, beta: float) -> Tensor:
    """(h - 1 / (2 beta))^2 of the difference of log-ratios, (P,): Azar et al., arXiv 2310.12036, eq. 17.

    The paper takes sums over tokens; TRL divides each log-ratio by its answer's length before it comes here.
    """
    return (h - 1 / (2 * beta)) ** 2


def odpo_offset(margin: Tensor, scale: float, form: Literal["log", "linear"]) -> Tensor:
    """What an offset takes from the margin, (P,): Amini et al., arXiv 2402.10571, eq. 8 (log) and Llama 2's (linear)."""
    return scale * (margin.clamp(min=1e-8).log() if form == "log" else margin)


def log_odds(mean_logp: Tensor) -> Tensor:
    """log p / (1 - p) of a mean token log-probability, (P,): Hong et al., arXiv 2403.07691, eq. 3 and 4."""
    # -expm1(x) = 1 - exp(x) keeps its digits where p is close to 1.
    return mean_logp - torch.log(-torch.expm1(mean_logp.clamp(max=-1e-6)))


def kto(h: Tensor, label: Tensor, beta: float, kl: Tensor, *, liked: float = 1.0, disliked: float = 1.0) -> Tensor:
    """Loss of single answers, (E,): Ethayarajh et al., arXiv 2402.01306, eq. 7 and 8.

    ``kl`` is the reference point z0, a scalar without gradient: see ``mismatched_kl``.
    """
    good = liked * (1 - torch.sigmoid(beta * (h - kl)))
    bad = disliked * (1 - torch.sigmoid(beta * (kl - h)))
    return torch.where(label, good, bad)


def mismatched_kl(h: Tensor) -> Tensor:
    """KTO's estimate of KL(pi || ref), a scalar >= 0: mean log-ratio of answers that belong to other prompts."""
    return h.detach().mean().clamp(min=0)


def apo_zero(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Raise the chosen answer and lower the rejected one, (P,): D'Oosterlinck et al., arXiv 2408.06266, eq. 3.

    ``chosen`` and ``rejected`` are log-ratios.
    """
    return 1 - torch.sigmoid(beta * chosen) + torch.sigmoid(beta * rejected)


def apo_down(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Lower both, the rejected answer more, (P,): D'Oosterlinck et al., arXiv 2408.06266, eq. 4, on log-ratios."""
    return torch.sigmoid(beta * chosen) + 1 - torch.sigmoid(beta * (chosen - rejected))


def rebel(h: Tensor, margin: Tensor, beta: float) -> Tensor:
    """(beta h - difference of rewards)^2, (P,): Gao et al., arXiv 2404.16767, eq. 6, with beta = 1 / eta."""
    return (beta * h - margin) ** 2


# ======================================================================================================================
# Reward models: rewards (A, ...) of answers, (N, ...) of tokens; what stands at the right, if anything, are heads
# ======================================================================================================================

TIE = 0.5
"""The probability that marks a pair as a tie, for the losses that know ties."""


def soft(loss: Callable[[Tensor], Tensor], delta: Tensor, probability: Tensor) -> Tensor:
    """p loss(delta) + (1 - p) loss(-delta), (P, ...): swapping the sides, the margin's sign and p changes nothing."""
    p = beside(probability, delta)
    return p * loss(delta) + (1 - p) * loss(-delta)


def outlier(delta: Tensor, cap: float) -> Tensor:
    """How much of each label R3M explains away, max(0, log(1 / cap - 1) - delta), (P, ...); over 0 it is suspect."""
    return F.relu(-delta - torch.tensor(cap, dtype=delta.dtype, device=delta.device).logit())


def plackett_luce(rewards: Tensor, present: Tensor) -> Tensor:
    """Negative log-likelihood of rankings, -sum_k (r_k - log sum_(j >= k) exp r_j), (S, K, ...) to (S, ...).

    ``rewards`` run from the best answer to the worst, ``present`` (S, K) tells places from filling. Two places are
    Bradley-Terry. Plackett (1975); as a reward model, Zhu et al., arXiv 2301.11270, section 2.
    """
    held = beside(present, rewards)
    # The smallest number instead of -inf, whose gradient would be a NaN in rows that begin with filling.
    hidden = rewards.masked_fill(~held, torch.finfo(rewards.dtype).min)
    rest = hidden.flip(1).logcumsumexp(1).flip(1)
    return torch.where(held, rest - rewards, 0.0).sum(1)


def davidson(delta: Tensor, probability: Tensor, log_nu: Tensor) -> Tensor:
    """Negative log-likelihood of wins, ties and losses with P(tie) = nu sqrt(p q) / (p + q + nu sqrt(p q)), (P, ...).

    A pair is a tie where its probability is exactly .5, else a win with that probability. Equals tie with nu / (2 + nu).
    Davidson (1970), eq. 2.4.
    """
    logps = torch.stack([delta / 2, log_nu.expand_as(delta), -delta / 2]).log_softmax(0)
    return _outcomes(logps, probability)


def rao_kupper(delta: Tensor, probability: Tensor, log_excess: Tensor) -> Tensor:
    """The same with a zone of indifference, P(win) = p / (p + theta q); ``log_excess`` is log(theta - 1); (P, ...).

    Equals tie with (theta - 1) / (theta + 1). Rao and Kupper (1967), eq. 2.
    """
    half = F.softplus(log_excess)  # log theta, half the width of the zone
    win, loss = F.logsigmoid(delta - half), F.logsigmoid(-delta - half)
    tie = win + loss + log_excess + torch.log(2 + log_excess.exp())  # win x loss x (theta^2 - 1)
    return _outcomes(torch.stack([win, tie, loss]), probability)


def centring(rewards: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """(r_chosen + r_rejected)^2, (P, ...), which holds the rewards near 0 (Eisenstein et al., arXiv 2312.09244, sec. 2)."""
    return (rewards[chosen] + rewards[rejected]).square()


def outcome_per_token(logits: Tensor, answer: Tensor, label: Tensor) -> Tensor:
    """Mean over an answer's tokens of the cross-entropy of its label, (A, ...).

    ``logits`` (N, ...) belong to the answers ``answer`` (N,); ``label`` (A,) is 1 for a right one. Cobbe et al., arXiv
    2110.14168, section 4; RLHF book, chapter 5.
    """
    losses = F.binary_cross_entropy_with_logits(
        logits, beside(label[answer], logits).expand_as(logits), reduction="none"
    )
    return mean_by(losses, answer, len(label))


def outcome_per_sequence(logits: Tensor, answer: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of the label at the mean logit (not the mean probability) of an answer's tokens, (A, ...)."""
    pooled = mean_by(logits, answer, len(label))
    return F.binary_cross_entropy_with_logits(pooled, beside(label, pooled).expand_as(pooled), reduction="none")


def process(logits: Tensor, step: Tensor, answer: Tensor, answers: int) -> Tensor:
    """Mean over a solution's steps of the cross-entropy of ``step`` (N,), 1 for a right one, (answers, ...).

    ``logits`` (N, ...) stand at the end of each step. Lightman et al., arXiv 2305.20050, section 2.6.
    """
    losses = F.binary_cross_entropy_with_logits(logits, beside(step, logits).expand_as(logits), reduction="none")
    return mean_by(losses, answer, answers)


def mean_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Mean of ``values`` (N, ...) over each of ``groups`` groups, (groups, ...); 0 for a group without any."""
    sums = values.new_zeros(groups, *values.shape[1:]).index_add(0, group, values)
    return sums / beside(torch.bincount(group, minlength=groups).clamp(min=1), sums)


def beside(values: Tensor, wide: Tensor) -> Tensor:
    """``values`` with a dimension of 1 for each that only ``wide`` has at its right."""
    return values.reshape(*values.shape, *([1] * (wide.dim() - values.dim())))


def _outcomes(logps: Tensor, probability: Tensor) -> Tensor:
    p = beside(probability, logps[0])
    return -torch.where(p == TIE, logps[1], p * logps[0] + (1 - p) * logps[2])


# ======================================================================================================================
# Policy gradients
# ======================================================================================================================

KlEstimator = Literal["k1", "k2", "k3"]
PolicyLoss = Literal["clip", "sequence_clip", "cispo", "reinforce"]
Aggregation = Literal["token", "sequence", "fixed"]


def kl_estimate(logps: Tensor, ref_logps: Tensor, how: KlEstimator) -> Tensor:
    """Estimates of KL(policy || reference) from tokens that the policy drew, elementwise (Schulman 2020).

    With l = logps - ref_logps: k1 = l, unbiased and of either sign; k2 = l^2/2, biased, but its gradient is that of the
    KL; k3 = exp(-l) - 1 + l, unbiased and never negative.
    """
    ratio = logps - ref_logps
    if how == "k1":
        return ratio
    if how == "k2":
        return ratio**2 / 2
    return torch.expm1(-ratio) + ratio


def policy_losses(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    how: PolicyLoss,
    clip_low: float,
    clip_high: float,
) -> tuple[Tensor, Tensor]:
    """The loss of each token, and whether clipping took its gradient away; all (B, T).

    With r = exp(logps - old_logps): ``clip`` is -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) (PPO, Schulman et al.
    2017, eq. 7; clip_high above clip_low is DAPO's clip-higher). ``sequence_clip`` is the same with the geometric mean of a
    completion's ratios (GSPO, Zheng et al. 2025, eq. 7). ``cispo`` keeps every token's gradient: -clip(r) A logps with no
    gradient through r (MiniMax 2025, eq. 4). ``reinforce`` is -A logps.
    """
    if how == "reinforce":
        return -advantages * logps, torch.zeros_like(mask)
    change = logps - old_logps
    if how == "sequence_clip":
        length = mask.sum(1, keepdim=True).clamp(min=1)
        change = (torch.where(mask, change, 0.0).sum(1, keepdim=True) / length).expand_as(change)
    ratio = change.exp()
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
    if how == "cispo":
        return -bounded.detach() * advantages * logps, torch.zeros_like(mask)
    losses = -torch.minimum(ratio * advantages, bounded * advantages)
    beyond = ((advantages > 0) & (ratio > 1 + clip_high)) | ((advantages < 0) & (ratio < 1 - clip_low))
    return losses, beyond & mask


def value_losses(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Half the critic's squared error, elementwise: its own, or that within ``clip`` of the old value if that is worse.

    ``clip`` 0 does not clip.
    """
    losses = (values - returns) ** 2 / 2
    if not clip:
        return losses
    bounded = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum(losses, (bounded - returns) ** 2 / 2)


def token_weights(mask: Tensor, how: Aggregation, *, longest: int = 0) -> Tensor:
    """Weights (B, T) by which token losses add up to the loss of a batch; computed on the whole, they outlive any split.

    ``token``: every token weighs the same (DAPO). ``sequence``: every completion does (GRPO). ``fixed``: one over
    ``longest`` for every token, then the mean over completions, so that a long wrong answer is not punished less a token
    than a short one (Dr. GRPO). Losses of [1, 1, 1, 1, 10] and nine 1 with a 10: 2.2 by token, 2.35 by sequence, and 1.4
    and 1.9 by a fixed length of 10.
    """
    weights = mask.float()
    lengths = weights.sum(1, keepdim=True)
    if how == "token":
        return weights / lengths.sum().clamp(min=1)
    rows = (lengths > 0).sum().clamp(min=1)
    return weights / (rows * (lengths.clamp(min=1) if how == "sequence" else longest))
