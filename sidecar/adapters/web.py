"""Serves an aiohttp application on the addresses of a control listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.core.config import Address

SHUTDOWN = 2.0
"""Seconds that calls under way have when the listener ends."""


class WebListener:
    """One application on one or more addresses."""

    def __init__(self, application: web.Application, addresses: Iterable[Address]) -> None:
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN)
        self._wanted = tuple(addresses)

    @property
    def addresses(self) -> list[tuple[str, int] | str]:
        """Host and port of each address that is bound, or `unix:` and a path."""
        return [f"unix:{name}" if isinstance(name, str) else (name[0], name[1]) for name in self._runner.addresses]

    async def start(self) -> None:
        """Listen. Raises OSError with the address in its message."""
        await self._runner.setup()
        for address in self._wanted:
            try:
                await self._site(address).start()
            except OSError as error:
                raise OSError(error.errno, f"cannot listen on {address}: {error.strerror or error}") from error

    async def stop(self) -> None:
        """End the calls under way and listen no more."""
        await self._runner.cleanup()

    def _site(self, address: Address) -> web.BaseSite:
        if address.unix_path:
            return web.UnixSite(self._runner, address.unix_path)
        return web.TCPSite(self._runner, address.host, address.port)
