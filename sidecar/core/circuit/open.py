"""An open circuit: for how long (breaker.md 16), and what it answers meanwhile (17)."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from sidecar.core.circuit.explanation import State
from sidecar.core.circuit.permit import Refusal
from sidecar.core.http.date import parse_http_date, year_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.config import BreakerSettings

LONGEST_DELAY = 10**9
"""Seconds; what a longer Retry-After counts as."""
LONGEST_DIGITS = 9
DIGITS = b"0123456789"


class OpenPeriod:
    """One time of being open, until `until`, with the reason in words; neither changes while it lasts.

    So everybody who asks within the same second is refused with the same object.
    """

    __slots__ = ("_refusal", "_why", "until")

    def __init__(self, until: float, why: str) -> None:
        self.until = until
        self._why = why
        self._refusal: Refusal | None = None

    def refusal(self, now: float) -> Refusal | None:
        """What a request is refused with; None once the period is over."""
        if now >= self.until:
            return None
        left = ceil(self.until - now)
        refusal = self._refusal
        if refusal is None or refusal.retry_after != left:
            refusal = self._refusal = Refusal(State.OPEN, f"the circuit is open: {self._why}", left)
        return refusal


def period_length(
    settings: BreakerSettings, reopenings: int, random: Callable[[], float], asked: float | None
) -> float:
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
