"""A TCP proxy on loopback that delays, swallows, refuses, or leads elsewhere, as a test wants."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Mood(Enum):
    """How what arrives is treated."""

    PASS = "passed on"
    SLOW = "passed on after `delay`"
    SWALLOW = "taken and lost, in both directions"


class UnreliableLink:
    """Leads to `target`, a port of loopback, until told otherwise."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.mood = Mood.PASS
        self.delay = 0.0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(upstream_writer)
        await asyncio.gather(self._pump(reader, upstream_writer), self._pump(upstream_reader, writer))
        self._writers -= {writer, upstream_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if self.mood is Mood.SLOW:
                    await asyncio.sleep(self.delay)
                if self.mood is not Mood.SWALLOW:
                    writer.write(data)
        except OSError:
            pass
        finally:
            writer.transport.abort()


@asynccontextmanager
async def unreliable_link(target: int) -> AsyncIterator[UnreliableLink]:
    link = UnreliableLink(target)
    server = await asyncio.start_server(link.serve, "127.0.0.1", 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        link.cut()
        await server.wait_closed()
