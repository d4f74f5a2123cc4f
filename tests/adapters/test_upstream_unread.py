"""An origin that answers before it has read a request, and closes with the rest unread: what arrived is the answer.

TCP sends a reset behind such an answer. Whether it is met by a write or by a read is a matter of microseconds, so each
case is tried many times.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.support.blocking_origin import BlockingOrigin, Peer, Serve
from tests.support.client import hang_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import StartSidecar
    from tests.support.client import RawClient
    from tests.support.messages import WireResponse
    from tests.support.running import InProcess


UPLOAD = 20_000_000
PIECE = bytes(250_000)


@dataclass(frozen=True)
class Early:
    """How an origin answers early."""

    status: int = 413
    version: str = "1.1"
    fields: str = "Content-Length: 2\r\n"
    body: bytes = b"no"
    says_bye: bool = False
    """A FIN before the close, as most servers send it."""
    reads: int = 0
    """Octets of the upload that it reads before it answers."""
    times: int = 10

    @property
    def octets(self) -> bytes:
        return f"HTTP/{self.version} {self.status} No\r\n{self.fields}\r\n".encode() + self.body

    def __call__(self, peer: Peer) -> None:
        peer.read_head()
        left = self.reads
        while left > 0:
            left -= len(peer.recv())
        peer.send(self.octets)
        if self.says_bye:
            peer.say_bye()
        # What is unread when it closes makes that a reset.
        peer.socket.recv(1, socket.MSG_PEEK)


CLOSES = "Connection: close\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
EARLY = {
    "length": Early(times=100),
    "length-close": Early(fields=f"Content-Length: 2\r\n{CLOSES}"),
    "length-fin": Early(says_bye=True),
    "chunked": Early(fields=CHUNKED, body=b"2\r\nno\r\n0\r\n\r\n"),
    "until-close-fin": Early(fields=CLOSES, says_bye=True),
    "http10-length": Early(version="1.0"),
    "http10-until-close-fin": Early(version="1.0", fields="", says_bye=True, times=100),
    "in-the-middle": Early(reads=3_000_000),
    "large": Early(fields="Content-Length: 100000\r\n", body=bytes(100_000)),
    "401": Early(401),
    "417": Early(417),
    "429": Early(429),
}


class StartServing(Protocol):
    async def __call__(self, serve: Serve, unix_path: str = ...) -> InProcess: ...


@pytest.fixture
async def serve(start_sidecar: StartSidecar) -> AsyncIterator[StartServing]:
    """Start a sidecar before a blocking origin."""
    origins: list[BlockingOrigin] = []

    async def start(serve: Serve, unix_path: str = "") -> InProcess:
        origins.append(BlockingOrigin(serve, unix_path=unix_path))
        return await start_sidecar(
            origins[-1].url, upstream={"breaker": {"failure_threshold": 1000, "minimum_requests": 1000}}
        )

    yield start
    for origin in origins:
        await origin.stop()


async def upload(client: RawClient, *, chunked: bool) -> WireResponse:
    """Send as much as is taken, whatever comes back meanwhile, and then look what that is."""
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % UPLOAD
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % framing)
    piece = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    for _ in range(UPLOAD // len(PIECE)):
        if client.unread or client.ended:
            break
        await client.send(piece)
    return await client.response("POST")


async def failures(sidecar: InProcess) -> float:
    assert await sidecar.is_quiet()
    return (await sidecar.metrics()).total("sidecar_circuit_calls_total", outcome="failure")


@pytest.mark.parametrize("chunked", [False, True], ids=["counted-upload", "chunked-upload"])
@pytest.mark.parametrize("early", EARLY.values(), ids=EARLY.keys())
async def test_an_answer_that_arrived_is_the_answer(serve: StartServing, early: Early, *, chunked: bool) -> None:
    sidecar = await serve(early)
    expected = (early.status, bytes(100_000) if len(early.body) > 100 else b"no")

    for _ in range(early.times):
        client = await sidecar.connect()
        response = await upload(client, chunked=chunked)
        assert (response.status, response.body) == expected
        await hang_up(client)

    assert await failures(sidecar) == 0


async def test_a_status_that_is_a_failure_is_one(serve: StartServing) -> None:
    sidecar = await serve(Early(503))

    assert (await upload(await sidecar.connect(), chunked=False)).status == 503

    assert await failures(sidecar) == 1


async def test_a_unix_socket_is_no_exception(serve: StartServing, tmp_path: Path) -> None:
    sidecar = await serve(Early(), unix_path=f"{tmp_path}/origin.sock")

    for _ in range(20):
        client = await sidecar.connect()
        assert (await upload(client, chunked=False)).status == 413
        await hang_up(client)

    assert await failures(sidecar) == 0


CUT = {
    "until-close-reset": Early(fields=CLOSES),
    "length": Early(fields="Content-Length: 10\r\n"),
    "chunked": Early(fields=CHUNKED, body=b"5\r\nno"),
}


@pytest.mark.parametrize("early", CUT.values(), ids=CUT.keys())
async def test_an_answer_of_which_the_reset_took_the_end_is_cut_and_no_failure(
    serve: StartServing, early: Early
) -> None:
    """That it was cut is the doing of the client as much as of the upstream: it must not open the circuit."""
    sidecar = await serve(early)

    for _ in range(10):
        client = await sidecar.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % UPLOAD)
        client.transport.write(bytes(UPLOAD))
        assert await client.was_cut("POST"), client.unread
        await hang_up(client)

    assert await failures(sidecar) == 0


async def test_no_answer_before_the_reset_is_a_failure(serve: StartServing) -> None:
    sidecar = await serve(Peer.read_head)

    response = await upload(await sidecar.connect(), chunked=False)

    assert (response.status, response.get("proxy-status")) == (502, b"sidecar; error=connection_terminated")
    assert await failures(sidecar) == 1


async def test_a_client_that_reads_when_it_has_sent_all_gets_its_answer(serve: StartServing) -> None:
    def answer(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 No\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000))
        while peer.socket.recv(1):
            pass

    sidecar = await serve(answer)
    client = await sidecar.connect()
    client.pause()

    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % UPLOAD)
    for _ in range(UPLOAD // len(PIECE)):
        await client.send(PIECE)
    client.resume()

    response = await client.response("POST")
    assert (response.status, len(response.body)) == (413, 1_000_000)
