"""A layout moves tokens about and changes no number: padding, packing, prefix sharing, batch splits, chunks of the head."""

from __future__ import annotations

import pytest
import torch
from tiny import checkpoint, examples
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPTNeoConfig,
    GraniteConfig,
    MistralConfig,
    Qwen3Config,
)  # fmt: skip

from trainers import logps as scoring
from trainers.attention import adopted
from trainers.batch import Layout, collate, lengths, model_inputs, per_answer
from trainers.data import Example
from trainers.engine import Settings, layout_of
from trainers.logps import load_policy, scoring_class

LAYOUTS = {
    "shared": Layout(),
    "packed": Layout(share=False, pack=64),
    "shared and packed": Layout(pack=96),
    "additive": Layout(pack=96, additive=True),
    "flat": Layout(flat=True),
    "flat, unshared": Layout(flat=True, share=False),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = load_policy(str(checkpoint(tmp_path_factory.mktemp("tiny"))))
    assert adopted(made, bfloat16=False)
    return made


def sums(model, rows: list[Example], layout: Layout, pad: int = 0) -> torch.Tensor:
    batch = collate(rows, layout, pad=pad)
    return per_answer(model(**model_inputs(batch)).logps, batch)


def gradient(model, loss: torch.Tensor) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def slow(model, example: Example) -> list[float]:
    """Each answer by itself through the model's own logits, token by token."""
    found = []
    for answer in example.answers:
        ids = torch.tensor([[*example.prompt, *answer]])
        table = model(input_ids=ids).logits[0].log_softmax(-1)
        start = len(example.prompt)
        found.append(sum(table[start + i - 1, token].item() for i, token in enumerate(answer)))
    return found


def test_the_plain_layout_agrees_with_the_models_own_logits(model) -> None:
    rows = examples(6)
    found = sums(model, rows, Layout(share=False))
    assert found.tolist() == pytest.approx([value for row in rows for value in slow(model, row)], abs=1e-4)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("answers", [1, 2, 4])
def test_every_layout_gives_the_same_numbers_and_gradients(model, name: str, answers: int) -> None:
    rows = examples(7, answers)
    weight = torch.linspace(-1, 1, 7 * answers)
    plain, other = (sums(model, rows, layout) for layout in (Layout(share=False), LAYOUTS[name]))
    torch.testing.assert_close(other, plain, atol=1e-4, rtol=0)
    wanted, got = (gradient(model, (values * weight).sum()) for values in (plain, other))
    assert (wanted - got).abs().max() < 1e-5 * max(1.0, wanted.abs().max().item())


def test_the_pad_token_is_not_read(model) -> None:
    """Not even where it equals the end-of-sequence token, or a word."""
    rows = examples(5)
    for layout in (Layout(), Layout(share=False), Layout(pack=80), Layout(flat=True)):
        torch.testing.assert_close(sums(model, rows, layout, pad=1), sums(model, rows, layout, pad=0), atol=0, rtol=0)


def test_a_batch_may_be_split(model) -> None:
    rows = examples(8)
    whole = sums(model, rows, Layout())
    parts = torch.cat([sums(model, rows[i : i + 2], Layout()) for i in range(0, 8, 2)])
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=0)


def test_sharing_and_packing_save_what_they_should() -> None:
    rows = [Example(id="x", prompt=tuple(range(2, 42)), answers=((3,) * 5, (4,) * 5))] * 4
    assert collate(rows, Layout(share=False), pad=0)["input_ids"].numel() == 8 * 45
    assert collate(rows, Layout(), pad=0)["input_ids"].numel() == 4 * 50
    assert collate(rows, Layout(pack=100), pad=0)["input_ids"].shape == (2, 100)
    assert collate([*rows, rows[0]], Layout(flat=True), pad=0)["input_ids"].shape == (1, 250)


def test_masks_choose_the_scored_tokens(model) -> None:
    row = examples(1, 1)[0]
    answer = (5, 6, 7, 8)
    masked = Example(id="m", prompt=row.prompt, answers=(answer,), masks=((False, True, False, True),))
    batch = collate([masked], Layout(), pad=0)
    assert batch["targets"].tolist() == [6, 8]
    assert lengths(batch).tolist() == [2]
    every = collate([Example(id="m", prompt=row.prompt, answers=(answer,))], Layout(), pad=0)
    found, wanted = (model(**model_inputs(b)).logps for b in (batch, every))
    torch.testing.assert_close(found, wanted[[1, 3]])


def test_ends_are_the_last_tokens_wherever_they_lie() -> None:
    rows = examples(6, 3)
    for layout in (Layout(share=False), *LAYOUTS.values()):
        batch = collate(rows, layout, pad=0)
        last = batch["input_ids"].flatten()[batch["ends"]]
        assert last.tolist() == [answer[-1] for row in rows for answer in row.answers]


def test_chunks_of_the_head_change_nothing(model, monkeypatch) -> None:
    rows = examples(6)
    found = []
    for chunk, kept in ((512, 0), (7, 0), (7, 1 << 28)):
        monkeypatch.setattr(scoring, "CHUNK", chunk)
        monkeypatch.setattr(scoring, "KEPT", kept)
        batch = collate(rows, Layout(), pad=0)
        scored = model(**model_inputs(batch), entropy=True, temperature=0.7)
        found.append((scored.logps, scored.entropy, gradient(model, scored.logps.sum() + scored.entropy.sum())))
    for one, *others in zip(*found, strict=True):
        for other in others:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_entropy_and_temperature_by_definition(model) -> None:
    row = examples(1, 1)[0]
    batch = collate([row], Layout(), pad=0)
    scored = model(**model_inputs(batch), entropy=True, temperature=0.5)
    table = (model(input_ids=batch["input_ids"]).logits[0] / 0.5).log_softmax(-1)[batch["at"]]
    torch.testing.assert_close(scored.logps, table.gather(-1, batch["targets"][:, None])[:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(scored.entropy, -(table.exp() * table).sum(-1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [Qwen3Config, Gemma2Config, CohereConfig, GraniteConfig])
def test_families_with_scaled_or_capped_logits_score_as_they_speak(kind) -> None:
    config = kind(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, pad_token_id=0, eos_token_id=1, bos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    for name, value in (("final_logit_softcapping", 2.0), ("logit_scale", 0.3), ("logits_scaling", 3.0)):
        if hasattr(config, name):
            setattr(config, name, value)
    torch.manual_seed(0)
    model = scoring_class(AutoModelForCausalLM._model_mapping[kind])(config).eval()
    scoring.check_head(model, "here")
    row = examples(1)[0]
    wanted = slow(model, row)
    found = sums(model, [row], Layout(additive=config._attn_implementation == "eager"))
    assert found.tolist() == pytest.approx(wanted, abs=1e-3)
    # Gemma 2 caps its scores, which no fast kernel does.
    assert adopted(model, bfloat16=False) == (kind is not Gemma2Config)
    assert slow(model, row) == wanted
    if kind is not Gemma2Config:
        assert sums(model, [row], Layout(flat=True)).tolist() == pytest.approx(wanted, abs=1e-3)


def test_sliding_windows_slide_within_a_sequence_wherever_it_lies() -> None:
    config = MistralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=5, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = scoring_class(AutoModelForCausalLM._model_mapping[MistralConfig])(config).eval()
    rows = examples(4)
    wanted = [value for row in rows for value in slow(model, row)]
    masked = layout_of(model, Settings(attention="masked", pack=64))
    assert masked == Layout(share=False)
    assert sums(model, rows, masked).tolist() == pytest.approx(wanted, abs=1e-3)
    assert layout_of(model, Settings()) == Layout(flat=True)
    assert sums(model, rows, Layout(flat=True)).tolist() == pytest.approx(wanted, abs=1e-3)


def test_a_model_that_attends_in_a_way_of_its_own_keeps_it() -> None:
    torch.manual_seed(0)
    config = GPTNeoConfig(vocab_size=64, hidden_size=32, num_layers=2, num_heads=2, attention_types=[[["global"], 2]])
    model = scoring_class(AutoModelForCausalLM._model_mapping[GPTNeoConfig])(config).eval()
    before = model.config._attn_implementation
    assert not adopted(model, bfloat16=False)
    assert model.config._attn_implementation == before
