"""Direct preference optimisation and its relatives: a policy from pairs, with no reward model and no sampling.

The judge's probability is the label: with ``soft_labels`` a pair that the judge calls 70 : 30 pulls less than one that it
calls 99 : 1. Prompt, chosen and rejected stand in one row with one copy of the prompt. The reference is the model that
training starts from: its log-probabilities are computed once and cached by content, or, with LoRA, read with the adapter
off. Before the first step the loss is held against what theory says of a policy that equals its reference.

    rlhf-eval train dpo --model run:latest:train --data latest:pairs --set beta=0.1
    accelerate launch -m trainers.dpo --config dpo.yaml

Rafailov et al., arXiv 2305.18290; every loss names its own paper in ``trainers/losses.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rlhf_eval.errors import UserError
from rlhf_eval.stages.training import Data, Job, Metrics, Plan
from trainers import losses
from trainers.adapters import adapter_off
from trainers.batch import lengths, model_inputs, per_answer
from trainers.data import Account, Example, Tokenized, check_margins, encode_labelled, encode_pairs
from trainers.engine import (
    Engine,
    Settings,
    Terms,
    autocast,
    held_out,
    layout_of,
    place,
    plan_of,
    prepared,
    state_of,
    uses_bfloat16,
)
from trainers.logps import load_policy
from trainers.reference import cached_reference

READS = ("pairs", "labelled")

Loss = Literal[
    "sigmoid", "robust", "ipo", "ipo_norm", "hinge", "sigmoid_norm", "simpo", "orpo", "kto", "apo_zero", "apo_down",
    "slic", "rebel", "r3m",
]  # fmt: skip
TIE = 1e-6
"""Margins closer to zero are rounding: the pair counts half right."""
WITHOUT_REFERENCE = frozenset({"simpo", "orpo", "slic"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Settings):
    """Settings of DPO and its relatives."""

    learning_rate: float = 5e-7
    """Peak learning rate; about ten times as much for LoRA."""
    loss: Loss = "sigmoid"
    """What is minimised; sigmoid is DPO, sigmoid_norm Tulu 3's form of it, ipo_norm TRL's form of IPO."""
    beta: float = 0.1
    """Strength of the tie to the reference; sigmoid_norm wants about 5, simpo about 2."""
    soft_labels: bool = True
    """Weigh both directions by the pair's probability; off, every chosen answer is right for sure."""
    label_smoothing: float = 0.0
    """Share of labels thought to be wrong: ``robust`` corrects for it, the other losses pull probabilities to a half."""
    gamma: float = 0.5
    """Target margin: of simpo on beta times mean log-probabilities, of slic on log-probabilities."""
    cap: float = 0.75
    """Of r3m: the largest weight of a pair; pairs that the policy gives less than 1 - cap are held to be mislabelled."""
    offset: float = 0.0
    """Scale of the offset that the pair's margin sets (ODPO); 0 sets none."""
    offset_form: Literal["log", "linear"] = "log"
    """How the margin becomes an offset."""
    nll_weight: float = 0.0
    """Adds so much of the chosen answer's mean negative log-likelihood."""
    orpo_weight: float = 0.1
    """Of orpo: weight of the odds ratio beside the likelihood."""
    liked_weight: float = 1.0
    """Of kto: weight of good answers."""
    disliked_weight: float = 1.0
    """Of kto: weight of bad answers."""
    reference: Literal["auto", "cached", "copy", "adapter_off"] = "auto"
    """Where the reference's log-probabilities come from; auto: adapter off with LoRA, else computed once and cached."""
    share_prefix: bool = True
    """Keep one copy of the prompt for both answers. Changes no number."""

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta}; it must be over 0")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it must lie in [0, .5)")
        if not 0 < self.cap < 1:
            raise ValueError(f"cap is {self.cap}; it must lie in (0, 1)")
        if self.reference == "adapter_off" and not self.lora_rank:
            raise ValueError("reference is adapter_off, and there is no adapter; set lora_rank")
        if self.loss == "kto" and (self.micro_batch or self.batch_size) < 2:
            raise ValueError("kto compares answers within a batch; at least 2 must pass the device at once")


class Scores(NamedTuple):
    """What the losses read of a batch of P pairs; log-probabilities are sums over the answer's tokens."""

    chosen: Tensor
    """(P,) of the policy."""
    rejected: Tensor
    ref_chosen: Tensor
    """(P,) of the reference; zeros for losses that need none."""
    ref_rejected: Tensor
    len_chosen: Tensor
    """(P,) tokens."""
    len_rejected: Tensor
    probability: Tensor
    margin: Tensor

    @property
    def h_chosen(self) -> Tensor:
        """Log-ratio of the chosen answers."""
        return self.chosen - self.ref_chosen

    @property
    def h_rejected(self) -> Tensor:
        """Log-ratio of the rejected answers."""
        return self.rejected - self.ref_rejected


def train(data: Data, out: Path, config: Config, job: Job) -> Metrics:
    """Train ``job.model`` on the pairs (for ``kto`` on labelled answers); the checkpoint lies in ``out/checkpoint``."""
    tokens, examples, account = _examples(data, config, job)
    policy = load_policy(job.model)
    tokens.check_vocabulary(policy.get_input_embeddings().num_embeddings)
    layout = layout_of(policy, config, share=config.share_prefix)
    how = _reference(config)
    copy = None
    if how == "cached":
        examples = cached_reference(policy, examples, layout, tokens, config, job)
    elif how == "copy":
        copy = place(load_policy(job.model)).eval().requires_grad_(False)
        copy.set_attn_implementation(policy.config._attn_implementation)
    kept, aside = held_out(examples, config, job.seed)
    model = prepared(policy, config)
    engine = Engine(
        model=model,
        objective=Objective(config, copy, expects_reference=how != "none", starts=state_of(out) is None),
        examples=kept,
        heldout=aside,
        tokens=tokens,
        settings=config,
        job=job,
        out=out,
        layout=layout,
        items=lambda batch: len(batch["probability"]),
    )
    return engine.run(notes=account.notes())


def plan(data: Data, config: Config, job: Job) -> Plan:
    """Rows, tokens, steps and memory, without loading the weights."""
    _, examples, account = _examples(data, config, job)
    kept, _ = held_out(examples, config, job.seed)
    copies = int(_reference(config) == "copy")
    return plan_of(kept, job.model, config, references=copies, notes=account.notes())


def _examples(data: Data, config: Config, job: Job) -> tuple[Tokenized, list[Example], Account]:
    tokens = Tokenized.load(job.model)
    if config.loss == "kto":
        if not data.labelled:
            raise UserError(
                "kto learns from single answers with a label, or from pairs taken apart; the data holds neither"
            )
        examples, account = encode_labelled(data.labelled, tokens, config.limit)
        return tokens, _with_strangers(examples), account
    if not data.pairs:
        raise UserError(
            f"the loss '{config.loss}' learns from pairs and the data holds single labelled answers; use loss=kto"
        )
    if config.loss == "rebel" or config.offset:
        check_margins(data.pairs, "rebel" if config.loss == "rebel" else "offset")
    examples, account = encode_pairs(data.pairs, tokens, config.limit)
    return tokens, examples, account


def _with_strangers(examples: Sequence[Example]) -> list[Example]:
    """Behind each prompt also an answer to another one: KTO's KL is measured on answers that do not belong there."""
    others = [*examples[1:], examples[0]]
    strange = [other.answers[0] for other in others]
    for i, example in enumerate(examples):
        if others[i].prompt == example.prompt:
            found = next((o for o in (*examples[i + 1 :], *examples[:i]) if o.prompt != example.prompt), None)
            if found is None:
                raise UserError("kto needs answers to at least two different prompts")
            strange[i] = found.answers[0]
    return [replace(e, answers=(*e.answers, other)) for e, other in zip(examples, strange, strict=True)]


def _reference(config: Config) -> str:
    if config.loss in WITHOUT_REFERENCE:
        return "none"
    if config.reference == "auto":
        return "adapter_off" if config.lora_rank else "cached"
    return config.reference


class Objective:
    """The sum of a loss over the pairs of a batch, with what is worth logging of it."""

    def __init__(self, config: Config, copy: Any, *, expects_reference: bool, starts: bool = True) -> None:
        self.config = config
        self.copy = copy
        self.expects_reference = expects_reference
        self.unchecked = expects_reference and starts

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> Terms:
        """Score both answers of each pair and take the loss."""
        policy = per_answer(model(**model_inputs(batch)).logps, batch)
        reference = self._of_reference(model, batch, policy)
        terms = self.terms(policy, reference, batch)
        if self.unchecked and torch.isfinite(terms.loss):
            self._check_start(terms, reference, batch)
        return terms

    def terms(self, policy: Tensor, reference: Tensor, batch: Mapping[str, Any]) -> Terms:
        """Loss and statistics of (A,) log-probabilities of the policy and the reference."""
        if self.config.loss == "kto":
            return _kto_terms(policy - reference, batch, self.config)
        scores = _scores(policy, reference, batch)
        found, delta = LOSSES[self.config.loss](scores, self.config)
        found = found + self.config.nll_weight * -scores.chosen / scores.len_chosen
        with torch.no_grad():
            beta = self.config.beta
            stats = {
                "accuracy": torch.where(delta.abs() < TIE, 0.5, (delta > 0).float()),
                "margin": delta,
                "chosen_logps": scores.chosen,
                "rejected_logps": scores.rejected,
            }
            if self.expects_reference:
                stats |= {"chosen_reward": beta * scores.h_chosen, "rejected_reward": beta * scores.h_rejected}
        return Terms(found.sum(), stats)

    def _of_reference(self, model: nn.Module, batch: Mapping[str, Any], policy: Tensor) -> Tensor:
        if not self.expects_reference:
            return torch.zeros_like(policy)
        if "reference" in batch:
            return batch["reference"]  # type: ignore[no-any-return]
        with torch.no_grad():
            if self.copy is not None:
                with autocast(self.config):
                    return per_answer(self.copy(**model_inputs(batch)).logps, batch)
            with adapter_off(model):
                return per_answer(model(**model_inputs(batch)).logps, batch)

    def _check_start(self, terms: Terms, reference: Tensor, batch: Mapping[str, Any]) -> None:
        """Hold the first loss against that of a policy which equals its reference; raises UserError where it differs."""
        self.unchecked = False
        theory = self.terms(reference, reference, batch).loss
        # The Trainer's autocast ends with the forward, so that the settings must say which arithmetic it was.
        allowed = 5e-2 if uses_bfloat16(self.config) else 1e-3
        first = float(terms.loss.detach())
        if not math.isclose(first, float(theory), rel_tol=allowed, abs_tol=allowed * len(reference)):
            count = len(batch["probability"])
            raise UserError(
                f"the first loss is {first / count:.6f} where a policy that equals its reference has "
                f"{float(theory) / count:.6f}: the reference is another model, or dropout is on"
            )


def _scores(policy: Tensor, reference: Tensor, batch: Mapping[str, Any]) -> Scores:
    counts = lengths(batch)
    return Scores(
        policy[0::2], policy[1::2], reference[0::2], reference[1::2], counts[0::2], counts[1::2],
        batch["probability"], batch["margin"],
    )  # fmt: skip


def _kto_terms(h: Tensor, batch: Mapping[str, Any], config: Config) -> Terms:
    own, stranger = h[0::2], h[1::2]
    kl = losses.mismatched_kl(stranger)
    label = batch["label"]
    found = losses.kto(own, label, config.beta, kl, liked=config.liked_weight, disliked=config.disliked_weight)
    with torch.no_grad():
        right = torch.where(label, own > kl, own < kl).float()
        stats = {"accuracy": right, "kl": kl[None], "liked_reward": config.beta * own[label]}
        stats["disliked_reward"] = config.beta * own[~label]
    return Terms(found.sum(), {name: values for name, values in stats.items() if values.numel()})


# Each loss of a batch of pairs, and the margin by which it orders them, both (P,) ----------------------------------------

PairLoss = Callable[[Scores, Config], tuple[Tensor, Tensor]]


def _label(scores: Scores, config: Config) -> Tensor:
    """The probability that the chosen answer is the better one, as the loss takes it."""
    p = scores.probability if config.soft_labels else torch.ones_like(scores.probability)
    eps = 0.0 if config.loss == "robust" else config.label_smoothing
    return p * (1 - eps) + (1 - p) * eps


def _of_margin(kind: Callable[..., Tensor], scores: Scores, config: Config) -> tuple[Tensor, Tensor]:
    """Losses of beta times the difference of log-ratios, less the offset."""
    delta = config.beta * (scores.h_chosen - scores.h_rejected)
    if config.offset:
        delta = delta - losses.odpo_offset(scores.margin, config.offset, config.offset_form)
    return losses.mixed(lambda d: kind(d, config), delta, _label(scores, config)), delta


def _sigmoid_norm(scores: Scores, config: Config) -> tuple[Tensor, Tensor]:
    """DPO on log-ratios a token: Lambert et al. (Tulu 3), arXiv 2411.15124, section 5.1.2."""
    delta = config.beta * (scores.h_chosen / scores.len_chosen - scores.h_rejected / scores.len_rejected)
    return losses.sigmoid(delta, _label(scores, config)), delta


def _ipo(normalised: bool, scores: Scores, config: Config) -> tuple[Tensor, Tensor]:
    """IPO on sums, as its paper has it, or on means a token, as TRL does."""
    per = (scores.len_chosen, scores.len_rejected) if normalised else (1, 1)
    h = scores.h_chosen / per[0] - scores.h_rejected / per[1]
    return losses.mixed(lambda d: losses.ipo(d, config.beta), h, _label(scores, config)), config.beta * h


def _simpo(scores: Scores, config: Config) -> tuple[Tensor, Tensor]:
    """Meng et al., arXiv 2405.14734, eq. 6: no reference, mean log-probabilities, a target margin."""
    delta = config.beta * (scores.chosen / scores.len_chosen - scores.rejected / scores.len_rejected)
    return losses.mixed(lambda d: losses.sigmoid(d - config.gamma), delta, _label(scores, config)), delta


def _orpo(scores: Scores, config: Config) -> tuple[Tensor, Tensor]:
    """Hong et al., arXiv 2403.07691, eq. 6: the likelihood of the chosen answer and a log odds ratio."""
    chosen, rejected = scores.chosen / scores.len_chosen, scores.rejected / scores.len_rejected
    delta = losses.log_odds(chosen) - losses.log_odds(rejected)
    return -chosen + config.orpo_weight * losses.sigmoid(delta, _label(scores, config)), delta


def _slic(scores: Scores, config: Config) -> tuple[Tensor, Tensor]:
    """Zhao et al., arXiv 2305.10425, eq. 1, its regulariser being ``nll_weight``: a hinge on log-probabilities."""
    delta = scores.chosen - scores.rejected
    return losses.mixed(lambda d: torch.relu(config.gamma - d), delta, _label(scores, config)), delta


def _apo(kind: Callable[[Tensor, Tensor, float], Tensor], scores: Scores, config: Config) -> tuple[Tensor, Tensor]:
    p = _label(scores, config)
    one, other = scores.h_chosen, scores.h_rejected
    found = p * kind(one, other, config.beta) + (1 - p) * kind(other, one, config.beta)
    return found, config.beta * (one - other)


def _rebel(scores: Scores, config: Config) -> tuple[Tensor, Tensor]:
    h = scores.h_chosen - scores.h_rejected
    return losses.rebel(h, scores.margin, config.beta), config.beta * h


LOSSES: Mapping[str, PairLoss] = {
    "sigmoid": partial(_of_margin, lambda d, _: losses.sigmoid(d)),
    "robust": partial(_of_margin, lambda d, config: losses.robust(d, config.label_smoothing)),
    "hinge": partial(_of_margin, lambda d, _: losses.hinge(d)),
    "r3m": partial(_of_margin, lambda d, config: losses.r3m(d, config.cap)),
    "sigmoid_norm": _sigmoid_norm,
    "ipo": partial(_ipo, False),
    "ipo_norm": partial(_ipo, True),
    "simpo": _simpo,
    "orpo": _orpo,
    "apo_zero": partial(_apo, losses.apo_zero),
    "apo_down": partial(_apo, losses.apo_down),
    "slic": _slic,
    "rebel": _rebel,
}
"""Every loss but kto, which reads single answers."""


if __name__ == "__main__":
    from trainers.launch import main

    raise SystemExit(main(Config, train))
