"""The ends of a socket's connection that the loop does not tell or make: unread octets, resets heard and resets sent.

A peer that answers early and closes with our octets unread makes TCP send a reset behind its answer (RFC 9112 §9.6).
When the next write meets that reset, the loop ends the connection without reading; but the answer had arrived before
it, and Linux keeps what has arrived.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

PIECE = 256 * 1024
_RESET = struct.pack("ii", 1, 0)


def read_unread(transport: asyncio.BaseTransport, error: Exception, receive: Callable[[bytes], object]) -> bool:
    """Hand to `receive` what had arrived before `error`; whether the peer had said before that it would say no more.

    To be called in `connection_lost`, where the descriptor is still open; what arrived is at most a receive buffer.
    After a reset Linux tells EPIPE to who writes when a FIN had come before it, ECONNRESET when none had; reading then
    comes to an end either way, but on a Unix socket, where it fails after a reset.
    """
    connection = transport.get_extra_info("socket")
    if connection is None:
        return False
    descriptor = connection.fileno()
    while True:
        try:
            data = os.read(descriptor, PIECE)
        except OSError:
            return False
        if not data:
            return isinstance(error, BrokenPipeError)
        receive(data)


def was_reset(transport: asyncio.BaseTransport) -> bool:
    """Whether what the loop tells as the end of the input is a reset: libuv does so when one comes close behind data.

    After a FIN the error that Linux keeps is another one.
    """
    connection = transport.get_extra_info("socket")
    return connection is not None and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Let the peer take the coming end for a failure: closing sends a reset, where the socket knows such a thing."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
