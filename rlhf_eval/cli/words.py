"""What every command prints alike: JSON lines for programs, and the flag that names a store in the next command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rlhf_eval.verbs.session import Options


def emit(value: Mapping[str, Any]) -> None:
    """One JSON line; NaN and infinities, which JSON lacks, are null."""
    print(msgspec.json.encode(value, enc_hook=_plain).decode(), flush=True)


def store_flag(store: Path) -> str:
    """`` --store DIR``, as a shell reads it; empty for the store that is used unasked."""
    return "" if store == Options().store else f" --store {shlex.quote(str(store))}"


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
