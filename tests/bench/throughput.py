"""How fast prompts become judged completions: one request for n answers, then one for their judgment, side by side.

Clients: ``aiohttp`` is the plainest loop that can be written (no retry, no cache, nothing stored); ``backend`` is
``OpenAIModel`` alone; ``pipeline`` is what ``rlhf-eval generate+judge`` runs, with cache, budget and a store on disk;
``stock`` is the openai package as it comes. ``--others`` adds other people's harnesses (``incumbents.py``). The ceiling is
what latency alone allows: in flight / latency requests a second. Client and server share the machine.

With ``--faults`` the pipeline also runs against a server that fails in every way that servers fail; its rows say what that
costs in time.

    python tests/bench/throughput.py --in-flight 100 400 1000 --json throughput.json
    python tests/bench/throughput.py --in-flight 100 --clients pipeline --faults
    python tests/bench/throughput.py --in-flight 100 400 --others distilabel=VENV/bin/python data_designer=VENV/bin/python
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]
from server import reset, running_server, stats  # noqa: E402

WRITER, JUDGE = "alpha", "judge"
FAULTS = {
    "error_500": 0.025, "error_429": 0.025, "slow": 0.02, "hang": 0.005, "drop": 0.01, "truncate": 0.01, "empty": 0.01,
}  # fmt: skip
"""Shares of the attempts; ``slow`` takes ten times the latency, ``hang`` until the client gives up."""
PATIENCE = "?timeout=3"
INCUMBENTS = Path(__file__).with_name("incumbents.py")
FILLER = "Explain in plain words why the sky is blue, and name one thing that most people get wrong about it. "


@dataclass(frozen=True, slots=True)
class Task:
    """What every client has to do."""

    base_url: str
    prompts: tuple[str, ...]
    completions: int
    in_flight: int
    options: str = ""
    """Of our models' specs."""
    folder: str = ""
    """Where a client may keep what it makes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement."""

    client: str
    in_flight: int
    most_seen: int
    requests: int
    seconds: float
    prompts_per_second: float
    share_of_ceiling: float
    cpu_ms_per_request: float


def question(prompt: str, answers: Sequence[str]) -> str:
    """The judge's prompt: the question and all answers."""
    return "\n\n".join([prompt, *(f"Answer {i}: {text}" for i, text in enumerate(answers)), "Which is best?"])


async def plainly(task: Task, ask: Callable[[str, str, int], Awaitable[list[str]]]) -> None:
    """Ask for every prompt's answers and for their judgment, with so many requests in flight; nothing is kept."""
    slots = asyncio.Semaphore(task.in_flight)

    async def work(prompt: str) -> None:
        async with slots:
            answers = await ask(WRITER, prompt, task.completions)
        async with slots:
            (verdict,) = await ask(JUDGE, question(prompt, answers), 1)
        assert "[[" in verdict

    await asyncio.gather(*(work(prompt) for prompt in task.prompts))


async def aiohttp_loop(task: Task) -> None:
    """Post, parse, post, parse."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(model: str, text: str, n: int) -> list[str]:
            body = {"model": model, "messages": [{"role": "user", "content": text}], "n": n, "max_tokens": 512}
            async with session.post(f"{task.base_url}/chat/completions", json=body) as response:
                reply = await response.json()
            return [choice["message"]["content"] for choice in reply["choices"]]

        await plainly(task, ask)


async def stock(task: Task) -> None:
    """The openai package with its own HTTP client, its limits lifted."""
    import openai

    from rlhf_eval.models.served.http import http

    limits = http.Limits(max_connections=None, max_keepalive_connections=None)
    client = openai.AsyncOpenAI(
        base_url=task.base_url,
        api_key="EMPTY",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=600),
    )

    async def ask(model: str, text: str, n: int) -> list[str]:
        reply = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": text}], n=n, max_tokens=512
        )
        return [choice.message.content or "" for choice in reply.choices]

    await plainly(task, ask)
    await client.close()


async def backend(task: Task) -> None:
    """Our backend without the door."""
    from rlhf_eval.models.base import ChatRequest
    from rlhf_eval.models.openai import OpenAIModel
    from rlhf_eval.records import Message

    models = {name: OpenAIModel(name, task.base_url) for name in (WRITER, JUDGE)}

    async def ask(model: str, text: str, n: int) -> list[str]:
        reply = await models[model].chat(ChatRequest(messages=(Message("user", text),), n=n))
        return [choice.text for choice in reply.choices]

    await plainly(task, ask)
    for model in models.values():
        await model.close()


async def pipeline(task: Task) -> None:
    """The whole line as the command line runs it: doors, cache, budget, accounts, two runs on disk."""
    from generators import sample
    from rlhf_eval.models.base import ChatRequest, Model
    from rlhf_eval.records import Completion, Message, Prompt, Verdict
    from rlhf_eval.stages.generate import Writer
    from rlhf_eval.stages.judge import Design, Instrument
    from rlhf_eval.verbs.flow import Bench, Ledger, follow, generation_into, judging_into
    from rlhf_eval.verbs.session import Options, Session

    async def judge(prompt: Prompt, answers: Sequence[Completion], model: Model, config: None) -> Verdict:
        asked = question(prompt.text, [answer.text for answer in answers])
        reply = await model.chat(ChatRequest(messages=(Message("user", asked),)))
        assert "[[" in reply.choices[0].text
        return Verdict(scores=(1.0, *(0.0 for _ in answers[1:])), rationale=reply.choices[0].text)

    with ExitStack() as stack:
        session = Session(Options(store=Path(task.folder), concurrency=task.in_flight, quiet=True))
        writer = Writer(
            generate=sample.generate,
            config=sample.Config(n=task.completions),
            models=[session.door(f"openai:{WRITER}@{task.base_url}{task.options}")],
        )
        instrument = Instrument(
            judge=judge,
            config=None,
            model=session.door(f"openai:{JUDGE}@{task.base_url}{task.options}"),
            arity=0,
            name="bench",
        )
        prompts = [Prompt.of(text) for text in task.prompts]
        runs = [stack.enter_context(session.begin(verb, {}, {})) for verb in ("generate", "judge")]
        written, judged = (Ledger(run) for run in runs)
        result = await follow(
            session,
            "generate+judge",
            prompts,
            [written, judged],
            generations=[generation_into(session, writer, written)],
            judgings=[judging_into(Bench(instrument, Design(orders="one"), {}), judged, prompts, 0)],
        )
        assert result.tally.status["done"] == len(prompts), result.tally
        await session.close()


CLIENTS: dict[str, Callable[[Task], Coroutine[Any, Any, None]]] = {
    "aiohttp": aiohttp_loop,
    "backend": backend,
    "pipeline": pipeline,
    "stock": stock,
}


def warm(client: str, base_url: str) -> None:
    """Import everything and build what is built once; no client is timed for that."""
    timed(client, Task(base_url, tuple(f"warm up {k}" for k in range(50)), 2, 50))


def timed(client: str, task: Task) -> tuple[float, float]:
    """Wall and CPU seconds of the task in this process."""
    reset(task.base_url)
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        cpu, started = cpu_seconds(), time.perf_counter()
        asyncio.run(CLIENTS[client](replace(task, folder=folder)))
        return time.perf_counter() - started, cpu_seconds() - cpu


def elsewhere(python: str, harness: str, task: Task) -> tuple[float, float]:
    """The same in another harness, which warms up, clears the server's counters and measures itself."""
    done = subprocess.run(
        [python, str(INCUMBENTS), harness],
        input=json.dumps({**asdict(task), "writer": WRITER, "judge": JUDGE}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds, cpu = json.loads(done.stdout.splitlines()[-1])
    return seconds, cpu


def measure(client: str, task: Task, latency: float, python: str = "") -> Row:
    """One timed run, in another harness where its ``python`` is given."""
    seconds, cpu = elsewhere(python, client, task) if python else timed(client, task)
    seen = stats(task.base_url)
    return Row(
        client=client,
        in_flight=task.in_flight,
        most_seen=seen["max_in_flight"],
        requests=seen["requests"],
        seconds=round(seconds, 2),
        prompts_per_second=round(len(task.prompts) / seconds, 1),
        share_of_ceiling=round(seen["requests"] / seconds / (task.in_flight / latency), 3),
        cpu_ms_per_request=round(1000 * cpu / seen["requests"], 3),
    )


def cpu_seconds() -> float:
    """CPU time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def show(rows: Sequence[Row]) -> str:
    """The rows as a table; the last column compares with the aiohttp loop at the same number in flight."""
    best: dict[int, float] = {}
    for row in rows:
        if row.client == "aiohttp":
            best[row.in_flight] = max(row.prompts_per_second, best.get(row.in_flight, 0.0))
    order = list(dict.fromkeys([*CLIENTS, *(row.client for row in rows)]))
    lines = ["client         in flight  seen  requests      s  prompts/s  of ceiling  CPU ms/request  of aiohttp"]
    for row in sorted(rows, key=lambda r: (r.in_flight, order.index(r.client), r.seconds)):
        beside = f"{row.prompts_per_second / best[row.in_flight]:.0%}" if row.in_flight in best else "-"
        lines.append(
            f"{row.client:14} {row.in_flight:9} {row.most_seen:5} {row.requests:9} {row.seconds:6.2f} "
            f"{row.prompts_per_second:10.1f} {row.share_of_ceiling:11.0%} {row.cpu_ms_per_request:15.3f} {beside:>11}"
        )
    return "\n".join(lines)


def beside_faults(given: argparse.Namespace, clean: Sequence[Row]) -> str:
    """The pipeline against the failing server, and how many times as long as against the good one it takes."""
    lines = []
    with running_server(latency=given.latency, retry_after="0.5", **FAULTS) as base_url:
        for in_flight in given.in_flight:
            times = []
            for turn in range(given.repeats):
                prompts = tuple(f"{turn}.{i}: {FILLER}" for i in range(given.prompts))
                task = Task(base_url, prompts, given.completions, in_flight, PATIENCE)
                times.append(measure("pipeline", task, given.latency).seconds)
            good = [row.seconds for row in clean if (row.client, row.in_flight) == ("pipeline", in_flight)]
            slower = median(times) / median(good)
            lines.append(
                f"with faults, {in_flight} in flight: {median(times):.2f} s ({min(times):.2f} to {max(times):.2f}), "
                f"{slower:.2f} times the clean time"
            )
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--completions", type=int, default=4)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds of every request on the server")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[100, 400, 1000])
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=["aiohttp", "backend", "pipeline"])
    parser.add_argument(
        "--others", nargs="+", default=[], metavar="NAME=PYTHON", help="harnesses of incumbents.py, each by its python"
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds; clients take turns within each")
    parser.add_argument("--faults", action="store_true", help="run the pipeline against a failing server too")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    given = arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    rows: list[Row] = []
    with running_server(latency=given.latency) as base_url:
        for client in given.clients:
            warm(client, base_url)
        for turn in range(given.repeats):
            prompts = tuple(f"{turn}.{i}: {FILLER}" for i in range(given.prompts))
            for in_flight in given.in_flight:
                for client in (*given.clients, *given.others):
                    task = Task(base_url, prompts, given.completions, in_flight)
                    name, _, python = client.partition("=")
                    rows.append(measure(name, task, given.latency, python))
                    print(json.dumps(asdict(rows[-1])), file=sys.stderr, flush=True)
    print(show(rows))
    if given.faults:
        print(beside_faults(given, rows))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
