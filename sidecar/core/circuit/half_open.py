"""The probes of a half-open circuit (breaker.md 8–12): how many are out, and what they have shown."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from sidecar.core.circuit.explanation import State
from sidecar.core.circuit.permit import Permit, Refusal, Role

if TYPE_CHECKING:
    from sidecar.core.config import BreakerSettings

UNDER_WAY = Refusal(State.HALF_OPEN, "the circuit is half-open and its probes are under way")


MAX_ASIDE = 8
"""Probes that may wait beside those that count: clients that close their side at once must not all get through."""


class Probes:
    """Permits in flight, oldest first, and the successes so far.

    At least one probe is always possible, whatever the settings say: with none the circuit could never close.
    Those whose client may have left stand aside: they keep nobody from probing, but their outcome counts.
    `held_until`: the upstream asked (Retry-After) for no request before that.
    """

    __slots__ = ("_aside", "_in_flight", "held_until", "successes")

    def __init__(self) -> None:
        self._in_flight: dict[Permit, None] = {}
        self._aside: dict[Permit, None] = {}
        self.successes = 0
        self.held_until = 0.0

    def __len__(self) -> int:
        return len(self._in_flight) + len(self._aside)

    def clear(self) -> None:
        """Start a new half-open period."""
        self._in_flight.clear()
        self._aside.clear()
        self.successes = 0
        self.held_until = 0.0

    def refusal(self, now: float, settings: BreakerSettings) -> Refusal | None:
        """Why no probe may start at `now`; None when one may. Changes nothing."""
        if now < self.held_until:
            left = ceil(self.held_until - now)
            return Refusal(State.HALF_OPEN, "the circuit is half-open and the upstream asked to wait", left)
        return None if self.free(now, settings) else UNDER_WAY

    def free(self, now: float, settings: BreakerSettings) -> bool:
        """Whether a permit is left, or would be once the overdue have ended; changes nothing."""
        if len(self._in_flight) < max(1, settings.half_open_probes):
            return True
        return now >= next(iter(self._in_flight)).started + settings.probe_timeout

    def hold(self, until: float) -> None:
        """Give no permit before `until`, nor before what was asked earlier."""
        self.held_until = max(self.held_until, until)

    def take(self, generation: int, now: float) -> Permit:
        """A probe's permit."""
        permit = Permit(Role.PROBE, generation, now)
        self._in_flight[permit] = None
        return permit

    def give_back(self, permit: Permit) -> bool:
        """End a probe; False when its permit had been reclaimed."""
        among = self._aside if permit in self._aside else self._in_flight
        if permit not in among:
            return False
        del among[permit]
        return True

    def step_aside(self, permit: Permit) -> bool:
        """Let another probe in this one's place, while it goes on; whether it did."""
        if permit not in self._in_flight or len(self._aside) >= MAX_ASIDE:
            return False
        del self._in_flight[permit]
        self._aside[permit] = None
        return True

    def left(self, settings: BreakerSettings) -> int:
        """How many more may start, if nothing else keeps them."""
        return max(1, settings.half_open_probes) - len(self._in_flight)

    def oldest(self) -> Permit | None:
        """The one that is under way for the longest time."""
        return min((*self._in_flight, *self._aside), key=lambda permit: permit.started, default=None)

    def in_flight(self, now: float, timeout: float) -> int:
        """How many are not overdue at `now`; changes nothing."""
        return sum(now < permit.started + timeout for permit in self._in_flight)
