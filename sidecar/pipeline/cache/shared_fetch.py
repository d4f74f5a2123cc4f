"""One fetch that several requests wait for, and what each of them gets of it.

It runs in a task of its own: it goes on when the client that started it leaves, and ends when nobody is left.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.pipeline.exchange import Body, Response, StandIn

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.cache.stored import Draft, Selecting, StoredResponse
    from sidecar.core.http import ResponseHead
    from sidecar.pipeline.cache.shared_stream import SharedReader, SharedStream
    from sidecar.pipeline.errors import ProxyError


@dataclass(frozen=True, slots=True)
class Landed:
    """A complete answer. `stands_in`: an older one in the place of a failure, and why."""

    entry: StoredResponse
    stands_in: StandIn | None = None


@dataclass(frozen=True, slots=True)
class Landing:
    """An answer whose body still arrives; `reader` is this passenger's own, to be read or closed."""

    draft: Draft
    reader: SharedReader


@dataclass(frozen=True, slots=True)
class Failed:
    """The upstream failed with an answer that has nothing personal in it, for requests with these selecting values."""

    head: ResponseHead
    body: bytes
    selecting: Selecting


@dataclass(frozen=True, slots=True)
class Alone:
    """There is nothing to share: each passenger asks for itself."""


Share: TypeAlias = Landed | Landing | Failed | Alone


class Flight:
    """Who waits for a fetch. `task` is the fetch; it calls `land`, `land_stream` or `fail` once."""

    __slots__ = ("_own", "_passengers", "_stream", "task")

    def __init__(self) -> None:
        self._own: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._passengers: list[asyncio.Future[Share]] = []
        self._stream: tuple[Draft, SharedStream] | None = None
        self.task: asyncio.Task[None] | None = None

    async def lead(self) -> Response:
        """The answer for the request that started the flight. Raises ProxyError."""
        try:
            return await self._own
        except asyncio.CancelledError:
            if _has_result(self._own):
                close_response(self._own.result())
            self._left()
            raise

    async def join(self) -> Share:
        """What there is for another request, while `joinable`. Raises ProxyError when the fetch fails."""
        if self._stream is not None:
            draft, stream = self._stream
            return Landing(draft, stream.open())
        passenger: asyncio.Future[Share] = asyncio.get_running_loop().create_future()
        self._passengers.append(passenger)
        try:
            return await passenger
        except asyncio.CancelledError:
            if _has_result(passenger):
                decline(passenger.result())
            self._left()
            raise

    @property
    def joinable(self) -> bool:
        """Whether another request could still have all of the answer."""
        return self._stream is None or self._stream[1].joinable

    def interim(self, tell: Callable[[ResponseHead], None], head: ResponseHead) -> None:
        """`tell` the client that started it of a 1xx head, while that client is there."""
        if not self._own.done():
            tell(head)

    def land(self, own: Response, share: Share) -> None:
        """The answer is here: `own` for the request that started it, `share` for all others."""
        if self._own.cancelled():
            close_response(own)
        else:
            self._own.set_result(own)
        for passenger in self._waiting():
            passenger.set_result(share)

    def land_stream(self, own: Response, draft: Draft, stream: SharedStream) -> None:
        """The head is here; everybody, and `own` too, reads the body from `stream`."""
        self._stream = (draft, stream)
        waiting = self._waiting()
        if not self._own.cancelled():
            own.body = stream.open()
            self._own.set_result(own)
        for passenger in waiting:
            passenger.set_result(Landing(draft, stream.open()))

    def fail(self, error: ProxyError) -> None:
        """There will be no answer."""
        # The futures hold the error; its traceback would hold this flight.
        error.__traceback__ = None
        if not self._own.done():
            self._own.set_exception(error)
        for passenger in self._waiting():
            passenger.set_exception(error)

    def desert(self) -> None:
        """Nobody waits any more: end the fetch."""
        if self.task is not None:
            self.task.cancel()

    def _waiting(self) -> list[asyncio.Future[Share]]:
        waiting, self._passengers = [one for one in self._passengers if not one.done()], []
        return waiting

    def _left(self) -> None:
        """Somebody left: the last one ends a fetch that has not landed; a stream counts its own readers."""
        if self._own.cancelled() and self._stream is None and all(one.done() for one in self._passengers):
            self.desert()


def decline(share: Share) -> None:
    """Leave what was shared to the others."""
    if isinstance(share, Landing):
        share.reader.close()


def close_response(response: Response) -> None:
    """Give up the body of `response`, if it is still arriving."""
    if isinstance(response.body, Body):
        response.body.close()


def _has_result(future: asyncio.Future[Response] | asyncio.Future[Share]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
