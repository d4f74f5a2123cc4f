"""Sending a request again: which one may be, after which wait, and how many retries an upstream is asked to bear.

Everything here is a decision; `pipeline/retry_stage.py` carries it out. Times are monotonic seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from sidecar.core.config import IDEMPOTENT, RetryCause
from sidecar.core.http.heads import IDEMPOTENT_METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.core.config import BudgetSettings, RetryBackoff, RetrySettings
    from sidecar.core.http.heads import RequestHead

ATTEMPT_FIELD = b"X-Sidecar-Attempt"
"""Request field with the number of the attempt, from 2 on. Whoever receives it leaves repeating to who sent it."""
ATTEMPT_KEY = ATTEMPT_FIELD.lower()
HEDGED_METHODS = frozenset({"GET", "HEAD"})
BUDGET_WINDOW = 10
"""Seconds whose requests a budget is a share of."""
QUANTILE = 0.95
FEWEST_MEASURED = 20
"""Attempts that have to be measured before their p95 says anything."""


class RetryRules:
    """What the settings of one route say of single requests and their failures."""

    __slots__ = ("_backoff", "causes", "keyed", "methods", "statuses")

    def __init__(self, settings: RetrySettings) -> None:
        self.causes = frozenset(cause for cause in settings.on if isinstance(cause, RetryCause))
        self.statuses = frozenset(cause for cause in settings.on if isinstance(cause, int))
        expanded = IDEMPOTENT_METHODS if IDEMPOTENT in settings.methods else frozenset[str]()
        self.methods = expanded | settings.methods
        """Of requests that may be sent again without another word."""
        self.keyed = settings.idempotency_key
        """Whether a key makes a POST such a request, too."""
        self._backoff = settings.backoff

    def repeats(self, head: RequestHead) -> bool:
        """Whether the request may be sent again after the upstream may have seen it (RFC 9110 §9.2.2)."""
        if head.method in self.methods:
            return True
        return self.keyed and head.method == "POST" and b"idempotency-key" in head.headers.index

    def wait(self, retry: int, asked: float | None, random: float) -> float | None:
        """Seconds before retry number `retry` (from 1 on), `random` being in 0–1; None when that is too long to wait.

        `asked` is the upstream's Retry-After in seconds, and is waited for exactly.
        """
        if asked is not None:
            return asked if asked <= self._backoff.max_wait else None
        return full_jitter(self._backoff, retry, random)


def full_jitter(backoff: RetryBackoff, retry: int, random: float) -> float:
    """A random time up to a limit that doubles with each retry, so that clients that failed together spread out."""
    return min(backoff.base * 2.0 ** (retry - 1), backoff.max) * random


def is_repeated(head: RequestHead) -> bool:
    """Whether somebody before has sent the request already, and goes on doing so where that is wanted."""
    return ATTEMPT_KEY in head.headers.index


class RetryBudget:
    """The requests and retries of one upstream in the last ten seconds, in slots of one.

    `requests` is counted up by whoever sees a request, once it has called `turn` where `turns_at` has come.
    """

    __slots__ = ("_requests", "_retries", "_second", "requests", "turns_at")

    def __init__(self) -> None:
        self._requests = [0] * BUDGET_WINDOW
        """Of each second but the current one."""
        self._retries = [0] * BUDGET_WINDOW
        self._second = 0
        self.requests = 0
        """Of the current second."""
        self.turns_at = 0.0

    def turn(self, now: float) -> None:
        """Go on to the second that `now` is in; earlier times change nothing."""
        second = int(now)
        if second <= self._second:
            return
        self._requests[self._second % BUDGET_WINDOW] = self.requests
        self.requests = 0
        for new in range(max(self._second, second - BUDGET_WINDOW) + 1, second + 1):
            self._requests[new % BUDGET_WINDOW] = self._retries[new % BUDGET_WINDOW] = 0
        self._second = second
        self.turns_at = second + 1.0

    def spend(self, settings: BudgetSettings, now: float) -> bool:
        """Count a retry, if there is one left by `settings` or they only observe; whether one was left."""
        left = self.available(settings, now) >= 1
        if left or settings.observe:
            self._retries[self._second % BUDGET_WINDOW] += 1
        return left

    def available(self, settings: BudgetSettings, now: float) -> float:
        """How many retries are left at `now`: of the share and the floor of ten seconds together, or else of this
        second's floor.
        """
        self.turn(now)
        seen = sum(self._requests) + self.requests
        of_window = settings.share * seen + settings.floor * BUDGET_WINDOW - sum(self._retries)
        of_second = settings.floor - self._retries[self._second % BUDGET_WINDOW]
        return float(max(0.0, of_window, of_second))


class RecentDurations:
    """The p95 of what a histogram has counted lately: for at least ten seconds, and at least `FEWEST_MEASURED`."""

    __slots__ = ("_at", "_before", "_current")

    def __init__(self) -> None:
        self._at = 0.0
        self._before: Sequence[int] = ()
        self._current: Sequence[int] = ()

    def p95(self, bounds: Sequence[float], counts: Sequence[int], now: float) -> float | None:
        """Seconds, interpolated within a bucket; None while too few are counted. `counts` never fall, and are those of
        the values up to each of `bounds`, and of all beyond.
        """
        if now - self._at >= BUDGET_WINDOW and sum(counts) - sum(self._current) >= FEWEST_MEASURED:
            self._before, self._current, self._at = self._current, counts[:], now
        before = self._before or [0] * len(counts)
        return quantile(bounds, [count - earlier for count, earlier in zip(counts, before, strict=True)])


def quantile(bounds: Sequence[float], counts: Sequence[int]) -> float | None:
    """The p95 of a histogram; beyond the last bound it is that."""
    total = sum(counts)
    if total < FEWEST_MEASURED:
        return None
    sums: list[int] = []
    for count in counts:
        sums.append(count + (sums[-1] if sums else 0))
    rank = QUANTILE * total
    at = bisect_left(sums, rank)
    if at == len(bounds):
        return bounds[-1]
    lower, below = (bounds[at - 1], sums[at - 1]) if at else (0.0, 0)
    return lower + (bounds[at] - lower) * (rank - below) / counts[at]
