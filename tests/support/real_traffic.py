"""Requests as real clients send them: no two are the same, but they are alike in what clients of one service share.

Each has its own URL, query, trace id, request id and tenant; the order and the names of the fields are one client
library's. The same traffic loads the proxies in the benchmark.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from random import Random
from typing import TYPE_CHECKING, Self, cast

from tests.support.messages import take_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.messages import WireRequest

CONTENT = b'{"order": "' + b"9" * 980 + b'"}'


def _hex(chance: Random, digits: int) -> bytes:
    return b"%0*x" % (digits, chance.getrandbits(4 * digits))


def requests(prefix: bytes, urls: int, *, method: bytes = b"GET", seed: int = 1) -> Iterator[bytes]:
    """Endlessly many whole requests for `urls` different URLs below `prefix`, with content if they are POSTs.

    Those that are no GET for a public resource carry credentials: all of them, unless `prefix` begins with /public.
    """
    chance = Random(seed)
    number = 0
    while True:
        number += 1
        item = chance.randrange(urls)
        lines = [
            b"%b %b%d?lang=en&page=%d HTTP/1.1" % (method, prefix, item, item % 7),
            b"Host: shop.example:4100",
            b"User-Agent: python-httpx/0.28.1",
            b"Accept: application/json",
            b"Accept-Encoding: gzip, deflate, br",
            b"traceparent: 00-%b-%b-01" % (_hex(chance, 32), _hex(chance, 16)),
            b"x-request-id: %b-%d" % (_hex(chance, 16), number),
            b"x-tenant: t%d" % (item % 50),
        ]
        if not prefix.startswith(b"/public"):
            lines.append(b"Authorization: Bearer eyJhbGciOiJSUzI1NiJ9." + _hex(chance, 320))
        if method == b"POST":
            lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(CONTENT)]
        yield b"\r\n".join([*lines, b"", CONTENT if method == b"POST" else b""])


class Origin(asyncio.Protocol):
    """Answers each request with its own id; below /public it may be stored for `max_age` seconds, per Accept-Encoding.

    Each connection is one of these; what the test changes on the class's `Site` holds for all.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (taken := take_request(self._received)) is not None:
            asked, size = taken
            self._received = self._received[size:]
            self._site.asked += 1
            if self._site.fails:
                self._transport.abort()
                return
            self._transport.write(self._answer(asked))

    def _answer(self, asked: WireRequest) -> bytes:
        public = asked.target.startswith(b"/public")
        lines = [
            b"HTTP/1.1 200 OK",
            b"Server: origin/1.0",
            b"Date: " + formatdate(usegmt=True).encode(),
            b"Content-Type: application/json",
            b"Content-Length: %d" % len(CONTENT),
            b"Connection: keep-alive",
        ]
        if public:
            lines += [b"Cache-Control: max-age=%d" % self._site.max_age, b"Vary: Accept-Encoding", b'ETag: "abc"']
        else:
            lines += [b"Cache-Control: no-store", b"X-Request-Id: " + (asked.get("x-request-id") or b"none")]
        return b"\r\n".join([*lines, b"", CONTENT])


class Site:
    """A listening origin: `asked` counts its requests; while it `fails` it resets whoever asks."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False
        self.max_age = 3600
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: Origin(self), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
