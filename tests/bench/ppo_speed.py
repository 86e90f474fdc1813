"""The time that PPO's update takes beside TRL's, whose last release with a PPO trainer is 1.12 (as ``trl.experimental``).

    pip download --no-deps trl==1.12.0 && unzip -d old-trl trl-1.12.0-*.whl     # beside the TRL of this environment
    python tests/bench/ppo_speed.py --old-trl old-trl
    python tests/bench/ppo_speed.py --old-trl old-trl --device cuda

Both train a random Llama with a critic of its own kind on the same prompts, of ragged lengths, and completions of one
length: two epochs of four minibatches over a rollout. Timed is the update alone (no sampling, scoring or advantages), by
the processor's clock on a CPU. Given is the median of the updates after the first, each way in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent.parent.parent
SIZES = {
    "cpu": {"layers": 2, "width": 128, "inner": 384, "heads": 4, "vocabulary": 4000, "prompt": (20, 120), "answer": 24},
    "1b": {
        "layers": 16, "width": 2048, "inner": 8192, "heads": 32, "vocabulary": 128256, "prompt": (100, 800), "answer": 128,
    },
}  # fmt: skip
ROWS, MINIBATCHES, EPOCHS, MICRO, UPDATES = 32, 4, 2, 8, 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--old-trl", help="a folder that holds TRL 1.12")
    parser.add_argument("--way", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = SIZES["1b" if options.device == "cuda" else "cpu"]
    if options.way:
        times = (_ours if options.way == "ours" else _trl)(Path(options.folder), size, options.device)
        print(json.dumps({"seconds": statistics.median(times[1:])}))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        _prepare(Path(folder), size)
        found = {}
        for way in ("ours", "trl") if options.old_trl else ("ours",):
            old = [options.old_trl] if way == "trl" else []
            env = {**os.environ, "PYTHONPATH": os.pathsep.join([*old, str(HOME)]), "HF_HUB_OFFLINE": "1"}
            command = [sys.executable, __file__, "--device", options.device, "--way", way, "--folder", folder]
            done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
            found[way] = json.loads(done.stdout.strip().splitlines()[-1])["seconds"]
            print(f"{way}: {found[way]:.3f} s an update of {EPOCHS} x {MINIBATCHES} steps over {ROWS} completions")
        if "trl" in found:
            print(f"ours takes {found['ours'] / found['trl']:.2f} of the time of TRL 1.12")
    return 0


class Stopwatch:
    def __init__(self, device: str) -> None:
        self.device, self.times, self._start = device, [], 0.0

    def start(self) -> None:
        self._start = self._now()

    def stop(self) -> None:
        self.times.append(self._now() - self._start)

    def _now(self) -> float:
        if self.device == "cpu":
            return time.process_time()
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()


def _prepare(folder: Path, size: dict[str, Any]) -> None:
    """The policy, a reward model of the same kind, a tokenizer of one token a word, and the prompts."""
    import numpy as np
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size["vocabulary"], hidden_size=size["width"], intermediate_size=size["inner"],
        num_hidden_layers=size["layers"], num_attention_heads=size["heads"], num_key_value_heads=size["heads"] // 4,
        max_position_embeddings=4096, pad_token_id=0, eos_token_id=1, bos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "policy")
    config.num_labels = 1
    LlamaForSequenceClassification(config).save_pretrained(folder / "reward")
    words = ["<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(min(size["vocabulary"], 30_000) - 3))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    for name in ("policy", "reward"):
        tokenizer.save_pretrained(folder / name)
    draw = np.random.default_rng(0)
    prompts = [" ".join(draw.choice(words[3:], draw.integers(*size["prompt"])).tolist()) for _ in range(ROWS * UPDATES)]
    (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")


def _ours(folder: Path, size: dict[str, Any], device: str) -> list[float]:
    from rlhf_eval.records import Prompt
    from rlhf_eval.stages.training import Data, Job
    from trainers import ppo
    from trainers.algorithms import Config

    watch, update = Stopwatch(device), ppo.Loop.update

    def timed(self: ppo.Loop, *given: Any) -> Any:
        watch.start()
        found = update(self, *given)
        watch.stop()
        return found

    ppo.Loop.update = timed  # type: ignore[method-assign]
    longest = size["prompt"][1] + size["answer"]
    config = Config(
        steps=UPDATES, prompts=ROWS, samples=1, epochs=EPOCHS, minibatches=MINIBATCHES, max_new_tokens=size["answer"],
        micro_batch_tokens=MICRO * longest, eval_prompts=0, bf16=device == "cuda", device=device, save_minutes=1e9,
    )  # fmt: skip
    texts = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    job = Job(model=str(folder / "policy"), reward=lambda prompts, _: [float(len(p.id)) for p in prompts])
    ppo.train(Data(prompts=tuple(Prompt.of(text) for text in texts)), folder / "out", config, job)
    return watch.times


def _trl(folder: Path, size: dict[str, Any], device: str) -> list[float]:
    import numpy as np
    import transformers
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    watch = Stopwatch(device)

    class Permutations:
        """Numpy as the trainer sees it: each epoch of an update begins with a permutation, the first starts the watch."""

        running = False
        ndarray = np.ndarray

        class random:
            @staticmethod
            def permutation(count: int) -> Any:
                if not Permutations.running:
                    Permutations.running = True
                    watch.start()
                return np.random.permutation(count)

    ppo_trainer.np = Permutations
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "policy", padding_side="left")
    reward, value = (
        transformers.AutoModelForSequenceClassification.from_pretrained(
            folder / "reward", num_labels=1, dtype="float32"
        )
        for _ in range(2)
    )
    policy, reference = (
        transformers.AutoModelForCausalLM.from_pretrained(folder / "policy", dtype="float32") for _ in range(2)
    )
    texts = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    args = PPOConfig(
        output_dir=str(folder / "out"), per_device_train_batch_size=ROWS,  # of a rollout; minibatches cut it
        gradient_accumulation_steps=1, num_mini_batches=MINIBATCHES, num_ppo_epochs=EPOCHS,
        total_episodes=ROWS * UPDATES, response_length=size["answer"], local_rollout_forward_batch_size=ROWS,
        num_sample_generations=0, report_to="none", bf16=device == "cuda", use_cpu=device == "cpu", save_strategy="no",
        gradient_checkpointing=False, logging_steps=1, learning_rate=1e-6, disable_tqdm=True,
    )  # fmt: skip
    trainer = PPOTrainer(
        args=args, processing_class=tokenizer, model=policy, ref_model=reference, reward_model=reward, value_model=value,
        train_dataset=Dataset.from_list([{"input_ids": tokenizer(text)["input_ids"]} for text in texts]),
    )  # fmt: skip
    gather = trainer.accelerator.gather_for_metrics

    def gathered(values: Any) -> Any:
        if Permutations.running:  # the first of what it logs once the update is over
            Permutations.running = False
            watch.stop()
        return gather(values)

    trainer.accelerator.gather_for_metrics = gathered
    trainer.train()
    return watch.times


if __name__ == "__main__":
    raise SystemExit(main())
