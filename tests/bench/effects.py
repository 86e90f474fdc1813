"""Does training do what it should? Gold reward on held-out prompts of the sandbox, over seeds, with intervals and controls.

    python tests/bench/effects.py --seeds 5            # about two minutes a seed on one core
    python tests/bench/effects.py --seeds 1 --prompts 150

Every arm starts from ``sandbox:policy`` and is compared with it on the same prompts. Gold labels: rejection-sampling SFT
with random selection as its control, DPO with shuffled labels as its control, KTO. Labels of ``sandbox:judge``, which errs:
DPO with its probabilities as soft labels beside the same pairs with hard ones. Intervals (95 %) are over prompts: the
differences of all seeds on a prompt are one unit.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlhf_eval.records import Completion, Demonstration, PreferencePair, Run
from rlhf_eval.sandbox import checkpoint
from rlhf_eval.sandbox.gold import reward
from rlhf_eval.stages.training import Data, Job
from rlhf_eval.stages.training_files import both_sides
from rlhf_eval.stats.intervals import mean_interval
from rlhf_eval.verbs.flow import generate, judge
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.pairs import pairs
from rlhf_eval.verbs.session import Options, Session
from trainers import dpo, sft

SFT = sft.Config(learning_rate=1e-3, epochs=6, batch_size=16)
DPO = dpo.Config(learning_rate=5e-4, epochs=3, batch_size=16, beta=0.3, nll_weight=0.3)
PLAIN = replace(DPO, nll_weight=0.0)
ARMS = (
    "rs-sft", "rs-sft, random selection", "dpo", "dpo, shuffled labels", "dpo without nll", "kto", "dpo, judge, soft",
    "dpo, judge, hard",
)  # fmt: skip
BASE = "base"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=300, help="training prompts a seed")
    parser.add_argument("--heldout", type=int, default=200, help="held-out prompts, the same for all seeds")
    parser.add_argument("--only", default="", help="arms, by semicolons")
    options = parser.parse_args()
    arms = [arm for arm in ARMS if not options.only or arm in options.only.split(";")]
    found: dict[str, dict[str, list[float]]] = {arm: defaultdict(list) for arm in (BASE, *arms)}
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rewards = asyncio.run(_seed(seed, Path(folder), options.prompts, options.heldout, arms))
        for arm, by_prompt in rewards.items():
            for prompt, value in by_prompt.items():
                found[arm][prompt].append(value)
        print(_table(found, seed + 1), flush=True)


async def _seed(
    seed: int, folder: Path, prompts: int, heldout: int, arms: Sequence[str]
) -> dict[str, dict[str, float]]:
    here = Session(Options(store=folder / "store", quiet=True, seed=seed))
    asked = load(Session(replace(here.options, limit=prompts)), {"source": "sandbox", "split": "train"}).run
    drawn = await generate(here, {"prompts": asked.id, "model": "sandbox:policy", "n": 8, "max_tokens": 48})
    gold = await judge(here, {"completions": drawn.run.id, "judge": "gold"})
    judged = (
        await judge(here, {
            "completions": drawn.run.id, "judge_model": "sandbox:judge", "matches": "ring:1", "max_tokens": 8,
        })
        if any("judge" in arm for arm in arms)
        else gold
    )  # fmt: skip
    held = load(Session(replace(here.options, limit=heldout, seed=0)), {"source": "sandbox", "split": "heldout"}).run
    sets = {
        "best": _made(here, gold.run, "top_per_prompt"), "random": _made(here, gold.run, "random_per_prompt"),
        "gold": _made(here, gold.run, "best_worst"), "judge": _made(here, judged.run, "all_pairs"),
    }  # fmt: skip
    models = {BASE: "sandbox:policy"}
    for arm in arms:
        start = time.monotonic()
        out = folder / arm.replace(" ", "_")
        _train(arm, sets, here, out, seed)
        print(f"seed {seed}, {arm}: {time.monotonic() - start:.0f} s", flush=True)
        models[arm] = f"hf:{out / 'checkpoint'}?dtype=float64&device=cpu&batch_size=128&threads=1"
    rewards = {arm: await _gold(here, spec, held) for arm, spec in models.items()}
    await here.close()
    return rewards


def _made(here: Session, source: Run, rule: str) -> Run:
    return pairs(here, {"judgments": source.id, "rule": rule, "control": False}).run


def _train(arm: str, sets: Mapping[str, Run], here: Session, out: Path, seed: int) -> None:
    job = Job(model=str(checkpoint("policy")), seed=seed)
    if arm.startswith("rs-sft"):
        rows = here.read(Demonstration, sets["random" if "random" in arm else "best"])
        sft.train(Data(demonstrations=tuple(rows)), out, SFT, job)
        return
    rows = here.read(PreferencePair, sets["judge" if "judge" in arm else "gold"])
    if "shuffled" in arm:
        flip = np.random.default_rng(seed).random(len(rows)) < 0.5
        rows = [replace(p, chosen=p.rejected, rejected=p.chosen) if f else p for p, f in zip(rows, flip, strict=True)]
    if arm == "kto":
        dpo.train(Data(labelled=both_sides(rows)), out, replace(PLAIN, loss="kto"), job)
    elif "judge" in arm:
        # Eight pairs a prompt instead of one: fewer passes, and no likelihood term, so that only the labels differ.
        dpo.train(Data(pairs=tuple(rows)), out, replace(PLAIN, epochs=1, soft_labels="soft" in arm), job)
    else:
        dpo.train(Data(pairs=tuple(rows)), out, PLAIN if "without" in arm else DPO, job)


async def _gold(here: Session, model: str, held: Run) -> dict[str, float]:
    drawn = await generate(here, {"prompts": held.id, "model": model, "n": 2, "max_tokens": 48})
    asked = {prompt.id: prompt for prompt in here.prompts(drawn.run)}
    rewards: dict[str, list[float]] = defaultdict(list)
    for answer in here.read(Completion, drawn.run):
        rewards[answer.prompt_id].append(reward(asked[answer.prompt_id], answer.text).reward)
    return {prompt: float(np.mean(values)) for prompt, values in rewards.items()}


def _table(found: Mapping[str, Mapping[str, Sequence[float]]], seeds: int) -> str:
    lines = [
        f"\n{seeds} seeds, gold reward on {len(found[BASE])} held-out prompts",
        f"{'arm':28} {'gold':>6}  minus the base (95 %)",
    ]
    base = {prompt: np.mean(values) for prompt, values in found[BASE].items()}
    for arm, by_prompt in found.items():
        means = np.array([np.mean(by_prompt[prompt]) for prompt in base])
        gain = mean_interval(means - np.array(list(base.values())))
        lines.append(f"{arm:28} {means.mean():6.3f}  {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
