"""What can be typed. Nothing heavy is imported here, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable

EPILOG = """\
the line: load -> generate -> judge -> pairs -> evaluate -> leaderboard, compare

  rlhf-eval demo                                    the whole line in the embedded sandbox, about a minute
  rlhf-eval load jsonl prompts.jsonl
  rlhf-eval generate --model openai:NAME@http://localhost:8000/v1 -n 4
  rlhf-eval judge --judge-model openai:JUDGE@http://localhost:8001/v1
  rlhf-eval pairs --out pairs.jsonl

a model is [alias=]scheme:name: openai:NAME@URL, hf:PATH, vllm:PATH, sandbox:policy, sandbox:judge, mock:writer
exit codes: 0 ok, 1 crash, 2 your mistake, 3 too many failures, 4 gate failed, 5 stopped by budget, 130 Ctrl-C
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from rlhf_eval import __version__

    parser = argparse.ArgumentParser(
        prog="rlhf-eval",
        description="Evaluation and synthetic preference data for RLHF.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rlhf-eval {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help_text: str, *, work: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        _common(command, work=work)
        return command

    for declare in (_load, _generate, _judge, _pairs, _evaluate, _leaderboard, _compare, _run, _runs, _other):
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
    command.add_argument("--model", action="append", metavar="SPEC", help="a model; may be given several times")
    command.add_argument("-n", type=int, help="completions a prompt and model")
    command.add_argument("--temperature", type=float, help="sampling temperature")


def _judge(add: Add) -> None:
    command = add("judge", "judge the completions of a run")
    command.add_argument("--completions", metavar="RUN", help="a run that holds completions (default: latest)")
    _judge_flags(command)
    command.add_argument("--matches", help="which completions meet: all, first, ring:K")
    command.add_argument("--repeats", type=int, help="how often each question is put")


def _judge_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--judge", metavar="PLUGIN", help="pairwise, grade, gold, or your.module (default: pairwise)")
    command.add_argument("--judge-model", metavar="SPEC", help="the model behind the judge")
    command.add_argument("--orders", choices=("both", "one"), help="show both orders, or one with balanced sides")


def _pairs(add: Add) -> None:
    command = add("pairs", "make preference pairs and an SFT set from judgments, without any call")
    command.add_argument("--judgments", metavar="RUN", help="a run that holds judgments (default: latest)")
    command.add_argument("--rule", metavar="PLUGIN", help="what selects (default: best_worst)")
    command.add_argument("--by", metavar="JUDGE", help="the judge that counts, where the run holds several")
    command.add_argument("--out", metavar="FILE", help="also write the pairs as JSONL that TRL reads")


def _evaluate(add: Add) -> None:
    command = add("evaluate", "compare models with a baseline on the same prompts")
    command.add_argument("benchmark", nargs="?", help="what scores (default: winrate)")
    command.add_argument("--prompts", metavar="RUN|FILE", help="a run that holds prompts, or a file (default: latest)")
    command.add_argument("--model", action="append", metavar="SPEC", help="a model, or NAME=run:REF for stored answers")
    command.add_argument("--baseline", metavar="SPEC", help="the model to compare with")
    _judge_flags(command)
    command.add_argument("--temperature", type=float, help="sampling temperature of the models")
    command.add_argument("--check", metavar="JUDGE", help="a judge by program to hold beside the judge: gold")


def _leaderboard(add: Add) -> None:
    command = add("leaderboard", "show every model's win rate from the stored judgments", work=False)
    command.add_argument("--judge", default="", help="only this judge (the start of its name)")
    command.add_argument("--baseline", default="", help="compare with this model (default: whoever stood second)")
    command.add_argument("--run", default="", help="only this run's judgments")


def _compare(add: Add) -> None:
    command = add("compare", "say whether model A is better than model B, paired by prompt", work=False)
    command.add_argument("a", metavar="A")
    command.add_argument("b", metavar="B")
    command.add_argument("--judge", default="", help="only this judge (the start of its name)")
    command.add_argument("--fail-on-regression", action="store_true", help="exit 4 if A is surely worse than B")


def _run(add: Add) -> None:
    command = add("run", "run a recipe: the line, written down in YAML")
    command.add_argument("recipe", help="a file, or the name of a recipe that ships: demo")
    add("demo", "run the whole line in the embedded sandbox")


def _runs(add: Add) -> None:
    command = add("runs", "list, show or remove the runs of the store", work=False)
    command.add_argument("action", choices=("ls", "show", "rm"))
    command.add_argument("run", nargs="*", help="ids, the start of their hash, or latest")


def _other(add: Add) -> None:
    command = add("status", "say how far a run is, from another terminal", work=False)
    command.add_argument("run", nargs="?", default="latest", help="id, the start of its hash, or latest")
    command = add("cache", "show or shrink the cache of replies", work=False)
    command.add_argument("action", choices=("stats", "prune"))
    command.add_argument("--older-than", type=float, metavar="DAYS", help="prune replies not used for so long")
    command.add_argument("--max-mb", type=float, metavar="MB", help="prune the least recently used replies above this")
    command = add("doctor", "check the installation, the store and any model", work=False)
    command.add_argument("--model", action="append", default=[], metavar="SPEC", help="a model to try")


def _common(command: argparse.ArgumentParser, *, work: bool) -> None:
    shared = command.add_argument_group("shared by all commands")
    shared.add_argument("--store", default="rlhf-eval-store", metavar="DIR", help="where runs are kept (%(default)s)")
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
    shared.add_argument("--rpm", type=float, default=0, metavar="N", help="requests a minute and endpoint, at most")
    shared.add_argument("--tpm", type=float, default=0, metavar="N", help="tokens a minute and endpoint, at most")
    shared.add_argument("--max-cost", type=float, metavar="USD", help="stop (exit 5) before this is overrun")
    shared.add_argument("--max-tokens", type=int, metavar="N", help="stop (exit 5) before this is overrun")
    shared.add_argument("--max-errors", type=int, metavar="N", help="stop (exit 3) when more prompts than this fail")
    shared.add_argument("--prices", metavar="FILE", help="prices of your own, in YAML")
