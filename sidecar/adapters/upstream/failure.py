"""What goes wrong with a connection → the reason a client is given: connecting by one table, and the end of one that
stood.
"""

from __future__ import annotations

import errno
import socket
import ssl

from sidecar.adapters.upstream.tls_transport import Truncated
from sidecar.pipeline.errors import (
    ConnectionLost,
    ConnectionRefused,
    ConnectTimeout,
    DnsFailed,
    PoolExhausted,
    ProxyError,
    TlsFailed,
)

CONNECT_FAILURES: tuple[tuple[type[BaseException], type[ProxyError]], ...] = (
    (socket.gaierror, DnsFailed),
    (UnicodeError, DnsFailed),
    (ssl.SSLError, TlsFailed),
    (TimeoutError, ConnectTimeout),
    (ConnectionResetError, ConnectionLost),
    (BrokenPipeError, ConnectionLost),
    (OSError, ConnectionRefused),
)
_OWN_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors that say something about this process or host, never about the upstream."""


def connect_failure(error: Exception, where: str) -> ProxyError:
    """The ProxyError for `error`, raised while connecting to the endpoint `where`."""
    if isinstance(error, OSError) and error.errno in _OWN_LIMITS:
        return PoolExhausted(f"no connection to {where}: {error.strerror}")
    reason = getattr(error, "strerror", None) or getattr(error, "verify_message", None) or str(error)
    for raised, meaning in CONNECT_FAILURES:
        if isinstance(error, raised):
            return meaning(f"{where}: {reason}" if reason else where)
    raise error


def lost_by(exc: Exception | None) -> ConnectionLost:
    """The ProxyError for a connection that was lost with `exc` in the middle of an exchange."""
    if isinstance(exc, Truncated):
        return ConnectionLost("the upstream ended TLS without close_notify")
    return ConnectionLost("the upstream reset the connection")
