from __future__ import annotations

import asyncio
import resource
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, UnixConnector, web

from sidecar.adapters import web as web_adapter
from sidecar.adapters.exclusive import ListenSockets
from sidecar.adapters.web import CallerLimits, WebListener
from sidecar.core.config import Address
from tests.support.client import RawClient, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ANY_PORT = Address("127.0.0.1", 0)


def application(*, begun: asyncio.Event | None = None, gate: asyncio.Event | None = None) -> web.Application:
    async def answer(_: web.Request) -> web.Response:
        if begun is not None and gate is not None:
            begun.set()
            await gate.wait()
        return web.Response(text="here")

    made = web.Application()
    made.router.add_get("/", answer)
    return made


@asynccontextmanager
async def listening(
    made: web.Application, *addresses: Address, limits: CallerLimits | None = None
) -> AsyncIterator[tuple[WebListener, ListenSockets]]:
    sockets = ListenSockets(addresses or (ANY_PORT,))
    sockets.bind()
    listener = WebListener(made, limits)
    try:
        await sockets.serve(await listener.start())
        yield listener, sockets
    finally:
        await listener.stop()
        sockets.close()


def urls(sockets: ListenSockets) -> list[str]:
    return [f"http://{address[0]}:{address[1]}/" for address in sockets.addresses if not isinstance(address, str)]


async def get(url: str, connector: UnixConnector | None = None) -> str:
    async with ClientSession(connector=connector) as session, session.get(url) as response:
        return await response.text()


async def test_one_application_answers_on_every_address(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    async with listening(application(), ANY_PORT, ANY_PORT, Address(unix_path=path)) as (_, sockets):
        first, second = urls(sockets)
        assert first != second
        assert [await get(first), await get(second)] == ["here", "here"]
        assert await get("http://localhost/", UnixConnector(path)) == "here"


async def test_once_stopped_nobody_is_answered_any_more() -> None:
    async with listening(application()) as (listener, sockets):
        (url,) = urls(sockets)
        assert await get(url) == "here"
        await listener.stop()
        sockets.close()
        with pytest.raises(OSError, match="Cannot connect"):
            await get(url)


async def test_a_call_under_way_may_end_while_the_listener_stops() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    async with listening(application(begun=begun, gate=gate)) as (listener, sockets):
        (url,) = urls(sockets)
        calling = asyncio.ensure_future(get(url))
        async with asyncio.timeout(5):
            await begun.wait()
            stopping = asyncio.ensure_future(listener.stop())
            await asyncio.sleep(0)
            gate.set()
            assert await calling == "here"
            await stopping


# Callers that get in the way


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


CALLING: list[RawClient] = []


@pytest.fixture(autouse=True)
async def nobody_stays() -> AsyncIterator[None]:
    yield
    for client in CALLING:
        client.transport.abort()
    CALLING.clear()


async def called(sockets: ListenSockets) -> RawClient:
    (host, port), *_ = (address for address in sockets.addresses if not isinstance(address, str))
    CALLING.append(await connect((host, port)))
    return CALLING[-1]


@pytest.mark.parametrize("sent", [b"", GET[:-2]], ids=["nothing", "part of a head"])
async def test_a_head_has_a_time(sent: bytes) -> None:
    async with listening(application(), limits=CallerLimits(head_timeout=0.1)) as (_, sockets):
        client = await called(sockets)
        await client.send(sent)
        await client.until(lambda: client.ended)
        assert client.received == b""


async def test_a_second_head_that_stops_halfway_has_a_time() -> None:
    async with listening(application(), limits=CallerLimits(head_timeout=0.1)) as (_, sockets):
        client = await called(sockets)
        assert (await client.exchange(GET)).status == 200
        await client.send(GET[:9])
        await client.until(lambda: client.ended)


async def test_a_call_under_way_takes_as_long_as_it_takes() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    limits = CallerLimits(head_timeout=0.05)
    async with listening(application(begun=begun, gate=gate), limits=limits) as (_, sockets):
        client = await called(sockets)
        await client.send(GET)
        await asyncio.sleep(0.15)  # three times what a head has
        gate.set()
        assert (await client.response()).status == 200
        await asyncio.sleep(0.15)
        assert (await client.exchange(GET)).status == 200, "a connection rests longer than a head takes"


async def test_content_and_slow_readers_have_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_adapter, "CONTENT", 0.1)

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def much(_: web.Request) -> web.Response:
        return web.Response(body=bytes(64 * 1024 * 1024))

    made = web.Application()
    made.router.add_post("/", echo)
    made.router.add_get("/", much)
    async with listening(made) as (_, sockets):
        silent, unreading = await called(sockets), await called(sockets)
        await silent.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nx")
        await silent.until(lambda: silent.ended)
        unreading.transport.pause_reading()
        await unreading.send(GET)
        await asyncio.sleep(0.3)
        unreading.transport.resume_reading()
        await unreading.until(lambda: unreading.ended)
        assert len(unreading.received) < 64 * 1024 * 1024


async def test_the_one_that_is_idle_longest_makes_room() -> None:
    async with listening(application(), limits=CallerLimits(connections=3)) as (_, sockets):
        clients = [await called(sockets) for _ in range(3)]
        for client in (clients[1], clients[0], clients[2]):
            assert (await client.exchange(GET)).status == 200

        another = await called(sockets)
        assert (await another.exchange(GET)).status == 200

        await clients[1].until(lambda: clients[1].ended)
        for client in (clients[0], clients[2]):
            assert (await client.exchange(GET)).status == 200
        another.transport.abort()


async def test_with_every_place_at_work_a_caller_is_turned_away() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    limits = CallerLimits(connections=1)
    async with listening(application(begun=begun, gate=gate), limits=limits) as (_, sockets):
        busy = await called(sockets)
        await busy.send(GET)
        await begun.wait()
        turned_away = await called(sockets)
        await turned_away.until(lambda: turned_away.ended)
        gate.set()
        assert (await busy.response()).status == 200


def test_a_listener_takes_a_quarter_of_the_descriptors_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert CallerLimits().most() == 256
    assert CallerLimits(connections=7).most() == 7
