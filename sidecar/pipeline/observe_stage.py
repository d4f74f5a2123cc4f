"""The outermost stage: turns refusals into responses; counts, times and logs every request once, when it is over."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sidecar.core.http_date import format_http_date
from sidecar.core.outcome import Outcome
from sidecar.pipeline.errors import (
    CircuitOpen,
    ClientError,
    ClientGone,
    InternalError,
    ProxyError,
    refusal_format,
    respond,
)
from sidecar.pipeline.exchange import BodyEnd, Request, Source
from sidecar.pipeline.ready_answer import ReadyAnswer, ReadyRefusal, Recalled
from sidecar.pipeline.record import ExchangeRecord, octets_sent

if TYPE_CHECKING:
    from sidecar.core.http import RequestHead
    from sidecar.pipeline.exchange import End, Response
    from sidecar.pipeline.ports import Clock, Handler, Memory
    from sidecar.pipeline.ready_answer import Ready, Refused
    from sidecar.pipeline.record import AccessLog, RepeatedLine
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

    __slots__ = ("_inner", "_log", "_memory", "_monotonic", "_name", "_stats", "_via", "_via_line", "_wall")

    def __init__(self, inner: Handler, observer: Observer, memory: Memory | None = None) -> None:
        self._inner = inner
        self._memory = memory
        self._stats = observer.stats
        self._name = observer.stats.name
        self._log = observer.access_log
        self._monotonic = observer.clock.monotonic
        self._via = observer.via
        self._wall = observer.clock.wall
        self._via_line = b"Via: 1.1 %b\r\n" % observer.via.encode()

    def recall(self, head: RequestHead, now: float, request_id: bytes, client: str) -> Ready | Response | None:
        """See `Front`."""
        found = None if self._memory is None else self._memory.recall(head, now)
        if found is None:
            return None
        if isinstance(found, Recalled):
            return self._ready(found, head)
        if b"x-request-id" not in head.headers.index:
            return self._ready_refusal(found, head, now)
        request = Request(head, b"", request_id=request_id, started=now, client=client)
        request.route_name = self._name
        response = respond(found.error, request, self._via)
        self._over(request, response, len(cast("bytes", response.body)))
        return response

    def _ready(self, found: Recalled, head: RequestHead) -> ReadyAnswer:
        stored, lines, age, source, result, _ = found
        status, label = stored.head.status, source.label
        octets = b"%b%b%b\r\n%b" % (stored.prepared, lines, self._via_line, stored.body)
        tally = self._stats.tally(head.method, status, label, result, age)
        return ReadyAnswer(octets, found, tally, self._repeated_line(head, status, label), self._monotonic)

    def _ready_refusal(self, found: Refused, head: RequestHead, now: float) -> ReadyRefusal:
        error, grounds = found
        wall = self._wall()
        grounds.until = now + 1.0 - wall % 1.0  # when Date counts on
        octets = refusal_format(error, self._name, self._via, format_http_date(wall))
        tally = self._stats.tally(head.method, error.status, error.source.label)
        line = self._repeated_line(head, error.status, error.source.label, error)
        return ReadyRefusal(octets, grounds, tally, line, self._monotonic)

    def _repeated_line(
        self, head: RequestHead, status: int, source: str, error: ProxyError | None = None
    ) -> RepeatedLine | None:
        if self._log is None:
            return None
        why = () if error is None else (error.reason, error.detail)
        record = ExchangeRecord(self._name, head.method, head.target, status, source, 0.0, 0, b"", "", *why)
        if source == Source.STALE.label:
            record = record._replace(stale_because=CircuitOpen.reason)
        return self._log.repeated(record)

    def _note(self, record: ExchangeRecord) -> None:
        """Count and log a request that is over."""
        self._stats.count(record.method, record.status, record.source, record.duration)
        if self._log is not None:
            self._log(record)

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
            self._over(request, response, octets_sent(request.head, body))
        else:
            self._stats.in_flight += 1
            ending = _Ending(self, request, response)
            body.on_piece(ending.count)
            body.on_end(ending.ended)

    def _over(self, request: Request, response: Response, sent: int, end: End = BodyEnd.COMPLETE) -> None:
        """Called once per request that got a response."""
        head = request.head
        aborted = end is not BodyEnd.COMPLETE or request.cut is not None
        error = _reason(request, end) if aborted else response.error
        why: tuple[str, str, bool, str, str] | tuple[()] = ()
        if error is not None:
            why = (error.reason, error.detail, aborted, _upstream_error(error), "")
        elif response.stand_in is not None:
            because, wrong, detail = response.stand_in
            why = ("", detail, False, wrong, because if response.source is Source.STALE else "")
        self._note(
            ExchangeRecord(
                self._name,
                head.method,
                head.target,
                response.head.status,
                response.source.label,
                self._monotonic() - request.started,
                sent,
                request.request_id,
                request.client,
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
        self._note(
            ExchangeRecord(
                self._name,
                head.method,
                head.target,
                CLIENT_LEFT if isinstance(error, ClientError) else error.status,
                Source.ERROR.label,
                self._monotonic() - request.started,
                0,
                request.request_id,
                request.client,
                error.reason,
                error.detail,
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


def _upstream_error(error: ProxyError) -> str:
    return error.reason if error.outcome is Outcome.FAILURE else ""
