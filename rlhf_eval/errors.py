"""What can go wrong, and the exit code that each thing becomes.

    RlhfEvalError
    ├── UserError              2   a mistake in a flag, a file, a setting or an address; one line, no traceback
    │   ├── BadRecord          2   a row that cannot be a record (the loader adds file and line)
    │   └── ModelUnavailable   2   the endpoint refuses everybody: unreachable, 401, 403, 404
    ├── TooManyFailures        3   the run finished or stopped with more failed items than allowed
    ├── GateFailed             4   a comparison that the caller asked to hold did not hold
    ├── BudgetExceeded         5   stopped by --max-cost or --max-tokens; what was done is valid and kept
    ├── Interrupted          130   Ctrl-C: requests in flight were let finish, the rest waits for a resume
    └── RequestFailed          -   one request failed; it becomes a recorded failure, never an exit

A failed request is data about the model; only what makes every further request fail stops a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RlhfEvalError(Exception):
    """Base of every error that this project raises on purpose."""

    exit_code = 1


class UserError(RlhfEvalError):
    """A mistake that the user can mend: says what, where, what is allowed and what to do."""

    exit_code = 2


class BadRecord(UserError):
    """A row that cannot become a record."""


class ModelUnavailable(UserError):
    """An endpoint that will refuse every request: unreachable, unauthorised, or not there."""


class TooManyFailures(RlhfEvalError):
    """More items failed than ``--max-errors`` allows."""

    exit_code = 3


class GateFailed(RlhfEvalError):
    """A check that the caller asked for (``--fail-on-regression``) did not hold."""

    exit_code = 4


class BudgetExceeded(RlhfEvalError):
    """The spending limit was reached; the results so far are valid and stored."""

    exit_code = 5


class Interrupted(RlhfEvalError):
    """The user pressed Ctrl-C; what is done is stored."""

    exit_code = 130


class RequestFailed(RlhfEvalError):
    """One request failed for good; ``kind`` names how, the message keeps the server's words.

    Kinds: ``timeout``, ``connection``, ``rate_limit``, ``server``, ``bad_request``, ``context_overflow``,
    ``content_filter``, ``malformed``.
    """

    def __init__(self, kind: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.kind}: {super().__str__()}"


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The tail of an error message: the closest allowed name, then all of them."""
    names = sorted(allowed)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"{hint} Allowed: {', '.join(name or repr(name) for name in names) or 'nothing'}."
