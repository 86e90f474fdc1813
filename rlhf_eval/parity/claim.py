"""Published numbers as claims, and the upstream files that they are checked against.

A claim holds what was published, what this program computes from the same files, and how far apart the two may be. Files
are found by the tail of their path, so a folder of checkouts, one checkout or a part of one will do.

    tree = Tree(Path("checkouts"))
    tree.find("leaderboards/*/*_leaderboard.csv")
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from rlhf_eval.errors import UserError

Verdict = Literal["same", "MISS", "not here", "known fault"]

BROKEN = (
    UserError, ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError, csv.Error,
)  # fmt: skip
"""What a damaged file, or one in another layout, leads to."""

_SKIPPED = {".git", ".hg", "node_modules", "__pycache__", ".venv", "venv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One published number beside ours."""

    peer: str
    subject: str
    """Whose number: a model, a judge, a data set."""
    number: str
    """Which number: ``win_rate``, ``correct_both``."""
    published: float | None = None
    ours: float | None = None
    tolerance: float = 0.0
    """The largest difference that counts as the same; 0 means equal to the last digit."""
    source: str = ""
    """The file, relative to the folder that was walked."""
    note: str = ""
    fault: bool = False
    """The published number is known to be wrong, for the reason in ``note``."""

    @property
    def difference(self) -> float | None:
        """Ours minus published; None where one of them is missing."""
        return None if self.ours is None or self.published is None else self.ours - self.published

    @property
    def verdict(self) -> Verdict:
        """Whether the two agree; a claim that could not be computed is never a pass."""
        difference = self.difference
        if difference is None:
            return "not here"
        if math.isfinite(difference) and abs(difference) <= self.tolerance:
            return "same"
        return "known fault" if self.fault else "MISS"


class Tree:
    """The files under a folder, listed once."""

    def __init__(self, root: Path, *, allow_code: bool = False) -> None:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; parity walks a folder of upstream checkouts")
        self.root = root
        self.allow_code = allow_code
        self._files: list[PurePosixPath] = []
        for folder, inner, names in os.walk(root, followlinks=True):
            inner[:] = sorted(name for name in inner if name not in _SKIPPED)
            base = PurePosixPath(Path(folder).relative_to(root).as_posix())
            self._files += [base / name for name in sorted(names)]

    def find(self, tail: str) -> list[Path]:
        """Files whose path ends in ``tail``, a glob without ``**``."""
        return [self.root / file for file in self._files if file.match(tail)]

    def name(self, path: Path) -> str:
        """A path as reports show it."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


def attempt(peer: str, subject: str, claims: Iterator[Claim]) -> Iterator[Claim]:
    """The claims of one file; one that is not as it was published ends them with a claim that is not here, not a crash."""
    try:
        yield from claims
    except BROKEN as error:
        words = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        yield absent(peer, subject, "the rest", f"the file is not as it was published: {words}")


def of_files(peer: str, tree: Tree, tail: str, claims: Callable[[Tree, Path], Iterator[Claim]]) -> Iterator[Claim]:
    """The claims of every file whose path ends in ``tail``; a single one, not here, where there is none."""
    files = tree.find(tail)
    if not files:
        yield from missing(peer, [tail])
    for file in files:
        yield from attempt(peer, tree.name(file), claims(tree, file))


def printed(text: str, least: float) -> float:
    """The tolerance for a number printed as ``text``: ``least``, or half of its last digit where that was rounded."""
    digits = len(text.partition(".")[2])
    return max(least, 0.51 * 10.0**-digits) if 6 <= digits < 13 else least


def absent(peer: str, subject: str, number: str, why: str) -> Claim:
    """A number whose files are missing."""
    return Claim(peer=peer, subject=subject, number=number, note=why)


def missing(peer: str, wanted: Sequence[str]) -> list[Claim]:
    """The single claim of a peer of whom nothing was found."""
    return [absent(peer, peer, "everything", f"no {' or '.join(wanted)} under this folder")]
