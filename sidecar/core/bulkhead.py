"""How many requests of a route are under way, and which of those that wait is next.

A slot is taken at once while one is free. Else a request may wait in a bounded queue: whoever waits longest is next,
but those of the class `low` come after all others, and the newest of them is shed when the queue is full and another
wants in. A free slot and somebody who waits never meet: who gives a slot back, or raises the limit, admits the next.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.adaptive_limit import AdaptiveLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.config import BulkheadSettings

NORMAL, LOW = "normal", "low"
CLASSES = (NORMAL, LOW)


class Waiting:
    """A request that waits `until` then, monotonic seconds, and no longer. `decided` is told once, unless it gives up
    before: whether it has a slot now (`admitted`), or has to go.
    """

    __slots__ = ("admitted", "decided", "priority", "until")

    def __init__(self, priority: str, until: float, decided: Callable[[bool], None]) -> None:
        self.priority = priority
        self.until = until
        self.decided = decided
        self.admitted = False


Queue: TypeAlias = OrderedDict[Waiting, None]
"""Waiting requests, longest first; an ordered set."""


class Bulkhead:
    """The slots and the queue of one route. `limit` is how many slots there are now; `adaptive` sets it, if there is
    one. Times are monotonic seconds.
    """

    __slots__ = ("_low", "_max_queue", "_normal", "adaptive", "in_use", "limit")

    def __init__(self, settings: BulkheadSettings, most: int, now: float) -> None:
        self._normal: Queue = OrderedDict()
        self._low: Queue = OrderedDict()
        self.in_use = 0
        self.adaptive: AdaptiveLimit | None = None
        self.configure(settings, most, now)

    def configure(self, settings: BulkheadSettings, most: int, now: float) -> None:
        """From `now` on hold to `settings`, whose `max_concurrent` is `most`. Who is in stays, and who waits too."""
        self._max_queue = settings.max_queue
        if not settings.adaptive:
            self.adaptive = None
        elif self.adaptive is None:
            self.adaptive = AdaptiveLimit(most, now)
        else:
            self.adaptive.bound(most)
        self.resize(most if self.adaptive is None else self.adaptive.limit, now)

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._normal) + len(self._low)

    def take(self) -> bool:
        """Take a slot, if one is free."""
        if self.in_use >= self.limit:
            return False
        self.in_use += 1
        return True

    def free(self, now: float) -> None:
        """Give a slot back; whoever is next has it."""
        self.in_use -= 1
        if self._normal or self._low:
            self._admit(now)

    def resize(self, limit: int, now: float) -> None:
        """Have `limit` slots. Where more are in use, none is given until enough came back."""
        self.limit = limit
        self._admit(now)

    def wait(self, waiting: Waiting, now: float) -> bool:
        """Let it wait; False where it may not."""
        self.drop_late(now)
        if self.queued >= self._max_queue:
            if waiting.priority == LOW or not self._low:
                return False
            shed, _ = self._low.popitem()
            shed.decided(False)  # noqa: FBT003 - the one thing that is decided
        self._queue(waiting)[waiting] = None
        return True

    def give_up(self, waiting: Waiting) -> None:
        """It waits no longer, if it did."""
        self._queue(waiting).pop(waiting, None)

    def drop_late(self, now: float) -> None:
        """Nobody keeps a place in the queue whose time is over."""
        for queue in (self._normal, self._low):
            while queue and (first := next(iter(queue))).until <= now:
                del queue[first]
                first.decided(False)  # noqa: FBT003 - the one thing that is decided

    def _queue(self, waiting: Waiting) -> Queue:
        return self._low if waiting.priority == LOW else self._normal

    def _admit(self, now: float) -> None:
        while self.in_use < self.limit and (queue := self._normal or self._low):
            waiting, _ = queue.popitem(last=False)
            waiting.admitted = now < waiting.until
            self.in_use += waiting.admitted
            waiting.decided(waiting.admitted)
