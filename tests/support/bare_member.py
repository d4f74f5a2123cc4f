"""A fleet member without a proxy: the real coordinator, leases and client, and circuits that a test drives."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sidecar.adapters.redis.fleet_store import RedisFleetStore
from sidecar.config.redis_url import redis_url
from sidecar.core.circuit.circuit import Circuit
from sidecar.core.circuit.explanation import State
from sidecar.core.circuit.hooks import Hooks
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit
from sidecar.core.config import Backoff, BreakerSettings
from sidecar.core.fleet.fleet import Fleet
from sidecar.core.fleet.messages import Member
from sidecar.core.fleet_settings import FleetSettings, RedisSettings
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.fleet.coordinator import Coordinator
from sidecar.pipeline.runtime import Runtime
from sidecar.pipeline.stats import FleetStats
from sidecar.pipeline.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.circuit.gate import ProbeEnd

SETTINGS = BreakerSettings(
    failure_threshold=3,
    failure_rate=None,
    open_duration=30.0,
    backoff=Backoff(multiplier=1.0, max=60.0, jitter=0.0),
    success_threshold=1,
)


class RealTime:
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


class BareMember:
    """One pod with `routes` circuits, called r0, r1, …; `opened` hears of each circuit that opens, with the time."""

    def __init__(
        self, url: str, pod: str, *, routes: int = 1, opened: Callable[[str, float], None] | None = None, **changes: Any
    ) -> None:
        self.tasks = Tasks()
        self.stats = FleetStats()
        self._opened = opened
        clock = RealTime()
        # Many members in one process answer late, all at once: that is no reason for each to decide alone.
        settings = RedisSettings(redis_url(url), "bench", read_timeout=0.1, probe_lease_timeout=5.0)
        me = Member(pod, "1", 0.0)

        def ended(circuit: str, end: ProbeEnd) -> None:
            self.coordinator.leases.ended(circuit, end)

        runtime = Runtime(clock, DeadlineWheel(clock), self.tasks.spawn)
        store = RedisFleetStore(settings, me, self.stats, clock)
        self.coordinator = Coordinator(Fleet(FleetSettings(), me, ended), store, runtime, settings, self.stats)
        hooks = Hooks(lambda: 0.5, self._moved, _raise)
        breaker = replace(SETTINGS, **changes)
        self.circuits = [Circuit(f"r{number}", breaker, hooks, time.monotonic()) for number in range(routes)]
        self.coordinator.follow(self.circuits)

    @property
    def state(self) -> State:
        return self.circuits[0].state

    def fail(self, circuit: int = 0, times: int = 3) -> None:
        """Let requests fail."""
        for _ in range(times):
            self.request(circuit, Outcome.FAILURE)

    def request(self, circuit: int, outcome: Outcome) -> bool:
        """One request; whether it was admitted."""
        permit = self.circuits[circuit].ask(time.monotonic(), safe=True)
        if not isinstance(permit, Permit):
            return False
        self.circuits[circuit].settle(permit, outcome, time.monotonic())
        return True

    async def probe(self, outcome: Outcome, circuit: int = 0) -> bool:
        """A request that may be a probe; whether it was admitted."""
        it = self.circuits[circuit]
        gate, lease = it.gate, None
        if gate is not None and it.wants_lease(time.monotonic(), safe=True):
            lease = await self.coordinator.leases.acquire(it)
            if lease is not None:
                gate.lend(lease)
        admitted = self.request(circuit, outcome)
        if lease is not None:
            self.coordinator.leases.return_unused(it, lease)
        return admitted

    async def stop(self) -> None:
        await self.coordinator.leave()
        await self.tasks.cancel_all()

    def _moved(self, transition: Transition) -> None:
        self.coordinator.note(transition)
        if transition.target is State.OPEN and self._opened is not None:
            self._opened(transition.circuit, time.monotonic())


def _raise(error: Exception) -> None:
    raise error
