from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession, UnixConnector, web

from sidecar.adapters.web import WebListener
from sidecar.core.config import Address

if TYPE_CHECKING:
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


def urls(listener: WebListener) -> list[str]:
    return [f"http://{address[0]}:{address[1]}/" for address in listener.addresses if not isinstance(address, str)]


async def get(url: str, connector: UnixConnector | None = None) -> str:
    async with ClientSession(connector=connector) as session, session.get(url) as response:
        return await response.text()


async def test_one_application_answers_on_every_address(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    listener = WebListener(application(), (ANY_PORT, ANY_PORT, Address(unix_path=path)))
    await listener.start()
    try:
        first, second = urls(listener)
        assert first != second
        assert listener.addresses[2] == f"unix:{path}"
        assert [await get(first), await get(second)] == ["here", "here"]
        assert await get("http://localhost/", UnixConnector(path)) == "here"
    finally:
        await listener.stop()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_an_address_that_is_taken_or_cannot_be_is_named(kind: str, tmp_path: Path) -> None:
    first = WebListener(application(), (ANY_PORT,))
    await first.start()
    (taken,) = first.addresses
    assert not isinstance(taken, str)
    wanted = Address(*taken) if kind == "tcp" else Address(unix_path=str(tmp_path / "no" / "folder.sock"))
    second = WebListener(application(), (wanted,))
    try:
        with pytest.raises(OSError, match=r"^\[Errno \d+\] cannot listen on ") as told:
            await second.start()
        assert str(wanted) in str(told.value)
    finally:
        await second.stop()
        await first.stop()


async def test_once_stopped_nobody_is_answered_any_more() -> None:
    listener = WebListener(application(), (ANY_PORT,))
    await listener.start()
    (url,) = urls(listener)
    assert await get(url) == "here"
    await listener.stop()
    with pytest.raises(OSError, match="Cannot connect"):
        await get(url)


async def test_a_call_under_way_may_end_while_the_listener_stops() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    listener = WebListener(application(begun=begun, gate=gate), (ANY_PORT,))
    await listener.start()
    (url,) = urls(listener)
    calling = asyncio.ensure_future(get(url))
    async with asyncio.timeout(5):
        await begun.wait()
        stopping = asyncio.ensure_future(listener.stop())
        await asyncio.sleep(0)
        gate.set()
        assert await calling == "here"
        await stopping
