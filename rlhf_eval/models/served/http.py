"""The HTTP client that the openai package drives here.

Its stock client searches the whole connection pool at every step, so that a request costs more the more are in flight:
4 ms of CPU at 100 and 11 ms at 400, measured on 2 cores, which caps it at 90 requests a second. ``LeanClient`` takes the
place of that client (the package's ``http_client`` argument) and sends through ``connections.Pool``; authentication,
headers and URLs stay the package's own. Even so the package spends .3 ms on each request, as much as a whole aiohttp
round trip, to write the same headers again: ``letterhead`` has it write them once, ``post_under`` sends bodies under them.
Proxies, redirects and requests of unusual shape take the stock road.

    client = AsyncOpenAI(http_client=client_for(base_url, timeout=120.0), max_retries=0)
"""

from __future__ import annotations

import json as json_library
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple
from urllib.request import getproxies, proxy_bypass

import openai

from rlhf_eval.models.served.connections import Address, Answer, BrokenReply, NotConnected, Pool, address

http: Any = import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
"""The HTTP library that the installed openai package speaks: httpx, from openai 3 on httpx2."""

CONNECT_SECONDS = 10.0
_REHEARSAL = "x-rehearsal"
"""Header of a request that is written and not sent; it never leaves this module."""


def client_for(base_url: str, *, timeout: float) -> openai.DefaultAsyncHttpxClient:
    """The lean client, or the stock one without its limits where the environment names a proxy for ``base_url``."""
    settings = {
        "timeout": http.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
        "limits": http.Limits(max_connections=None, max_keepalive_connections=None),
    }
    return (openai.DefaultAsyncHttpxClient if proxied(base_url) else LeanClient)(**settings)


def proxied(url: str) -> bool:
    """Whether the environment sends requests for ``url`` through a proxy."""
    where, proxies = address(url), getproxies()
    proxy = proxies.get("https" if where.tls else "http") or proxies.get("all")
    return bool(proxy and not proxy_bypass(where.host))


class Letterhead(NamedTuple):
    """Where requests go, their header but for the length of the body, and how long to wait (seconds)."""

    where: Address
    head: bytes
    connect: float | None
    read: float | None


class Outgoing:
    """What the openai package reads of a request."""

    __slots__ = ("content", "headers", "method", "timeout", "url")

    def __init__(self, method: str, url: str, headers: dict[str, str], content: bytes, timeout: Any) -> None:
        self.method, self.url, self.headers, self.content, self.timeout = method, url, headers, content, timeout

    def letterhead(self) -> Letterhead:
        """All of it but the body."""
        where = address(self.url)
        lines = [f"{self.method} {where.target} HTTP/1.1", f"host: {where.authority}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += ["accept-encoding: identity", ""]
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1:
            raise http.LocalProtocolError("a header holds a line break")
        connect = getattr(self.timeout, "connect", self.timeout)
        read = getattr(self.timeout, "read", self.timeout)
        return Letterhead(where, head.encode("latin-1"), connect, read)

    def full(self) -> Any:
        """The same as the HTTP library's own request."""
        extensions = {"timeout": http.Timeout(self.timeout).as_dict()}
        return http.Request(self.method, self.url, headers=self.headers, content=self.content, extensions=extensions)


class Incoming:
    """What the openai package reads of a successful response."""

    __slots__ = ("content", "headers", "request", "status_code")
    is_closed = True
    reason_phrase = "OK"

    def __init__(self, request: Outgoing, answer: Answer) -> None:
        self.request, self.status_code, self.headers, self.content = request, *answer

    def raise_for_status(self) -> Incoming:
        """Only successes are made into this."""
        return self


class LeanClient(openai.DefaultAsyncHttpxClient):
    """An httpx client that sends what the openai package sends over connections of its own."""

    def __init__(self, **settings: Any) -> None:
        # A transport of the library's own would read all certificates of the machine, .1 s, before anybody needs them.
        super().__init__(**settings, transport=http.AsyncBaseTransport())
        self._settings = settings
        self._stock: Any = None
        self._pool = Pool(http.create_ssl_context)

    def build_request(self, method: str, url: Any, **parts: Any) -> Any:
        """A light request where method, URL, headers and a JSON body are all there is; a full one elsewhere."""
        content, json = parts.get("content"), parts.get("json")
        unusual = any(parts.get(name) for name in ("data", "files", "params", "cookies", "extensions"))
        if unusual or not isinstance(content, bytes | str | None):
            return super().build_request(method, url, **parts)
        if json is not None:
            content = json_library.dumps(json, ensure_ascii=False)
        raw = content.encode() if isinstance(content, str) else content or b""
        given = parts.get("headers") or {}
        headers = dict(given.items() if isinstance(given, Mapping) else given)
        return Outgoing(method.upper(), str(url), headers, raw, parts.get("timeout"))

    async def send(self, request: Any, **options: Any) -> Any:
        """One attempt; raises the errors of the HTTP library, for the openai package to name."""
        if not isinstance(request, Outgoing):
            return await self._send_stock(request, **options)
        if request.headers.pop(_REHEARSAL, None):
            return Incoming(request, Answer(200, {}, b""))
        if options.get("stream"):
            return await self._send_stock(request.full(), **options)
        try:
            answer = await self._exchange(request.letterhead(), request.content)
        except NotConnected as error:
            raise http.ConnectError(str(error)) from error
        except BrokenReply as error:
            raise http.RemoteProtocolError(str(error)) from error
        except TimeoutError as error:
            raise http.ReadTimeout(str(error)) from error
        if answer.status == 200 and "content-encoding" not in answer.headers:
            return Incoming(request, answer)
        if 300 <= answer.status < 400:
            return await self._send_stock(request.full())
        return http.Response(answer.status, headers=answer.headers, content=answer.body, request=request.full())

    async def letterhead(self, package: openai.AsyncOpenAI, url: str) -> Letterhead:
        """That of a POST to ``url`` as ``package`` writes it around this client; nothing is sent."""
        rehearsal = await package.post(url, body={}, cast_to=http.Response, options={"headers": {_REHEARSAL: "yes"}})
        request: Outgoing = rehearsal.request
        return request.letterhead()

    async def post_under(self, under: Letterhead, content: bytes) -> Answer:
        """Send a body; raises NotConnected, BrokenReply or TimeoutError."""
        answer = await self._exchange(under, content)
        if "content-encoding" not in answer.headers:
            return answer
        plain = http.Response(answer.status, headers=answer.headers, content=answer.body).content
        return Answer(answer.status, answer.headers, plain)

    async def _exchange(self, under: Letterhead, content: bytes) -> Answer:
        message = b"%scontent-length: %d\r\n\r\n%s" % (under.head, len(content), content)
        return await self._pool.exchange(under.where, message, connect=under.connect, read=under.read)

    async def _send_stock(self, request: Any, **options: Any) -> Any:
        if self._stock is None:
            self._stock = openai.DefaultAsyncHttpxClient(**self._settings)
        return await self._stock.send(request, **options)

    async def aclose(self) -> None:
        """Close every connection."""
        self._pool.close()
        if self._stock is not None:
            await self._stock.aclose()
        await super().aclose()
