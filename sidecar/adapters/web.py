"""Serves an aiohttp application on the sockets of a control listener."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterable

BACKLOG = 128
SHUTDOWN = 2.0
"""Seconds that calls under way have when the listener ends."""


class WebListener:
    """One application on one or more sockets that are bound."""

    def __init__(self, application: web.Application) -> None:
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN)
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Accept callers."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        connection = self._runner.server
        assert connection is not None, "made by `setup`"
        for bound in sockets:
            create = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
            self._servers.append(await create(connection, sock=bound, backlog=BACKLOG))

    async def stop(self) -> None:
        """End the calls under way and listen no more."""
        for server in self._servers:
            server.close()
        await self._runner.cleanup()
