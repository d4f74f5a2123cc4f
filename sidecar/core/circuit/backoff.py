"""How long a circuit stays open (breaker.md 16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.http_date import parse_http_date, year_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.config import BreakerSettings

LONGEST_DELAY = 10**9
"""Seconds; what a longer Retry-After counts as."""
LONGEST_DIGITS = 9
DIGITS = b"0123456789"


def open_period(settings: BreakerSettings, reopenings: int, random: Callable[[], float], asked: float | None) -> float:
    """Seconds of the open period number `reopenings` (0: the first), by `random` in 0–1.

    `asked` is the upstream's own Retry-After in seconds, which lengthens the period but not beyond the maximum.
    """
    longest = settings.backoff.max
    period = min(_grown(settings, reopenings), longest)
    period *= 1 + settings.backoff.jitter * (2 * random() - 1)
    return min(max(period, asked or 0.0), longest)


def _grown(settings: BreakerSettings, reopenings: int) -> float:
    try:
        return settings.open_duration * settings.backoff.multiplier**reopenings
    except OverflowError:
        return settings.backoff.max


def parse_retry_after(value: bytes, wall: float) -> float | None:
    """Seconds from `wall` that a Retry-After field asks for (RFC 9110 §10.2.3); None when it is invalid or past."""
    value = value.strip(b" \t")
    if value and not value.strip(DIGITS):
        return float(value) if len(value) <= LONGEST_DIGITS else float(LONGEST_DELAY)
    date = parse_http_date(value, year_of(wall))
    if date is None or date <= wall:
        return None
    return min(date - wall, float(LONGEST_DELAY))
