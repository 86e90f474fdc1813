"""What a reward model learns in the sandbox: its accuracy on held-out gold pairs, by who labelled its data.

    python tests/bench/effects_reward.py                        # 5 seeds, about ten minutes on 2 cores
    python tests/bench/effects_reward.py --seeds 1 --prompts 200

Each seed has its own prompts. ``sandbox:policy`` answers each of them eight times; labels come from gold, from
``sandbox:judge`` (both orders, soft), and, as the control, from gold with every pair's sides shuffled. Held-out pairs are
of other prompts: the best against the worst of eight answers by gold (what ``pairs --rule best_worst`` makes), and all
pairs that gold tells apart. An interval over seeds is Student's t.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_eval.records import Completion, PreferencePair, Prompt
from rlhf_eval.sandbox import checkpoint, gold, world
from rlhf_eval.sandbox.sample import first_shares, sample
from rlhf_eval.sandbox.tokens import ask_pairwise
from rlhf_eval.stages.training import Data, Job
from rlhf_eval.stats.intervals import mean_interval
from trainers.reward_model import Config, train

ANSWERS = 8
SETTINGS = Config(
    optimizer="muon", learning_rate=0.02, weight_decay=0.1, schedule="cosine", warmup=0.05, epochs=2.0, batch_size=16,
    eval_share=0.0,
)  # fmt: skip


def answered(split: str, count: int, seed: int) -> list[tuple[Prompt, list[Completion]]]:
    """Prompts with the different answers that the policy gives to each."""
    place = checkpoint("policy")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)
    prompts = world.prompts(split, count, seed=seed)
    texts = sample(model, tokenizer, [prompt.messages for prompt in prompts], n=ANSWERS, seed=seed)
    return [
        (
            prompt,
            [
                Completion.of(prompt_id=prompt.id, model="policy", text=t, origin=t)
                for t in dict.fromkeys(own)
                if t.strip()
            ],
        )
        for prompt, own in zip(prompts, texts, strict=True)
    ]


def by_gold(data: Sequence[tuple[Prompt, list[Completion]]]) -> list[PreferencePair]:
    """All pairs that gold tells apart."""
    found = []
    for prompt, answers in data:
        for a, b in itertools.combinations(answers, 2):
            first, second = (gold.reward(prompt, c.text).reward for c in (a, b))
            if first != second:
                better, worse = (a, b) if first > second else (b, a)
                found.append(pair(prompt, better, worse, 1.0, abs(first - second), "gold"))
    return found


def by_judge(data: Sequence[tuple[Prompt, list[Completion]]]) -> list[PreferencePair]:
    """Each answer against the next, as the sandbox's judge sees them in both orders."""
    place = checkpoint("judge")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)
    met = [(prompt, a, b) for prompt, answers in data for a, b in itertools.pairwise(answers)]
    asked = [ask_pairwise(p, (x.text, y.text)) for p, a, b in met for x, y in ((a, b), (b, a))]
    shares = first_shares(model, tokenizer, asked)
    found = []
    for (prompt, a, b), straight, swapped in zip(met, shares[::2], shares[1::2], strict=True):
        p = (straight + 1 - swapped) / 2
        better, worse = (a, b) if p > 0.5 else (b, a)
        if p != 0.5:
            found.append(pair(prompt, better, worse, max(p, 1 - p), 2 * abs(p - 0.5), "judge"))
    return found


def pair(
    prompt: Prompt, better: Completion, worse: Completion, probability: float, margin: float, labeler: str
) -> PreferencePair:
    """One preference."""
    return PreferencePair.of(
        prompt=prompt, chosen=better, rejected=worse, probability=probability, margin=margin, labeler=labeler,
        rule="all_pairs",
    )  # fmt: skip


def shuffled(pairs: Sequence[PreferencePair], seed: int) -> list[PreferencePair]:
    """The same pairs, each with its sides changed with probability one half."""
    rng = random.Random(seed)
    return [
        replace(p, chosen=p.rejected, rejected=p.chosen, chosen_id=p.rejected_id, rejected_id=p.chosen_id)
        if rng.random() < 0.5
        else p
        for p in pairs
    ]


def best_worst(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """The pair of the widest margin of each prompt."""
    widest: dict[str, PreferencePair] = {}
    for one in pairs:
        if one.prompt_id not in widest or one.margin > widest[one.prompt_id].margin:
            widest[one.prompt_id] = one
    return list(widest.values())


@torch.inference_mode()
def rewards(folder: Path, talks: Sequence[Sequence[Any]]) -> np.ndarray:
    """The rewards of conversations by transformers alone, in batches of like length."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [
        tokenizer.apply_chat_template([{"role": m.role, "content": m.content} for m in talk], tokenize=False)
        for talk in talks
    ]
    found = np.zeros(len(texts))
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for part in (order[start : start + 128] for start in range(0, len(order), 128)):
        rows = tokenizer([texts[i] for i in part], padding=True, return_tensors="pt", add_special_tokens=False)
        logits = model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).logits
        found[part] = logits[:, 0].numpy()
    return found


def accuracy(folder: Path, pairs: Sequence[PreferencePair]) -> float:
    """Share of pairs whose better side has the higher reward; ties count half."""
    first = rewards(folder, [(*p.prompt, *p.chosen) for p in pairs])
    second = rewards(folder, [(*p.prompt, *p.rejected) for p in pairs])
    return float(((first > second) + 0.5 * (first == second)).mean())


def measure(seed: int, prompts: int, heldout: int, config: Config) -> dict[str, dict[str, float]]:
    """Accuracies of one seed, by labels."""
    torch.set_num_threads(1)
    data = answered("train", prompts, seed)
    held = by_gold(answered("heldout", heldout, seed + 1000))
    told = by_gold(data)
    sets = {"gold": told, "judge": by_judge(data), "shuffled": shuffled(told, seed)}
    found = {}
    for name, pairs in sets.items():
        with tempfile.TemporaryDirectory() as place:
            start = time.process_time()
            train(Data(pairs=tuple(pairs)), Path(place), config, Job(model=str(checkpoint("policy")), seed=seed))
            seconds = time.process_time() - start
            folder = Path(place) / "checkpoint"
            found[name] = {
                "best_worst": accuracy(folder, best_worst(held)), "all_pairs": accuracy(folder, held),
                "pairs": len(pairs), "cpu_seconds": seconds,
            }  # fmt: skip
        print(json.dumps({"seed": seed, "labels": name, **found[name]}), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--heldout", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=SETTINGS.epochs)
    options = parser.parse_args()
    config = replace(SETTINGS, epochs=options.epochs)
    runs = [
        measure(seed, options.prompts, options.heldout, config)
        for seed in range(options.first, options.first + options.seeds)
    ]
    print(f"\naccuracy on held-out gold pairs, mean over {options.seeds} seeds and 95% interval")
    print(f"{options.prompts} prompts x {ANSWERS} answers; {options.heldout} held-out prompts a seed")
    print("| labels | pairs | best against worst of 8 | all pairs | CPU seconds |\n|---|---|---|---|---|")
    for name in runs[0]:
        cells = []
        for kind in ("best_worst", "all_pairs"):
            spread = mean_interval([run[name][kind] for run in runs]) if len(runs) > 1 else None
            value = f"{np.mean([run[name][kind] for run in runs]):.3f}"
            cells.append(f"{value} ({spread.low:.3f} to {spread.high:.3f})" if spread else value)
        pairs, seconds = (np.mean([run[name][kind] for run in runs]) for kind in ("pairs", "cpu_seconds"))
        print(f"| {name} | {pairs:,.0f} | {cells[0]} | {cells[1]} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
