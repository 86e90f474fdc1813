"""What the effect benches share: the answers of a sandbox checkpoint to a seed's own prompts, and what is made of them.

Each seed has prompts of its own, for training and held out, so that seeds are independent repetitions. Labels come from
gold, or from ``sandbox:judge`` in both orders. Pairs whose labeler sees no difference are left out.

    answered = answers_of(checkpoint("policy"), "train", 600, seed=0)
    best_worst(by_gold(answered))
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_eval.records import Completion, Demonstration, Message, PreferencePair, Prompt
from rlhf_eval.sandbox import checkpoint, gold, world
from rlhf_eval.sandbox.sample import first_shares, sample
from rlhf_eval.sandbox.tokens import ask_pairwise

ANSWERS = 8
BATCH = 256
HELDOUT_SEEDS = 1000
"""A seed's held-out prompts are drawn with the seed this much further."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt and a checkpoint's answers to it, as drawn: repeats and empty ones too."""

    prompt: Prompt
    texts: tuple[str, ...]

    @property
    def rewards(self) -> np.ndarray:
        """(answers,) gold."""
        return np.array([gold.reward(self.prompt, text).reward for text in self.texts])

    @property
    def completions(self) -> list[Completion]:
        """The different answers that are not empty."""
        texts = [text for text in dict.fromkeys(self.texts) if text.strip()]
        return [Completion.of(prompt_id=self.prompt.id, model="policy", text=t, origin=t) for t in texts]


def heldout(count: int, seed: int) -> list[Prompt]:
    """The held-out prompts of a seed."""
    return world.prompts("heldout", count, seed=seed + HELDOUT_SEEDS)


def answers_of(folder: Path, prompts: Sequence[Prompt], n: int, seed: int) -> list[Answered]:
    """``n`` answers at temperature 1 to each prompt."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    drawn = sample(model, tokenizer, [prompt.messages for prompt in prompts], n=n, seed=seed)
    return [Answered(prompt, tuple(texts)) for prompt, texts in zip(prompts, drawn, strict=True)]


def training_answers(out: Path, count: int, seed: int) -> list[Answered]:
    """Eight answers of the policy to each of a seed's training prompts; drawn once and kept in ``out`` for all benches."""
    prompts, kept = world.prompts("train", count, seed=seed), out / f"drawn-{seed}-{count}.json"
    if kept.is_file():
        texts = json.loads(kept.read_text(encoding="utf-8"))
        return [Answered(prompt, tuple(texts[prompt.id])) for prompt in prompts]
    drawn = answers_of(checkpoint("policy"), prompts, ANSWERS, seed)
    kept.write_text(json.dumps({one.prompt.id: one.texts for one in drawn}), encoding="utf-8")
    return drawn


def demonstrations(answered: Sequence[Answered], seed: int | None = None) -> list[Demonstration]:
    """The best answer to each prompt by gold, or, given a seed, one at random.

    At random as drawn, repeats included: among the different answers rare ones, which are mostly wrong, would be too many.
    """
    rng, found = random.Random(seed), []
    for one in answered:
        graded = [*zip(one.rewards.tolist(), one.texts, strict=True)]
        score, text = max(graded, key=lambda pair: pair[0]) if seed is None else rng.choice(graded)
        kept = Completion.of(prompt_id=one.prompt.id, model="policy", text=text, origin=text)
        found.append(Demonstration.of(prompt=one.prompt, completion=kept, score=score, labeler="gold", rule="bench"))
    return found


def by_gold(answered: Sequence[Answered]) -> list[PreferencePair]:
    """All pairs that gold tells apart."""
    found = []
    for one in answered:
        for a, b in itertools.combinations(one.completions, 2):
            first, second = (gold.reward(one.prompt, c.text).reward for c in (a, b))
            if first != second:
                better, worse = (a, b) if first > second else (b, a)
                found.append(pair(one.prompt, better, worse, 1.0, abs(first - second), "gold"))
    return found


def by_judge(answered: Sequence[Answered]) -> list[PreferencePair]:
    """Each answer against the next, with the judge's probability of both orders for a label."""
    met = [(one.prompt, a, b) for one in answered for a, b in itertools.pairwise(one.completions)]
    found = []
    for (prompt, a, b), p in zip(met, judged([(prompt, a.text, b.text) for prompt, a, b in met]), strict=True):
        better, worse = (a, b) if p > 0.5 else (b, a)
        if p != 0.5:
            found.append(pair(prompt, better, worse, max(p, 1 - p), 2 * abs(p - 0.5), "judge"))
    return found


def judged(duels: Sequence[tuple[Prompt, str, str]]) -> list[float]:
    """The probability that ``sandbox:judge`` gives the first answer of each duel, the mean of both orders."""
    place = checkpoint("judge")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)
    asked = [ask_pairwise(prompt, shown) for prompt, a, b in duels for shown in ((a, b), (b, a))]
    shares = first_shares(model, tokenizer, asked)
    return [(straight + 1 - swapped) / 2 for straight, swapped in zip(shares[::2], shares[1::2], strict=True)]


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


def scorer(folder: Path) -> Callable[[Sequence[Sequence[Message]]], np.ndarray]:
    """The rewards that a reward model gives conversations, by transformers alone, in batches of like length."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def rewards(talks: Sequence[Sequence[Any]]) -> np.ndarray:
        texts = [
            tokenizer.apply_chat_template([{"role": m.role, "content": m.content} for m in talk], tokenize=False)
            for talk in talks
        ]
        found = np.zeros(len(texts))
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for part in (order[start : start + BATCH] for start in range(0, len(order), BATCH)):
            rows = tokenizer([texts[i] for i in part], padding=True, return_tensors="pt", add_special_tokens=False)
            logits = model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).logits
            found[part] = logits[:, 0].numpy()
        return found

    return rewards
