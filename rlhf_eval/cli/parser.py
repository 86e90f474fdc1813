"""What can be typed. Nothing heavy is imported here, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NoReturn

from rlhf_eval.cli.explain import Help

EPILOG = """\
the line: load -> generate -> judge -> pairs -> train -> evaluate -> leaderboard, compare, report, dashboard

  rlhf-eval demo                                    the whole loop in the embedded sandbox, about three minutes
  rlhf-eval load jsonl prompts.jsonl
  rlhf-eval generate --model openai:NAME@http://localhost:8000/v1 -n 4
  rlhf-eval judge --judge-model openai:JUDGE@http://localhost:8001/v1
  rlhf-eval pairs --out pairs.jsonl
  rlhf-eval train dpo --model hf:NAME --data latest:pairs

a model is [alias=]scheme:name: openai:NAME@URL, hf:PATH, vllm:PATH, run:REF of a training, sandbox:policy,
  sandbox:judge, mock:writer
exit codes: 0 ok, 1 crash, 2 your mistake, 3 too many failures, 4 gate failed, 5 stopped by budget, 130 Ctrl-C
"""


class Parser(argparse.ArgumentParser):
    """A parser whose refusals are one line."""

    def error(self, message: str) -> NoReturn:
        """Exit 2 with what is wrong and where to look."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse; a command answers for its own flags, so that it can name the nearest."""
        options, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized: {' '.join(rest)}{self._nearest(rest[0])}")
        return options, rest

    def _nearest(self, flag: str) -> str:
        close = get_close_matches(flag, re.findall(r"--?[a-z][a-z-]*", self.format_usage()), n=1)
        return f" (did you mean {close[0]}?)" if close else ""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from rlhf_eval import __version__

    parser = Parser(
        prog="rlhf-eval",
        description="Evaluation and synthetic preference data for RLHF.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rlhf-eval {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help_text: str, *, work: bool = True) -> argparse.ArgumentParser:
        description = help_text[0].upper() + help_text[1:] + "."
        command = commands.add_parser(name, help=help_text, description=description, add_help=False)
        command.add_argument("-h", "--help", action=Help, const=name)
        _common(command, work=work)
        return command

    for declare in (
        _load,
        _generate,
        _judge,
        _pairs,
        _sets,
        _train,
        _online,
        _evaluate,
        _audit,
        _leaderboard,
        _compare,
        _parity,
        _plan,
        _correlate,
        _run,
        _lab,
        _runs,
        _pages,
        _other,
    ):
        declare(add)
    return parser


Add = Callable[..., argparse.ArgumentParser]


def _load(add: Add) -> None:
    command = add("load", "read prompts, or a peer's results folder, into the store")
    command.add_argument("source", help="sandbox, jsonl, alpaca_eval, ...")
    command.add_argument("path", nargs="?", help="file or folder, for everything but the sandbox")
    command.add_argument("--split", help="part of the sandbox: train or heldout")


def _generate(add: Add) -> None:
    command = add("generate", "draw completions for prompts")
    command.add_argument("--prompts", metavar="RUN|FILE", help="a run that holds prompts, or a file (default: latest)")
    command.add_argument("--generator", metavar="PLUGIN", help="what asks (default: sample)")
    command.add_argument(
        "--model", action="append", metavar="SPEC", help="a model, or several; SPEC --help: its options"
    )
    command.add_argument("-n", type=int, help="completions a prompt and model")
    command.add_argument("--temperature", type=float, help="sampling temperature")


def _judge(add: Add) -> None:
    command = add("judge", "judge the completions of a run")
    command.add_argument("--completions", metavar="RUN", help="a run that holds completions (default: latest)")
    _judge_flags(command)
    command.add_argument("--matches", help="which completions meet: all, first, ring:K")
    command.add_argument(
        "--preset", metavar="NAME", help="a published protocol: mt_bench, arena_hard_v2, alpaca_eval_2 ..."
    )
    command.add_argument("--template", metavar="FILE", help="your own template, or with --preset the upstream one")
    command.add_argument("--repeats", type=int, help="how often each question is put")


def _judge_flags(command: argparse.ArgumentParser, *, plugin: bool = True) -> None:
    if plugin:
        command.add_argument(
            "--judge", metavar="PLUGIN", help="pairwise, grade, gold, or your.module (default: pairwise)"
        )
    command.add_argument("--judge-model", metavar="SPEC", help="the model behind the judge")
    command.add_argument("--orders", choices=("both", "one"), help="show both orders, or one with balanced sides")


def _pairs(add: Add) -> None:
    command = add("pairs", "make preference pairs and an SFT set from judgments, without any call")
    command.add_argument("--judgments", metavar="RUN", help="a run that holds judgments (default: latest)")
    command.add_argument("--rule", metavar="PLUGIN", help="what selects (default: best_worst)")
    command.add_argument("--by", metavar="JUDGE", help="the judge that counts, where the run holds several")
    command.add_argument("--labels", action="append", metavar="FILE", help="people's labels, as route made them")
    command.add_argument("--aggregate", metavar="HOW", help="several labelers: mean, majority, dawid_skene, low_median")
    command.add_argument(
        "--calibrate", metavar="HOW", help="fit probabilities to people or gold: temperature, isotonic"
    )
    command.add_argument("--against", action="append", metavar="FILE", help="a benchmark that the set must not hold")
    command.add_argument("--out", metavar="FILE", help="also write the set, by default as JSONL that TRL reads")
    command.add_argument(
        "--format", metavar="SHAPE", help="trl, trl_text, openrlhf, axolotl, nemo_rl, handbook, hub ..."
    )
    command.add_argument(
        "--compare", nargs="+", metavar="RULE", help="the sets of several rules side by side; nothing is stored"
    )


def _sets(add: Add) -> None:
    command = add("lint", "write the data card of anybody's preference file", work=False)
    command.add_argument("file", help="a file or folder of preference pairs, in any shape that trainers read")
    command.add_argument("--against", action="append", metavar="FILE", help="a benchmark that the set must not hold")
    command.add_argument("--policy", action="append", metavar="MODEL", help="a model that will be trained on it")
    command.add_argument("--out", metavar="STEM", help="write the card to STEM.md and STEM.json")
    command.add_argument(
        "--suspects", metavar="FILE", help="write the pairs whose labels the other pairs speak against"
    )
    command.add_argument("--strict", action="store_true", default=None, help="exit 4 where there is a warning")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N pairs")
    command.add_argument("--seed", type=int, default=0, help="seed of the samples of diversity (%(default)s)")
    command = add("corrupt", "plant wrong labels in a preference set, to test what stands or finds them", work=False)
    command.add_argument("data", nargs="?", default="latest", metavar="RUN|FILE", help="the pairs (default: latest)")
    command.add_argument(
        "--kind", help="random, top_margin, irrational, stochastic, myopic, systematic (default: random)"
    )
    command.add_argument("--rate", type=float, help="share of the labels that are turned, to the nearest pair")
    command.add_argument("--judge", metavar="PLUGIN", help="true rewards by program: gold (default: stated margins)")
    command.add_argument("--out", metavar="FILE", help="write the set; its rows say which labels were turned")
    command.add_argument("--format", metavar="SHAPE", help="shape of the file, as in pairs (default: trl)")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N pairs")
    command.add_argument("--seed", type=int, default=0, help="seed of the draw (%(default)s)")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="corruption.KEY: temperature, part, feature ..."
    )
    command = add("verify", "make every label of a set again from the stored replies, and compare", work=False)
    command.add_argument("which", nargs="?", default="latest", metavar="SET", help="a run of pairs, or a file of one")
    command.add_argument("--judge-model", metavar="SPEC", help="the model behind the judge, where its name is no spec")
    command.add_argument("--strict", action="store_true", default=None, help="exit 4 where a label differs")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="judge.KEY, as the judge had it"
    )
    command = add("route", "draw the comparisons that are most worth a person's minute", work=False)
    command.add_argument("--judgments", metavar="RUN", help="a run that holds comparisons (default: latest)")
    command.add_argument("-n", type=int, help="comparisons for people (default: 100)")
    command.add_argument(
        "--uniform", type=float, metavar="SHARE", help="share of equal chances in the draw (default: .2)"
    )
    command.add_argument("--labels", action="append", metavar="FILE", help="labels that people have given already")
    command.add_argument("--out", metavar="FILE", help="the file to fill in (default: labels.jsonl)")
    command.add_argument("--seed", type=int, default=0, help="seed of the draw (%(default)s)")


def _train(add: Add) -> None:
    command = add("train", "train a checkpoint: sft, reward_model, dpo, ppo")
    command.add_argument("trainer", help="what trains: sft, reward_model, dpo, ppo, or your.module")
    command.add_argument(
        "--model", metavar="SPEC", help="where it starts: sandbox:policy, hf:PATH, run:REF of a training"
    )
    command.add_argument("--data", metavar="RUN|FILE", help="pairs, demonstrations or prompts (default: latest)")
    command.add_argument(
        "--heldout", metavar="RUN|FILE", help="what is measured and not trained on: prompts, for reward models pairs"
    )
    command.add_argument("--reward-judge", metavar="PLUGIN", help="the judge that rewards, for online trainers")
    command.add_argument("--reward-model", metavar="SPEC", help="the model behind that judge")
    command.add_argument("--out", metavar="DIR", help="also copy the checkpoint there")


def _online(add: Add) -> None:
    command = add("online", "generate, judge, select and train in rounds, each from the last round's checkpoint")
    command.add_argument("method", choices=("dpo", "rejection_sampling"), help="what a round learns from, and how")
    command.add_argument("--model", metavar="SPEC", help="the checkpoint of the first round")
    command.add_argument("--prompts", metavar="RUN|FILE", help="a run that holds prompts, or a file (default: latest)")
    command.add_argument("--rounds", type=int, help="how often to go round (default: 3)")
    command.add_argument("-n", type=int, help="answers a prompt and round (default: 4)")
    _judge_flags(command)


def _evaluate(add: Add) -> None:
    command = add("evaluate", "compare models with a baseline on the same prompts")
    command.add_argument("benchmark", nargs="?", help="what scores (default: winrate), or a suite: SUITE.yaml")
    command.add_argument("--prompts", metavar="RUN|FILE", help="a run that holds prompts, or a file (default: latest)")
    command.add_argument("--model", action="append", metavar="SPEC", help="a model, or NAME=run:REF for stored answers")
    command.add_argument("--baseline", metavar="SPEC", help="the model to compare with")
    command.add_argument(
        "--judge", action="append", metavar="PLUGIN[=SPEC]", help="a judge; several, with their models, make one table"
    )
    _judge_flags(command, plugin=False)
    command.add_argument("--temperature", type=float, help="sampling temperature of the models")
    command.add_argument("--check", metavar="JUDGE", help="a judge by program to hold beside the judge: gold")
    command.add_argument("--judgments", metavar="RUN", help="score the judgments that a run holds, without any call")
    command.add_argument("--labels", metavar="JUDGE", help="whose labels are right, where a judge is measured: gold")
    command.add_argument(
        "--human", metavar="PATH", help="people's labels (a file, or a store's labels/) that correct it"
    )
    command.add_argument("--stop-when", choices=("never", "decided"), help="stop once the win rate is decided")


def _audit(add: Add) -> None:
    command = add("audit", "measure a judge: what it is worth, what moves it, what that costs")
    command.add_argument("--judge", metavar="PLUGIN|NAME", help="a judge plugin, or the start of a stored judge's name")
    command.add_argument(
        "--judge-model", metavar="SPEC", help="the model behind it; without, stored judgments are read"
    )
    command.add_argument(
        "--completions", metavar="RUN", help="a run whose answers are used (default: all that it judged)"
    )
    command.add_argument("--reference", metavar="JUDGE", help="a judge that is right (default: gold and human labels)")
    command.add_argument("--own", action="append", metavar="MODEL", help="a model whose answers are the judge's own")
    command.add_argument("--buy", metavar="KINDS", help="all, none, or some of swaps,repeats,copies,triples,injections")
    command.add_argument("--sample", type=int, metavar="N", help="prompts for which anything is bought (default: 50)")
    command.add_argument("--repeats", type=int, metavar="N", help="how often each question is put again (default: 1)")
    command.add_argument("--attacks", type=int, metavar="N", help="injected orders that each prompt tries (default: 4)")
    command.add_argument("--heavy", action="store_true", default=None, help="also try an answer of 100,000 characters")
    command.add_argument(
        "--compare", nargs=2, metavar=("OLD", "NEW"), help="would another judge change the leaderboard?"
    )


def _leaderboard(add: Add) -> None:
    command = add("leaderboard", "show every model's win rate, or mean grade, from the stored judgments", work=False)
    command.add_argument("--judge", default="", help="only this judge (the start of its name)")
    command.add_argument("--baseline", default="", help="compare with this model (default: whoever stood second)")
    command.add_argument("--run", default="", help="only this run's judgments")
    command.add_argument("--by", choices=("category", "turn"), default="", help="one board for each category, or turn")
    command.add_argument("--grades", action="store_true", help="mean grades of single answers instead of win rates")
    command.add_argument("--rank", action="store_true", help="rank all models that met, by Bradley-Terry strength")
    command.add_argument("--format", choices=("table", "md", "csv", "latex", "json"), default="table")


def _compare(add: Add) -> None:
    command = add("compare", "say whether model A is better than model B, paired by prompt", work=False)
    command.add_argument("a", metavar="A")
    command.add_argument("b", metavar="B")
    command.add_argument("--judge", default="", help="only this judge (the start of its name)")
    command.add_argument("--run", default="", help="only this run's judgments")
    command.add_argument("--by", choices=("category",), default="", help="also for each category of prompts")
    command.add_argument("--fail-on-regression", action="store_true", help="exit 4 if A is surely worse than B")


def _plan(add: Add) -> None:
    command = add("plan", "say before spending how many prompts and calls a difference needs, by design", work=False)
    command.add_argument(
        "--effect", type=float, metavar="D", help="smallest distance from .5 that matters: .05 is 55 %%"
    )
    command.add_argument("--prompts", type=int, metavar="N", help="prompts that there are")
    command.add_argument("--power", type=float, default=0.8, help="chance to find the effect (%(default)s)")
    command.add_argument("--price", type=float, metavar="USD", help="dollars a judge call")
    command.add_argument("--like", default="", metavar="RUN", help="learn the variances from this run's judgments")


def _correlate(add: Add) -> None:
    command = add("correlate", "compare a leaderboard's order with a reference ranking", work=False)
    command.add_argument("reference", help="a CSV with models and their scores")
    command.add_argument("--column", default="", help="the column of scores (default: the first of numbers)")
    command.add_argument("--name", default="", help="the column of model names (default: model)")
    command.add_argument("--judge", default="", help="only this judge (the start of its name)")
    command.add_argument("--baseline", default="", help="compare with this model")


def _parity(add: Add) -> None:
    command = add("parity", "derive published numbers again from the files that they were published with", work=False)
    command.add_argument("path", help="a folder of upstream checkouts, or one of them")
    command.add_argument("--only", default="", metavar="PEER", help="one peer: alpaca_eval, llmbar, ...")
    command.add_argument("--allow-code", action="store_true", help="run the programs that HumanEval's example holds")


def _run(add: Add) -> None:
    command = add("run", "run a recipe: the line, written down in YAML")
    command.add_argument("recipe", help="a file, or the name of a recipe that ships: demo")
    add("demo", "run the whole line in the embedded sandbox")


def _lab(add: Add) -> None:
    command = add("lab", "list studies with a control arm, or run them over seeds", work=False)
    command.add_argument("study", nargs="*", help="names of studies, or files of your own (default: list them)")
    command.add_argument("--quick", action="store_true", help="the small version; of all studies if none is named")
    command.add_argument("--all", action="store_true", help="run all studies in full")
    command.add_argument("--seeds", type=int, metavar="K", help="how many seeds, instead of the study's own number")
    command.add_argument("--seed", type=int, default=0, help="the first seed (%(default)s)")
    command.add_argument("--set", action="append", default=[], metavar="STEP.KEY=VALUE", help="laid over every arm")
    command.add_argument("--dry-run", action="store_true", help="say what would run and how long it took elsewhere")


def _runs(add: Add) -> None:
    command = add("runs", "list, show or remove the runs of the store", work=False)
    command.add_argument("action", nargs="?", choices=("ls", "show", "rm"), default="ls", help="(default: ls)")
    command.add_argument("run", nargs="*", help="ids, the start of their hash, or latest")


def _pages(add: Add) -> None:
    for name, words in (
        ("dashboard", "open the pages over the store in a browser"),
        ("label", "open the page where people say which of two answers is better"),
    ):
        command = add(name, words, work=False)
        command.add_argument("--run", default="", help="start with this run")
        command.add_argument("--port", type=int, metavar="N", help="(default: the first free one from 8501)")
        command.add_argument("--host", default="127.0.0.1", help="another address lets others in (%(default)s)")
    command = add("report", "write results, judge cards and the top flips into one file", work=False)
    command.add_argument("--run", default="", help="only this run's judgments")
    command.add_argument("--judge", default="", help="only this judge (the start of its name)")
    command.add_argument("--baseline", default="", help="only against this model")
    command.add_argument("--format", choices=("html", "md", "latex"), default="html")
    command.add_argument("-o", "--out", metavar="FILE", help="(default: report.html, report.md or report.tex)")


def _other(add: Add) -> None:
    command = add("status", "say how far a run is, from another terminal", work=False)
    command.add_argument("run", nargs="?", default="latest", help="id, the start of its hash, or latest")
    command = add("cache", "show or shrink the cache of replies", work=False)
    command.add_argument("action", choices=("stats", "prune"))
    command.add_argument("--older-than", type=float, metavar="DAYS", help="prune replies not used for so long")
    command.add_argument("--max-mb", type=float, metavar="MB", help="prune the least recently used replies above this")
    command = add("doctor", "check the installation, the store and any model", work=False)
    command.add_argument(
        "--model", action="append", default=[], metavar="SPEC", help="a model to try; SPEC --help shows its options"
    )


def _folder(text: str) -> str:
    """The text; an empty one, such as of a shell variable that is not set, would be the folder where one stands."""
    if not text:
        raise argparse.ArgumentTypeError("its name is empty; give a folder")
    return text


def _common(command: argparse.ArgumentParser, *, work: bool) -> None:
    shared = command.add_argument_group("shared by all commands")
    shared.add_argument(
        "--store", default="rlhf-eval-store", type=_folder, metavar="DIR", help="where runs are kept (%(default)s)"
    )
    shared.add_argument("--json", action="store_true", help="JSON lines on standard output")
    shared.add_argument("-q", "--quiet", action="store_true", help="no progress line")
    if not work:
        return
    shared.add_argument("--config", metavar="FILE", help="settings in YAML; flags win over the file")
    shared.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, as in the file")
    shared.add_argument("--limit", type=int, metavar="N", help="only the first N prompts")
    shared.add_argument("--seed", type=int, default=0, help="seed of everything random (%(default)s)")
    shared.add_argument("--dry-run", action="store_true", help="say what would be done and cost, and do nothing")
    shared.add_argument("--pilot", type=int, metavar="N", help="with --dry-run: buy the first N prompts to learn from")
    shared.add_argument("--fresh", action="store_true", help="start a new run instead of resuming the last one")
    shared.add_argument("--retry-failed", action="store_true", help="try the failed prompts of a finished run again")
    shared.add_argument("--no-cache", action="store_true", help="neither use nor keep cached replies")
    shared.add_argument("--concurrency", type=int, default=64, metavar="N", help="requests in flight (%(default)s)")
    shared.add_argument(
        "--batch", action="store_true", help="use the provider's batch API: half the price, hours of delay"
    )
    shared.add_argument("--engine", choices=("local", "ray"), default="local", help="who does the work (%(default)s)")
    shared.add_argument(
        "--address", default="", help="with --engine ray: the cluster, or auto (default: start one here)"
    )
    shared.add_argument("--workers", type=int, metavar="N", help="with --engine ray: copies of the flow")
    shared.add_argument("--tensor-parallel", type=int, default=1, metavar="N", help="with --engine ray: GPUs a model")
    shared.add_argument("--rpm", type=float, default=0, metavar="N", help="requests a minute and endpoint, at most")
    shared.add_argument("--tpm", type=float, default=0, metavar="N", help="tokens a minute and endpoint, at most")
    shared.add_argument("--max-cost", type=float, metavar="USD", help="stop (exit 5) before this is overrun")
    shared.add_argument("--max-tokens", type=int, metavar="N", help="stop (exit 5) before this is overrun")
    shared.add_argument("--max-errors", type=int, metavar="N", help="stop (exit 3) when more prompts than this fail")
    shared.add_argument("--prices", metavar="FILE", help="prices of your own, in YAML")
