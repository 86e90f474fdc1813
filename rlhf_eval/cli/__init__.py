"""The command line: the verbs as commands. The only room that knows everything.

    rlhf-eval --help

Exit codes: 0 ok, 1 crash, 2 the user's mistake, 3 too many failed items, 4 a gate failed, 5 stopped by budget,
130 Ctrl-C (what is done is saved, and the line that resumes is printed).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

from rlhf_eval.cli.parser import build_parser
from rlhf_eval.errors import BudgetExceeded, Interrupted, RlhfEvalError, TooManyFailures


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = build_parser().parse_args(arguments)
    options.typed = f"rlhf-eval {shlex.join(arguments)}"
    again = f"resume: rlhf-eval {shlex.join(word for word in arguments if word != '--fresh')}"
    try:
        from rlhf_eval.cli import commands

        return commands.run(options)
    except RlhfEvalError as error:
        print(f"rlhf-eval: {error}", file=sys.stderr)
        if isinstance(error, Interrupted | BudgetExceeded | TooManyFailures):
            print(again, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"\nrlhf-eval: interrupted\n{again}", file=sys.stderr)
        return Interrupted.exit_code
    except BrokenPipeError:
        # The reader of our output has gone (head, less): nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
