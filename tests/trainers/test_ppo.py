"""The loop of policy gradients on a shallow policy: identities, invariants, resuming, refusals, and that it learns."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import killed, shallow_policy
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForCausalLM

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Prompt
from rlhf_eval.sandbox import checkpoint
from rlhf_eval.sandbox.gold import reward as gold_of
from rlhf_eval.sandbox.world import prompts as sandbox
from rlhf_eval.stages.training import Data, Job
from trainers.algorithms import ALGORITHMS, Config, choices_of
from trainers.critic import load_critic
from trainers.curiosity import Settings
from trainers.data import Tokenized
from trainers.evaluation import evaluate
from trainers.losses import policy_losses
from trainers.ppo import Loop, plan, prepared, rate_share, train
from trainers.rewards import Seen
from trainers.rollout import collate, micro_batches
from trainers.sampling import Ask, Drawn, HfSampler

POLICY = shallow_policy().name
SMALL: dict[str, Any] = {
    "prompts": 4, "samples": 2, "steps": 4, "max_new_tokens": 8, "learning_rate": 3e-4, "eval_prompts": 4,
}  # fmt: skip


def gold(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
    return [gold_of(p, c.text).reward for p, c in zip(prompts, completions, strict=True)]


def zero(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
    return [0.0] * len(prompts)


def loop_of(reward: Callable[..., Any] = gold, **settings: Any) -> Loop:
    data = Data(prompts=tuple(sandbox("train", 40)))
    loop, _, _ = prepared(data, Config(**{**SMALL, **settings}), Job(model=POLICY, reward=reward))
    return loop


def rolled(loop: Loop) -> Any:
    loop.step += 1
    return loop.roll_out()


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def tokens() -> Tokenized:
    return Tokenized.load(POLICY)


def test_before_the_first_step_ratios_are_one_and_kl_is_zero_to_the_last_bit():
    loop = loop_of(minibatches=2, micro_batch_tokens=100)
    rollout = rolled(loop)
    assert torch.equal(rollout.logps, rollout.ref_logps)
    for part in loop.actors.micro(rollout, rollout.plan[0][0]):
        rows = loop.actors.rows(rollout, part)
        logps = rows.spread(loop.actors.score(rows).logps)
        assert torch.equal(logps, rollout.logps[part])
        losses, _ = policy_losses(
            logps, rollout.logps[part], torch.ones_like(logps), rows.mask, how="clip", clip_low=0.2, clip_high=0.2
        )
        assert (losses[rows.mask] == -1).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_how_a_batch_is_split_changes_no_gradient(algorithm):
    rows = {}
    for budget in (40, 100_000):
        loop = loop_of(algorithm=algorithm, prompts=6, micro_batch_tokens=budget, max_grad_norm=0.0)
        rows[budget] = loop.train_step()
        rows[budget]["weights"] = loop.optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.allclose(rows[40].pop("weights"), rows[100_000].pop("weights"), atol=1e-7)
    for name, value in rows[40].items():
        assert value == pytest.approx(rows[100_000][name], rel=1e-3, abs=1e-5), name


def test_recomputed_activations_change_no_gradient():
    norms = [loop_of(gradient_checkpointing=on, max_grad_norm=0.0).train_step()["grad_norm"] for on in (False, True)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_bfloat16_is_for_arithmetic_alone():
    loop = loop_of(bf16=True, algorithm="ppo")
    rollout = rolled(loop)
    plain = loop_of(algorithm="ppo").actors.score(loop.actors.rows(rollout, [0]))
    assert 0 < (rollout.logps[0][rollout.mask[0]] - plain.logps.detach()).abs().max() < 0.2
    assert rollout.logps.dtype == rollout.values.dtype == torch.float32
    loop.train_step()
    assert {p.dtype for p in loop.actors.policy.parameters()} == {torch.float32}


def test_padding_changes_no_log_probability():
    loop = loop_of()
    rollout = rolled(loop)
    alone = [
        collate([p], [d], 8, loop.worker.tokens.pad, "cpu") for p, d in zip(rollout.prompts, rollout.drawn, strict=True)
    ]
    together = collate([*rollout.prompts, [5] * 60], [*rollout.drawn, Drawn(ids=[7], ended=False)], 8, 1, "cpu")
    whole = together.spread(loop.actors.score(together).logps)
    for i, rows in enumerate(alone):
        assert torch.allclose(rows.spread(loop.actors.score(rows).logps)[0], whole[i], atol=1e-5)


def test_the_score_is_on_the_last_token_and_cut_off_answers_pay():
    loop = loop_of(
        lambda p, c: [float(i) for i in range(len(c))], kl_coef=0.0, max_new_tokens=3, missing_eos_penalty=2.0
    )
    rollout = rolled(loop)
    rewards, row = loop.token_rewards(rollout)
    ended = [one.ended for one in rollout.drawn]
    assert len(set(ended)) == 2
    for i, one in enumerate(rollout.drawn):
        wanted = [0.0] * 3
        wanted[len(one.ids) - 1] = i - (0.0 if one.ended else 2.0)
        assert rewards[i].tolist() == wanted[: rewards.shape[1]]
        assert (one.ids[-1] == loop.worker.tokens.eos) == one.ended
    assert row["truncated"] == ended.count(False) / len(ended)
    assert row["reward"] == 3.5


def test_a_penalty_rises_over_the_last_tokens():
    loop = loop_of(zero, kl_coef=0.0, overlong_buffer=4)
    rollout = rolled(loop)
    rewards, _ = loop.token_rewards(rollout)
    wanted = [-min(1.0, max(0.0, (len(one.ids) - 4) / 4)) for one in rollout.drawn]
    assert rewards.sum(1).tolist() == pytest.approx(wanted)
    assert min(wanted) < 0


@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_without_reward_nothing_moves(algorithm):
    loop = loop_of(zero, algorithm=algorithm)
    before = weights(loop.actors.policy)
    loop.train_step()
    assert torch.equal(weights(loop.actors.policy), before)


def test_completions_without_a_score_are_counted_and_teach_nothing():
    def partly(prompts, completions):
        return [None if i % 2 else score for i, score in enumerate(gold(prompts, completions))]

    loop = loop_of(partly, whiten_advantages=False)
    rollout = rolled(loop)
    rewards, row = loop.token_rewards(rollout)
    advantages, _ = loop.advantages(rollout, rewards)
    assert row["failed"] == 4
    assert not advantages[1::2].any()
    assert math.isfinite(loop.update(rollout, advantages, torch.zeros_like(advantages))["loss"])


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (lambda p, c: [None] * len(c), "no number for any"),
        (lambda p, c: [math.nan] * len(c), "not finite"),
        (lambda p, c: [1.0], "1 numbers for 8"),
    ],
)
def test_a_reward_that_gives_no_numbers_is_refused(reward, words):
    with pytest.raises(UserError, match=words):
        loop_of(reward).train_step()


def test_a_loss_that_is_no_number_stops_with_step_and_advice():
    loop = loop_of(learning_rate=1e30)
    with pytest.raises(UserError, match=r"step [1-3]: .*lower learning_rate"):
        for _ in range(3):
            loop.train_step()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"algorithm": "grpo", "samples": 1}, "samples must be at least 2"),
        ({"algorithm": "grpo", "kl": "k1"}, "no gradient"),
        ({"temperature": 0.0}, "temperature"),
        ({"steps": 0}, "steps is 0"),
        ({"lora_rank": 4, "sampler": "vllm"}, "sampler=vllm copies whole weights"),
        ({"minibatches": 99, "prompts": 4, "samples": 2}, "minibatches"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Config(**settings)


def test_an_algorithm_is_its_choices_and_each_can_be_set_alone():
    assert Config(algorithm="dapo").clip_high == choices_of(Config(algorithm="dapo")).clip_high == 0.28
    changed = choices_of(Config(algorithm="dapo", clip_high=0.4, aggregate="sequence"))
    assert (changed.clip_high, changed.aggregate, changed.clip_low, changed.resample) == (0.4, "sequence", 0.2, 3)


def data_of(count: int = 40) -> Data:
    return Data(prompts=tuple(sandbox("train", count)), heldout=tuple(sandbox("heldout", 4)))


@pytest.mark.parametrize(
    ("settings", "kill"),
    [
        (
            {"algorithm": "ppo", "kl_target": 0.1, "kl_horizon": 20.0, "scale_rewards": "running", "minibatches": 2},
            False,
        ),
        ({"algorithm": "dapo", "curiosity": Settings(eta=0.1, learning_rate=1e-2), "epochs": 2, "lora_rank": 2}, True),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, settings, kill):
    config = Config(**{**SMALL, **settings, "save_minutes": 1e-9 if kill else 99.0})
    rows: dict[str, list[dict[str, Any]]] = {"whole": [], "parts": []}

    def job(name: str, stop_after: int = 99) -> Job:
        def passed() -> int:
            return sum(row["split"] == "train" for row in rows[name])

        def log(row: Mapping[str, Any]) -> None:
            if kill and passed() == stop_after:
                os.kill(os.getpid(), signal.SIGKILL)
            rows[name].append(dict(row))

        return Job(model=POLICY, reward=gold, gold=gold, log=log, stopping=lambda: passed() >= stop_after and not kill)

    def interrupted() -> bool:
        return train(data_of(), tmp_path / "parts", config, job("parts", 2)).stopped

    assert not train(data_of(), tmp_path / "whole", config, job("whole")).stopped
    assert killed(interrupted) if kill else interrupted()
    assert not (tmp_path / "parts" / "checkpoint").exists()
    finished = train(data_of(), tmp_path / "parts", config, job("parts"))
    assert (finished.stopped, finished.steps) == (False, 4)
    assert len(rows["parts"]) < len(rows["whole"]) or not kill
    for one, other in zip(reversed(rows["whole"]), reversed(rows["parts"]), strict=False):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    ours, theirs = ((tmp_path / name / "checkpoint" / "model.safetensors").read_bytes() for name in rows)
    assert ours == theirs


@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_an_adapter_learns_beside_a_reference_that_stays(algorithm):
    loop = loop_of(algorithm=algorithm, lora_rank=2, minibatches=2, learning_rate=1e-2)
    rollout = rolled(loop)
    assert loop.actors.reference is None
    assert torch.equal(rollout.logps, rollout.ref_logps)
    loop.step = 0
    frozen = torch.cat([p.flatten() for p in loop.actors.policy.parameters() if not p.requires_grad]).clone()
    assert loop.train_step()["kl"] == 0
    after = rolled(loop)
    plain = loop_of().actors
    assert not torch.equal(after.logps, after.ref_logps)
    for part in loop.actors.micro(after, after.plan[0][0]):
        rows = loop.actors.rows(after, part)
        torch.testing.assert_close(rows.spread(plain.score(rows).logps).detach(), after.ref_logps[part])
    assert torch.equal(torch.cat([p.flatten() for p in loop.actors.policy.parameters() if not p.requires_grad]), frozen)


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="ppo trains in one process"):
        loop_of()


def test_a_state_of_other_settings_is_refused(tmp_path):
    loop = loop_of()
    loop.train_step()
    loop.save(tmp_path / "state.pt", 1.5)
    assert loop_of().load(tmp_path / "state.pt") == 1.5
    with pytest.raises(UserError, match="gamma"):
        loop_of(gamma=0.9).load(tmp_path / "state.pt")


def test_evaluations_store_what_they_saw(tmp_path):
    kept: list[tuple[str, Any]] = []
    rows: list[dict[str, Any]] = []
    job = Job(
        model=POLICY, reward=gold, gold=gold, log=lambda r: rows.append(dict(r)), record=lambda *r: kept.append(r)
    )
    train(data_of(), tmp_path, Config(**{**SMALL, "eval_every": 2, "eval_samples": 2}), job)
    evals = [row for row in rows if row["split"] == "eval"]
    assert [row["step"] for row in evals] == [0, 2, 4]
    assert evals[0]["kl"] == 0
    assert evals[-1]["kl"] > 0
    completions = [record for table, record in kept if table == "completions"]
    assert len({c.id for c in completions}) == 3 * 4 * 2
    assert {c.model for c in completions} == {"ppo@0", "ppo@2", "ppo@4"}
    assert {c.prompt_id for c in completions} == {p.id for table, p in kept if table == "prompts"}
    last = [c for c in completions if c.metadata["step"] == 4]
    for name in ("reward", "gold", "kl"):
        assert sum(c.metadata[name] for c in last) / len(last) == pytest.approx(evals[-1][name])
    assert {"step", "split", "seconds", "tokens", "loss", "kl", "entropy", "clip_fraction"} <= rows[1].keys()


def test_the_kl_of_an_evaluation_is_that_of_the_distributions():
    loop = loop_of(max_new_tokens=12)
    loop.step = 1
    with torch.no_grad():
        loop.actors.policy.get_output_embeddings().weight.mul_(1.3)
    row, completions = evaluate(loop.worker, loop.actors, sandbox("heldout", 200), step=1, gold=None)
    estimate = rolled(loop_like(loop))
    mean = float(((estimate.logps - estimate.ref_logps) * estimate.mask).sum(1).mean())
    assert row["kl"] == pytest.approx(mean, rel=0.35)
    assert all(c.metadata["kl"] >= 0 for c in completions)


def loop_like(loop: Loop) -> Loop:
    """A loop with the same policy and reference that draws for more prompts at once."""
    wide = loop_of(prompts=200, samples=1, max_new_tokens=12)
    wide.actors, wide.worker.sampler = loop.actors, loop.worker.sampler
    return wide


def test_dynamic_sampling_keeps_prompts_that_tell_their_answers_apart():
    asked: list[str] = []

    def half(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        asked.extend(p.id for p in prompts)
        return [float(i) if int(p.id, 16) % 2 else 0.5 for i, p in enumerate(prompts)]

    loop = loop_of(half, algorithm="dapo")
    rollout = rolled(loop)
    assert len(asked) > 8
    assert all(int(prompt.id, 16) % 2 for prompt in rollout.asked)
    assert len(rollout.drawn) == 8


def test_hooks_add_a_reward_for_every_token():
    loop = loop_of(zero, kl_coef=0.0)
    loop.token_reward = lambda prompts, completions, ids: [[0.1 * t for t in range(len(row))] for row in ids]
    rollout = rolled(loop)
    rewards, _ = loop.token_rewards(rollout)
    assert torch.allclose(rewards, torch.where(rollout.mask, 0.1 * torch.arange(rewards.shape[1]), 0.0))
    loop.token_reward = lambda prompts, completions, ids: [[0.0] for _ in ids]
    with pytest.raises(UserError, match="1 numbers for a completion of"):
        loop.token_rewards(rollout)


def test_the_sampler_draws_what_the_model_says_whatever_its_company(tokens):
    loop = loop_of()
    prompts = [list(tokens.render(p.messages, answer=True)) for p in sandbox("heldout", 12)]
    asks = [Ask(prompt=p, keys=(f"{i:020x}", f"{i + 50:020x}")) for i, p in enumerate(prompts)]
    ends = frozenset({tokens.eos})
    drawn = {
        size: HfSampler(loop.actors.policy, ends=ends, batch_size=size).sample(asks, temperature=1.0, max_tokens=8)
        for size in (3, 64)
    }
    assert [[d.ids for d in group] for group in drawn[3]] == [[d.ids for d in group] for group in drawn[64]]
    cold = HfSampler(loop.actors.policy, ends=ends).sample(asks, temperature=1e-6, max_tokens=8)
    for prompt, group in zip(prompts, cold, strict=True):
        ids = list(prompt)
        for token in group[0].ids:
            best = int(loop.actors.policy(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            assert token == best
            ids.append(token)


def test_micro_batches_hold_every_row_once_and_their_budget():
    lengths = [3, 9, 4, 50, 7, 7]
    parts = micro_batches(lengths, range(6), 20)
    assert sorted(row for part in parts for row in part) == list(range(6))
    assert all(len(part) * max(lengths[r] for r in part) <= 20 or len(part) == 1 for part in parts)


def test_a_critic_from_a_reward_model_says_what_the_model_says(tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(POLICY, num_labels=1).eval()
    model.save_pretrained(tmp_path)
    critic = load_critic(str(tmp_path))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        value = critic(ids, torch.tensor([3]))
        assert torch.allclose(value, model(input_ids=ids).logits[0], atol=1e-6)
    assert not load_critic(POLICY)(ids, torch.tensor([0, 1])).any()


def test_running_statistics_are_those_of_all_scores():
    scores = torch.randn(30, generator=torch.Generator().manual_seed(0)) * 3 + 5
    seen = Seen()
    seen.scaled(scores[:10], torch.ones(10).bool())
    scaled = seen.scaled(scores[10:], torch.ones(20).bool())
    assert torch.allclose(scaled, (scores[10:] - scores.mean()) / scores.std(), atol=1e-5)


def test_learning_rates_rise_and_fall():
    config = Config(steps=10, warmup=0.2, schedule="linear")
    assert [rate_share(step, config) for step in (1, 2, 3, 10)] == [0.5, 1.0, 1.0, pytest.approx(1 / 8)]
    assert rate_share(10, Config(steps=10, warmup=0.0)) == 1.0


def test_a_plan_costs_nothing_and_names_what_is_left_out():
    found = plan(Data(prompts=tuple(sandbox("train", 40))), Config(**SMALL), Job(model=POLICY))
    assert (found.rows, found.steps) == (36, 4)
    assert any("held out" in note for note in found.notes)
    with pytest.raises(UserError, match="leaves room"):
        plan(data_of(), Config(**{**SMALL, "max_new_tokens": 5000}), Job(model=POLICY))
    with pytest.raises(UserError, match="needs a reward"):
        prepared(data_of(), Config(**SMALL), Job(model=POLICY))


@pytest.mark.parametrize("algorithm", ["ppo", "reinforce", "rloo", "grpo"])
def test_a_bandit_learns(tmp_path, algorithm):
    torch.manual_seed(0)
    tiny = LlamaConfig(
        vocab_size=1182, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(tiny).save_pretrained(tmp_path)
    Tokenized.load(POLICY).tokenizer.save_pretrained(tmp_path)

    def early(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        return [float(c.text[:1].lower() < "m") for c in completions]

    config = Config(
        algorithm=algorithm, prompts=8, samples=8, steps=15, max_new_tokens=1, learning_rate=2e-2,
        critic_learning_rate=2e-2, eval_prompts=0, kl_coef=0.0,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    job = Job(model=str(tmp_path), reward=early, log=lambda row: rows.append(dict(row)))
    train(Data(prompts=tuple(sandbox("train", 4))), tmp_path / "out", config, job)
    assert rows[0]["reward"] < 0.75
    assert rows[-1]["reward"] > 0.9


@pytest.mark.slow
def test_it_raises_the_true_reward_in_the_sandbox(tmp_path):
    kept: list[Completion] = []
    job = Job(
        model=str(checkpoint("policy")),
        reward=gold,
        gold=gold,
        record=lambda table, r: kept.append(r) if table == "completions" else None,
    )
    config = Config(
        algorithm="grpo", prompts=48, steps=5, max_new_tokens=24, learning_rate=6e-4, eval_prompts=150, eval_every=99
    )
    train(Data(prompts=tuple(sandbox("train", 480)), heldout=tuple(sandbox("heldout", 150))), tmp_path, config, job)
    before, after = (torch.tensor([c.metadata["gold"] for c in kept if c.metadata["step"] == step]) for step in (0, 5))
    gain = after - before
    assert gain.mean() > 0.1
    assert gain.mean() - 1.96 * gain.std() / 150**0.5 > 0.02


def test_the_folder_it_leaves_is_a_checkpoint(tmp_path):
    train(data_of(), tmp_path, Config(**{**SMALL, "steps": 1}), Job(model=POLICY, reward=gold))
    again = LlamaForCausalLM.from_pretrained(tmp_path / "checkpoint")
    assert again.config.architectures == ["LlamaForCausalLM"]
    assert Tokenized.load(str(Path(tmp_path) / "checkpoint")).eos == 1
