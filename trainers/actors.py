"""The models of policy-gradient training, and how they read rollouts: the policy, the reference and perhaps a critic.

actors = load_actors(config, job)
actors.read(rollout)             # log-probabilities of both, entropies, values: before any update
actors.score(rows).logps         # of the policy, with a gradient
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlhf_eval.models.local.weights import device_of
from rlhf_eval.stages.training import Job
from trainers.adapters import adapted, adapter_off, bare
from trainers.algorithms import Config, choices_of
from trainers.critic import Critic, critic_of, load_critic
from trainers.data import Tokenized
from trainers.logps import Scored, load_policy
from trainers.rollout import Rollout, Rows, collate, micro_batches
from trainers.sampling import Drawn
from trainers.threads import set_threads


class Actors:
    """The models of one run, on one device."""

    def __init__(self, *, policy: Any, reference: Any, critic: Critic | None, pad: int, config: Config) -> None:
        self.policy, self.critic = policy, critic
        self.reference = reference
        """None is the policy without its adapter."""
        self.pad, self.config, self.device = pad, config, policy.device
        self.curious = bool(config.curiosity.eta)

    def score(self, rows: Rows, *, entropy: bool = False, hidden: bool = False) -> Scored:
        """What the policy makes of the drawn tokens."""
        return self._scored(self.policy, rows, entropy=entropy, hidden=hidden)

    def rows(self, rollout: Rollout, part: list[int]) -> Rows:
        """The tensors of some of the completions of ``rollout``."""
        prompts, drawn = [rollout.prompts[i] for i in part], [rollout.drawn[i] for i in part]
        return collate(prompts, drawn, rollout.mask.shape[1], self.pad, self.device)

    def micro(self, rollout: Rollout, mini: list[int]) -> list[list[int]]:
        """The rows of a minibatch in parts that pass the models at once."""
        return micro_batches(rollout.lengths, mini, self.config.micro_batch_tokens)

    @torch.no_grad()
    def read(self, rollout: Rollout) -> None:
        """Fill the tables, in the very passes of the first epoch: its first ratio is then 1 to the last bit."""
        states: list[tuple[list[int], Tensor, Tensor, Rows]] = []
        for part in [part for mini in rollout.plan[0] for part in self.micro(rollout, mini)]:
            rows = self.rows(rollout, part)
            with self.arithmetic():
                scored = self.score(rows, entropy=True, hidden=self.curious)
                with self._as_reference() as reference:
                    ref = self._scored(reference, rows)
                values = self.critic(rows.ids, rows.at) if self.critic else None
            rollout.mask[part] = rows.mask
            rollout.logps[part] = rows.spread(scored.logps)
            rollout.ref_logps[part] = rows.spread(ref.logps)
            rollout.entropy[part] = rows.spread(known(scored.entropy))
            if values is not None:
                rollout.values[part] = rows.spread(values)
            if self.curious:
                logits = self.policy.get_output_embeddings()(scored.hidden)
                likelier = (logits > logits.gather(1, rows.targets[:, None])).sum(1)
                rollout.ranks[part] = rows.spread(likelier)
                states.append((part, *self._reference_states(rows), rows))
        if states:
            rollout.states = _in_order(states, rollout.mask)

    @torch.no_grad()
    def distances(self, prompts: list[list[int]], drawn: list[Drawn]) -> tuple[list[float], float]:
        """KL to the reference of each completion, in nats, and the mean entropy of a token."""
        lengths = [len(p) + len(d.ids) for p, d in zip(prompts, drawn, strict=True)]
        width = max(len(one.ids) for one in drawn)
        kl, entropy, count = [0.0] * len(drawn), 0.0, 0
        for part in micro_batches(lengths, range(len(drawn)), self.config.micro_batch_tokens):
            rows = collate([prompts[i] for i in part], [drawn[i] for i in part], width, self.pad, self.device)
            with self.arithmetic():
                ours = self._distribution(self.policy, rows)
                with self._as_reference() as reference:
                    theirs = self._distribution(reference, rows)
            nats = rows.spread((ours.exp() * (ours - theirs)).sum(-1)).sum(1).tolist()
            for i, value in zip(part, nats, strict=True):
                kl[i] = value
            entropy -= float((ours.exp() * ours).sum())
            count += len(rows.at)
        return kl, entropy / count

    @contextmanager
    def arithmetic(self, *, training: bool = False) -> Iterator[None]:
        """Within it the policy reads, or trains, in bfloat16 where that is wanted."""
        self.policy.train(training)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.bf16):
            yield

    @contextmanager
    def _as_reference(self) -> Iterator[Any]:
        if self.reference is not None:
            yield self.reference
        else:
            with adapter_off(self.policy):
                yield self.policy

    def _scored(self, model: Any, rows: Rows, *, entropy: bool = False, hidden: bool = False) -> Scored:
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

    def _distribution(self, model: Any, rows: Rows) -> Tensor:
        logits: Tensor = model(input_ids=rows.ids).logits.flatten(0, 1)[rows.at].float()
        return (logits / self.config.temperature).log_softmax(-1)

    def _reference_states(self, rows: Rows) -> tuple[Tensor, Tensor]:
        with self._as_reference() as reference:
            trunk = bare(reference).base_model
            states = trunk(input_ids=rows.ids, use_cache=False).last_hidden_state.flatten(0, 1)
        return states[rows.at], states[rows.at + 1]


def load_actors(config: Config, job: Job, tokens: Tokenized) -> Actors:
    """The models that ``config`` and ``job`` name, on their device; raises UserError where one does not fit."""
    policy = load_policy(job.model)
    tokens.check_vocabulary(policy.get_input_embeddings().num_embeddings)
    device = device_of(config.device, job.model)
    set_threads(policy, config.threads, on_cpu=device.type == "cpu")
    critic = None
    if choices_of(config).advantage == "gae":
        critic = (load_critic(config.critic) if config.critic else critic_of(policy)).to(device)
    reference = None
    if config.reference or not config.lora_rank:
        reference = load_policy(config.reference) if config.reference else copy.deepcopy(policy)
        reference.requires_grad_(False).eval().to(device)
    policy.to(device)
    if config.gradient_checkpointing:
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.lora_rank:
        put = partial(adapted, rank=config.lora_rank, alpha=config.lora_alpha, seed=job.seed)
        policy = put(policy)
        if critic:
            critic.trunk = put(critic.trunk, task="FEATURE_EXTRACTION")
    return Actors(policy=policy, reference=reference, critic=critic, pad=tokens.pad, config=config)


def known(values: Tensor | None) -> Tensor:
    """What was asked for, and is there."""
    assert values is not None, "it was asked for"
    return values


def _in_order(parts: Sequence[tuple[list[int], Tensor, Tensor, Rows]], mask: Tensor) -> tuple[Tensor, Tensor]:
    """States of all parts in the order in which ``mask`` lists its tokens."""
    places = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
    start = 0
    for part, before, _, rows in parts:
        places[part] = rows.spread(torch.arange(start, start + len(before), device=mask.device))
        start += len(before)
    order = places[mask]
    return torch.cat([part[1] for part in parts])[order], torch.cat([part[2] for part in parts])[order]
