"""Where clients connect: serving, TLS, and the end of it all."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.adapters.server.connection import ClientConnection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.adapters.server.context import ServerContext
    from sidecar.core.config import ServerTls
    from sidecar.pipeline.errors import ProxyError

BACKLOG = 1024


class Listener:
    """The proxy listener on sockets that are bound."""

    def __init__(self, context: ServerContext, tls: ServerTls | None) -> None:
        self._context = context
        self._tls_settings = tls
        self._tls: ssl.SSLContext | None = None
        self._tls_stamp: tuple[int, ...] = ()
        self._servers: list[asyncio.Server] = []

    def load_tls(self) -> None:
        """Read the certificate files. Raises OSError."""
        if self._tls_settings is not None:
            self._tls = _server_context(self._tls_settings)
            self._tls_stamp = _stamp(self._tls_settings)

    async def serve(self, sockets: Iterable[socket.socket]) -> None:
        """Accept clients."""
        loop = asyncio.get_running_loop()
        for bound in sockets:
            create = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
            server = await create(lambda: ClientConnection(self._context), sock=bound, ssl=self._tls, backlog=BACKLOG)
            self._servers.append(server)

    def reload_tls(self) -> None:
        """Use changed certificate files for new connections. Raises OSError or ssl.SSLError and keeps the old ones."""
        if self._tls is None or self._tls_settings is None:
            return
        stamp = _stamp(self._tls_settings)
        if stamp != self._tls_stamp:
            self._tls_stamp = stamp
            _server_context(self._tls_settings)
            self._tls.load_cert_chain(self._tls_settings.cert_file, self._tls_settings.key_file)

    def drain(self) -> None:
        """Accept nobody new; idle connections close now, busy ones after their answer."""
        self._context.drain()
        for server in self._servers:
            server.close()
        for connection in self._context.connections():
            connection.shut()

    def abort(self, error: ProxyError) -> None:
        """End every connection that is left; `error` says why to the log."""
        for connection in self._context.connections():
            connection.cut(error)

    async def emptied(self) -> None:
        """Wait until the last client has gone."""
        await self._context.empty.wait()


def _server_context(settings: ServerTls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings.client_ca_file)
    context.load_cert_chain(settings.cert_file, settings.key_file)
    context.set_alpn_protocols(["http/1.1"])
    if settings.client_ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _stamp(settings: ServerTls) -> tuple[int, ...]:
    return tuple(Path(path).stat().st_mtime_ns for path in (settings.cert_file, settings.key_file))
