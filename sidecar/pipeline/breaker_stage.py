"""The circuit around an upstream: refuses what it must, and tells it exactly once how each admitted request ended."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from sidecar.core.circuit.explanation import Sample
from sidecar.core.circuit.open import parse_retry_after
from sidecar.core.circuit.outcome import Outcome, of_status
from sidecar.core.circuit.permit import HEALTHY, Refusal, Role, Verdict
from sidecar.core.http.heads import SAFE_METHODS
from sidecar.core.redaction import NOTHING_REDACTED
from sidecar.pipeline.deadline_stage import clients_deadline
from sidecar.pipeline.errors import CircuitOpen, ConnectionLost, EarlyAnswerCut, ProxyError, StaleConnection
from sidecar.pipeline.message import BodyEnd

if TYPE_CHECKING:
    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.circuit.permit import Permit
    from sidecar.core.http.heads import ResponseHead
    from sidecar.core.redaction import Redaction
    from sidecar.pipeline.message import End, Request, Response
    from sidecar.pipeline.ports import Clock, Handler
    from sidecar.pipeline.stage import RouteParts

SWITCHING_PROTOCOLS = 101
ASKS_TO_WAIT = frozenset({Outcome.FAILURE, Outcome.THROTTLED})
"""What an answer must count as for its Retry-After to be about the upstream's health (breaker.md 16)."""
_PROBE = Role.PROBE
_SUCCESS = Outcome.SUCCESS
LONGEST_PATH = 200
"""Characters of a path, with its query, in a sample."""
GATEWAY_TIMEOUT = 504
DEADLINE_MARGIN = 0.025
"""Seconds around the client's deadline in which an upstream that knows it gives up: it was told a little less."""


class BreakerStage:
    """Takes a permit for each request and settles it once, whichever way the request ends:

    refused                          there is no permit
    the inner handler raises         as the ProxyError says; cancelled; anything else was not sent. Raised again
    a whole body, or none            at the head: by its status
    a switched protocol              at the head: its end would tell nothing
    a body that arrives complete     at its end, by its status
    a body that is cut short         at its end, as the ProxyError says
    a client that goes away          at the end of the body: cancelled, whatever the status
    a body longer than probe_timeout by its status, while it flows; its end is told all the same and changes nothing
    """

    __slots__ = ("_circuit", "_clock", "_inner", "_monotonic", "_redaction", "_total")

    def __init__(
        self,
        inner: Handler,
        circuit: Circuit,
        clock: Clock,
        total: float | None = None,
        redaction: Redaction = NOTHING_REDACTED,
    ) -> None:
        self._inner = inner
        self._total = total
        self._circuit = circuit
        self._clock = clock
        self._monotonic = clock.monotonic
        self._redaction = redaction

    async def handle(self, request: Request) -> Response:
        """The upstream's answer. Raises CircuitOpen, or what the inner handler raises."""
        circuit = self._circuit
        permit = circuit.ask(self._monotonic(), safe=request.head.method in SAFE_METHODS)
        if isinstance(permit, Refusal):
            raise CircuitOpen(permit.detail, retry_after=permit.retry_after)
        if circuit.watches_slow:
            request.on_sent = partial(self._sent, request, permit)
        request.is_probe = permit.role is _PROBE
        if request.is_probe:
            self._watch_client(request, permit)
        try:
            response = await self._inner.handle(request)
        except ProxyError as error:
            permit.sent_at = request.sent_at
            self._settle_error(request, permit, error)
            raise
        except asyncio.CancelledError:
            circuit.settle(permit, Outcome.CANCELLED, self._monotonic())
            raise
        except BaseException:
            circuit.settle(permit, Outcome.NOT_SENT, self._monotonic())
            raise
        finally:
            request.on_sent = None
        permit.sent_at = request.sent_at
        body, status = response.body, response.head.status
        plain = status not in circuit.remarkable and not request.is_probe and not circuit.watches_slow
        if plain and type(body) is bytes:
            circuit.settle(permit, _SUCCESS, self._monotonic())
            return response
        verdict = HEALTHY if plain else self._verdict(request, permit, response.head)
        if isinstance(body, bytes) or status == SWITCHING_PROTOCOLS:
            outcome, describe, retry_after = verdict
            circuit.settle(permit, outcome, self._monotonic(), describe=describe, retry_after=retry_after)
        else:
            circuit.answered(permit, self._monotonic(), verdict)
            body.on_end(partial(self._body_ended, request, permit, verdict))
        return response

    def _sent(self, request: Request, permit: Permit, at: float) -> None:
        self._circuit.sent(permit, at, partial(self._sample, request, permit.started, None, None))

    def _watch_client(self, request: Request, permit: Permit) -> None:
        """A probe whose client has closed its side, and may have left, keeps no other from probing."""
        if request.half_closed:
            self._circuit.step_aside(permit)
        else:
            request.on_half_close = partial(self._circuit.step_aside, permit)

    def _body_ended(self, request: Request, permit: Permit, verdict: Verdict, end: End) -> None:
        if isinstance(end, ProxyError) and not isinstance(end, EarlyAnswerCut):
            self._settle_error(request, permit, end, verdict.retry_after)
        elif end is BodyEnd.ABANDONED:
            self._circuit.settle(permit, Outcome.CANCELLED, self._monotonic())
        else:
            outcome, describe, retry_after = verdict
            self._circuit.settle(permit, outcome, self._monotonic(), describe=describe, retry_after=retry_after)

    def _verdict(self, request: Request, permit: Permit, head: ResponseHead) -> Verdict:
        """What the answer counts as once its body is there."""
        circuit = self._circuit
        outcome = of_status(head.status, circuit.settings)
        if head.status == GATEWAY_TIMEOUT and self._out_of_the_clients_time(request):
            outcome = Outcome.CANCELLED
        describe = partial(self._sample, request, permit.started, head.status, None)
        return Verdict(outcome, describe, self._asked_to_wait(head) if outcome in ASKS_TO_WAIT else None)

    def _settle_error(
        self, request: Request, permit: Permit, error: ProxyError, retry_after: float | None = None
    ) -> None:
        describe = partial(self._sample, request, permit.started, None, error.reason)
        outcome = error.outcome
        if isinstance(error, StaleConnection) and not request.is_probe and not request.repeat.final:
            # An upstream may close a connection that is idle (RFC 9112 §9.3.1): the next attempt tells how it is.
            outcome = Outcome.NOT_SENT
        if isinstance(error, ConnectionLost) and self._out_of_the_clients_time(request):
            outcome = Outcome.CANCELLED
        self._circuit.settle(permit, outcome, self._monotonic(), describe=describe, retry_after=retry_after)

    def _out_of_the_clients_time(self, request: Request) -> bool:
        """Whether the upstream gave up because the time was over that the client allows, of which it was told."""
        return clients_deadline(request, self._total) and abs(self._monotonic() - request.deadline) <= DEADLINE_MARGIN

    def _asked_to_wait(self, head: ResponseHead) -> float | None:
        value = head.headers.get(b"retry-after")
        return None if value is None else parse_retry_after(value, self._clock.wall())

    def _sample(self, request: Request, started: float, status: int | None, error: str | None) -> Sample:
        head = request.head
        return Sample(
            at=self._clock.wall(),
            request_id=request.request_id.decode("latin-1"),
            method=head.method,
            path=self._redaction.sample(head.target.decode("latin-1"))[:LONGEST_PATH],
            status=status,
            error=error,
            duration=self._monotonic() - started,
        )


def around(inner: Handler, parts: RouteParts) -> BreakerStage:
    """The circuit of the route around `inner`."""
    shared = parts.shared
    return BreakerStage(inner, parts.circuit, shared.clock, parts.route.timeouts.total, shared.redaction)
