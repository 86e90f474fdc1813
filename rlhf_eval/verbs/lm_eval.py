"""``evaluate lm_eval:TASK``: lm-evaluation-harness lays out a task and scores it, our doors answer.

The harness is synchronous and asks for everything at once; here its requests become concurrent calls on the door, and a
request that fails leaves a recorded error. Interrupted, the same command goes on: replies that were paid for are in the
cache. Tasks that generate need a model that chats; tasks that choose need one that can tell how likely a text is (hf:,
vllm:, sandbox:). The context is one user turn.

    rlhf-eval evaluate lm_eval:gsm8k --model hf:checkpoints/dpo --limit 200
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rlhf_eval.errors import RequestFailed, UserError
from rlhf_eval.interop import lm_eval as samples
from rlhf_eval.interop.files import Row
from rlhf_eval.interop.loaded import Intake, Loaded
from rlhf_eval.models.base import ChatRequest
from rlhf_eval.models.door import Door, metered
from rlhf_eval.records import Message, Sampling, Usage, fingerprint
from rlhf_eval.registry import install_hint
from rlhf_eval.verbs.session import Options, Session

PREFIX = "lm_eval:"
OUTPUTS = ("generate_until", "multiple_choice")
"""Kinds of tasks that can be run; the others ask whether a text is the greedy one, which a chat does not tell."""

_KNOWN = {"until", "max_gen_toks", "max_tokens", "do_sample", "temperature", "top_p"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessTask:
    """A task of the harness, or a group of them."""

    name: str
    fewshot: int
    """Examples before each question; below 0 the task's own number."""
    content: str
    """Hash of everything that its files say."""
    version: str
    """Of the harness."""
    manager: Any


@dataclass(slots=True)
class Answers:
    """What a door has said to the harness, and what it cost, by document."""

    door: Door
    loop: asyncio.AbstractEventLoop
    seed: int
    told: dict[str, samples.Asked] = field(default_factory=dict)
    """Task to what is known of its requests."""

    def about(self, task: str) -> samples.Asked:
        """What is known of the requests of a task."""
        return self.told.setdefault(task, samples.Asked(origin=self.door.id))

    def generate(self, requests: Sequence[Any]) -> list[str]:
        """One text a request of the harness; empty, and an error kept, where the request failed."""
        seen: Counter[tuple[int, int]] = Counter()
        work = []
        for request in requests:  # a request that is to be answered several times stands several times in the list
            work.append(self._text(request, seen[request.doc_id, request.idx]))
            seen[request.doc_id, request.idx] += 1
        return self._all(work)

    def likelihoods(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Log-probability of each continuation; whether it is the greedy one is not known, and no task here asks."""
        return self._all([self._likelihood(request) for request in requests])

    def _all(self, work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        async def together() -> list[Any]:
            return await asyncio.gather(*work)

        return asyncio.run_coroutine_threadsafe(together(), self.loop).result()

    async def _text(self, request: Any, sample: int) -> str:
        context, settings = request.args
        sampling = sampling_of(settings, self.seed)
        try:
            with metered() as meter:
                reply = await self.door.chat(
                    ChatRequest(messages=(Message("user", context),), sampling=sampling, first_sample=sample)
                )
        except RequestFailed as error:
            self.about(request.task_name).errors[request.doc_id] = str(error)
            return ""
        self._book(request, meter.usage)
        self.about(request.task_name).finish.setdefault(request.doc_id, reply.choices[0].finish_reason)
        return cut(reply.choices[0].text, sampling.stop)

    async def _likelihood(self, request: Any) -> tuple[float, bool]:
        context, continuation = request.args
        try:
            with metered() as meter:
                turns = (Message("user", context), Message("assistant", continuation))
                (value,) = await self.door.logprobs([turns])
        except RequestFailed as error:
            self.about(request.task_name).errors[request.doc_id] = str(error)
            return 0.0, False
        self._book(request, meter.usage)
        return value, False

    def _book(self, request: Any, usage: Usage) -> None:
        booked = self.about(request.task_name).usage
        booked[request.doc_id] = booked.get(request.doc_id, Usage()) + usage


def sampling_of(settings: Mapping[str, Any], seed: int) -> Sampling:
    """The harness' generation settings as ours: greedy unless it samples; raises UserError on one that has no like here."""
    strange = sorted(set(settings) - _KNOWN)
    if strange:
        raise UserError(f"the task wants {', '.join(strange)} in its generation, which has no like here")
    until = settings.get("until", ())
    return Sampling(
        temperature=float(settings.get("temperature", 0.0)) if settings.get("do_sample", True) else 0.0,
        top_p=float(settings.get("top_p", 1.0)),
        max_tokens=int(settings.get("max_gen_toks", settings.get("max_tokens", 256))),
        stop=(until,) if isinstance(until, str) else tuple(until),
        seed=seed,
    )


def cut(text: str, stops: Sequence[str]) -> str:
    """``text`` up to the first of the stops, as the harness expects it even of servers that allow only four."""
    ends = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


async def ask(session: Session, task: HarnessTask, doors: Sequence[Door]) -> Loaded:
    """Prompts, answers and metric values of every model; a request that failed is a failed answer with failed grades.

    Raises UserError where the task asks for settings that have no like here, or a model cannot do what it asks.
    """
    intake = Intake(Path())
    for door in doors:
        answers = Answers(door=door, loop=asyncio.get_running_loop(), seed=session.options.seed)
        found = await asyncio.to_thread(_evaluate, task, answers, session.options)
        for name, rows in found.items():
            numbered = [Row(f"{name}, sample {n}", row) for n, row in enumerate(rows)]
            samples.add(intake, name, door.name, numbered, answers.about(name))
    return intake.loaded()


def load_task(name: str, *, fewshot: int, include: str) -> HarnessTask:
    """The harness' task of that name, and what it is known by.

    Raises UserError where the harness is not installed, does not know it, or it is of a kind that cannot be run here.
    """
    try:
        import lm_eval
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError as error:
        raise UserError(f"lm_eval tasks need the package '{error.name}': {install_hint('lm_eval')}") from error
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    manager = TaskManager(include_path=include or None)
    if name not in manager.all_tasks:
        near = get_close_matches(name, manager.all_tasks, n=3)  # of ten thousand
        raise UserError(f"the harness has no task '{name}'." + (f" Did you mean {' or '.join(near)}?" if near else ""))
    try:
        leaves = manager.load([name])["tasks"]
    except Exception as error:  # data sets fail in their own ways
        raise UserError(f"lm_eval:{name} cannot be loaded: {type(error).__name__}: {error}") from error
    for leaf, found in leaves.items():
        if found.OUTPUT_TYPE not in OUTPUTS:
            raise UserError(
                f"lm_eval:{leaf} is a task of kind '{found.OUTPUT_TYPE}'; only {' and '.join(OUTPUTS)} run here"
            )
    content = fingerprint({leaf: str(found.dump_config()) for leaf, found in sorted(leaves.items())})
    return HarnessTask(name=name, fewshot=fewshot, content=content, version=lm_eval.__version__, manager=manager)


def _evaluate(task: HarnessTask, answers: Answers, options: Options) -> Mapping[str, list[dict[str, Any]]]:
    """Run the harness in this thread; its model hands every request to ``answers``."""
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM

    class Ours(LM):  # type: ignore[misc]  # its base is known only where the extra is installed
        """The harness' model: a door."""

        def generate_until(self, requests: list[Any]) -> list[str]:
            return answers.generate(requests)

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            return answers.likelihoods(requests)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            raise UserError("tasks that measure perplexity are not run: the models door scores answers, not bare text")

    found = simple_evaluate(
        model=Ours(), tasks=[task.name], task_manager=task.manager, limit=options.limit, log_samples=True,
        num_fewshot=task.fewshot if task.fewshot >= 0 else None, bootstrap_iters=0, random_seed=options.seed,
        numpy_random_seed=options.seed, fewshot_random_seed=options.seed,
    )  # fmt: skip
    told: Mapping[str, list[dict[str, Any]]] = found["samples"]
    return told
