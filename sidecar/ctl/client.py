"""Calls of the admin API, with nothing but the standard library."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from sidecar.adapters.healthcheck import UnixConnection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PATIENCE = 10.0
"""Seconds for an answer."""
LONGEST_SILENCE = 30.0
"""Seconds without a line of a stream, which has a heartbeat every fifteen."""
UNIX = "unix:"


class Failed(Exception):
    """A call that did not do what was asked, in words for a person. `misused`: because of what was typed."""

    def __init__(self, message: str, *, misused: bool = False) -> None:
        super().__init__(message)
        self.misused = misused


class Admin:
    """The API at `address`: `host:port`, `http://host:port` or `unix:/path`."""

    def __init__(self, address: str, token: str | None) -> None:
        self.address = address
        self._token = token

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Any:
        """The JSON that is answered. Raises Failed."""
        connection, response = self._ask(method, path, query, body, PATIENCE)
        try:
            return _content(response)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        finally:
            connection.close()

    def stream(self, path: str, query: Mapping[str, object]) -> Iterator[tuple[str, Any]]:
        """The kind and the data of each server-sent event. Raises Failed when the stream ends."""
        connection, response = self._ask("GET", path, query, None, LONGEST_SILENCE)
        try:
            if response.status != http.client.OK:
                _content(response)
            fields: dict[str, str] = {}
            while line := response.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                    continue
                if "data" in fields:
                    yield fields["event"], json.loads(fields["data"])
                fields = {}
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        finally:
            connection.close()
        raise Failed(f"the sidecar at {self.address} has ended the stream")

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: Mapping[str, object] | None,
        timeout: float,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connection(timeout)
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{path}?{urlencode(asked)}" if asked else path
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._lost(error) from None

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self.address.startswith(UNIX):
            return UnixConnection(self.address.removeprefix(UNIX), timeout)
        host, port = self._host_and_port()
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _host_and_port(self) -> tuple[str, int]:
        try:
            parts = urlsplit(self.address if "://" in self.address else f"http://{self.address}")
            if parts.scheme == "http" and parts.hostname and parts.port is not None:
                return parts.hostname, parts.port
        except ValueError:
            pass  # told like every other address that is none
        raise Failed(f"{self.address!r} is no address: wanted is host:port or unix:/path", misused=True)

    def _lost(self, error: Exception) -> Failed:
        if isinstance(error, ConnectionRefusedError | FileNotFoundError):
            return Failed(f"nobody listens at {self.address}: is the sidecar running? SIDECAR_ADMIN says where it is")
        return Failed(f"no answer from {self.address}: {str(error) or type(error).__name__}")


def _content(response: http.client.HTTPResponse) -> Any:
    octets = response.read()
    try:
        content = json.loads(octets)
    except ValueError:
        raise Failed(f"the answer is not the admin API's: {response.status} {response.reason}") from None
    if response.status >= http.client.BAD_REQUEST:
        detail = content.get("detail", response.reason)
        errors = [f"\n  line {each['line']}: {each['message']}" for each in content.get("errors", ()) if "line" in each]
        raise Failed(detail + "".join(errors), misused=content.get("reason") == "bad_values")
    return content
