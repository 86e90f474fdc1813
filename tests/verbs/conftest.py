"""Sessions on a store of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.verbs.load import LoadResult, load
from rlhf_eval.verbs.session import Options, Session


class World:
    """Opens sessions on one store, and runs verbs in them as a command does: one session each, closed afterwards."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def session(self, **options: Any) -> Session:
        return Session(Options(store=self.home / "store", quiet=True, **options))

    def do(self, verb: Callable[[Session], Awaitable[Any] | Any], **options: Any) -> Any:
        """What ``verb`` returns in a session of its own."""

        async def work() -> Any:
            session = self.session(**options)
            try:
                result = verb(session)
                return await result if isinstance(result, Awaitable) else result
            finally:
                await session.close()

        return asyncio.run(work())

    def prompts(self, count: int = 10, name: str = "prompts.jsonl") -> Path:
        path = self.home / name
        path.write_text("".join(f'{{"prompt": "Question {k}?"}}\n' for k in range(count)), encoding="utf-8")
        return path

    def load(self, count: int = 10) -> LoadResult:
        path = self.prompts(count)
        result: LoadResult = self.do(lambda session: load(session, {"source": "jsonl", "path": str(path)}))
        return result


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
