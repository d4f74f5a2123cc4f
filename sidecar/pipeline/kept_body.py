"""A request body that may have to be sent again: what was read of it is kept, up to a limit.

There is one source, which one reader reads at a time. A reader that gave up may still wait for a piece, until its task
notices: the piece goes to who reads now. What the next reader gets first is what was kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from sidecar.pipeline.errors import ProxyError
from sidecar.pipeline.message import Body, BodyEnd

if TYPE_CHECKING:
    from sidecar.pipeline.message import End


class KeptBody:
    """What the client sends, for one attempt after another to read from the beginning.

    A body of up to `limit` octets is kept. Nothing is of a longer one, which can be sent again only while nothing of it
    was read. `settle` says that no attempt follows.
    """

    __slots__ = ("_limit", "_lock", "_reader", "_settled", "_size", "pieces", "source")

    def __init__(self, source: Body, limit: int) -> None:
        self.source = source
        self.pieces: list[bytes] = []
        self._limit = limit if (source.length or 0) <= limit else 0
        self._size = 0
        self._settled = False
        self._lock = asyncio.Lock()
        self._reader = BodyFromStart(self)

    @property
    def replayable(self) -> bool:
        """Whether all that was read so far is kept."""
        return self._size <= self._limit

    @property
    def whole(self) -> bool:
        """Whether the latest attempt has read it to its end."""
        return self._reader.end is BodyEnd.COMPLETE

    def from_start(self) -> Body:
        """The whole body for the next attempt, which must be `replayable`; nobody reads for the last one any more."""
        if self._reader.begun:
            self._reader.close()
            self._reader = BodyFromStart(self)
        return self._reader

    async def advance(self) -> bool:
        """Have the client's next piece go to whoever reads now; False when there is none. Raises ProxyError."""
        reader = self._reader
        async with self._lock:
            if reader is not self._reader or reader.pending:
                # What it waited for came while another reader had its turn.
                return True
            piece = await self.source.read()
            if piece:
                self._keep(piece)
                self._reader.take(piece)
            return bool(piece)

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._settled or not self.replayable:
            self.pieces.clear()
        else:
            self.pieces.append(piece)

    def given_up(self, end: End) -> None:
        """The attempt that reads needs no more of it."""
        if self._settled and isinstance(end, BodyEnd):
            self.source.close(end)

    def settle(self) -> None:
        """The attempt under way is the last; what it does not read is given up."""
        self._settled = True
        self.pieces.clear()
        if self._reader.end is not None:
            self.given_up(self._reader.end)


class BodyFromStart(Body):
    """A kept body, as one attempt reads it. `pending` is what it has yet to read of what the client sent so far."""

    __slots__ = ("_kept", "begun", "pending")

    def __init__(self, kept: KeptBody) -> None:
        super().__init__(kept.source.length)
        self.trailers = kept.source.trailers
        self.pending = deque(kept.pieces)
        self.begun = False
        self._kept = kept

    async def read(self) -> bytes:
        """The next piece, kept or new."""
        self.begun = True
        while not self.pending:
            if self._end is not None:
                return b""
            try:
                if not await self._kept.advance():
                    self._finish(self._kept.source.end or BodyEnd.COMPLETE)
            except ProxyError as error:
                self._finish(error)
                raise
        return self._pass(self.pending.popleft())

    def take(self, piece: bytes) -> None:
        """A piece has come from the client."""
        if self._end is None:
            self.pending.append(piece)

    def _release(self, end: End) -> None:
        self.begun = True
        self.pending.clear()
        self._kept.given_up(end)
