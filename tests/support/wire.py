"""One end of a TCP connection that does exactly what it is told and remembers exactly what it got."""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import Enum
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

PATIENCE = 10.0
"""Seconds until a wait for something that must happen is given up."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Ending(Enum):
    """How the peer left."""

    FIN = "fin"
    RESET = "reset"


class Wire(asyncio.Protocol):
    """A connection as a byte log: `received` is everything the peer ever sent, `ended` how it left."""

    transport: asyncio.Transport
    patience: float = PATIENCE
    """Seconds for waits on this connection; more where many share the machine."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended: Ending | None = None
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        sock = transport.get_extra_info("socket")
        if sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._news.set()

    def eof_received(self) -> bool:
        """Keep our half open: whoever wants to close says so."""
        self.ended = self.ended or Ending.FIN
        self._news.set()
        return self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.ended or (Ending.RESET if exc is not None else Ending.FIN)
        self._news.set()

    async def until(self, ready: Callable[[], object]) -> None:
        """Wait until `ready()`, asked again whenever something arrives."""
        async with asyncio.timeout(self.patience):
            while not ready():
                self._news.clear()
                await self._news.wait()

    async def send(self, data: bytes) -> None:
        """Hand `data` to the kernel; returns when all of it is there, or the peer is gone."""
        if self.transport.is_closing():
            return
        self.transport.write(data)
        await eventually(lambda: self.transport.is_closing() or not self.transport.get_write_buffer_size(), every=0)

    async def send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Send each piece in a segment of its own, letting the receiver see it before the next."""
        for piece in pieces:
            await self.send(piece)
            await turns(3)

    async def send_bytewise(self, data: bytes) -> None:
        """Send every byte in a segment of its own."""
        await self.send_pieces(data[at : at + 1] for at in range(len(data)))

    def half_close(self) -> None:
        """FIN: nothing more comes from here, but we still listen."""
        if not self.transport.is_closing():
            self.transport.write_eof()

    def reset(self) -> None:
        """RST instead of FIN, dropping what was not sent."""
        if not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.transport.abort()

    def close(self) -> None:
        self.transport.close()

    def pause(self) -> None:
        """Stop reading; the kernel's buffers fill and the peer has to wait."""
        self.transport.pause_reading()

    def resume(self) -> None:
        self.transport.resume_reading()


async def eventually(ready: Callable[[], object], *, within: float = PATIENCE, every: float = 0.002) -> None:
    """Wait until `ready()`, where nothing tells when: ask again `every` seconds, for at most `within`."""
    async with asyncio.timeout(within):
        while not ready():  # noqa: ASYNC110 - the state of sockets and of other processes raises no event
            await asyncio.sleep(every)


async def comes_true(ask: Callable[[], Awaitable[object]], *, within: float = PATIENCE, every: float = 0.01) -> None:
    """Wait until the answer to `ask` is true, where that has to be asked for."""
    async with asyncio.timeout(within):
        while not await ask():  # noqa: ASYNC110 - the same
            await asyncio.sleep(every)


async def turns(count: int) -> None:
    """Let the loop run `count` times, so that what is in the kernel gets read."""
    for _ in range(count):
        await asyncio.sleep(0)
