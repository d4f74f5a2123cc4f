"""Serves an aiohttp application to the callers of a control listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

SHUTDOWN = 2.0
"""Seconds that calls under way have when the listener ends."""


class WebListener:
    """One application, and those who are connected to it."""

    def __init__(self, application: web.Application) -> None:
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN)

    async def start(self) -> Callable[[], asyncio.BaseProtocol]:
        """What takes in each caller."""
        await self._runner.setup()
        connection = self._runner.server
        assert connection is not None, "made by `setup`"
        return connection

    async def stop(self) -> None:
        """End the calls under way, and every connection."""
        await self._runner.cleanup()
