"""Keeps a sidecar and its fleet in step: one look every `sync_interval`, and at once when there is something to say.

A quiet look reads one number. Only when that changed, or there is news here, more is asked, in one call. What others
say at once comes through the subscription; were that to fail, the looks find it. No request ever waits for any of
this, and when Redis fails the circuits go on by themselves; what stands is said again when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from sidecar.pipeline.fleet.leases import Leases
from sidecar.pipeline.fleet.ports import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.fleet.fleet import Fleet
    from sidecar.core.fleet.messages import FleetView, Heard, Word
    from sidecar.core.fleet_settings import RedisSettings
    from sidecar.pipeline.fleet.ports import FleetStore
    from sidecar.pipeline.runtime import Runtime
    from sidecar.pipeline.stats import FleetStats

log = logging.getLogger(__name__)

LONGEST_PAUSE = 1.5
"""Seconds between looks while Redis fails."""
JOIN_TIMEOUT = 1.0
"""Seconds that a start waits for what the fleet knows."""
LEAVE_TIMEOUT = 0.3


class Coordinator:
    """Owns the sidecar's side of the fleet. `follow` may be called at any time, `join` once, and `leave` at the end."""

    def __init__(
        self, fleet: Fleet, store: FleetStore, runtime: Runtime, settings: RedisSettings, stats: FleetStats
    ) -> None:
        self.fleet = fleet
        self.stats = stats
        self.leases = Leases(fleet, store, runtime, stats, settings.probe_lease_timeout)
        self._store = store
        self._monotonic = runtime.clock.monotonic
        self._spawn = runtime.spawn
        self._interval = settings.sync_interval
        self._wake = asyncio.Event()
        self._failures = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._seen: FleetView | None = None

    def follow(self, circuits: Iterable[Circuit]) -> None:
        """Share these circuits from now on."""
        self.fleet.follow(circuits, self._monotonic())

    def note(self, transition: Transition) -> None:
        """A circuit had a transition."""
        if self.fleet.closed_for_all(transition) and self._tasks:
            self._spawn(self._close(transition.circuit, transition.detail), name="close the fleet's circuit")
        if self.fleet.moved(transition):
            self._wake.set()

    async def join(self) -> None:
        """Become a member: afterwards what the fleet knows holds here, unless Redis does not answer in time."""
        self.fleet.restored(self._monotonic())
        self._tasks.append(self._spawn(self._store.listen(self._hear), name="listen to the fleet"))
        first = self._spawn(self.look(), name="join the fleet")
        await asyncio.wait({first}, timeout=JOIN_TIMEOUT)
        if not first.done():
            first.cancel()
        self._tasks.append(self._spawn(self._run(), name="look at the fleet"))

    async def leave(self) -> None:
        """Be a member no longer, and let go of Redis."""
        joined, self._tasks = self._tasks, []
        for task in joined:
            task.cancel()
        if joined:
            await asyncio.wait(joined)
        if joined and self.stats.up:
            shares = self.fleet.shares
            leases = [(name, one.id) for name, share in shares.items() if share.gate for one in share.gate.leases]
            leaving = self._spawn(self._take_leave(list(shares), leases), name="leave the fleet")
            await asyncio.wait({leaving}, timeout=LEAVE_TIMEOUT)
            leaving.cancel()
        await self._store.close()

    async def say(self, word: Word) -> None:
        """An operator said `word`, which holds here already, to the whole fleet."""
        try:
            if not self.stats.up:
                raise StoreUnavailable("connection", "Redis is not there")
            said = await self._store.say(word)
        except StoreUnavailable:
            now = self._monotonic()
            self.fleet.words.keep(replace(word, stamp=self.fleet.stamp(now)), now)
        else:
            self.fleet.word(said, self._monotonic())

    async def view(self, circuit: str | None) -> FleetView:
        """The fleet as Redis has it; what was seen last, or is known here, where that cannot be had."""
        share = None if circuit is None else self.fleet.shares.get(circuit)
        if circuit is not None and share is not None and self.stats.up:
            try:
                self._seen = await self._store.view([(circuit, share.span / 10)])
            except StoreUnavailable:
                pass
            else:
                return self._seen
        known = self.fleet.view(self._monotonic())
        return known if self._seen is None else replace(known, members=self._seen.members)

    async def look(self) -> None:
        """Say and hear what is new."""
        try:
            await self._look()
        except StoreUnavailable:
            self._failures += 1
            return
        if self._failures:
            self._failures = 0
            self.fleet.tell_again()
            self._wake.set()

    async def _look(self) -> None:
        now = self._monotonic()
        push = self.fleet.push(now)
        if push is None:
            if await self._store.version() == self.fleet.known:
                await self._tell_untold()
                return
            push = self.fleet.question(now)
        news = await self._store.push(push)
        now = self._monotonic()
        self.fleet.said(push, now)
        self.fleet.take(news, now)
        self.stats.members = news.members
        await self._tell_untold()

    async def _tell_untold(self) -> None:
        await self.leases.tell_untold()
        for word in tuple(self.fleet.words.untold(self._monotonic())):
            self.fleet.word(await self._store.say(word), self._monotonic())

    async def _run(self) -> None:
        while True:
            pause = min(self._interval * 2 ** min(self._failures, 10), max(self._interval, LONGEST_PAUSE))
            try:
                async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - no secret
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self.look()

    def _hear(self, heard: Heard) -> None:
        self.fleet.hear(heard, self._monotonic())

    async def _close(self, circuit: str, detail: str) -> None:
        share = self.fleet.shares.get(circuit)
        if share is None:
            return
        try:
            record = await self._store.close_circuit(circuit, share.round, detail)
        except StoreUnavailable as failure:
            log.warning("circuit %s was reset here, but not in the fleet: %s", circuit, failure)
        else:
            self.fleet.record(record, self._monotonic())

    async def _take_leave(self, circuits: list[str], leases: list[tuple[str, str]]) -> None:
        try:
            await self._store.leave(circuits, leases)
        except StoreUnavailable:
            return  # Whoever is not heard of any more is no member either.
