"""How many requests may be under way, found out from how long they take (a gradient).

Twice a second the median time to an answer is compared with what it is without load: the least median of late. While
it is about that, the limit grows, by its square root, up to `most`. When the median is several times that, the upstream
has more to do than it can, and the limit falls in proportion, by a quarter to a half. A fall that changed nothing is
not repeated, unless it becomes slower still: then it is not the load that makes it slow. What was measured without load
is forgotten by and by, so that an upstream that has become slower for good is not held down for ever.

Failures teach nothing, since failing can be quick. What ran into a timeout, or whose client has left, took at least the
time that it had; and what is under way without an answer for longer than the others takes at least that long: an
upstream that answers nothing any more is seen, too.
"""

from __future__ import annotations

from math import inf, sqrt
from statistics import median_low
from typing import ClassVar, Protocol

ENOUGH = 5
"""Times that are enough to judge by."""
PATIENCE = 2.0
"""Seconds after which any number of them has to do."""
MOST_TIMES = 200
"""Times that are kept for a judgement; their median tells no more of the others."""
IDLE = 10.0
"""Seconds without a request after which nothing is known any more."""
TOLERANCE = 2.0
"""A median is ordinary up to so many times that without load …"""
SLACK = 0.002
"""… and so many seconds, since the times of a very quick upstream vary with what else the machine does."""
STEEPEST, FLATTEST = 0.5, 0.75
"""What a fall leaves of the limit, at least and at most."""
HELPED, WORSE = 0.9, 1.25
"""A fall is followed by another when the median is so many times, or less, or more, what it was then."""
FORGETTING = 0.01
"""Share by which the time without load grows per second."""


class Sent(Protocol):
    """A request under way. `sent_at`: from when on time is the upstream's; `inf` while it is not sent."""

    sent_at: float


class AdaptiveLimit:
    """The limit of one route, 1 to `most`. `latency` is the median judged by last, `no_load` what it is without load;
    None while nothing was measured. Times are monotonic seconds.
    """

    INTERVAL: ClassVar[float] = 0.5
    """Seconds from one judgement to the next, where there is enough to judge by."""

    __slots__ = ("_exact", "_fell_at", "_in_flight", "_most", "_since", "_times", "latency", "no_load")

    def __init__(self, most: int, now: float) -> None:
        self._most = most
        self._exact = float(most)
        self._since = now
        self._times: list[float] = []
        self._in_flight: set[Sent] = set()
        self._fell_at: float | None = None
        """The median at the last fall, while it has not become ordinary since."""
        self.latency: float | None = None
        self.no_load: float | None = None

    @property
    def limit(self) -> int:
        """How many may be under way now."""
        return int(self._exact)

    @property
    def busy(self) -> bool:
        """Whether something is under way that will have taken a time, or takes too long."""
        return bool(self._in_flight)

    @property
    def why(self) -> str:
        """What the limit comes from, in words."""
        if self.latency is None or self.no_load is None:
            return f"{self.limit} of {self._most}: nothing was measured yet"
        least = f"{self.no_load * 1000:.3g} ms without load"
        return f"{self.limit} of {self._most}: the median answer takes {self.latency * 1000:.3g} ms, and {least}"

    def bound(self, most: int) -> None:
        """Stay within `most` from now on."""
        self._most = most
        self._exact = min(self._exact, most)

    def begun(self, request: Sent) -> None:
        """`request` is under way."""
        self._in_flight.add(request)

    def answered(self, request: Sent, began: float, now: float) -> None:
        """It was answered; it `began` then, if it does not say itself when it was sent."""
        self._in_flight.discard(request)
        took = now - (began if request.sent_at == inf else request.sent_at)
        if took >= 0 and len(self._times) < MOST_TIMES:
            self._times.append(took)

    def unanswered(self, request: Sent, now: float) -> None:
        """There will be no answer, but for lack of time: that would have taken longer still."""
        self._in_flight.discard(request)
        lasted = now - request.sent_at
        if lasted >= 0 and (self.latency is None or lasted > self.latency) and len(self._times) < MOST_TIMES:
            self._times.append(lasted)

    def failed(self, request: Sent) -> None:
        """It has failed, which tells nothing."""
        self._in_flight.discard(request)

    def judge(self, now: float) -> bool:
        """Set the limit anew if it is time; whether it may have changed."""
        age = now - self._since
        if age < self.INTERVAL or (len(self._times) < ENOUGH and age < PATIENCE):
            return False
        latency = self._median(now)
        if latency is not None:
            self._adapt(latency, min(age, PATIENCE))
        elif age >= IDLE:
            self._exact = float(self._most)
        else:
            return False
        self._since = now
        self._times.clear()
        return True

    def _median(self, now: float) -> float | None:
        """Also of how long requests under way have taken so far, where that is more than usual."""
        usual = median_low(self._times) if self._times else 0.0
        ages = [age for one in self._in_flight if (age := now - one.sent_at) > usual]
        # A few that take long tell nothing where there are no others.
        return median_low([*self._times, *ages]) if self._times or len(ages) >= ENOUGH else None

    def _adapt(self, latency: float, age: float) -> None:
        before = latency if self.no_load is None else self.no_load * (1 + FORGETTING * age)
        self.latency, self.no_load = latency, min(latency, before)
        ordinary, fell_at = TOLERANCE * self.no_load + SLACK, self._fell_at
        if latency <= ordinary:
            self._fell_at = None
            self._exact = min(self._most, self._exact + max(1.0, sqrt(self._exact)))
        elif fell_at is None or not HELPED * fell_at < latency < WORSE * fell_at:
            self._fell_at = latency
            self._exact = max(1.0, self._exact * min(FLATTEST, max(STEEPEST, ordinary / latency)))
