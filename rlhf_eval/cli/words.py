"""What every command prints alike for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


def emit(value: Mapping[str, Any]) -> None:
    """One JSON line; NaN and infinities, which JSON lacks, are null."""
    print(msgspec.json.encode(value, enc_hook=_plain).decode(), flush=True)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
