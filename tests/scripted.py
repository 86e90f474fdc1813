"""A model that says what it was told to say."""

from __future__ import annotations

import asyncio

from rlhf_eval.models.base import ChatRequest, Choice, Reply
from rlhf_eval.models.mock import MockModel


class Scripted(MockModel):
    """Gives prepared replies in turn, whatever is asked, and notes what was."""

    def __init__(self, *replies: str | Choice) -> None:
        super().__init__("echo")
        self.replies = [Choice(text=reply) if isinstance(reply, str) else reply for reply in replies]
        self.requests: list[ChatRequest] = []

    async def chat(self, request: ChatRequest) -> Reply:
        assert self.replies, "no reply was prepared for this request"
        self.requests.append(request)
        taken, self.replies = self.replies[: request.n], self.replies[request.n :]
        await asyncio.sleep(0)
        return Reply(choices=tuple(taken))
