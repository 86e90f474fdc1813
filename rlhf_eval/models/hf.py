"""A transformers checkpoint on this machine's GPU or CPU, one thread, continuous batching: ``hf:PATH``.

The door for checkpoints that a trainer has just written and for machines without vLLM. A causal language model chats, a
sequence classifier scores; which one it is, the checkpoint's ``architectures`` say. Requests from any number of coroutines
share one batch. The tokens of sample k depend on the model, the messages, the seed and k, and, but for rounding, not on
what else is in the batch; ``dtype="float64"`` makes rounding too small to matter.

    model = HfModel.load("runs/dpo/final")
    reply = await model.chat(ChatRequest(messages=(Message("user", "Name three primes."),), n=4))
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from rlhf_eval.errors import RequestFailed, UserError
from rlhf_eval.models.base import ChatRequest, Conversation, Reply
from rlhf_eval.models.local.checkpoints import Checkpoint, need, open_checkpoint
from rlhf_eval.models.local.tokens import Tokens
from rlhf_eval.models.local.worker import Engine, Worker
from rlhf_eval.records import Usage, fingerprint

if TYPE_CHECKING:
    from rlhf_eval.models.local.rows import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the transformers door."""

    dtype: Literal["auto", "bfloat16", "float16", "float32", "float64"] = "auto"
    """auto takes the checkpoint's own on a GPU and float32 on a CPU."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:0; auto takes the first GPU, if any."""
    batch_size: int = 32
    """Most sequences in one batch."""
    max_batch_tokens: int = 0
    """Most tokens that the cache of a batch may hold, padding included; 0 takes a quarter of the free memory."""
    max_wait_ms: float = 2.0
    """How long an idle model waits for more requests before it starts a batch."""
    threads: int = 0
    """CPU threads of torch, for the whole process; 0 leaves torch's own number. A tiny model is quickest with 1."""
    heads: Literal["", "mean", "min", "median", "cautious"] = ""
    """Of a reward model with several heads: mean, min, median, cautious (mean less variance); empty takes its own head."""
    revision: str = ""
    """Branch, tag or commit of a hub name."""
    trust_remote_code: bool = False
    """Run model code that comes with the checkpoint."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")
        if min(self.max_batch_tokens, self.max_wait_ms, self.threads) < 0:
            raise ValueError("max_batch_tokens, max_wait_ms and threads must be at least 0")


class HfModel:
    """Answers or scores with a transformers checkpoint."""

    def __init__(self, *, name: str, checkpoint: Checkpoint, tokens: Tokens, model: Any, config: Config) -> None:
        from rlhf_eval.models.local.weights import affordable

        self.name = name
        self.id = checkpoint.id if config.dtype == "auto" else f"{checkpoint.id}-{config.dtype}"
        self.id += f"+{config.heads}" if config.heads else ""
        self.kind = checkpoint.kind
        self.context = checkpoint.context
        self._tokens = tokens
        self._batch_size = config.batch_size
        self._budget = config.max_batch_tokens or affordable(model)
        self._model = model
        self._heads = config.heads
        self._worker = Worker(self._engine(), config.max_wait_ms / 1000)

    @classmethod
    def load(cls, path: str, *, name: str | None = None, config: Config | None = None) -> Self:
        """Load the checkpoint at ``path``, a folder or a hub name.

        Raises UserError, in one line, on whatever keeps it from being loaded.
        """
        spec, wanted = name or f"hf:{path}", config or Config()
        torch = need("torch", spec)
        if wanted.threads:
            torch.set_num_threads(wanted.threads)
        from rlhf_eval.models.local.weights import device_of, dtype_of, load_weights

        checkpoint = open_checkpoint(
            path, scheme="hf", revision=wanted.revision or None, trust_remote_code=wanted.trust_remote_code
        )
        tokens = Tokens.of(checkpoint, spec)
        device = device_of(wanted.device, spec)
        model = load_weights(checkpoint, dtype_of(wanted.dtype, device), spec).to(device).eval()
        if wanted.heads:
            if checkpoint.kind != "score":
                raise UserError(f"{spec} is a language model: heads={wanted.heads} is for reward models")
            from rlhf_eval.models.local.heads import with_heads

            model = with_heads(model, Path(checkpoint.path))
        return cls(name=spec, checkpoint=checkpoint, tokens=tokens, model=model, config=wanted)

    async def chat(self, request: ChatRequest) -> Reply:
        """Draw ``n`` answers, reading the prompt once.

        Log-probabilities are those of temperature 1, before top_p, and within ``choices`` where these are given, as vLLM
        and OpenAI report them. An answer that reaches the end of the context ends with ``length``. Raises RequestFailed
        ``context_overflow`` where the prompt leaves no room for any answer, UserError for a reward model.
        """
        self._expect("chat")
        prompt = self._tokens.render(request.messages, answer=True)
        room = self.context - len(prompt)
        if room < 1:
            raise RequestFailed(
                "context_overflow",
                f"the prompt has {len(prompt)} tokens; {self.name} takes {self.context} with the answer",
            )
        tasks = self._tasks(request, prompt, room)
        groups = await asyncio.gather(*(self._worker.ask(task) for task in tasks))
        drawn = [one for group in groups for one in group]
        return Reply(
            choices=tuple(
                self._tokens.choice(one.ids, one.finish, one.chances, request.sampling.stop) for one in drawn
            ),
            usage=Usage(
                prompt_tokens=len(prompt),
                completion_tokens=sum(one.steps for one in drawn),
                seconds=sum(task.seconds for task in tasks),
            ),
        )

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """The reward of each conversation: the one logit, or with two labels the log-odds of label 1.

        Raises RequestFailed ``context_overflow`` for a conversation that is too long, UserError for a language model.
        """
        from rlhf_eval.models.local.scoring import Scoring

        self._expect("score")
        rows = [self._tokens.render(conversation, answer=False) for conversation in conversations]
        self._room(max(map(len, rows), default=0))
        return list(await asyncio.gather(*(self._worker.ask(Scoring(prompt=row)) for row in rows)))

    async def logprobs(self, conversations: Sequence[Conversation]) -> list[float]:
        """The log-probability of each last turn, its end mark included, at temperature 1.

        Raises RequestFailed ``context_overflow`` for a conversation that is too long, UserError for a reward model.
        """
        from rlhf_eval.models.local.scoring import Scoring

        self._expect("chat")
        turns = [self._tokens.turn(conversation) for conversation in conversations]
        self._room(max((len(ids) for ids, _ in turns), default=0))
        tasks = [Scoring(prompt=ids, start=start) for ids, start in turns]
        return list(await asyncio.gather(*(self._worker.ask(task) for task in tasks)))

    async def close(self) -> None:
        """Stop the thread, fail what still waits, free the memory."""
        await asyncio.to_thread(self._worker.stop)
        if self._model is None:
            return
        on_gpu = self._model.device.type == "cuda"
        self._model = None
        if on_gpu:
            gc.collect()
            need("torch", self.name).cuda.empty_cache()

    def _room(self, longest: int) -> None:
        if longest > self.context:
            raise RequestFailed(
                "context_overflow", f"a conversation has {longest} tokens; {self.name} takes {self.context}"
            )

    def _expect(self, kind: str) -> None:
        if kind == self.kind:
            return
        if kind == "chat":
            raise UserError(f"{self.name} is a reward model: it scores conversations and cannot chat")
        raise UserError(f"{self.name} is a language model: it chats and has no reward head to score with")

    def _engine(self) -> Engine:
        from rlhf_eval.models.local.decoding import Decoder
        from rlhf_eval.models.local.scoring import Reading, Scorer, Shared
        from rlhf_eval.models.local.weights import ends_of

        if self.kind == "score":
            return Scorer(self._model, batch_size=self._batch_size, budget=self._budget, heads=self._heads)
        decoder = Decoder(
            self._model,
            eos=ends_of(self._model, self._tokens.tokenizer),
            batch_size=self._batch_size,
            budget=self._budget,
            stopped=self._stopped,
        )
        return Shared(Reading(self._model, batch_size=self._batch_size, budget=self._budget), decoder)

    def _tasks(self, request: ChatRequest, prompt: list[int], room: int) -> list[Task]:
        """The samples of a request in parts that fit a batch."""
        from rlhf_eval.models.local.rows import Task
        from rlhf_eval.models.local.tries import trie_of

        sampling = request.sampling
        most = min(sampling.max_tokens, room)
        numbers = range(request.first_sample, request.first_sample + request.n)
        keys = [fingerprint(self.id, request.messages, sampling.seed, k) for k in numbers]
        part = max(1, min(self._batch_size, self._budget // (len(prompt) + most)))
        trie = None
        if request.choices:
            own = {choice: self._tokens.encode(choice) for choice in request.choices}
            trie = trie_of(own, self._tokens.spelled())
        return [
            Task(
                prompt=prompt,
                keys=tuple(keys[start : start + part]),
                most=most,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                stop=sampling.stop,
                top=request.top_logprobs,
                trie=trie,
            )
            for start in range(0, len(keys), part)
        ]

    def _stopped(self, ids: Sequence[int], stop: tuple[str, ...]) -> bool:
        """Whether a stop string has just been completed; the last tokens are enough to see that."""
        tail = self._tokens.decode(ids[-max(len(s.encode()) for s in stop) - 8 :])
        return any(s in tail for s in stop)
