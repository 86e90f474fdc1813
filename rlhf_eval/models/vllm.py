"""A checkpoint in this process through vLLM's asynchronous engine: ``vllm:PATH``.

For the large runs: paged attention, prefix caching, tensor parallelism, LoRA adapters. Every sample is a request of its own
with a seed of its own (but for ``seeded=false``), so that sample k does not depend on how many are asked for; the prompt
that they share is read once, by prefix caching. vLLM computes in the checkpoint's precision, so a sample may differ in its
last bits with its company.

    model = VllmModel.load("Qwen/Qwen2.5-7B-Instruct", config=Config(tensor_parallel_size=2))
    reply = await model.chat(ChatRequest(messages=(Message("user", "Name three primes."),), n=4))
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

from rlhf_eval.errors import ModelUnavailable, RequestFailed, UserError
from rlhf_eval.models.base import ChatRequest, Choice, Conversation, Reply
from rlhf_eval.models.local.checkpoints import Checkpoint, fingerprint_folder, first_line, need, open_checkpoint
from rlhf_eval.models.local.tokens import TokenChance, Tokens
from rlhf_eval.models.local.worker import Home
from rlhf_eval.records import Usage, fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the vLLM door; what is 0 or empty is left to vLLM."""

    dtype: str = "auto"
    """auto, bfloat16, float16 or float32; vLLM's auto runs a float32 checkpoint in half precision."""
    max_model_len: int = 0
    """Longest prompt and answer together, in tokens; 0 takes the checkpoint's context."""
    tensor_parallel_size: int = 1
    """GPUs that share the model."""
    gpu_memory_utilization: float = 0.9
    """Share of each GPU's memory that vLLM may take."""
    kv_cache_gib: float = 0.0
    """Memory for the key-value cache, in GiB; 0 takes what is left."""
    max_num_seqs: int = 0
    """Most sequences in one batch."""
    quantization: str = ""
    """vLLM's name of a quantization, where the checkpoint does not say it."""
    enforce_eager: bool = False
    """Skip compilation and CUDA graphs: a quicker start, a slower run."""
    lora: str = ""
    """Folder of a LoRA adapter to apply to every request."""
    max_lora_rank: int = 64
    """Highest rank of the adapter."""
    seeded: bool = True
    """Draw each sample with a seed of its own, so that it can be drawn again; false lets vLLM draw a batch at once."""
    revision: str = ""
    """Branch, tag or commit of a hub name."""
    trust_remote_code: bool = False
    """Run model code that comes with the checkpoint."""


class VllmModel:
    """Answers or scores with a checkpoint that vLLM holds."""

    def __init__(self, *, name: str, checkpoint: Checkpoint, tokens: Tokens, config: Config) -> None:
        self.name = name
        self.kind = checkpoint.kind
        self.id = checkpoint.id if config.dtype == "auto" else f"{checkpoint.id}-{config.dtype}"
        if config.lora:
            self.id += f"+lora-{fingerprint_folder(Path(config.lora))}"
        self._seeded = config.seeded
        self.id += "" if config.seeded else "+unseeded"
        self._tokens = tokens
        self._ends = {checkpoint.config.get_text_config().eos_token_id, tokens.tokenizer.eos_token_id}
        self._numbers = count()
        self._lora = _lora(config.lora)
        self._home = Home()
        try:
            self._engine: Any = self._home.run(_start(checkpoint, config)).result()
        except Exception as error:  # whatever stops vLLM from starting, its first line says what
            self._home.stop()
            raise UserError(f"{name}: vLLM does not start: {first_line(error)} (its log above says more)") from error
        self.context = int(self._engine.model_config.max_model_len)

    @classmethod
    def load(cls, path: str, *, name: str | None = None, config: Config | None = None) -> Self:
        """Load the checkpoint at ``path``, a folder or a hub name.

        Raises UserError, in one line, on whatever keeps it from being loaded.
        """
        spec, wanted = name or f"vllm:{path}", config or Config()
        # vLLM reads this as it is imported; its start-up log is pages long.
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        need("vllm.sampling_params", spec)  # a folder called vllm would do for "vllm" alone
        if wanted.lora and not (Path(wanted.lora) / "adapter_config.json").is_file():
            raise UserError(f"{spec}: lora={wanted.lora} is no adapter folder: it has no adapter_config.json")
        checkpoint = open_checkpoint(
            path, scheme="vllm", revision=wanted.revision or None, trust_remote_code=wanted.trust_remote_code
        )
        return cls(name=spec, checkpoint=checkpoint, tokens=Tokens.of(checkpoint, spec), config=wanted)

    async def chat(self, request: ChatRequest) -> Reply:
        """Draw ``n`` answers.

        Log-probabilities are those of temperature 1, within ``choices`` where these are given. An answer that reaches the
        end of the context ends with ``length``. Raises RequestFailed ``context_overflow`` where the prompt leaves no room
        for any answer, UserError for a reward model.
        """
        self._expect("chat")
        prompt = self._tokens.render(request.messages, answer=True)
        room = self._room(len(prompt) + 1) + 1
        numbers = range(request.first_sample, request.first_sample + request.n)
        start = time.perf_counter()
        outputs = await asyncio.gather(*(self._draw(request, prompt, room, k) for k in numbers))
        return Reply(
            choices=tuple(self._choice(output, request) for output in outputs),
            usage=Usage(
                prompt_tokens=len(prompt),
                completion_tokens=sum(len(output.token_ids) for output in outputs),
                seconds=time.perf_counter() - start,
            ),
        )

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """The reward of each conversation: the one logit, or with two labels the log-odds of label 1.

        Raises RequestFailed ``context_overflow`` for a conversation that is too long, UserError for a language model.
        """
        from vllm import PoolingParams

        self._expect("score")
        rows = [self._tokens.render(conversation, answer=False) for conversation in conversations]
        self._room(max(map(len, rows), default=0))
        wanted = PoolingParams(task="classify", use_activation=False)
        outputs = await asyncio.gather(*(self._last("encode", row, wanted) for row in rows))
        logits = [output.outputs.data.double().tolist() for output in outputs]
        return [row[0] if len(row) == 1 else row[1] - row[0] for row in logits]

    async def logprobs(self, conversations: Sequence[Conversation]) -> list[float]:
        """The log-probability of each last turn, its end mark included, at temperature 1.

        vLLM reads a prompt's own log-probabilities only with a token to come, so a turn that fills the context fails with
        RequestFailed ``context_overflow``, as a longer one does. Raises UserError for a reward model.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._expect("chat")
        turns = [self._tokens.turn(conversation) for conversation in conversations]
        self._room(max((len(ids) + 1 for ids, _ in turns), default=0))
        wanted = SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=0, output_kind=RequestOutputKind.FINAL_ONLY
        )
        outputs = await asyncio.gather(*(self._last("generate", ids, wanted) for ids, _ in turns))
        return [
            sum(noted[token].logprob for token, noted in zip(ids[start:], output.prompt_logprobs[start:], strict=True))
            for (ids, start), output in zip(turns, outputs, strict=True)
        ]

    async def close(self) -> None:
        """End the engine's processes and give back its memory."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(self._home.stop, lambda: engine.shutdown(timeout=10))

    def _expect(self, kind: str) -> None:
        if self._engine is None:
            raise ModelUnavailable(f"{self.name} is closed")
        if kind != self.kind:
            does = (
                "scores conversations and cannot chat"
                if kind == "chat"
                else "chats and has no reward head to score with"
            )
            raise UserError(f"{self.name} {does}")

    def _room(self, length: int) -> int:
        if length > self.context:
            raise RequestFailed(
                "context_overflow", f"{length} tokens are needed; {self.name} takes {self.context} in all"
            )
        return self.context - length

    async def _draw(self, request: ChatRequest, prompt: list[int], room: int, k: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling = request.sampling
        seed = int(fingerprint(self.id, request.messages, sampling.seed, k)[:15], 16) if self._seeded else None
        params = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_tokens, room),
            stop=list(sampling.stop),
            seed=seed,
            logprobs=request.top_logprobs or None,
            structured_outputs=StructuredOutputsParams(choice=list(request.choices)) if request.choices else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = (await self._last("generate", prompt, params)).outputs[0]
        if output.finish_reason not in ("stop", "length"):
            raise RequestFailed("server", f"vLLM ended the answer with '{output.finish_reason}'")
        return output

    async def _last(self, verb: str, prompt: list[int], params: Any) -> Any:
        """The final output of a request to the engine."""
        from vllm.v1.engine.exceptions import EngineDeadError

        async def consume() -> Any:
            stream = getattr(self._engine, verb)
            last = None
            async for output in stream(
                {"type": "token", "prompt_token_ids": prompt},
                params,
                f"{self.name}-{next(self._numbers)}",
                lora_request=self._lora,
            ):
                last = output
            return last

        try:
            return await asyncio.wrap_future(self._home.run(consume()))
        except EngineDeadError as error:
            raise ModelUnavailable(f"{self.name}: vLLM's engine has died (its log above says why)") from error
        except ValueError as error:
            raise RequestFailed("bad_request", first_line(error)) from error

    def _choice(self, output: Any, request: ChatRequest) -> Choice:
        ids = list(output.token_ids)
        if output.finish_reason == "stop" and ids and (isinstance(output.stop_reason, int) or ids[-1] in self._ends):
            ids.pop()
        chances: list[TokenChance] = []
        for token, noted in zip(ids, output.logprobs or (), strict=False):
            # vLLM adds the drawn token where it is not among the likeliest; -inf marks what the choices forbid.
            ranked = sorted((n.rank, t, n.logprob) for t, n in noted.items() if n.logprob > -float("inf"))
            top = tuple((t, value) for rank, t, value in ranked if rank <= request.top_logprobs)
            chances.append((noted[token].logprob, top))
        return self._tokens.choice(ids, output.finish_reason, chances, request.sampling.stop)


async def _start(checkpoint: Checkpoint, config: Config) -> Any:
    from vllm import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    settings: dict[str, Any] = {
        "model": checkpoint.path,
        "revision": checkpoint.origin["revision"],
        "trust_remote_code": config.trust_remote_code,
        "runner": "pooling" if checkpoint.kind == "score" else "generate",
        "dtype": config.dtype,
        "max_model_len": config.max_model_len or None,
        "tensor_parallel_size": config.tensor_parallel_size,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "kv_cache_memory_bytes": int(config.kv_cache_gib * 2**30) or None,
        "max_num_seqs": config.max_num_seqs or None,
        "quantization": config.quantization or None,
        "enforce_eager": config.enforce_eager,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    if current_platform.is_cpu():
        # vLLM 0.32 rewinds the seed of a prompt that it reads in pieces, and a CPU's generator cannot: the engine dies.
        settings |= {"enable_chunked_prefill": False}
    if config.lora:
        settings |= {"enable_lora": True, "max_lora_rank": config.max_lora_rank}
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(**{key: value for key, value in settings.items() if value is not None})
    )


def _lora(folder: str) -> Any:
    if not folder:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, str(Path(folder).resolve()))
