"""How much of vLLM's own speed is left behind our door: tokens a second beside a bare ``LLM.generate`` of the same prompts.

``bare`` hands all prompts, already rendered, to ``vllm.LLM.generate`` at once, and does nothing with what it returns.
``ours`` is ``rlhf-eval generate --model vllm:PATH``: rendering, the door with its cache, records, and a run on disk. Each
side has a process of its own, which loads, warms up, and is then timed for every round. Sampling is at temperature 1 from
the same distribution, so tokens are counted and rates compared. Ours has seeds, one a sample, so that each can be drawn
again; ``unseeded`` is the same without them (``?seeded=false``), which shows what they cost.

    .venv-vllm/bin/python tests/bench/vllm_speed.py --model Qwen/Qwen2.5-7B-Instruct --prompts 1000 -n 4
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from rlhf_eval.records import Prompt  # noqa: E402

SIDES = ("bare", "ours", "unseeded")
TASKS = (
    "Explain {} to a child of ten.",
    "Write a short story in which {} plays a part.",
    "List five questions that an expert would ask about {}.",
    "Argue for and against {} in two paragraphs.",
)
TOPICS = ("tides", "compound interest", "the printing press", "photosynthesis", "a borrowed umbrella", "chess openings")


def questions(count: int) -> list[Prompt]:
    """Prompts that differ from their first words on, so that no prefix but the template's is shared."""
    asked = (TASKS[k % len(TASKS)].format(TOPICS[k // len(TASKS) % len(TOPICS)]) for k in range(count))
    return [Prompt.of(f"{k}. {text}") for k, text in enumerate(asked)]


def bare(given: argparse.Namespace) -> list[dict[str, float]]:
    """``LLM.generate`` on token ids."""
    from vllm import LLM, SamplingParams

    from rlhf_eval.models.local.checkpoints import open_checkpoint
    from rlhf_eval.models.local.tokens import Tokens

    checkpoint = open_checkpoint(given.model, scheme="vllm")
    tokens = Tokens.of(checkpoint, given.model)
    settings: dict[str, Any] = {"enforce_eager": given.eager, "dtype": given.dtype, "enable_prefix_caching": True}
    if given.kv_cache_gib:
        settings["kv_cache_memory_bytes"] = int(given.kv_cache_gib * 2**30)
    engine = LLM(model=checkpoint.path, disable_log_stats=True, **settings)
    rows: list[dict[str, float]] = []
    for turn in range(-1, given.rounds):
        prompts = [
            {"prompt_token_ids": tokens.render(prompt.messages, answer=True)}
            for prompt in questions(given.prompts if turn >= 0 else 8)
        ]
        wanted = SamplingParams(n=given.n, temperature=1.0, max_tokens=given.max_tokens)
        started = time.perf_counter()
        outputs = engine.generate(prompts, wanted, use_tqdm=False)
        seconds = time.perf_counter() - started
        rows.append({"seconds": seconds, "tokens": sum(len(o.token_ids) for row in outputs for o in row.outputs)})
    return rows[1:]


def ours(given: argparse.Namespace, seeded: bool) -> list[dict[str, float]]:
    """The verb ``generate``."""
    from rlhf_eval.records import Completion
    from rlhf_eval.verbs.flow import Ledger, follow, generation_into, open_writer
    from rlhf_eval.verbs.session import Options, Session

    options = {"enforce_eager": str(given.eager).lower(), "dtype": given.dtype, "kv_cache_gib": str(given.kv_cache_gib)}
    options["seeded"] = str(seeded).lower()
    spec = f"vllm:{given.model}?{'&'.join(f'{key}={value}' for key, value in options.items())}"

    async def work(folder: Path) -> list[dict[str, float]]:
        session = Session(Options(store=folder, concurrency=given.prompts, quiet=True))
        session.door(spec)
        rows: list[dict[str, float]] = []
        for turn in range(-1, given.rounds):
            asked = questions(given.prompts if turn >= 0 else 8)
            table = {"model": spec, "n": given.n, "max_tokens": given.max_tokens, "sample_seed": turn + 1}
            started = time.perf_counter()
            _, writer, config = open_writer(session, table)
            with session.begin("generate", config, {}) as run:
                ledger = Ledger(run)
                generation = generation_into(session, writer, ledger)
                await follow(session, "generate", asked, [ledger], generations=[generation])
            seconds = time.perf_counter() - started
            stored = session.records(Completion, run.run)
            rows.append({"seconds": seconds, "tokens": sum(c.usage.completion_tokens for c in stored)})
        await session.close()
        return rows[1:]

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(work(Path(folder)))


def measure(side: str, words: list[str]) -> list[dict[str, float]]:
    """One side in a process of its own, so that neither holds memory that the other needs."""
    with tempfile.NamedTemporaryFile() as file:
        command = [sys.executable, __file__, *words, "--side", side, "--json", file.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rows: list[dict[str, float]] = json.loads(Path(file.name).read_text())
    return rows


def show(found: dict[str, list[dict[str, float]]]) -> str:
    """Both sides, and our share of the bare rate: the ratio of the medians over the rounds."""
    lines = ["side      round  seconds   tokens  tokens/s"]
    rates = {}
    for side, rows in found.items():
        rates[side] = [row["tokens"] / row["seconds"] for row in rows]
        for number, (row, rate) in enumerate(zip(rows, rates[side], strict=True)):
            lines.append(f"{side:8}  {number:5}  {row['seconds']:7.2f}  {row['tokens']:7,}  {rate:8,.0f}")
    shares = {side: median(rates[side]) / median(rates["bare"]) for side in SIDES[1:]}
    return "\n".join([*lines, *(f"{side} is {share:.1%} of bare LLM.generate" for side, share in shares.items())])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=str(ROOT / "rlhf_eval" / "sandbox" / "policy"))
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("-n", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--eager", action="store_true", help="no compilation: for a CPU")
    parser.add_argument("--kv-cache-gib", type=float, default=0.0)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    given = arguments()
    if given.side:
        found: Any = bare(given) if given.side == "bare" else ours(given, given.side == "ours")
    else:
        found = {side: measure(side, sys.argv[1:]) for side in SIDES}
        print(show(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
