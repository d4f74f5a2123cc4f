"""The outermost stage: turns refusals into responses; counts, times and logs every request once, when it is over."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.core.circuit.outcome import Outcome
from sidecar.pipeline.errors import ClientError, ClientGone, InternalError, ProxyError
from sidecar.pipeline.message import BodyEnd, Request
from sidecar.pipeline.problem import respond
from sidecar.pipeline.record import ExchangeRecord
from sidecar.pipeline.source import Source

if TYPE_CHECKING:
    from sidecar.pipeline.message import End, Response
    from sidecar.pipeline.ports import Clock, Handler
    from sidecar.pipeline.record import AccessLog
    from sidecar.pipeline.stage import RouteParts
    from sidecar.pipeline.stats import RouteStats

log = logging.getLogger(__name__)

CLIENT_LEFT = 499
"""The status that logs and metrics show for a request whose client left before a head was sent."""


@dataclass(frozen=True, slots=True)
class Observer:
    """What the stage reports to. `via` is the pseudonym in the responses' Via."""

    stats: RouteStats
    access_log: AccessLog | None
    clock: Clock
    via: str


class ObserveStage:
    """A `Handler` that never raises ProxyError: its callers get a response whatever happens."""

    __slots__ = ("_inner", "_log", "_monotonic", "_name", "_stats", "_via", "_via_line")

    def __init__(self, inner: Handler, observer: Observer) -> None:
        self._inner = inner
        self._stats = observer.stats
        self._name = observer.stats.name
        self._log = observer.access_log
        self._monotonic = observer.clock.monotonic
        self._via = observer.via
        self._via_line = b"Via: 1.1 %b\r\n" % observer.via.encode()

    async def handle(self, request: Request) -> Response:
        """The answer, whatever happens inside."""
        stats = self._stats
        stats.in_flight += 1
        try:
            response = await self._inner.handle(request)
        except ProxyError as error:
            response = respond(error, request, self._via)
        except asyncio.CancelledError:
            self._client_left(request)
            raise
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the client gets an answer and the log a traceback
            response = self._defect(error, request)
        finally:
            stats.in_flight -= 1
        if response.error is None:
            response.extra += self._via_line
        body = response.body
        if isinstance(body, bytes):
            self._over(request, response, 0 if request.head.method == "HEAD" else len(body))
        else:
            stats.in_flight += 1
            ending = _Ending(self, request, response)
            body.on_piece(ending.count)
            body.on_end(ending.ended)
        return response

    def _over(self, request: Request, response: Response, sent: int, end: End = BodyEnd.COMPLETE) -> None:
        """Called once per request that got a response."""
        head = request.head
        aborted = end is not BodyEnd.COMPLETE or request.cut is not None
        error = _reason(request, end) if aborted else response.error
        why: tuple[str, str, bool, str, str, str] | tuple[()] = ()
        if error is not None:
            why = (error.reason, error.detail, aborted, _upstream_error(error), "", "")
        elif response.stand_in is not None:
            because, wrong, detail = response.stand_in
            stale, replaced = response.source is Source.STALE, response.source is Source.FALLBACK
            why = ("", detail, False, wrong, because if stale else "", because if replaced else "")
        now = self._monotonic()
        duration = now - request.started
        status, source = response.head.status, response.source.label
        self._stats.count(head.method, status, source, duration, now, head.headers.index.get(b"traceparent"))
        if self._log is not None:
            self._log(
                ExchangeRecord(
                    self._name,
                    head.method,
                    head.target,
                    status,
                    source,
                    duration,
                    sent,
                    request.request_id,
                    request.client,
                    request.attempts,
                    request.upstream_time,
                    request.asked,
                    head.headers,
                    response.head.headers,
                    request.trail,
                    *why,
                )
            )

    def stream_over(self, request: Request, response: Response, sent: int, end: End) -> None:
        """The body of a streamed response has ended, one way or another."""
        self._stats.in_flight -= 1
        self._over(request, response, sent, end)

    def _client_left(self, request: Request) -> None:
        head = request.head
        error = request.cut or ClientGone("the client left before the answer")
        status = CLIENT_LEFT if isinstance(error, ClientError) else error.status
        duration = self._monotonic() - request.started
        self._stats.count(head.method, status, Source.ERROR.label, duration)
        if self._log is None:
            return
        self._log(
            ExchangeRecord(
                self._name,
                head.method,
                head.target,
                status,
                Source.ERROR.label,
                duration,
                0,
                request.request_id,
                request.client,
                request.attempts,
                request.upstream_time,
                request.asked,
                head.headers,
                trail=request.trail,
                reason=error.reason,
                detail=error.detail,
                aborted=True,
            )
        )

    def _defect(self, error: Exception, request: Request) -> Response:
        about = {"route": self._name, "request_id": request.request_id.decode("latin-1")}
        log.error("a request failed inside the sidecar", exc_info=error, extra=about)
        return respond(InternalError("the sidecar failed; its log says more"), request, self._via)


class _Ending:
    """Waits for the end of one streamed response."""

    __slots__ = ("_request", "_response", "_sent", "_stage")

    def __init__(self, stage: ObserveStage, request: Request, response: Response) -> None:
        self._stage = stage
        self._request = request
        self._response = response
        self._sent = 0

    def count(self, piece: bytes) -> None:
        """Octets pass."""
        self._sent += len(piece)

    def ended(self, end: End) -> None:
        """The body is over."""
        self._stage.stream_over(self._request, self._response, self._sent, end)


def _reason(request: Request, end: End) -> ProxyError:
    """Why the client did not get a whole answer: what the sidecar did to its connection comes before all."""
    if request.cut is not None:
        return request.cut
    return end if isinstance(end, ProxyError) else ClientGone("the client left before the end of the answer")


def around(inner: Handler, parts: RouteParts) -> ObserveStage:
    """The outermost stage around `inner`."""
    shared = parts.shared
    return ObserveStage(inner, Observer(parts.stats, shared.access_log, shared.clock, shared.proxy.via))


def _upstream_error(error: ProxyError) -> str:
    return error.reason if error.outcome is Outcome.FAILURE else ""
