"""A request body that can be sent to one after another, as long as it is short.

There is one source, which one reader reads at a time. What it gave is kept up to a limit, so that the next reader gets
it first. A reader that gave up may still wait for a piece, until its task notices: the piece goes to who reads now.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from sidecar.pipeline.errors import ProxyError
from sidecar.pipeline.message import Body, BodyEnd

if TYPE_CHECKING:
    from sidecar.pipeline.message import End


class ReplayableBody:
    """The readers of `source`, of which `limit` octets are kept. After `settle` there is no further reader: whoever
    gives up then gives up the source.
    """

    __slots__ = ("_kept", "_limit", "_lock", "_reader", "_size", "_source", "final")

    def __init__(self, source: Body, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._kept: list[bytes] = []
        self._size = 0
        self._lock = asyncio.Lock()
        self._reader: _Reader | None = None
        self.final = (source.length or 0) > limit
        """Whether the source ends with its reader."""

    @property
    def whole(self) -> bool:
        """Whether the reader there is has read it to its end."""
        return self._reader is not None and self._reader.end is BodyEnd.COMPLETE

    def read_anew(self) -> Body | None:
        """The body from its beginning, for another reader than before; None when it was too long to be kept."""
        if self._reader is not None:
            self._reader.close()
            if self.final:
                return None
        self._reader = reader = _Reader(self, self._source, self._kept)
        return reader

    def settle(self) -> None:
        """Nobody will want to read it anew."""
        self.final = True
        self._kept.clear()
        reader = self._reader
        if reader is not None and reader.end is not None:
            reader.give_up(reader.end)

    async def advance(self) -> bool:
        """Have the source give a piece to whoever reads now; False when it has ended. Raises the ProxyError that cut
        it.
        """
        reader = self._reader
        async with self._lock:
            if reader is not self._reader or (reader is not None and reader.pending):
                # What it waited for came while another reader had its turn.
                return True
            piece = await self._source.read()
            current = self._reader
            if piece and current is not None:
                self._keep(piece)
                current.pending.append(piece)
            return bool(piece)

    def _keep(self, piece: bytes) -> None:
        if self.final:
            return
        self._size += len(piece)
        if self._size > self._limit:
            self.final = True
            self._kept.clear()
        else:
            self._kept.append(piece)


class _Reader(Body):
    """One reader's view."""

    __slots__ = ("_of", "_source", "pending")

    def __init__(self, of: ReplayableBody, source: Body, kept: list[bytes]) -> None:
        super().__init__(source.length)
        self.trailers = source.trailers
        self.pending = deque(kept)
        self._of = of
        self._source = source

    async def read(self) -> bytes:
        while not self.pending:
            if self._end is not None:
                return b""
            try:
                if not await self._of.advance():
                    self._finish(BodyEnd.COMPLETE)
            except ProxyError as error:
                self._finish(error)
                raise
        return self._pass(self.pending.popleft())

    def give_up(self, end: End) -> None:
        """Give up the source, too, unless it has ended."""
        if isinstance(end, BodyEnd):
            self._source.close(end)

    def _release(self, end: End) -> None:
        self.pending.clear()
        if self._of.final:
            self.give_up(end)
