"""One body that arrives once and is read by several, each at its own pace, in bounded memory.

While everything so far is within the limit it is kept from the beginning: nobody waits for anybody, and whoever comes
late still gets all of it. Past the limit it can no longer be stored, nobody new may join, and what all have read is
dropped: then the slowest reader sets the pace, unless it reads nothing at all for `patience` seconds while the others
wait for it. That one is cut off.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from sidecar.pipeline.errors import ClientTooSlow, Draining, ProxyError
from sidecar.pipeline.message import Body, BodyEnd

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.pipeline.message import End

PATIENCE = 5.0


class SharedStream:
    """The arriving side. `deserted` is called when the last reader left before the end."""

    __slots__ = (
        "_deserted",
        "_dropped",
        "_limit",
        "_patience",
        "_pieces",
        "_readers",
        "_room",
        "_size",
        "_source",
        "end",
    )

    def __init__(self, source: Body, limit: int, deserted: Callable[[], object], patience: float = PATIENCE) -> None:
        self._source = source
        self._limit = limit
        self._deserted = deserted
        self._patience = patience
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._readers: set[SharedReader] = set()
        self._room: asyncio.Future[None] | None = None
        self.end: End | None = None

    @property
    def joinable(self) -> bool:
        """Whether a new reader could still have all of it."""
        return self._dropped == 0 and self._size <= self._limit and not isinstance(self.end, ProxyError)

    @property
    def buffered(self) -> int:
        """Octets held in memory."""
        return self._size

    def open(self) -> SharedReader:
        """A reader of the whole; only while `joinable`."""
        reader = SharedReader(self, self._source)
        self._readers.add(reader)
        return reader

    async def pump(self) -> bytes | None:
        """Move everything from the source to the readers. The whole body, or None when it did not fit or was cut."""
        whole = True
        try:
            while piece := await self._source.read():
                self._pieces.append(piece)
                self._size += len(piece)
                self._wake()
                if self._size > self._limit:
                    whole = False
                    await self._make_room()
        except ProxyError as error:
            self._finish(error)
            return None
        except asyncio.CancelledError:
            self._source.close()
            self._finish(Draining("the sidecar is shutting down"))
            raise
        self._finish(BodyEnd.COMPLETE)
        return b"".join(self._pieces) if whole else None

    def piece(self, position: int) -> bytes | None:
        """The piece number `position` of the whole body, or None while it has not arrived."""
        index = position - self._dropped
        return self._pieces[index] if index < len(self._pieces) else None

    def advanced(self, position: int) -> None:
        """A reader took the piece number `position`."""
        if self._room is not None and position == self._dropped:
            self._trim()

    def leave(self, reader: SharedReader) -> None:
        """`reader` reads no more."""
        self._readers.discard(reader)
        if self.end is not None:
            return
        if not self._readers:
            self._deserted()
        elif self._room is not None:
            self._trim()

    async def _make_room(self) -> None:
        """Wait until what is held is within the limit again."""
        self._trim()
        while self._size > self._limit:
            self._room = asyncio.get_running_loop().create_future()
            done, _ = await asyncio.wait((self._room,), timeout=self._patience)
            if not done:
                self._cut_slowest()
        self._room = None

    def _trim(self) -> None:
        slowest = min((reader.position for reader in self._readers), default=self._dropped)
        while self._dropped < slowest and self._pieces:
            self._size -= len(self._pieces.popleft())
            self._dropped += 1
        if self._size <= self._limit and self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _cut_slowest(self) -> None:
        slowest = min((reader.position for reader in self._readers), default=0)
        for reader in [reader for reader in self._readers if reader.position == slowest]:
            reader.cut(ClientTooSlow("fell too far behind the request whose answer it shares"))

    def _finish(self, end: End) -> None:
        self.end = end
        # It leads back to whoever holds this stream, and with it the body.
        del self._deserted
        self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()


class SharedReader(Body):
    """One reader of a shared stream; to its client an ordinary body."""

    __slots__ = ("_stream", "_waiter", "position")

    def __init__(self, stream: SharedStream, source: Body) -> None:
        super().__init__(source.length)
        self.trailers = source.trailers
        self._stream = stream
        self._waiter: asyncio.Future[None] | None = None
        self.position = 0

    async def read(self) -> bytes:
        """The next piece of the whole, when it is there; as a `Body` reads."""
        while True:
            end = self._end or self._stream.end
            if isinstance(end, ProxyError):
                self._finish(end)
                raise end
            piece = None if self._end is not None else self._stream.piece(self.position)
            if piece is not None:
                self.position += 1
                self._stream.advanced(self.position - 1)
                return self._pass(piece)
            if end is not None:
                self._finish(end)
                return b""
            await self._wait()

    def cut(self, error: ProxyError) -> None:
        """End it with `error`."""
        self._finish(error)
        self.wake()

    def wake(self) -> None:
        """Something changed."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _release(self, end: End) -> None:
        self._stream.leave(self)
        if end is BodyEnd.ABANDONED:
            self.wake()
