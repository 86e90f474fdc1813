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

The loop is ``train`` and ``Loop.train_step``: roll out, score, estimate advantages, update, evaluate, keep the state. The
models it holds are in ``actors.py``, what they draw in ``rollout.py`` and ``sampling.py``; pure functions in
``rewards.py``, ``advantages.py`` and ``losses.py`` hold the formulas.

The score lands on the last generated token. Whatever is random depends on the seed and the step alone, so that a resumed
run goes on, bit for bit on a CPU, as if it had never stopped.

    rlhf-eval train ppo --model sandbox:policy --data sandbox:train --reward-judge gold
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlhf_eval.config import as_settings
from rlhf_eval.errors import UserError
from rlhf_eval.models.local.checkpoints import open_checkpoint, quiet
from rlhf_eval.models.local.weights import ends_of
from rlhf_eval.records import Prompt
from rlhf_eval.stages.training import Data, Job, Metrics, Plan
from trainers.actors import Actors, known, load_actors
from trainers.adapters import learned, merged
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
from trainers.curiosity import Curiosity
from trainers.data import Tokenized
from trainers.evaluation import by_prompt, evaluate, gain
from trainers.losses import kl_estimate, policy_losses, token_weights, value_losses
from trainers.prompts import Order, fitting, stream
from trainers.rewards import Seen, TokenReward, shaped_scores, table
from trainers.rollout import ADVICE, Answers, Rollout, Rows, Worker, importance
from trainers.sampling import HfSampler, Sampler, VllmSampler
from trainers.saving import SaveClock

READS = ("prompts",)
NEEDS_REWARD = True
CHECKPOINTS = ("critic", "reference")
"""Settings that name a checkpoint, which the verb resolves as it does the model."""
STATE = "state.pt"
ALONE = "ppo trains in one process, against rewards that the command line finds: start it as rlhf-eval train ppo"
COUNTERS = ("step", "position", "trained_tokens", "kl_coef", "start")


def train(data: Data, out: Path, config: Config, job: Job, *, token_reward: TokenReward | None = None) -> Metrics:
    """Train ``job.model`` against ``job.reward``; the checkpoint lies in ``out/checkpoint``, states in ``out/steps``.

    Evaluates on ``data.heldout`` before, during and after. Raises UserError where a setting or the data does not fit.
    """
    loop, heldout, notes = prepared(data, config, job)
    loop.token_reward = token_reward
    state = out / "steps" / STATE
    started = time.monotonic() - (loop.load(state) if state.exists() else 0.0)
    clock = SaveClock(config.save_minutes)
    final: dict[str, float] = {}
    found: dict[str, list[float]] = {}

    def log(split: str, row: Mapping[str, float]) -> None:
        final.update({name if split == "train" else f"eval_{name}": value for name, value in row.items()})
        seconds = time.monotonic() - started
        job.log({"step": loop.step, "split": split, "seconds": seconds, "tokens": loop.trained_tokens, **row})

    def measure() -> None:
        nonlocal found
        row, completions = evaluate(loop.worker, loop.actors, heldout, step=loop.step, gold=job.gold)
        for completion in completions:
            job.record("completions", completion)
        found = {name: by_prompt(completions, name) for name in ("reward", "gold") if name in row}
        loop.start = loop.start or found
        log("eval", row)

    for prompt in heldout:
        job.record("prompts", prompt)
    if heldout and loop.step == 0:
        measure()
    stopped = False
    while loop.step < config.steps and not stopped:
        row = loop.train_step()
        log("train", row)
        if row.get("curiosity_collapsed"):
            job.say(f"step {loop.step}: the curiosity predictor has collapsed; its bonus is noise. Set encoder=frozen")
        last = loop.step == config.steps
        stopped = job.stopping() and not last
        if heldout and (last or loop.step % config.eval_every == 0):
            measure()
        every = bool(config.save_every) and loop.step % config.save_every == 0
        if stopped or (not last and (every or clock.due())):
            with clock.saving():
                loop.save(state, time.monotonic() - started)
    if not stopped:
        with quiet():
            merged(loop.actors.policy).save_pretrained(out / "checkpoint")
            loop.worker.tokens.tokenizer.save_pretrained(out / "checkpoint")
    return Metrics(
        steps=loop.step,
        rows=len(loop.prompts),
        tokens=loop.trained_tokens,
        seconds=time.monotonic() - started,
        final=final,
        notes=(*notes, *(gain(name, loop.start[name], values) for name, values in found.items())),
        stopped=stopped,
    )


class Loop:
    """The state of a training run, and its step."""

    def __init__(self, *, config: Config, actors: Actors, worker: Worker, prompts: Sequence[Prompt], seed: int) -> None:
        self.config, self.choices = config, choices_of(config)
        self.actors, self.worker, self.seed = actors, worker, seed
        self.prompts = Order(prompts, seed)
        self.token_reward: TokenReward | None = None
        self.optimizer = _adam(actors.policy, config.learning_rate, config)
        self.critic_optimizer = _adam(actors.critic, config.critic_learning_rate, config) if actors.critic else None
        self.curiosity = self._curiosity()
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
        self._reload()
        return row

    def roll_out(self) -> Rollout:
        """Draw completions, have them scored, and read them with all models before any update."""
        wanted = self.config.prompts
        groups = self._fresh(wanted)
        if self.choices.resample:  # dynamic sampling: DAPO, arXiv 2503.14476, section 3.2
            every, groups = groups, [group for group in groups if group.varied]
            for _ in range(self.choices.resample):
                if len(groups) < wanted:
                    groups += [group for group in self._fresh(wanted - len(groups)) if group.varied]
            groups = groups or every
        count = sum(len(group.drawn) for group in groups)
        rollout = Rollout.of(groups, self._plan(count), self.actors.device)
        if not rollout.valid.any():
            raise UserError(f"step {self.step}: the reward gave no number for any of {count} completions")
        self.actors.read(rollout)
        return rollout

    def token_rewards(self, rollout: Rollout) -> tuple[Tensor, dict[str, float]]:
        """The reward of each token (B, T): price of the KL, hooks, and the shaped score on the last one."""
        config, mask = self.config, rollout.mask
        scores = shaped_scores(rollout, config, self.seen)
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
            "length": float(mask.sum(1).float().mean()),
            "truncated": float((~rollout.ended).float().mean()),
        }
        if self.curiosity is not None:
            assert rollout.states is not None
            actions = self.actors.policy.get_input_embeddings().weight.detach()[rollout.targets]
            bonus, seen = self.curiosity.bonus(*rollout.states, actions, rollout.ranks, mask)
            rewards, row = rewards + bonus, row | seen
        if self.token_reward is not None:
            given = self.token_reward(rollout.asked, rollout.completions, [one.ids for one in rollout.drawn])
            rewards = rewards + table(given, rollout)
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
            tokens = mask[mini].sum().clamp(min=1)
            self.optimizer.zero_grad(set_to_none=True)
            if self.critic_optimizer:
                self.critic_optimizer.zero_grad(set_to_none=True)
            # Of loss, clipped share and value loss, kept on the device: to read one is to wait for it.
            seen = torch.zeros(3, dtype=torch.float64, device=mask.device)
            for part in self.actors.micro(rollout, mini):
                rows = self.actors.rows(rollout, part)
                loss, clipped = self._policy_loss(rollout, rows, part, advantages, weights[part])
                loss.backward()  # type: ignore[no-untyped-call]
                seen[0] += loss.detach()
                seen[1] += clipped.sum().double() / tokens
                if self.actors.critic:
                    value_loss = self._value_loss(rollout, rows, part, returns, tokens)
                    value_loss.backward()  # type: ignore[no-untyped-call]
                    seen[2] += value_loss.detach()
            read = dict(zip(("loss", "clip_fraction", "value_loss"), seen.tolist(), strict=True))
            read["grad_norm"] = self._descend(share, read)
            sums = {name: sums.get(name, 0.0) + value / len(steps) for name, value in read.items()}
        self.trained_tokens += len(rollout.plan) * int(mask.sum())
        row = {**sums, "learning_rate": share * self.config.learning_rate}
        if not self.actors.critic:
            del row["value_loss"]
            return row
        left = float((returns - rollout.values)[mask].var()) / max(float(returns[mask].var()), 1e-12)
        return {**row, "explained_variance": 1 - left}

    def _policy_loss(
        self, rollout: Rollout, rows: Rows, part: list[int], advantages: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        config, choices = self.config, self.choices
        with self.actors.arithmetic(training=True):
            scored = self.actors.score(rows, entropy=bool(config.entropy_coef))
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
            losses = losses - config.entropy_coef * rows.spread(known(scored.entropy))
        return (losses * weights).sum(), clipped & (weights > 0)

    def _value_loss(self, rollout: Rollout, rows: Rows, part: list[int], returns: Tensor, tokens: Tensor) -> Tensor:
        assert self.actors.critic is not None
        with self.actors.arithmetic(training=True):
            values = rows.spread(self.actors.critic(rows.ids, rows.at))
        losses = value_losses(values, rollout.values[part], returns[part], clip=self.config.value_clip)
        return torch.where(rows.mask & rollout.valid[part, None], losses, 0.0).sum() / tokens

    def _descend(self, share: float, seen: Mapping[str, float]) -> float:
        """One step of both optimizers; returns the norm of the policy's gradient. Raises UserError on NaN."""
        config = self.config
        norms = []
        for module, optimizer, rate in (
            (self.actors.policy, self.optimizer, config.learning_rate),
            (self.actors.critic, self.critic_optimizer, config.critic_learning_rate),
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
        return self.worker.answers([(f"{number}", self.prompts[number]) for number in numbers], "rollout", self.step)

    def _plan(self, rows: int) -> list[list[list[int]]]:
        """Which rows each gradient step sees, by epoch."""
        rng = stream("plan", self.seed, self.step)
        return [
            [part.tolist() for part in np.array_split(rng.permutation(rows), self.config.minibatches)]
            for _ in range(self.config.epochs)
        ]

    def _reload(self) -> None:
        self.worker.sampler.reload(dict(self.actors.policy.named_parameters()))

    def _curiosity(self) -> Curiosity | None:
        settings, policy = self.config.curiosity, self.actors.policy
        if not settings.eta:
            return None
        width = policy.config.get_text_config().hidden_size
        embedding = policy.get_input_embeddings().weight.shape[1]
        return Curiosity(
            hidden=width, embedding=embedding, settings=settings, seed=self.seed, device=self.actors.device
        )

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        models = {"policy": self.actors.policy, "critic": self.actors.critic}
        return {
            "config": as_settings(self.config),
            **{name: learned(model) for name, model in models.items() if model is not None},
            **{name: part.state_dict() for name, part in self._beside().items()},
            **{name: getattr(self, name) for name in COUNTERS},
            "seen": (self.seen.count, self.seen.mean, self.seen.spread),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; raises UserError if the state is of other settings."""
        ours = as_settings(self.config)
        if changed := sorted(name for name in ours if ours[name] != state["config"].get(name)):
            raise UserError(f"the saved state was trained with other settings ({', '.join(changed)}); start afresh")
        self.actors.policy.load_state_dict(state["policy"], strict=False)
        if self.actors.critic:
            self.actors.critic.load_state_dict(state["critic"], strict=False)
        for name, part in self._beside().items():
            part.load_state_dict(state[name])
        for name in COUNTERS:
            setattr(self, name, state[name])
        self.seen = Seen(*state["seen"])
        self._reload()

    def _beside(self) -> dict[str, Any]:
        """What has a state beside the models, by name."""
        parts = {"optimizer": self.optimizer, "critic_optimizer": self.critic_optimizer, "curiosity": self.curiosity}
        return {name: part for name, part in parts.items() if part is not None}

    def save(self, path: Path, seconds: float) -> None:
        """Keep the state at ``path``, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".tmp")
        torch.save({**self.state_dict(), "seconds": seconds}, fresh)
        fresh.replace(path)

    def load(self, path: Path) -> float:
        """Go on from the state at ``path``; returns the seconds that it took to get there."""
        state = torch.load(path, map_location=self.actors.device, weights_only=True)
        self.load_state_dict(state)
        return float(state["seconds"])


def prepared(data: Data, config: Config, job: Job) -> tuple[Loop, list[Prompt], tuple[str, ...]]:
    """The loop with its models loaded, the held-out prompts, and what the user should know about the data."""
    if job.reward is None:
        raise UserError("ppo needs a reward: --reward-judge gold, or a judge with its model, or a reward model")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(ALONE)
    tokens = Tokenized.load(job.model)
    actors = load_actors(config, job, tokens)
    context = open_checkpoint(job.model, scheme="hf").context
    prompts, heldout, notes = fitting(data, tokens, context, config, job.seed)
    worker = Worker(
        sampler=_sampler(actors, tokens, config, job), tokens=tokens, reward=job.reward, config=config, seed=job.seed
    )
    return Loop(config=config, actors=actors, worker=worker, prompts=prompts, seed=job.seed), heldout, notes


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
    # Weights, gradients and AdamW's two moments in float32; an adapter leaves the weights alone.
    held = 4 if config.lora_rank else 16
    frozen = 0 if config.lora_rank and not config.reference else 4
    activations = config.micro_batch_tokens * text.hidden_size * text.num_hidden_layers * (34 if config.bf16 else 68)
    return Plan(
        rows=len(prompts),
        tokens=int(config.steps * config.prompts * config.samples * row),
        steps=config.steps,
        memory=parameters * (held * trained + frozen) + activations,
        parameters=parameters,
        notes=(*notes, f"{config.steps * config.prompts * config.samples:,} completions are drawn and scored"),
    )


def _sampler(actors: Actors, tokens: Tokenized, config: Config, job: Job) -> Sampler:
    ends = ends_of(actors.policy, tokens.tokenizer)
    if config.sampler == "vllm":
        dtype = "bfloat16" if config.bf16 else "float32"
        return VllmSampler(job.model, ends=ends, memory=config.vllm_memory, dtype=dtype)
    return HfSampler(actors.policy, ends=ends, batch_size=config.batch_size, bf16=config.bf16)


def _adam(module: nn.Module, rate: float, config: Config) -> torch.optim.AdamW:
    trained = [p for p in module.parameters() if p.requires_grad]
    fused = trained[0].is_cuda  # one kernel for all weights; on a CPU it would round differently from the plain one
    return torch.optim.AdamW(
        trained, lr=rate, eps=config.adam_epsilon, weight_decay=config.weight_decay, fused=fused or None
    )


def grouped(scores: Tensor, valid: Tensor, samples: int, how: Group) -> Tensor:
    """``group_advantages`` of (B,) scores in which the ``samples`` completions of a prompt stand together."""
    return group_advantages(scores.view(-1, samples), valid.view(-1, samples), how).flatten()


def rate_share(step: int, config: Config) -> float:
    """Share of the learning rate at a step, counted from 1: a linear rise, then the schedule's fall to 0 after the last."""
    rising = round(config.warmup * config.steps)
    if step <= rising:
        return step / rising
    done = (step - 1 - rising) / max(1, config.steps - rising)
    if config.schedule == "linear":
        return 1 - done
    return (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else 1.0


if __name__ == "__main__":
    sys.stderr.write(ALONE + "\n")
    raise SystemExit(2)
