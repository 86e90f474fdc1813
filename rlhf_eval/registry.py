"""The table of contents: plugin name to module path. Nothing is imported until it is used.

Adding a plugin is one file, one line here, one test. From another package it needs no line: name its module,
``--judge their.module``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

from rlhf_eval.errors import UserError, nearest

PLUGINS: Mapping[str, Mapping[str, str]] = {
    "generator": {
        "sample": "generators.sample",
        "pool": "generators.pool",
        "self_instruct": "generators.self_instruct",
        "evolve": "generators.evolve",
        "magpie": "generators.magpie",
        "persona": "generators.persona",
        "constraints": "generators.constraints",
        "critique_revise": "generators.critique_revise",
        "backtranslate": "generators.backtranslate",
        "delta": "generators.delta",
        "degrade": "generators.degrade",
    },
    "selection": {
        "best_worst": "generators.best_worst",
        "best_second": "generators.best_second",
        "best_random_lower": "generators.best_random_lower",
        "all_pairs": "generators.all_pairs",
        "ranking": "generators.ranking",
        "margin_window": "generators.margin_window",
        "correct_incorrect": "generators.correct_incorrect",
        "contrast": "generators.contrast",
        "delta": "generators.delta_pairs",
        "on_off_policy": "generators.on_off_policy",
        "length_matched": "generators.length_matched",
        "bradley_terry": "generators.bradley_terry",
        "unpaired": "generators.unpaired",
        "top_per_prompt": "generators.top_per_prompt",
        "top_k_overall": "generators.top_k_overall",
        "random_per_prompt": "generators.random_per_prompt",
        "random_k_overall": "generators.random_k_overall",
        "threshold": "generators.threshold",
        "rso": "generators.rso",
    },
    "judge": {
        "pairwise": "judges.pairwise",
        "grade": "judges.grade",
        "gold": "judges.gold",
        "rlaif": "judges.rlaif",
        "d_rlaif": "judges.d_rlaif",
        "reward_model": "judges.reward_model",
        "implicit": "judges.implicit",
        "rank": "judges.rank",
        "rubric": "judges.rubric",
        "aspects": "judges.aspects",
        "constitution": "judges.constitution",
        "jury": "judges.jury",
        "panel": "judges.panel",
        "cascade": "judges.cascade",
        "tournament": "judges.tournament",
        "verifier": "judges.verifier",
        "ifeval": "judges.ifeval",
        "length": "judges.length",
        "random": "judges.random",
        "taste": "judges.taste",
    },
    "preset": {"published": "judges.presets"},
    "scorer": {},
    "embedder": {},
    "trainer": {
        "sft": "trainers.sft",
        "reward_model": "trainers.reward_model",
        "dpo": "trainers.dpo",
        "ppo": "trainers.ppo",
    },
    "benchmark": {
        "winrate": "rlhf_eval.benchmarks.winrate",
        "alpaca_eval": "rlhf_eval.benchmarks.alpaca_eval",
        "arena_hard": "rlhf_eval.benchmarks.arena_hard",
        "mt_bench": "rlhf_eval.benchmarks.mt_bench",
        "wildbench": "rlhf_eval.benchmarks.wildbench",
        "preference": "rlhf_eval.benchmarks.preference",
        "reward_model": "rlhf_eval.benchmarks.reward_model",
        "suspects": "rlhf_eval.benchmarks.suspects",
        "llmbar": "rlhf_eval.benchmarks.llmbar",
        "judge_bench": "rlhf_eval.benchmarks.judge_bench",
        "reward_bench": "rlhf_eval.benchmarks.reward_bench",
        "reward_bench_2": "rlhf_eval.benchmarks.reward_bench_2",
        "rm_bench": "rlhf_eval.benchmarks.rm_bench",
        "ppe": "rlhf_eval.benchmarks.ppe",
        "ifeval": "rlhf_eval.benchmarks.ifeval",
        "gsm8k": "rlhf_eval.benchmarks.gsm8k",
        "humaneval": "rlhf_eval.benchmarks.humaneval",
        "best_of_n": "rlhf_eval.benchmarks.best_of_n",
        "overoptimization": "rlhf_eval.benchmarks.overoptimization",
        "diversity": "rlhf_eval.benchmarks.diversity",
        "lm_eval": "rlhf_eval.benchmarks.lm_eval",
        "reward": "rlhf_eval.benchmarks.reward",
        "labelers": "rlhf_eval.benchmarks.labelers",
        "manipulation": "rlhf_eval.benchmarks.manipulation",
    },
    "format": {
        "jsonl": "rlhf_eval.interop.jsonl",
        "alpaca_eval": "rlhf_eval.interop.alpaca_eval",
        "arena_hard": "rlhf_eval.interop.arena_hard",
        "autoj": "rlhf_eval.interop.autoj",
        "judge_bench": "rlhf_eval.interop.judge_bench",
        "llmbar": "rlhf_eval.interop.llmbar",
        "mt_bench": "rlhf_eval.interop.mt_bench",
        "pandalm": "rlhf_eval.interop.pandalm",
        "reward_bench": "rlhf_eval.interop.reward_bench",
        "rm_bench": "rlhf_eval.interop.rm_bench",
        "ppe": "rlhf_eval.interop.ppe",
        "lm_eval": "rlhf_eval.interop.lm_eval",
        "trl": "rlhf_eval.interop.trl",
        "ultrafeedback": "rlhf_eval.interop.ultrafeedback",
        "wildbench": "rlhf_eval.interop.wildbench",
        "gsm8k": "rlhf_eval.interop.gsm8k",
        "ifeval": "rlhf_eval.interop.ifeval",
        "humaneval": "rlhf_eval.interop.humaneval",
        "human": "rlhf_eval.interop.human",
    },
    "page": {"app": "dashboards.shell.app", "report": "dashboards.report"},
}
"""Kind to name to module; the verbs ask for a kind and a name."""

OFFERS: Mapping[str, tuple[str, ...]] = {
    "generator": ("Config", "generate"),
    "selection": ("Config", "choose"),
    "judge": ("Config", "ARITY", "judge"),
    "preset": ("PRESETS", "table"),
    "scorer": ("score",),
    "embedder": ("embed",),
    "trainer": ("Config", "READS", "plan", "train"),
    "benchmark": ("Config", "score"),
    "format": ("read",),
    "page": ("main",),
}
"""The names that a plugin of each kind must have."""

PACKAGES = ("generators", "judges", "trainers", "dashboards")


def load(kind: str, name: str) -> ModuleType:
    """The plugin module called ``name``, or at the dotted path ``name``.

    Raises UserError on an unknown name, a module that cannot be imported, or one that lacks what its kind must offer.
    """
    known = PLUGINS[kind]
    path = known.get(name, name)
    if path == name and "." not in name.strip("."):
        raise UserError(
            f"there is no {kind} '{name}'.{nearest(name, known)} Or give the dotted path of your own module."
        )
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        if error.name and (path == error.name or path.startswith(f"{error.name}.")):
            raise UserError(f"the {kind} '{name}' cannot be imported: no module named '{error.name}'") from error
        raise UserError(f"the {kind} '{name}' needs the package '{error.name}': {install_hint(error.name)}") from error
    missing = [offer for offer in OFFERS[kind] if not hasattr(module, offer)]
    if missing:
        raise UserError(f"{path} is no {kind}: it lacks {' and '.join(missing)}")
    return module


def install_hint(package: str | None) -> str:
    """The command that installs the extra which brings ``package``."""
    extras = {
        "torch": "train",
        "transformers": "train",
        "safetensors": "train",
        "accelerate": "train",
        "peft": "train",
        "vllm": "vllm",
        "ray": "ray",
        "streamlit": "dashboard",
        "altair": "dashboard",
        "lm_eval": "lm-eval",
    }
    extra = extras.get((package or "").partition(".")[0])
    return f"pip install 'rlhf-eval[{extra}]'" if extra else f"pip install {package}"


def check_packages() -> None:
    """Make sure that the plugin packages are ours.

    PyPI has other packages of such plain names; raises UserError naming the folder of one that shadows ours.
    """
    home = Path(__file__).resolve().parent.parent
    for package in PACKAGES:
        try:
            module = import_module(package)
        except ModuleNotFoundError:
            raise UserError(f"the package '{package}' of rlhf-eval is missing; install rlhf-eval again") from None
        places = [Path(place).resolve() for place in module.__path__]
        if home not in (place.parent for place in places):
            raise UserError(
                f"the package '{package}' at {places[0]} shadows the one of rlhf-eval in {home}; "
                f"remove it (pip uninstall {package}) or use a fresh environment"
            )
