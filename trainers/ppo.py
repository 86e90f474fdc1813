"""Policy-gradient training against any reward: PPO and its relatives, as one loop with the advantage estimator as a choice.

Each step draws completions, scores them, compares them with a frozen reference, turns rewards into advantages and takes a
few clipped gradient steps. The algorithms differ in four choices, each of which can be set alone:

    algorithm   advantage                  loss           weight of a token   KL
    ppo         critic and GAE             clip           token mean          in the reward    Schulman et al. 2017
    reinforce   return over batch mean     log-prob       token mean          in the reward    Williams 1992
    rloo        over the prompt's others   log-prob       fixed length        in the reward    Ahmadian et al. 2024
    grpo        group mean and deviation   clip           sequence mean       in the loss, k3  Shao et al. 2024
    dr_grpo     group mean                 clip           fixed length        none             Liu et al. 2025
    dapo        group mean and deviation   clip-higher    token mean          none             Yu et al. 2025
    gspo        group mean and deviation   sequence clip  sequence mean       none             Zheng et al. 2025
    cispo       group mean and deviation   cispo          token mean          none             MiniMax 2025

The score lands on the last generated token. Whatever is random depends on the seed and the step alone, so that a resumed
run goes on, bit for bit on a CPU, as if it had never stopped.

    rlhf-eval train ppo --model sandbox:policy --data sandbox:train --reward-judge gold
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_eval.config import as_settings
from rlhf_eval.errors import RequestFailed, UserError
from rlhf_eval.models.local.checkpoints import open_checkpoint, quiet
from rlhf_eval.models.local.weights import device_of, ends_of
from rlhf_eval.records import Completion, Prompt, Sampling, Usage, fingerprint
from rlhf_eval.stages.training import Data, Job, Metrics, Plan, Reward
from rlhf_eval.stats.intervals import paired
from trainers.advantages import (
    Group,
    batch_baseline,
    gae,
    group_advantages,
    masked_mean,
    next_kl_coef,
    rewards_to_go,
    shaped_rewards,
    whitened,
)
from trainers.algorithms import Config, choices_of
from trainers.critic import Critic, critic_of, load_critic
from trainers.curiosity import Curiosity
from trainers.data import Tokenized
from trainers.logps import Scored, load_policy
from trainers.losses import kl_estimate, policy_losses, token_weights, value_losses
from trainers.rollout import Ask, Drawn, HfSampler, Rows, Sampler, VllmSampler, collate, micro_batches

SMALL = 10_000_000
"""Weights up to which a CPU is quickest with one thread."""
TokenReward = Callable[[Sequence[Prompt], Sequence[Completion], Sequence[Sequence[int]]], Sequence[Sequence[float]]]
"""``(prompts, completions, token ids) -> a reward for every token``, added to the score's."""

READS = ("prompts",)
NEEDS_REWARD = True
CHECKPOINTS = ("critic", "reference")
"""Settings that name a checkpoint, which the verb resolves as it does the model."""
STATE = "state.pt"
ADVICE = "lower learning_rate, or set max_grad_norm or reward_clip; the state before is kept in steps/"


def train(data: Data, out: Path, config: Config, job: Job, *, token_reward: TokenReward | None = None) -> Metrics:
    """Train ``job.model`` against ``job.reward``; the checkpoint lies in ``out/checkpoint``, states in ``out/steps``.

    Evaluates on ``data.heldout`` before, during and after. Raises UserError where a setting or the data does not fit.
    """
    loop, heldout, notes = prepared(data, config, job)
    loop.token_reward = token_reward
    saved = out / "steps" / STATE
    earlier = loop.load(saved) if saved.exists() else 0.0
    started = time.monotonic() - earlier
    final: dict[str, float] = {}
    found: dict[str, list[float]] = {}

    def log(split: str, row: Mapping[str, float]) -> None:
        final.update({name if split == "train" else f"eval_{name}": value for name, value in row.items()})
        seconds = time.monotonic() - started
        job.log({"step": loop.step, "split": split, "seconds": seconds, "tokens": loop.trained_tokens, **row})

    def evaluate() -> None:
        nonlocal found
        row, completions = loop.evaluate(heldout, job.gold)
        for completion in completions:
            job.record("completions", completion)
        found = {name: by_prompt(completions, name) for name in ("reward", "gold") if name in row}
        loop.start = loop.start or found
        log("eval", row)

    for prompt in heldout:
        job.record("prompts", prompt)
    if heldout and loop.step == 0:
        evaluate()
    stopped = False
    while loop.step < config.steps and not stopped:
        row = loop.train_step()
        log("train", row)
        if row.get("curiosity_collapsed"):
            job.say(f"step {loop.step}: the curiosity predictor has collapsed; its bonus is noise. Set encoder=frozen")
        last = loop.step == config.steps
        stopped = job.stopping() and not last
        if heldout and (last or loop.step % config.eval_every == 0):
            evaluate()
        if last or stopped or loop.step % config.save_every == 0:
            loop.save(saved, time.monotonic() - started)
    if not stopped:
        with quiet():
            loop.policy.save_pretrained(out / "checkpoint")
            loop.tokens.tokenizer.save_pretrained(out / "checkpoint")
    return Metrics(
        steps=loop.step,
        rows=len(loop.prompts),
        tokens=loop.trained_tokens,
        seconds=time.monotonic() - started,
        final=final,
        notes=(*notes, *(gain(name, loop.start[name], values) for name, values in found.items())),
        stopped=stopped,
    )


def plan(data: Data, config: Config, job: Job) -> Plan:
    """Prompts, tokens, steps and memory, without loading the weights; tokens are those of the longest completions."""
    from trainers.engine import count_parameters

    tokens = Tokenized.load(job.model)
    found = open_checkpoint(job.model, scheme="hf")
    prompts, _, notes = fitting(data, tokens, found.context, config, job.seed)
    lengths = [len(tokens.render(prompt.messages, answer=True)) for prompt in prompts]
    row = sum(lengths) / len(lengths) + config.max_new_tokens
    parameters = count_parameters(found.config)
    text = found.config.get_text_config()
    trained = 2 if choices_of(config).advantage == "gae" else 1
    activations = config.micro_batch_tokens * text.hidden_size * text.num_hidden_layers * (34 if config.bf16 else 68)
    return Plan(
        rows=len(prompts),
        tokens=int(config.steps * config.prompts * config.samples * row),
        steps=config.steps,
        memory=parameters * (16 * trained + 4) + activations,
        parameters=parameters,
        notes=(*notes, f"{config.steps * config.prompts * config.samples:,} completions are drawn and scored"),
    )


def prepared(data: Data, config: Config, job: Job) -> tuple[Loop, list[Prompt], tuple[str, ...]]:
    """The loop with its models loaded, the held-out prompts, and what the user should know about the data."""
    if job.reward is None:
        raise UserError("ppo needs a reward: --reward-judge gold, or a judge with its model, or a reward model")
    tokens = Tokenized.load(job.model)
    policy = load_policy(job.model)
    tokens.check_vocabulary(policy.get_input_embeddings().num_embeddings)
    device = device_of(config.device, job.model)
    if config.threads or (device.type == "cpu" and sum(p.numel() for p in policy.parameters()) < SMALL):
        torch.set_num_threads(config.threads or 1)
    reference = load_policy(config.reference) if config.reference else copy.deepcopy(policy)
    reference.requires_grad_(False).eval().to(device)
    policy.to(device)
    if config.gradient_checkpointing:
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    critic = None
    if choices_of(config).advantage == "gae":
        critic = (load_critic(config.critic) if config.critic else critic_of(policy)).to(device)
    context = open_checkpoint(job.model, scheme="hf").context
    prompts, heldout, notes = fitting(data, tokens, context, config, job.seed)
    loop = Loop(
        config=config,
        policy=policy,
        reference=reference,
        critic=critic,
        sampler=_sampler(policy, tokens, config, job),
        tokens=tokens,
        prompts=prompts,
        reward=job.reward,
        seed=job.seed,
    )
    return loop, heldout, notes


def fitting(
    data: Data, tokens: Tokenized, context: int, config: Config, seed: int
) -> tuple[list[Prompt], list[Prompt], tuple[str, ...]]:
    """The prompts to train on, those to evaluate on, and notes; a prompt must leave room for the longest completion.

    Without held-out prompts, some are taken from the others, a fifth at most. Raises UserError where none is left.
    """

    def roomy(prompts: Sequence[Prompt]) -> list[Prompt]:
        return [p for p in prompts if len(tokens.render(p.messages, answer=True)) + config.max_new_tokens <= context]

    prompts, heldout = roomy(data.prompts), roomy(data.heldout)
    if not prompts:
        raise UserError(
            f"none of {len(data.prompts)} prompts leaves room for max_new_tokens={config.max_new_tokens} in a context of "
            f"{context} tokens; lower it, or take other prompts"
        )
    left_out = len(data.prompts) + len(data.heldout) - len(prompts) - len(heldout)
    notes = []
    if left_out:
        notes.append(f"{left_out:,} prompts left out: with max_new_tokens they exceed the context of {context}")
    if not heldout and config.eval_prompts:
        order = _stream("heldout", seed).permutation(len(prompts)).tolist()
        aside = set(order[: min(config.eval_prompts, len(prompts) // 5)])
        heldout = [prompt for i, prompt in enumerate(prompts) if i in aside]
        prompts = [prompt for i, prompt in enumerate(prompts) if i not in aside]
        notes.append(f"{len(heldout):,} prompts are held out for evaluation and not trained on")
    return prompts, heldout[: config.eval_prompts], tuple(notes)


def _sampler(policy: Any, tokens: Tokenized, config: Config, job: Job) -> Sampler:
    ends = ends_of(policy, tokens.tokenizer)
    if config.sampler == "vllm":
        dtype = "bfloat16" if config.bf16 else "float32"
        return VllmSampler(job.model, ends=ends, memory=config.vllm_memory, dtype=dtype)
    return HfSampler(policy, ends=ends, batch_size=config.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The completions of one prompt, and their scores."""

    prompt: Prompt
    ids: list[int]
    drawn: list[Drawn]
    completions: list[Completion]
    scores: list[float | None]

    @property
    def varied(self) -> bool:
        """Whether they score differently: if not, there is nothing to learn from comparing them."""
        return len({score for score in self.scores if score is not None}) > 1


@dataclass(slots=True, kw_only=True)
class Rollout:
    """What one step learns from: B completions of P prompts, tables of (B, T) completion tokens."""

    asked: list[Prompt]
    """(B,): the prompt of each completion; those of one prompt stand together."""
    completions: list[Completion]
    prompts: list[list[int]]
    drawn: list[Drawn]
    scores: Tensor
    """(B,): as the reward gave them; 0 where it gave none."""
    valid: Tensor
    """(B,): whether it gave one."""
    mask: Tensor
    logps: Tensor
    """Of the policy that drew them."""
    ref_logps: Tensor
    entropy: Tensor
    values: Tensor
    """Of the critic before the update; 0 without one."""
    ranks: Tensor
    """How many tokens the policy found likelier; 0 where nobody asks."""
    plan: list[list[list[int]]]
    """Epochs of minibatches of rows."""
    states: tuple[Tensor, Tensor] | None = None
    """(n, H) each: the reference's hidden states before and after each token, for curiosity."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each completion with its prompt."""
        return [len(p) + len(d.ids) for p, d in zip(self.prompts, self.drawn, strict=True)]


class Loop:
    """The state of a training run, and its step."""

    def __init__(
        self,
        *,
        config: Config,
        policy: Any,
        reference: Any,
        critic: Critic | None,
        sampler: Sampler,
        tokens: Tokenized,
        prompts: Sequence[Prompt],
        reward: Reward,
        name: str = "ppo",
        seed: int = 0,
    ) -> None:
        self.config, self.choices = config, choices_of(config)
        self.policy, self.reference, self.critic, self.sampler = policy, reference, critic, sampler
        self.tokens, self.reward, self.name, self.seed = tokens, reward, name, seed
        self.token_reward: TokenReward | None = None
        self.prompts = list(prompts)
        self.device = policy.device
        self.optimizer = _adam(policy, config.learning_rate, config)
        self.critic_optimizer = _adam(critic, config.critic_learning_rate, config) if critic else None
        self.curiosity = self._curiosity()
        self._orders: dict[int, Any] = {}
        self.step = 0
        self.position = 0
        """Prompts drawn so far, over all passes through the data."""
        self.trained_tokens = 0
        self.kl_coef = self.choices.kl_coef
        self.start: dict[str, list[float]] = {}
        """Reward and gold of each held-out prompt before the first step."""
        self.seen = Seen()

    def train_step(self) -> dict[str, float]:
        """One rollout and what is learned from it; returns what to log."""
        self.step += 1
        rollout = self.roll_out()
        rewards, row = self.token_rewards(rollout)
        advantages, returns = self.advantages(rollout, rewards)
        row |= self.update(rollout, advantages, returns)
        self.sampler.reload(dict(self.policy.named_parameters()))
        return row

    def roll_out(self) -> Rollout:
        """Draw completions, have them scored, and read them with policy, reference and critic before any update."""
        wanted = self.config.prompts
        groups = self._fresh(wanted)
        if self.choices.resample:
            every, groups = groups, [group for group in groups if group.varied]
            for _ in range(self.choices.resample):
                if len(groups) < wanted:
                    groups += [group for group in self._fresh(wanted - len(groups)) if group.varied]
            groups = groups or every
        asked = [group.prompt for group in groups for _ in group.drawn]
        prompts = [group.ids for group in groups for _ in group.drawn]
        drawn = [one for group in groups for one in group.drawn]
        scores = [score for group in groups for score in group.scores]
        width = max(len(one.ids) for one in drawn)
        if all(score is None for score in scores):
            raise UserError(f"step {self.step}: the reward gave no number for any of {len(scores)} completions")
        zeros = torch.zeros(len(drawn), width, device=self.device)
        rollout = Rollout(
            asked=asked,
            completions=[completion for group in groups for completion in group.completions],
            prompts=prompts,
            drawn=drawn,
            scores=torch.tensor([0.0 if score is None else score for score in scores], device=self.device),
            valid=torch.tensor([score is not None for score in scores], device=self.device),
            mask=zeros.bool(),
            logps=zeros,
            ref_logps=zeros.clone(),
            entropy=zeros.clone(),
            values=zeros.clone(),
            ranks=zeros.long(),
            plan=self._plan(len(drawn)),
        )
        self._read(rollout)
        return rollout

    @torch.no_grad()
    def _read(self, rollout: Rollout) -> None:
        """Fill the tables, in the very passes of the first epoch: its first ratio is then 1 to the last bit."""
        states: list[tuple[list[int], Tensor, Tensor, Rows]] = []
        for part in [part for mini in rollout.plan[0] for part in self._micro(rollout, mini)]:
            rows = self._rows(rollout, part)
            with self._precision():
                scored = self._score(self.policy, rows, entropy=True, hidden=self.curiosity is not None)
                ref = self._score(self.reference, rows)
                values = self.critic(rows.ids, rows.at) if self.critic else None
            rollout.mask[part] = rows.mask
            rollout.logps[part] = rows.spread(scored.logps)
            rollout.ref_logps[part] = rows.spread(ref.logps)
            rollout.entropy[part] = rows.spread(_known(scored.entropy))
            if values is not None:
                rollout.values[part] = rows.spread(values)
            if self.curiosity is not None:
                logits = self.policy.get_output_embeddings()(scored.hidden)
                likelier = (logits > logits.gather(1, rows.targets[:, None])).sum(1)
                rollout.ranks[part] = rows.spread(likelier)
                states.append((part, *self._reference_states(rows), rows))
        if states:
            rollout.states = _in_order(states, rollout.mask)

    def token_rewards(self, rollout: Rollout) -> tuple[Tensor, dict[str, float]]:
        """The reward of each token (B, T): price of the KL, hooks, and the shaped score on the last one."""
        config, mask = self.config, rollout.mask
        lengths = mask.sum(1)
        ended = torch.tensor([one.ended for one in rollout.drawn], device=self.device)
        scores = rollout.scores
        if config.scale_rewards == "running":
            scores = self.seen.scaled(scores, rollout.valid)
        if config.reward_clip:
            scores = scores.clamp(-config.reward_clip, config.reward_clip)
        scores = scores - config.missing_eos_penalty * (~ended).float()
        if config.overlong_buffer:
            over = lengths - (config.max_new_tokens - config.overlong_buffer)
            scores = scores - (over / config.overlong_buffer).clamp(0, 1)
        estimate = kl_estimate(rollout.logps, rollout.ref_logps, self.choices.kl)
        price = self.kl_coef if self.choices.kl_in == "reward" else 0.0
        rewards = shaped_rewards(scores, price * estimate, mask)
        kl = float(((rollout.logps - rollout.ref_logps) * mask).sum(1).mean())
        row = {
            "reward": float(rollout.scores[rollout.valid].mean()),
            "failed": float((~rollout.valid).sum()),
            "kl": kl,
            "kl_coef": self.kl_coef,
            "entropy": float(masked_mean(rollout.entropy, mask)),
            "length": float(lengths.float().mean()),
            "truncated": float((~ended).float().mean()),
        }
        if self.curiosity is not None:
            assert rollout.states is not None
            actions = self.policy.get_input_embeddings().weight.detach()[_targets(rollout)]
            bonus, seen = self.curiosity.bonus(*rollout.states, actions, rollout.ranks, mask)
            rewards, row = rewards + bonus, row | seen
        if self.token_reward is not None:
            given = self.token_reward(rollout.asked, rollout.completions, [one.ids for one in rollout.drawn])
            rewards = rewards + _table(given, rollout.drawn, mask)
        if config.kl_target:
            self.kl_coef = next_kl_coef(
                self.kl_coef, kl, target=config.kl_target, horizon=config.kl_horizon, completions=len(mask)
            )
        return rewards, row

    def advantages(self, rollout: Rollout, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """What each token was worth beyond expectation, and what the critic should have said; (B, T) both."""
        config, how, mask = self.config, self.choices.advantage, rollout.mask & rollout.valid[:, None]
        returns = torch.zeros_like(rewards)
        if how == "gae":
            advantages, returns = gae(rewards, rollout.values, mask, gamma=config.gamma, lam=config.lam)
        elif how == "baseline":
            baseline = batch_baseline(rewards.sum(1), rollout.valid)
            advantages = rewards_to_go(rewards, mask, gamma=config.gamma) - baseline[:, None]
        else:
            advantages = grouped(rewards.sum(1), rollout.valid, config.samples, how)[:, None].expand_as(rewards)
        if self.choices.whiten_advantages:
            advantages = whitened(advantages, mask)
        return torch.where(mask, advantages, 0.0), returns

    def update(self, rollout: Rollout, advantages: Tensor, returns: Tensor) -> dict[str, float]:
        """The gradient steps on one rollout; returns the means of what they saw."""
        mask = rollout.mask & rollout.valid[:, None]
        share = rate_share(self.step, self.config)
        sums: dict[str, float] = {}
        steps = [mini for epoch in rollout.plan for mini in epoch]
        for mini in steps:
            weights = torch.zeros_like(advantages)
            weights[mini] = token_weights(mask[mini], self.choices.aggregate, longest=self.config.max_new_tokens)
            self.optimizer.zero_grad(set_to_none=True)
            if self.critic_optimizer:
                self.critic_optimizer.zero_grad(set_to_none=True)
            seen = {"loss": 0.0, "clip_fraction": 0.0, "value_loss": 0.0}
            for part in self._micro(rollout, mini):
                rows = self._rows(rollout, part)
                loss, clipped = self._policy_loss(rollout, rows, part, advantages, weights[part])
                loss.backward()  # type: ignore[no-untyped-call]
                seen["loss"] += loss.item()
                seen["clip_fraction"] += float(clipped.sum()) / max(1, int(mask[mini].sum()))
                if self.critic:
                    value_loss = self._value_loss(rollout, rows, part, returns, mask[mini])
                    value_loss.backward()  # type: ignore[no-untyped-call]
                    seen["value_loss"] += value_loss.item()
            seen["grad_norm"] = self._descend(share, seen)
            sums = {name: sums.get(name, 0.0) + value / len(steps) for name, value in seen.items()}
        self.trained_tokens += len(rollout.plan) * int(mask.sum())
        row = {**sums, "learning_rate": share * self.config.learning_rate}
        if not self.critic:
            del row["value_loss"]
            return row
        left = float((returns - rollout.values)[mask].var()) / max(float(returns[mask].var()), 1e-12)
        return {**row, "explained_variance": 1 - left}

    def _policy_loss(
        self, rollout: Rollout, rows: Rows, part: list[int], advantages: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        config, choices = self.config, self.choices
        with self._precision(training=True):
            scored = self._score(self.policy, rows, entropy=bool(config.entropy_coef))
        logps = rows.spread(scored.logps)
        losses, clipped = policy_losses(
            logps,
            rollout.logps[part],
            advantages[part],
            rows.mask,
            how=choices.loss,
            clip_low=choices.clip_low,
            clip_high=choices.clip_high,
        )
        losses = losses * importance(rollout, part, config.importance_cap)
        if choices.kl_in == "loss" and self.kl_coef:
            losses = losses + self.kl_coef * kl_estimate(logps, rollout.ref_logps[part], choices.kl)
        if config.entropy_coef:
            losses = losses - config.entropy_coef * rows.spread(_known(scored.entropy))
        return (losses * weights).sum(), clipped & (weights > 0)

    def _value_loss(self, rollout: Rollout, rows: Rows, part: list[int], returns: Tensor, mask: Tensor) -> Tensor:
        assert self.critic is not None
        with self._precision(training=True):
            values = rows.spread(self.critic(rows.ids, rows.at))
        losses = value_losses(values, rollout.values[part], returns[part], clip=self.config.value_clip)
        return torch.where(rows.mask & rollout.valid[part, None], losses, 0.0).sum() / mask.sum().clamp(min=1)

    def _descend(self, share: float, seen: Mapping[str, float]) -> float:
        """One step of both optimizers; returns the norm of the policy's gradient. Raises UserError on NaN."""
        config = self.config
        norms = []
        for module, optimizer, rate in (
            (self.policy, self.optimizer, config.learning_rate),
            (self.critic, self.critic_optimizer, config.critic_learning_rate),
        ):
            if module is None or optimizer is None:
                continue
            norm = float(nn.utils.clip_grad_norm_(module.parameters(), config.max_grad_norm or math.inf))
            if not math.isfinite(norm) or not all(map(math.isfinite, seen.values())):
                raise UserError(
                    f"step {self.step}: the loss is {seen['loss']}, the critic's {seen['value_loss']}, the norm of a "
                    f"gradient {norm}; {ADVICE}"
                )
            for group in optimizer.param_groups:
                group["lr"] = share * rate
            optimizer.step()
            norms.append(norm)
        return norms[0]

    def _fresh(self, count: int) -> list[Answers]:
        """The next prompts of the data, with their completions and scores."""
        numbers = range(self.position, self.position + count)
        self.position += count
        return self._answers([(f"{number}", self.prompts[self._index(number)]) for number in numbers], "rollout")

    def _answers(self, asked: Sequence[tuple[str, Prompt]], purpose: str) -> list[Answers]:
        """Completions, with their scores, of prompts that go by a name of their own each."""
        config = self.config
        samples = config.samples if purpose == "rollout" else config.eval_samples
        asks = [
            Ask(
                prompt=list(self.tokens.render(prompt.messages, answer=True)),
                keys=tuple(fingerprint(purpose, self.seed, name, k) for k in range(samples)),
            )
            for name, prompt in asked
        ]
        try:
            with self._precision():
                drawn = self.sampler.sample(asks, temperature=config.temperature, max_tokens=config.max_new_tokens)
        except RequestFailed as error:
            raise UserError(
                f"step {self.step}: the policy can no longer be sampled from ({error}); {ADVICE}"
            ) from error
        written = [
            [self._completion(name, prompt, k, one, purpose) for k, one in enumerate(group)]
            for (name, prompt), group in zip(asked, drawn, strict=True)
        ]
        every = [completion for group in written for completion in group]
        scores = self.reward([prompt for _, prompt in asked for _ in range(samples)], every)
        if len(scores) != len(every):
            raise UserError(f"the reward gave {len(scores)} numbers for {len(every)} completions")
        if any(score is not None and not math.isfinite(score) for score in scores):
            raise UserError("the reward gave a number that is not finite; None is how it says that it has none")
        return [
            Answers(
                prompt=prompt,
                ids=ask.prompt,
                drawn=group,
                completions=texts,
                scores=list(scores[i * samples : (i + 1) * samples]),
            )
            for i, ((_, prompt), ask, group, texts) in enumerate(zip(asked, asks, drawn, written, strict=True))
        ]

    def _completion(self, name: str, prompt: Prompt, k: int, one: Drawn, purpose: str) -> Completion:
        config = self.config
        return Completion.of(
            prompt_id=prompt.id,
            model=f"{self.name}@{self.step}",
            text=self.tokens.tokenizer.decode(one.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
            sample=k,
            sampling=Sampling(temperature=config.temperature, max_tokens=config.max_new_tokens, seed=self.seed),
            generator="ppo",
            origin=(purpose, name),
            finish_reason="stop" if one.ended else "length",
            usage=Usage(completion_tokens=len(one.ids)),
        )

    def evaluate(self, heldout: Sequence[Prompt], gold: Reward | None) -> tuple[dict[str, float], list[Completion]]:
        """Completions of the held-out prompts, always from the same random numbers, and their means.

        ``kl`` is that of the whole distribution at every token (not of the tokens drawn alone), summed over a completion.
        """
        groups = self._answers([(f"{i}", prompt) for i, prompt in enumerate(heldout)], "heldout")
        drawn = [one for group in groups for one in group.drawn]
        prompts = [group.ids for group in groups for _ in group.drawn]
        kl, entropy = self._distances(prompts, drawn)
        asked = [group.prompt for group in groups for _ in group.drawn]
        completions = [completion for group in groups for completion in group.completions]
        scores = [score for group in groups for score in group.scores]
        golds = gold(asked, completions) if gold else [None] * len(scores)
        row = {
            "reward": _mean(scores),
            **({"gold": _mean(golds)} if gold else {}),
            "kl": sum(kl) / len(kl),
            "entropy": entropy,
            "length": sum(len(one.ids) for one in drawn) / len(drawn),
            "truncated": sum(not one.ended for one in drawn) / len(drawn),
            "failed": float(sum(score is None for score in scores)),
        }
        marked = [
            replace(
                completion, metadata={"step": self.step, "reward": score, "kl": nats, **({"gold": g} if gold else {})}
            )
            for completion, score, nats, g in zip(completions, scores, kl, golds, strict=True)
        ]
        return row, marked

    @torch.no_grad()
    def _distances(self, prompts: list[list[int]], drawn: list[Drawn]) -> tuple[list[float], float]:
        """KL to the reference of each completion, in nats, and the mean entropy of a token."""
        lengths = [len(p) + len(d.ids) for p, d in zip(prompts, drawn, strict=True)]
        width = max(len(one.ids) for one in drawn)
        kl, entropy, count = [0.0] * len(drawn), 0.0, 0
        for part in micro_batches(lengths, range(len(drawn)), self.config.micro_batch_tokens):
            rows = collate([prompts[i] for i in part], [drawn[i] for i in part], width, self.tokens.pad, self.device)
            with self._precision():
                ours, theirs = (
                    (model(input_ids=rows.ids).logits.flatten(0, 1)[rows.at].float() / self.config.temperature)
                    .log_softmax(-1)
                    for model in (self.policy, self.reference)
                )  # fmt: skip
            nats = rows.spread((ours.exp() * (ours - theirs)).sum(-1)).sum(1).tolist()
            for i, value in zip(part, nats, strict=True):
                kl[i] = value
            entropy -= float((ours.exp() * ours).sum())
            count += len(rows.at)
        return kl, entropy / count

    def _score(self, model: Any, rows: Rows, *, entropy: bool = False, hidden: bool = False) -> Scored:
        # Rows are padded on the right and attention is causal: no token sees padding, and no mask is needed.
        scored: Scored = model(
            input_ids=rows.ids,
            at=rows.at,
            targets=rows.targets,
            temperature=self.config.temperature,
            entropy=entropy,
            hidden=hidden,
        )
        return scored

    def _reference_states(self, rows: Rows) -> tuple[Tensor, Tensor]:
        states = self.reference.base_model(input_ids=rows.ids, use_cache=False).last_hidden_state.flatten(0, 1)
        return states[rows.at], states[rows.at + 1]

    def _rows(self, rollout: Rollout, part: list[int]) -> Rows:
        prompts, drawn = [rollout.prompts[i] for i in part], [rollout.drawn[i] for i in part]
        return collate(prompts, drawn, rollout.mask.shape[1], self.tokens.pad, self.device)

    def _micro(self, rollout: Rollout, mini: list[int]) -> list[list[int]]:
        return micro_batches(rollout.lengths, mini, self.config.micro_batch_tokens)

    def _plan(self, rows: int) -> list[list[list[int]]]:
        """Which rows each gradient step sees, by epoch."""
        rng = _stream("plan", self.seed, self.step)
        return [
            [part.tolist() for part in np.array_split(rng.permutation(rows), self.config.minibatches)]
            for _ in range(self.config.epochs)
        ]

    def _index(self, number: int) -> int:
        """Which prompt is the ``number``-th drawn: each pass through the data has an order of its own."""
        lap, place = divmod(number, len(self.prompts))
        if lap not in self._orders:
            self._orders = {lap: _stream("order", self.seed, lap).permutation(len(self.prompts))}
        return int(self._orders[lap][place])

    def _precision(self, *, training: bool = False) -> AbstractContextManager[Any]:
        """Switch the policy to reading or to training, and to bfloat16 arithmetic where that is wanted."""
        self.policy.train(training)
        if self.config.bf16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _curiosity(self) -> Curiosity | None:
        settings = self.config.curiosity
        if not settings.eta:
            return None
        width = self.policy.config.get_text_config().hidden_size
        embedding = self.policy.get_input_embeddings().weight.shape[1]
        return Curiosity(hidden=width, embedding=embedding, settings=settings, seed=self.seed, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        parts = {"policy": self.policy, "optimizer": self.optimizer, "critic": self.critic,
                 "critic_optimizer": self.critic_optimizer, "curiosity": self.curiosity}  # fmt: skip
        counters = {name: getattr(self, name) for name in COUNTERS}
        return {
            "config": as_settings(self.config),
            **{name: part.state_dict() for name, part in parts.items() if part is not None},
            **counters,
            "seen": (self.seen.count, self.seen.mean, self.seen.spread),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; raises UserError if the state is of other settings."""
        ours = as_settings(self.config)
        if changed := sorted(name for name in ours if ours[name] != state["config"].get(name)):
            raise UserError(f"the saved state was trained with other settings ({', '.join(changed)}); start afresh")
        for name in ("policy", "optimizer", "critic", "critic_optimizer", "curiosity"):
            if (part := getattr(self, name)) is not None:
                part.load_state_dict(state[name])
        for name in COUNTERS:
            setattr(self, name, state[name])
        self.seen = Seen(*state["seen"])
        self.sampler.reload(dict(self.policy.named_parameters()))

    def save(self, path: Path, seconds: float) -> None:
        """Keep the state at ``path``, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".tmp")
        torch.save({**self.state_dict(), "seconds": seconds}, fresh)
        fresh.replace(path)

    def load(self, path: Path) -> float:
        """Go on from the state at ``path``; returns the seconds that it took to get there."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.load_state_dict(state)
        return float(state["seconds"])


COUNTERS = ("step", "position", "trained_tokens", "kl_coef", "start")


@dataclass(slots=True)
class Seen:
    """Count, mean and sum of squared deviations of all scores so far (Welford 1962)."""

    count: int = 0
    mean: float = 0.0
    spread: float = 0.0

    def scaled(self, scores: Tensor, valid: Tensor) -> Tensor:
        """Take in the valid scores, then standardise all by what has been seen."""
        for score in scores[valid].tolist():
            self.count += 1
            gap = score - self.mean
            self.mean += gap / self.count
            self.spread += gap * (score - self.mean)
        deviation = math.sqrt(self.spread / max(1, self.count - 1))
        return (scores - self.mean) / max(deviation, 1e-6)


def _adam(module: nn.Module, rate: float, config: Config) -> torch.optim.AdamW:
    return torch.optim.AdamW(module.parameters(), lr=rate, eps=config.adam_epsilon, weight_decay=config.weight_decay)


def grouped(scores: Tensor, valid: Tensor, samples: int, how: Group) -> Tensor:
    """``group_advantages`` of (B,) scores in which the ``samples`` completions of a prompt stand together."""
    return group_advantages(scores.view(-1, samples), valid.view(-1, samples), how).flatten()


def importance(rollout: Rollout, part: list[int], cap: float) -> Tensor | float:
    """How much each token weighs because the sampler's probabilities are not quite the trainer's, at most ``cap``.

    Truncated importance sampling (Yao et al. 2025); 1 where the trainer's own model drew the tokens.
    """
    given = [rollout.drawn[i].logps for i in part]
    if any(logps is None for logps in given):
        return 1.0
    mask, ours = rollout.mask[part], rollout.logps[part]
    theirs = ours.masked_scatter(mask, ours.new_tensor([value for logps in given for value in logps or ()]))
    return (ours - theirs).exp().clamp(max=cap)


def by_prompt(completions: Sequence[Completion], name: str) -> list[float]:
    """The mean of each prompt's known values, NaN where there are none, in the order of the prompts."""
    values: dict[str, list[float | None]] = {}
    for completion in completions:
        values.setdefault(completion.prompt_id, []).append(completion.metadata[name])
    return [_mean(group) for group in values.values()]


def gain(name: str, before: Sequence[float], after: Sequence[float]) -> str:
    """One line on how a reward of the held-out prompts changed, with its interval; prompts are the units."""
    both = [(a, b) for a, b in zip(after, before, strict=True) if math.isfinite(a + b)]
    if len(both) < 2:
        return f"{name}: fewer than two held-out prompts have one before and after"
    ends, starts = zip(*both, strict=True)
    change = paired(ends, starts)
    return (
        f"{name} of {len(both):,} held-out prompts: {np.mean(starts):.3f} before, {np.mean(ends):.3f} after, change "
        f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f}, 95 %)"
    )


def rate_share(step: int, config: Config) -> float:
    """Share of the learning rate at a step, counted from 1: a linear rise, then the schedule's fall to 0 after the last."""
    rising = round(config.warmup * config.steps)
    if step <= rising:
        return step / rising
    done = (step - 1 - rising) / max(1, config.steps - rising)
    if config.schedule == "linear":
        return 1 - done
    return (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else 1.0


def _stream(*name: Any) -> np.random.Generator:
    """Random numbers that depend on their name alone."""
    return np.random.Generator(np.random.Philox(key=int(fingerprint(*name), 16)))


def _known(values: Tensor | None) -> Tensor:
    assert values is not None, "it was asked for"
    return values


def _targets(rollout: Rollout) -> Tensor:
    return torch.tensor([token for one in rollout.drawn for token in one.ids], device=rollout.mask.device)


def _table(given: Sequence[Sequence[float]], drawn: Sequence[Drawn], mask: Tensor) -> Tensor:
    wrong = next((i for i, (row, one) in enumerate(zip(given, drawn, strict=True)) if len(row) != len(one.ids)), None)
    if wrong is not None:
        raise UserError(
            f"the token reward gave {len(given[wrong])} numbers for a completion of {len(drawn[wrong].ids)} tokens"
        )
    flat = torch.tensor([value for row in given for value in row], device=mask.device)
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, flat)


def _in_order(parts: Sequence[tuple[list[int], Tensor, Tensor, Rows]], mask: Tensor) -> tuple[Tensor, Tensor]:
    """States of all parts in the order in which ``mask`` lists its tokens."""
    places = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
    start = 0
    for part, before, _, rows in parts:
        places[part] = rows.spread(torch.arange(start, start + len(before), device=mask.device))
        start += len(before)
    order = places[mask]
    return torch.cat([part[1] for part in parts])[order], torch.cat([part[2] for part in parts])[order]


def _mean(values: Sequence[float | None]) -> float:
    """Over those that there are; NaN where there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan
