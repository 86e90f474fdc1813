"""An adapter changes weights and nothing else: it starts at nothing, samples as its merged model does, and comes off."""

from __future__ import annotations

from typing import Any

import torch
from tiny import examples
from transformers import GPT2Config, GPT2LMHeadModel

from trainers.adapters import adapted, adapter_off, merged
from trainers.sampling import Ask, Drawn, HfSampler

IDS = torch.tensor([examples(1)[0].prompt])


def plain() -> Any:
    """A model that learns positions by number, so that it notices if padding moves them."""
    torch.manual_seed(0)
    size = {"vocab_size": 64, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    config = GPT2Config(**size, initializer_range=0.3, eos_token_id=1, bos_token_id=2)
    return GPT2LMHeadModel(config).double().eval()


def moved() -> Any:
    """The same with an adapter that has learned something."""
    model = adapted(plain(), rank=4)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.requires_grad):
            weight.copy_(torch.randn(weight.shape, generator=draw) / 4)
    return model.eval()


def drawn(model: Any) -> list[list[Drawn]]:
    asks = [Ask(prompt=list(row.prompt), keys=(f"{i:020x}", f"{i + 9:020x}")) for i, row in enumerate(examples(9))]
    return HfSampler(model, ends=frozenset({1}), batch_size=8).sample(asks, temperature=1.0, max_tokens=12)


def test_an_adapter_samples_what_its_merged_model_samples() -> None:
    model = moved()
    ours = drawn(model)
    assert ours == drawn(merged(model))
    assert ours != drawn(plain())


def test_an_adapter_starts_at_nothing_and_comes_off() -> None:
    wanted = plain()(input_ids=IDS).logits
    assert torch.equal(adapted(plain(), rank=4)(input_ids=IDS).logits, wanted)
    model = moved()
    assert not torch.allclose(model(input_ids=IDS).logits, wanted, atol=0.1)
    with adapter_off(model):
        torch.testing.assert_close(model(input_ids=IDS).logits, wanted)
