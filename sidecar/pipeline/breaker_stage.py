"""The circuit around an upstream: refuses what it must, and tells it exactly once how each admitted request ended."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from sidecar.core.circuit.backoff import parse_retry_after
from sidecar.core.circuit.permit import Refusal, Role
from sidecar.core.explanation import Sample
from sidecar.core.http import SAFE_METHODS
from sidecar.core.outcome import Outcome, of_status
from sidecar.pipeline.errors import CircuitOpen, EarlyAnswerCut, ProxyError
from sidecar.pipeline.exchange import BodyEnd
from sidecar.pipeline.ready_answer import Grounds, Refused

if TYPE_CHECKING:
    from sidecar.core.breaker import Circuit
    from sidecar.core.circuit.permit import Permit
    from sidecar.core.http import RequestHead, ResponseHead
    from sidecar.pipeline.exchange import End, Request, Response
    from sidecar.pipeline.ports import Clock, Handler

SWITCHING_PROTOCOLS = 101
EVENT_STREAM = b"text/event-stream"
ASKS_TO_WAIT = frozenset({429, 503})
"""Statuses whose Retry-After is about the upstream's health (RFC 9110 §15.6.4, RFC 6585 §4)."""
_SUCCESS = Outcome.SUCCESS
LONGEST_PATH = 200
"""Octets of a path in a sample."""


class BreakerStage:
    """A permit is settled when the response body ends, on every path; an endless body settles at its head."""

    __slots__ = ("_circuit", "_clock", "_inner", "_monotonic")

    def __init__(self, inner: Handler, circuit: Circuit, clock: Clock) -> None:
        self._inner = inner
        self._circuit = circuit
        self._clock = clock
        self._monotonic = clock.monotonic

    def recall(self, head: RequestHead, now: float) -> Refused | None:
        """See `Memory`: what `answer_now` would raise."""
        if head.method == "HEAD":
            return None
        safe = head.method in SAFE_METHODS
        refusal = self._circuit.refuse(now, safe=safe)
        if refusal is None:
            return None
        return Refused(_circuit_open(refusal), Grounds(self._circuit, refusal=refusal, safe=safe))

    def answer_now(self, request: Request) -> Response | None:
        """What the inner handler has at hand. Raises CircuitOpen when the circuit certainly refuses."""
        refusal = self._circuit.refuse(self._monotonic(), safe=request.head.method in SAFE_METHODS)
        if refusal is not None:
            raise _circuit_open(refusal)
        return self._inner.answer_now(request)

    async def answer(self, request: Request) -> Response:
        """The upstream's answer. Raises CircuitOpen, or what the inner handler raises."""
        circuit = self._circuit
        now = self._monotonic()
        describe = partial(self._sample, request, now, None, None) if circuit.watches_slow else None
        permit = circuit.ask(now, safe=request.head.method in SAFE_METHODS, describe=describe)
        if isinstance(permit, Refusal):
            raise _circuit_open(permit)
        if permit.role is Role.PROBE:
            self._watch_client(request, permit)
        try:
            response = await self._inner.answer(request)
        except ProxyError as error:
            self._settle_error(request, permit, error)
            raise
        except asyncio.CancelledError:
            circuit.settle(permit, Outcome.CANCELLED, self._monotonic())
            raise
        except BaseException:
            circuit.settle(permit, Outcome.NOT_SENT, self._monotonic())
            raise
        body = response.body
        if isinstance(body, bytes) or _is_endless(response.head):
            self._settle_status(request, permit, response.head)
        else:
            circuit.answered(permit, self._monotonic())
            body.on_end(partial(self._body_ended, request, permit, response.head))
        return response

    def _watch_client(self, request: Request, permit: Permit) -> None:
        """A probe whose client has closed its side, and may have left, keeps no other from probing."""
        if request.half_closed:
            self._circuit.step_aside(permit)
        else:
            request.on_half_close = partial(self._circuit.step_aside, permit)

    def _body_ended(self, request: Request, permit: Permit, head: ResponseHead, end: End) -> None:
        if isinstance(end, ProxyError) and not isinstance(end, EarlyAnswerCut):
            self._settle_error(request, permit, end)
        elif end is not BodyEnd.ABANDONED:
            self._settle_status(request, permit, head)
        else:
            self._circuit.settle(permit, Outcome.CANCELLED, self._monotonic())

    def _settle_status(self, request: Request, permit: Permit, head: ResponseHead) -> None:
        circuit = self._circuit
        outcome = of_status(head.status, circuit.settings)
        if outcome is _SUCCESS and not circuit.watches_slow:
            circuit.settle(permit, outcome, self._monotonic())
            return
        describe = partial(self._sample, request, permit.started, head.status, None)
        circuit.settle(permit, outcome, self._monotonic(), describe=describe, retry_after=self._asked_to_wait(head))

    def _settle_error(self, request: Request, permit: Permit, error: ProxyError) -> None:
        describe = partial(self._sample, request, permit.started, None, error.reason)
        self._circuit.settle(permit, error.outcome, self._monotonic(), describe=describe)

    def _asked_to_wait(self, head: ResponseHead) -> float | None:
        if head.status not in ASKS_TO_WAIT:
            return None
        value = head.headers.get(b"retry-after")
        return None if value is None else parse_retry_after(value, self._clock.wall())

    def _sample(self, request: Request, started: float, status: int | None, error: str | None) -> Sample:
        head = request.head
        return Sample(
            at=self._clock.wall(),
            request_id=request.request_id.decode("latin-1"),
            method=head.method,
            path=head.target.partition(b"?")[0][:LONGEST_PATH].decode("latin-1"),
            status=status,
            error=error,
            duration=self._monotonic() - started,
        )


def _is_endless(head: ResponseHead) -> bool:
    """Whether waiting for the body's end would be waiting for ever: an upgrade, or server-sent events."""
    if head.status == SWITCHING_PROTOCOLS:
        return True
    content_type = head.headers.get(b"content-type")
    return content_type is not None and content_type.partition(b";")[0].strip(b" \t").lower() == EVENT_STREAM


def _circuit_open(refusal: Refusal) -> CircuitOpen:
    after = refusal.retry_after
    return CircuitOpen(f"{refusal.why}; ask again in {after} s", retry_after=float(after))
