"""The line that shows a training at work: step, loss, reward, KL, tokens a second, time left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlhf_eval.stages.progress import Progress

SHOWN = ("loss", "accuracy", "reward", "gold", "kl")


@dataclass(slots=True)
class TrainingProgress(Progress):
    """Draws the newest row of metrics."""

    row: Mapping[str, Any] = field(default_factory=dict)
    first: int = -1
    """The step of the first row seen; what an earlier process did does not count in the rate."""

    def show(self, row: Mapping[str, Any]) -> None:
        """Take a row of metrics, and draw if it is time to."""
        if self.first < 0:
            self.first = int(row["step"]) - 1
        self.row = {**self.row, **row}
        self()

    def line(self, seconds: float) -> str:
        """The state after ``seconds`` of work."""
        step, total = int(self.row.get("step", 0)), self.tally.total
        spent = float(self.row.get("seconds", 0.0))
        rate = (step - self.first) / spent if spent > 0 else 0.0
        parts = [
            f"{self.verb} {step:,}/{total:,} steps",
            *(f"{name} {float(self.row[name]):.4g}" for name in SHOWN if name in self.row),
            f"{float(self.row['tokens']) / spent:,.0f} tok/s" if spent > 0 and self.row.get("tokens") else "",
            f"{(total - step) / rate:,.0f} s left" if rate > 0 and total > step else "",
        ]
        return " · ".join(part for part in parts if part)
