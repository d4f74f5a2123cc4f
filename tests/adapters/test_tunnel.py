"""Upgraded connections: WebSocket with real peers, and what must never become a tunnel (RFC 9110 §7.8)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import websockets
from aiohttp import web
from websockets.asyncio.client import connect as ws_connect

from tests.support.origin import (
    AGAIN,
    CLOSE,
    GATE,
    HALF_CLOSE,
    OK,
    PAUSE,
    READ,
    READ_MORE,
    RESET,
    RESUME,
    STALL,
    Do,
    Endlessly,
)
from tests.support.wire import Ending, eventually

if TYPE_CHECKING:
    from pytest_aiohttp import AiohttpServer

    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.client import RawClient
    from tests.support.running import Sidecar

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class EchoServer:
    """An aiohttp application that echoes messages and does what some of them say."""

    def __init__(self) -> None:
        self.closed: list[int | None] = []
        self.open = 0

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/ws", self.serve)
        application.router.add_get("/refused", self.refuse)
        application.router.add_get("/good", self.refuse)
        return application

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0, protocols=("chat",))
        await socket.prepare(request)
        self.open += 1
        try:
            async for message in socket:
                await self._answer(request, socket, message)
        finally:
            self.open -= 1
            self.closed.append(socket.close_code)
        return socket

    async def _answer(self, request: web.Request, socket: web.WebSocketResponse, message: aiohttp.WSMessage) -> None:
        if message.data == "close":
            await socket.close(code=4001, message=b"enough")
        elif message.data == "vanish":
            assert request.transport is not None
            request.transport.abort()
        elif message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        else:
            await socket.send_str(message.data)

    async def refuse(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.path == "/good" else 403, text=request.path)


@pytest.fixture
async def echo() -> EchoServer:
    return EchoServer()


@pytest.fixture
async def sidecar(echo: EchoServer, aiohttp_server: AiohttpServer, start_sidecar: StartSidecar) -> Sidecar:
    server = await aiohttp_server(echo.application())
    return await start_sidecar(f"http://127.0.0.1:{server.port}")


def url(sidecar: Sidecar, path: str = "/ws") -> str:
    assert isinstance(sidecar.proxy, tuple)
    return f"ws://{sidecar.proxy[0]}:{sidecar.proxy[1]}{path}"


MESSAGES: dict[str, Any] = {
    "text": "hello",
    "text-unicode": "grüße ☃",
    "empty": "",
    "binary": b"\x00\xff",
    "1MB": bytes(range(256)) * 4096,
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
async def test_messages_pass_both_ways_with_websockets(sidecar: Sidecar, message: str | bytes) -> None:
    async with ws_connect(url(sidecar), max_size=None, proxy=None) as socket:
        await socket.send(message)
        assert await socket.recv() == message


async def test_messages_pass_both_ways_with_aiohttp(sidecar: Sidecar) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(url(sidecar), protocols=("chat",)) as socket:
        assert socket.protocol == "chat"
        for message in ("a", "b", "c" * 100_000):
            await socket.send_str(message)
            assert (await socket.receive_str()) == message


async def test_many_messages_keep_their_order(sidecar: Sidecar) -> None:
    async with ws_connect(url(sidecar), proxy=None) as socket:
        for number in range(500):
            await socket.send(str(number))
        assert [await socket.recv() for _ in range(500)] == [str(number) for number in range(500)]


async def test_a_ping_is_answered_by_the_far_end(sidecar: Sidecar) -> None:
    async with ws_connect(url(sidecar), proxy=None, ping_interval=None) as socket:
        assert await (await socket.ping(b"are you there")) >= 0


async def test_the_close_code_of_the_server_reaches_the_client(sidecar: Sidecar) -> None:
    async with ws_connect(url(sidecar), proxy=None) as socket:
        await socket.send("close")
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert (socket.close_code, socket.close_reason) == (4001, "enough")


async def test_the_close_code_of_the_client_reaches_the_server(sidecar: Sidecar, echo: EchoServer) -> None:
    async with ws_connect(url(sidecar), proxy=None) as socket:
        await socket.close(code=4002)

    await eventually(lambda: echo.closed)
    assert echo.closed == [4002]


async def test_a_client_that_vanishes_frees_the_server(sidecar: Sidecar, echo: EchoServer) -> None:
    async with ws_connect(url(sidecar), proxy=None) as socket:
        await socket.send("hello")
        await socket.recv()
        socket.transport.abort()

    await eventually(lambda: echo.open == 0)


async def test_a_server_that_vanishes_ends_the_client(sidecar: Sidecar) -> None:
    async with ws_connect(url(sidecar), proxy=None) as socket:
        await socket.send("vanish")
        with pytest.raises(websockets.ConnectionClosedError):
            await socket.recv()


async def test_a_refused_upgrade_leaves_an_ordinary_connection(sidecar: Sidecar) -> None:
    client = await sidecar.connect()

    response = await client.exchange(UPGRADE.replace(b"/ws", b"/refused"))

    assert (response.status, response.body) == (403, b"/refused")
    assert await client.is_usable()


async def test_an_open_tunnel_is_counted_and_uncounted(sidecar: Sidecar) -> None:
    async with ws_connect(url(sidecar), proxy=None) as socket:
        await socket.send("hello")
        await socket.recv()
        metrics = await sidecar.metrics()
        assert metrics.total("sidecar_client_tunnels") == 1
        assert metrics.total("sidecar_circuit_calls_total", outcome="success") == 1

    assert await sidecar.is_quiet()
    assert (await sidecar.metrics()).total("sidecar_client_tunnels") == 0
    assert (await sidecar.metrics()).total("sidecar_circuit_calls_total") == 1


async def test_the_upstream_decides_before_the_client_hears_101(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, SWITCHING, STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(UPGRADE)
    await origin.until(lambda seen: seen.requests)
    assert client.received == b""
    origin.gate.set()

    head = await client.head()
    assert (head.status, head.get("upgrade")) == (101, b"websocket")
    assert b"upgrade" in (head.get("connection") or b"").lower()
    assert origin.request.get("upgrade") == b"websocket"
    assert b"upgrade" in (origin.request.get("connection") or b"").lower()


OTHER_UPGRADES = {
    "post-length-0": UPGRADE.replace(b"GET", b"POST")[:-2] + b"Content-Length: 0\r\n\r\n",
    "post-without-length": UPGRADE.replace(b"GET", b"POST"),
    "get-length-0": UPGRADE[:-2] + b"Content-Length: 0\r\n\r\n",
    "put": UPGRADE.replace(b"GET", b"PUT")[:-2] + b"Content-Length: 0\r\n\r\n",
    "options": UPGRADE.replace(b"GET", b"OPTIONS"),
    "unknown-method": UPGRADE.replace(b"GET", b"LIST")[:-2] + b"Content-Length: 0\r\n\r\n",
    "spdy": b"POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nContent-Length: 0\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n",
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("data", OTHER_UPGRADES.values(), ids=OTHER_UPGRADES.keys())
async def test_any_method_without_content_may_ask_for_a_tunnel(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    data: bytes,
    bytewise: bool,  # noqa: FBT001 - a table's column
) -> None:
    protocol = b"SPDY/3.1" if b"SPDY" in data else b"websocket"
    switching = SWITCHING.replace(b"Upgrade: websocket", b"Upgrade: " + protocol)
    origin = await start_origin((READ, switching + b"server-early", READ_MORE, b"-server-late", STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await (client.send_bytewise if bytewise else client.send)(data + b"client-early")
    await client.until(lambda: b"server-early" in client.received)
    await client.send(b"-client-late")

    await client.until(lambda: client.received.endswith(b"server-early-server-late"))
    head = await client.head()
    assert (head.status, head.get("upgrade")) == (101, protocol)
    await origin.until(lambda seen: seen.connections[0].received.endswith(b"\r\n\r\nclient-early-client-late"))
    received = bytes(origin.connections[0].received)
    assert received.startswith(data.partition(b" ")[0] + b" ")
    assert (b"\r\nUpgrade: " + protocol + b"\r\n") in received
    assert (b"\r\nContent-Length: 0\r\n" in received) is (b"Content-Length: 0" in data)


async def test_a_refused_upgrade_by_post_leaves_an_ordinary_connection(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, OK, AGAIN))
    client = await (await start_sidecar(origin)).connect()

    await client.send(OTHER_UPGRADES["post-length-0"] + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")

    assert [(await client.response()).status for _ in range(2)] == [200, 200]
    assert origin.lines == ["POST /ws", "GET /next"]


async def test_bytes_right_behind_the_handshake_keep_their_order(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, SWITCHING + b"server-early", READ_MORE, b"-server-late", STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(UPGRADE + b"client-early")
    await client.until(lambda: b"server-early" in client.received)
    await client.send(b"-client-late")

    await client.until(lambda: client.received.endswith(b"server-early-server-late"))
    await origin.until(lambda seen: seen.connections[0].received.endswith(b"\r\n\r\nclient-early-client-late"))


async def test_early_bytes_of_a_refused_upgrade_never_reach_the_upstream_as_a_tunnel(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(UPGRADE + b"\x81\x85garbage")

    assert (await client.response()).status == 403
    assert (await client.response()).status == 400
    assert await client.has_closed()
    assert origin.lines == ["GET /ws"]


NO_TUNNEL = {
    "h2c": UPGRADE.replace(b"keep-alive, Upgrade", b"Upgrade, HTTP2-Settings").replace(
        b"Upgrade: websocket", b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"
    ),
    "h2c-among-others": UPGRADE.replace(b"Upgrade: websocket", b"Upgrade: h2c, websocket"),
    "http10": UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "with-length": UPGRADE[:-2] + b"Content-Length: 5\r\n\r\nhello",
    "with-chunks": UPGRADE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "post": UPGRADE.replace(b"GET", b"POST")[:-2] + b"Content-Length: 5\r\n\r\nhello",
    "not-listed-in-connection": UPGRADE.replace(b"keep-alive, Upgrade", b"keep-alive"),
}


@pytest.mark.parametrize("data", NO_TUNNEL.values(), ids=NO_TUNNEL.keys())
async def test_what_is_no_clean_upgrade_is_an_ordinary_request_or_refused(
    start_origin: StartOrigin, start_sidecar: StartSidecar, data: bytes
) -> None:
    origin = await start_origin((READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    response = await client.exchange(data)

    assert response.status in {200, 400, 501}
    for request in origin.requests:
        assert b"h2c" not in (request.get("upgrade") or b"")
        assert "http2-settings" not in request
        if b"h2c, websocket" not in data:
            assert "upgrade" not in request


@pytest.mark.parametrize("data", NO_TUNNEL.values(), ids=NO_TUNNEL.keys())
async def test_an_upstream_that_switches_unasked_is_malformed(
    start_origin: StartOrigin, start_sidecar: StartSidecar, data: bytes
) -> None:
    if b"h2c, websocket" in data:
        data = data.replace(b"h2c, websocket", b"h2c")
    origin = await start_origin((READ, SWITCHING, STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    response = await client.exchange(data)

    assert response.status in {400, 501, 502}


async def test_an_upstream_that_switches_to_something_else_is_malformed(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, SWITCHING.replace(b"Upgrade: websocket", b"Upgrade: h2c"), STALL))
    sidecar = await start_sidecar(origin)

    response = await sidecar.exchange(UPGRADE)

    assert response.status == 502
    assert response.get("proxy-status") == b"sidecar; error=http_protocol_error"


async def test_a_silent_tunnel_is_closed_on_both_sides(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, SWITCHING, STALL))
    sidecar = await start_sidecar(origin, proxy={"limits": {"tunnel_idle": "150ms"}})
    client = await sidecar.connect()
    await client.send(UPGRADE)
    assert (await client.head()).status == 101

    await client.until(lambda: client.ended)
    assert await origin.ended() is not None


async def test_a_tunnel_outlives_the_timeouts_of_requests(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, SWITCHING, GATE, b"late", STALL))
    short = {"idle": "100ms", "first_byte": "100ms"}
    limits = {"body_timeout": "100ms", "keep_alive": "100ms", "head_timeout": "100ms"}
    sidecar = await start_sidecar(origin, upstream={"timeouts": short}, proxy={"limits": limits})
    client = await sidecar.connect()
    await client.send(UPGRADE)
    assert (await client.head()).status == 101

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            await client.until(lambda: client.ended)
    origin.gate.set()

    await client.until(lambda: client.ended or client.received.endswith(b"late"))
    assert client.ended is None


async def test_a_reset_upstream_resets_the_tunnel(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, SWITCHING, GATE, RESET))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(UPGRADE)
    assert (await client.head()).status == 101

    origin.gate.set()

    await client.until(lambda: client.ended)
    assert await sidecar.is_quiet()


async def test_a_tunnel_holds_a_bounded_part_of_what_a_slow_reader_leaves(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, SWITCHING, Endlessly(bytes(65536))))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(UPGRADE)
    await client.until(lambda: len(client.received) > 1_000_000)

    client.pause()
    last = -1

    def still() -> bool:
        nonlocal last
        last, before = origin.connections[0].sent, last
        return last == before

    await eventually(still, every=0.2, within=20)
    assert last - len(client.received) < 24 * 1024 * 1024


async def test_100_tunnels_at_once(sidecar: Sidecar, echo: EchoServer) -> None:
    async def talk(number: int) -> None:
        async with ws_connect(url(sidecar), proxy=None) as socket:
            await socket.send(str(number))
            assert await socket.recv() == str(number)

    await asyncio.gather(*(talk(number) for number in range(100)))

    await eventually(lambda: echo.open == 0)


# Each direction ends on its own

MEGABYTES = bytes(range(256)) * 4096 * 8


async def open_tunnel(sidecar: Sidecar) -> RawClient:
    client = await sidecar.connect()
    await client.send(UPGRADE)
    assert (await client.head()).status == 101
    return client


async def test_when_the_origin_has_said_all_the_client_goes_on(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, SWITCHING + b"said", HALF_CLOSE, STALL))
    sidecar = await start_sidecar(origin)
    client = await open_tunnel(sidecar)
    await client.until(lambda: client.ended)
    assert (client.ended, client.received.endswith(b"said")) == (Ending.FIN, True)

    await client.send(MEGABYTES)
    client.half_close()

    assert await origin.ended() is Ending.FIN
    assert origin.connections[0].received.endswith(MEGABYTES)
    assert await sidecar.is_quiet()


async def test_when_the_client_has_said_all_the_origin_goes_on(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, SWITCHING, GATE, MEGABYTES, HALF_CLOSE, STALL))
    sidecar = await start_sidecar(origin, proxy={"limits": {"half_close": "0s", "write_timeout": "200ms"}})
    client = await open_tunnel(sidecar)

    await client.send(b"said")
    client.half_close()
    assert await origin.ended() is Ending.FIN
    assert origin.connections[0].received.endswith(b"said")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.4):
            await client.until(lambda: client.ended)
    origin.gate.set()

    await client.until(lambda: client.ended)
    assert (client.ended, client.received.endswith(MEGABYTES)) == (Ending.FIN, True)
    assert await sidecar.is_quiet()


@pytest.mark.parametrize("end", [HALF_CLOSE, CLOSE], ids=["half-close", "close"])
async def test_megabytes_that_are_unread_behind_the_fin_are_delivered(
    start_origin: StartOrigin, start_sidecar: StartSidecar, end: Do
) -> None:
    """Also when the client goes on talking to an origin that has gone altogether."""
    origin = await start_origin((READ, SWITCHING + MEGABYTES[:2_000_000], end, STALL))
    sidecar = await start_sidecar(origin)
    client = await open_tunnel(sidecar)
    client.pause()
    for _ in range(20):
        await client.send(b"and I say")
        await asyncio.sleep(0.01)
    client.resume()

    await client.until(lambda: client.ended)
    assert client.ended is Ending.FIN
    assert client.received.partition(b"\r\n\r\n")[2] == MEGABYTES[:2_000_000]
    client.close()
    assert await sidecar.is_quiet()


async def test_megabytes_of_the_client_are_delivered_behind_the_fin_of_the_origin(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, SWITCHING, PAUSE, HALF_CLOSE, GATE, RESUME, STALL))
    sidecar = await start_sidecar(origin)
    client = await open_tunnel(sidecar)
    await client.until(lambda: client.ended)
    client.transport.write(MEGABYTES)
    client.half_close()
    origin.gate.set()

    assert await origin.ended() is Ending.FIN
    assert origin.connections[0].received.endswith(MEGABYTES)
    assert await sidecar.is_quiet()


@pytest.mark.parametrize("side", ["origin", "client"])
async def test_a_half_closed_tunnel_ends_when_it_is_idle(
    start_origin: StartOrigin, start_sidecar: StartSidecar, side: str
) -> None:
    script = (READ, SWITCHING, HALF_CLOSE, GATE) if side == "origin" else (READ, SWITCHING, GATE)
    origin = await start_origin(script)
    sidecar = await start_sidecar(origin, proxy={"limits": {"tunnel_idle": "300ms"}})
    client = await open_tunnel(sidecar)
    if side == "client":
        client.half_close()

    assert await sidecar.is_quiet()
    await client.until(lambda: client.ended)


@pytest.mark.parametrize("half_closed", [False, True], ids=["open", "half-closed"])
async def test_a_reset_client_resets_the_tunnel(
    start_origin: StartOrigin, start_sidecar: StartSidecar, *, half_closed: bool
) -> None:
    """What a client said before its reset is not the whole of what it had to say."""
    origin = await start_origin((READ, SWITCHING, HALF_CLOSE if half_closed else GATE, STALL))
    sidecar = await start_sidecar(origin)
    client = await open_tunnel(sidecar)
    if half_closed:
        await client.until(lambda: client.ended)
    await client.send(b"half of it")
    client.reset()
    origin.gate.set()

    assert await origin.ended() is Ending.RESET
    assert await sidecar.is_quiet()


async def test_a_client_that_half_closed_before_the_switch_is_told_apart_from_one_that_left(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, SWITCHING + b"said", READ_MORE, CLOSE))
    sidecar = await start_sidecar(origin, proxy={"limits": {"half_close": "10s"}})
    client = await sidecar.connect()
    await client.send(UPGRADE + b"early")
    client.half_close()
    await origin.until(lambda seen: seen.requests)
    origin.gate.set()

    await client.until(lambda: client.ended)
    assert (client.ended, client.received.endswith(b"said")) == (Ending.FIN, True)
    assert await origin.ended() is Ending.FIN
    assert origin.connections[0].received.endswith(b"early")
