"""What time alone brings about in a circuit, without a timer for each request (breaker.md 5, 10 and §1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from sidecar.core.circuit.half_open import Probes
    from sidecar.core.circuit.permit import Describe, Permit
    from sidecar.core.config import BreakerSettings

Wait: TypeAlias = "tuple[Permit, float, Describe | None]"
"""Who waits, since when, and what makes its sample."""

ALWAYS = float("-inf")


class InFlight:
    """Permits with the time since when they wait, longest first.

    Times must not decrease from one `add` to the next: the first is then the first for whom time is up.
    """

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        self._waits: dict[Permit, Wait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def add(self, permit: Permit, now: float, describe: Describe | None = None) -> None:
        """From `now` on `permit` waits, also if it waited before."""
        self._waits.pop(permit, None)
        self._waits[permit] = permit, now, describe

    def discard(self, permit: Permit) -> Wait | None:
        """It waits no longer, if it did; returns how it did."""
        return self._waits.pop(permit, None)

    def clear(self) -> None:
        """None waits any longer."""
        self._waits.clear()

    def first(self) -> Wait | None:
        """Who waits longest."""
        return next(iter(self._waits.values()), None)


class Waits:
    """The requests that a circuit looks at again should they take too long, and when it has to look next.

    `sent`: requests sent whole whose head is awaited; they are slow after `slow_after` (empty where no `slow_rate` is
    set). `flowing`: answers whose body is under way; they are judged by their head after `probe_timeout`. `probes`: a
    half-open circuit's, which end after `probe_timeout` too.

    Nothing is due before `look_at`. That stays true whatever begins or ends to wait: what begins later is due later.
    Only other limits could make it wrong, and they come in by `limit`, which has everything looked at anew.
    """

    __slots__ = ("_probe_timeout", "_slow_after", "flowing", "look_at", "probes", "sent")

    def __init__(self, settings: BreakerSettings, probes: Probes) -> None:
        self.sent = InFlight()
        self.flowing = InFlight()
        self.probes = probes
        self.limit(settings)

    def __bool__(self) -> bool:
        return bool(self.sent or self.flowing or self.probes)

    def limit(self, settings: BreakerSettings) -> None:
        """Wait for as long as `settings` say, also for what waits already."""
        self._slow_after = settings.slow_after
        self._probe_timeout = settings.probe_timeout
        self.look_at = ALWAYS
        if settings.slow_rate is None:
            self.sent.clear()

    def due(self, now: float) -> Permit | None:
        """A request whose time is up, to be taken out by the caller: first who is slow, then whose body outlasts,
        then an overdue probe. None when there is no other, and then not before the new `look_at`.
        """
        slow_after, timeout = self._slow_after, self._probe_timeout
        sent, flowing, probe = self.sent.first(), self.flowing.first(), self.probes.oldest()
        if sent is not None and now - sent[1] > slow_after:
            return sent[0]
        if flowing is not None and now >= flowing[1] + timeout:
            return flowing[0]
        if probe is not None and now >= probe.started + timeout:
            return probe
        self.look_at = min(
            (now if sent is None else sent[1]) + slow_after,
            (now if flowing is None else flowing[1]) + timeout,
            (now if probe is None else probe.started) + timeout,
        )
        return None
