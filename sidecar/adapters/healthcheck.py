"""Asks a running sidecar whether it is ready, with nothing but the standard library: images have no curl."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sidecar.core.address import host_port

if TYPE_CHECKING:
    from sidecar.core.config import Address

EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - translated, not bound
READY_PATH = "/readyz"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the Unix socket at `path`."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def not_ready_at(address: Address, timeout: float = 2.0) -> str | None:
    """Why the telemetry listener bound to `address` does not say ready, and what was asked; None when it does."""
    if address.unix_path:
        connection = UnixConnection(address.unix_path, timeout)
        return _ask(connection, READY_PATH, f"{address} for {READY_PATH}")
    host = EVERY_INTERFACE.get(address.host, address.host)
    return _ask_tcp(host, address.port, READY_PATH, timeout)


def not_ready(url: str, timeout: float = 2.0) -> str | None:
    """Why what answers at `url` does not say ready; the path is /readyz unless the URL has one.

    Raises ValueError for what is no http:// URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// URL")
    path = f"{parts.path or READY_PATH}{'?' if parts.query else ''}{parts.query}"
    return _ask_tcp(parts.hostname, parts.port or 80, path, timeout)


def _ask_tcp(host: str, port: int, path: str, timeout: float) -> str | None:
    return _ask(http.client.HTTPConnection(host, port, timeout=timeout), path, f"http://{host_port(host, port)}{path}")


def _ask(connection: http.client.HTTPConnection, path: str, asked: str) -> str | None:
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        answer = response.read(200).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"{str(error) or type(error).__name__} (asked {asked})"
    finally:
        connection.close()
    return None if response.status == http.client.OK else f"{response.status} {answer} (asked {asked})"
