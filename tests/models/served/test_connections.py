"""Whole replies in canned bytes, cut anywhere: what arrives must not depend on how it was cut."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_eval.models.served.connections import Answer, BrokenReply, Connection, NotConnected, Pool, address
from rlhf_eval.models.served.http import LeanClient, client_for, http

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
BODY = b'{"choices": []}'


def reply(*headers: str, body: bytes = BODY, first: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([first, *headers, "", ""]).encode() + body


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x;note=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\ntrailer: t\r\n\r\n"


LENGTH = f"content-length: {len(BODY)}"
REPLIES = {
    "length": reply(LENGTH),
    "capitals": reply(f"Content-Length:{len(BODY)}", "X-Request-ID: 7"),
    "chunked": reply("transfer-encoding: chunked", body=chunked(BODY, 4)),
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + reply(LENGTH),
    "close": reply("connection: close", LENGTH),
    "old": reply(LENGTH, first="HTTP/1.0 200 OK"),
    "no reason": reply(LENGTH, first="HTTP/1.1 200 "),
}


class Wire:
    """Stands in for a transport."""

    def __init__(self) -> None:
        self.written, self.aborted = b"", False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


async def received(pieces: list[bytes], *, ends: bool = False) -> tuple[Answer, Connection]:
    connection = Connection()
    connection.connection_made(Wire())
    waiting = asyncio.create_task(connection.exchange(REQUEST, 5.0))
    await asyncio.sleep(0)
    for piece in pieces:
        connection.data_received(piece)
    if ends:
        connection.connection_lost(None)
    return await waiting, connection


@given(name=st.sampled_from(sorted(REPLIES)), cuts=st.lists(st.integers(0, 200), max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_reply_does_not_depend_on_where_it_was_cut(name: str, cuts: list[int]):
    raw = REPLIES[name]
    places = [0, *sorted(cut % len(raw) for cut in cuts), len(raw)]
    pieces = [raw[i:j] for i, j in pairwise(places)]
    answer, connection = asyncio.run(received(pieces))
    assert (answer.status, answer.body) == (200, BODY)
    assert connection.reusable == (name not in ("close", "old"))


def test_header_names_are_in_lower_case():
    answer, _ = asyncio.run(received([REPLIES["capitals"]]))
    assert answer.headers == {"content-length": str(len(BODY)), "x-request-id": "7"}


def test_a_reply_without_length_ends_with_its_connection():
    answer, connection = asyncio.run(received([reply()], ends=True))
    assert answer.body == BODY
    assert not connection.reusable


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "without a reply"),
        (REPLIES["length"][:-3], "amid its reply"),
        (REPLIES["chunked"][:-5], "amid its reply"),
        (b"HTTP/1.1 200", "amid its reply"),
    ],
)
def test_a_reply_that_ends_early_is_broken(raw: bytes, words: str):
    with pytest.raises(BrokenReply, match=words):
        asyncio.run(received([raw], ends=True))


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 two\r\n\r\n",
        reply("content-length: many"),
        reply("transfer-encoding: chunked", body=b"zz\r\nab\r\n"),
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
    ],
)
def test_a_reply_that_is_not_http_is_broken(raw: bytes):
    with pytest.raises(BrokenReply, match=r"not HTTP/1\.1"):
        asyncio.run(received([raw]))


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve, **options):
    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


def canned(raw: bytes, *, replies: int = 10**6) -> Serve:
    """Answer every request with ``raw``, and hang up after so many."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(replies):
            try:
                await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            writer.write(raw)
        writer.close()

    return serve


async def ask(pool: Pool, host: str) -> Answer:
    return await pool.exchange(address(f"http://{host}/"), REQUEST, connect=5.0, read=5.0)


def connections_used(
    raw: bytes, requests: int, *, pause: float = 0.0, replies: int = 10**6, pools: int = 1, close: bool = False
) -> int:
    """How many it takes for so many requests, by so many pools in turn, each closed after its request if ``close``."""
    opened = 0

    async def run() -> None:
        serve = canned(raw, replies=replies)

        async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal opened
            opened += 1
            await serve(reader, writer)

        async with listening(counted) as host:
            used = [Pool(ssl.create_default_context) for _ in range(pools)]
            for number in range(requests):
                pool = used[number % pools]
                assert (await ask(pool, host)).body == BODY
                await asyncio.sleep(pause)
                if close:
                    pool.close()
            for pool in used:
                pool.close()

    asyncio.run(run())
    return opened


def test_a_connection_is_used_again_where_the_server_keeps_it():
    assert connections_used(REPLIES["length"], 5) == 1
    assert connections_used(REPLIES["chunked"], 5) == 1
    assert connections_used(REPLIES["close"], 5, replies=1) == 5
    assert connections_used(REPLIES["length"], 4, replies=2, pause=0.02) == 2


def test_pools_of_one_loop_share_what_is_idle_until_the_last_is_closed():
    assert connections_used(REPLIES["length"], 6, pools=3) == 1
    assert connections_used(REPLIES["length"], 3, close=True) == 3


def test_an_idle_connection_is_left_before_the_server_closes_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rlhf_eval.models.served.connections.IDLE_SECONDS", 0.01)
    assert connections_used(REPLIES["length"], 3, pause=0.03) == 3


def test_bytes_that_nobody_asked_for_close_the_connection():
    async def run() -> None:
        _, connection = await received([REPLIES["length"]])
        connection.data_received(b"more")
        assert not connection.reusable

    asyncio.run(run())


def test_closing_the_pool_fails_what_is_in_flight():
    async def run() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with listening(silent) as host:
            pool = Pool(ssl.create_default_context)
            waiting = asyncio.create_task(ask(pool, host))
            await asyncio.sleep(0.05)
            pool.close()
            with pytest.raises(BrokenReply):
                await waiting

    asyncio.run(run())


def test_a_host_that_is_none_is_not_connected():
    with pytest.raises(NotConnected):
        asyncio.run(ask(Pool(ssl.create_default_context), "no-such-host.invalid"))
    with pytest.raises(NotConnected, match="no http:// or https:// address"):
        address("ftp://x")


def test_tls_is_spoken_and_certificates_are_checked(tmp_path):
    """A self-signed server: refused by the machine's certificates, accepted by a context that knows it."""
    certificate = make_certificate(tmp_path)

    async def run(context: ssl.SSLContext) -> Answer:
        ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ours.load_cert_chain(certificate)
        async with listening(canned(REPLIES["length"]), ssl=ours) as host:
            pool = Pool(lambda: context)
            where = address(f"https://localhost:{host.rpartition(':')[2]}/v1")
            answer = await pool.exchange(where, REQUEST, connect=5.0, read=5.0)
            pool.close()
            return answer

    assert asyncio.run(run(ssl.create_default_context(cafile=certificate))).body == BODY
    with pytest.raises(NotConnected, match="CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(run(http.create_ssl_context()))


def make_certificate(folder) -> str:
    """A key and a certificate for localhost in one file; skips by name where openssl is not installed."""
    import shutil
    import subprocess

    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not installed")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost", "-keyout", f"{folder}/key", "-out", f"{folder}/cert"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return str(both)


# The client around it


def content_of(client: openai.DefaultAsyncHttpxClient, raw: bytes) -> bytes:
    """What the openai package gets from ``client`` when the server says ``raw``."""

    async def run() -> bytes:
        async with listening(canned(raw)) as host:
            package = openai.AsyncOpenAI(base_url=f"http://{host}/v1", api_key="k", max_retries=0, http_client=client)
            response = await package.get("/models", cast_to=http.Response)
            await package.close()
            return bytes(response.content)

    return asyncio.run(run())


@pytest.mark.parametrize("name", [*sorted(REPLIES), "gzip", "no content", "created"])
def test_the_lean_client_reads_what_the_stock_client_reads(name: str):
    packed = gzip.compress(BODY)
    others = {
        "gzip": reply("content-encoding: gzip", f"content-length: {len(packed)}", body=packed),
        "no content": reply(first="HTTP/1.1 204 No Content", body=b""),
        "created": reply(LENGTH, first="HTTP/1.1 201 Created"),
    }
    raw = (REPLIES | others)[name]
    assert content_of(client_for("http://x", timeout=5), raw) == content_of(openai.DefaultAsyncHttpxClient(), raw)


def test_a_refusal_reaches_the_package_with_headers_and_body():
    raw = reply(
        "retry-after: 3", "content-length: 29", first="HTTP/1.1 429 Slow", body=b'{"error": {"message": "slow"}}'[:29]
    )
    with pytest.raises(openai.RateLimitError) as caught:
        content_of(client_for("http://x", timeout=5), raw)
    assert caught.value.response.headers["retry-after"] == "3"


def test_a_redirect_is_followed():
    async def run() -> bytes:
        async with listening(canned(REPLIES["length"])) as goal:
            moved = reply(
                f"location: http://{goal}/v1/models", "content-length: 0", first="HTTP/1.1 307 Moved", body=b""
            )
            async with listening(canned(moved)) as host:
                lean = client_for("http://x", timeout=5)
                package = openai.AsyncOpenAI(base_url=f"http://{host}/v1", api_key="k", max_retries=0, http_client=lean)
                response = await package.get("/models", cast_to=http.Response)
                await package.close()
                return bytes(response.content)

    assert asyncio.run(run()) == BODY


def test_a_request_of_unusual_shape_takes_the_stock_road():
    async def run() -> tuple[bytes, bytes]:
        async with listening(canned(REPLIES["length"])) as host:
            lean = LeanClient(timeout=5)
            with_parameters = await lean.get(f"http://{host}/v1/models", params={"limit": 3})
            posted = await lean.post(f"http://{host}/v1/files", files={"file": b"x"})
            await lean.aclose()
            return with_parameters.content, posted.content

    assert asyncio.run(run()) == (BODY, BODY)


def test_a_header_cannot_smuggle_a_line():
    async def run() -> None:
        lean = LeanClient(timeout=5)
        request = lean.build_request("GET", "http://127.0.0.1:9/", headers={"x": "a\r\nevil: 1"})
        with pytest.raises(http.LocalProtocolError):
            await lean.send(request)
        await lean.aclose()

    asyncio.run(run())
