"""The demo's traffic goes on whatever it meets."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from aiohttp import web

from sidecar.adapters.demo_client import send

if TYPE_CHECKING:
    from pytest_aiohttp import AiohttpServer

PATIENCE = 20


class Asked:
    """An origin that remembers what it was asked, breaks off its first answer, and fails the second."""

    def __init__(self, enough: int) -> None:
        self.paths: list[str] = []
        self.enough = asyncio.Event()
        self._left = enough

    async def answer(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        self._left -= 1
        if self._left == 0:
            self.enough.set()
        if len(self.paths) == 1:
            assert request.transport is not None
            request.transport.write(b"nonsense\r\n\r\n")
            request.transport.close()
        return web.Response(status=503 if len(self.paths) == 2 else 200)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        return app


async def test_asks_in_turn_and_survives_every_failure(aiohttp_server: AiohttpServer) -> None:
    origin = Asked(enough=5)
    server = await aiohttp_server(origin.application())
    urls = [str(server.make_url(path)) for path in ("/a", "/b")]
    sending = asyncio.get_running_loop().create_task(send(urls, interval=0))
    async with asyncio.timeout(PATIENCE):
        await origin.enough.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert origin.paths[:5] == ["/a", "/b", "/a", "/b", "/a"]


async def test_ends_after_so_many(aiohttp_server: AiohttpServer) -> None:
    origin = Asked(enough=3)
    server = await aiohttp_server(origin.application())
    await send([str(server.make_url("/a"))], interval=0, count=3)
    assert origin.paths == ["/a"] * 3


async def test_ends_cleanly_on_sigterm(aiohttp_server: AiohttpServer) -> None:
    origin = Asked(enough=2)
    server = await aiohttp_server(origin.application())
    module = "sidecar.adapters.demo_client"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, "--interval", "0.01", str(server.make_url("/a"))
    )
    async with asyncio.timeout(PATIENCE):
        await origin.enough.wait()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
