"""Who serves the clients that connect: TLS, and the end of it all."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.adapters.server.connection import ClientConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.adapters.server.context import ServerContext
    from sidecar.core.config import ServerTls
    from sidecar.pipeline.errors import ProxyError


class Listener:
    """What the proxy listener does with those who connect."""

    def __init__(self, context: ServerContext, tls: ServerTls | None) -> None:
        self._context = context
        self._tls_settings = tls
        self._tls_stamp: tuple[int, ...] = ()
        self.tls: ssl.SSLContext | None = None
        """What clients connect with; None: plainly."""

    def connection(self) -> ClientConnection:
        """Take in one client."""
        return ClientConnection(self._context)

    def load_tls(self) -> None:
        """Read the certificate files. Raises OSError."""
        self.prepare_tls(self._tls_settings)()

    def prepare_tls(self, settings: ServerTls | None) -> Callable[[], None]:
        """Read the files that `settings` names; calling the result puts them to use. Raises OSError."""
        stamp = () if settings is None else _stamp(settings)
        context = None if settings is None else _server_context(settings)

        def use() -> None:
            self._tls_settings, self._tls_stamp, self.tls = settings, stamp, context

        return use

    def reload_tls(self) -> None:
        """Use changed certificate files for new connections. Raises OSError or ssl.SSLError and keeps the old ones."""
        if self.tls is None or self._tls_settings is None:
            return
        stamp = _stamp(self._tls_settings)
        if stamp != self._tls_stamp:
            self._tls_stamp = stamp
            _server_context(self._tls_settings)
            self.tls.load_cert_chain(self._tls_settings.cert_file, self._tls_settings.key_file)

    def drain(self) -> None:
        """Idle connections close now, busy ones after their answer, and so do those that are made from now on."""
        self._context.drain()
        for connection in self._context.connections():
            connection.shut()

    def abort(self, error: ProxyError) -> None:
        """End every connection that is left; `error` says why to the log."""
        for connection in self._context.connections():
            connection.cut(error)

    async def emptied(self) -> None:
        """Wait until no client is left but such as have asked for nothing since the drain began."""
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
