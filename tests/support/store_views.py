"""One contract for what keeps stored answers: memory alone, and a fleet's store seen from sidecar to sidecar."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from sidecar.adapters.memory_store import MemoryStore
from sidecar.adapters.redis.cache_store import RedisCacheStore
from sidecar.core.config import CacheStoreSettings
from sidecar.core.fleet_settings import RedisKind, RedisSettings, RedisUrl
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.runtime import Runtime
from sidecar.pipeline.shared_store.shared_store import SharedStore
from sidecar.pipeline.stats import FleetStats, SharedStoreStats
from sidecar.pipeline.tasks import Tasks
from tests.support.stored_answers import StillClock
from tests.support.wire import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from sidecar.core.cache.stored import Selecting, StoredResponse
    from sidecar.pipeline.shared_store.ports import Batch, News
    from tests.support.redis_server import RedisServer

PATIENT = 5.0
"""Seconds for a look, where it is not about time."""


class RealClock:
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


class HeldFar(RedisCacheStore):
    """The fleet's store, whose writes a test can hold up on their way: `held.clear()`."""

    def __init__(self, server: RedisServer, name: str, most: int = 32, namespace: str = "shop") -> None:
        settings = RedisSettings(RedisUrl(RedisKind.SINGLE, (("127.0.0.1", server.port),)), namespace)
        super().__init__(settings, name, most, FleetStats(), RealClock())
        self.held = asyncio.Event()
        self.held.set()
        self.waiting = 0

    async def exchange(self, known: int, batch: Batch) -> News:
        self.waiting += bool(batch.changes)
        await self.held.wait()
        return await super().exchange(known, batch)


class Pod:
    """A sidecar's memory, and what is behind it."""

    def __init__(self, far: HeldFar, clock: StillClock, read_timeout: float = PATIENT, max_variants: int = 32) -> None:
        self.memory = MemoryStore(CacheStoreSettings(max_size=1 << 22, max_variants=max_variants), clock)
        self.stats = SharedStoreStats()
        self.far = far
        self.tasks = Tasks()
        runtime = Runtime(clock, DeadlineWheel(clock), self.tasks.spawn)
        self.shared = SharedStore(self.memory, far, runtime, self.stats, read_timeout)

    def put(self, stored: StoredResponse) -> bool:
        return self.memory.put(stored, self.memory.begin(stored.key))

    async def look(self, key: bytes) -> list[bytes]:
        """The bodies under `key` after a look into the fleet's store."""
        await self.shared.look(key)
        return [stored.body for stored in self.memory.get(key)]


class Scene:
    """The sidecars so far at one server."""

    def __init__(self, server: RedisServer, max_variants: int = 32) -> None:
        self.server = server
        self.clock = StillClock()
        self.pods: list[Pod] = []
        self._max_variants = max_variants

    async def pod(self) -> Pod:
        pod = Pod(HeldFar(self.server, f"pod{len(self.pods)}", self._max_variants), self.clock)
        self.pods.append(pod)
        await pod.shared.join()
        return pod

    async def all_know(self) -> None:
        """Wait until everybody has told everything, and heard of it."""
        for pod in self.pods:
            assert await pod.shared.told(PATIENT, writes=True)
        version = await self.pods[0].far.version()
        for pod in self.pods:
            await eventually(partial(_knows, pod, version))


def _knows(pod: Pod, position: int | None) -> bool:
    return pod.shared.position == position


@asynccontextmanager
async def scene(server: RedisServer, max_variants: int = 32) -> AsyncIterator[Scene]:
    made = Scene(server, max_variants)
    try:
        yield made
    finally:
        for pod in made.pods:
            await pod.shared.leave()
            await pod.tasks.cancel_all()


class View(Protocol):
    """A store as the contract sees it. `later` puts an answer whose fetch began when `begin` was called."""

    async def put(self, stored: StoredResponse) -> bool: ...
    async def bodies(self, key: bytes) -> list[bytes]: ...
    async def get(self, key: bytes) -> list[StoredResponse]: ...
    def begin(self) -> None: ...
    async def later(self, stored: StoredResponse) -> bool: ...
    async def invalidate(self, key: bytes, variants: Collection[Selecting] | None = None) -> None: ...
    async def purge(self, **selectors: Any) -> None: ...


class MemoryView:
    """Memory alone."""

    def __init__(self, max_variants: int) -> None:
        self._store = MemoryStore(CacheStoreSettings(max_size=1 << 20, max_variants=max_variants), StillClock())
        self._token = 0

    async def put(self, stored: StoredResponse) -> bool:
        return self._store.put(stored, self._store.begin(stored.key))

    async def get(self, key: bytes) -> list[StoredResponse]:
        return list(self._store.get(key))

    async def bodies(self, key: bytes) -> list[bytes]:
        return [stored.body for stored in await self.get(key)]

    def begin(self) -> None:
        self._token = self._store.begin(b"")

    async def later(self, stored: StoredResponse) -> bool:
        return self._store.put(stored, self._token)

    async def invalidate(self, key: bytes, variants: Collection[Selecting] | None = None) -> None:
        self._store.invalidate(key, variants)

    async def purge(self, **selectors: Any) -> None:
        self._store.purge(**selectors)


class FleetView:
    """One sidecar puts, a fresh one gets, and the first or `elsewhere` another one forgets."""

    def __init__(self, made: Scene, one: Pod, other: Pod) -> None:
        self._scene = made
        self._one = one
        self._other = other
        self._token = 0

    async def put(self, stored: StoredResponse) -> bool:
        kept = self._one.put(stored)
        await self._scene.all_know()
        return kept

    async def get(self, key: bytes) -> list[StoredResponse]:
        fresh = await self._scene.pod()
        await fresh.shared.look(key)
        return list(fresh.memory.get(key))

    async def bodies(self, key: bytes) -> list[bytes]:
        return [stored.body for stored in await self.get(key)]

    def begin(self) -> None:
        self._token = self._one.memory.begin(b"")

    async def later(self, stored: StoredResponse) -> bool:
        kept = self._one.memory.put(stored, self._token)
        await self._scene.all_know()
        return kept and bool(await self.get(stored.key))

    async def invalidate(self, key: bytes, variants: Collection[Selecting] | None = None) -> None:
        if self._other is not self._one:
            await self._other.shared.look(key)
        self._other.memory.invalidate(key, variants)
        await self._scene.all_know()

    async def purge(self, **selectors: Any) -> None:
        self._other.memory.purge(**selectors)
        await self._scene.all_know()
