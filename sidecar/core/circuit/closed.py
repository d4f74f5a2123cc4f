"""A closed circuit: what it remembers of its calls, and when that is enough to open it (breaker.md 3–5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.core.circuit.explanation import SAMPLES_KEPT, Cause, Sample, State, WindowView, share, span
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Refusal
from sidecar.core.circuit.window import RollingWindow, new_window, refitted
from sidecar.core.config import BreakerSettings, CountWindow, TimeWindow, Window

if TYPE_CHECKING:
    from sidecar.core.circuit.permit import Describe, Permit

_SUCCESS = Outcome.SUCCESS
_FAILURE = Outcome.FAILURE
RAMPING = Refusal(State.CLOSED, "the circuit has just closed and admits a growing share of requests")


@dataclass(frozen=True, slots=True)
class Crossing:
    """A threshold reached: which, the numbers in words, and the requests that made them."""

    cause: Cause
    detail: str
    window: WindowView
    samples: tuple[Sample, ...]


class RecentCalls:
    """The rolling window, the consecutive failures beside it, and samples of what failed."""

    __slots__ = ("_samples", "_settings", "consecutive", "window")

    def __init__(self, settings: BreakerSettings, now: float) -> None:
        self._settings = settings
        self._samples: list[tuple[Permit, int, Sample]] = []
        self.window: RollingWindow = new_window(settings.window, now)
        self.consecutive = 0

    def record(
        self, permit: Permit, outcome: Outcome, now: float, *, slow: bool, describe: Describe | None
    ) -> Crossing | None:
        """Count a call that ended in success, failure or throttled; returns what it crossed."""
        window = self.window
        failed = outcome is not _SUCCESS
        if permit.mark is None:
            mark = window.add(now, failed=failed, slow=slow)
        else:
            mark = self._record_marked(permit.mark, now, failed=failed)
        if not failed:
            self.consecutive = 0
        elif outcome is _FAILURE:
            self.consecutive += 1
        if describe is not None and (failed or slow):
            self._keep(permit, mark, describe())
        if window.failures or window.slow:
            return self.crossing(now)
        return None

    def hangs(self, permit: Permit, now: float, describe: Describe | None) -> Crossing | None:
        """Count a call as slow that has not ended; what it ends as is recorded later, its slowness no more."""
        mark = self.window.add(now, failed=False, slow=True)
        permit.mark = (self.window, mark)
        if describe is not None:
            self._keep(permit, mark, describe())
        return self.crossing(now)

    def clear(self) -> None:
        """Forget everything."""
        self.window.clear()
        self.consecutive = 0
        self._samples.clear()

    def reconfigure(self, settings: BreakerSettings, now: float) -> None:
        """Go on under changed thresholds with what fits of the window."""
        if settings.window != self._settings.window:
            self.window = refitted(self.window, settings.window, now)
            self._samples.clear()
        self._settings = settings

    def view(self, now: float) -> WindowView:
        """The numbers at `now`; changes nothing."""
        return self.window.view(now, self.consecutive)

    def _record_marked(self, mark: tuple[RollingWindow, int], now: float, *, failed: bool) -> int:
        """The window has the call already, unless it aged out or was replaced: then it is a call of its own kind."""
        window, place = mark
        held = window is self.window and (window.amend(place, now) if failed else window.holds(place, now))
        return place if held else self.window.add(now, failed=failed, slow=False)

    def _keep(self, permit: Permit, mark: int, sample: Sample) -> None:
        """One sample per request: what it ended as replaces that it was slow in flight."""
        others = [kept for kept in self._samples if kept[0] is not permit]
        self._samples = [*others[1 - SAMPLES_KEPT :], (permit, mark, sample)]

    def crossing(self, now: float) -> Crossing | None:
        """The threshold that the calls have reached, if any."""
        cause = self._crossed()
        if cause is None:
            return None
        view = self.view(now)
        if cause is Cause.FAILURE_THRESHOLD:
            kept = self._samples[-self.consecutive :]
        else:
            kept = [kept for kept in self._samples if self.window.holds(kept[1], now)]
        return Crossing(cause, _in_words(cause, view, self._settings), view, tuple(sample for *_, sample in kept))

    def _crossed(self) -> Cause | None:
        """The first threshold reached, in the order of breaker.md 3."""
        settings, window = self._settings, self.window
        if settings.failure_threshold is not None and self.consecutive >= max(1, settings.failure_threshold):
            return Cause.FAILURE_THRESHOLD
        if window.requests < settings.minimum_requests:
            return None
        if _reached(window.failures, window.requests, settings.failure_rate):
            return Cause.FAILURE_RATE
        if _reached(window.slow, window.requests, settings.slow_rate):
            return Cause.SLOW_RATE
        return None


class Ramp:
    """The way back after closing (`breaker.ramp`): the admitted share of requests grows from none to all.

    It admits evenly, not by chance: each request adds the present share to a credit, an admitted one costs 1.
    """

    __slots__ = ("_credit", "_duration", "_started")

    def __init__(self, started: float, duration: float) -> None:
        self._started = started
        self._duration = duration
        self._credit = 0.0

    def over(self, now: float) -> bool:
        """Whether all requests pass again."""
        return now >= self._started + self._duration

    def refusal(self, now: float) -> Refusal | None:
        """What the next request is refused with when it exceeds the share; changes nothing."""
        return RAMPING if not self.over(now) and self._credit + self.share(now) < 1.0 else None

    def count(self, now: float, *, refused: bool) -> None:
        """Take note of a request that passed or did not."""
        self._credit += self.share(now) - (0.0 if refused else 1.0)

    def share(self, now: float) -> float:
        """The share 0–1 at `now`."""
        return min(max((now - self._started) / self._duration, 0.0), 1.0)


def _reached(part: int, whole: int, rate: float | None) -> bool:
    """By division: 7 of 100 must reach 7 %, and 0.07 × 100 is more than 7."""
    return rate is not None and part > 0 and part / whole >= rate


def _in_words(cause: Cause, view: WindowView, settings: BreakerSettings) -> str:
    if cause is Cause.FAILURE_THRESHOLD:
        return f"{view.consecutive_failures} consecutive failures, failure_threshold is {settings.failure_threshold}"
    requests = f"{view.requests} requests {_extent(settings.window)}"
    if cause is Cause.FAILURE_RATE:
        limit = share(settings.failure_rate or 0.0)
        return f"{view.failures} of {requests} failed ({share(view.failure_rate)}), failure_rate is {limit}"
    took = f"took longer than {span(settings.slow_after)} ({share(view.slow_rate)})"
    return f"{view.slow} of {requests} {took}, slow_rate is {share(settings.slow_rate or 0.0)}"


def _extent(window: Window) -> str:
    match window:
        case TimeWindow(seconds):
            return f"in the last {span(seconds)}"
        case CountWindow(requests):
            return f"among the last {requests}"
