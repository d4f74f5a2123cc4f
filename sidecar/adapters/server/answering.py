"""From a request that has arrived to the end of its answer, one after another, in one task for the whole connection.

What belongs here: which request begins when, and what its end means for the connection: the next request, a rest, or
the connection's end. How an answer is written is `exchange.py`'s.

What must never happen: two requests under way at a time, since answers leave in the order of their requests (RFC 9112
§9.3.2); a connection closed while the client still sends, since the reset that follows can take its answer away (§9.6).

Why it is cheap: the task sleeps on a future between two requests, and holds nothing of the last one meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.adapters.server import response as wire
from sidecar.adapters.server.client_deadlines import NEXT_REQUEST
from sidecar.adapters.server.exchange import Exchange
from sidecar.adapters.server.phases import ClientSide, Phase
from sidecar.pipeline.problem import respond
from sidecar.pipeline.record import refusal_record

if TYPE_CHECKING:
    from sidecar.adapters.server.arriving import ArrivingRequest
    from sidecar.adapters.server.connection import ClientConnection
    from sidecar.adapters.server.context import ServerContext
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.message import Body, Response

_WAITING, _HEAD, _QUEUED, _ANSWERING = Phase.WAITING, Phase.HEAD, Phase.QUEUED, Phase.ANSWERING
_OPEN = ClientSide.OPEN


class Answering:
    """Answers the requests of one connection. `exchange`: the one that is under way."""

    __slots__ = ("_connection", "_context", "_served", "_work", "_worker", "exchange")

    def __init__(self, context: ServerContext, connection: ClientConnection) -> None:
        self._context = context
        self._connection: ClientConnection | None = connection
        self._worker: asyncio.Task[None] | None = None
        self._work: asyncio.Future[Exchange] | None = None
        """What the worker waits for, when it has nothing to do."""
        self._served = 0
        self.exchange: Exchange | None = None

    def close(self) -> None:
        """The connection is gone: what is done for it ends, and lets go of it. Only reference counts free at once, and
        an exchange and a cancelled task's traceback lead back to it.
        """
        self._connection = None
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.end()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()

    def begin_next(self, connection: ClientConnection) -> None:
        """Begin the next request that has arrived, unless one is under way, or the client must read first."""
        if connection.phase is _QUEUED and connection.drained is None and not connection.transport.is_closing():
            arriving = connection.requests.queue.popleft()
            if arriving.error is None:
                self.begin(connection, arriving)
            else:
                self.refuse(connection, arriving.error, arriving.first_line)

    def begin(self, connection: ClientConnection, arriving: ArrivingRequest) -> None:
        """Hand a request to the connection's one task: a task each would be dear."""
        context, head = self._context, arriving.head
        assert head is not None
        connection.phase = _ANSWERING
        self._served += 1
        if context.draining or self._served == context.limits.requests_per_connection:
            connection.closing = True
        request_id = arriving.request_id or context.request_id()
        self.exchange = exchange = Exchange(connection, arriving, head, context.monotonic(), request_id)
        if connection.client_side is not _OPEN:
            if connection.client_side is ClientSide.ALL_READ and not connection.requests.queue:
                connection.closing = True
            exchange.half_closed()
            connection.deadlines.start_half_close()
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
        loop, handle = asyncio.get_running_loop(), self._context.handler.handle
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
            self._ended(exchange)
            if self._connection is None:
                return
            following = self.exchange
            # While nothing is to be done nothing of the last request is held.
            del exchange, request
            response = body = None
            if following is None:
                self._work = loop.create_future()
                following = await self._work
            exchange = following

    def _ended(self, exchange: Exchange) -> None:
        """An answer has been written, as far as it goes."""
        self.exchange = None
        connection = self._connection
        if connection is None or connection.transport.is_closing():
            # `connection_lost` was called, or will be.
            return
        requests = connection.requests
        if connection.closing:
            tunnel, connection.tunnel = connection.tunnel, None
            half_closed = tunnel is not None and tunnel.half_closed
            self._finish(connection, unread=half_closed or not exchange.arriving.complete)
        elif not (requests.queue or requests.unparsed or requests.reader.partial):
            connection.phase = _WAITING
            now, deadlines = self._context.monotonic(), connection.deadlines
            if deadlines.awaits is not NEXT_REQUEST or now >= deadlines.idle_grace_until:
                deadlines.wait_for_next_request(connection, now)
        else:
            self._go_on(connection)

    def _go_on(self, connection: ClientConnection) -> None:
        """More is here: requests, octets that were not parsed yet, or part of a head, whose time begins now."""
        connection.deadlines.head_answered()
        requests = connection.requests
        connection.phase = _QUEUED if requests.queue else _HEAD if requests.reader.partial else _WAITING
        self.begin_next(connection)
        if not requests.unparsed or not requests.release():
            connection.deadlines.set_next()
        if (
            connection.client_side is ClientSide.ENDED
            and not requests.unparsed
            and not requests.reader.early
            and connection.phase is not Phase.LINGERING
        ):
            connection.input_ended()

    def refuse(
        self, connection: ClientConnection, error: ProxyError, first_line: tuple[str, bytes], *, linger: bool = True
    ) -> None:
        """Answer what is no request, and hang up; `first_line` is the method and target that it begins with."""
        connection.closing = True
        connection.requests.queue.clear()
        response = respond(error, None, self._context.via)
        body = response.body
        assert isinstance(body, bytes)
        self._context.refused(refusal_record(error, connection.client, len(body), first_line))
        own = self._context.date_line() + wire.CLOSE
        connection.transport.write(b"%b%b%b\r\n%b" % (response.head.octets, response.extra, own, body))
        self._finish(connection, unread=linger)

    def _finish(self, connection: ClientConnection, *, unread: bool) -> None:
        """Close, but let a client that still sends read its answer first: a reset could take it away."""
        if not unread or connection.client_side is not _OPEN:
            connection.close()
            return
        connection.phase = Phase.LINGERING
        connection.requests.drop_unparsed()
        if connection.transport.can_write_eof():
            connection.transport.write_eof()
        connection.deadlines.start_linger()
