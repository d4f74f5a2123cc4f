"""How long a client may keep its connection waiting: for what it owes, for what it should read, and after its end.

What belongs here: the two deadlines of a client connection, the rules by which they move, and what a missed one means.

A client that closes its side may still wait for its answer, or may have left. Only a reset tells, and nobody reads any
more and would meet it. So while END is awaited the socket is asked every `RESET_CHECK` seconds.

Of the two deadlines, what the client sends and what it reads, the wheel watches the earlier. After an answer the one
for the next request is not moved each time, since that has its price: see `IDLE_GRACE`.
"""

from __future__ import annotations

import socket
from enum import Enum
from math import inf
from typing import TYPE_CHECKING

from sidecar.adapters.server.phases import Phase
from sidecar.pipeline.deadlines import Deadlined
from sidecar.pipeline.errors import AnswerUnread, ClientTooSlow, TunnelIdle

if TYPE_CHECKING:
    import asyncio

    from sidecar.adapters.server.connection import ClientConnection
    from sidecar.adapters.server.context import ServerContext
    from sidecar.pipeline.streams import StreamBody

SLOWEST_BODY = 500
"""Octets per second that content must come at in the long run: trickling earns no more time than that."""
RESET_CHECK = 0.1
"""Seconds between two checks whether a client that closed its side has left altogether: reading no longer tells."""
LINGER = 2.0
"""Seconds of silence after which a client that was sending when it was answered is taken to have read its answer."""
LONGEST_LINGER = 5.0
"""Seconds after which it must have, however long it goes on sending: many read only when they have sent all, but they
are near.
"""
IDLE_GRACE = 0.025
"""Seconds that are added to the keep-alive deadline when it is set. A request that is answered before they are over
leaves the deadline where it is.
"""


class Awaits(Enum):
    """What the client owes, and so what it means when it does not come in time."""

    NOTHING = 0
    FIRST_HEAD = 1
    HEAD = 2
    NEXT_REQUEST = 3
    BODY = 4
    TUNNEL = 5
    END = 6
    """Nothing but its leaving: it has closed its side, or the connection lingers."""


NEXT_REQUEST = Awaits.NEXT_REQUEST
BETWEEN_REQUESTS = (Phase.WAITING, Phase.HEAD, Phase.QUEUED)
"""The phases in which the client owes the next request, or the rest of it."""
TOO_SLOW = "the client did not send its request in time"


class ClientDeadlines(Deadlined):
    """What a connection waits for, and until when. `awaits`: what the client owes."""

    __slots__ = ("_connection", "_context", "_end_until", "_read_until", "_write_until", "awaits", "idle_grace_until")

    def __init__(self, context: ServerContext, connection: ClientConnection) -> None:
        super().__init__()
        self._context = context
        self._connection: ClientConnection | None = connection
        self._read_until = self._write_until = inf
        self.awaits = Awaits.NOTHING
        self._end_until = inf
        """How long to linger, or to let a client that closed its side wait."""
        self.idle_grace_until = 0.0

    def expired(self) -> None:
        """One deadline has passed; the other, if any, is watched on."""
        connection, now = self._connection, self._context.clock.monotonic()
        if connection is None:
            return
        if self._write_until <= now:
            self._read_timed_out(connection)
        elif self._read_until <= now:
            self._read_until = inf
            self._send_timed_out(connection)
            # It may have set a new deadline, and the one for reading stands as it was.
            self._watch()
        else:
            self._watch()

    def close(self) -> None:
        """The connection is gone. The two held each other, and only reference counts free at once."""
        self._connection = None
        self._context.wheel.forget(self)

    def must_read(self, seconds: float) -> None:
        """The client has to make room within `seconds`; it has when they are `inf`."""
        self._write_until = self._context.clock.monotonic() + seconds
        self._watch()

    def wait_for(self, what: Awaits, seconds: float) -> None:
        """The client owes `what` within `seconds`."""
        self.awaits = what
        self._read_until = self._context.clock.monotonic() + seconds
        self._watch()

    def set_next(self, received: int = 0) -> None:
        """Set the deadline for what the client owes next, after `received` octets or an answer.

        This is also where part of a head that stays incomplete is noticed, and HEAD entered: most heads come whole.
        """
        connection = self._connection
        if connection is None:
            return
        partial = connection.requests.reader.partial
        if partial and connection.phase is Phase.WAITING:
            connection.phase = Phase.HEAD
        phase, exchange = connection.phase, connection.answering.exchange
        if self.awaits is Awaits.END:
            return
        if exchange is not None and phase is Phase.ANSWERING:
            body = exchange.body
            owed = body is not None and body.end is None and not exchange.arriving.complete
            self._wait_for_body(body if owed else None, received)
        elif phase is Phase.QUEUED:
            # The client has to read before it is answered on, and `write_timeout` watches that.
            self.wait_for(Awaits.NOTHING, inf)
        elif phase in BETWEEN_REQUESTS:
            if partial:
                self._wait_for_head()
            else:
                self.wait_for_next_request(connection, self._context.clock.monotonic())

    def _wait_for_head(self) -> None:
        """Part of a head is here. The deadline for the rest stays where it is however the head trickles in."""
        if self.awaits not in (Awaits.HEAD, Awaits.FIRST_HEAD):
            self.wait_for(Awaits.HEAD, self._context.limits.head_timeout)

    def head_answered(self) -> None:
        """The head that was awaited came, and its request is answered: the next one has a time of its own."""
        if self.awaits is Awaits.HEAD or self.awaits is Awaits.FIRST_HEAD:
            self.awaits = Awaits.NOTHING

    def wait_for_next_request(self, connection: ClientConnection, now: float) -> None:
        """Nothing is under way: the next request may come."""
        self._context.rested(connection)
        self.awaits = NEXT_REQUEST
        self.idle_grace_until = now + IDLE_GRACE
        self._read_until = now + IDLE_GRACE + self._context.limits.keep_alive
        self._watch()

    def _wait_for_body(self, body: StreamBody | None, received: int) -> None:
        """A request is under way, and `received` octets have come; `body` is its content if that is not whole."""
        if body is None:
            self.body_ended()
        elif not body.flowing:
            self.wait_for(Awaits.BODY, inf)
        elif self.awaits is not Awaits.BODY or self._read_until == inf:
            self.wait_for(Awaits.BODY, self._context.limits.body_timeout)
        else:
            # Content that trickles earns time by the octet, and never more than a pause in it may last.
            latest = self._context.clock.monotonic() + self._context.limits.body_timeout
            self._read_until = min(latest, self._read_until + received / SLOWEST_BODY)
            self._watch()

    def body_paused(self) -> None:
        """The upstream takes no more content, which is not the client's fault."""
        if self.awaits is Awaits.BODY:
            self.wait_for(Awaits.BODY, inf)

    def body_resumed(self) -> None:
        """The client may send content again."""
        if self.awaits is Awaits.BODY:
            self.wait_for(Awaits.BODY, self._context.limits.body_timeout)

    def body_ended(self) -> None:
        """No content is owed any more."""
        if self.awaits is Awaits.BODY:
            self.wait_for(Awaits.NOTHING, inf)

    # After the end of the client's side, or of the last answer

    def start_half_close(self) -> None:
        """The client has closed its side: for a while it may wait for the next part of its answer."""
        if self._connection is not None:
            self._connection.answered = False
        grace = self._context.limits.half_close
        self._end_until = self._context.clock.monotonic() + grace
        self.wait_for(Awaits.END, min(grace, RESET_CHECK))

    def start_linger(self) -> None:
        """The last answer is written, and the client has time to read it."""
        self._end_until = self._context.clock.monotonic() + LONGEST_LINGER
        self.linger()

    def linger(self) -> None:
        """The client has sent something that is dropped, or was seen not to have its answer yet."""
        self.wait_for(Awaits.END, min(LINGER, self._end_until - self._context.clock.monotonic()))

    def shorten_linger(self) -> None:
        """The sidecar drains: a client that sends on for ever has no more than its time of silence."""
        self._end_until = min(self._end_until, self._context.clock.monotonic() + LINGER)
        self.linger()

    # What a missed deadline means

    def _read_timed_out(self, connection: ClientConnection) -> None:
        limit = self._context.limits.write_timeout
        error = AnswerUnread(f"the client took nothing of its answer for {limit:g} s (proxy.limits.write_timeout)")
        self._context.stats.rejected[error.reason] += 1
        connection.cut(error)

    def _send_timed_out(self, connection: ClientConnection) -> None:
        awaited, phase, reader = self.awaits, connection.phase, connection.requests.reader
        if awaited is Awaits.END:
            self._check_client_gone(connection)
        elif awaited is Awaits.TUNNEL:
            limit = self._context.limits.tunnel_idle
            reason = f"nothing passed through the tunnel for {limit:g} s (proxy.limits.tunnel_idle)"
            connection.log_cut(TunnelIdle(reason))
            connection.close()
        elif awaited is Awaits.BODY:
            error = ClientTooSlow(TOO_SLOW)
            self._context.stats.rejected[error.reason] += 1
            reader.eof(error)
        elif phase not in BETWEEN_REQUESTS:
            # A request that is answered came in time; its deadline was left standing because moving it has a price.
            return
        elif awaited is not NEXT_REQUEST and reader.partial:
            connection.answering.refuse(connection, ClientTooSlow(TOO_SLOW), reader.first_line)
        else:
            connection.close()

    def _check_client_gone(self, connection: ClientConnection) -> None:
        """Wait on while a half-closed client may still be there, or one that lingers has not been sent its answer."""
        unsent = connection.transport.get_write_buffer_size()
        over = self._context.clock.monotonic() >= self._end_until
        if connection.phase is Phase.LINGERING:
            if not unsent:
                connection.close()
            elif over:
                connection.reset()
            else:
                self.linger()
        elif was_reset(connection.transport):
            connection.abort()
        elif connection.answered or connection.answering.exchange is None or unsent:
            # While there is something to send, its kernel says whether it is there, or `write_timeout` ends it.
            self.start_half_close()
        elif over:
            connection.abort()
        else:
            self.wait_for(Awaits.END, RESET_CHECK)

    def _watch(self) -> None:
        self._context.wheel.set(self, min(self._read_until, self._write_until))


def was_reset(transport: asyncio.Transport) -> bool:
    """Whether the client has reset the connection, which reading tells too late or not at all."""
    connection = transport.get_extra_info("socket")
    return connection is not None and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
