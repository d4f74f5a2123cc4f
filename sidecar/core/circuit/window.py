"""Rolling windows over the last calls (breaker.md 18–20): integers only, O(1) per call and per read at any size.

A window knows calls, failures and slow calls; what that means for a circuit is decided elsewhere. `add` returns a
mark of the call, by which `amend` can turn it into a failed one while the window still holds it.
"""

from __future__ import annotations

from typing import Protocol, assert_never

from sidecar.core.circuit.explanation import WindowView
from sidecar.core.config import CountWindow, TimeWindow, Window

BUCKETS = 10
MICROSECONDS = 1_000_000
SHORTEST_BUCKET = 100_000
"""Microseconds."""
FAILED = 1
SLOW = 2


class RollingWindow(Protocol):
    """What a circuit records into. The three totals are as of the latest call of any method but `view`."""

    requests: int
    failures: int
    slow: int

    def add(self, now: float, *, failed: bool, slow: bool) -> int:
        """Record one call; returns its mark."""

    def holds(self, mark: int, now: float) -> bool:
        """Whether the call of `mark` still counts."""

    def amend(self, mark: int, now: float) -> bool:
        """Let the call of `mark` count as failed; False when it no longer counts at all."""

    def clear(self) -> None:
        """Forget every call. Marks given before mean nothing any more."""

    def view(self, now: float, consecutive_failures: int = 0) -> WindowView:
        """The totals at `now`; changes nothing."""


class CallsWindow:
    """The last `size` calls, one byte each, allocated as they come."""

    __slots__ = ("_calls", "_cleared", "_count", "_size", "failures", "requests", "slow")

    def __init__(self, size: int) -> None:
        self._size = size
        self._calls = bytearray()
        self._count = 0
        self._cleared = 0
        self.requests = self.failures = self.slow = 0

    def add(self, now: float, *, failed: bool, slow: bool) -> int:  # noqa: ARG002 - the port's signature; calls do not age
        """Record one call, in place of the oldest when full."""
        call = (FAILED if failed else 0) | (SLOW if slow else 0)
        if self.requests < self._size:
            self._calls.append(call)
            self.requests += 1
        else:
            place = (self._count - self._cleared) % self._size
            evicted = self._calls[place]
            self._calls[place] = call
            if evicted:
                self.failures -= evicted & FAILED
                self.slow -= evicted >> 1
        if call:
            self.failures += failed
            self.slow += slow
        self._count += 1
        return self._count - 1

    def holds(self, mark: int, now: float) -> bool:  # noqa: ARG002 - the port's signature; calls do not age
        """Whether fewer than `size` calls came after it."""
        return mark >= self._cleared and mark >= self._count - self._size

    def amend(self, mark: int, now: float) -> bool:
        """Let the call count as failed."""
        if not self.holds(mark, now):
            return False
        place = (mark - self._cleared) % self._size
        self.failures += not self._calls[place] & FAILED
        self._calls[place] |= FAILED
        return True

    def clear(self) -> None:
        """Forget every call."""
        self._calls = bytearray()
        self._cleared = self._count
        self.requests = self.failures = self.slow = 0

    def view(self, now: float, consecutive_failures: int = 0) -> WindowView:  # noqa: ARG002 - the port's signature
        """The totals."""
        return WindowView(self.requests, self.failures, self.slow, consecutive_failures)

    def resized(self, size: int) -> CallsWindow:
        """A window of another size with the youngest calls that fit."""
        window = CallsWindow(size)
        if not self.requests:
            return window
        oldest = (self._count - self._cleared) % self.requests
        for call in (self._calls[oldest:] + self._calls[:oldest])[-size:]:
            window.add(0.0, failed=bool(call & FAILED), slow=bool(call & SLOW))
        return window


class TimedWindow:
    """The calls of the last `seconds`, in ten buckets (fewer when they would be shorter than 100 ms).

    Bucket edges are whole microseconds, so that a call on an edge belongs to the new bucket whatever the float.
    Each bucket is identified by its epoch: its start divided by the bucket's width.
    """

    __slots__ = ("_buckets", "_calls", "_edge", "_epoch", "_failed", "_slow", "_width", "failures", "requests", "slow")

    def __init__(self, seconds: float, now: float) -> None:
        span = max(round(seconds * MICROSECONDS), SHORTEST_BUCKET)
        self._width = max(-(-span // BUCKETS), SHORTEST_BUCKET)
        self._buckets = -(-span // self._width)
        self._epoch = self._epoch_of(now)
        self._edge = (self._epoch + 1) * self._width / MICROSECONDS
        self._calls = [0] * self._buckets
        self._failed = [0] * self._buckets
        self._slow = [0] * self._buckets
        self.requests = self.failures = self.slow = 0

    def add(self, now: float, *, failed: bool, slow: bool) -> int:
        """Record one call in the bucket of `now`."""
        if now >= self._edge:
            self._advance(now)
        place = self._epoch % self._buckets
        self.requests += 1
        self._calls[place] += 1
        if failed:
            self.failures += 1
            self._failed[place] += 1
        if slow:
            self.slow += 1
            self._slow[place] += 1
        return self._epoch

    def holds(self, mark: int, now: float) -> bool:
        """Whether its bucket has not been evicted."""
        if now >= self._edge:
            self._advance(now)
        return self._epoch - mark < self._buckets

    def amend(self, mark: int, now: float) -> bool:
        """Let a call of the marked bucket count as failed."""
        place = mark % self._buckets
        if not self.holds(mark, now) or self._failed[place] >= self._calls[place]:
            return False
        self.failures += 1
        self._failed[place] += 1
        return True

    def clear(self) -> None:
        """Forget every call."""
        for place in range(self._buckets):
            self._calls[place] = self._failed[place] = self._slow[place] = 0
        self.requests = self.failures = self.slow = 0

    def view(self, now: float, consecutive_failures: int = 0) -> WindowView:
        """The totals without the buckets that have aged out since the latest call."""
        requests, failures, slow = self.requests, self.failures, self.slow
        for place in self._outdated(self._epoch_of(now)):
            requests -= self._calls[place]
            failures -= self._failed[place]
            slow -= self._slow[place]
        return WindowView(requests, failures, slow, consecutive_failures)

    def resized(self, seconds: float, now: float) -> TimedWindow:
        """A window of another span with the buckets that lie within both."""
        if now >= self._edge:
            self._advance(now)
        window = TimedWindow(seconds, now)
        for epoch in range(self._epoch - self._buckets + 1, self._epoch + 1):
            place = epoch % self._buckets
            same = epoch * self._width // window._width
            window.include(same, self._calls[place], self._failed[place], self._slow[place])
        return window

    def include(self, epoch: int, calls: int, failed: int, slow: int) -> None:
        """Count a bucket's worth of calls, if the window still holds that epoch."""
        if not 0 <= self._epoch - epoch < self._buckets:
            return
        place = epoch % self._buckets
        self._calls[place] += calls
        self._failed[place] += failed
        self._slow[place] += slow
        self.requests += calls
        self.failures += failed
        self.slow += slow

    def _epoch_of(self, now: float) -> int:
        return round(now * MICROSECONDS) // self._width

    def _outdated(self, epoch: int) -> range:
        """The places to be evicted when time moves on to `epoch`: at most all of them, however long that took."""
        steps = min(max(epoch - self._epoch, 0), self._buckets)
        first = (self._epoch + 1) % self._buckets
        return range(first - self._buckets, first - self._buckets + steps)

    def _advance(self, now: float) -> None:
        epoch = self._epoch_of(now)
        for place in self._outdated(epoch):
            self.requests -= self._calls[place]
            self.failures -= self._failed[place]
            self.slow -= self._slow[place]
            self._calls[place] = self._failed[place] = self._slow[place] = 0
        self._epoch = max(epoch, self._epoch)
        self._edge = (self._epoch + 1) * self._width / MICROSECONDS


def new_window(settings: Window, now: float) -> RollingWindow:
    """An empty window."""
    match settings:
        case CountWindow(requests):
            return CallsWindow(requests)
        case TimeWindow(seconds):
            return TimedWindow(seconds, now)
        case _:
            assert_never(settings)


def refitted(window: RollingWindow, settings: Window, now: float) -> RollingWindow:
    """A window for changed settings with what fits of the old one; between calls and time nothing translates."""
    if isinstance(window, CallsWindow) and isinstance(settings, CountWindow):
        return window.resized(settings.requests)
    if isinstance(window, TimedWindow) and isinstance(settings, TimeWindow):
        return window.resized(settings.seconds, now)
    return new_window(settings, now)
