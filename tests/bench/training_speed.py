"""Training speed and memory beside TRL's: same model, rows, batch and precision, each case in a process of its own.

    python tests/bench/training_speed.py                                      # a small model on this CPU, some minutes
    python tests/bench/training_speed.py --device cuda --out speed.json       # 1.2 billion weights in bfloat16: one GPU of
                                                                              # 80 GB, unattended, under 5 minutes
    python tests/bench/training_speed.py --device cuda --every-way --batch 8  # longer, and TRL may run out of memory

Rows are ragged and of two shapes: ``judge`` (a long prompt, two short answers) and ``chat`` (short prompts, long answers).
Tokens a second count every sequence without padding, a pair's prompt twice, whoever computes it, over the median time of a
step after the warm-up; on a CPU that is the processor's time. A reference that is read beforehand is timed by itself, warm;
``with ref`` shares it out over one epoch. Memory is the peak of the CUDA allocator, or of the process on a CPU. ``off by``
compares the losses of our ways, which are the same numbers by different kernels. Without TRL its cases are left out; a case
that fails is named, the rest go on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent.parent.parent
WARMUP = 3
"""Steps before the clock starts."""
LOGGED = 5
"""Steps between two rows of metrics, for ours and for TRL's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model and rows that fit a machine."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int
    judge: tuple[tuple[int, int], tuple[int, int]]
    """Tokens of prompt and answer, least and most."""
    chat: tuple[tuple[int, int], tuple[int, int]]
    rows: int
    batch: int
    pack: Mapping[str, int]
    """Shape to the tokens of a packed row."""


SIZES = {
    "tiny": Size(
        layers=2, width=64, inner=128, heads=4, kv_heads=2, vocabulary=1000, judge=((60, 200), (6, 20)),
        chat=((10, 40), (30, 100)), rows=32, batch=4, pack={"judge": 512, "chat": 256},
    ),
    "cpu": Size(
        layers=6, width=256, inner=768, heads=8, kv_heads=4, vocabulary=16000, judge=((100, 400), (8, 32)),
        chat=((10, 60), (30, 200)), rows=64, batch=8, pack={"judge": 512, "chat": 512},
    ),
    "1b": Size(
        layers=16, width=2048, inner=8192, heads=32, kv_heads=8, vocabulary=128256, judge=((400, 1600), (16, 96)),
        chat=((40, 400), (100, 800)), rows=60, batch=4, pack={"judge": 2048, "chat": 2048},
    ),
}  # fmt: skip

CASES = {
    "sft": ("chat", ("ours", "trl", "ours masked", "ours packed")),
    "dpo": ("judge", ("ours", "ours masked", "trl", "ours packed", "ours unshared", "ours copy", "trl precomputed")),
    "rm": ("judge", ("ours", "trl", "ours masked", "ours packed")),
}
"""Trainer to the shape of its rows and the ways to train on them; without --every-way those up to TRL's."""
LIMIT = 150
"""Seconds that a case may take on a GPU."""


def main() -> int:
    options = _options()
    if options.case:
        return _case(options)
    size = _size(options)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run(
            [sys.executable, __file__, *_forwarded(options, folder), "--case", "prepare"], check=True, env=_env()
        )
        rows = list(_measured(options, folder))
    print(
        f"{_machine(options.device)}; {options.size}, {size.rows} rows, batches of {size.batch}, {_precision(options)}"
    )
    print(_table(rows))
    if options.out:
        Path(options.out).write_text(json.dumps({"size": options.size, "rows": rows}, indent=2), encoding="utf-8")
    return 0


def _measured(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    with_trl = importlib.util.find_spec("trl") is not None
    for trainer, (_, ways) in CASES.items():
        if options.only and trainer not in options.only.split(","):
            continue
        wanted = options.ways.split(",") if options.ways else ways if options.every_way else _usual(ways)
        for way in wanted:
            if way.startswith("trl") and not with_trl:
                print(f"{trainer} {way}: left out, trl is not installed", file=sys.stderr)
                continue
            command = [sys.executable, __file__, *_forwarded(options, folder), "--case", f"{trainer}:{way}"]
            limit = LIMIT if options.device == "cuda" else None
            try:
                done = subprocess.run(command, capture_output=True, text=True, env=_env(), timeout=limit, check=True)
            except subprocess.TimeoutExpired:
                print(f"{trainer} {way}: failed, still at it after {limit} s", file=sys.stderr)
                continue
            except subprocess.CalledProcessError as error:
                print(f"{trainer} {way}: failed\n{error.stderr[-2500:]}", file=sys.stderr)
                continue
            found = json.loads(done.stdout.strip().splitlines()[-1])
            print(f"{trainer} {way}: {found['tokens_per_second']:,.0f} tok/s", file=sys.stderr, flush=True)
            yield {"trainer": trainer, "way": way, **found}


def _usual(ways: Sequence[str]) -> Sequence[str]:
    return ways[: ways.index("trl") + 1]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=SIZES, help="default: cpu on a CPU, 1b on a GPU")
    parser.add_argument("--only", default="", help="trainers to measure, by commas: sft,dpo,rm")
    parser.add_argument("--ways", default="", help="ways to measure, by commas: ours,ours packed,trl (default: all)")
    parser.add_argument("--every-way", action="store_true", help="measure every way")
    parser.add_argument("--rows", type=int, help="rows of data")
    parser.add_argument("--batch", type=int, help="rows a step")
    parser.add_argument("--pack", type=int, help="tokens of a packed row")
    parser.add_argument("--out", help="also write the numbers as JSON")
    parser.add_argument("--case", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.size = options.size or ("1b" if options.device == "cuda" else "cpu")
    return options


def _size(options: argparse.Namespace) -> Size:
    size = SIZES[options.size]
    pack = dict.fromkeys(size.pack, options.pack) if options.pack else size.pack
    return replace(size, rows=options.rows or size.rows, batch=options.batch or size.batch, pack=pack)


def _forwarded(options: argparse.Namespace, folder: Path) -> list[str]:
    size = _size(options)
    flags = ["--device", options.device, "--size", options.size, "--rows", str(size.rows), "--batch", str(size.batch)]
    return [*flags, *(["--pack", str(options.pack)] if options.pack else []), "--folder", str(folder)]


def _env() -> dict[str, str]:
    path = os.pathsep.join([str(HOME), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    return {
        **os.environ,
        "PYTHONPATH": path,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "WANDB_MODE": "disabled",
    }


def _precision(options: argparse.Namespace) -> str:
    return "bfloat16 over float32 weights" if options.device == "cuda" else "float32"


# One case, in its own process --------------------------------------------------------------------------------------------


def _case(options: argparse.Namespace) -> int:
    folder, size = Path(options.folder), _size(options)
    if options.case == "prepare":
        _prepare(folder, size, options.device)
        return 0
    import torch
    import transformers

    trainer, way = options.case.split(":")
    clock = _Clock(options.device)
    original = transformers.Trainer.__init__

    def timed(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.add_callback(clock.callback())

    transformers.Trainer.__init__ = timed
    shape = CASES[trainer][0]
    rows = json.loads((folder / f"{shape}.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(dir=folder) as out:
        (_trl if way.startswith("trl") else _ours)(
            trainer, way, rows, folder, size, Path(out), options.device, clock, shape
        )
    tokens = sum(_tokens(row, trainer) for row in rows) / len(rows) * size.batch
    times = clock.times()[WARMUP - 1 :]
    seconds, before = statistics.median(times), clock.before * size.batch / len(rows)
    memory = (
        torch.cuda.max_memory_allocated()
        if options.device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    print(json.dumps({
        "tokens_per_second": tokens / seconds, "with_reference": tokens / (seconds + before), "step_ms": 1000 * seconds,
        "steps": len(times), "memory": memory, "losses": clock.losses,
    }))  # fmt: skip
    return 0


class _Clock:
    """When steps ended, what they lost, and how long the reference took beforehand.

    On a GPU the device keeps the time: to ask it at every step would make the host wait where it need not. On a CPU it is
    the processor's time, all threads, whatever else the machine does.
    """

    def __init__(self, device: str) -> None:
        self.device, self.ends, self.losses, self.before = device, [], [], 0.0

    def mark(self) -> None:
        """The end of a step."""
        if self.device == "cuda":
            import torch

            self.ends.append(torch.cuda.Event(enable_timing=True))
            self.ends[-1].record()
        else:
            self.ends.append(time.process_time())

    def times(self) -> list[float]:
        """Seconds from each step's end to the next one's."""
        self.now()
        pairs = zip(self.ends, self.ends[1:], strict=False)
        return [a.elapsed_time(b) / 1000 if self.device == "cuda" else b - a for a, b in pairs]

    def now(self) -> float:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def callback(self) -> Any:
        import transformers

        clock = self

        class Callback(transformers.TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock.mark()

            def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
                if "loss" in logs:
                    clock.losses.append(round(float(logs["loss"]), 5))

        return Callback()


def _tokens(row: Mapping[str, Any], trainer: str) -> int:
    if trainer == "sft":
        return len(row["prompt"].split()) + len(row["chosen"].split()) + 3
    return 2 * len(row["prompt"].split()) + len(row["chosen"].split()) + len(row["rejected"].split()) + 6


def _prepare(folder: Path, size: Size, device: str) -> None:
    """A model of random weights with a tokenizer of one token a word, and the rows of both shapes."""
    import numpy as np
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<pad>", "</s>", "<|user|>", "<|assistant|>", "<unk>"]
    words = [f"w{i}" for i in range(min(size.vocabulary, 30_000) - len(specials))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*specials, *words])}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens(specials)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }}"
        "{% if m['role'] == 'assistant' %} </s>{% else %} {% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|> {% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary, hidden_size=size.width, intermediate_size=size.inner, num_hidden_layers=size.layers,
        num_attention_heads=size.heads, num_key_value_heads=size.kv_heads, max_position_embeddings=8192, pad_token_id=0,
        eos_token_id=1, bos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device(device):
        LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    draw = np.random.default_rng(0)

    def text(least: int, most: int) -> str:
        return " ".join(f"w{i}" for i in draw.integers(0, len(words), draw.integers(least, most)))

    for shape in ("judge", "chat"):
        asked, answered = getattr(size, shape)
        rows = [
            {"prompt": text(*asked), "chosen": text(*answered), "rejected": text(*answered)} for _ in range(size.rows)
        ]
        (folder / f"{shape}.json").write_text(json.dumps(rows), encoding="utf-8")


def _ours(
    trainer: str, way: str, rows: Any, folder: Path, size: Size, out: Path, device: str, clock: _Clock, shape: str
) -> None:
    from rlhf_eval.records import Completion, Demonstration, PreferencePair, Prompt
    from rlhf_eval.stages.training import Data, Job

    pairs, demonstrations = [], []
    for row in rows:
        prompt = Prompt.of(row["prompt"])
        sides = [
            Completion.of(prompt_id=prompt.id, model="m", text=row[k], sample=i)
            for i, k in enumerate(("chosen", "rejected"))
        ]
        pairs.append(
            PreferencePair.of(
                prompt=prompt,
                chosen=sides[0],
                rejected=sides[1],
                probability=1.0,
                margin=1.0,
                labeler="bench",
                rule="bench",
            )
        )
        demonstrations.append(
            Demonstration.of(prompt=prompt, completion=sides[0], score=1.0, labeler="bench", rule="bench")
        )
    shared = {
        "batch_size": size.batch, "max_length": 8192, "learning_rate": 1e-6, "log_every": LOGGED, "warmup": 0.0,
        "schedule": "constant", "save_minutes": 1e9, "pack": size.pack[shape] if "packed" in way else 0,
        "attention": "masked" if way in ("ours masked", "ours packed") else "auto",
        "precision": "bfloat16" if device == "cuda" else "float32",
    }  # fmt: skip
    job = Job(model=str(folder / "model"), cache=None)
    if trainer == "sft":
        from trainers import sft

        sft.train(Data(demonstrations=tuple(demonstrations)), out, sft.Config(**shared), job)
    elif trainer == "rm":
        from trainers import reward_model

        reward_model.train(Data(pairs=tuple(pairs)), out, reward_model.Config(**shared, center=0.0), job)
    else:
        from trainers import dpo

        computed = dpo.cached_reference

        def timed(model: Any, examples: Any, *rest: Any) -> Any:
            computed(model, examples[: size.batch], *rest)  # warm
            args = (model, examples, *rest)
            start = clock.now()
            found = computed(*args)
            clock.before = clock.now() - start
            return found

        dpo.cached_reference = timed
        settings = {"share_prefix": "unshared" not in way, "reference": "copy" if "copy" in way else "auto"}
        dpo.train(Data(pairs=tuple(pairs)), out, dpo.Config(**shared, **settings), job)


def _trl(
    trainer: str, way: str, rows: Any, folder: Path, size: Size, out: Path, device: str, clock: _Clock, shape: str
) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer

    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    pairs = [
        {"prompt": turn("user", r["prompt"]), **{k: turn("assistant", r[k]) for k in ("chosen", "rejected")}}
        for r in rows
    ]
    model = str(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    shared = {
        "output_dir": str(out), "per_device_train_batch_size": size.batch, "num_train_epochs": 1, "learning_rate": 1e-6,
        "lr_scheduler_type": "constant", "logging_steps": LOGGED, "logging_first_step": True, "report_to": "none",
        "bf16": device == "cuda",
        "use_cpu": device == "cpu", "save_strategy": "no", "gradient_checkpointing": False, "max_length": 8192,
        "disable_tqdm": True,
    }  # fmt: skip
    if trainer == "sft":
        from trl import SFTConfig, SFTTrainer

        data = [{"prompt": r["prompt"], "completion": r["chosen"]} for r in pairs]
        made = SFTTrainer(
            model=model, args=SFTConfig(**shared), train_dataset=Dataset.from_list(data), processing_class=tokenizer
        )
    elif trainer == "rm":
        from trl import RewardConfig, RewardTrainer

        made = RewardTrainer(
            model=model, args=RewardConfig(**shared), train_dataset=Dataset.from_list(pairs), processing_class=tokenizer
        )
    else:
        from trl import DPOConfig, DPOTrainer

        start = clock.now()
        args = DPOConfig(**shared, precompute_ref_log_probs="precomputed" in way)
        made = DPOTrainer(model=model, args=args, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer)
        if "precomputed" in way:
            made.get_train_dataloader()  # some versions compute the reference here, others while they are made
            clock.before = clock.now() - start
    made.train()


# The table -------------------------------------------------------------------------------------------------------------


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'trainer':8} {'way':16} {'tok/s':>8} {'x TRL':>6} {'with ref':>8} {'x TRL':>6} {'ms/step':>8} {'MiB':>7} "
        f"{'x TRL':>6} {'off by':>8}  first loss"
    ]
    found = {(r["trainer"], r["way"]): r for r in rows}
    for r in rows:
        trl, ours = found.get((r["trainer"], "trl")), found.get((r["trainer"], "ours"))
        speed, with_ref, memory = (_ratio(r, trl, name) for name in ("tokens_per_second", "with_reference", "memory"))
        off = "-"
        if ours and r is not ours and r["way"].startswith("ours"):
            off = f"{max(abs(a - b) for a, b in zip(r['losses'], ours['losses'], strict=True)):.5f}"
        lines.append(
            f"{r['trainer']:8} {r['way']:16} {r['tokens_per_second']:8,.0f} {speed:>6} {r['with_reference']:8,.0f} "
            f"{with_ref:>6} {r['step_ms']:8,.1f} {r['memory'] / 2**20:7,.0f} {memory:>6} {off:>8}  {r['losses'][0]:.4f}"
        )
    return "\n".join(lines)


def _ratio(row: Mapping[str, Any], base: Mapping[str, Any] | None, name: str) -> str:
    return f"{row[name] / base[name]:.2f}" if base else "-"


def _machine(device: str) -> str:
    import torch

    where = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} CPU cores"
    return f"torch {torch.__version__}, {where}"


if __name__ == "__main__":
    raise SystemExit(main())
