"""Opening the transport of a connection: TCP or a Unix socket, with or without TLS.

Belongs here: where to connect to and how. That a slot is free, how long it may take and what a failure means for the
next choice is the pool's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.adapters.upstream.tls_transport import TlsTransport
from sidecar.core.address import host_port, unix_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext


@dataclass(frozen=True, slots=True)
class Target:
    """One address to connect to: `address` is an IP address, or a Unix socket's path when `port` is None."""

    address: str
    port: int | None
    server_name: str | None = None
    tls: Callable[[], SSLContext] | None = None

    def __str__(self) -> str:
        return unix_text(self.address) if self.port is None else host_port(self.address, self.port)


async def open_transport(target: Target, protocol: asyncio.Protocol) -> None:
    """Connect `protocol` to `target`; with TLS, it hears of the connection after the handshake.

    Raises what connecting raises (`failure.connect_failure` knows it). Whoever cancels it must drop `protocol`.
    """
    if target.tls is None:
        await _open_socket(target, protocol)
        return
    transport = TlsTransport(protocol, target.tls(), target.server_name)
    try:
        await _open_socket(target, transport)
        await transport.ready
    except BaseException:
        transport.abandon()
        raise


async def _open_socket(target: Target, protocol: asyncio.Protocol) -> None:
    loop = asyncio.get_running_loop()
    if target.port is None:
        await loop.create_unix_connection(lambda: protocol, target.address)
    else:
        await loop.create_connection(lambda: protocol, target.address, target.port)
