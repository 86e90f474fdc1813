"""A judge from outside the package, by program: the quality that a planted answer states of itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_eval.records import Completion, Prompt, Verdict

ARITY = 1
NEEDS_MODEL = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """No settings."""


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Any, config: Config) -> Verdict:
    found = re.findall(r"quality=([01](?:\.\d+)?)", completions[0].text)
    return Verdict(scores=(float(found[-1]),)) if found else Verdict(error="unparsed: no quality")
