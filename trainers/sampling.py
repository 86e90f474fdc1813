"""Samplers: what draws completions from the policy while it learns, and takes in its new weights.

The one on transformers reads the live model itself, the one on vLLM has the weights copied into its engine. What sample k
of a prompt draws depends on its key alone, so a resumed training run draws what the uninterrupted one would have drawn.

    sampler = HfSampler(model, ends=frozenset({1}))
    drawn = sampler.sample([Ask(prompt=[5, 6], keys=("0a1b...",))], temperature=1.0, max_tokens=32)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

from rlhf_eval.models.local.checkpoints import need
from rlhf_eval.models.local.decoding import Decoder
from rlhf_eval.models.local.rows import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One prompt, and a hexadecimal name of the random stream of each completion wanted."""

    prompt: list[int]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One completion: its tokens, the end mark included, since the policy chose that too."""

    ids: list[int]
    ended: bool
    """Whether the end mark was drawn; if not, the completion was cut off."""
    logps: list[float] | None = None
    """The sampler's own log-probabilities, where its arithmetic is not the trainer's."""


class Sampler(Protocol):
    """What draws completions."""

    def sample(self, asks: Sequence[Ask], *, temperature: float, max_tokens: int) -> list[list[Drawn]]:
        """The completions of each prompt, in the order of its keys."""
        ...

    def reload(self, weights: Mapping[str, Tensor]) -> None:
        """Take in the policy's weights after an update."""
        ...


class HfSampler:
    """Batched generation with a key-value cache, by the live model: there is nothing to reload."""

    def __init__(
        self, model: Any, *, ends: frozenset[int], batch_size: int = 256, budget: int = 1 << 18, bf16: bool = False
    ) -> None:
        self._model, self._ends, self._bf16 = model, ends, bf16
        self._batch_size, self._budget = batch_size, budget

    def sample(self, asks: Sequence[Ask], *, temperature: float, max_tokens: int) -> list[list[Drawn]]:
        """Draw with continuous batching; see ``rlhf_eval.models.local.decoding``."""
        # The decoder drops end marks that it knows of, so it is told of none: an end mark is a stop among the tokens.
        decoder = Decoder(
            self._model,
            eos=frozenset(),
            batch_size=self._batch_size,
            budget=self._budget,
            stopped=lambda ids, _: ids[-1] in self._ends,
        )
        tasks = [
            [
                Task(prompt=ask.prompt, keys=part, most=max_tokens, temperature=temperature, stop=("end",))
                for part in _parts(ask.keys, self._batch_size)
            ]
            for ask in asks
        ]
        decoder.add(task for group in tasks for task in group)
        self._model.eval()
        with torch.autocast(self._model.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            while decoder.busy:
                decoder.step()
        rows = [[row for task in group for row in task.future.result()] for group in tasks]
        return [[Drawn(ids=row.ids, ended=row.finish == "stop") for row in group] for group in rows]

    def reload(self, weights: Mapping[str, Tensor]) -> None:
        """Nothing to do: the model that draws is the model that learns."""


class VllmSampler:
    """Generation by a vLLM engine in this process, with its weights replaced after every update.

    The engine runs in the trainer's own process (``VLLM_ENABLE_V1_MULTIPROCESSING=0``), so that weights are copied from
    memory to memory. It rounds differently from the trainer; its log-probabilities come along, for the trainer to weigh.
    """

    def __init__(self, folder: str, *, ends: frozenset[int], memory: float = 0.3, dtype: str = "auto") -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # read as vLLM is imported
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        vllm = need("vllm", "the sampler vllm")
        self._ends = sorted(ends)
        self._engine = vllm.LLM(
            model=folder, dtype=dtype, gpu_memory_utilization=memory, enable_prefix_caching=True, disable_log_stats=True
        )

    def sample(self, asks: Sequence[Ask], *, temperature: float, max_tokens: int) -> list[list[Drawn]]:
        """Draw each completion as a request with a seed of its own."""
        vllm = need("vllm", "the sampler vllm")
        keys = [(ask.prompt, key) for ask in asks for key in ask.keys]
        params = [
            vllm.SamplingParams(
                temperature=temperature,
                max_tokens=max_tokens,
                seed=int(key[:15], 16),
                stop_token_ids=self._ends,
                logprobs=0,
                detokenize=False,
            )
            for _, key in keys
        ]
        outputs = self._engine.generate(
            [{"prompt_token_ids": prompt} for prompt, _ in keys], sampling_params=params, use_tqdm=False
        )
        drawn = iter([_from_vllm(output.outputs[0], temperature) for output in outputs])
        return [list(islice(drawn, len(ask.keys))) for ask in asks]

    def reload(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the policy's weights into the engine, and forget what it had cached under the old ones."""
        live = ((name, value.detach()) for name, value in weights.items())
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": live})
        # A head that shares the embedding's weights is not packed anew with it (seen on the CPU, vLLM 0.32).
        head = self._engine.llm_engine.model_executor.driver_worker.model_runner.model.lm_head
        head.quant_method.process_weights_after_loading(head)
        self._engine.reset_prefix_cache()


def _from_vllm(output: Any, temperature: float) -> Drawn:
    ids = list(output.token_ids)
    logps = [chances[token].logprob for token, chances in zip(ids, output.logprobs, strict=True)]
    # vLLM reports log-probabilities at temperature 1; the trainer's are those of the distribution that was drawn from.
    return Drawn(ids=ids, ended=output.finish_reason == "stop", logps=logps if temperature == 1 else None)


def _parts(keys: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
