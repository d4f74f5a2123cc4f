"""What is counted, in plain numbers on the object it is about; `adapters/metrics.py` names and exposes it at scrape
time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.http.heads import STANDARD_METHODS
from sidecar.core.http.trace_context import RECORDED, RECORDED_DIGITS
from sidecar.core.retry import RecentDurations, RetryBudget
from sidecar.pipeline.store_decisions import StoreDecisions

if TYPE_CHECKING:
    from sidecar.core.bulkhead import Bulkhead
    from sidecar.core.config import BudgetSettings
    from sidecar.core.rate_limit import TokenBucket

OTHER_METHOD = "_OTHER"
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of every duration histogram, seconds."""

OTHER_CODE = "_OTHER"
MOST_UNFORESEEN = 100
"""Label sets of a route's requests besides those that its configuration implies (`possible_series`): an upstream that
answers with ever new statuses does not make ever more series.
"""
EXEMPLAR_EVERY = 0.05
"""Seconds for which a bucket's exemplar stands at least: one is enough, and keeping each would cost every request."""
Counts: TypeAlias = "defaultdict[str, int]"
RequestLabels: TypeAlias = "tuple[str, int | str, str]"
"""Method, status and source."""
Exemplar: TypeAlias = "tuple[bytes, float, float]"
"""A request that stands for a bucket of a histogram: its `traceparent`, not yet checked, its duration in seconds, and
when it was over, in monotonic seconds.
"""


class Histogram:
    """Counts per bucket (one more than the bounds: the last is +Inf) and the sum of what was observed."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value; one on a bound belongs to that bound's bucket."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class RouteStats:
    """One route's requests.

    `requests` counts those that are over, keyed (method, status, source); methods outside the standard ones are
    `_OTHER`, and so are statuses once there are too many. `durations` is how long they took, `served_age` how old the
    answers from the cache were, both in seconds. `exemplars` has a late recorded trace in each bucket of `durations`.
    `cache_results` is keyed by what the cache made of a request, in the words of Cache-Status. `bulkhead_rejected` and
    `bulkhead_observed` (would have been) are keyed by class. `bulkhead` and `bucket` are the limits themselves where
    there are any; they are kept here because they outlive a reload, like what is counted. `fallbacks` and `faults` are
    keyed by the kind that answered, and that was injected.
    """

    __slots__ = (
        "_exemplars_due",
        "bucket",
        "bulkhead",
        "bulkhead_observed",
        "bulkhead_rejected",
        "cache_results",
        "deadline_exceeded",
        "durations",
        "exemplars",
        "fallbacks",
        "faults",
        "in_flight",
        "name",
        "rate_limited",
        "rate_limited_observed",
        "requests",
        "served_age",
        "unforeseen",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.in_flight = 0
        self.requests: dict[RequestLabels, int] = {}
        self.unforeseen = 0
        self.durations = Histogram()
        self.exemplars: dict[int, Exemplar] = {}
        self._exemplars_due = [-inf] * (len(BOUNDS) + 1)
        self.cache_results: Counts = defaultdict(int)
        self.fallbacks: Counts = defaultdict(int)
        self.faults: Counts = defaultdict(int)
        self.served_age = Histogram((1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0))
        self.deadline_exceeded = 0
        self.rate_limited = self.rate_limited_observed = 0
        self.bulkhead_rejected: Counts = defaultdict(int)
        self.bulkhead_observed: Counts = defaultdict(int)
        self.bulkhead: Bulkhead | None = None
        self.bucket: TokenBucket | None = None

    def count(
        self, method: str, status: int, source: str, duration: float, at: float = 0.0, traceparent: bytes | None = None
    ) -> None:
        """Count a request that is over; `duration` in seconds, `at` monotonic."""
        labels = (method if method in STANDARD_METHODS else OTHER_METHOD, status, source)
        try:
            self.requests[labels] += 1
        except KeyError:
            self._count_unforeseen(labels)
        durations = self.durations
        bucket = bisect_left(BOUNDS, duration)
        durations.counts[bucket] += 1
        durations.sum += duration
        if traceparent is not None and at >= self._exemplars_due[bucket] and traceparent[RECORDED] in RECORDED_DIGITS:
            self._exemplars_due[bucket] = at + EXEMPLAR_EVERY
            self.exemplars[bucket] = (traceparent, duration, at)

    def _count_unforeseen(self, labels: RequestLabels) -> None:
        if self.unforeseen < MOST_UNFORESEEN:
            self.unforeseen += 1
        else:
            labels = (labels[0], OTHER_CODE, labels[2])
        self.requests[labels] = self.requests.get(labels, 0) + 1


class UpstreamStats:
    """One upstream's attempts and connections. `attempts` is keyed by result: `success` or an error's reason.

    `retries` is keyed by what became of a failed attempt, `hedges` by what became of a hedge. `budget_exhausted` counts
    what the budget refused, `budget_observed` what it would have refused if it did more than observe.
    """

    __slots__ = (
        "active", "attempt_durations", "attempts", "budget_available", "budget_exhausted", "budget_observed", "budgets",
        "hedges", "idle", "name", "opened", "recent_durations", "retries", "retry_budget",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.attempts: Counts = defaultdict(int)
        self.attempt_durations = Histogram()
        self.recent_durations = RecentDurations()
        self.retries: Counts = defaultdict(int)
        self.hedges: Counts = defaultdict(int)
        self.budget_exhausted = 0
        self.budget_observed = 0
        self.retry_budget = RetryBudget()
        self.budgets: tuple[BudgetSettings, ...] = ()
        """Those that the upstream's routes go by."""
        self.budget_available = 0.0
        """Retries left when it was last looked at, by the strictest of the budgets."""
        self.active = 0
        self.idle = 0
        self.opened = 0

    def look_at_budget(self, now: float) -> None:
        """Note what is left of the retry budget."""
        left = (self.retry_budget.available(budget, now) for budget in self.budgets)
        self.budget_available = min(left, default=0.0)


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


class FleetStats:
    """What Redis was asked, and how that went. `up`: the latest command was answered; `errors` is keyed by kind;
    `members` are the sidecars of the fleet.
    """

    __slots__ = ("commands", "errors", "members", "up")

    def __init__(self) -> None:
        self.up = False
        self.commands = 0
        self.errors: Counts = defaultdict(int)
        self.members = 0


class SharedStoreStats:
    """The fleet's store behind memory. `reads` is keyed by what a look of a request brought (`hit`, `miss`, or why it
    brought nothing), `writes` by what became of an answer to be kept; `queued` are keys and purges still to be told;
    `redis` is what Redis was asked for it.
    """

    __slots__ = ("queued", "reads", "redis", "writes")

    def __init__(self) -> None:
        self.redis = FleetStats()
        self.queued = 0
        self.reads: Counts = defaultdict(int)
        self.writes: Counts = defaultdict(int)


class ProcessStats:
    """The process as a whole. `reloads` is keyed by result (`success`, `error`)."""

    __slots__ = ("draining", "last_reload_ok", "reloads")

    def __init__(self) -> None:
        self.draining = False
        self.last_reload_ok = True
        self.reloads: Counts = defaultdict(int)
