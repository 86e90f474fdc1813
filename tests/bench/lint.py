"""The data card of 100,000 pairs: seconds on the wall, of the CPU, and the most memory that the process held.

    python tests/bench/lint.py --pairs 100000
    python tests/bench/lint.py --pairs 20000 --profile

Prompts of about 30 words (one in fifty repeats an earlier one nearly word for word), answers of 20 to 300 words drawn
with the frequencies of language, four models, probabilities and margins; a benchmark of 805 prompts to hold the set
against, ten of which stand in it. The set is written to a file first and read back, as ``rlhf-eval lint`` does.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from rlhf_eval.verbs.lint import lint
from rlhf_eval.verbs.session import Options, Session

WORDS = 20_000
TESTS = 805


def texts(rng: np.random.Generator, count: int, least: int, most: int) -> list[str]:
    """Texts of words whose frequencies fall as 1 / rank, in sentences of twelve words."""
    vocabulary = np.array([f"w{k}" for k in range(WORDS)])
    chance = 1 / np.arange(2, WORDS + 2)
    lengths = rng.integers(least, most, size=count)
    drawn = vocabulary[rng.choice(WORDS, size=int(lengths.sum()), p=chance / chance.sum())]
    made = []
    for end, length in zip(np.cumsum(lengths), lengths, strict=True):
        words = drawn[end - length : end].tolist()
        made.append(" ".join(f"{word}." if k % 12 == 11 else word for k, word in enumerate(words)) + ".")
    return made


def write(folder: Path, pairs: int, seed: int) -> tuple[Path, Path]:
    """The set and the benchmark as files."""
    rng = np.random.default_rng(seed)
    prompts = texts(rng, pairs, 20, 40)
    tests = texts(rng, TESTS, 15, 60)
    for k in range(0, pairs, 50):
        prompts[k] = prompts[k // 2] + " please"
    prompts[10:20] = tests[:10]
    rows = [
        {
            "prompt": prompt,
            "chosen": chosen,
            "rejected": rejected,
            "chosen_model": f"model-{k % 4}",
            "rejected_model": f"model-{k % 3}",
            "probability": 0.5 + k % 50 / 100,
            "margin": k % 7,
        }
        for k, (prompt, chosen, rejected) in enumerate(
            zip(prompts, texts(rng, pairs, 20, 300), texts(rng, pairs, 20, 300), strict=True)
        )
    ]
    made = folder / "pairs.jsonl", folder / "benchmark.jsonl"
    made[0].write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    made[1].write_bytes(b"".join(msgspec.json.encode({"prompt": test}) + b"\n" for test in tests))
    return made


def main() -> None:
    """Read the flags and print the seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs, tests = write(Path(folder), options.pairs, options.seed)
        size = pairs.stat().st_size / 1e6
        session = Session(Options(store=Path(folder) / "store", quiet=True))
        table = {"file": str(pairs), "against": str(tests)}
        profile = cProfile.Profile()
        wall, cpu = time.perf_counter(), time.process_time()
        card = (profile.runcall(lint, session, table) if options.profile else lint(session, table)).card
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if options.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{options.pairs:,} pairs, {size:.0f} MB: {wall:.1f} s wall, {cpu:.1f} s CPU, peak {peak:.2f} GiB")
    for name in ("near_duplicate_prompts", "contaminated_prompts", "leaked_test_prompts", "length_auc"):
        found = card.get(name)
        assert found is not None
        print(f"  {name:24} {found.value:.4f} [{found.low:.4f}, {found.high:.4f}]")


if __name__ == "__main__":
    main()
