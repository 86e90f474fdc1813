"""PPO's sampler on a real vLLM in this process: it draws from the policy, and from its new weights once they are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import rlhf_eval
from rlhf_eval.sandbox.sample import encode
from rlhf_eval.sandbox.world import prompts

pytestmark = pytest.mark.vllm

POLICY = Path(rlhf_eval.__file__).with_name("sandbox") / "policy"


def test_it_draws_what_the_trainer_s_model_would_and_follows_its_weights():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trainers.sampling import Ask, HfSampler, VllmSampler

    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    model = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32).eval()
    ends = frozenset({model.config.eos_token_id})
    asks = [
        Ask(prompt=encode(tokenizer, p.messages), keys=(f"{i:020x}", f"{i + 99:020x}"))
        for i, p in enumerate(prompts("heldout", 8))
    ]
    ours, theirs = HfSampler(model, ends=ends), VllmSampler(str(POLICY), ends=ends, dtype="float32")
    coldest = {"temperature": 0.0, "max_tokens": 12}
    before = theirs.sample(asks, **coldest)
    assert [[d.ids for d in group] for group in before] == [[d.ids for d in g] for g in ours.sample(asks, **coldest)]

    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.mul_(0.3)
        for weight in model.parameters():
            weight.mul_(1.02)
    theirs.reload(dict(model.named_parameters()))
    after = theirs.sample(asks, **coldest)
    assert [[d.ids for d in group] for group in after] == [[d.ids for d in g] for g in ours.sample(asks, **coldest)]
    assert [[d.ids for d in group] for group in after] != [[d.ids for d in group] for group in before]

    warm = theirs.sample(asks, temperature=1.0, max_tokens=12)
    assert warm == theirs.sample(asks, temperature=1.0, max_tokens=12)
    for ask, group in zip(asks, warm, strict=True):
        for drawn in group:
            ids = torch.tensor([ask.prompt + drawn.ids])
            logps = model(input_ids=ids).logits[0, len(ask.prompt) - 1 : -1].log_softmax(-1)
            assert drawn.ended == (drawn.ids[-1] in ends)
            own = logps.gather(1, torch.tensor(drawn.ids)[:, None])[:, 0]
            assert drawn.logps == pytest.approx(own.tolist(), abs=1e-3)
