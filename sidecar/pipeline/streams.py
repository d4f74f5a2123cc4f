"""A body that arrives on a connection while somebody else reads it, with bounded memory between the two."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from sidecar.pipeline.message import Body, BodyEnd, End

if TYPE_CHECKING:
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.message import Sink

HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024


class Valve(Protocol):
    """The connection behind a streamed body."""

    def pause_body(self) -> None:
        """Too much is waiting to be read: let the peer wait."""

    def resume_body(self) -> None:
        """There is room again."""

    def body_abandoned(self) -> None:
        """The reader gave up before the end: the rest of the message is of no use."""


class StreamBody(Body):
    """What the connection feeds and a stage reads. Holds about `HIGH_WATER` octets and one read more at most."""

    __slots__ = ("_buffered", "_paused", "_pieces", "_sink", "_source_end", "_valve", "_waiter")

    def __init__(self, length: int | None, valve: Valve) -> None:
        super().__init__(length)
        self._valve = valve
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._source_end: BodyEnd | ProxyError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        """Takes pieces as they come, while its reader sleeps."""

    def feed(self, piece: bytes) -> None:
        """Take a non-empty piece from the connection; dropped when nobody reads any more."""
        if self._end is not None:
            return
        if self._sink is not None and self._waiter is not None and not self._waiter.done():
            # A reader that was cancelled has not noticed it yet; what it reads for may be gone.
            self._hand_over(piece, self._sink)
            return
        self._pieces.append(piece)
        self._buffered += len(piece)
        if self._buffered > HIGH_WATER and not self._paused:
            self._paused = True
            self._valve.pause_body()
        self._wake()

    def feed_end(self, error: ProxyError | None = None) -> None:
        """The connection will feed no more: the message is complete, or `error` cut it short.

        After an error what is buffered is dropped: it would only make a truncated message look longer.
        """
        if self._source_end is not None:
            return
        self._source_end = BodyEnd.COMPLETE if error is None else error
        if error is not None:
            self._pieces.clear()
            self._buffered = 0
        if self._paused:
            self._paused = False
            self._valve.resume_body()
        self._wake()

    @property
    def flowing(self) -> bool:
        """Whether there is room for more."""
        return not self._paused

    async def read(self) -> bytes:
        """The next piece; b"" at the end. Raises the ProxyError that cut the body."""
        while not self._pieces:
            if self._source_end is not None:
                return self._read_end(self._source_end)
            await self._wait()
        return self._take()

    async def pour(self, sink: Sink) -> None:
        """Write every piece to the sink. Pieces that come while the sink has room go to it without waking anybody."""
        while True:
            while self._pieces:
                sink.write(self._take())
                if sink.drained is not None:
                    await sink.drained
            if self._source_end is not None:
                self._read_end(self._source_end)
                return
            sink.flush()
            self._sink = sink
            try:
                await self._wait()
            finally:
                self._sink = None
            if sink.drained is not None:
                await sink.drained

    def _hand_over(self, piece: bytes, sink: Sink) -> None:
        sink.write(self._pass(piece) if self._piece_listeners else piece)
        if sink.drained is not None:
            self._sink = None
            self._wake()

    def _take(self) -> bytes:
        piece = self._pieces.popleft()
        self._buffered -= len(piece)
        if self._paused and self._buffered <= LOW_WATER:
            self._paused = False
            self._valve.resume_body()
        return self._pass(piece) if self._piece_listeners else piece

    def _read_end(self, end: BodyEnd | ProxyError) -> bytes:
        if self._end is None:
            self._finish(end)
        if isinstance(end, BodyEnd):
            return b""
        raise end

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _release(self, end: End) -> None:  # noqa: ARG002 - how it ended makes no difference to what is freed
        self._pieces.clear()
        self._buffered = 0
        if self._source_end is None:
            self._source_end = BodyEnd.ABANDONED
            self._wake()
            self._valve.body_abandoned()
