"""The engine of the offline trainers: ``transformers.Trainer`` with averages that do not depend on how a batch is split.

SFT, reward models and DPO differ in their examples and in their loss; everything else is here. A loss is a sum over items
(tokens for SFT, pairs for DPO) divided by the items of the whole optimizer step, over all micro-batches and processes, so
that 1 x 8 and 8 x 1 take the same step. Schedules, mixed precision, FSDP, DeepSpeed and resuming are the Trainer's own.

    engine = Engine(model=model, objective=objective, examples=examples, layout=layout, tokens=tokens,
                    settings=config, job=job, out=out)
    metrics = engine.run()
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import transformers
from accelerate import PartialState
from torch import Tensor, nn

from rlhf_eval.errors import UserError
from rlhf_eval.models.local.checkpoints import open_checkpoint, quiet
from rlhf_eval.stages.training import Job, Metrics, Plan
from trainers.adapters import Task, adapted, merged
from trainers.attention import adopted
from trainers.batch import Layout, collate
from trainers.data import E, Example, Limit, Tokenized
from trainers.saving import SaveClock
from trainers.threads import set_threads

LOGGED = ("loss", "learning_rate", "grad_norm", "epoch")
"""What of the Trainer's own scalars enters a row of metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every offline trainer can be told."""

    learning_rate: float = 1e-5
    """Peak learning rate."""
    epochs: float = 1.0
    """Passes over the data."""
    batch_size: int = 32
    """Examples an optimizer step, over all devices."""
    micro_batch: int = 0
    """Examples that pass a device at once; 0 takes as many as the batch holds."""
    max_length: int = 1024
    """Most tokens of a prompt with its answer."""
    too_long: Literal["cut", "refuse"] = "cut"
    """cut takes tokens from the left of the prompt; refuse names the first row that is too long."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    warmup: float = 0.1
    """Share of the steps over which the learning rate rises."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon takes far fewer steps where much must change: tiny models, new heads; its rates are about .01."""
    weight_decay: float = 0.0
    """Of the optimizer, times the learning rate."""
    adam_beta2: float = 0.999
    """Decay of AdamW's second moment; .95 follows a short training faster."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    attention: Literal["auto", "masked"] = "auto"
    """auto reads a batch as one row without padding or mask (flash attention on a GPU) where the model can; masked pads."""
    pack: int = 0
    """Of masked rows: fill each with several examples up to so many tokens; 0 gives each example its own."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the arithmetic; weights, heads and losses stay in float32. auto takes bfloat16 on a GPU."""
    checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""
    lora_rank: int = 0
    """Train a low-rank adapter of this rank instead of all weights; 0 trains all. It is merged when saved."""
    lora_alpha: float = 0.0
    """Scale of the adapter; 0 takes twice the rank."""
    threads: int = 0
    """CPU threads of torch; 0 takes one for models under 10 million weights, else torch's own number."""
    log_every: int = 10
    """Steps between two rows of metrics."""
    eval_share: float = 0.0
    """Share of the examples held out and measured at every ``eval_every`` steps."""
    eval_every: int = 0
    """Steps between two measurements on what is held out; 0 measures at the end of each epoch."""
    save_minutes: float = 1.0
    """Minutes between two states to resume from; more where saving would else take over a twentieth of the time."""
    save_every: int = 0
    """Steps between two further states; 0 goes by the clock alone."""

    def __post_init__(self) -> None:
        positive = ("learning_rate", "epochs", "batch_size", "max_length", "log_every", "save_minutes")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be over 0")
        if min(self.micro_batch, self.pack, self.lora_rank, self.eval_every, self.save_every, self.threads) < 0:
            raise ValueError("micro_batch, pack, lora_rank, eval_every, save_every and threads must be at least 0")
        if not 0 <= self.warmup < 1 or not 0 <= self.eval_share < 1:
            raise ValueError("warmup and eval_share are shares in [0, 1)")

    @property
    def limit(self) -> Limit:
        """What happens to long rows."""
        return Limit(max_length=self.max_length, too_long=self.too_long)


class Terms(NamedTuple):
    """What an objective makes of a batch."""

    loss: Tensor
    """Sum over the items, a float32 scalar."""
    stats: Mapping[str, Tensor] = {}
    """Further scalars by name, each a tensor of values whose mean is logged."""


Objective = Callable[[nn.Module, Mapping[str, Tensor]], Terms]
"""``(model, batch) -> Terms``; the batch is what ``collate`` and the trainer's own collator made."""


@dataclass(slots=True)
class Sums:
    """Sums and counts by name, over the micro-batches since the last row of metrics.

    The sums stay on the device until they are asked for: reading one makes the host wait for all that the device has to do.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, name: str, values: Tensor, count: int | None = None) -> None:
        """Add values of a statistic, by default as many as they are."""
        total = values.detach().double().sum()
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.counts[name] += values.numel() if count is None else count

    def means(self, accelerator: Any) -> dict[str, float]:
        """The means over all processes; starts anew."""
        names = sorted(self.sums)
        sums = torch.stack([self.sums[n] for n in names]).cpu() if names else torch.zeros(0)
        table = torch.stack([sums, sums.new_tensor([self.counts[n] for n in names])], 1)
        if names and accelerator.num_processes > 1:
            table = accelerator.reduce(table.to(accelerator.device, torch.float32), "sum").cpu().double()
        self.sums.clear()
        self.counts.clear()
        return {name: float(total / count) for name, (total, count) in zip(names, table, strict=True)}


class Engine(transformers.Trainer):  # type: ignore[misc]
    """Trains ``model`` by ``objective`` on examples, and leaves a checkpoint, metrics and a state to resume from."""

    def __init__(
        self,
        *,
        model: nn.Module,
        objective: Objective,
        examples: Sequence[Example],
        tokens: Tokenized,
        settings: Settings,
        job: Job,
        out: Path,
        layout: Layout,
        items: Callable[[Mapping[str, Any]], int],
        heldout: Sequence[Example] = (),
    ) -> None:
        self.objective, self.job, self.settings, self.out, self.items = objective, job, settings, out, items
        self.sums = Sums()
        self.started = time.monotonic()
        self.final: dict[str, float] = {}
        self.clock = SaveClock(settings.save_minutes)
        self.stop = self.due = False
        self.unread: list[tuple[int, Tensor, Sequence[str]]] = []
        """Step, loss and rows of micro-batches whose loss nobody has looked at yet."""

        def collator(batch: Sequence[Example]) -> dict[str, Tensor]:
            return collate(batch, layout, pad=tokens.pad)

        with quiet():
            super().__init__(
                model=model,
                args=arguments(settings, job, out, len(examples), evaluates=bool(heldout)),
                data_collator=collator,
                train_dataset=list(examples),
                eval_dataset=list(heldout) or None,
                callbacks=[_Steps(self)],
            )
        self.remove_callback(transformers.trainer_callback.ProgressCallback)
        self.remove_callback(transformers.trainer_callback.PrinterCallback)
        self.tokens = tokens
        # The loss is divided by the items of the whole step here; the Trainer must not divide it again.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

    def run(self, notes: tuple[str, ...] = ()) -> Metrics:
        """Train, from where an earlier process stopped if there is one, and save; raises UserError on a loss of NaN."""
        with quiet():
            self.train(resume_from_checkpoint=state_of(self.out))
        self.look()
        stopped = self.stop and self.state.global_step < self.state.max_steps
        if not stopped:
            with quiet():
                self.save_final(self.out / "checkpoint")
        return Metrics(
            steps=self.state.global_step,
            rows=len(self.train_dataset),
            tokens=int(self.state.num_input_tokens_seen),
            seconds=time.monotonic() - self.started,
            final=self.final,
            notes=notes,
            stopped=stopped,
        )

    def save_final(self, folder: Path) -> None:
        """The trained model as a standard checkpoint, adapters merged, with its tokenizer."""
        model = self.accelerator.unwrap_model(self.model)
        if (whole := merged(model)) is model:
            self.save_model(str(folder))
        elif self.is_world_process_zero():
            whole.save_pretrained(folder)
        if self.is_world_process_zero():
            self.tokens.tokenizer.save_pretrained(folder)

    def create_optimizer(self, *given: Any) -> Any:
        """AdamW as the Trainer makes it, or Muon."""
        if self.settings.optimizer == "muon" and getattr(self, "optimizer", None) is None:
            from trainers.muon import Muon

            self.optimizer = Muon(self.model, self.settings.learning_rate, self.settings.weight_decay)
        return super().create_optimizer(*given)

    # What the Trainer calls -------------------------------------------------------------------------------------------

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of one optimizer step, and how many items they hold over all processes."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        # Here, and not as they arise: the host has by now prepared what comes next while the device was at work.
        self.look()
        if not batches:
            return [], None
        items, tokens = sum(map(self.items, batches)), sum(batch["tokens"] for batch in batches)
        stop, due = self.job.stopping(), self.clock.due() and self.is_world_process_zero()
        if self.accelerator.num_processes > 1:
            mine = torch.tensor([items, tokens, stop, due], dtype=torch.int64, device=device)
            items, tokens, stop, due = self.accelerator.reduce(mine, "sum").tolist()
        self.state.num_input_tokens_seen += tokens
        self.stop, self.due = self.stop or bool(stop), bool(due)
        return batches, items

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective's sum over the items of the step."""
        terms = self.objective(model, inputs)
        self.unread.append((self.state.global_step + 1, terms.loss.detach(), inputs["id"]))
        for name, values in terms.stats.items():
            self.sums.add(name, values)
        loss = terms.loss / num_items_in_batch * self.accelerator.num_processes
        return (loss, {}) if return_outputs else loss

    def look(self) -> None:
        """Raises UserError, naming the step and its rows, where a loss is not finite."""
        if self.unread and not torch.isfinite(torch.stack([loss for _, loss, _ in self.unread])).all():
            step, loss, rows = next(entry for entry in self.unread if not torch.isfinite(entry[1]))
            kept = state_of(self.out)
            good = f"; the state of step {kept.rpartition('-')[2]} is kept in {Path(kept).parent}" if kept else ""
            raise UserError(
                f"the loss is {loss.item()} at step {step} (rows {', '.join(rows[:8])}): look at these rows, or lower "
                f"learning_rate{good}"
            )
        self.unread.clear()

    def _save_checkpoint(self, *given: Any) -> None:
        self.look()
        with self.clock.saving():
            super()._save_checkpoint(*given)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Means of the objective's statistics over what is held out, logged as a row of split ``eval``."""
        sums = Sums()
        self.model.eval()
        with torch.no_grad():
            for batch in self.get_eval_dataloader():
                terms = self.objective(self.model, self._prepare_inputs(batch))
                for name, values in {**terms.stats, "loss": terms.loss}.items():
                    sums.add(name, values, self.items(batch) if name == "loss" else None)
        self.model.train()
        found = sums.means(self.accelerator)
        self._row("eval", found)
        return {f"eval_{name}": value for name, value in found.items()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One row of metrics: the Trainer's scalars and the means of the objective's statistics."""
        super().log(logs, start_time)
        if "loss" in logs:
            self.look()
            wanted = {name: logs[name] for name in LOGGED if name in logs}
            self._row("train", {**wanted, **self.sums.means(self.accelerator)})

    def _row(self, split: str, values: Mapping[str, float]) -> None:
        if not self.is_world_process_zero():
            return
        prefix = "" if split == "train" else "eval_"
        self.final.update({f"{prefix}{name}": float(value) for name, value in values.items()})
        self.job.log({
            "step": self.state.global_step,
            "split": split,
            "seconds": time.monotonic() - self.started,
            "tokens": int(self.state.num_input_tokens_seen),
            **{name: float(value) for name, value in values.items()},
        })  # fmt: skip


class _Steps(transformers.TrainerCallback):  # type: ignore[misc]
    """At the end of a step: logs the last whatever its number, saves when it is time, ends the training when asked to."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_log = control.should_log or state.global_step == state.max_steps
        if state.global_step < state.max_steps:
            control.should_training_stop = self.engine.stop
            control.should_save = control.should_save or self.engine.stop or self.engine.due
        return control


def arguments(settings: Settings, job: Job, out: Path, rows: int, *, evaluates: bool) -> Any:
    """The Trainer's own settings; raises UserError where the batch cannot be split over the devices."""
    world = PartialState(cpu=not torch.cuda.is_available()).num_processes
    micro, accumulate = split_batch(settings, world)
    every = settings.eval_every
    steps = steps_of(settings, rows)
    made = transformers.TrainingArguments(
        output_dir=str(out / "steps"),
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=accumulate,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=math.ceil(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=settings.max_grad_norm,
        bf16=uses_bfloat16(settings),
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=settings.checkpointing,
        logging_steps=settings.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy=("steps" if every else "epoch") if evaluates else "no",
        eval_steps=every or None,
        save_strategy="steps" if settings.save_every else "no",
        save_steps=settings.save_every or 1,
        save_total_limit=1,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        seed=job.seed,
        data_seed=job.seed,
        average_tokens_across_devices=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
    )
    made._n_gpu = min(made.n_gpu, 1)  # one process a GPU: torch's DataParallel would split a batch by its rows
    return made


def split_batch(settings: Settings, world: int) -> tuple[int, int]:
    """Examples a device and forward, and forwards a step; raises UserError where they do not make up the batch."""
    each, rest = divmod(settings.batch_size, world)
    if rest:
        raise UserError(f"batch_size is {settings.batch_size}, which {world} processes cannot share evenly")
    micro = min(settings.micro_batch or each, each)
    if each % micro:
        raise UserError(f"micro_batch is {micro}, which does not divide the {each} examples of a device and step")
    return micro, each // micro


def steps_of(settings: Settings, rows: int) -> int:
    """Optimizer steps of the whole training."""
    return max(1, math.ceil(math.ceil(rows / settings.batch_size) * settings.epochs))


def state_of(out: Path) -> str | None:
    """The newest state that an earlier process left to resume from, if it did; one that it was killed over is none."""

    def whole(folder: Path) -> bool:
        try:  # what the Trainer writes last
            return bool(json.loads((folder / "trainer_state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return False

    states = sorted((out / "steps").glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    return next((str(folder) for folder in reversed(states) if whole(folder)), None)


def place(model: Any) -> Any:
    """The model on the device of this process."""
    return model.to(PartialState(cpu=not torch.cuda.is_available()).device)


def autocast(settings: Settings) -> Any:
    """The arithmetic of ``settings``, for forwards outside the Trainer."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, dtype=torch.bfloat16, enabled=uses_bfloat16(settings))


def uses_bfloat16(settings: Settings) -> bool:
    """Whether the arithmetic is in bfloat16."""
    return settings.precision == "bfloat16" or (settings.precision == "auto" and torch.cuda.is_available())


def prepared(model: Any, settings: Settings, task: Task = "CAUSAL_LM") -> Any:
    """The model with its adapter, if it is to have one, and torch's threads set."""
    set_threads(model, settings.threads, on_cpu=not torch.cuda.is_available())
    if settings.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if not settings.lora_rank:
        return model
    return adapted(model, rank=settings.lora_rank, alpha=settings.lora_alpha, task=task)


def layout_of(model: Any, settings: Settings, *, share: bool = True) -> Layout:
    """How examples lie in the rows that ``model`` reads, before it is wrapped: flat where it can attend so."""
    if settings.attention == "auto" and adopted(model, bfloat16=uses_bfloat16(settings)):
        return Layout(share=share, flat=True)
    # The mask of a padded row knows no sliding window, so that a row which is longer than one must hold one sequence.
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    together = not window or window >= settings.max_length
    return Layout(
        share=share and together,
        pack=settings.pack if together else 0,
        additive=model.config._attn_implementation == "eager",
    )


def held_out(examples: Sequence[E], settings: Settings, seed: int) -> tuple[list[E], list[E]]:
    """What is trained on, and what is held out: by prompt, so that no answer to a held-out prompt is trained on."""
    if not settings.eval_share:
        return list(examples), []
    prompts = sorted({example.prompt for example in examples})
    random.Random(seed).shuffle(prompts)
    aside = set(prompts[: max(1, round(settings.eval_share * len(prompts)))])
    kept = [example for example in examples if example.prompt not in aside]
    if not kept:
        raise UserError(f"eval_share is {settings.eval_share}, which leaves nothing to train on")
    return kept, [example for example in examples if example.prompt in aside]


def plan_of(
    examples: Sequence[Example], model: str, settings: Settings, *, references: int = 0, notes: tuple[str, ...] = ()
) -> Plan:
    """Rows, tokens, steps and a memory estimate, from the examples and the config of ``model`` alone."""
    config = open_checkpoint(model, scheme="hf").config
    parameters = count_parameters(config)
    micro, _ = split_batch(settings, 1)
    longest = max(map(len, examples))
    tokens = sum(len(e.prompt) * len(e.answers) + sum(map(len, e.answers)) for e in examples)
    text = config.get_text_config()
    width = text.hidden_size * text.num_hidden_layers
    # About 34 bytes a token, layer and unit of width in half precision (Korthikanti et al., arXiv 2205.05198, without the
    # quadratic part, which fused attention does not keep), twice that in float32; checkpointing keeps layer inputs only.
    a_token = width * (2 if settings.checkpointing else 34) * (1 if uses_bfloat16(settings) else 2)
    trained = 16 if not settings.lora_rank else 4
    memory = parameters * (trained + 4 * references) + micro * longest * len(examples[0].answers) * a_token
    return Plan(
        rows=len(examples),
        tokens=tokens,
        steps=steps_of(settings, len(examples)),
        memory=memory,
        parameters=parameters,
        notes=(*notes, f"the longest row has {longest:,} tokens"),
    )


def count_parameters(config: Any) -> int:
    """Weights of the causal language model that a config describes, without making it."""
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in model.parameters())
