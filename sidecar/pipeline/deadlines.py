"""One coarse clock for many deadlines: moving one costs an attribute write, not a timer.

An object that may wait too long has a `deadline`. It stands in a slot no later than the first one after it. When the
slot comes up, an object whose deadline has moved on is put into a later slot; one whose deadline has passed is told.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from math import inf
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sidecar.pipeline.ports import Clock

log = logging.getLogger(__name__)

NO_SLOT = 1 << 62


class Deadlined:
    """Something with a deadline, in monotonic seconds; `inf` is none.

    Who moves it to a time not before `looked_at` may write it; else `DeadlineWheel.set` has to be told.
    """

    __slots__ = ("deadline", "looked_at", "slot")

    def __init__(self) -> None:
        self.deadline = inf
        self.slot = NO_SLOT
        self.looked_at = inf
        """When its slot comes up; like the slot, the wheel's own."""

    def expired(self) -> None:
        """The deadline has passed. It may be set anew here."""
        raise NotImplementedError


class DeadlineWheel:
    """Tells each watched object within `TICK` seconds after its deadline. O(1) per change, however many are watched."""

    TICK: ClassVar[float] = 0.025

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slots: dict[int, set[Deadlined]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = NO_SLOT

    def set(self, item: Deadlined, deadline: float) -> None:
        """Move the deadline of `item`; `inf` takes it away."""
        item.deadline = deadline
        if deadline < item.looked_at:
            self._place(item)

    def forget(self, item: Deadlined) -> None:
        """Stop watching `item`; it may be freed."""
        item.deadline = inf
        self._remove(item)

    def turn(self) -> None:
        """Serve every slot that is due."""
        now = self._clock.monotonic()
        while self._order and self._order[0] * self.TICK <= now:
            for item in self._slots.pop(heapq.heappop(self._order)):
                item.slot = NO_SLOT
                item.looked_at = inf
                if item.deadline <= now:
                    self._tell(item)
                elif item.deadline != inf:
                    self._place(item)
        self._arm()

    def close(self) -> None:
        """Stop the timer and forget everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._slots.clear()
        self._order.clear()

    def _tell(self, item: Deadlined) -> None:
        try:
            item.expired()
        except Exception:
            log.exception("an expired deadline was not dealt with")

    def _place(self, item: Deadlined) -> None:
        self._remove(item)
        item.slot = slot = int(item.deadline / self.TICK) + 1
        item.looked_at = (slot - 1) * self.TICK
        members = self._slots.get(slot)
        if members is None:
            self._slots[slot] = {item}
            heapq.heappush(self._order, slot)
            self._arm()
        else:
            members.add(item)

    def _remove(self, item: Deadlined) -> None:
        members = self._slots.get(item.slot)
        if members is not None:
            members.discard(item)
        item.slot = NO_SLOT
        item.looked_at = inf

    def _arm(self) -> None:
        if not self._order:
            return
        first = self._order[0]
        if self._timer is not None:
            if self._armed_for == first:
                return
            self._timer.cancel()
        self._armed_for = first
        delay = max(0.0, first * self.TICK - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._armed_for = NO_SLOT
        self.turn()
