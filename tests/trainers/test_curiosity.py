"""The curiosity bonus of CD-RLHF: its identities, its gate, its placebos, and the corrections of the published code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny import shallow_policy

from rlhf_eval.records import Completion, Prompt
from rlhf_eval.sandbox.gold import reward as gold_of
from rlhf_eval.sandbox.world import prompts as sandbox
from rlhf_eval.stages.training import Data, Job
from trainers.algorithms import Config
from trainers.curiosity import Curiosity, Settings
from trainers.ppo import Loop, prepared


def gold(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
    return [gold_of(p, c.text).reward for p, c in zip(prompts, completions, strict=True)]


def loop_of(**settings: Any) -> Loop:
    config = Config(prompts=6, samples=2, steps=4, max_new_tokens=8, learning_rate=1e-3, curiosity=Settings(**settings))
    job = Job(model=shallow_policy().name, reward=gold)
    return prepared(Data(prompts=tuple(sandbox("train", 40))), config, job)[0]


def batch(tokens: int = 60, width: int = 16) -> tuple[torch.Tensor, ...]:
    """States, actions, ranks and a ragged mask."""
    rng = torch.Generator().manual_seed(0)
    mask = torch.arange(10) < torch.tensor([10, 4, 7, 10, 2, 10, 9, 8])[:, None]
    n = int(mask.sum())
    assert n == tokens
    before, after, actions = (torch.randn(n, width, generator=rng) for _ in range(3))
    return before, after, actions, torch.randint(0, 3, mask.shape, generator=rng), mask


def after_two_steps(**settings: Any) -> torch.Tensor:
    """The policy's weights."""
    loop = loop_of(**settings)
    for _ in range(2):
        loop.train_step()
    return torch.cat([weight.detach().flatten() for weight in loop.actors.policy.parameters()])


def test_no_weight_or_a_closed_gate_is_plain_ppo_bit_for_bit():
    plain = after_two_steps()
    for settings in ({"eta": 0.0}, {"eta": 0.5, "top_k": 1182}, {"eta": 0.5, "top_k": 1182, "kind": "noise"}):
        assert torch.equal(after_two_steps(**settings), plain), settings
    assert not torch.equal(after_two_steps(eta=0.5), plain)


def test_the_gate_passes_the_tokens_that_were_not_the_likeliest():
    loop = loop_of(eta=0.1)
    loop.step = 1
    rollout = loop.roll_out()
    _, row = loop.token_rewards(rollout)
    argmax, count = 0, 0
    for prompt, one in zip(rollout.prompts, rollout.drawn, strict=True):
        logits = loop.actors.policy(input_ids=torch.tensor([prompt + one.ids])).logits[0, len(prompt) - 1 : -1]
        argmax += int((logits.argmax(-1) == torch.tensor(one.ids)).sum())
        count += len(one.ids)
    assert row["curiosity_gate"] == pytest.approx(1 - argmax / count)
    assert 0 < row["curiosity_gate"] < 1


def test_the_bonus_is_paid_for_real_tokens_outside_the_top_k_and_for_nothing_else():
    before, after, actions, ranks, mask = batch()
    for kind in ("prediction", "constant", "noise"):
        curiosity = Curiosity(hidden=16, embedding=16, settings=Settings(eta=0.1, kind=kind, top_k=2))
        bonus, seen = curiosity.bonus(before, after, actions, ranks, mask)
        assert not bonus[~mask | (ranks < 2)].any()
        assert bonus[mask & (ranks >= 2)].all()
        assert seen["curiosity_gate"] == pytest.approx(float((mask & (ranks >= 2)).sum() / mask.sum()))
    constant = Curiosity(hidden=16, embedding=16, settings=Settings(eta=0.1, kind="constant", top_k=0))
    assert torch.allclose(constant.bonus(before, after, actions, ranks, mask)[0], 0.1 * mask.float())


def test_padding_does_not_enter_the_whitening():
    before, after, actions, _, mask = batch()
    open_ = Settings(eta=1.0, top_k=0)
    bonus, _ = Curiosity(hidden=16, embedding=16, settings=open_).bonus(before, after, actions, mask.long(), mask)
    assert float(bonus[mask].mean()) == pytest.approx(0, abs=1e-6)
    assert float(bonus[mask].std()) == pytest.approx(1, abs=1e-4)
    wide = torch.nn.functional.pad(mask, (0, 30))
    padded, _ = Curiosity(hidden=16, embedding=16, settings=open_).bonus(before, after, actions, wide.long(), wide)
    assert torch.allclose(padded[wide], bonus[mask], atol=1e-6)


def test_the_predictor_learns_a_batch_that_it_sees_again():
    before, after, actions, ranks, mask = batch()
    curiosity = Curiosity(hidden=16, embedding=16, settings=Settings(eta=0.1, encoder="frozen", learning_rate=3e-3))
    errors = [curiosity.bonus(before, after, actions, ranks, mask)[1]["curiosity_error"] for _ in range(200)]
    assert errors[-1] < errors[0] / 2


def test_a_collapsed_encoder_is_reported_and_a_frozen_one_stays():
    before, after, actions, ranks, mask = batch()
    frozen = Curiosity(hidden=16, embedding=16, settings=Settings(eta=0.1, encoder="frozen", learning_rate=1e-2))
    start = [p.clone() for p in frozen._predictor.encode.parameters()]
    _, seen = frozen.bonus(before, after, actions, ranks, mask)
    assert seen["curiosity_collapsed"] == 0
    assert all(torch.equal(a, b) for a, b in zip(start, frozen._predictor.encode.parameters(), strict=True))
    with torch.no_grad():  # features that no longer depend on the state, and a predictor that knows them
        for part in (frozen._predictor.encode[-1], frozen._predictor.predict[-1]):
            part.weight.zero_()
            part.bias.fill_(1.0)
    _, seen = frozen.bonus(before, after, actions, ranks, mask)
    assert (seen["curiosity_collapsed"], seen["curiosity_error"]) == (1, 0)


def test_it_resumes_where_it_was():
    before, after, actions, ranks, mask = batch()
    for kind in ("prediction", "noise"):
        settings = Settings(eta=0.1, kind=kind, learning_rate=1e-2)
        one, other = (Curiosity(hidden=16, embedding=16, settings=settings, seed=s) for s in (0, 1))
        one.bonus(before, after, actions, ranks, mask)
        other.load_state_dict(one.state_dict())
        first, second = (c.bonus(before, after, actions, ranks, mask)[0] for c in (one, other))
        assert torch.equal(first, second)


def test_it_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    Curiosity(hidden=4, embedding=4, settings=Settings(eta=0.1, kind="noise")).bonus(
        torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, 4), torch.ones(1, 1).long(), torch.ones(1, 1).bool()
    )
    assert torch.equal(torch.rand(3), wanted)
