"""The model cards of the sandbox's checkpoints, and how their folders are written.

A card's numbers stand twice: as a table to read, and as records in its YAML header, where a test measures them again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_eval.config import write_yaml
from rlhf_eval.records import Estimate
from rlhf_eval.sandbox.pairs import ECHO, FROM_POLICY, PLANTED

REBUILD = "python -m rlhf_eval.sandbox.pretrain --seed {seed} --out DIR"


def policy_card(parameters: int, found: Sequence[Estimate], cells: Mapping[str, Mapping[int, float]], seed: int) -> str:
    """The card of ``sandbox:policy``."""
    body = f"""# sandbox:policy

A Llama-architecture base model of {parameters:,} parameters for the text tasks of the rlhf-eval sandbox. It is meant to be
imperfect: it was trained on answers of varied quality (right, wordy, careless about the instruction, plausibly wrong), so
that sampling from it gives good and bad answers to the same question, as preference data needs. It knows nothing beyond
the sandbox and is of no use outside it.

Samples are drawn at temperature 1 from prompts of the held-out split, none of whose tasks was trained on, in any wording.
The unit of every interval (95 %) is the prompt.

{_table(found)}

Accuracy by family and difficulty, for orientation (few prompts a cell, so no intervals):

{_cells(cells)}
"""
    return _header(found, parameters, seed) + body + _rebuild(seed)


def judge_card(parameters: int, found: Sequence[Estimate], seed: int) -> str:
    """The card of ``sandbox:judge``."""
    body = f"""# sandbox:judge

A Llama-architecture language model of {parameters:,} parameters that reads the prompt of the `pairwise` judge under its
default settings (no ties, no reasoning, no reference) and answers `[[A]]` or `[[B]]`. It is a believable judge, not an
oracle: it errs, and it has the biases that language models show as judges. It understands only the sandbox's tasks.

Two biases are planted by the training labels: {PLANTED.first:.0%} name the first answer and {PLANTED.longer:.0%} the
longer one, whatever gold says. The rest name the answer with the higher gold reward.
{FROM_POLICY:.0%} of the training pairs are the policy's own samples. Beside the verdict it learned, with weight {ECHO}, to
predict right answers while it reads.

Each held-out pair (gold rewards differ) is shown in both orders; the unit of every interval (95 %) is the pair. An
unbiased judge would prefer the first answer half of the time. "Beyond gold" is a difference of rates: how much more often
the judge takes the longer answer than gold does.

{_table(found)}
"""
    return _header(found, parameters, seed) + body + _rebuild(seed)


def _header(found: Sequence[Estimate], parameters: int, seed: int) -> str:
    rows = [{"name": e.name, "value": _r(e.value), "low": _r(e.low), "high": _r(e.high), "n": e.n} for e in found]
    table = {
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "parameters": parameters,
        "seed": seed,
        "measured": rows,
    }
    return f"---\n{write_yaml(table)}---\n\n"


def _table(found: Sequence[Estimate]) -> str:
    rows = [f"| {e.name} | {e.value:.3f} | {e.low:.3f} to {e.high:.3f} | {e.n} |" for e in found]
    return "\n".join(["| measured | value | interval | n |", "| --- | --- | --- | --- |", *rows])


def _cells(cells: Mapping[str, Mapping[int, float]]) -> str:
    rows = [
        f"| {family} | {' | '.join(f'{levels[d]:.2f}' for d in sorted(levels))} |" for family, levels in cells.items()
    ]
    return "\n".join(["| family | easy | middle | hard |", "| --- | --- | --- | --- |", *rows])


def _rebuild(seed: int) -> str:
    return f"""
## Rebuilding it

`{REBUILD.format(seed=seed)}` trains both checkpoints and writes this card. The weights are stored in half
precision and computed with in single precision. Equal seeds are meant to give equal weights on one machine with one version
of torch; elsewhere the numbers should agree within their intervals.
"""


def _r(value: float) -> float:
    return round(value, 4)


def publish(model: Any, tokenizer: Any, card: str, folder: Path) -> None:
    """Write a checkpoint and its card to ``folder``, replacing what is there in one step once all is written."""
    fresh = folder.with_name(f".{folder.name}-{os.getpid()}")
    stale = folder.with_name(f".{folder.name}-{os.getpid()}-old")
    weights = {name: value.half() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    model.save_pretrained(fresh, state_dict=weights)
    (fresh / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(fresh, save_jinja_files=False)
    _name_portable_class(fresh / "tokenizer_config.json")
    (fresh / "README.md").write_text(card, encoding="utf-8")
    if folder.exists():
        folder.rename(stale)
    fresh.rename(folder)
    shutil.rmtree(stale, ignore_errors=True)


def _name_portable_class(path: Path) -> None:
    """Transformers 5 writes a class name that transformers 4 does not know; the older name is read by both."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
