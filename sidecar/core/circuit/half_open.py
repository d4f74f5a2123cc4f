"""The probes of a half-open circuit (breaker.md 8–12): how many are out, and what they have shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.circuit.permit import Permit, Role

if TYPE_CHECKING:
    from sidecar.core.config import BreakerSettings


class Probes:
    """Permits in flight, oldest first, and the successes so far.

    At least one probe is always possible, whatever the settings say: with none the circuit could never close.
    `held_until`: the upstream asked (Retry-After) for no request before that.
    """

    __slots__ = ("_in_flight", "held_until", "successes")

    def __init__(self) -> None:
        self._in_flight: dict[Permit, None] = {}
        self.successes = 0
        self.held_until = 0.0

    def __len__(self) -> int:
        return len(self._in_flight)

    def clear(self) -> None:
        """Start a new half-open period."""
        self._in_flight.clear()
        self.successes = 0
        self.held_until = 0.0

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
        if permit not in self._in_flight:
            return False
        del self._in_flight[permit]
        return True

    def overdue(self, now: float, timeout: float) -> Permit | None:
        """The oldest, if it is without a verdict for `timeout` seconds."""
        oldest = next(iter(self._in_flight), None)
        return oldest if oldest is not None and now >= oldest.started + timeout else None

    def longest(self, now: float) -> float:
        """When the oldest started; `now` when there is none."""
        oldest = next(iter(self._in_flight), None)
        return now if oldest is None else oldest.started

    def in_flight(self, now: float, timeout: float) -> int:
        """How many are not overdue at `now`; changes nothing."""
        return sum(now < permit.started + timeout for permit in self._in_flight)
