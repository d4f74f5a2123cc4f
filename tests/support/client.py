"""A client that sends raw bytes and judges strictly what comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.support.messages import Malformed, WireResponse, take_response, take_response_head
from tests.support.wire import Ending, Wire, turns

if TYPE_CHECKING:
    import ssl

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
"""A request that must always work."""


class RawClient(Wire):
    """`response` takes the next response off the log; `unread` is what no response has claimed yet."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    @property
    def unread(self) -> bytes:
        return bytes(self.received[self._taken :])

    async def until_more(self) -> None:
        """Wait until something arrives that was not there yet."""
        before = len(self.received)
        await self.until(lambda: self.ended or len(self.received) > before)
        assert len(self.received) > before, f"{self.ended} instead of more"

    async def head(self) -> WireResponse:
        """The next response's head, interim or final, without taking it."""
        await self.until(lambda: self.ended or b"\r\n\r\n" in self.unread)
        taken = take_response_head(self.unread)
        assert taken is not None, f"the connection ended before a head: {self.unread!r}"
        return taken[0]

    async def response(self, method: str = "GET") -> WireResponse:
        """The next whole response. Fails when the connection ends before it is complete."""
        taken: tuple[WireResponse, int] | None = None

        def complete() -> bool:
            nonlocal taken
            taken = take_response(self.unread, method, ended=self.ended is Ending.FIN)
            return taken is not None or self.ended is not None

        await self.until(complete)
        assert taken is not None, f"{self.ended} instead of a whole response: {self.unread[:500]!r}"
        self._taken += taken[1]
        return taken[0]

    def forget(self) -> None:
        """Drop what was taken, where a connection lives long."""
        del self.received[: self._taken]
        self._taken = 0

    async def exchange(self, data: bytes, method: str = "GET") -> WireResponse:
        """Send a request, take its response."""
        await self.send(data)
        return await self.response(method)

    async def has_closed(self) -> bool:
        """Wait for the end; True when nothing was sent beyond the responses taken."""
        await self.until(lambda: self.ended)
        return self.unread == b""

    async def was_cut(self, method: str = "GET") -> bool:
        """Wait for the end; True when the response in progress cannot be mistaken for a complete one."""
        await self.until(lambda: self.ended)
        try:
            return take_response(self.unread, method, ended=self.ended is Ending.FIN) is None
        except Malformed as error:
            raise AssertionError(f"garbage after the cut: {self.unread[-500:]!r}") from error

    async def is_usable(self) -> bool:
        """A further request on this connection is answered."""
        return (await self.exchange(GOOD)).status == 200


async def connect(
    address: tuple[str, int] | str, *, tls: ssl.SSLContext | None = None, server_hostname: str | None = None
) -> RawClient:
    """A connection to a TCP host and port, or to a Unix socket's path."""
    loop = asyncio.get_running_loop()
    if isinstance(address, str):
        _, client = await loop.create_unix_connection(RawClient, address)
    else:
        host, port = address
        _, client = await loop.create_connection(RawClient, host, port, ssl=tls, server_hostname=server_hostname)
    return client


async def hang_up(client: RawClient) -> None:
    """Close our end and let the transport finish."""
    client.transport.abort()
    await turns(2)
