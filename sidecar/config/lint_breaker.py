"""Breaker settings that contradict themselves, their timeouts, or their purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.config.problem import Finding
from sidecar.config.units import show_duration, show_statuses
from sidecar.core.config import BreakerMode, CountWindow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.config import BreakerSettings, RouteConfig

UPSTREAM_4XX = frozenset({408, 425, 429})
"""Client-error codes that can be the upstream's doing."""


def breaker_findings(route: RouteConfig) -> Iterator[Finding]:
    """What is wrong with the circuit of `route`."""
    if route.breaker.mode is BreakerMode.OFF:
        return
    for setting, message, hint in _contradictions(route):
        yield Finding("route", route.name, f"breaker.{setting}" if setting else "breaker", message, hint)


def _contradictions(route: RouteConfig) -> Iterator[tuple[str, str, str]]:
    yield from _thresholds(route.breaker)
    yield from _window(route.breaker)
    yield from _slowness(route)
    yield from _open_period(route)
    yield from _probes(route.breaker)
    yield from _statuses(route.breaker)


def _thresholds(breaker: BreakerSettings) -> Iterator[tuple[str, str, str]]:
    if breaker.failure_threshold is None and breaker.failure_rate is None and breaker.slow_rate is None:
        hint = "write failure_threshold: 5, or mode: off"
        yield "", "this circuit can never open: failure_threshold, failure_rate and slow_rate are all off", hint


def _window(breaker: BreakerSettings) -> Iterator[tuple[str, str, str]]:
    rated = [name for name in ("failure_rate", "slow_rate") if getattr(breaker, name) is not None]
    window = breaker.window
    if rated and isinstance(window, CountWindow) and window.requests < breaker.minimum_requests:
        message = (
            f"{' and '.join(rated)} can never trip: a window of {window.requests} requests "
            f"never holds minimum_requests {breaker.minimum_requests}"
        )
        yield "minimum_requests", message, f"write minimum_requests: {window.requests} or less, or a larger window"


def _slowness(route: RouteConfig) -> Iterator[tuple[str, str, str]]:
    limit = route.timeouts.total or route.timeouts.first_byte
    if route.breaker.slow_rate is not None and route.breaker.slow_after >= limit:
        message = (
            f"slow_rate counts timeouts only: slow_after {show_duration(route.breaker.slow_after)} "
            f"is not below the request timeout {show_duration(limit)}"
        )
        yield (
            "slow_after",
            message,
            f"write slow_after: {show_duration(limit / 4)}, or another duration below the timeout",
        )


def _open_period(route: RouteConfig) -> Iterator[tuple[str, str, str]]:
    breaker, limit = route.breaker, route.timeouts.total or route.timeouts.first_byte
    if breaker.open_duration < limit:
        name = "total" if route.timeouts.total else "first_byte"
        message = (
            f"open_duration {show_duration(breaker.open_duration)} is shorter than the request timeout "
            f"(timeouts.{name} {show_duration(limit)}): requests from before the trip are still waiting when it ends"
        )
        yield "open_duration", message, f"write open_duration: {show_duration(limit)} or more, or a shorter timeout"
    if breaker.backoff.max < breaker.open_duration:
        message = (
            f"backoff.max {show_duration(breaker.backoff.max)} is shorter than "
            f"open_duration {show_duration(breaker.open_duration)}: the period is cut to it"
        )
        yield "backoff.max", message, f"write max: {show_duration(breaker.open_duration)} or more"


def _probes(breaker: BreakerSettings) -> Iterator[tuple[str, str, str]]:
    if breaker.half_open_probes == 0:
        message = (
            f"half_open_probes 0 admits no probe, so success_threshold {breaker.success_threshold} "
            "would never be reached; 1 is used"
        )
        yield "half_open_probes", message, "write half_open_probes: 1"


def _statuses(breaker: BreakerSettings) -> Iterator[tuple[str, str, str]]:
    healthy = frozenset(code for code in breaker.failures if code < 400)
    blamed = frozenset(code for code in breaker.failures if 400 <= code < 500) - UPSTREAM_4XX
    hint = f"write failures: [{_listed(breaker.failures - healthy - blamed) or '500-599'}]"
    if healthy:
        yield "failures", f"failures contains {_listed(healthy)}: a healthy upstream would open the circuit", hint
    if blamed:
        message = f"failures contains {_listed(blamed)}: a client's mistake would open the circuit for everyone"
        yield "failures", message, hint
    if both := breaker.failures & breaker.ignore:
        message = f"{_listed(both)} is in failures and in ignore: ignore wins"
        yield "ignore", message, "keep it in one of the two"


def _listed(codes: frozenset[int]) -> str:
    return ", ".join(show_statuses(codes))
