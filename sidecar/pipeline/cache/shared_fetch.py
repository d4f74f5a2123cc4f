"""One fetch that several requests wait for, and what each of them gets of it.

The request that started it is its leader, those that join are its followers. It runs in a task of its own: it goes on
when the leader's client leaves, and is abandoned when nobody waits any more. While the body arrives, each reads it from
one `SharedStream`, which counts its readers itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.pipeline.errors import DeadlineExceeded, forget_frames
from sidecar.pipeline.message import Body, Response, StandIn

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.cache.stored import Draft, Selecting, StoredResponse
    from sidecar.core.http.heads import ResponseHead
    from sidecar.pipeline.cache.shared_stream import SharedReader, SharedStream
    from sidecar.pipeline.errors import ProxyError


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """A complete answer. `stands_in`: an older one in the place of a failure, and why."""

    entry: StoredResponse
    stands_in: StandIn | None = None


@dataclass(frozen=True, slots=True)
class ArrivingAnswer:
    """An answer whose body still arrives; `reader` is this follower's own, to be read or closed."""

    draft: Draft
    reader: SharedReader


@dataclass(frozen=True, slots=True)
class FailedAnswer:
    """The upstream failed with an answer that has nothing personal in it, for requests with these selecting values."""

    head: ResponseHead
    body: bytes
    selecting: Selecting


@dataclass(frozen=True, slots=True)
class NothingShared:
    """There is nothing to share: each follower asks for itself."""


SharedAnswer: TypeAlias = WholeAnswer | ArrivingAnswer | FailedAnswer | NothingShared


class SharedFetch:
    """Who waits for a fetch. `task` carries it out; it calls `deliver`, `deliver_stream` or `fail` once."""

    __slots__ = ("_abandoned", "_followers", "_leader", "_stream", "task")

    def __init__(self) -> None:
        self._leader: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._followers: list[asyncio.Future[SharedAnswer]] = []
        self._stream: tuple[Draft, SharedStream] | None = None
        self._abandoned = False
        self.task: asyncio.Task[None] | None = None

    async def leader_answer(self) -> Response:
        """The leader's answer. Raises ProxyError."""
        try:
            return await self._leader
        except asyncio.CancelledError:
            if _has_result(self._leader):
                close_response(self._leader.result())
            self._leave()
            raise

    async def join(self) -> SharedAnswer:
        """What there is for a further follower, while `joinable`. Raises ProxyError when the fetch fails."""
        if self._stream is not None:
            draft, stream = self._stream
            return ArrivingAnswer(draft, stream.open())
        follower: asyncio.Future[SharedAnswer] = asyncio.get_running_loop().create_future()
        self._followers.append(follower)
        try:
            return await follower
        except asyncio.CancelledError:
            if _has_result(follower):
                decline(follower.result())
            self._leave()
            raise

    @property
    def joinable(self) -> bool:
        """Whether another request could still have all of the answer."""
        return not self._abandoned and (self._stream is None or self._stream[1].joinable)

    def interim(self, tell: Callable[[ResponseHead], None], head: ResponseHead) -> None:
        """`tell` the leader's client of a 1xx head, while it is there."""
        if not self._leader.done():
            tell(head)

    def deliver(self, answer: Response, shared: SharedAnswer) -> None:
        """The answer is here: `answer` for the leader, `shared` for all followers."""
        if self._leader.cancelled():
            close_response(answer)
        else:
            self._leader.set_result(answer)
        for follower in self._waiting():
            follower.set_result(shared)

    def deliver_stream(self, answer: Response, draft: Draft, stream: SharedStream) -> None:
        """The head is here; everybody, the leader with its `answer` too, reads the body from `stream`."""
        self._stream = (draft, stream)
        waiting = self._waiting()
        if not self._leader.cancelled():
            answer.body = stream.open()
            self._leader.set_result(answer)
        for follower in waiting:
            follower.set_result(ArrivingAnswer(draft, stream.open()))

    def fail(self, error: ProxyError) -> None:
        """There will be no answer."""
        # The futures hold the error; its traceback would hold this fetch.
        forget_frames(error)
        if not self._leader.done():
            self._leader.set_exception(error)
        for follower in self._waiting():
            if isinstance(error, DeadlineExceeded):
                # That was the leader's time.
                follower.set_result(NothingShared())
            else:
                follower.set_exception(error)

    def abandon(self) -> None:
        """Nobody waits any more: end the fetch. Nobody joins it from now on, although its end takes a moment."""
        self._abandoned = True
        if self.task is not None:
            self.task.cancel()

    def _waiting(self) -> list[asyncio.Future[SharedAnswer]]:
        waiting, self._followers = [one for one in self._followers if not one.done()], []
        return waiting

    def _leave(self) -> None:
        """Somebody left: the last one ends a fetch that has no answer yet; a stream counts its own readers."""
        if self._leader.cancelled() and self._stream is None and all(one.done() for one in self._followers):
            self.abandon()


def decline(shared: SharedAnswer) -> None:
    """Leave what was shared to the others."""
    if isinstance(shared, ArrivingAnswer):
        shared.reader.close()


def close_response(response: Response) -> None:
    """Give up the body of `response`, if it is still arriving."""
    if isinstance(response.body, Body):
        response.body.close()


def _has_result(future: asyncio.Future[Response] | asyncio.Future[SharedAnswer]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
