"""One request on a client connection, from its head to the last octet of its answer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from sidecar.adapters.server import response as wire
from sidecar.core.http.forwarding import trailers_allowed
from sidecar.core.http.framing import SWITCHING_PROTOCOLS
from sidecar.pipeline.errors import ProxyError, forget_frames
from sidecar.pipeline.message import Body, BodyEnd, Duplex, Request, Response
from sidecar.pipeline.streams import StreamBody, Valve

if TYPE_CHECKING:
    from sidecar.adapters.server.arriving import ArrivingRequest
    from sidecar.adapters.server.context import ServerContext
    from sidecar.adapters.server.pipelining import PipelinedRequests
    from sidecar.adapters.server.tunnel import ClientTunnel
    from sidecar.core.http.heads import Field, RequestHead, ResponseHead
    from sidecar.pipeline.pins import Pins

log = logging.getLogger(__name__)

CONTINUE_AFTER = 1.0
"""Seconds after which a waiting client is told to go on when the upstream says nothing (RFC 9110 §10.1.1)."""


class Connection(Valve, Protocol):
    """What an exchange needs of its connection. It is the valve of the request's content, too."""

    context: ServerContext
    transport: asyncio.Transport
    client: str
    pins: Pins
    closing: bool
    """No further request will be taken: the answer says so."""
    answered: bool
    """Part of an answer was sent, or taken, since this was last set back."""
    requests: PipelinedRequests
    drained: asyncio.Future[None] | None
    """Comes true when the client has caught up with reading; None while it has."""

    def open_tunnel(self) -> ClientTunnel:
        """HTTP is over: what comes from now on is not interpreted."""

    def reset(self) -> None:
        """End the connection so that nobody takes what was sent for complete."""


class Exchange:
    """A request and its answer, which the task of its connection awaits."""

    __slots__ = ("_connection", "_continue_timer", "_final", "_head", "arriving", "body", "request")

    def __init__(
        self, connection: Connection, arriving: ArrivingRequest, head: RequestHead, now: float, request_id: bytes
    ) -> None:
        self._connection = connection
        self._head = head
        self._continue_timer: asyncio.TimerHandle | None = None
        self._final = False
        self.arriving = arriving
        self.body: StreamBody | None = None
        content = b"" if arriving.complete and not arriving.pieces else self._take_body()
        self.request = request = Request(head, content, request_id=request_id, started=now, client=connection.client)
        request.upgrade = arriving.upgrade
        request.pins = connection.pins
        request.on_interim = self._send_interim
        if arriving.expects_continue and not arriving.pieces:
            self._continue_timer = asyncio.get_running_loop().call_later(CONTINUE_AFTER, self._send_continue)

    def half_closed(self) -> None:
        """The client has closed its side: it waits for its answer, or has left."""
        self.request.half_close()

    def end(self) -> None:
        """The client is gone: nothing of this exchange goes on."""
        self._stop_continue_timer()
        self.request.on_interim = self.request.on_half_close = None
        if self.body is not None:
            self.body.close()

    # The request's content

    def _take_body(self) -> bytes | StreamBody:
        arriving = self.arriving
        if arriving.complete:
            return b"".join(arriving.pieces) if arriving.pieces else b""
        if arriving.length == 0:
            return b""
        self.body = arriving.body = StreamBody(arriving.length, self._connection)
        for piece in arriving.pieces:
            self.body.feed(piece)
        return self.body

    def _send_continue(self) -> None:
        self._stop_continue_timer()
        if not self._final:
            self._connection.transport.write(wire.CONTINUE)

    def _stop_continue_timer(self) -> None:
        if self._continue_timer is not None:
            self._continue_timer.cancel()
            self._continue_timer = None

    def _send_interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on, but never to HTTP/1.0 (RFC 9110 §15.2)."""
        if self._final or self._head.minor_version == 0:
            return
        self._stop_continue_timer()
        self._connection.transport.write(head.octets + b"\r\n")

    # The answer

    def failed(self, error: Exception) -> None:
        """There is no whole answer: end the connection, so that nobody takes what was sent for one."""
        if isinstance(error, ProxyError):
            # The body holds the error, and its traceback the frames that hold the body.
            forget_frames(error)
        else:
            about = {"request_id": self.request.request_id.decode("latin-1")}
            log.error("an exchange failed", exc_info=error, extra=about)
        self._connection.reset()

    async def deliver(self, response: Response, body: Body) -> None:
        """Send an answer whose body arrives bit by bit. Raises ProxyError when it is cut short."""
        try:
            if isinstance(body, Duplex):
                await self._tunnel(response, body)
            else:
                await self._stream(response, body)
        finally:
            body.close()

    def answer(self, response: Response, body: bytes) -> None:
        """Send an answer that is all there."""
        if self._head.method == "HEAD":
            self._connection.transport.write(self._encode(response, b""))
            return
        head = response.head
        framing = b""
        if response.prepared is None and b"content-length" not in head.headers.index:
            framing = wire.length_line(head, len(body))
        self._connection.transport.write(self._encode(response, framing) + body)

    def _encode(self, response: Response, framing: bytes) -> bytes:
        """Also decides whether the connection stays, since the head has to say so."""
        connection, head = self._connection, response.head
        self._final = True
        if self._continue_timer is not None:
            self._stop_continue_timer()
        if self.request.upgrade and head.status != SWITCHING_PROTOCOLS:
            connection.requests.switch_refused()
        arriving, error = self.arriving, response.error
        if not arriving.keep_alive or not arriving.complete or (error is not None and error.closes):
            connection.closing = True
        if connection.closing:
            framing += wire.CLOSE
        elif self._head.minor_version == 0:
            framing += wire.KEEP_ALIVE
        if b"date" not in head.headers.index:
            framing += connection.context.date_line()
        prepared = response.prepared
        return b"%b%b%b\r\n" % (head.octets if prepared is None else prepared, response.extra, framing)

    async def _stream(self, response: Response, body: Body) -> None:
        chunked = body.length is None and self._head.minor_version == 1
        if body.length is None and not chunked:
            self._connection.closing = True
        head = self._encode(response, wire.CHUNKED if chunked else b"")
        sink = ClientSink(self._connection, head, chunked=chunked)
        await body.pour(sink)
        if body.end is not BodyEnd.COMPLETE:
            # Somebody else gave it up: what was sent must not look whole.
            self._connection.reset()
            return
        trailers = body.trailers if trailers_allowed(self._head.headers) else []
        sink.end(trailers)

    async def _tunnel(self, response: Response, duplex: Duplex) -> None:
        connection = self._connection
        self._final = True
        connection.closing = True
        connection.transport.write(response.head.octets + response.extra + b"\r\n")
        await connection.open_tunnel().relay(duplex)


class ClientSink:
    """A `Sink` that frames a response body; the head goes out with the first piece where that is at hand."""

    __slots__ = ("_chunked", "_connection", "_head", "_transport")

    def __init__(self, connection: Connection, head: bytes, *, chunked: bool) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._head = head
        self._chunked = chunked

    @property
    def drained(self) -> asyncio.Future[None] | None:
        """Comes true when the client has caught up with reading; None while it has."""
        return self._connection.drained

    def write(self, piece: bytes) -> None:
        """Send a piece of the body."""
        self._connection.answered = True
        head, self._head = self._head, b""
        if self._chunked:
            self._transport.writelines((head + b"%x\r\n" % len(piece), piece, b"\r\n"))
        elif head:
            self._transport.writelines((head, piece))
        else:
            self._transport.write(piece)

    def flush(self) -> None:
        """Send the head, if no piece has taken it along."""
        if self._head:
            self._connection.answered = True
            head, self._head = self._head, b""
            self._transport.write(head)

    def end(self, trailers: list[Field]) -> None:
        """The body is complete."""
        self.flush()
        if self._chunked:
            self._transport.write(wire.encode_last_chunk(trailers))
