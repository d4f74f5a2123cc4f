"""The outermost stage: turns refusals into responses; counts, times and logs every request once, when it is over."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sidecar.core.http import STANDARD_METHODS
from sidecar.pipeline.errors import ClientGone, InternalError, ProxyError, RepeatedAnswer, respond
from sidecar.pipeline.exchange import BodyEnd, Request, Source
from sidecar.pipeline.record import ExchangeRecord

if TYPE_CHECKING:
    from sidecar.core.http import RequestHead
    from sidecar.pipeline.exchange import End, Response
    from sidecar.pipeline.ports import Clock, Handler, Memory
    from sidecar.pipeline.record import AccessLog
    from sidecar.pipeline.stats import RouteStats

log = logging.getLogger(__name__)

CLIENT_LEFT = 499
"""The status that logs and metrics show for a request whose client left before a head was sent."""
OTHER_METHOD = "_OTHER"


@dataclass(frozen=True, slots=True)
class Observer:
    """What the stage reports to. `via` is the pseudonym in the responses' Via."""

    stats: RouteStats
    access_log: AccessLog | None
    clock: Clock
    via: str


class ObserveStage:
    """A `Handler` that never raises ProxyError: its callers get a response whatever happens."""

    __slots__ = ("_inner", "_log", "_memory", "_monotonic", "_name", "_repeated", "_stats", "_via", "_via_line")

    def __init__(self, inner: Handler, observer: Observer, memory: Memory | None = None) -> None:
        self._inner = inner
        self._memory = memory
        self._stats = observer.stats
        self._name = observer.stats.name
        self._log = observer.access_log
        self._monotonic = observer.clock.monotonic
        self._via = observer.via
        self._repeated: RepeatedAnswer | None = None
        self._via_line = b"Via: 1.1 %b\r\n" % observer.via.encode()

    def recall(self, head: RequestHead, now: float, request_id: bytes, client: str) -> bytes | Response | None:
        """See `Front`: a whole answer to `head`, counted and logged, where `memory` has one at hand."""
        found = None if self._memory is None else self._memory.recall(head, now)
        if found is None:
            return None
        if isinstance(found, ProxyError):
            return self._refused(found, head, now, request_id, client)
        stored, lines, source = found
        body = stored.body
        self._recalled(head, now, stored.head.status, source.label, len(body), request_id, client)
        return b"%b%b%b\r\n%b" % (stored.prepared, lines, self._via_line, body)

    def _refused(self, error: ProxyError, head: RequestHead, now: float, request_id: bytes, client: str) -> Response:
        """The answer to a request of which memory knows that it will be refused."""
        if b"x-request-id" in head.headers.index:
            request = Request(head, b"", request_id=request_id, started=now, client=client)
            request.route_name = self._name
            response = respond(error, request, self._via)
        else:
            repeated = self._repeated
            if repeated is None or repeated.error is not error:
                self._repeated = repeated = RepeatedAnswer(error, self._name, self._via)
            response = repeated.to(request_id)
        size = len(cast("bytes", response.body))
        self._recalled(
            head, now, error.status, error.source.label, size, request_id, client, error.reason, error.detail
        )
        return response

    def _recalled(
        self,
        head: RequestHead,
        now: float,
        status: int,
        source: str,
        size: int,
        request_id: bytes,
        client: str,
        reason: str = "",
        detail: str = "",
    ) -> None:
        """Count and log an answer from memory."""
        duration = self._monotonic() - now
        method = head.method
        stats = self._stats
        stats.requests[method if method in STANDARD_METHODS else OTHER_METHOD, status, source] += 1
        stats.durations.observe(duration)
        if self._log is not None:
            self._log(
                ExchangeRecord(
                    self._name, method, head.target, status, source, duration, size, request_id, client, reason, detail
                )
            )

    def answer_now(self, request: Request) -> Response | None:
        """See `Handler`."""
        try:
            response = self._inner.answer_now(request)
        except ProxyError as error:
            response = respond(error, request, self._via)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the client gets an answer and the log a traceback
            response = self._defect(error, request)
        if response is not None:
            self._answered(request, response)
        return response

    async def answer(self, request: Request) -> Response:
        """See `Handler`."""
        stats = self._stats
        stats.in_flight += 1
        try:
            response = await self._inner.answer(request)
        except ProxyError as error:
            response = respond(error, request, self._via)
        except asyncio.CancelledError:
            self._client_left(request)
            raise
        except Exception as error:  # noqa: BLE001 - as above
            response = self._defect(error, request)
        finally:
            stats.in_flight -= 1
        self._answered(request, response)
        return response

    def _answered(self, request: Request, response: Response) -> None:
        if response.error is None:
            response.extra += self._via_line
        body = response.body
        if isinstance(body, bytes):
            self._over(request, response, len(body))
        else:
            self._stats.in_flight += 1
            ending = _Ending(self, request, response)
            body.on_piece(ending.count)
            body.on_end(ending.ended)

    def _over(self, request: Request, response: Response, sent: int, end: End = BodyEnd.COMPLETE) -> None:
        """Called once per request that got a response."""
        head = request.head
        status = response.head.status
        duration = self._monotonic() - request.started
        source = response.source.label
        stats = self._stats
        method = head.method
        stats.requests[method if method in STANDARD_METHODS else OTHER_METHOD, status, source] += 1
        stats.durations.observe(duration)
        if self._log is None:
            return
        error = response.error if end is BodyEnd.COMPLETE else _reason(end)
        target, request_id, client = head.target, request.request_id, request.client
        if error is None:
            record = ExchangeRecord(self._name, method, target, status, source, duration, sent, request_id, client)
        else:
            aborted = end is not BodyEnd.COMPLETE
            why = error.reason, error.detail, aborted
            record = ExchangeRecord(
                self._name, method, target, status, source, duration, sent, request_id, client, *why
            )
        self._log(record)

    def stream_over(self, request: Request, response: Response, sent: int, end: End) -> None:
        """The body of a streamed response has ended, one way or another."""
        self._stats.in_flight -= 1
        self._over(request, response, sent, end)

    def _client_left(self, request: Request) -> None:
        stats = self._stats
        head = request.head
        method = head.method if head.method in STANDARD_METHODS else OTHER_METHOD
        duration = self._monotonic() - request.started
        stats.requests[method, CLIENT_LEFT, Source.ERROR.label] += 1
        stats.durations.observe(duration)
        if self._log is not None:
            self._log(
                ExchangeRecord(
                    self._name,
                    head.method,
                    head.target,
                    CLIENT_LEFT,
                    Source.ERROR.label,
                    duration,
                    0,
                    request.request_id,
                    request.client,
                    ClientGone.reason,
                    "the client left before the answer",
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


def _reason(end: End) -> ProxyError:
    return end if isinstance(end, ProxyError) else ClientGone("the client left before the end of the answer")
