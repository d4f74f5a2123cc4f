"""A request body that may have to be sent again: what was read of it is kept, up to a limit."""

from __future__ import annotations

from sidecar.pipeline.errors import ProxyError
from sidecar.pipeline.message import Body, BodyEnd


class KeptBody:
    """What the client sends, for one attempt after another to read from the beginning.

    A body of up to `limit` octets is kept. Nothing is of a longer one, which can be sent again only while nothing of it
    was read. `settle` says that no attempt follows.
    """

    __slots__ = ("_limit", "_reading", "_settled", "_size", "pieces", "source")

    def __init__(self, source: Body, limit: int) -> None:
        self.source = source
        self.pieces: list[bytes] = []
        self._limit = limit if (source.length or 0) <= limit else 0
        self._size = 0
        self._settled = False
        self._reading = BodyFromStart(self)

    @property
    def replayable(self) -> bool:
        """Whether all that was read so far is kept."""
        return self._size <= self._limit

    def from_start(self) -> Body:
        """The whole body for the next attempt, which must be `replayable`; nobody reads for the last one any more."""
        if self._reading.begun:
            self._reading = BodyFromStart(self)
        return self._reading

    async def read(self) -> bytes:
        """The client's next piece. Raises ProxyError."""
        piece = await self.source.read()
        self._size += len(piece)
        if not self.replayable or self._settled:
            self.pieces.clear()
        elif piece:
            self.pieces.append(piece)
        return piece

    def given_up(self) -> None:
        """The attempt that reads needs no more of it."""
        if self._settled:
            self.source.close()

    def settle(self) -> None:
        """The attempt under way is the last; what it does not read is given up."""
        self._settled = True
        if self._reading.end is not None:
            self.source.close()


class BodyFromStart(Body):
    """A kept body, as one attempt reads it."""

    __slots__ = ("_kept", "_next", "begun")

    def __init__(self, kept: KeptBody) -> None:
        super().__init__(kept.source.length)
        self._kept = kept
        self._next = 0
        self.begun = False

    async def read(self) -> bytes:
        """The next piece, kept or new."""
        self.begun = True
        kept = self._kept
        if self._end is not None:
            return b""
        if self._next < len(kept.pieces):
            piece = kept.pieces[self._next]
        else:
            try:
                piece = await kept.read()
            except ProxyError as error:
                self._finish(error)
                raise
        if not piece:
            self._finish(kept.source.end or BodyEnd.COMPLETE)
            return b""
        self._next += 1
        return self._pass(piece)

    def _release(self, end: object) -> None:  # noqa: ARG002 - how it ended makes no difference to what is freed
        self.begun = True
        self._kept.given_up()
