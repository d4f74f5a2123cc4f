"""Where clients connect: binding, TLS, and the end of it all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.adapters.server.connection import ClientConnection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.adapters.server.context import ServerContext
    from sidecar.core.config import Address, ServerTls
    from sidecar.pipeline.errors import ProxyError

BACKLOG = 1024


class Listener:
    """The proxy listener on one or more addresses."""

    def __init__(self, context: ServerContext, addresses: Iterable[Address], tls: ServerTls | None) -> None:
        self._context = context
        self._wanted = tuple(addresses)
        self._tls_settings = tls
        self._tls: ssl.SSLContext | None = None
        self._tls_stamp: tuple[int, ...] = ()
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []

    @property
    def addresses(self) -> list[tuple[str, int] | str]:
        """Host and port of each address that is bound, or `unix:` and a path."""
        return [_name(bound) for bound in self._sockets]

    def bind(self) -> None:
        """Take the addresses. Raises OSError with the address in its message, and keeps none."""
        if self._tls_settings is not None:
            self._tls = _server_context(self._tls_settings)
            self._tls_stamp = _stamp(self._tls_settings)
        try:
            for address in self._wanted:
                self._sockets.append(_bind(address))
        except OSError:
            self.unbind()
            raise

    def unbind(self) -> None:
        """Give up addresses that were bound and never served."""
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()

    async def serve(self) -> None:
        """Accept clients."""
        loop = asyncio.get_running_loop()
        for bound in self._sockets:
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
        for address in self._wanted:
            if address.unix_path:
                with contextlib.suppress(FileNotFoundError):
                    Path(address.unix_path).unlink()
        for connection in self._context.connections():
            connection.shut()

    def abort(self, error: ProxyError) -> None:
        """End every connection that is left; `error` says why to the log."""
        for connection in self._context.connections():
            connection.cut(error)

    async def emptied(self) -> None:
        """Wait until the last client has gone."""
        await self._context.empty.wait()


def _bind(address: Address) -> socket.socket:
    if address.unix_path:
        return _bind_unix(address.unix_path)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        bound.bind((address.host, address.port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror or error}") from error
    return bound


def _bind_unix(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.setblocking(False)  # noqa: FBT003 - the socket module's own signature
    try:
        _remove_dead_socket(path)
        bound.bind(path)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot listen on unix:{path}: {error.strerror or error}") from error
    return bound


def _remove_dead_socket(path: str) -> None:
    """A process that was killed leaves its socket behind; one that answers is somebody else's."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def _name(bound: socket.socket) -> tuple[str, int] | str:
    name = bound.getsockname()
    return f"unix:{name}" if isinstance(name, str) else (name[0], name[1])


def _server_context(settings: ServerTls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings.client_ca_file)
    context.load_cert_chain(settings.cert_file, settings.key_file)
    context.set_alpn_protocols(["http/1.1"])
    if settings.client_ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _stamp(settings: ServerTls) -> tuple[int, ...]:
    return tuple(Path(path).stat().st_mtime_ns for path in (settings.cert_file, settings.key_file))
