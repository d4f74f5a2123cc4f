"""How late the event loop is, measured by a timer of its own."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

INTERVAL = 0.5
PERIOD = 20
"""Measurements over which the longest delay counts: ten seconds, so that scrapes see what happened between them."""


class LoopLag:
    """How late the event loop is: the longest delay of a timer within the last ten seconds.

    `call_later` is the loop's; `monotonic` its time.
    """

    def __init__(
        self, call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle], monotonic: Callable[[], float]
    ) -> None:
        self._call_later = call_later
        self._monotonic = monotonic
        self._delays: deque[float] = deque(maxlen=PERIOD)
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def longest(self) -> float:
        """That delay, seconds; 0 before the first measurement."""
        return max(self._delays, default=0.0)

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._monotonic() + INTERVAL
        self._timer = self._call_later(INTERVAL, self._measure)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _measure(self) -> None:
        self._delays.append(max(0.0, self._monotonic() - self._due))
        self.start()
