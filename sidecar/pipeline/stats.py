"""What is counted, in plain numbers on the object it is about; `adapters/metrics.py` names and exposes it at scrape
time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TypeAlias

from sidecar.core.http import STANDARD_METHODS
from sidecar.pipeline.store_decisions import StoreDecisions

OTHER_METHOD = "_OTHER"
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of every duration histogram, seconds."""

Counts: TypeAlias = "defaultdict[str, int]"


class Histogram:
    """Counts per bucket (one more than the bounds: the last is +Inf) and the sum of what was observed."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def place(self, value: float) -> int:
        """The bucket of `value`; one on a bound belongs to that bucket."""
        return bisect_left(self.bounds, value)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Tally:
    """Answers from memory that are counted alike: what one of them adds is added here, and to the `durations` if it is
    no brief one.
    """

    __slots__ = ("_durations", "ages", "brief", "seconds", "times")

    def __init__(self, durations: Histogram) -> None:
        self._durations = durations
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.times = self.brief = self.ages = 0
        self.seconds = 0.0

    def add(self, duration: float, age: int) -> None:
        """Count one answer of that age, seconds."""
        self.times += 1
        self.ages += age
        if duration <= BOUNDS[0]:
            self.brief += 1
            self.seconds += duration
        else:
            self._durations.observe(duration)


class RouteStats:
    """One route's requests. `requests` is keyed (method, status, source); methods outside the standard ones are
    `_OTHER`. What memory answers is counted in tallies first: who reads gets the sum.
    """

    __slots__ = ("_cache_results", "_durations", "_requests", "_served_age", "_tallies", "in_flight", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.in_flight = 0
        self._requests: defaultdict[tuple[str, int, str], int] = defaultdict(int)
        self._durations = Histogram()
        self._cache_results: Counts = defaultdict(int)
        self._served_age = Histogram((1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0))
        self._tallies: dict[tuple[str, int, str, str, int], Tally] = {}

    @property
    def requests(self) -> defaultdict[tuple[str, int, str], int]:
        """Requests that are over, by method, status and source."""
        self._sum_up()
        return self._requests

    @property
    def durations(self) -> Histogram:
        """How long they took, seconds."""
        self._sum_up()
        return self._durations

    @property
    def cache_results(self) -> Counts:
        """What the cache made of them."""
        self._sum_up()
        return self._cache_results

    @property
    def served_age(self) -> Histogram:
        """How old what it answered was, seconds."""
        self._sum_up()
        return self._served_age

    def count(self, method: str, status: int, source: str, duration: float) -> None:
        """Count a request that is over; `duration` in seconds."""
        self._requests[method if method in STANDARD_METHODS else OTHER_METHOD, status, source] += 1
        self._durations.observe(duration)

    def count_result(self, result: str) -> None:
        """Count what the cache made of a request."""
        self._cache_results[result] += 1

    def count_hit(self, result: str, age: int) -> None:
        """The same for an answer from the cache, of that age in seconds."""
        self._cache_results[result] += 1
        self._served_age.observe(age)

    def tally(self, method: str, status: int, source: str, result: str = "", age: int = 0) -> Tally:
        """Where answers from memory like this one are to be counted, instead of with `count` and `count_hit`. `result`
        is "" when the cache has no part in it.
        """
        method = method if method in STANDARD_METHODS else OTHER_METHOD
        alike = (method, status, source, result, self._served_age.place(age))
        tally = self._tallies.get(alike)
        if tally is None:
            tally = self._tallies[alike] = Tally(self._durations)
        return tally

    def _sum_up(self) -> None:
        for (method, status, source, result, place), tally in self._tallies.items():
            if tally.times:
                self._requests[method, status, source] += tally.times
                self._durations.counts[0] += tally.brief
                self._durations.sum += tally.seconds
                if result:
                    self._cache_results[result] += tally.times
                    self._served_age.counts[place] += tally.times
                    self._served_age.sum += tally.ages
                tally.clear()


class UpstreamStats:
    """One upstream's attempts and connections. `attempts` is keyed by result: `success` or an error's reason."""

    __slots__ = ("active", "attempt_durations", "attempts", "idle", "name", "opened")

    def __init__(self, name: str) -> None:
        self.name = name
        self.attempts: Counts = defaultdict(int)
        self.attempt_durations = Histogram()
        self.active = 0
        self.idle = 0
        self.opened = 0


class ListenerStats:
    """The proxy listener's client connections; `rejected` is keyed by an error's reason."""

    __slots__ = ("connections", "rejected", "shed", "tunnels")

    def __init__(self) -> None:
        self.connections = 0
        self.tunnels = 0
        self.shed = 0
        self.rejected: Counts = defaultdict(int)


class StoreStats:
    """The cache store's contents now, what it dropped by reason (`size`, `variants`, `replaced`, `purged`, …), and why
    answers came into it or not.
    """

    __slots__ = ("bytes", "decisions", "entries", "evictions")

    def __init__(self) -> None:
        self.entries = 0
        self.bytes = 0
        self.evictions: Counts = defaultdict(int)
        self.decisions = StoreDecisions()


class ProcessStats:
    """The process as a whole. `reloads` is keyed by result (`success`, `error`); `loop_lag` is the longest delay of
    the event loop in the last measuring period, seconds.
    """

    __slots__ = ("draining", "last_reload_ok", "loop_lag", "reloads")

    def __init__(self) -> None:
        self.draining = False
        self.last_reload_ok = True
        self.loop_lag = 0.0
        self.reloads: Counts = defaultdict(int)
