"""JudgeBench: the accuracies of the paper's tables, from the stored judgments of the same judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.benchmarks.judge_bench import Config, score
from rlhf_eval.errors import UserError
from rlhf_eval.interop import judge_bench as reader
from rlhf_eval.parity.claim import Claim, Tree, absent, missing

PEER = "judge_bench"
_TAIL = "outputs/dataset=judgebench,response_model=*,judge_name=*,judge_model=*.jsonl"

PAPER: Mapping[tuple[str, str, str], float] = {
    ("gpt-4o-2024-05-13", "reward_model", "Skywork_Skywork-Reward-Gemma-2-27B"): 64.29,
    ("gpt-4o-2024-05-13", "reward_model", "Skywork_Skywork-Reward-Llama-3.1-8B"): 62.29,
    ("gpt-4o-2024-05-13", "reward_model", "internlm_internlm2-20b-reward"): 63.43,
    ("gpt-4o-2024-05-13", "reward_model", "internlm_internlm2-7b-reward"): 59.43,
    ("gpt-4o-2024-05-13", "reward_model", "Ray2333_GRM-Gemma-2B-rewardmodel-ft"): 59.43,
    ("gpt-4o-2024-05-13", "arena_hard", "o1-mini-2024-09-12"): 65.71,
}
"""Overall accuracy in percent by response model, judge's prompt and judge model (arXiv 2410.12784).

The repository does not hold them.
"""


def check(tree: Tree) -> Iterator[Claim]:
    """Claims of every file of judgments whose judge is in the paper's tables."""
    files = tree.find(_TAIL)
    if not files:
        yield from missing(PEER, [_TAIL])
    for file in files:
        fields = dict(part.split("=", 1) for part in file.stem.split(",") if "=" in part)
        key = fields.get("response_model", ""), fields.get("judge_name", ""), fields.get("judge_model", "")
        subject = f"{key[2]} by {key[1]} on {key[0]}'s pairs"
        if key not in PAPER:
            yield absent(PEER, subject, "accuracy", "the paper has no number that is known here")
            continue
        try:
            ours = _accuracy(file)
        except UserError as error:
            yield absent(PEER, subject, "accuracy", str(error))
            continue
        yield Claim(
            peer=PEER, subject=subject, number="accuracy", published=PAPER[key], ours=100 * ours, tolerance=0.005001,
            source=tree.name(file), note="published in the paper, to two decimals",
        )  # fmt: skip


def _accuracy(file: Path) -> float:
    loaded = reader.read(file)
    found = score(Evidence.of(loaded.prompts, loaded.completions, loaded.judgments), Config())
    return next(e.value for e in found if e.name == "accuracy")
