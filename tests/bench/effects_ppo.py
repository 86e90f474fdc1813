"""What policy gradients do to the true reward in the sandbox: each arm over several seeds, beside its control.

    python tests/bench/effects_ppo.py --seeds 5
    python tests/bench/effects_ppo.py --seeds 1 --arms gold zero

``gold`` is rewarded by the truth, ``zero`` by nothing (the control), ``model`` by a reward model trained on pairs of the
policy's own answers, ``drift`` by the same reward model without a price on the KL, for the truth to turn down. ``plain``,
``curious`` and ``constant`` are all rewarded by the truth and differ in the bonus. The gain is that of the last evaluation
over the first, on the same held-out prompts and random numbers; its interval (95 %) takes prompts as units, over all seeds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from answers import answers_of, by_gold, scorer

from rlhf_eval.records import Completion, Message, Prompt
from rlhf_eval.sandbox import checkpoint
from rlhf_eval.sandbox.gold import reward as gold_of
from rlhf_eval.sandbox.world import prompts as sandbox
from rlhf_eval.stages.training import Data, Job, Reward
from rlhf_eval.stats.intervals import mean_interval
from trainers import ppo, reward_model
from trainers.algorithms import Config
from trainers.curiosity import Settings

POLICY = str(checkpoint("policy"))
COMMON: dict[str, Any] = {
    "algorithm": "rloo", "prompts": 64, "samples": 4, "steps": 12, "max_new_tokens": 32, "eval_prompts": 240,
    "eval_every": 3, "learning_rate": 4e-4,
}  # fmt: skip
BONUS: dict[str, Any] = {"algorithm": "ppo", "critic_learning_rate": 1e-3, "eval_samples": 4, "eval_every": 99}
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "gold": ("gold", {}),
    "zero": ("zero", {}),
    "ppo": ("gold", {"algorithm": "ppo", "critic_learning_rate": 1e-3}),
    "model": ("model", {"steps": 6}),  # longer, and the truth turns down: at 12 steps a third of the gain is lost
    "drift": ("model", {"algorithm": "grpo", "kl_coef": 0.0, "learning_rate": 5e-4, "steps": 24}),
    "plain": ("gold", BONUS),
    "curious": ("gold", {**BONUS, "curiosity": Settings(eta=0.04)}),
    "constant": ("gold", {**BONUS, "curiosity": Settings(eta=0.04, kind="constant")}),
}
"""Arm to its reward and its settings."""


def gold(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
    """The truth."""
    return [gold_of(p, c.text).reward for p, c in zip(prompts, completions, strict=True)]


def zero(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
    """Nothing."""
    return [0.0] * len(completions)


def trained_reward(prompts: Sequence[Prompt], out: Path, seed: int) -> Reward:
    """A reward model trained on the policy's own answers, as a reward."""
    config = reward_model.Config(
        optimizer="muon", learning_rate=0.02, weight_decay=0.1, schedule="cosine", warmup=0.05, epochs=2, batch_size=16
    )
    data = Data(pairs=tuple(by_gold(answers_of(checkpoint("policy"), prompts, 6, seed))))
    metrics = reward_model.train(data, out, config, Job(model=POLICY, seed=seed, quiet=True))
    print(f"  reward model: accuracy {metrics.final.get('eval_accuracy', float('nan')):.3f} on prompts held out")
    score = scorer(out / "checkpoint")

    def reward(asked: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        rows = [(*p.messages, Message("assistant", c.text)) for p, c in zip(asked, completions, strict=True)]
        return [float(value) for value in score(rows)]

    return reward


def arm(name: str, seeds: int) -> None:
    """Run one arm and print its gain, its curve, and the diversity of its last answers."""
    kind, settings = ARMS[name]
    gains, curves, diversity, seconds = [], [], [], []
    for seed in range(seeds):
        kept: list[Completion] = []
        data = Data(prompts=tuple(sandbox("train", 1200)), heldout=tuple(sandbox("heldout", 240)))
        with tempfile.TemporaryDirectory() as place:
            rewards = {"gold": gold, "zero": zero}
            reward = rewards.get(kind) or trained_reward(data.prompts, Path(place) / "rm", seed)
            job = Job(
                model=POLICY, seed=seed, reward=reward, gold=gold,
                record=lambda table, r, kept=kept: kept.append(r) if table == "completions" else None,
            )  # fmt: skip
            start = time.process_time()
            ppo.train(data, Path(place) / "ppo", Config(**{**COMMON, **settings}), job)
            seconds.append(time.process_time() - start)
        steps = sorted({c.metadata["step"] for c in kept})
        table = {s: [c for c in kept if c.metadata["step"] == s] for s in steps}
        gains.append(by_prompt(table[steps[-1]], "gold") - by_prompt(table[0], "gold"))
        curves.append([[np.mean([c.metadata[k] for c in table[s]]) for k in ("reward", "gold", "kl")] for s in steps])
        texts: dict[str, list[str]] = {}
        for completion in table[steps[-1]]:
            texts.setdefault(completion.prompt_id, []).append(completion.text)
        diversity.append(np.mean([len(set(group)) / len(group) for group in texts.values()]))
        print(f"  seed {seed}: gain {gains[-1].mean():+.3f}, {seconds[-1]:.0f} s of CPU", flush=True)
    every = np.mean(gains, axis=0)
    found = mean_interval(every)
    start_at = np.mean(curves, 0)[0, 1]
    print(f"{name}: gold {start_at:.3f}, gain {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}] over "
          f"{seeds} seeds; distinct answers {np.mean(diversity):.3f}; {np.median(seconds):.0f} s of CPU")  # fmt: skip
    for step, (proxy, truth, kl) in zip(steps, np.mean(curves, 0), strict=True):
        print(f"  step {step:3d}: reward {proxy:+.3f}  gold {truth:.3f}  kl {kl:.2f}")


def by_prompt(completions: Sequence[Completion], key: str) -> np.ndarray:
    """The mean of each prompt's completions, in the order of the prompts' ids."""
    values: dict[str, list[float]] = {}
    for completion in completions:
        values.setdefault(completion.prompt_id, []).append(completion.metadata[key])
    return np.array([np.mean(values[identity]) for identity in sorted(values)])


def main() -> None:
    """Run the arms that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=tuple(ARMS))
    options = parser.parse_args()
    for name in options.arms:
        arm(name, options.seeds)


if __name__ == "__main__":
    main()
