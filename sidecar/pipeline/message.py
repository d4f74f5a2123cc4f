"""One request, its response, and their bodies, as they pass through the stages.

A body is either `bytes` (it is all there) or a `Body` (it arrives piece by piece). Whatever must happen when a
response body ends — settle a permit, count down, store — is a listener on it: `Body` calls each exactly once, on
every path.
"""

from __future__ import annotations

from copy import copy
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from sidecar.core.config import Rewrite
from sidecar.pipeline.source import Source

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sidecar.core.http.heads import RequestHead, ResponseHead
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.pins import Pins


NO_REWRITE = Rewrite()


class StandIn(NamedTuple):
    """Why a stored answer is given in the place of the upstream's, or past its freshness, or a fallback's, or what was
    done to an answer on purpose. `because` is one word, Cache-Status's detail where there is one, or which fallback it
    is; `error` and `detail` say what the upstream did wrong, if it was asked.
    """

    because: str
    error: str = ""
    detail: str = ""


class Attempt(NamedTuple):
    """One attempt at an upstream, noted where requests are traced (`trace_stage`). `began` and `ended`, at the head of
    the answer or at the failure, are monotonic seconds. `status` is 0 where there was no answer, and then `error` says
    why.
    """

    scheme: str
    endpoint: str
    target: bytes
    began: float
    ended: float
    status: int = 0
    error: str = ""


class BodyEnd(Enum):
    """How a body ended when no error cut it: read to its end; given up by its reader, because the client left; or given
    up by the sidecar, which has read as much as it wants of an answer that no client waits for.
    """

    COMPLETE = "complete"
    ABANDONED = "abandoned"
    DISCARDED = "discarded"


End: TypeAlias = "BodyEnd | ProxyError"
EndListener: TypeAlias = "Callable[[End], None]"
PieceListener: TypeAlias = "Callable[[bytes], None]"
SentListener: TypeAlias = "Callable[[float], None]"


class Sink(Protocol):
    """Where a body is poured."""

    @property
    def drained(self) -> asyncio.Future[None] | None:
        """Comes true when there is room again; None while there is."""

    def write(self, piece: bytes) -> None:
        """Take a piece."""

    def flush(self) -> None:
        """Nothing more will come for a moment: what was held back to go out with it goes now."""


class Body:
    """A one-shot stream of payload octets, framing removed.

    `length` is the exact number of octets when the sender declared it, else None. Subclasses implement `read` and
    `_release`, and call `_pass` for each piece and `_finish` when nothing more will come.
    """

    __slots__ = ("_end", "_end_listeners", "_piece_listeners", "length", "trailers")

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.trailers: list[tuple[bytes, bytes]] = []
        """Trailer fields that may be forwarded; complete once `read` returned b""."""
        self._end: End | None = None
        self._end_listeners: list[EndListener] = []
        self._piece_listeners: list[PieceListener] = []

    @property
    def end(self) -> End | None:
        """How it ended, or None while it has not."""
        return self._end

    async def read(self) -> bytes:
        """The next piece, at least one octet; b"" at the clean end. Raises ProxyError when the body was cut short."""
        raise NotImplementedError

    async def pour(self, sink: Sink) -> None:
        """Write every piece to `sink`, at its pace, up to the clean end. Raises as `read` does."""
        sink.flush()
        while piece := await self.read():
            sink.write(piece)
            if sink.drained is not None:
                await sink.drained

    def close(self, end: BodyEnd = BodyEnd.ABANDONED) -> None:
        """Give up the rest and free what the body holds. Idempotent; nothing happens after a clean end."""
        self._finish(end)

    def on_piece(self, listener: PieceListener) -> None:
        """Show `listener` each piece that is read."""
        self._piece_listeners.append(listener)

    def on_end(self, listener: EndListener) -> None:
        """Call `listener` once, when the body ends; at once if it has."""
        if self._end is not None:
            listener(self._end)
        else:
            self._end_listeners.append(listener)

    def _pass(self, piece: bytes) -> bytes:
        for listener in self._piece_listeners:
            listener(piece)
        return piece

    def _finish(self, end: End) -> None:
        if self._end is not None:
            return
        self._end = end
        self._release(end)
        listeners, self._end_listeners = self._end_listeners, []
        self._piece_listeners = []
        for listener in listeners:
            listener(end)

    def _release(self, end: End) -> None:
        """Free the source of the octets. Called once."""


class Duplex(Body):
    """The upstream's half of a switched protocol (RFC 9110 §7.8): `read` what it says, `send` what the client says."""

    __slots__ = ()

    async def send(self, data: bytes) -> None:
        """Pass octets to the upstream; waits while it takes no more. Raises ProxyError when the connection is gone."""
        raise NotImplementedError

    def send_eof(self) -> None:
        """The client will say no more."""
        raise NotImplementedError


class Repeat(NamedTuple):
    """Which attempt at a request is made (from 1 on), and what it makes of those before: the endpoints in `avoid` are
    asked only if there are no others, and `fresh` trusts no connection that was kept alive. `final`: none follows where
    the connection ends before an answer.
    """

    number: int = 1
    avoid: frozenset[object] = frozenset()
    fresh: bool = False
    final: bool = True


ONLY_ATTEMPT = Repeat()
FIRST_ATTEMPT = Repeat(final=False)


class Request:
    """A request inside the pipeline.

    `body` is b"" when there is none; a `Body` is read at most once. `started` is monotonic seconds. `upgrade` is the
    protocol that the client asks to switch to, or b"". `on_interim` takes each 1xx response head on its way to the
    client; None where nobody wants them. `cut` is why the sidecar itself ended the client's connection while this was
    under way. `half_closed`: the client has closed its side, and may have left; `on_half_close` hears of it when that
    comes to be. `pins` are those of the client connection that it came on, None where no client asks. `is_probe`: the
    circuit lets it go upstream once, and not twice (breaker.md 13). `deadline` is when its time is up, whatever is
    waited for, in monotonic seconds; `inf`: never. The gateway sets `route_name` and `rewrite`.

    `attempts` is how often the upstream was asked so far, `repeat` what the next attempt is to be like; `endpoint` is
    the address, known to the adapter, that the latest went to where there was a choice. `asked` is `host:port` of where
    it went in any case, "" while there was none, and `upstream_time` the seconds that all of them took, each up to the
    head of an answer or a failure. `trail` is these attempts, where they are noted.

    `sent_at` is from when on time is the upstream's, in its latest attempt; `inf` while that is not known. It is when
    the last octet was sent. Where the answer came before that, it is when the first was sent, later by the time for
    which the client was waited for meanwhile. `on_sent` is told when the last octet was sent and no answer is there.
    """

    __slots__ = (
        "asked",
        "attempts",
        "body",
        "client",
        "cut",
        "deadline",
        "endpoint",
        "half_closed",
        "head",
        "is_probe",
        "on_half_close",
        "on_interim",
        "on_sent",
        "pins",
        "repeat",
        "request_id",
        "rewrite",
        "route_name",
        "sent_at",
        "started",
        "trail",
        "upgrade",
        "upstream_time",
    )

    def __init__(
        self, head: RequestHead, body: bytes | Body, *, request_id: bytes, started: float, client: str = ""
    ) -> None:
        self.head = head
        self.body = body
        self.request_id = request_id
        self.started = started
        self.client = client
        self.cut: ProxyError | None = None
        self.route_name: str | None = None
        self.rewrite = NO_REWRITE
        self.upgrade = b""
        self.is_probe = False
        self.deadline = inf
        self.pins: Pins | None = None
        self.on_interim: Callable[[ResponseHead], None] | None = None
        self.half_closed = False
        self.on_half_close: Callable[[], None] | None = None
        self.asked = ""
        self.upstream_time = 0.0
        self.trail: list[Attempt] | None = None
        self.sent_at = inf
        self.on_sent: SentListener | None = None
        self.attempts = 0
        self.repeat = ONLY_ATTEMPT
        self.endpoint: object | None = None

    def twin(self) -> Request:
        """A copy at which no attempt was made so far; `account_for` adds those that will have been."""
        twin = copy(self)
        twin.attempts, twin.upstream_time, twin.asked, twin.trail = 0, 0.0, "", None
        return twin

    def account_for(self, other: Request) -> None:
        """Count the attempts at `other` as attempts at this one, in whose place it was sent."""
        self.attempts += other.attempts
        self.upstream_time += other.upstream_time
        self.asked = other.asked or self.asked
        if other.trail:
            self.trail = [*(self.trail or ()), *other.trail]

    def half_close(self) -> None:
        """The client has closed its side."""
        self.half_closed = True
        if self.on_half_close is not None:
            self.on_half_close()

    def sent(self, now: float) -> None:
        """All of it is with the upstream."""
        self.sent_at = now
        if self.on_sent is not None:
            self.on_sent(now)


class Response:
    """A response on its way to the client.

    `head` holds end-to-end fields only; Content-Length is among them when the length is known. `extra` is what the
    sidecar adds of its own (complete CRLF-ended lines: Via, Cache-Status, Age). `prepared`, when set, is `head`
    already serialized (status line and fields, without the final empty line) and is sent instead. `error` is set on
    the sidecar's own answers, `stand_in` on stored ones that the access log has something to say about.
    """

    __slots__ = ("body", "error", "extra", "head", "prepared", "source", "stand_in")

    def __init__(
        self,
        head: ResponseHead,
        body: bytes | Body,
        *,
        source: Source = Source.UPSTREAM,
        extra: bytes = b"",
        prepared: bytes | None = None,
        error: ProxyError | None = None,
    ) -> None:
        self.head = head
        self.body = body
        self.source = source
        self.extra = extra
        self.prepared = prepared
        self.error = error
        self.stand_in: StandIn | None = None
