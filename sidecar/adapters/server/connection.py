"""One client connection: requests in, answers out in the same order, one at a time, and what a client may keep waiting.

A connection has one task, which awaits the handler for each request in turn. A response body that is all there leaves
in one write.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from math import inf
from typing import TYPE_CHECKING, cast

from sidecar.adapters.server import response as wire
from sidecar.adapters.server.exchange import Exchange
from sidecar.adapters.server.patience import NEXT_REQUEST, Awaits, Patience
from sidecar.adapters.server.request import RequestReader
from sidecar.pipeline.errors import (
    AnswerUnread,
    ClientGone,
    ClientTooSlow,
    ProxyError,
    TooManyConnections,
    TunnelIdle,
    respond,
)
from sidecar.pipeline.pins import Pins
from sidecar.pipeline.record import refusal_record
from sidecar.pipeline.streams import StreamBody

if TYPE_CHECKING:
    from sidecar.adapters.server.context import ServerContext
    from sidecar.adapters.server.incoming import Incoming
    from sidecar.pipeline.exchange import Body, Response

SLICE = 16 * 1024
"""Octets parsed at a time, so that one read cannot become thousands of pipelined requests."""
LOOK_AFTER = 0.1
"""Seconds between two looks whether a client that closed its side has left altogether: reading no longer tells."""
LINGER = 2.0
"""Seconds of silence after which a client that was sending when it was answered is taken to have read its answer."""
LONGEST_LINGER = 5.0
"""Seconds after which it must have, however long it goes on sending: many read only when they have sent all, but they
are near.
"""
RESTED = 0.025
"""Seconds after a rest in which a request that is answered makes no new one of it: taking one has its price."""
_RESET = struct.pack("ii", 1, 0)


class ClientConnection(asyncio.Protocol, Patience):
    """An `asyncio.Protocol`. Of its two deadlines, what the client sends and what it reads, the earlier is watched."""

    __slots__ = (
        "_all_read",
        "_eof",
        "_exchange",
        "_half_closed",
        "_lingering",
        "_patient_until",
        "_queue",
        "_reader",
        "_rested_until",
        "_served",
        "_stash",
        "_tunnel",
        "_work",
        "_worker",
        "answered",
        "client",
        "closing",
        "drained",
        "pins",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, context: ServerContext) -> None:
        super().__init__(context)
        self.client = ""
        self.closing = False
        self.pins = Pins()
        self._reader = RequestReader(context.limits)
        self._queue: deque[Incoming] = deque()
        self._exchange: Exchange | None = None
        self._tunnel: StreamBody | None = None
        self._worker: asyncio.Task[None] | None = None
        self._work: asyncio.Future[Exchange] | None = None
        """What the worker waits for, when it has nothing to do."""
        self.drained: asyncio.Future[None] | None = None
        self._stash = b""
        self._all_read = self._eof = False
        """Whether the client has closed its side."""
        self._half_closed = False
        """Whether this side has said all that a tunnel's upstream had to say."""
        self._lingering = False
        self._patient_until = inf
        """How long to linger, or to let a half-closed client wait."""
        self.answered = False
        self._served = 0
        self._rested_until = 0.0

    @property
    def idle(self) -> bool:
        """Whether no request is under way and none has begun to arrive."""
        return self._exchange is None and not self._queue and not self._reader.partial and not self._lingering

    def shut(self) -> None:
        """Close when nothing is under way, else after the answer that is."""
        self.closing = True
        if self._lingering:
            self._patient_until = min(self._patient_until, self.context.clock.monotonic() + LINGER)
            self._linger()
        elif self._exchange is None:
            self.transport.close()

    def cut(self, error: ProxyError) -> None:
        """End the connection for a reason that is not the client's leaving: the log tells `error`."""
        self._blame(error)
        self.reset()

    def _blame(self, error: ProxyError) -> None:
        if self._exchange is not None:
            self._exchange.request.cut = error

    def reset(self) -> None:
        """See `exchange.Connection`."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if isinstance(peer, tuple) else ""
        if self.context.admit(self):
            self._await(Awaits.FIRST_HEAD, self.context.limits.head_timeout)
        else:
            self._refuse(TooManyConnections("the sidecar has too many client connections"), ("", b""), linger=False)

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        reader = self._reader
        if self._lingering:
            self._linger()
        elif self._tunnel is not None:
            self.active()
            self._tunnel.feed(data)
        elif self._stash or reader.switching:
            self._hold(data)
        elif self._exchange is not None or self._queue or len(data) > SLICE:
            self._read(data)
        else:
            # A request that comes alone, as nearly all do.
            reader.feed(data)
            arrived = reader.arrived
            if len(arrived) != 1 or self.drained is not None or arrived[0].error is not None:
                self._take_arrived()
                self._go_on_waiting(len(data))
                return
            incoming = arrived.pop()
            self._begin(incoming)
            if not incoming.complete or self._awaits is Awaits.BODY or reader.partial:
                self._go_on_waiting(len(data))

    def eof_received(self) -> bool:
        """The client will send no more. A tunnel goes on in the other direction; a request may still be answered."""
        self._eof = True
        if self._lingering:
            return False
        if self._was_reset():
            # libuv tells of a reset close behind data as of an end in good order.
            self.transport.abort()
            return False
        if self._tunnel is not None:
            self._tunnel.feed_end()
            return self.transport.can_write_eof()
        if self._exchange is None and not self._queue:
            return False
        if self.context.limits.half_close == 0:
            self.transport.abort()
            return False
        if not self._stash:
            self._input_ended()
        if self._exchange is not None:
            self._exchange.half_closed()
        self._be_patient()
        return self.transport.can_write_eof()

    def _input_ended(self) -> None:
        """All that the client has sent was read: what is not whole by now never will be."""
        self._all_read = True
        self._reader.eof(ClientGone("the client broke its request off"))
        if not self._queue:
            self.closing = True
            if self._exchange is None:
                self.transport.close()

    def _be_patient(self) -> None:
        """The client has closed its side: for a while it may wait for the next part of its answer."""
        self.answered = False
        grace = self.context.limits.half_close
        self._patient_until = self.context.clock.monotonic() + grace
        self._await(Awaits.END, min(grace, LOOK_AFTER))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its part is over either way
        """The client is gone: whatever is done for it ends."""
        self.context.wheel.forget(self)
        self.context.dismiss(self)
        self._queue.clear()
        self._reader.close(ClientGone("the client went away"))
        self._wake_writer()
        if self._tunnel is not None:
            self._tunnel.feed_end(ClientGone("the client went away"))
        # An exchange and a cancelled task's traceback lead back here: what ends them lets go of them, too.
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.end()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
        self.pins.end()

    def pause_writing(self) -> None:
        """The client does not read fast enough."""
        self.drained = asyncio.get_running_loop().create_future()
        self._must_read(self.context.limits.write_timeout)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.answered = True
        self._must_read(inf)
        self._wake_writer()
        if self._exchange is None:
            self._next()

    # What patience ends with

    def _too_slow(self) -> None:
        limit = self.context.limits.write_timeout
        error = AnswerUnread(f"the client took nothing of its answer for {limit:g} s (proxy.limits.write_timeout)")
        self.context.stats.rejected[error.reason] += 1
        self.cut(error)

    def _too_late(self, awaited: Awaits) -> None:
        if self._exchange is not None and awaited not in (Awaits.BODY, Awaits.END, Awaits.TUNNEL):
            # The request came in time; its deadline was left standing because moving it has a price.
            return
        error = ClientTooSlow("the client did not send its request in time")
        if awaited is Awaits.BODY:
            self.context.stats.rejected[error.reason] += 1
            self._reader.eof(error)
        elif awaited in (Awaits.HEAD, Awaits.FIRST_HEAD) and self._reader.partial:
            self._refuse(error, self._reader.first_line)
        elif awaited is Awaits.END:
            self._look_whether_gone()
        elif awaited is Awaits.TUNNEL:
            limit = self.context.limits.tunnel_idle
            self._blame(TunnelIdle(f"nothing passed through the tunnel for {limit:g} s (proxy.limits.tunnel_idle)"))
            self.transport.close()
        else:
            self.transport.close()

    def _look_whether_gone(self) -> None:
        """Wait on while a half-closed client may still be there, or one that lingers has not been sent its answer."""
        now = self.context.clock.monotonic()
        if self._lingering:
            if not self.transport.get_write_buffer_size():
                self.transport.close()
            elif now < self._patient_until:
                self._linger()
            else:
                self.reset()
        elif self._was_reset():
            self.transport.abort()
        elif self.answered or self._exchange is None or self.transport.get_write_buffer_size():
            # While there is something to send, its kernel says whether it is there, or `write_timeout` ends it.
            self._be_patient()
        elif now < self._patient_until:
            self._await(Awaits.END, LOOK_AFTER)
        else:
            self.transport.abort()

    def _linger(self) -> None:
        left = self._patient_until - self.context.clock.monotonic()
        self._await(Awaits.END, min(LINGER, left))

    def _was_reset(self) -> bool:
        connection = self.transport.get_extra_info("socket")
        return connection is not None and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    # Reading

    def _read(self, data: bytes) -> None:
        reader, queue = self._reader, self._queue
        depth = self.context.limits.pipeline_depth
        received = len(data)
        while data:
            if len(queue) >= depth:
                self._hold(data)
                return
            if len(data) > SLICE and not reader.counting:
                part, data = data[:SLICE], data[SLICE:]
            else:
                part, data = data, b""
            reader.feed(part)
            self._take_arrived()
            if self._lingering:
                return
        self._go_on_waiting(received)

    def _take_arrived(self) -> None:
        arrived = self._reader.arrived
        if arrived:
            self._queue.extend(arrived)
            arrived.clear()
            self._next()

    def _hold(self, data: bytes) -> None:
        """More than may be parsed ahead: the client has to wait."""
        self._stash += data
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def _release(self) -> None:
        stash, self._stash = self._stash, b""
        self._resume_reading()
        self._read(stash)
        if self._eof and not self._stash and not self._lingering:
            self._input_ended()

    def _resume_reading(self) -> None:
        if not self._eof and not self.transport.is_closing():
            self.transport.resume_reading()

    def _go_on_waiting(self, received: int = 0) -> None:
        """Set the deadline for what the client owes next; a head is not given more time for trickling."""
        exchange, limits = self._exchange, self.context.limits
        if self._lingering or self._awaits is Awaits.END:
            return
        if exchange is not None:
            if exchange.body is not None and exchange.body.end is None and not exchange.incoming.complete:
                self._await_body(exchange.body, received)
            elif self._awaits is Awaits.BODY:
                self._await(Awaits.NOTHING, inf)
        elif self._reader.partial:
            if self._awaits not in (Awaits.HEAD, Awaits.FIRST_HEAD):
                self._await(Awaits.HEAD, limits.head_timeout)
        else:
            self._rest(self.context.clock.monotonic())

    def _rest(self, now: float) -> None:
        """Nothing is under way: the next request may come."""
        context = self.context
        context.rested(self)
        self._awaits = NEXT_REQUEST
        self._rested_until = now + RESTED
        self._read_until = until = now + RESTED + context.limits.keep_alive
        context.wheel.set(self, min(until, self._write_until))

    # Answering

    def _next(self) -> None:
        """Begin the next request, unless one is under way, or the client must read first."""
        if self._exchange is None and self._queue and self.drained is None and not self.transport.is_closing():
            incoming = self._queue.popleft()
            if incoming.error is None:
                self._begin(incoming)
            else:
                self._refuse(incoming.error, incoming.first_line)

    def _begin(self, incoming: Incoming) -> None:
        """Hand a request to the connection's one task: a task each would be dear."""
        context, head = self.context, incoming.head
        assert head is not None
        self._served += 1
        if context.draining or self._served == context.limits.requests_per_connection:
            self.closing = True
        request_id = incoming.request_id or context.request_id()
        self._exchange = exchange = Exchange(self, incoming, head, context.monotonic(), request_id)
        if self._eof:
            self.closing = self.closing or (self._all_read and not self._queue)
            exchange.half_closed()
            self._be_patient()
        work = self._work
        if work is not None:
            self._work = None
            work.set_result(exchange)
        elif self._worker is None:
            self._worker = context.start(self._serve_all(exchange), name="client connection")

    async def _serve_all(self, exchange: Exchange) -> None:
        """Await the answer to one request after another, and send it. Raises nothing: what goes wrong ends the
        connection.
        """
        loop, handle = asyncio.get_running_loop(), self.context.handler.handle
        response: Response | None
        body: bytes | Body | None
        while True:
            request = exchange.request
            try:
                response = await handle(request)
                body = response.body
                if isinstance(body, bytes):
                    exchange.answer(response, body)
                else:
                    await exchange.deliver(response, body)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client must not take it for an answer
                exchange.failed(error)
            finally:
                request.on_interim = request.on_half_close = None
            self._exchange_ended(exchange)
            following = self._exchange
            # While nothing is to be done nothing of the last request is held.
            del exchange, request
            response = body = None
            if following is None:
                self._work = loop.create_future()
                following = await self._work
            exchange = following

    def _exchange_ended(self, exchange: Exchange) -> None:
        """An answer has been written, as far as it goes."""
        self._exchange = None
        if self.transport.is_closing():
            return
        if self.closing:
            self._finish(unread=self._half_closed or not exchange.incoming.complete)
        elif not (self._queue or self._stash or self._reader.partial):
            now = self.context.monotonic()
            if self._awaits is not NEXT_REQUEST or now >= self._rested_until:
                self._rest(now)
        else:
            self._next()
            if self._stash and not self._reader.switching and len(self._queue) < self.context.limits.pipeline_depth:
                self._release()
            else:
                self._go_on_waiting()

    def _refuse(self, error: ProxyError, first_line: tuple[str, bytes], *, linger: bool = True) -> None:
        """Answer what is no request, and hang up; `first_line` is the method and target that it begins with."""
        self.closing = True
        self._queue.clear()
        response = respond(error, None, self.context.via)
        body = response.body
        assert isinstance(body, bytes)
        self.context.refused(refusal_record(error, self.client, len(body), first_line))
        self.transport.write(wire.encode_head(response, self.context.date_line() + wire.CLOSE) + body)
        self._finish(unread=linger)

    def _finish(self, *, unread: bool) -> None:
        """Close, but let a client that still sends read its answer first: a reset could take it away."""
        if not unread or self._eof:
            self.transport.close()
            return
        self._lingering = True
        self._stash = b""
        self._resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._patient_until = self.context.clock.monotonic() + LONGEST_LINGER
        self._linger()

    def _wake_writer(self) -> None:
        drained, self.drained = self.drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # Switching protocols

    def open_tunnel(self) -> StreamBody:
        """See `exchange.Connection`."""
        self._tunnel = tunnel = StreamBody(None, self)
        early, self._reader.early = self._reader.early + self._stash, b""
        self._stash = b""
        self._resume_reading()
        if early:
            tunnel.feed(early)
        if self._eof:
            tunnel.feed_end()
        self.active()
        return tunnel

    def end_writing(self) -> bool:
        """See `exchange.Connection`."""
        self._half_closed = self.transport.can_write_eof()
        if self._half_closed and not self.transport.is_closing():
            self.transport.write_eof()
        return self._half_closed

    def upgrade_refused(self) -> None:
        """See `exchange.Connection`."""
        reader = self._reader
        reader.resume()
        self._queue.extend(reader.arrived)
        reader.arrived.clear()

    def active(self) -> None:
        """See `exchange.Connection`."""
        self._await(Awaits.TUNNEL, self.context.limits.tunnel_idle)

    # Valve of the request's content, and of a tunnel

    def pause_body(self) -> None:
        """The upstream takes no more: let the client wait, without blaming it."""
        if not self.transport.is_closing():
            self.transport.pause_reading()
        if self._awaits is Awaits.BODY:
            self._await(Awaits.BODY, inf)

    def resume_body(self) -> None:
        """There is room again."""
        if not self._stash:
            self._resume_reading()
        if self._awaits is Awaits.BODY:
            self._await(Awaits.BODY, self.context.limits.body_timeout)

    def body_abandoned(self) -> None:
        """Nobody reads the rest of the request. It is dropped as it comes, and no other can follow it here.

        A client that cannot go on sending might never come to read its answer.
        """
        self.closing = True
        if not self._stash:
            self._resume_reading()
        if self._awaits is Awaits.BODY:
            self._await(Awaits.NOTHING, inf)
