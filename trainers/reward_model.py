"""Reward models: Bradley-Terry, rankings, ties, outcomes and steps, with soft labels, margins, and several heads.

    objective          reads      the loss                                                              source
    bradley_terry      pairs      logistic in the difference of rewards, label by label                 arXiv 2203.02155
    plackett_luce      pairs      likelihood of each prompt's whole ranking                             arXiv 2301.11270
    davidson           pairs      win, tie or loss; a tie is a pair with probability .5                 Davidson 1970
    rao_kupper         pairs      the same with a zone of indifference                                  Rao and Kupper 1967
    outcome            labelled   right or wrong, at the last token                                     arXiv 2110.14168
    outcome_tokens     labelled   the same at every token of the answer                                 arXiv 2110.14168
    outcome_mean       labelled   the same for the mean logit of the answer's tokens                    RLHF book, ch. 5
    process            stepwise   right or wrong at the end of each step                                arXiv 2305.20050

A label is believed as far as it says: probability p pulls with p one way and 1 - p the other; ``lam`` below 1 caps how
hard any one label pulls (R3M). The checkpoint is a standard ``...ForSequenceClassification`` of one label; where there are
several heads it is their mean, and all of them lie beside it (``trainers.heads``).

    rlhf-eval train reward_model --model sandbox:policy --data latest:pairs
    accelerate launch -m trainers.reward_model --config rm.yaml
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rlhf_eval.errors import UserError
from rlhf_eval.stages.training import Data, Job, Metrics, Plan
from trainers import losses
from trainers.batch import Layout
from trainers.data import Account, Tokenized, check_margins
from trainers.engine import Engine, Settings, Terms, held_out, layout_of, plan_of, prepared
from trainers.features import features_of
from trainers.heads import Probe, load_scorer, pad_apart, save_scorer
from trainers.reward_data import (
    Contest,
    Graded,
    bootstrapped,
    collate_graded,
    encode_contests,
    encode_outcomes,
    encode_steps,
    ranked,
    targets_of,
)

READS = ("pairs", "labelled", "stepwise")
HELDOUT = "pairs"

Kind = Literal[
    "bradley_terry", "plackett_luce", "davidson", "rao_kupper", "outcome", "outcome_tokens", "outcome_mean", "process"
]
OF_PAIRS = ("bradley_terry", "plackett_luce", "davidson", "rao_kupper")
TIES = ("davidson", "rao_kupper")
MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "segments", "at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Settings):
    """Settings of the reward model."""

    learning_rate: float = 5e-6
    """Peak learning rate; 1e-4 for an adapter, 1e-3 for heads on a frozen trunk."""
    objective: Kind = "bradley_terry"
    """bradley_terry, plackett_luce, davidson, rao_kupper; outcome, outcome_tokens, outcome_mean; process."""
    soft: bool = True
    """Take each pair's probability for its label; false believes every label wholly."""
    margin: float = 0.0
    """Weight of each pair's margin: its rewards must differ by so much more (Llama 2). 0 leaves margins out."""
    lam: float = 1.0
    """Most that one label pulls, in (0, 1]: R3M, for data with flipped labels. 1 caps nothing."""
    by_prompt: bool = True
    """All pairs of a prompt are one example, each weighing one over their number; false weighs all pairs alike."""
    center: float = 0.01
    """Weight of the square of each pair's summed rewards, which holds rewards near 0."""
    heads: int = 1
    """Reward heads of an ensemble, each with its own bootstrap of the pairs."""
    labelers: bool = False
    """One head for each labeler, trained on that labeler's pairs."""
    freeze: bool = False
    """Train heads alone: the trunk reads every text once, and what it says is kept."""
    eval_share: float = 0.1
    """Share of the prompts held out, on which the reward model is measured; 0 where held-out pairs are given."""
    separator: str = "\n\n"
    """What stands between the steps of a solution."""

    def __post_init__(self) -> None:
        # Not super(): a dataclass with slots is made anew, and the old class is not its parent.
        Settings.__post_init__(self)
        if not 0 < self.lam <= 1:
            raise ValueError(f"lam is {self.lam}; it caps a label's pull, in (0, 1]")
        if self.lam < 1 and self.objective != "bradley_terry":
            raise ValueError(f"lam caps the labels of objective=bradley_terry, not of {self.objective}")
        if self.heads < 1 or self.center < 0:
            raise ValueError("heads must be at least 1 and center at least 0")
        if self.labelers and (self.heads > 1 or self.objective in ("plackett_luce", "process") or not self._pairs):
            raise ValueError(
                "labelers=true makes one head for each labeler of pairs; leave heads at 1 and rank nothing"
            )
        if self.objective == "plackett_luce" and not self.by_prompt:
            raise ValueError("a ranking needs by_prompt=true")
        if self.freeze and self.lora_rank:
            raise ValueError("freeze=true trains no adapter; leave lora_rank at 0")

    @property
    def _pairs(self) -> bool:
        return self.objective in OF_PAIRS


def train(data: Data, out: Path, config: Config, job: Job) -> Metrics:
    """Train a reward model that starts from ``job.model``; the checkpoint lies in ``out/checkpoint``."""
    tokens, examples, account = _examples(data, config, job)
    kept, aside = _split(data, examples, tokens, config, job)
    names = head_names(examples, config)
    model = load_scorer(job.model, heads=len(names), seed=job.seed, ties=config.objective in TIES)
    tokens.check_vocabulary(model.get_input_embeddings().num_embeddings)
    pad_apart(model, tokens, [*kept, *aside])
    layout = layout_of(model, config)
    reader = prepared(model, config, task="SEQ_CLS")
    known = (
        features_of(model, [*kept, *aside], tokens, layout, job.cache or out / "steps", job) if config.freeze else None
    )
    engine = RewardEngine(
        scorer=model,
        names=names,
        known=known,
        model=Probe(model.score, model.tie) if config.freeze else reader,
        objective=Objective(config),
        examples=kept,
        heldout=aside,
        tokens=tokens,
        settings=config,
        job=job,
        out=out,
        layout=layout,
        items=lambda batch: batch["examples"],
    )
    metrics = engine.run(notes=_notes(examples, account))
    own = () if data.heldout_pairs else tuple(contest.id for example in aside for contest in example.contests)
    return replace(metrics, heldout=own)


def plan(data: Data, config: Config, job: Job) -> Plan:
    """Rows, tokens, steps and memory, without loading the weights."""
    tokens, examples, account = _examples(data, config, job)
    kept, _ = _split(data, examples, tokens, config, job)
    return plan_of(kept, job.model, config, references=0, notes=_notes(examples, account))


class RewardEngine(Engine):
    """The engine with the batches of reward models, and the standard checkpoint at its end."""

    def __init__(
        self,
        *,
        scorer: Any,
        names: Sequence[str],
        known: Mapping[str, Tensor] | None,
        tokens: Tokenized,
        settings: Config,
        layout: Layout,
        **rest: Any,
    ) -> None:
        super().__init__(tokens=tokens, settings=settings, layout=layout, **rest)
        self.scorer, self.names = scorer, names
        heads, seed, rank = len(names), self.job.seed, settings.objective == "plackett_luce"
        number = {name: place for place, name in enumerate(names)}

        def heads_of(contest: Contest) -> Sequence[float]:
            if contest.labeler in number and settings.labelers:
                return [float(place == number[contest.labeler]) for place in range(heads)]
            # Of a labeler that only the held-out pairs have, the mean of all heads speaks.
            weights = bootstrapped(contest, heads, seed) if settings.heads > 1 else (1.0,) * heads
            return [weight / heads for weight in weights]

        def collator(examples: Sequence[Graded]) -> dict[str, Any]:
            if known is None:
                return collate_graded(examples, layout, pad=tokens.pad, heads_of=heads_of, rank=rank)
            targets = targets_of(examples, heads_of, rank=rank)
            features = torch.cat([known[example.id] for example in examples])
            return {**targets, "features": features, "tokens": sum(map(len, examples))}

        self.data_collator = collator

    def save_final(self, folder: Path) -> None:
        """The trained model as a standard reward model with its tokenizer."""
        trained = self.accelerator.unwrap_model(self.model)
        if hasattr(trained, "merge_and_unload"):
            trained = trained.merge_and_unload()
            state = trained.state_dict()
        elif trained is self.scorer:
            state = self.accelerator.get_state_dict(self.model)
        else:  # a probe, whose head is the scorer's own
            state = self.scorer.state_dict()
        if self.is_world_process_zero():
            save_scorer(self.scorer, state, self.tokens.tokenizer, folder, names=self.names)


@dataclass(frozen=True, slots=True)
class Objective:
    """The sum over a batch's examples of the loss that a config names."""

    config: Config

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Terms:
        """The loss and what is logged beside it."""
        wanted = ("features",) if "features" in batch else MODEL_INPUTS
        rewards, tie = model(**{name: batch[name] for name in wanted if name in batch})
        if self.config.objective in OF_PAIRS:
            return self._of_pairs(rewards, tie, batch)
        return self._of_labels(rewards, batch)

    def _of_pairs(self, rewards: Tensor, tie: Tensor | None, batch: Mapping[str, Tensor]) -> Terms:
        config, share = self.config, batch["share"]
        winner, loser = batch["winner"], batch["loser"]
        gap = rewards[winner] - rewards[loser]
        if config.objective == "plackett_luce":
            order = batch["ranking"]
            loss = losses.plackett_luce(rewards[order.clamp(min=0)], order >= 0).mean(-1).sum()
        else:
            loss = (self._pair_losses(gap - config.margin * batch["margin"][:, None], tie, batch) * share).sum()
        if config.center:
            loss = loss + config.center * (losses.centring(rewards, winner, loser) * share).sum()
        # What the one head of the checkpoint will say; for labelers' heads, what each says of its own pairs.
        told = (gap * share).sum(-1) / share.sum(-1) if config.labelers else gap.mean(-1)
        decided = batch["probability"] != losses.TIE
        right = (told > 0).float() + 0.5 * (told == 0).float()
        stats = {"accuracy": right[decided], "margin": told[decided], "reward": rewards.mean(-1)}
        if config.lam < 1:
            stats["outliers"] = (losses.outlier(told - config.margin * batch["margin"], config.lam) > 0).float()
        return Terms(loss, stats)

    def _pair_losses(self, delta: Tensor, tie: Tensor | None, batch: Mapping[str, Tensor]) -> Tensor:
        """(P, heads)."""
        p = batch["probability"]
        if not self.config.soft:
            p = torch.where(p == losses.TIE, p, (p > losses.TIE).to(p.dtype))
        if tie is not None:
            return (
                losses.davidson(delta, p, tie)
                if self.config.objective == "davidson"
                else losses.rao_kupper(delta, p, tie)
            )
        lam = self.config.lam
        return losses.soft(lambda d: losses.r3m(d, lam), delta, p) if lam < 1 else losses.soft(losses.sigmoid, delta, p)

    def _of_labels(self, rewards: Tensor, batch: Mapping[str, Tensor]) -> Terms:
        answer, label = batch["answer"], batch["label"]
        if self.config.objective == "process":
            each = losses.process(rewards, batch["step"], answer, len(label))
            right = (rewards.mean(-1) > 0) == (batch["step"] > 0.5)
        else:
            pool = losses.outcome_per_sequence if self.config.objective == "outcome_mean" else losses.outcome_per_token
            each = pool(rewards, answer, label)
            right = (losses.mean_by(rewards, answer, len(label)).mean(-1) > 0) == (label > 0.5)
        return Terms(each.mean(-1).sum(), {"accuracy": right.float(), "reward": rewards.mean(-1)})


def head_names(examples: Sequence[Graded], config: Config) -> tuple[str, ...]:
    """The heads by name: the labelers, or the numbers of an ensemble."""
    if not config.labelers:
        return tuple(str(number) for number in range(1, config.heads + 1))
    names = sorted({contest.labeler for example in examples for contest in example.contests})
    if len(names) < 2:
        raise UserError(f"labelers=true needs pairs of several labelers; all of these are by '{names[0]}'")
    return tuple(names)


def _examples(data: Data, config: Config, job: Job) -> tuple[Tokenized, list[Graded], Account]:
    tokens = Tokenized.load(job.model)
    kind = "pairs" if config.objective in OF_PAIRS else "stepwise" if config.objective == "process" else "labelled"
    records = getattr(data, kind)
    if not records:
        held = " and ".join(data.counts()) or "nothing"
        raise UserError(f"objective={config.objective} reads {kind} rows, and the data holds {held}")
    if kind == "stepwise":
        examples, account = encode_steps(records, tokens, config.limit, separator=config.separator)
    elif kind == "labelled":
        every = config.objective != "outcome"
        examples, account = encode_outcomes(records, tokens, config.limit, every_token=every)
    else:
        if config.margin:
            check_margins(records, "margin")
        examples, account = encode_contests(records, tokens, config.limit, by_prompt=config.by_prompt)
    if config.objective == "plackett_luce":
        for example in examples:
            ranked(example)
    if config.objective in TIES and not any(c.probability == losses.TIE for e in examples for c in e.contests):
        raise UserError(
            f"objective={config.objective} learns from ties, and no pair has probability .5; use bradley_terry"
        )
    return tokens, examples, account


def _split(
    data: Data, examples: list[Graded], tokens: Tokenized, config: Config, job: Job
) -> tuple[list[Graded], list[Graded]]:
    """What is trained on and what is held out; raises UserError where a prompt would be both."""
    if not data.heldout_pairs:
        return held_out(examples, config, job.seed)
    aside, _ = encode_contests(data.heldout_pairs, tokens, config.limit, by_prompt=config.by_prompt)
    shared = {example.prompt for example in aside} & {example.prompt for example in examples}
    if shared:
        raise UserError(
            f"{len(shared):,} prompts of the held-out pairs are trained on too, which would flatter the reward model; hold "
            "out other prompts"
        )
    return examples, aside


def _notes(examples: Sequence[Graded], account: Account) -> tuple[str, ...]:
    pairs = sum(len(example.contests) for example in examples)
    grouped = (f"{pairs:,} pairs in {len(examples):,} prompts",) if pairs > len(examples) else ()
    return (*grouped, *account.notes())


if __name__ == "__main__":
    from trainers.launch import main

    raise SystemExit(main(Config, train))
