"""How many requests may come in a time: a token bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.core.config import RateLimit


class TokenBucket:
    """Holds `burst` tokens at most, and is full in the beginning. Times are monotonic seconds.

    What flowed in is reckoned when somebody asks: nothing happens between two requests.
    """

    __slots__ = ("_at", "_most", "_per_second", "_tokens")

    def __init__(self, limit: RateLimit, now: float) -> None:
        self._at = now
        self._tokens = float("inf")
        self._per_second = 0.0
        self.configure(limit, now)

    def configure(self, limit: RateLimit, now: float) -> None:
        """From `now` on fill and hold as `limit` says; the tokens that are there stay, as far as they fit."""
        if self._tokens != float("inf"):
            self._tokens += (now - self._at) * self._per_second
            self._at = now
        self._per_second = limit.rate.count / limit.rate.seconds
        self._most = max(1.0, self._per_second) if limit.burst is None else float(limit.burst)
        self._tokens = min(self._tokens, self._most)

    def take(self, now: float) -> float:
        """Take a token: 0. Where there is none: the seconds until there will be one."""
        tokens = self._tokens + (now - self._at) * self._per_second
        if tokens > self._most:
            tokens = self._most
        self._at = now
        if tokens >= 1.0:
            self._tokens = tokens - 1.0
            return 0.0
        self._tokens = tokens
        return (1.0 - tokens) / self._per_second
