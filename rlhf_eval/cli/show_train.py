"""What ``train`` shows: what a training would be, what it came to, and what to type next."""

from __future__ import annotations

import json
from typing import Any

from rlhf_eval.cli.words import emit
from rlhf_eval.verbs.session import Session
from rlhf_eval.verbs.train import TrainResult

FIRST = (
    "loss",
    "accuracy",
    "reward",
    "gold",
    "kl",
    "eval_loss",
    "eval_accuracy",
    "eval_reward",
    "eval_gold",
    "eval_kl",
)
"""The scalars worth a place in the headline, in their order."""

MEASURED = ("accuracy", "ece", "log_loss", "temperature", "prefers_longer")
"""The estimates of a reward model worth a line; all of them are in the run and on the card."""


def trained(result: TrainResult, session: Session, *, as_json: bool, name: str = "train") -> None:
    """One training, finished or planned; ``name`` is its step in a recipe."""
    if as_json:
        emit({**_json(result), "verb": "train", "step": name})
        return
    plan = result.plan
    size = f"{plan.rows:,} rows, {plan.tokens:,} tokens an epoch, {plan.steps:,} steps"
    if result.metrics is None:
        print(f"\n{name} {result.trainer}, dry run: nothing was trained and nothing was stored")
        print(f"  {size}")
        print(f"  {plan.parameters:,} weights; about {plan.memory / 2**20:,.0f} MiB at the peak (estimated)")
        for note in plan.notes:
            print(f"  {note}")
        return
    metrics = result.metrics
    values = ", ".join(f"{name} {metrics.final[name]:.4g}" for name in FIRST if name in metrics.final)
    already = " (already done)" if result.resumed else ""
    print(f"\n{name} {result.trainer}: {metrics.steps:,} steps in {metrics.seconds:,.1f} s{already}; {values}")
    for note in metrics.notes:
        print(f"  {note}")
    for estimate in result.estimates:
        if estimate.name in MEASURED:
            spread = f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
            print(f"  {estimate.name} on {estimate.n:,} held-out prompts: {spread}")
    where = session.options.store_flag
    print(f"  checkpoint: {result.checkpoint}")
    print(f"  results: {session.store.folder(result.run.id)}")
    if _scores(result):
        print(f"  next:    rlhf-eval judge --judge reward_model --judge-model run:{result.run.id}{where}")
        return
    print(
        f"  next:    rlhf-eval evaluate --model run:{result.run.id} --baseline {_base(result)} --judge-model SPEC{where}"
    )


def _scores(result: TrainResult) -> bool:
    """Whether the checkpoint is a reward model."""
    config = json.loads((result.checkpoint / "config.json").read_text()) if result.checkpoint else {}
    return any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or ())


def _base(result: TrainResult) -> str:
    earlier = result.run.inputs.get("model")
    return f"run:{earlier}" if earlier else str(result.run.config["model"]).partition("#")[0]


def _json(result: TrainResult) -> dict[str, Any]:
    return {
        "event": "train",
        "run": result.run.id,
        "trainer": result.trainer,
        "plan": result.plan,
        "metrics": result.metrics,
        "checkpoint": str(result.checkpoint) if result.checkpoint else None,
        "estimates": result.estimates,
        "resumed": result.resumed,
    }
