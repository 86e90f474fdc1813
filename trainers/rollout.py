"""Rollouts: completions that the policy draws while it learns, their scores, and the tensors that are made of them.

worker = Worker(sampler=sampler, tokens=tokens, reward=reward, config=config, seed=0)
groups = worker.answers([("0", prompt)], "rollout", step=1)
rows = collate([groups[0].ids], groups[0].drawn[:1], width=32, pad=0, device="cpu")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rlhf_eval.errors import RequestFailed, UserError
from rlhf_eval.records import Completion, Prompt, Sampling, Usage, fingerprint
from rlhf_eval.stages.training import Reward
from trainers.algorithms import Config
from trainers.data import Tokenized
from trainers.sampling import Ask, Drawn, Sampler

ADVICE = "lower learning_rate, or set max_grad_norm or reward_clip; the state before is kept in steps/"
"""What helps a run whose numbers leave the finite."""


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


class Worker:
    """Draws the policy's completions of prompts, and has them scored."""

    def __init__(
        self, *, sampler: Sampler, tokens: Tokenized, reward: Reward, config: Config, name: str = "ppo", seed: int = 0
    ) -> None:
        self.sampler, self.tokens, self.reward = sampler, tokens, reward
        self.config, self.name, self.seed = config, name, seed

    def answers(
        self, asked: Sequence[tuple[str, Prompt]], purpose: Literal["rollout", "heldout"], step: int
    ) -> list[Answers]:
        """Completions, with their scores, of prompts that go by a name of their own each.

        Name, purpose and seed settle what is drawn. Raises UserError where the policy or the reward gives no numbers.
        """
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
            drawn = self.sampler.sample(asks, temperature=config.temperature, max_tokens=config.max_new_tokens)
        except RequestFailed as error:
            raise UserError(f"step {step}: the policy can no longer be sampled from ({error}); {ADVICE}") from error
        written = [
            [self._completion(name, prompt, k, one, purpose, step) for k, one in enumerate(group)]
            for (name, prompt), group in zip(asked, drawn, strict=True)
        ]
        every = [completion for group in written for completion in group]
        scores = self._scores([prompt for _, prompt in asked for _ in range(samples)], every)
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

    def _scores(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Sequence[float | None]:
        scores = self.reward(prompts, completions)
        if len(scores) != len(completions):
            raise UserError(f"the reward gave {len(scores)} numbers for {len(completions)} completions")
        if any(score is not None and not math.isfinite(score) for score in scores):
            raise UserError("the reward gave a number that is not finite; None is how it says that it has none")
        return scores

    def _completion(self, name: str, prompt: Prompt, k: int, one: Drawn, purpose: str, step: int) -> Completion:
        config = self.config
        return Completion.of(
            prompt_id=prompt.id,
            model=f"{self.name}@{step}",
            text=self.tokens.tokenizer.decode(one.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
            sample=k,
            sampling=Sampling(temperature=config.temperature, max_tokens=config.max_new_tokens, seed=self.seed),
            generator="ppo",
            origin=(purpose, name),
            finish_reason="stop" if one.ended else "length",
            usage=Usage(completion_tokens=len(one.ids)),
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Some completions with their prompts as tensors: rows padded on the right, n tokens that the policy drew."""

    ids: Tensor
    """(b, L)."""
    at: Tensor
    """(n,): the flat position in ``ids`` before each drawn token, row by row."""
    targets: Tensor
    """(n,): the drawn tokens."""
    mask: Tensor
    """(b, T): where these stand in a table of completion tokens; T is the width of the whole rollout."""

    def spread(self, flat: Tensor) -> Tensor:
        """Values of the drawn tokens, (n,), in their places of a table (b, T) that is 0 elsewhere."""
        return flat.new_zeros(self.mask.shape).masked_scatter(self.mask, flat)


def collate(prompts: Sequence[list[int]], drawn: Sequence[Drawn], width: int, pad: int, device: Any) -> Rows:
    """The tensors of some completions; nothing reads padding, so ``pad`` may be a token that also occurs."""
    longest = max(len(p) + len(d.ids) for p, d in zip(prompts, drawn, strict=True))
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros(len(prompts), width, dtype=torch.bool)
    before: list[int] = []
    for i, (prompt, one) in enumerate(zip(prompts, drawn, strict=True)):
        end = len(prompt) + len(one.ids)
        ids[i, :end] = torch.tensor(prompt + one.ids)
        mask[i, : len(one.ids)] = True
        before.extend(range(i * longest + len(prompt) - 1, i * longest + end - 1))
    at = torch.tensor(before, dtype=torch.long)
    targets = ids.flatten()[at + 1]
    return Rows(*(part.to(device) for part in (ids, at, targets, mask)))


def micro_batches(lengths: Sequence[int], rows: Sequence[int], budget: int) -> list[list[int]]:
    """``rows`` in groups of like length, none of which pads to more than ``budget`` tokens (a single row may)."""
    groups: list[list[int]] = []
    for row in sorted(rows, key=lambda r: (lengths[r], r)):
        if groups and (len(groups[-1]) + 1) * lengths[row] <= budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


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

    @classmethod
    def of(cls, groups: Sequence[Answers], plan: list[list[list[int]]], device: Any) -> Rollout:
        """The completions of ``groups``, before any model has read them."""
        drawn = [one for group in groups for one in group.drawn]
        scores = [score for group in groups for score in group.scores]
        zeros = torch.zeros(len(drawn), max(len(one.ids) for one in drawn), device=device)
        return cls(
            asked=[group.prompt for group in groups for _ in group.drawn],
            completions=[completion for group in groups for completion in group.completions],
            prompts=[group.ids for group in groups for _ in group.drawn],
            drawn=drawn,
            scores=torch.tensor([0.0 if score is None else score for score in scores], device=device),
            valid=torch.tensor([score is not None for score in scores], device=device),
            mask=zeros.bool(),
            logps=zeros,
            ref_logps=zeros.clone(),
            entropy=zeros.clone(),
            values=zeros.clone(),
            ranks=zeros.long(),
            plan=plan,
        )

    @property
    def ended(self) -> Tensor:
        """(B,): whether the policy ended it; if not, it was cut off."""
        return torch.tensor([one.ended for one in self.drawn], device=self.mask.device)

    @property
    def targets(self) -> Tensor:
        """(n,): the drawn tokens, in the order in which ``mask`` lists them."""
        return torch.tensor([token for one in self.drawn for token in one.ids], device=self.mask.device)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each completion with its prompt."""
        return [len(p) + len(d.ids) for p, d in zip(self.prompts, self.drawn, strict=True)]


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
