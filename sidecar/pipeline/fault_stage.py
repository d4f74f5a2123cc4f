"""Faults injected on purpose, so that what follows can be rehearsed.

It stands around the cache: a fault hits a request whatever would have answered it. An abort is a failure of the
circuit, unless `in_windows` is false, as if the upstream had answered so; a request that the circuit refuses goes on
and meets that refusal, or what is stored. A delay comes first, and is over at once when the client leaves; one that
outlasts `timeouts.total` is such a failure, too.

Why it is cheap: a fault can come to any route at any time, so every route has this stage; while there is no fault its
`handle` is the inner stage's own.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any

from sidecar.core.fault import strike
from sidecar.core.http.heads import SAFE_METHODS, Headers, ResponseHead
from sidecar.pipeline.breaker_stage import BreakerStage
from sidecar.pipeline.deadline_stage import clients_deadline
from sidecar.pipeline.errors import InjectedAbort, InjectedDelay, InjectedReset, ProxyError
from sidecar.pipeline.message import Body, BodyEnd, Duplex, Response, StandIn
from sidecar.pipeline.problem import proxy_status
from sidecar.pipeline.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sidecar.core.fault import ActiveFault, Strike
    from sidecar.pipeline.message import End, Request, Sink
    from sidecar.pipeline.ports import Handler
    from sidecar.pipeline.stage import RouteParts

STEPS_PER_SECOND = 10
"""How often a slow body goes on."""
RESET_STATUS = 502
"""What log and metrics show for a request whose connection was reset on purpose."""


class FaultStage:
    """A `Handler` that does to requests what the route's fault says, as long as there is one."""

    __slots__ = (
        "_circuit", "_clock", "_ends_at", "_fault", "_injected", "_inner", "_random", "_redaction", "_stats", "_total",
        "_via", "handle",
    )  # fmt: skip

    handle: Callable[[Request], Coroutine[Any, Any, Response]]

    def __init__(self, inner: Handler, parts: RouteParts) -> None:
        self._inner = inner
        self._fault = parts.fault
        self._circuit = parts.circuit
        self._clock = parts.shared.clock
        self._random = parts.shared.random
        self._redaction = parts.shared.redaction
        self._stats = parts.stats
        self._via = parts.shared.proxy.via
        self._injected = parts.stats.faults
        self._total = parts.route.timeouts.total
        parts.fault.watcher = self._look
        self._look()

    def _look(self) -> None:
        """There may be a fault now, or none any more."""
        active = self._fault.current
        self._ends_at = 0.0 if active is None else active.ends_at
        self.handle = self._inner.handle if active is None else self._handle

    def _handle(self, request: Request) -> Coroutine[Any, Any, Response]:
        """The answer, with what the fault does to it. Raises what the inner handler raises, and InjectedAbort."""
        now, active = self._clock.monotonic(), self._fault.current
        if now >= self._ends_at:
            active = self._fault.live(now)
        struck = None if active is None else strike(active.settings, request.head, self._random)
        if active is None or struck is None:
            return self._inner.handle(request)
        return self._struck(request, active, struck)

    async def _struck(self, request: Request, active: ActiveFault, struck: Strike) -> Response:
        done, counts = "", active.settings.in_windows
        if struck.delay:
            done = f"delay {struck.delay:g} s"
            await self._delay(request, struck.delay, counts=counts)
        if struck.abort and not self._refuses(request, counts=counts):
            self._injected["abort"] += 1
            await self._fail(request, InjectedAbort.answering(struck.abort), counts=counts)
        if struck.reset:
            self._injected["reset"] += 1
            return _reset()
        response = await self._inner.handle(request)
        if struck.rate and _slow_down(request, response, struck.rate):
            self._injected["slow_body"] += 1
            done += f"{', ' if done else ''}slow_body {struck.rate} bytes/s"
        return self._marked(response, done) if done else response

    def _refuses(self, request: Request, *, counts: bool) -> bool:
        """Whether the circuit will not let it pass, so that nothing would come of it but that refusal."""
        safe = request.head.method in SAFE_METHODS
        return counts and self._circuit.peek(self._clock.monotonic(), safe=safe) is not None

    async def _delay(self, request: Request, seconds: float, *, counts: bool) -> None:
        """Let the request wait. Raises InjectedDelay when the route's `total` is over before, or the circuit's refusal
        then; the client's own deadline is kept outside.
        """
        self._injected["delay"] += 1
        clients = clients_deadline(request, self._total)
        left = inf if clients else request.deadline - self._clock.monotonic()
        await asyncio.sleep(max(0.0, min(seconds, left)))
        if seconds >= left:
            error = InjectedDelay("a fault is injected on this route: it delays for longer than timeouts.total allows")
            await self._fail(request, error, counts=counts)

    async def _fail(self, request: Request, error: ProxyError, *, counts: bool) -> None:
        """Raises `error`, which the circuit hears of if it `counts`, or the circuit's refusal."""
        failing = _Failing(error)
        if counts:
            await BreakerStage(failing, self._circuit, self._clock, redaction=self._redaction).handle(request)
        await failing.handle(request)

    def _marked(self, response: Response, done: str) -> Response:
        """`response`, which says what was done to it."""
        detail = f"injected fault: {done}"
        response.extra += b"Proxy-Status: %b\r\n" % proxy_status(self._via, "", detail)
        if response.stand_in is None:
            response.stand_in = StandIn("fault", detail=detail)
        return response


class _Failing:
    """A `Handler` in the place of the upstream."""

    __slots__ = ("_error",)

    def __init__(self, error: ProxyError) -> None:
        self._error = error

    async def handle(self, request: Request) -> Response:  # noqa: ARG002 - whatever is asked
        raise self._error


def _reset() -> Response:
    return Response(ResponseHead(RESET_STATUS, Headers()), _ResetBody(None), source=Source.FAULT)


class _ResetBody(Body):
    """Content that fails before its head is sent, which ends the connection by a reset."""

    __slots__ = ()

    async def read(self) -> bytes:
        error = InjectedReset("a fault is injected on this route: it resets connections")
        self._finish(error)
        raise error

    async def pour(self, sink: Sink) -> None:  # noqa: ARG002 - nothing is sent, not even the head
        await self.read()


def _slow_down(request: Request, response: Response, rate: int) -> bool:
    """Let the content trickle; False when there is none."""
    body = response.body
    if not body or isinstance(body, Duplex) or request.head.method == "HEAD":
        return False
    if isinstance(body, bytes) and response.prepared is None and b"content-length" not in response.head.headers.index:
        response.extra += b"Content-Length: %d\r\n" % len(body)
    response.body = _SlowBody(body, rate)
    return True


class _SlowBody(Body):
    """`source` at `rate` octets per second."""

    __slots__ = ("_rate", "_rest", "_source")

    def __init__(self, source: bytes | Body, rate: int) -> None:
        whole = isinstance(source, bytes)
        super().__init__(len(source) if isinstance(source, bytes) else source.length)
        self._rest = source if isinstance(source, bytes) else b""
        self._source = None if whole else source
        self._rate = rate
        if isinstance(source, Body):
            self.trailers = source.trailers

    async def read(self) -> bytes:
        rest = self._rest or await self._more()
        if not rest:
            self._finish(BodyEnd.COMPLETE)
            return b""
        piece = rest[: max(1, self._rate // STEPS_PER_SECOND)]
        self._rest = rest[len(piece) :]
        await asyncio.sleep(len(piece) / self._rate)
        return self._pass(piece)

    async def _more(self) -> bytes:
        if not isinstance(self._source, Body):
            return b""
        try:
            return await self._source.read()
        except ProxyError as error:
            self._finish(error)
            raise

    def _release(self, end: End) -> None:
        self._rest = b""
        if isinstance(self._source, Body) and isinstance(end, BodyEnd):
            self._source.close(end)


def around(inner: Handler, parts: RouteParts) -> FaultStage:
    """The faults of the route around `inner`."""
    return FaultStage(inner, parts)
