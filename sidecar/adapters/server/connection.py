"""One client connection: requests in, answers out in the same order, one at a time.

What belongs here: what the transport calls, and what each call means in each phase. `phases.py` has the connection's
life as a table, `pipelining.py` what has arrived ahead, `answering.py` which request begins when and what follows its
answer, `exchange.py` one request and its answer, `client_deadlines.py` how long the client may keep the connection
waiting, `tunnel.py` what follows a switch of protocols.

What happens, in this order: octets arrive and are parsed; a request whose head is here begins, at once if nothing else
is under way; the connection's one task awaits the handler and writes the answer; the next request begins. The last
answer of a connection says so, and then the connection closes, or lingers while the client still sends.

What must never happen: two requests under way at a time; an answer whose end is missing in a connection that closes in
good order (it is reset instead); the client's end taken for the request's, as long as its content is not whole.

Why it is cheap: a task serves the whole connection instead of one request; a request that comes alone passes no queue;
an answer that is all there leaves in one write; deadlines that need not move stay where they are.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from math import inf
from typing import TYPE_CHECKING, cast

from sidecar.adapters.server.answering import Answering
from sidecar.adapters.server.client_deadlines import BETWEEN_REQUESTS, Awaits, ClientDeadlines, was_reset
from sidecar.adapters.server.phases import ClientSide, Phase
from sidecar.adapters.server.pipelining import PARSED_AT_ONCE, PipelinedRequests
from sidecar.adapters.server.tunnel import ClientTunnel
from sidecar.pipeline.errors import ClientGone, ProxyError, TooManyConnections
from sidecar.pipeline.pins import Pins

if TYPE_CHECKING:
    from sidecar.adapters.server.context import ServerContext

_WAITING, _HEAD = Phase.WAITING, Phase.HEAD
_OPEN = ClientSide.OPEN
_BODY = Awaits.BODY
_RESET = struct.pack("ii", 1, 0)


class ClientConnection(asyncio.Protocol):
    """An `asyncio.Protocol`. `phase` says what it is doing, `client_side` whether the client may send more."""

    __slots__ = (
        "_reader",
        "answered",
        "answering",
        "client",
        "client_side",
        "closing",
        "context",
        "deadlines",
        "drained",
        "phase",
        "pins",
        "requests",
        "transport",
        "tunnel",
    )

    transport: asyncio.Transport

    def __init__(self, context: ServerContext) -> None:
        self.context = context
        self.client = ""
        self.phase = _WAITING
        self.client_side = _OPEN
        self.closing = False
        """Whether no further request will be taken, though one may still be under way."""
        self.pins = Pins()
        self.deadlines = ClientDeadlines(context, self)
        self.requests = PipelinedRequests(context.limits, self)
        self._reader = self.requests.reader
        self.answering = Answering(context, self)
        self.tunnel: ClientTunnel | None = None
        self.drained: asyncio.Future[None] | None = None
        """Comes true when the client has caught up with reading; None while it has."""
        self.answered = False

    @property
    def idle(self) -> bool:
        """Whether nothing is lost when it ends now: no request is under way and none has begun to arrive."""
        return self.phase is _WAITING or (self.phase is Phase.CLOSING and self.answering.exchange is None)

    @property
    def silent(self) -> bool:
        """Whether the client has asked for nothing that was not answered, nor begun to."""
        return self.phase is _WAITING

    def shut(self) -> None:
        """Close when nothing is under way, else after the answer that is."""
        self.closing = True
        if self.phase is Phase.LINGERING:
            self.deadlines.shorten_linger()
        elif self.phase in BETWEEN_REQUESTS:
            self.close()

    def cut(self, error: ProxyError) -> None:
        """End the connection for a reason that is not the client's leaving: the log tells `error`."""
        self.log_cut(error)
        self.reset()

    def reset(self) -> None:
        """End the connection so that nobody takes what was sent for complete: by a TCP reset."""
        if self.phase is Phase.CLOSED:
            return
        connection = self.transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()

    def log_cut(self, error: ProxyError) -> None:
        """Have the access log tell `error` as the reason why the answer that is under way broke off."""
        exchange = self.answering.exchange
        if exchange is not None:
            exchange.request.cut = error

    def close(self) -> None:
        """Close when what was written is sent."""
        self._enter_closing()
        self.transport.close()

    def abort(self) -> None:
        """Close now."""
        self._enter_closing()
        self.transport.abort()

    def _enter_closing(self) -> None:
        # A connection that closes may be told so again: by a timeout of what it still sends, or by the drain.
        if self.phase is not Phase.CLOSING and self.phase is not Phase.CLOSED:
            self.phase = Phase.CLOSING

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if isinstance(peer, tuple) else ""
        if self.context.admit(self):
            self.deadlines.wait_for(Awaits.FIRST_HEAD, self.context.limits.head_timeout)
        else:
            error = TooManyConnections("the sidecar has too many client connections")
            self.answering.refuse(self, error, ("", b""), linger=False)

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        phase = self.phase
        if (phase is _WAITING or phase is _HEAD) and len(data) <= PARSED_AT_ONCE:
            # A request that comes alone, as nearly all do, passes no queue.
            reader = self._reader
            reader.feed(data)
            arrived = reader.arrived
            if len(arrived) != 1 or self.drained is not None or arrived[0].error is not None:
                self.requests.take_arrived(self)
                self.deadlines.set_next(len(data))
                return
            arriving = arrived.pop()
            self.answering.begin(self, arriving)
            if not arriving.complete or self.deadlines.awaits is _BODY or reader.partial:
                self.deadlines.set_next(len(data))
        elif phase is Phase.TUNNEL and self.tunnel is not None:
            self.tunnel.feed(data)
        elif phase is Phase.LINGERING:
            self.deadlines.linger()
        elif phase is not Phase.CLOSING:
            # TLS delivers what it had decrypted even after it was told to close: that is dropped.
            self.requests.read(data)

    def eof_received(self) -> bool:
        """The client will send no more. A tunnel goes on in the other direction; a request may still be answered."""
        self.client_side = ClientSide.ENDED
        phase = self.phase
        if phase is not Phase.LINGERING and was_reset(self.transport):
            # libuv tells of a reset close behind data as of an end in good order.
            self.abort()
            return False
        if phase is Phase.TUNNEL and self.tunnel is not None:
            self.tunnel.feed_end()
            return self.transport.can_write_eof()
        if phase is not Phase.ANSWERING and phase is not Phase.QUEUED:
            # Nothing is owed to the client. The transport closes itself when this returns False.
            self._enter_closing()
            return False
        if self.context.limits.half_close == 0:
            self.abort()
            return False
        if not self.requests.unparsed and not self._reader.early:
            self.input_ended()
        exchange = self.answering.exchange
        if exchange is not None:
            exchange.half_closed()
        self.deadlines.start_half_close()
        return self.transport.can_write_eof()

    def input_ended(self) -> None:
        """All that the client has sent was read: what is not whole by now never will be."""
        self.client_side = ClientSide.ALL_READ
        self._reader.eof(ClientGone("the client broke its request off"))
        if not self.requests.queue:
            self.closing = True
            if self.phase is _WAITING or self.phase is _HEAD:
                self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its part is over either way
        """The client is gone: whatever is done for it ends."""
        self.phase = Phase.CLOSED
        self.deadlines.close()
        self.context.dismiss(self)
        self.requests.close(ClientGone("the client went away"))
        self._wake_writer()
        tunnel, self.tunnel = self.tunnel, None
        if tunnel is not None:
            tunnel.feed_end(ClientGone("the client went away"))
        self.answering.close()
        self.pins.end()

    def pause_writing(self) -> None:
        """The client does not read fast enough."""
        self.drained = asyncio.get_running_loop().create_future()
        self.deadlines.must_read(self.context.limits.write_timeout)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.answered = True
        self.deadlines.must_read(inf)
        self._wake_writer()
        self.answering.begin_next(self)

    def _wake_writer(self) -> None:
        drained, self.drained = self.drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # What the exchange calls, which sees its connection as a `Valve` of the request's content, too

    def open_tunnel(self) -> ClientTunnel:
        """HTTP is over. What the client sent behind its request is the first that the tunnel passes on."""
        if self.phase is Phase.ANSWERING:
            # Else it was told to abort a moment ago, and `connection_lost` will end the tunnel.
            self.phase = Phase.TUNNEL
        self.tunnel = tunnel = ClientTunnel(self)
        early = self.requests.take_unparsed()
        if early:
            tunnel.feed(early)
        if self.client_side is not _OPEN:
            tunnel.feed_end()
        tunnel.used()
        return tunnel

    def pause_body(self) -> None:
        """The upstream takes no more: let the client wait, which is not its fault."""
        if not self.transport.is_closing():
            self.transport.pause_reading()
        self.deadlines.body_paused()

    def resume_body(self) -> None:
        """There is room again."""
        if not self.requests.unparsed:
            self.requests.resume_reading()
        self.deadlines.body_resumed()

    def body_abandoned(self) -> None:
        """Nobody reads the rest of the request. It is dropped as it comes, and no other can follow it here.

        A client that cannot go on sending might never come to read its answer.
        """
        self.closing = True
        if not self.requests.unparsed:
            self.requests.resume_reading()
        self.deadlines.body_ended()
