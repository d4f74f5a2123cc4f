from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, UnixConnector, web

from sidecar.adapters.exclusive import ListenSockets
from sidecar.adapters.web import WebListener
from sidecar.core.config import Address

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
async def listening(made: web.Application, *addresses: Address) -> AsyncIterator[tuple[WebListener, ListenSockets]]:
    sockets = ListenSockets(addresses or (ANY_PORT,))
    sockets.bind()
    listener = WebListener(made)
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
