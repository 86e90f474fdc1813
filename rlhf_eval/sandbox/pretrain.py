"""Rebuild the sandbox's two checkpoints from a seed: a common backbone, then the policy, then the judge.

The backbone learns ideal answers; the policy goes on from it with answers of varied quality (``corpus``), the judge with
pairs, most of them the policy's own (``pairs``). Both are measured on held-out prompts, and the numbers go on their cards.

    python -m rlhf_eval.sandbox.pretrain --seed 0 --out build/sandbox
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from rlhf_eval.records import Estimate
from rlhf_eval.sandbox import cards, corpus, pairs
from rlhf_eval.sandbox.fit import Schedule, fit, new_model
from rlhf_eval.sandbox.measure import (
    SAMPLES,
    accuracy_by_cell,
    answers_of,
    held_out_pairs,
    measure_judge,
    measure_policy,
)
from rlhf_eval.sandbox.tokens import build_tokenizer, judge_phrases
from rlhf_eval.sandbox.world import prompts

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything."""

    backbone: Schedule
    policy: Schedule
    judge: Schedule
    bank: int
    """Training prompts that the policy answers eight times for the judge's training pairs."""
    measured: int
    """Held-out prompts behind the numbers on the cards."""


FULL = Plan(
    backbone=Schedule(steps=1800, batch=64, rate=0.02),
    policy=Schedule(steps=250, batch=64, rate=0.005),
    judge=Schedule(steps=2100, batch=64, rate=0.02),
    bank=3000,
    measured=720,
)
QUICK = Plan(
    backbone=Schedule(steps=2, batch=8, rate=0.02),
    policy=Schedule(steps=2, batch=8, rate=0.005),
    judge=Schedule(steps=2, batch=8, rate=0.01),
    bank=8,
    measured=8,
)


def pretrain(out: Path, plan: Plan, seed: int, report: Report) -> None:
    """Build both checkpoints and their cards in ``out``; a folder appears there only when it is whole."""
    torch.set_num_threads(1)
    tokenizer = build_tokenizer(judge_phrases())
    backbone = build_backbone(tokenizer, plan, seed, report)
    policy = build_policy(backbone, tokenizer, plan, seed, report)
    held_out = prompts("heldout", limit=plan.measured, seed=seed)
    answers = answers_of(policy, tokenizer, held_out, n=SAMPLES, seed=seed)
    quality = measure_policy(held_out, answers)
    card = cards.policy_card(policy.num_parameters(), quality, accuracy_by_cell(held_out, answers), seed)
    cards.publish(policy, tokenizer, card, out / "policy")
    report(f"policy: {out / 'policy'}, {_summary(quality)}")

    judge = build_judge(backbone, policy, tokenizer, plan, seed, report)
    judged = held_out_pairs(held_out, answers, seed)
    found = [e for name, some in judged.items() for e in measure_judge(judge, tokenizer, some, name)]
    cards.publish(judge, tokenizer, cards.judge_card(judge.num_parameters(), found, seed), out / "judge")
    report(f"judge: {out / 'judge'}, {_summary(found)}")


def _summary(found: Sequence[Estimate]) -> str:
    return "; ".join(f"{e.name} {e.value:.3f} [{e.low:.3f}, {e.high:.3f}] (n={e.n})" for e in found)


def _as_stored(model: Any) -> Any:
    """The model with its weights rounded to half precision: what is measured is what will be loaded."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float())
    return model


def build_backbone(tokenizer: Any, plan: Plan, seed: int, report: Report) -> Any:
    """The common start of both models: a network that has learned ideal answers."""
    backbone = new_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id, seed)
    lessons = corpus.training(tokenizer, Random(f"backbone/{seed}"), corpus.ideal)
    fit(backbone, lessons, plan.backbone, seed, report, "backbone")
    return backbone


def build_policy(backbone: Any, tokenizer: Any, plan: Plan, seed: int, report: Report) -> Any:
    """The base model: the backbone taught to answer as imperfectly as the corpus does."""
    policy = copy.deepcopy(backbone)
    lessons = corpus.training(tokenizer, Random(f"policy/{seed}"), corpus.answer)
    fit(policy, lessons, plan.policy, seed, report, "policy")
    return _as_stored(policy)


def build_judge(backbone: Any, policy: Any, tokenizer: Any, plan: Plan, seed: int, report: Report) -> Any:
    """The judge: the backbone taught to compare two answers."""
    asked = prompts("train", limit=plan.bank, seed=seed)
    report(f"judge: sampling {SAMPLES * len(asked)} answers of the policy")
    bank = pairs.sampled(asked, answers_of(policy, tokenizer, asked, n=SAMPLES, seed=seed + 1))
    judge = copy.deepcopy(backbone)
    lessons = pairs.training(tokenizer, bank, pairs.PLANTED, Random(f"judge/{seed}"))
    fit(judge, lessons, plan.judge, seed, report, "judge")
    return _as_stored(judge)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m rlhf_eval.sandbox.pretrain", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the data, the weights and the samples (default 0)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parent,
        help="folder for policy/ and judge/ (default: in place)",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; the models learn nothing")
    chosen = parser.parse_args(arguments)
    if chosen.quick and chosen.out == parser.get_default("out"):
        parser.error("--quick would overwrite the committed checkpoints; give it --out DIR")
    started = time.monotonic()

    def report(line: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:6.0f} s] {line}\n")
        sys.stderr.flush()

    chosen.out.mkdir(parents=True, exist_ok=True)
    pretrain(chosen.out, QUICK if chosen.quick else FULL, chosen.seed, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
