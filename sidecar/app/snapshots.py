"""The stored answers across a restart (cache.md 27): a snapshot of the store in `state_dir`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.adapters.snapshot_file import SnapshotFile, SnapshotLimits

if TYPE_CHECKING:
    from sidecar.adapters.memory_store import MemoryStore
    from sidecar.pipeline.ports import Clock

log = logging.getLogger(__name__)

CACHE_FILE = "cache.snapshot"
SNAPSHOT_EVERY = 300.0
SNAPSHOT_LIMITS = SnapshotLimits(seconds=3.0)
"""Short enough for the time that is left between the end of a drain and SIGKILL."""


def cache_keeper(state_dir: str, store: MemoryStore, clock: Clock) -> CacheKeeper:
    """What keeps `store` in `state_dir`."""
    return CacheKeeper(Path(state_dir, CACHE_FILE), clock, store)


class CacheKeeper:
    """Fills the store from a snapshot, and writes one every `every` seconds in which the store changed."""

    def __init__(self, path: Path, clock: Clock, store: MemoryStore, every: float = SNAPSHOT_EVERY) -> None:
        self._path = path
        self._file = SnapshotFile(path, clock, SNAPSHOT_LIMITS)
        self._store = store
        self._every = every

    async def restore(self) -> None:
        """Nobody else may use the store meanwhile."""
        count = await asyncio.to_thread(self._file.load, self._store)
        if count:
            log.info("%d stored answers taken up from %s", count, self._path)

    async def run(self) -> None:
        """Save now and then, for as long as the task lives."""
        saved = self._contents()
        while True:
            await asyncio.sleep(self._every)
            if (contents := self._contents()) != saved:
                saved = contents
                await self.save()

    async def save(self) -> None:
        """Write a snapshot, in place of the one before."""
        await self._file.save(self._store)

    def hurry(self) -> None:
        """End a save that is under way with what it has, and begin no other."""
        self._file.hurry()

    def _contents(self) -> tuple[int, int, int]:
        """Differs whenever the store holds something else."""
        stats = self._store.stats
        return stats.entries, stats.bytes, sum(stats.evictions.values())
