"""One connection to one endpoint, and the exchanges that run on it, one at a time.

An exchange's life (`state` has the states and the table that the tests hold this module against):

    IDLE ──► WAITING ──► IDLE | CLOSING                         the whole response came in one read: the common case
             WAITING ──► RECEIVING ──► IDLE | CLOSING           its body is streamed
             WAITING ──► TUNNEL ──► CLOSING                     the protocol was switched
    IDLE ──► SENDING ──► WAITING                                the request's body is streamed
             SENDING ──► EARLY ──► RECEIVING | CLOSING          the response began before the request was sent whole
    any of them ──► CLOSING ──► CLOSED                          it failed, or nobody wants the rest

What happens in which order. `send` writes the request and gives a future. `data_received` feeds the reader; with the
head the future comes true, holding the whole body or a `StreamBody` that later reads fill. When the body is whole the
pool is told `exchange_ended`, before anybody reads what was received.

Who owns it. An idle connection is its pool's. From `take` or `connect` until `exchange_ended` it is the exchange's, and
`exchange_ended` is called exactly once for each: when the response is complete, when it fails, when its reader gives
up, or when who waits for the head is cancelled and calls `abandon`. A pinned (`dedicated`) connection carries one
client connection's requests only: it has seen NTLM or Negotiate credentials or challenges, which authenticate
connections and not requests. It becomes so with such a request or response, and stays so.

What must never happen. Octets that nobody asked for never meet the next request: an idle connection that receives any
is aborted. A connection is never used again whose request was not sent whole (the upstream would read the rest of the
body as a request), whose response was not read to its end, or behind whose response more came. An end that may be a
cut is never taken for the end of a body.

How failures are told. `_fail` is the one way: the error goes to the future while the head is awaited, later to the
body. Nothing is repeated here. A connection that died before the first octet of its response is told apart as
`Unanswered`, a kept-alive one as `StaleConnection`; whether the request is sent once more, `retry_stage` decides.

Why it is cheap. With a whole body on both sides an exchange is one write, one read and one future: no task, no stream,
no timer (`DeadlineWheel` looks at `deadline` now and then). What only a streamed request body needs is in `sending`.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, TypeAlias, cast

from sidecar.adapters.upstream.failure import lost_by
from sidecar.adapters.upstream.response import Framing, ResponseReader
from sidecar.adapters.upstream.sending import BodySender
from sidecar.adapters.upstream.state import (
    CLOSED,
    CLOSING,
    CONNECTING,
    EARLY,
    IDLE,
    RECEIVING,
    SENDING,
    TUNNEL,
    UNDER_WAY,
    WAITING,
    State,
)
from sidecar.adapters.upstream.tcp import read_unread, reset_on_close, was_reset
from sidecar.adapters.upstream.timeouts import ExchangeTimeouts
from sidecar.adapters.upstream.tunnel import TunnelBody
from sidecar.core.http.connection_auth import of_a_request, sends_connection_credentials
from sidecar.pipeline.errors import (
    ConnectionLost,
    EarlyAnswerCut,
    FirstByteTimeout,
    IdleTimeout,
    ProxyError,
    StaleConnection,
    Unanswered,
    forget_frames,
)
from sidecar.pipeline.message import Body, BodyEnd
from sidecar.pipeline.streams import StreamBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.adapters.upstream.owner import Owner
    from sidecar.core.config import Timeouts
    from sidecar.core.http.heads import ResponseHead
    from sidecar.pipeline.message import Request
    from sidecar.pipeline.pins import Pins

Received: TypeAlias = "tuple[ResponseHead, bytes | Body]"
"""A response's head with its body, whole or still to come."""


class UpstreamConnection(asyncio.Protocol, ExchangeTimeouts):
    """An `asyncio.Protocol` that carries one exchange at a time. Times are monotonic seconds."""

    __slots__ = (
        "_body",
        "_body_sender",
        "_interim",
        "_loop",
        "_reader",
        "_repeatable",
        "_response",
        "_reused",
        "_used",
        "address",
        "dedicated",
        "drained",
        "idle_since",
        "opened_at",
        "pins",
        "state",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner)
        self.address = owner.address
        # Asking for the running loop is a system call each time (CPython's guard against forks).
        self._loop = asyncio.get_running_loop()
        self._reader = ResponseReader()
        self.state: State = CONNECTING
        self._response: asyncio.Future[Received] | None = None
        """What `send` gave, until the head is there."""
        self._body: StreamBody | None = None
        """The response's, while it is being received, or the tunnel."""
        self._body_sender: BodySender | None = None
        """While the request's body is being sent."""
        self.drained: asyncio.Future[None] | None = None
        self._interim: Callable[[ResponseHead], None] | None = None
        self._used = self._reused = False
        """Whether it has carried an exchange; whether it had before the one under way."""
        self._repeatable = False
        """Whether another connection may take the exchange over when this one turns out to be dead."""
        self.opened_at = self.idle_since = owner.clock.monotonic()
        self.pins: Pins | None = None
        """The client connection's of the exchange under way, or of the last one."""
        self.dedicated = False
        """Whether it authenticates a user, and so is never for another client connection than that of `pins`."""

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way."""
        return self.state in UNDER_WAY

    def send(self, head: bytes, request: Request, timeouts: Timeouts) -> asyncio.Future[Received]:
        """Send `head` and the request's body. Comes true with the response's head; a body still to come is streamed.

        Or fails with a ProxyError. Who cancels it calls `abandon`.
        """
        self._reader.start(request.head.method, request.upgrade)
        self._interim = request.on_interim
        self.pins = request.pins
        self._idle_timeout = timeouts.idle
        fields = request.head.headers
        authorization = fields.index.get(b"authorization")
        credentials = (
            authorization is not None and not of_a_request(authorization) and sends_connection_credentials(fields)
        )
        # Another connection would know nothing of the earlier steps of a handshake.
        self._repeatable = not (credentials and self.dedicated)
        self._reused, self._used = self._used, True
        if credentials:
            self._dedicate()
        if timeouts.total is None:
            self._total_deadline = inf
        else:
            self._total = timeouts.total
            self._total_deadline = request.started + timeouts.total
        self._response = response = self._loop.create_future()
        body = request.body
        if isinstance(body, bytes):
            self.transport.write(head + body if body else head)
            self.state = WAITING
            request.sent_at = now = self.set_timeout(timeouts.first_byte, FirstByteTimeout)
            if request.on_sent is not None:
                request.on_sent(now)
        else:
            self.transport.write(head)
            self.state = SENDING
            self._body_sender = sender = BodySender(self, request, timeouts, self._owner.clock)
            sender.start(body, self._owner.spawn, self.set_timeout(inf, IdleTimeout))
        return response

    def abandon(self, response: asyncio.Future[Received] | None) -> None:
        """Nobody waits any more for `response`, which `send` gave, if it came to that.

        It may have come all the same: then its body is closed.
        """
        if response is None or self._response is response:
            self._fail(ConnectionLost("the exchange was cancelled"))
        elif not response.cancelled() and response.exception() is None:
            body = response.result()[1]
            if isinstance(body, Body):
                body.close()

    @property
    def usable(self) -> bool:
        """Whether it still stands, as far as is known."""
        return not self.transport.is_closing()

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
        self.state = CLOSING
        self.transport.close()

    def abort(self) -> None:
        """Close at once; whatever is buffered is lost."""
        self.state = CLOSING
        self.transport.abort()

    async def writable(self) -> None:
        """Wait until the write buffer has room."""
        if self.drained is not None:
            await self.drained

    # Sending

    def _dedicate(self) -> None:
        """A handshake that authenticates the connection is on it: from now on it is for this client connection only."""
        if not self.dedicated:
            self.dedicated = True
            if self.pins is not None:
                self.pins.add(self._owner.upstream, self)

    def body_sent(self) -> None:
        """The request is sent whole."""
        sender, self._body_sender = self._body_sender, None
        if self.state is EARLY:
            self.state = RECEIVING
        elif self.state is SENDING and sender is not None:
            self.state = WAITING
            sender.request.sent(self.set_timeout(sender.timeouts.first_byte, FirstByteTimeout))

    def body_failed(self, error: ProxyError) -> None:
        """The rest of the request's body will not come."""
        self._body_sender = None
        self._fail(error)

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self.state = IDLE
        self.transport = cast("asyncio.Transport", transport)
        self._owner.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        """Octets of the response; on an idle connection they can only be poison."""
        if self.state not in UNDER_WAY:
            # Not `abort`: it is the upstream that ends an idle connection here.
            self.transport.abort()
            return
        body = self._body
        if body is not None and self.state is TUNNEL:
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
            self._deliver(reader.head, reader)

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
        self._wake_writer()
        if exc is not None and self.busy and read_unread(self.transport, exc, self._receive_unread) and self.busy:
            self._end_of_input()
        if self.busy:
            self._lost(exc)
        by_upstream = self.state is IDLE
        self.state = CLOSED
        self._owner.wheel.forget(self)
        self._owner.connection_closed(self, by_upstream=by_upstream)
        if self.dedicated and self.pins is not None:
            self.pins.remove(self._owner.upstream, self)

    def connecting_failed(self) -> None:
        """It does not stand. Or it just stood when connecting was cancelled: the loop closes it, and tells nobody."""
        self.connection_lost(None)
        if hasattr(self, "transport"):
            # A transport whose end is not told keeps its protocol.
            del self.transport

    def pause_writing(self) -> None:
        """The upstream takes no more for now."""
        self.drained = self._loop.create_future()

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

    def _deliver(self, head: ResponseHead, reader: ResponseReader) -> None:
        """Give the head to who awaits it, with the body that it has or will have."""
        response = self._response
        assert response is not None
        if response.cancelled():
            self._fail(ConnectionLost("the exchange was cancelled"))
            return
        self._response = None
        if self._body_sender is not None:
            self._body_sender.answered_early()
        if head.connection_bound:
            self._dedicate()
        if reader.framing is Framing.SWITCHED:
            response.set_result((head, self._switch(reader)))
        elif reader.complete and not reader.trailers:
            # An idle connection does not hold the last body.
            pieces, reader.pieces = reader.pieces, []
            response.set_result((head, pieces[0] if len(pieces) == 1 else b"".join(pieces)))
            self._completed(reader)
        else:
            self.state = RECEIVING if self.state is WAITING else EARLY
            self._body = body = StreamBody(reader.length, self)
            response.set_result((head, body))
            self._pass_on(body, reader)

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
            self.set_timeout(self._idle_timeout, IdleTimeout)

    def _switch(self, reader: ResponseReader) -> TunnelBody:
        self.state = TUNNEL
        self._body = tunnel = TunnelBody(self)
        self._owner.wheel.set(self, self._total_deadline)
        if reader.switched:
            tunnel.feed(reader.switched)
        return tunnel

    # Ending

    def _completed(self, reader: ResponseReader) -> None:
        """The response is whole. If the request is not, the connection is of no further use."""
        sent = self._body_sender is None
        if not sent:
            self._stop_sending()
        self._interim = None
        # A transport may have ended before what had arrived on it is read.
        reusable = sent and reader.keep_alive and not reader.excess and not self.transport.is_closing()
        if reader.keep_alive_hint is not None:
            self._owner.keep_alive_hinted(reader.keep_alive_hint)
        self.state = IDLE if reusable else CLOSING
        self._owner.exchange_ended(self, reusable=reusable)

    def _fail(self, error: ProxyError) -> None:
        # Whoever is told holds the error; its traceback would hold what was read, and whom it is told.
        forget_frames(error)
        self._stop_sending()
        self._interim = None
        response, self._response = self._response, None
        body, self._body = self._body, None
        self.state = CLOSING
        self._owner.exchange_ended(self, reusable=False)
        if response is not None and not response.done():
            response.set_exception(error)
        if body is not None:
            body.feed_end(error)

    def _receive_unread(self, data: bytes) -> None:
        if self.busy:
            self.data_received(data)

    def _end_of_input(self) -> bool:
        """Whether the other direction goes on."""
        reader, body = self._reader, self._body
        if body is not None and self.state is TUNNEL:
            body.feed_end()
            return True
        try:
            reader.eof()
        except ConnectionLost as error:
            self._fail(self._if_answered(error))
            return False
        if body is not None:
            self._pass_on(body, reader)
        elif reader.head is not None:
            self._deliver(reader.head, reader)
        return False

    def _lost(self, exc: Exception | None) -> None:
        if self.state is EARLY:
            self._fail(EarlyAnswerCut("the upstream closed the connection while the request was still being sent"))
        else:
            self._fail(self._if_answered(lost_by(exc)))

    def _if_answered(self, error: ConnectionLost) -> ConnectionLost:
        """`error`, told apart where no octet of a response had come."""
        if self._response is None or self._reader.started or not self._repeatable:
            return error
        if self._reused:
            return StaleConnection("the upstream closed a kept-alive connection before its response")
        return Unanswered(error.detail)

    def _stop_sending(self) -> None:
        sender, self._body_sender = self._body_sender, None
        if sender is not None:
            sender.cancel()

    def _wake_writer(self) -> None:
        drained, self.drained = self.drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # Valve of the response body

    def pause_body(self) -> None:
        """The reader is behind: stop reading, and stop the clock, since the upstream is not to blame."""
        if not self.transport.is_closing():
            self.transport.pause_reading()
        self.set_timeout(inf, IdleTimeout)

    def resume_body(self) -> None:
        """The reader has caught up."""
        if not self.transport.is_closing():
            self.transport.resume_reading()
        if self.state is RECEIVING or self.state is EARLY:
            self.set_timeout(self._idle_timeout, IdleTimeout)

    def body_abandoned(self) -> None:
        """Nobody reads the rest of the response: the connection cannot be used again."""
        if self.state is TUNNEL:
            # `tunnel_closed` follows.
            return
        self._body = None
        self._stop_sending()
        self.state = CLOSING
        self._owner.exchange_ended(self, reusable=False)

    def tunnel_closed(self, tunnel: TunnelBody) -> None:
        """Close in good order when both sides have said all, or else so that nobody takes it for the end."""
        if self._body is not tunnel:
            return
        if tunnel.whole and tunnel.end is BodyEnd.COMPLETE:
            # The exchange ends with the connection: the upstream may still have to read.
            self.set_timeout(self._idle_timeout, IdleTimeout)
            self.transport.close()
            return
        self._body = None
        reset_on_close(self.transport)
        self.state = CLOSING
        self._owner.exchange_ended(self, reusable=False)
