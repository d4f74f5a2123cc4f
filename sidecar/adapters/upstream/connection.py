"""One connection to one endpoint, and the exchange that runs on it.

An exchange ends exactly once: its response is complete (the connection goes back to its pool, or closes), or it fails
(the connection is aborted, and whoever waits for the head or reads the body is told why).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from math import inf
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from sidecar.adapters.upstream.response import Framing, ResponseReader
from sidecar.adapters.upstream.tls_transport import Truncated
from sidecar.adapters.upstream.tunnel import TunnelBody
from sidecar.adapters.upstream.unread import read_unread, was_reset
from sidecar.core.connection_auth import sends_connection_credentials
from sidecar.pipeline.deadlines import Deadlined
from sidecar.pipeline.errors import (
    ClientGone,
    ConnectionLost,
    EarlyAnswerCut,
    FirstByteTimeout,
    IdleTimeout,
    ProxyError,
    TotalTimeout,
    UpstreamTimeout,
    forget_frames,
)
from sidecar.pipeline.exchange import Body, BodyEnd
from sidecar.pipeline.streams import StreamBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.config import Timeouts
    from sidecar.core.http import ResponseHead
    from sidecar.pipeline.deadlines import DeadlineWheel
    from sidecar.pipeline.exchange import Request
    from sidecar.pipeline.pins import Pins
    from sidecar.pipeline.ports import Clock, Spawn

Answer: TypeAlias = "tuple[ResponseHead, bytes | Body]"
_RESET = struct.pack("ii", 1, 0)


class StaleConnection(ConnectionLost):
    """A kept-alive connection died before the first octet of its response: the request may not have been seen."""


class Owner(Protocol):
    """The pool that a connection belongs to."""

    clock: Clock
    wheel: DeadlineWheel
    spawn: Spawn
    upstream: str
    """The name of the upstream that it leads to."""

    def exchange_ended(self, connection: UpstreamConnection, *, reusable: bool) -> None:
        """The connection carries no exchange any more. Called once per exchange."""

    def keep_alive_hinted(self, value: bytes) -> None:
        """The upstream said in a Keep-Alive field how long it keeps idle connections."""

    def connection_opened(self, connection: UpstreamConnection) -> None:
        """The connection stands. Called once per connection."""

    def connection_closed(self, connection: UpstreamConnection) -> None:
        """The connection is gone. Called once per connection that stood."""


class UpstreamConnection(asyncio.Protocol, Deadlined):
    """An `asyncio.Protocol` that carries one exchange at a time. Times are monotonic seconds."""

    __slots__ = (
        "_asked_client_at",
        "_body",
        "_drained",
        "_idle",
        "_in_handshake",
        "_interim",
        "_loop",
        "_owner",
        "_pump",
        "_reader",
        "_sending",
        "_sent",
        "_timeout",
        "_timeout_after",
        "_total",
        "_total_deadline",
        "_upstream_since",
        "_waiter",
        "closed",
        "dedicated",
        "exchanges",
        "idle_since",
        "let_go",
        "opened_at",
        "pins",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self._owner = owner
        # Asking for the running loop is a system call each time (CPython's guard against forks).
        self._loop = asyncio.get_running_loop()
        self._reader = ResponseReader()
        self._waiter: asyncio.Future[Answer] | None = None
        self._body: StreamBody | None = None
        self._pump: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._interim: Callable[[ResponseHead], None] | None = None
        self._sent = True
        self._sending: Request | None = None
        """The request while its body is being sent and no answer is there."""
        self._upstream_since = inf
        """When its first octet was sent, plus the time for which the client was waited for since."""
        self._asked_client_at = inf
        self._idle = self._total = self._total_deadline = inf
        self._timeout: type[UpstreamTimeout] = IdleTimeout
        self._timeout_after = inf
        self.exchanges = 0
        self.opened_at = self.idle_since = owner.clock.monotonic()
        self.closed = False
        self.pins: Pins | None = None
        """The client connection's of the exchange under way, or of the last one."""
        self._in_handshake = False
        self.dedicated = False
        """Whether it authenticates a user, and so is never for another client connection than that of `pins`."""
        self.let_go = False
        """Whether this side closed it while it was idle."""

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way."""
        return self._waiter is not None or self._body is not None

    def send(self, head: bytes, request: Request, timeouts: Timeouts) -> asyncio.Future[Answer]:
        """Send `head` and the request's body. Comes true with the response's head; a body still to come is streamed.

        Or fails with a ProxyError. Who cancels it calls `give_up`.
        """
        self.exchanges += 1
        self._reader.start(request.head.method, request.upgrade)
        self._interim = request.on_interim
        self.pins = request.pins
        self._idle = timeouts.idle
        if self.dedicated or b"authorization" in request.head.headers.index:
            self._note_credentials(request)
        if timeouts.total is None:
            self._total_deadline = inf
        else:
            self._total = timeouts.total
            self._total_deadline = request.started + timeouts.total
        self._waiter = waiter = self._loop.create_future()
        body = request.body
        if isinstance(body, bytes):
            self.transport.write(head + body if body else head)
            self._sent = True
            request.sent_at = now = self._wait(timeouts.first_byte, FirstByteTimeout)
            if request.on_sent is not None:
                request.on_sent(now)
        else:
            self.transport.write(head)
            self._sent = False
            self._sending = request
            self._upstream_since = self._wait(inf, IdleTimeout)
            self._pump = self._owner.spawn(self._send_body(body, timeouts.first_byte), name="request body")
        return waiter

    def give_up(self, answer: asyncio.Future[Answer] | None) -> None:
        """Nobody waits any more for `answer`, which `send` gave, if it came to that; it may have come all the same."""
        if answer is None or self._waiter is answer:
            self._fail(ConnectionLost("given up"))
        elif not answer.cancelled() and answer.exception() is None:
            body = answer.result()[1]
            if isinstance(body, Body):
                body.close()

    @property
    def usable(self) -> bool:
        """Whether it still stands, as far as is known."""
        return not self.closed and not self.transport.is_closing()

    @property
    def pinned(self) -> bool:
        """Whether a client connection still counts on it."""
        return self.pins is not None and self.pins.holds(self._owner.upstream, self)

    def release(self) -> None:
        """Its client connection is gone, and no other may use it. An exchange under way ends first."""
        if not self.busy:
            self.close()

    def close(self) -> None:
        """Close an idle connection in good order."""
        self.let_go = True
        self.transport.close()

    def abort(self) -> None:
        """Close at once; whatever is buffered is lost."""
        self.transport.abort()

    async def writable(self) -> None:
        """Wait until the write buffer has room."""
        if self._drained is not None:
            await self._drained

    # Sending

    def _note_credentials(self, request: Request) -> None:
        sent = sends_connection_credentials(request.head.headers)
        self._in_handshake = sent and self.dedicated
        if sent:
            self._dedicate()

    def _dedicate(self) -> None:
        """A handshake that authenticates the connection is on it: from now on it is for this client connection only."""
        if not self.dedicated:
            self.dedicated = True
            if self.pins is not None:
                self.pins.add(self._owner.upstream, self)

    def _request_sent(self, first_byte: float) -> None:
        self._sent = True
        request, self._sending = self._sending, None
        if request is not None:
            request.sent(self._wait(first_byte, FirstByteTimeout))

    async def _send_body(self, body: Body, first_byte: float) -> None:
        try:
            await self._send_pieces(body)
        except ProxyError as error:
            self._pump = None
            self._fail(error)
        else:
            self._pump = None
            self._request_sent(first_byte)
        finally:
            body.close()

    async def _send_pieces(self, body: Body) -> None:
        chunked = body.length is None
        while piece := await self._from_client(body):
            if chunked:
                self.transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
            else:
                self.transport.write(piece)
            if self._drained is not None:
                await self._drain(self._drained)
        if body.end is not BodyEnd.COMPLETE:
            raise ClientGone("the request body was given up")
        if chunked:
            self.transport.write(b"0\r\n\r\n")

    async def _from_client(self, body: Body) -> bytes:
        """The next piece. The time until it comes is the client's, not the upstream's."""
        monotonic = self._owner.clock.monotonic
        self._asked_client_at = asked_at = monotonic()
        piece = await body.read()
        self._upstream_since += monotonic() - asked_at
        self._asked_client_at = inf
        return piece

    async def _drain(self, drained: asyncio.Future[None]) -> None:
        if self._reader.head is None:
            self._wait(self._idle, IdleTimeout)
        await drained
        if self._reader.head is None:
            self._wait(inf, IdleTimeout)

    def _wait(self, seconds: float, timeout: type[UpstreamTimeout]) -> float:
        """From now on, which is returned, the exchange may stand still for `seconds`, within its total."""
        now = self._owner.clock.monotonic()
        deadline = now + seconds
        if deadline > self._total_deadline:
            deadline, timeout, seconds = self._total_deadline, TotalTimeout, self._total
        self._timeout = timeout
        self._timeout_after = seconds
        if deadline < self.looked_at:
            self._owner.wheel.set(self, deadline)
        else:
            self.deadline = deadline
        return now

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self.transport = cast("asyncio.Transport", transport)
        self._owner.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        """Octets of the response; on an idle connection they can only be poison."""
        body = self._body
        if self._waiter is None:
            if body is None:
                self.abort()
                return
            if isinstance(body, TunnelBody):
                body.feed(data)
                return
        reader = self._reader
        try:
            reader.feed(data)
        except ProxyError as error:
            self._fail(error)
            return
        if reader.interims:
            self._pass_interims()
        if body is not None:
            self._pass_on(body, reader)
        elif reader.head is not None:
            self._answer(reader.head, reader)

    def eof_received(self) -> bool:
        """The upstream will say no more. Nothing else ends a body that only the connection delimits; a tunnel goes on
        in the other direction.
        """
        if not self.busy:
            return False
        if was_reset(self.transport):
            self._lost(ConnectionResetError())
            return False
        return self._end_of_input()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone. What it was in the middle of is cut, whether `exc` says why or not."""
        self.closed = True
        self._wake_writer()
        if exc is not None and self.busy and read_unread(self.transport, exc, self._receive_unread) and self.busy:
            self._end_of_input()
        if self.busy:
            self._lost(exc)
        self._reader.close()
        self._owner.wheel.forget(self)
        self._owner.connection_closed(self)
        if self.dedicated and self.pins is not None:
            self.pins.remove(self._owner.upstream, self)

    def given_up(self) -> None:
        """Connecting was cancelled, perhaps when it just stood: the loop closes it then, and tells it nothing."""
        self.connection_lost(None)
        if hasattr(self, "transport"):
            # A transport whose end is not told keeps its protocol.
            del self.transport

    def pause_writing(self) -> None:
        """The upstream takes no more for now."""
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """There is room in the write buffer again."""
        self._wake_writer()

    def expired(self) -> None:
        """The deadline of the current wait has passed."""
        if self.busy:
            self._fail(self._timeout.after(self._timeout_after))
        else:
            self.close()

    # Receiving

    def _pass_interims(self) -> None:
        interims, self._reader.interims = self._reader.interims, []
        if self._interim is not None:
            for head in interims:
                self._interim(head)

    def _answer(self, head: ResponseHead, reader: ResponseReader) -> None:
        waiter = self._waiter
        assert waiter is not None
        if waiter.cancelled():
            self._fail(ConnectionLost("given up"))
            return
        self._waiter = None
        if self._sending is not None:
            self._answered_early(self._sending)
        if head.connection_bound:
            self._dedicate()
        if reader.complete and not reader.trailers and reader.framing is not Framing.SWITCHED:
            # An idle connection does not hold the last body.
            pieces, reader.pieces = reader.pieces, []
            waiter.set_result((head, pieces[0] if len(pieces) == 1 else b"".join(pieces)))
            self._completed(reader)
        elif reader.framing is Framing.SWITCHED:
            waiter.set_result((head, self._switch(reader)))
        else:
            self._body = body = StreamBody(reader.length, self)
            waiter.set_result((head, body))
            self._pass_on(body, reader)

    def _answered_early(self, request: Request) -> None:
        """The answer comes before the request was sent whole: its time began with the request's first octet."""
        self._sending = None
        waits_for_client = max(0.0, self._owner.clock.monotonic() - self._asked_client_at)
        request.sent_at = self._upstream_since + waits_for_client

    def _pass_on(self, body: StreamBody, reader: ResponseReader) -> None:
        pieces = reader.pieces
        if pieces:
            reader.pieces = []
            for piece in pieces:
                body.feed(piece)
        if reader.complete:
            self._body = None
            body.trailers = reader.trailers
            self._completed(reader)
            body.feed_end()
        elif body.flowing:
            self._wait(self._idle, IdleTimeout)

    def _switch(self, reader: ResponseReader) -> TunnelBody:
        self._body = tunnel = TunnelBody(self)
        self._owner.wheel.set(self, self._total_deadline)
        if reader.switched:
            tunnel.feed(reader.switched)
        return tunnel

    # Ending

    def _completed(self, reader: ResponseReader) -> None:
        """The response is whole. An answer that came before its request was sent leaves a connection without future."""
        if self._pump is not None:
            self._stop_sending()
        self._interim = None
        reusable = self._sent and reader.keep_alive and not reader.excess and not self.closed
        if reader.keep_alive_hint is not None:
            self._owner.keep_alive_hinted(reader.keep_alive_hint)
        self._owner.exchange_ended(self, reusable=reusable)

    def _fail(self, error: ProxyError) -> None:
        # Whoever is told holds the error; its traceback would hold what was read, and whom it is told.
        forget_frames(error)
        self._stop_sending()
        self._sending = None
        self._interim = None
        waiter, self._waiter = self._waiter, None
        body, self._body = self._body, None
        self._owner.exchange_ended(self, reusable=False)
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        if body is not None:
            body.feed_end(error)

    def _receive_unread(self, data: bytes) -> None:
        if self.busy:
            self.data_received(data)

    def _end_of_input(self) -> bool:
        """Whether the other direction goes on."""
        reader, body = self._reader, self._body
        if isinstance(body, TunnelBody):
            body.feed_end()
            return True
        try:
            reader.eof()
        except ConnectionLost as error:
            self._fail(self._stale() or error)
            return False
        if body is not None:
            self._pass_on(body, reader)
        elif reader.head is not None:
            self._answer(reader.head, reader)
        return False

    def _lost(self, exc: Exception | None) -> None:
        body = self._body
        if isinstance(body, TunnelBody):
            self._body = None
            self._owner.exchange_ended(self, reusable=False)
            body.feed_end(_lost_by(exc))
        elif self._reader.head is not None and not self._sent:
            self._fail(EarlyAnswerCut("the upstream closed the connection while the request was still being sent"))
        else:
            self._fail(self._stale() or _lost_by(exc))

    def _stale(self) -> ConnectionLost | None:
        # Another connection knows nothing of the handshake's earlier steps.
        if self._waiter is None or self._reader.started or self.exchanges < 2 or self._in_handshake:
            return None
        return StaleConnection("the upstream closed a kept-alive connection before its response")

    def _stop_sending(self) -> None:
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()

    def _wake_writer(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # Valve of the response body

    def pause_body(self) -> None:
        """The reader is behind: stop reading, and stop the clock, since the upstream is not to blame."""
        if not self.transport.is_closing():
            self.transport.pause_reading()
        self._wait(inf, IdleTimeout)

    def resume_body(self) -> None:
        """The reader has caught up."""
        if not self.transport.is_closing():
            self.transport.resume_reading()
        if self._body is not None and not isinstance(self._body, TunnelBody):
            self._wait(self._idle, IdleTimeout)

    def body_abandoned(self) -> None:
        """Nobody reads the rest of the response: the connection cannot be used again."""
        if isinstance(self._body, TunnelBody):
            # `tunnel_closed` follows.
            return
        self._body = None
        self._stop_sending()
        self._owner.exchange_ended(self, reusable=False)

    def tunnel_closed(self, tunnel: TunnelBody) -> None:
        """Close in good order when both sides have said all, or else so that nobody takes it for the end."""
        if self._body is not tunnel:
            return
        if tunnel.whole and tunnel.end is BodyEnd.COMPLETE:
            # The exchange ends with the connection: the upstream may still have to read.
            self._wait(self._idle, IdleTimeout)
            self.transport.close()
            return
        self._body = None
        connection = self.transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._owner.exchange_ended(self, reusable=False)


def _lost_by(exc: Exception | None) -> ConnectionLost:
    if isinstance(exc, Truncated):
        return ConnectionLost("the upstream ended TLS without close_notify")
    return ConnectionLost("the upstream reset the connection")
