"""Leave to probe: at most `half_open_probes` in the whole fleet, and nobody waits long for it.

The question runs as a task of its own. Whoever asked may go away, or stop waiting after `probe_lease_timeout`; the
answer is then still heard, and a lease that nobody uses any more is given back. Where there is no answer in time the
circuit decides alone: the probe starts, and its lease becomes good if the answer says so later.
"""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import TYPE_CHECKING

from sidecar.core.circuit.gate import Lease
from sidecar.core.fleet.messages import LeaseWish, Verdict
from sidecar.pipeline.fleet.ports import StoreUnavailable

if TYPE_CHECKING:
    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.circuit.gate import ProbeEnd
    from sidecar.core.fleet.fleet import Fleet
    from sidecar.core.fleet.messages import LeaseAnswer
    from sidecar.pipeline.fleet.ports import FleetStore
    from sidecar.pipeline.runtime import Runtime
    from sidecar.pipeline.stats import FleetStats

MARGIN = 1.0
"""Seconds that a lease outlives the probe's own timeout, so that it never ends first."""
LONGEST_HOLD = 0.8
"""Seconds after which a lease that was not to be had is asked for again, should nobody have told that one is free."""
SLOW = 1.0
"""Seconds for which nobody waits after an answer did not come in time."""


class Asked:
    """One question for a lease, and whether anybody still waits for it."""

    __slots__ = ("answer", "awaited", "lease")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.awaited = True
        self.answer: LeaseAnswer | None = None


class Leases:
    """Gets leases for the circuits of `fleet`, and tells how their probes ended. `timeout`: who probes waits that long.

    `untold` holds, by circuit, the latest verdict that could not be told.
    """

    def __init__(
        self,
        fleet: Fleet,
        store: FleetStore,
        runtime: Runtime,
        stats: FleetStats,
        timeout: float,
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._monotonic = runtime.clock.monotonic
        self._spawn = runtime.spawn
        self._stats = stats
        self._timeout = timeout
        self._ids = count(1)
        self._slow_until = 0.0
        self.untold: dict[str, Verdict] = {}

    async def acquire(self, circuit: Circuit) -> Lease | None:
        """A lease for a circuit that wants one; None when the fleet gives none now. Waits for `timeout` at most."""
        gate, share = circuit.gate, self._fleet.shares.get(circuit.name)
        if gate is None or share is None:
            return None
        lease = Lease(f"{self._fleet.me.id}|{next(self._ids)}-{random.getrandbits(32):08x}", share.round)
        if not self._stats.up or self._monotonic() < self._slow_until:
            return lease
        asked = Asked(lease)
        gate.asking += 1
        try:
            task = self._spawn(self._ask(circuit, asked), name=f"lease of {circuit.name}")
            await asyncio.wait({task}, timeout=self._timeout)
        except asyncio.CancelledError:
            self._abandon(circuit, asked)
            raise
        finally:
            gate.asking -= 1
            asked.awaited = False
        if not task.done():
            self._slow_until = self._monotonic() + SLOW
        answer = asked.answer
        return lease if answer is None or answer.granted else None

    def return_unused(self, circuit: Circuit, lease: Lease) -> None:
        """What was lent to `circuit` and taken by no probe goes back to the fleet."""
        if circuit.gate is not None and circuit.gate.take_back(lease):
            self.give_back(circuit, lease)

    def give_back(self, circuit: Circuit, lease: Lease) -> None:
        """Nobody probes with it."""
        self._tell(Verdict(circuit.name, lease.id, lease.round, "release"))

    def ended(self, circuit: str, end: ProbeEnd) -> None:
        """A probe ended."""
        share = self._fleet.shares.get(circuit)
        if share is not None and (verdict := share.verdict(end, self._monotonic())) is not None:
            self._tell(verdict)

    async def tell_untold(self) -> None:
        """Tell what could not be told. Raises StoreUnavailable."""
        for circuit, verdict in tuple(self.untold.items()):
            record = await self._store.verdict(verdict)
            if self.untold.get(circuit) is verdict:
                del self.untold[circuit]
            self._fleet.record(record, self._monotonic())

    async def _ask(self, circuit: Circuit, asked: Asked) -> None:
        settings, lease = circuit.settings, asked.lease
        limit, ttl = max(1, settings.half_open_probes), settings.probe_timeout + MARGIN
        try:
            answer = await self._store.lease(LeaseWish(circuit.name, lease.id, lease.round, limit, ttl))
        except StoreUnavailable:
            return
        asked.answer = answer
        now = self._monotonic()
        self._fleet.record(answer.record, now)
        if answer.granted:
            lease.round = answer.record.round
            used = circuit.gate is not None and lease in circuit.gate.leases
            if not asked.awaited and not used:
                self.give_back(circuit, lease)
        elif circuit.gate is not None and circuit.gate.shared:
            longest = LONGEST_HOLD * random.uniform(0.75, 1.0)  # noqa: S311 - no secret
            circuit.gate.hold_until = now + min(answer.wait, longest)

    def _abandon(self, circuit: Circuit, asked: Asked) -> None:
        """Whoever asked has left: an answer that came gives its lease back now, one to come does when it comes."""
        if asked.answer is not None and asked.answer.granted:
            self.give_back(circuit, asked.lease)

    def _tell(self, verdict: Verdict) -> None:
        self._spawn(self._send(verdict), name=f"verdict on {verdict.circuit}")

    async def _send(self, verdict: Verdict) -> None:
        try:
            record = await self._store.verdict(verdict)
        except StoreUnavailable:
            # A lease that is not given back ends by itself; what a probe found is told when Redis is there again.
            if verdict.outcome in ("success", "failure"):
                self.untold[verdict.circuit] = verdict
        else:
            self._fleet.record(record, self._monotonic())
