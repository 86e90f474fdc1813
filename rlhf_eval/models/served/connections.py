"""Keep-alive HTTP/1.1 connections, lean enough for a thousand requests in flight.

One request at a time on each connection, a free list for each address, no limit on their number: the door sets the
concurrency. A request costs the same whatever is in flight. Framing is RFC 9112: Content-Length, chunked, or the end of
the connection.

    answer = await Pool(ssl.create_default_context).exchange(address("http://localhost:8000/v1/models"), message, ...)
"""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

IDLE_SECONDS = 4.0
"""An idle connection older than this is not reused: uvicorn, hence vLLM, closes them after 5."""
HEAD_LIMIT = 1 << 16


class NotConnected(ConnectionError):
    """No connection could be opened."""


class BrokenReply(ConnectionError):
    """The connection ended, or sent something else than HTTP/1.1, before the reply was complete."""


class Address(NamedTuple):
    """Where a URL leads."""

    host: str
    port: int
    tls: bool
    authority: str
    target: str


@lru_cache(maxsize=64)
def address(url: str) -> Address:
    """The parts of an absolute URL that a connection needs; raises NotConnected if it is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotConnected(f"{url!r} is no http:// or https:// address")
    tls = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.hostname, parts.port or (443 if tls else 80), tls, parts.netloc.rpartition("@")[2], target)


class Answer(NamedTuple):
    """A response as it came off the wire; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.reusable = False
        self.idle_since = 0.0
        self._transport: Any = None
        self._reply: asyncio.Future[Answer] | None = None
        self._clear()

    def _clear(self) -> None:
        self._buffer = bytearray()
        self._body = bytearray()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._length: int | None = None
        self._chunked = False

    async def exchange(self, message: bytes, timeout: float | None) -> Answer:
        """Send ``message`` and wait at most ``timeout`` seconds for the whole answer; a failure closes the connection."""
        loop = asyncio.get_running_loop()
        self.reusable = False
        reply: asyncio.Future[Answer] = loop.create_future()
        self._reply = reply
        alarm = loop.call_later(timeout, self._expire, timeout) if timeout is not None else None
        self._transport.write(message)
        try:
            return await reply
        except BaseException:
            self._transport.abort()
            raise
        finally:
            self._reply = None
            if alarm:
                alarm.cancel()

    def abort(self) -> None:
        """Close at once; a request in flight fails."""
        self.reusable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect bytes until the answer is complete."""
        if self._reply is None or self._reply.done():
            self.abort()
            return
        self._buffer += data
        try:
            if (self._status or self._take_head()) and self._take_body():
                self._finish()
        except (ValueError, IndexError) as error:
            self._fail(BrokenReply(f"the reply is not HTTP/1.1: {error}"))
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer if only its end was missing; else fail it."""
        self.reusable = False
        if self._reply is None or self._reply.done():
            return
        if self._status and self._length is None and not self._chunked and exc is None:
            self._body += self._buffer
            self._finish()
            return
        begun = self._status or self._buffer
        self._fail(BrokenReply(f"the server closed the connection {'amid its reply' if begun else 'without a reply'}"))

    def _take_head(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > HEAD_LIMIT:
                    raise ValueError("its header is too long")
                return False
            first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
            del self._buffer[: end + 4]
            version, status = first.split(" ", 2)[:2]
            if not version.startswith("HTTP/1."):
                raise ValueError(f"it begins with {first[:20]!r}")
            if not status.startswith("1"):
                break
        self._read_head(version, int(status), lines)
        return True

    def _read_head(self, version: str, status: int, lines: list[str]) -> None:
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._status, self._headers = status, headers
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        if status in (204, 304):
            self._length = 0
        elif length and not self._chunked:
            self._length = int(length)
        keep = headers.get("connection", "keep-alive").lower() != "close"
        self.reusable = keep and version == "HTTP/1.1" and (self._chunked or self._length is not None)

    def _take_body(self) -> bool:
        if self._chunked:
            return self._take_chunks()
        if self._length is None or len(self._buffer) < self._length:
            return False
        self._body = self._buffer
        return True

    def _take_chunks(self) -> bool:
        while (end := self._buffer.find(b"\r\n")) >= 0:
            size = int(self._buffer[:end].split(b";")[0], 16)
            if size == 0:
                return self._buffer.find(b"\r\n\r\n", end) >= 0
            if len(self._buffer) < end + size + 4:
                return False
            self._body += self._buffer[end + 2 : end + 2 + size]
            del self._buffer[: end + size + 4]
        return False

    def _finish(self) -> None:
        answer = Answer(self._status, self._headers, bytes(self._body[: self._length]))
        self._clear()
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(answer)

    def _expire(self, timeout: float) -> None:
        self._fail(TimeoutError(f"no reply within {timeout:g} s"))

    def _fail(self, error: Exception) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)


Key = tuple[str, int, bool, Callable[[], ssl.SSLContext]]
"""Requests with the same key may use the same connection: host, port, TLS, and how certificates are checked."""


class _Idle:
    """The idle connections of one event loop, the last used first, and how many pools share them."""

    def __init__(self) -> None:
        self.pools = 0
        self._held: dict[Key, list[Connection]] = {}

    def keep(self, key: Key, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        self._held.setdefault(key, []).append(connection)

    def reuse(self, key: Key) -> Connection | None:
        held = self._held.get(key)
        oldest = time.monotonic() - IDLE_SECONDS
        while held:
            connection = held.pop()
            if connection.reusable and connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    def leave(self) -> None:
        """One pool less; after the last one every connection is closed."""
        self.pools -= 1
        if self.pools == 0:
            for connection in (c for held in self._held.values() for c in held):
                connection.abort()
            self._held.clear()


_idle: WeakKeyDictionary[asyncio.AbstractEventLoop, _Idle] = WeakKeyDictionary()
"""A connection belongs to the loop that opened it, and a program may run several loops one after another."""


class Pool:
    """As many connections as requests; the pools of one event loop, a writer's and a judge's, share the idle ones."""

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle = _Idle()
        self._busy: set[Connection] = set()
        self._make_context = tls
        self._context: ssl.SSLContext | None = None

    async def exchange(self, where: Address, message: bytes, *, connect: float | None, read: float | None) -> Answer:
        """One request and its answer; raises NotConnected, BrokenReply or TimeoutError (both times in seconds)."""
        self._adopt(asyncio.get_running_loop())
        idle, key = self._idle, (where.host, where.port, where.tls, self._make_context)
        connection = idle.reuse(key) or await self._connect(where, connect)
        self._busy.add(connection)
        try:
            answer = await connection.exchange(message, read)
        finally:
            self._busy.discard(connection)
        if connection.reusable and idle is self._idle:
            idle.keep(key, connection)
        else:
            connection.abort()
        return answer

    def close(self) -> None:
        """Fail the requests in flight; the last pool of a loop closes the idle connections too."""
        if self._loop is None or self._loop.is_closed():
            return
        for connection in self._busy:
            connection.abort()
        self._idle.leave()
        self._loop, self._idle = None, _Idle()

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            self._loop, self._idle = loop, _idle.setdefault(loop, _Idle())
            self._idle.pools += 1
            self._busy = set()

    async def _connect(self, where: Address, timeout: float | None) -> Connection:
        if where.tls and self._context is None:
            self._context = self._make_context()
        context = self._context if where.tls else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(Connection, where.host, where.port, ssl=context)
        except TimeoutError as error:
            raise NotConnected(f"no connection to {where.authority} within {timeout:g} s") from error
        except OSError as error:
            hint = "; raise 'ulimit -n' or lower the concurrency" if error.errno == errno.EMFILE else ""
            raise NotConnected(f"{error.strerror or error}{hint}") from error
        return connection
