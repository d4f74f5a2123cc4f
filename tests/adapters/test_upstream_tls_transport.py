"""TLS upstreams: what ends an answer, what only cuts it (RFC 9112 §9.8), and what must not get lost meanwhile."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import trustme

from tests.support.blocking_origin import BlockingOrigin, Peer, Serve, TlsPeer
from tests.support.client import GOOD
from tests.support.wire import Ending, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.conftest import StartSidecar
    from tests.support.running import InProcess

VERSIONS = {"TLS-1.2": ssl.TLSVersion.TLSv1_2, "TLS-1.3": ssl.TLSVersion.TLSv1_3}
OK = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n"
UNTIL_CLOSE = OK + b"\r\n"
LENGTH = OK + b"Content-Length: 10\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
MEGABYTES = bytes(range(256)) * 4096 * 4


class StartTls(Protocol):
    async def __call__(self, serve: Serve, **blocks: Any) -> InProcess: ...


@pytest.fixture(params=VERSIONS)
async def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return VERSIONS[request.param]


@pytest.fixture
async def start(start_sidecar: StartSidecar, version: ssl.TLSVersion, tmp_path: Path) -> AsyncIterator[StartTls]:
    """Start a sidecar before a TLS origin that `serve` serves."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(f"{tmp_path}/ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    authority.issue_cert("localhost").configure_cert(context)
    origins: list[BlockingOrigin] = []

    async def start_it(serve: Serve, **blocks: Any) -> InProcess:
        origins.append(BlockingOrigin(serve, tls=context))
        upstream = {"tls": {"ca_file": f"{tmp_path}/ca.pem"}, **blocks.pop("upstream", {})}
        return await start_sidecar(origins[-1].url, upstream=upstream, **blocks)

    yield start_it
    for origin in origins:
        await origin.stop()


def answering(sent: bytes, end: str) -> Serve:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(sent)
        getattr(peer, end)()
        peer.read_to_end()

    return serve


async def outcomes(sidecar: InProcess) -> tuple[float, float]:
    """Successes and failures of the circuit."""
    assert await sidecar.is_quiet()
    metrics = await sidecar.metrics()
    name = "sidecar_circuit_calls_total"
    return metrics.total(name, outcome="success"), metrics.total(name, outcome="failure")


INCOMPLETE = {
    "until-close": UNTIL_CLOSE + b"half!",
    "until-close-nothing": UNTIL_CLOSE,
    "length": LENGTH + b"half!",
    "length-nothing": LENGTH,
    "chunked": CHUNKED + b"5\r\nhalf!\r\n",
    "chunked-nothing": CHUNKED,
}
CLIENTS = {"http11": GOOD, "http10": b"GET /good HTTP/1.0\r\nHost: a\r\n\r\n"}


@pytest.mark.parametrize("asked", CLIENTS.values(), ids=CLIENTS.keys())
@pytest.mark.parametrize("sent", INCOMPLETE.values(), ids=INCOMPLETE.keys())
@pytest.mark.parametrize("how", ["cut", "reset"])
async def test_an_answer_that_ends_without_close_notify_is_cut_counted_and_not_stored(
    start: StartTls, sent: bytes, how: str, asked: bytes
) -> None:
    sidecar = await start(answering(sent, how), upstream={"cache": {"mode": "standard"}})
    client = await sidecar.connect()

    await client.send(asked)
    await client.until(lambda: client.ended)

    if client.received.startswith(b"HTTP/1.1 502"):
        assert (await client.response()).get("proxy-status") == b"sidecar; error=connection_terminated"
    else:
        assert await client.was_cut()
        assert client.ended is Ending.RESET
    assert await outcomes(sidecar) == (0, 1)
    assert (await sidecar.metrics()).total("sidecar_cache_entries") == 0


COMPLETE = {
    "length": LENGTH + b"ten octets",
    "chunked": CHUNKED + b"a\r\nten octets\r\n0\r\n\r\n",
    "no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
}


@pytest.mark.parametrize("sent", COMPLETE.values(), ids=COMPLETE.keys())
@pytest.mark.parametrize("how", ["cut", "reset", "say_bye"])
async def test_an_answer_that_says_itself_where_it_ends_is_whole_however_the_connection_ends(
    start: StartTls, sent: bytes, how: str
) -> None:
    sidecar = await start(answering(sent, how))

    response = await sidecar.exchange(GOOD)

    assert (response.status, response.body) in {(200, b"ten octets"), (204, b"")}
    assert await outcomes(sidecar) == (1, 0)


async def test_close_notify_ends_a_body_that_only_the_connection_delimits(start: StartTls) -> None:
    sidecar = await start(answering(UNTIL_CLOSE + b"ten octets", "say_bye"))

    response = await sidecar.exchange(GOOD)

    assert (response.status, response.body) == (200, b"ten octets")
    assert await outcomes(sidecar) == (1, 0)


async def test_several_requests_share_a_connection(start: StartTls) -> None:
    connections: list[Peer] = []

    def serve(peer: Peer) -> None:
        connections.append(peer)
        while True:
            peer.received = b""
            peer.read_head()
            peer.send(LENGTH + b"ten octets")

    sidecar = await start(serve)
    client = await sidecar.connect()

    assert [(await client.exchange(GOOD)).body for _ in range(5)] == [b"ten octets"] * 5
    assert len(connections) == 1


@pytest.mark.parametrize("head", [UNTIL_CLOSE, OK + b"Content-Length: %d\r\n\r\n" % len(MEGABYTES)])
async def test_nothing_is_lost_when_the_upstream_ends_while_the_client_is_slow(start: StartTls, head: bytes) -> None:
    """Whatever its size, what is between the two when reading pauses is delivered, and then the end."""

    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(head)
        peer.send(MEGABYTES)
        peer.say_bye()

    sidecar = await start(serve)
    client = await sidecar.connect()
    await client.send(GOOD)
    await client.head()
    client.pause()
    await still(lambda: len(client.received))
    client.resume()

    assert (await client.response()).body == MEGABYTES
    assert await outcomes(sidecar) == (1, 0)


@pytest.mark.parametrize("size", [300_000, 400_000, 500_000, 700_000])
async def test_nothing_is_lost_of_what_waits_decrypted_or_not(start: StartTls, size: int) -> None:
    content = MEGABYTES[:size]

    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(UNTIL_CLOSE)
        peer.send(content)
        peer.say_bye()

    sidecar = await start(serve, upstream={"cache": {"mode": "off"}})
    client = await sidecar.connect()
    client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.pause()
    await client.send(GOOD)
    await still(lambda: len(client.received))
    client.resume()

    assert (await client.response()).body == content


async def still(measure: Callable[[], int]) -> None:
    """Wait until a measure does not change any more."""
    last = -1

    def same() -> bool:
        nonlocal last
        last, before = measure(), last
        return last == before

    await eventually(same, every=0.1)


async def test_an_upload_of_megabytes_arrives_whole(start: StartTls) -> None:
    heard: list[bytes] = []

    def serve(peer: Peer) -> None:
        peer.read_head()
        while not peer.received.endswith(MEGABYTES[-1000:]) or len(peer.received) < len(MEGABYTES):
            peer.recv()
        heard.append(peer.received[-len(MEGABYTES) :])
        peer.send(LENGTH + b"ten octets")

    sidecar = await start(serve)
    client = await sidecar.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(MEGABYTES) + MEGABYTES)

    assert (await client.response("POST")).body == b"ten octets"
    assert heard == [MEGABYTES]


async def test_an_idle_connection_that_was_cut_is_replaced(start: StartTls) -> None:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(LENGTH + b"ten octets")
        peer.cut()

    sidecar = await start(serve, upstream={"retry": {"attempts": 2}})

    assert [(await sidecar.exchange(GOOD)).body for _ in range(3)] == [b"ten octets"] * 3
    assert (await outcomes(sidecar))[1] == 0


async def test_an_early_answer_is_the_answer(start: StartTls) -> None:
    """The origin closes with most of an upload unread, which resets the connection behind its answer."""

    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")

    sidecar = await start(serve)
    for _ in range(20):
        client = await sidecar.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n")
        client.transport.write(bytes(20_000_000))
        response = await client.response("POST")
        assert (response.status, response.body) == (413, b"no"), response.body
        client.transport.abort()
    assert (await outcomes(sidecar))[1] == 0


# Tunnels


async def test_a_tunnel_that_ends_without_close_notify_is_reset(start: StartTls) -> None:
    sidecar = await start(answering(SWITCHING + b"said", "cut"))
    client = await sidecar.connect()
    await client.send(UPGRADE)

    await client.until(lambda: client.ended)

    assert client.ended is Ending.RESET
    assert await sidecar.is_quiet()


async def test_a_tunnel_that_ends_with_close_notify_ends_in_good_order(start: StartTls) -> None:
    sidecar = await start(answering(SWITCHING + b"said", "say_bye"))
    client = await sidecar.connect()
    await client.send(UPGRADE)

    await client.until(lambda: client.ended)

    assert client.ended is Ending.FIN
    assert client.received.endswith(b"\r\n\r\nsaid")
    client.close()
    assert await sidecar.is_quiet()


async def test_what_a_client_says_last_reaches_the_upstream_before_close_notify(start: StartTls) -> None:
    heard: list[tuple[bytes, bool]] = []

    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING)
        said = peer.read_to_end()
        assert isinstance(peer, TlsPeer)
        heard.append((said, peer.heard_bye))
        peer.send(b"goodbye")
        peer.say_bye()

    sidecar = await start(serve)
    client = await sidecar.connect()
    await client.send(UPGRADE)
    await client.head()
    await client.send(MEGABYTES)
    client.half_close()
    await client.until(lambda: client.ended)

    assert client.ended is Ending.FIN
    assert client.received.endswith(b"\r\n\r\ngoodbye")
    assert heard == [(MEGABYTES, True)]


async def test_after_close_notify_the_client_may_go_on_where_tls_allows_it(
    start: StartTls, version: ssl.TLSVersion
) -> None:
    heard: list[bytes] = []

    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(SWITCHING + b"goodbye")
        peer.say_bye()
        heard.append(peer.read_to_end())

    sidecar = await start(serve)
    client = await sidecar.connect()
    await client.send(UPGRADE)
    await client.until(lambda: client.ended)
    assert client.ended is Ending.FIN
    assert client.received.endswith(b"goodbye")
    await client.send(b"and I say")
    client.half_close()

    await eventually(lambda: heard)
    assert heard == [b"and I say" if version is ssl.TLSVersion.TLSv1_3 else b""]
    assert await sidecar.is_quiet()


# The handshake


async def test_an_upstream_that_ends_in_the_handshake_is_unreachable(start_sidecar: StartSidecar) -> None:
    def serve(peer: Peer) -> None:
        peer.recv()

    origin = BlockingOrigin(serve)
    sidecar = await start_sidecar(origin.url.replace("http:", "https:"))

    response = await sidecar.exchange(GOOD)

    assert (response.status, response.get("proxy-status")) == (502, b"sidecar; error=connection_terminated")
    assert await sidecar.is_quiet()
    await origin.stop()


async def test_an_upstream_that_does_not_speak_tls_is_no_upstream(start_sidecar: StartSidecar) -> None:
    def serve(peer: Peer) -> None:
        peer.recv()
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.read_to_end()

    origin = BlockingOrigin(serve)
    sidecar = await start_sidecar(origin.url.replace("http:", "https:"))

    response = await sidecar.exchange(GOOD)

    assert (response.status, response.get("proxy-status")) == (502, b"sidecar; error=tls_protocol_error")
    await origin.stop()


async def test_an_upstream_that_nobody_vouches_for_is_told_why(start: StartTls) -> None:
    sidecar = await start(answering(LENGTH + b"ten octets", "say_bye"), upstream={"tls": {"server_name": "b.example"}})

    response = await sidecar.exchange(GOOD)

    assert (response.status, response.get("proxy-status")) == (502, b"sidecar; error=tls_protocol_error")


async def test_a_handshake_that_stands_still_ends_in_time(start_sidecar: StartSidecar) -> None:
    def serve(peer: Peer) -> None:
        peer.read_to_end()

    origin = BlockingOrigin(serve)
    sidecar = await start_sidecar(origin.url.replace("http:", "https:"), upstream={"timeouts": {"connect": "100ms"}})

    response = await sidecar.exchange(GOOD)

    assert (response.status, response.get("proxy-status")) == (504, b"sidecar; error=connection_timeout")
    assert await sidecar.is_quiet()
    await origin.stop()


async def test_a_client_that_leaves_in_the_handshake_leaves_nothing_behind(start_sidecar: StartSidecar) -> None:
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()
    ended: list[bytes] = []

    def serve(peer: Peer) -> None:
        peer.recv()
        loop.call_soon_threadsafe(reached.set)
        ended.append(peer.read_to_end())

    origin = BlockingOrigin(serve)
    sidecar = await start_sidecar(origin.url.replace("http:", "https:"))
    client = await sidecar.connect()
    await client.send(GOOD)
    await reached.wait()
    client.reset()

    await eventually(lambda: ended == [b""])
    assert await sidecar.is_quiet()
    await origin.stop()
