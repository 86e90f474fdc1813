"""A reward model learns what gold likes in the policy's own answers, and nothing from shuffled labels (one seed, small).

The measured effect, with intervals over seeds: ``python tests/bench/effects_reward.py``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from rlhf_eval.records import Completion, PreferencePair  # noqa: E402
from rlhf_eval.sandbox import checkpoint, gold, world  # noqa: E402
from rlhf_eval.sandbox.sample import sample  # noqa: E402
from rlhf_eval.stages.training import Data, Job  # noqa: E402
from trainers.reward_model import Config, train  # noqa: E402

POLICY = checkpoint("policy")
CONFIG = Config(
    optimizer="muon", learning_rate=0.02, weight_decay=0.1, schedule="cosine", epochs=2, batch_size=16, eval_share=0.0
)


def judged_by_gold(split: str, count: int, *, widest: bool) -> list[PreferencePair]:
    """Pairs of six answers of the policy that gold tells apart: all of them, or the widest of each prompt."""
    model = transformers.AutoModelForCausalLM.from_pretrained(POLICY).eval()
    prompts = world.prompts(split, count)
    answers = sample(model, transformers.AutoTokenizer.from_pretrained(POLICY), [p.messages for p in prompts], n=6)
    found = []
    for prompt, texts in zip(prompts, answers, strict=True):
        scored = [(gold.reward(prompt, text).reward, text) for text in dict.fromkeys(texts) if text.strip()]
        pairs = [
            PreferencePair.of(
                prompt=prompt, probability=1.0, margin=high[0] - low[0], labeler="gold", rule="test",
                chosen=Completion.of(prompt_id=prompt.id, model="policy", text=high[1], origin=high[1]),
                rejected=Completion.of(prompt_id=prompt.id, model="policy", text=low[1], origin=low[1]),
            )
            for low, high in combinations(sorted(scored), 2)
            if high[0] > low[0]
        ]  # fmt: skip
        found += sorted(pairs, key=lambda pair: pair.margin)[-1:] if widest else pairs
    return found


def accuracy(out: Path, told: Sequence[PreferencePair], held: Sequence[PreferencePair]) -> float:
    data = Data(pairs=tuple(told), heldout_pairs=tuple(held))
    return train(data, out, CONFIG, Job(model=str(POLICY))).final["eval_accuracy"]


@pytest.mark.slow
def test_gold_is_learned_and_noise_is_not(tmp_path: Path) -> None:
    told, held = judged_by_gold("train", 160, widest=False), judged_by_gold("heldout", 120, widest=True)
    rng = random.Random(0)
    noise = [
        replace(p, chosen=p.rejected, rejected=p.chosen, margin=-p.margin) if rng.random() < 0.5 else p for p in told
    ]
    learned, control = accuracy(tmp_path / "gold", told, held), accuracy(tmp_path / "noise", noise, held)
    assert learned > 0.7
    assert learned > control + 0.1
