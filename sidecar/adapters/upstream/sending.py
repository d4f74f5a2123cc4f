"""The sending of one request body that is still arriving while it is sent.

Belongs here: the task that reads the client's pieces and writes them, the time for which the client was waited for
meanwhile, and what an answer means that comes before the body is sent. Not here: the state of the connection, which
is told of the end through `Sender`. A body that is there as a whole needs none of this: it leaves with its head.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Protocol

from sidecar.adapters.upstream.state import SENDING
from sidecar.core.http.framing import LAST_CHUNK
from sidecar.pipeline.errors import ClientGone, IdleTimeout, ProxyError
from sidecar.pipeline.message import BodyEnd

if TYPE_CHECKING:
    import asyncio

    from sidecar.adapters.upstream.state import State
    from sidecar.core.config import Timeouts
    from sidecar.pipeline.errors import UpstreamTimeout
    from sidecar.pipeline.message import Body, Request
    from sidecar.pipeline.ports import Clock, Spawn


class Sender(Protocol):
    """The connection that a body is sent on."""

    transport: asyncio.Transport
    drained: asyncio.Future[None] | None
    """Comes true when the write buffer has room again; None while it has."""
    state: State

    def set_timeout(self, seconds: float, timeout: type[UpstreamTimeout]) -> float:
        """From now on, which is returned, the exchange may stand still for `seconds`."""

    def body_sent(self) -> None:
        """The body is sent whole."""

    def body_failed(self, error: ProxyError) -> None:
        """The body will not come."""


class BodySender:
    """Sends `body`, the body of `request`, on `sender` in a task of its own, until its end or `cancel`."""

    __slots__ = ("_asked_client_at", "_clock", "_sender", "_task", "_upstream_since", "request", "timeouts")

    def __init__(self, sender: Sender, request: Request, timeouts: Timeouts, clock: Clock) -> None:
        self.request = request
        self.timeouts = timeouts
        self._sender = sender
        self._clock = clock
        self._asked_client_at = inf
        self._upstream_since = inf
        """When its first octet was sent, plus the time for which the client was waited for since."""
        self._task: asyncio.Task[None] | None = None

    def start(self, body: Body, spawn: Spawn, now: float) -> None:
        """Begin; the request's head left at `now`."""
        self._upstream_since = now
        self._task = spawn(self._send(body), name="request body")

    def cancel(self) -> None:
        """Stop: nobody waits any more for what is left."""
        if self._task is not None:
            self._task.cancel()

    def answered_early(self) -> None:
        """The response's head comes before the body is sent: its time began with the request's first octet."""
        waits_for_client = max(0.0, self._clock.monotonic() - self._asked_client_at)
        self.request.sent_at = self._upstream_since + waits_for_client

    async def _send(self, body: Body) -> None:
        try:
            await self._send_pieces(body)
        except ProxyError as error:
            self._task = None
            self._sender.body_failed(error)
        else:
            self._task = None
            self._sender.body_sent()
        finally:
            body.close()

    async def _send_pieces(self, body: Body) -> None:
        sender, chunked = self._sender, body.length is None
        while piece := await self._from_client(body):
            if chunked:
                sender.transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
            else:
                sender.transport.write(piece)
            if sender.drained is not None:
                await self._drain(sender.drained)
        if body.end is not BodyEnd.COMPLETE:
            raise ClientGone("the request body was given up")
        if chunked:
            sender.transport.write(LAST_CHUNK)

    async def _from_client(self, body: Body) -> bytes:
        """The next piece. The time until it comes is the client's, not the upstream's."""
        monotonic = self._clock.monotonic
        self._asked_client_at = asked_at = monotonic()
        piece = await body.read()
        self._upstream_since += monotonic() - asked_at
        self._asked_client_at = inf
        return piece

    async def _drain(self, drained: asyncio.Future[None]) -> None:
        """Wait until the upstream takes more, which it must within the idle timeout. After an early head, the response
        has a deadline of its own.
        """
        if self._sender.state is SENDING:
            self._sender.set_timeout(self.timeouts.idle, IdleTimeout)
        await drained
        if self._sender.state is SENDING:
            self._sender.set_timeout(inf, IdleTimeout)
