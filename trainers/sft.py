"""Supervised fine-tuning: the negative log-likelihood of answers worth imitating, averaged over tokens.

Reads demonstrations (what ``pairs --rule top_per_prompt`` keeps), prompt-completion rows and conversations. Scored is
the answer, the last assistant turn, or every assistant turn.

    rlhf-eval train sft --model sandbox:policy --data latest:pairs
    accelerate launch -m trainers.sft --config sft.yaml
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from rlhf_eval.stages.training import Data, Job, Metrics, Plan
from trainers import losses
from trainers.batch import model_inputs
from trainers.data import Account, Example, Tokenized, encode_demonstrations
from trainers.engine import Engine, Settings, Terms, held_out, layout_of, plan_of, prepared
from trainers.logps import load_policy

READS = ("demonstrations",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Settings):
    """Settings of supervised fine-tuning."""

    train_on: Literal["completion", "final_turn", "all_turns"] = "completion"
    """The tokens that are learned: all after the prompt, the last assistant turn, or every assistant turn."""


def train(data: Data, out: Path, config: Config, job: Job) -> Metrics:
    """Fine-tune ``job.model`` on the demonstrations; the checkpoint lies in ``out/checkpoint``."""
    tokens, examples, account = _examples(data, config, job)
    kept, aside = held_out(examples, config, job.seed)
    model = load_policy(job.model)
    layout = layout_of(model, config)
    tokens.check_vocabulary(model.get_input_embeddings().num_embeddings)
    engine = Engine(
        model=prepared(model, config),
        objective=objective,
        examples=kept,
        heldout=aside,
        tokens=tokens,
        settings=config,
        job=job,
        out=out,
        layout=layout,
        items=lambda batch: len(batch["at"]),
    )
    return engine.run(notes=account.notes())


def plan(data: Data, config: Config, job: Job) -> Plan:
    """Rows, tokens, steps and memory, without loading the weights."""
    _, examples, account = _examples(data, config, job)
    kept, _ = held_out(examples, config, job.seed)
    return plan_of(kept, job.model, config, references=0, notes=account.notes())


def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> Terms:
    """The sum over the batch's tokens."""
    logps: Tensor = model(**model_inputs(batch)).logps
    return Terms(losses.nll(logps).sum(), {"nll": -logps})


def _examples(data: Data, config: Config, job: Job) -> tuple[Tokenized, list[Example], Account]:
    tokens = Tokenized.load(job.model)
    examples, account = encode_demonstrations(data.demonstrations, tokens, config.limit, config.train_on)
    return tokens, examples, account


if __name__ == "__main__":
    from trainers.launch import main

    raise SystemExit(main(Config, train))
