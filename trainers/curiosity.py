"""A token-level curiosity bonus (CD-RLHF, Sun et al. 2025, arXiv 2501.11463), with the placebos that it must beat.

A small network predicts the reference model's next hidden state from the present one and the token chosen; where it errs,
the token led somewhere unfamiliar. The error, whitened over the real tokens of the batch, is paid only for tokens outside
the policy's k likeliest. Two corrections of the published code: padding does not enter the whitening (there it adds a
hidden bonus for length), and a predictor that has collapsed is reported (whitening would inflate what noise is left).

    curiosity = Curiosity(hidden=128, embedding=128, settings=Settings(eta=0.04))
    bonus, seen = curiosity.bonus(before, after, actions, ranks, mask)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainers.advantages import masked_mean, whitened

COLLAPSED = 1e-3
"""Mean error as a share of the mean norm of what is predicted, below which the prediction means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of the bonus."""

    eta: float = 0.0
    """Weight of the bonus in the reward of a token; the paper has .04 to .08. 0 is plain reinforcement learning."""
    kind: Literal["prediction", "constant", "noise"] = "prediction"
    """The prediction error; or, as placebos, 1 for every token that passes the gate, or standard normal noise."""
    top_k: int = 1
    """The gate: only tokens outside the policy's k likeliest are paid. 0 opens it for all."""
    encoder: Literal["trained", "frozen"] = "trained"
    """Features that are learned, as in the paper, and may collapse; or random ones that stay (RND, Burda et al. 2019)."""
    learning_rate: float = 1e-5
    """Of the predictor."""

    def __post_init__(self) -> None:
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must be at least 0")


class Predictor(nn.Module):
    """Features of states, and the prediction of the next state's features from this state's and the action."""

    def __init__(self, hidden: int, embedding: int) -> None:
        super().__init__()
        wide = 2 * hidden
        self.encode = nn.Sequential(
            nn.Linear(hidden, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, hidden)
        )
        self.predict = nn.Sequential(
            nn.Linear(hidden + embedding, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, hidden)
        )

    def forward(self, before: Tensor, after: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The norm of the error (not squared, as published) and of what was to be predicted, (n,) each."""
        target = self.encode(after)
        guess = self.predict(torch.cat([self.encode(before), actions], -1))
        return (guess - target).norm(dim=-1), target.norm(dim=-1)


class Curiosity:
    """The bonus, and the predictor that learns from every batch once it has been paid for it."""

    def __init__(self, *, hidden: int, embedding: int, settings: Settings, seed: int = 0, device: Any = "cpu") -> None:
        self.settings = settings
        with torch.random.fork_rng(devices=[]):  # what the policy draws must not depend on whether there is a bonus
            torch.manual_seed(seed)
            self._predictor = Predictor(hidden, embedding).to(device)
        if settings.encoder == "frozen":
            self._predictor.encode.requires_grad_(False)
        learned = [p for p in self._predictor.parameters() if p.requires_grad]
        self._optimizer = torch.optim.Adam(learned, lr=settings.learning_rate, betas=(0.9, 0.95))
        self._noise = torch.Generator().manual_seed(seed)

    def bonus(
        self, before: Tensor, after: Tensor, actions: Tensor, ranks: Tensor, mask: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The bonus of each token (B, T), eta included, and what to log; then one step of the predictor.

        ``before`` and ``after`` (n, H) are the reference's last hidden states around each chosen token, ``actions`` (n, E)
        the policy's embeddings of those tokens, in the order in which ``mask`` (B, T) lists them; ``ranks`` (B, T) counts
        the tokens that the policy found likelier. The bonus is that of the predictor before its step.
        """
        paid = mask & (ranks >= self.settings.top_k)
        seen = {"curiosity_gate": float(masked_mean(paid.float(), mask))}
        if self.settings.kind == "constant":
            raw = mask.float()
        elif self.settings.kind == "noise":
            raw = torch.randn(mask.shape, generator=self._noise).to(mask.device)
        else:
            error, size = self._predictor(before.float(), after.float(), actions.float())
            raw = torch.zeros_like(mask, dtype=torch.float32)
            raw[mask] = error.detach() / 2
            raw = whitened(raw, mask)
            share = float(error.detach().mean() / size.detach().mean().clamp(min=1e-12))
            seen |= {
                "curiosity_error": float(error.detach().mean()),
                "curiosity_error_std": float(error.detach().std(correction=0)),
                "curiosity_collapsed": float(share < COLLAPSED),
            }
            self._optimizer.zero_grad(set_to_none=True)
            (error.mean() / 2).backward()
            self._optimizer.step()
        bonus = torch.where(paid, self.settings.eta * raw, 0.0)
        return bonus, {**seen, "curiosity_bonus": float(masked_mean(bonus, mask))}

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "predictor": self._predictor.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "noise": self._noise.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._predictor.load_state_dict(state["predictor"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._noise.set_state(state["noise"].cpu())
