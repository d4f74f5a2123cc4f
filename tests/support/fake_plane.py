"""A data plane without requests, around what a test has: circuits, counters, a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.pipeline.local_control import LocalCache, LocalCircuits, LocalFaults, LocalProbes
from tests.support.fake_store import FakeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sidecar.core.config import Config
    from sidecar.pipeline.data_plane import FleetControl, PlaneStats
    from sidecar.pipeline.ports import CacheStore


class FakePlane:
    """A `DataPlanePort`. `counted` gives its numbers."""

    def __init__(
        self,
        circuits: LocalCircuits,
        counted: Callable[[], PlaneStats],
        store: CacheStore | None = None,
        faults: LocalFaults | None = None,
    ) -> None:
        self.circuits = circuits
        self.faults = faults or LocalFaults(dict, lambda: 0.0)
        self.probes = LocalProbes(lambda _: (), lambda: 0.0)
        self.cache = LocalCache(store or FakeStore())
        self.snapshots = None
        self.fleet: FleetControl | None = None
        self._counted = counted

    async def stats(self) -> PlaneStats:
        return self._counted()

    async def use(self, config: Config, unchanged: Collection[str]) -> list[tuple[str, int] | str]:
        raise NotImplementedError
