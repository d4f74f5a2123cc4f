"""How often the counters are read."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sidecar.adapters import traffic
from sidecar.adapters.traffic import TrafficSampler
from sidecar.core.circuit.circuit import Circuit
from sidecar.core.circuit.hooks import Hooks
from sidecar.core.config import BreakerSettings
from sidecar.pipeline.data_plane import PlaneStats
from sidecar.pipeline.local_control import LocalCircuits
from sidecar.pipeline.slices import SLICE
from sidecar.pipeline.stats import ListenerStats, RouteStats, StoreStats
from tests.support.fake_plane import FakePlane
from tests.support.wire import turns

if TYPE_CHECKING:
    import pytest


class World:
    """A sampler whose clock a test sets."""

    def __init__(self, names: int = 1) -> None:
        self.now = 100.0
        self.step = 0.0
        """How long the work between two looks at the clock takes."""
        self.routes = [RouteStats(f"route-{number}") for number in range(names)]
        hooks = Hooks(random=lambda: 0.5, listener=lambda _: None, listener_failed=lambda _: None)
        circuits = {
            name: Circuit(name, BreakerSettings(), hooks, 0.0)
            for name in (*(route.name for route in self.routes), "no-route")
        }
        plane = FakePlane(
            LocalCircuits(lambda: circuits, self._tell),
            lambda: PlaneStats(ListenerStats(), StoreStats(), self.routes, (), 0.0, 0),
        )
        self.sampler = TrafficSampler(plane, self._tell)

    def _tell(self) -> float:
        self.now += self.step
        return self.now


async def test_it_reads_once_for_each_bucket_and_oftener_while_somebody_watches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traffic, "INTERVAL", 0.0)
    world = World()
    history = world.sampler.history
    running = asyncio.create_task(world.sampler.run())
    await turns(20)
    assert history.taken == 1
    world.now = 109.9
    await turns(20)
    assert history.taken == 1
    world.now = 110.0
    await turns(20)
    assert history.taken == 2
    stop = history.listen(lambda: None)
    await turns(20)
    assert history.taken > 3
    stop()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_circuit_without_a_route_is_told_too() -> None:
    world = World()
    await world.sampler.read()
    assert [circuit["name"] for circuit in world.sampler.history.circuits()] == ["route-0", "no-route"]


async def test_two_readings_at_once_count_nothing_twice() -> None:
    world = World(names=300)
    for route in world.routes:
        route.count("GET", 200, "upstream", 0.01)
    await asyncio.gather(*(world.sampler.read() for _ in range(5)))
    told: Any = world.sampler.history.overview(str)
    assert [bucket["sources"] for bucket in told["buckets"]] == [{"upstream": 300}]


async def test_a_thousand_routes_leave_the_loop_its_turns() -> None:
    world = World(names=1000)
    world.step = SLICE / 100
    turns_taken = 0

    async def count_turns() -> None:
        nonlocal turns_taken
        while True:
            await asyncio.sleep(0)
            turns_taken += 1

    counting = asyncio.create_task(count_turns())
    await world.sampler.read()
    reading = turns_taken
    world.step = 0.0
    counting.cancel()
    assert reading > 2 * 1000 // 100
    assert len(list(world.sampler.history.circuits())) == 1001
