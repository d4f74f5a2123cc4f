"""Deadlines, bulkheads and rate limits that cannot do what they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.config.problem import Finding, Severity
from sidecar.config.units import show_duration
from sidecar.core.config import BulkheadSettings
from sidecar.core.http.forwarding import FORBIDDEN_TRAILERS
from sidecar.core.retry import ATTEMPT_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.config import RouteConfig

OWN_FIELDS = frozenset({ATTEMPT_KEY, b"x-request-id"})
"""Fields of a request that the sidecar itself reads or writes."""
NEEDS_A_LIMIT = ("max_queue", "adaptive", "priority", "observe")
"""Settings of a bulkhead that mean nothing where any number of requests may be under way."""


def limit_findings(route: RouteConfig) -> Iterator[Finding]:
    """What is wrong with the limits of `route`."""
    yield from _deadline_findings(route)
    bulkhead = route.bulkhead
    if bulkhead is None:
        return
    for setting, message, hint in _bulkhead_contradictions(route, bulkhead):
        yield Finding("route", route.name, f"bulkhead.{setting}", message, hint)


def _deadline_findings(route: RouteConfig) -> Iterator[Finding]:
    field = route.timeouts.deadline_header
    if field is not None and field.encode() in FORBIDDEN_TRAILERS | OWN_FIELDS:
        message = f"deadline_header {field} has another meaning: a deadline would be read out of it"
        hint = "write deadline_header: x-request-timeout-ms, or a field of your own"
        yield Finding("route", route.name, "timeouts.deadline_header", message, hint, Severity.ERROR)


def _bulkhead_contradictions(route: RouteConfig, bulkhead: BulkheadSettings) -> Iterator[tuple[str, str, str]]:
    unlimited, usual, total = bulkhead.max_concurrent is None, BulkheadSettings(), route.timeouts.total
    for name in NEEDS_A_LIMIT:
        if unlimited and getattr(bulkhead, name) != getattr(usual, name):
            message = f"{name} has no effect: without max_concurrent any number of requests may be under way"
            yield name, message, "write max_concurrent: 100, or another number"
    if unlimited:
        return
    if bulkhead.max_queue and total is not None and bulkhead.queue_timeout >= total:
        wait = show_duration(bulkhead.queue_timeout)
        message = f"queue_timeout {wait} is never reached: timeouts.total is {show_duration(total)}"
        yield "queue_timeout", message, f"write queue_timeout: {show_duration(total / 4)}, or another part of total"
    if bulkhead.priority is not None and not bulkhead.max_queue:
        message = "priority has no effect without a queue: a request that finds no free slot is refused at once"
        yield "priority", message, "write max_queue: 50, or another number"
    if bulkhead.adaptive and bulkhead.max_concurrent == 1:
        yield "adaptive", "adaptive has no effect: there is nothing between 1 and max_concurrent 1", "raise one of them"
