"""The way back after closing: the admitted share of requests grows from none to all (`breaker.ramp`)."""

from __future__ import annotations


class Ramp:
    """Admits evenly, not by chance: each request adds the present share to a credit, an admitted one costs 1."""

    __slots__ = ("_credit", "_duration", "_started")

    def __init__(self, started: float, duration: float) -> None:
        self._started = started
        self._duration = duration
        self._credit = 0.0

    def over(self, now: float) -> bool:
        """Whether all requests pass again."""
        return now >= self._started + self._duration

    def refuses(self, now: float) -> bool:
        """Whether the next request exceeds the share; changes nothing."""
        return not self.over(now) and self._credit + self.share(now) < 1.0

    def count(self, now: float, *, refused: bool) -> None:
        """Take note of a request that passed or did not."""
        self._credit += self.share(now) - (0.0 if refused else 1.0)

    def share(self, now: float) -> float:
        """The share 0–1 at `now`."""
        return min(max((now - self._started) / self._duration, 0.0), 1.0)
