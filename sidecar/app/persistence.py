"""`state_dir`: what outlives the process. Overrides and open circuits (breaker.md 23), and the cache (cache.md 27).

A directory that cannot be used, or that another process uses, is an error at the start, when somebody looks. Later, a
disk that is full costs a warning and no request.

The directory belongs to one process from before its files are read until after they have been written for the last
time; a process that drains still has it. Two would each overwrite what the other saved.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.adapters import state_file
from sidecar.adapters.exclusive import FileLock
from sidecar.adapters.snapshot_file import SnapshotFile, SnapshotLimits
from sidecar.pipeline.slices import in_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sidecar.adapters.memory_store import MemoryStore
    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.circuit.explanation import SavedCircuit
    from sidecar.pipeline.ports import Clock, Spawn

log = logging.getLogger(__name__)

CIRCUITS_FILE = "circuits.json"
CACHE_FILE = "cache.snapshot"
LOCK_FILE = "lock"
DELAY = 0.2
"""Seconds from a change to its saving, so that a burst of transitions is written once."""
RETRY = 10.0
SNAPSHOT_EVERY = 300.0
SNAPSHOT_LIMITS = SnapshotLimits(seconds=3.0)
"""Short enough for the time that is left between the end of a drain and SIGKILL."""


class Persistence:
    """Everything in `state_dir`: `open` and `restore` before anybody is served, `begin`, and `close` at the end."""

    def __init__(
        self, path: str, clock: Clock, store: MemoryStore, circuits: Callable[[], Mapping[str, Circuit]], spawn: Spawn
    ) -> None:
        self._directory = Path(path)
        self._lock = FileLock(self._directory / LOCK_FILE)
        self._circuits = CircuitKeeper(self._directory / CIRCUITS_FILE, clock, circuits, spawn)
        self._cache = CacheKeeper(self._directory / CACHE_FILE, clock, store)
        self._spawn = spawn

    async def open(self) -> None:
        """Make the directory if there is none, and take it for this process. Raises OSError, with its path, when
        nothing can be written there or another process uses it.
        """
        try:
            await asyncio.to_thread(_try_out, self._directory)
            free = await asyncio.to_thread(self._lock.acquire)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(error.errno, f"state_dir {self._directory} cannot be used: {reason}") from error
        if not free:
            raise OSError(errno.EBUSY, f"state_dir {self._directory} is in use by another process")

    def release(self) -> None:
        """Let another process have the directory, after `close` if there was a `begin`."""
        self._lock.release()

    async def restore(self) -> None:
        """Take up what an earlier process left; what is damaged is passed over with a warning."""
        await self._circuits.restore()
        await self._cache.restore()

    def begin(self) -> None:
        """Save from now on."""
        self._circuits.begin()
        self._spawn(self._cache.run(), name="save the cache now and then")

    def circuits_changed(self) -> None:
        """There was a transition, an override began or ended, or a circuit is gone."""
        self._circuits.changed()

    async def close(self, hurry: asyncio.Event) -> None:
        """Save for the last time. It may take seconds, but not once `hurry` is set."""
        await self._circuits.close()
        if hurry.is_set():
            self._cache.hurry()
        waiting = self._spawn(self._cut_short(hurry), name="hurry")
        await self._cache.save()
        waiting.cancel()

    async def _cut_short(self, hurry: asyncio.Event) -> None:
        await hurry.wait()
        self._cache.hurry()


def _try_out(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True)
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(b"x")


class CircuitKeeper:
    """Takes the circuits up where the process before left them, and writes them down soon after each change."""

    def __init__(self, path: Path, clock: Clock, circuits: Callable[[], Mapping[str, Circuit]], spawn: Spawn) -> None:
        self._path = path
        self._clock = clock
        self._circuits = circuits
        self._spawn = spawn
        self._writing = asyncio.Lock()
        self._saver: asyncio.Task[None] | None = None
        self._keeping = False
        self._unsaved = False
        self._failing = False

    async def restore(self) -> None:
        """Tell each circuit what was saved of it."""
        saved = await asyncio.to_thread(state_file.load, self._path, self._clock)
        circuits = self._circuits()
        for name in saved.keys() & circuits.keys():
            circuits[name].restore(saved[name], self._clock.monotonic())
        if gone := saved.keys() - circuits.keys():
            log.info("saved circuits of routes that are gone are dropped: %s", ", ".join(sorted(gone)))

    def begin(self) -> None:
        """Save from now on."""
        self._keeping = True
        if self._unsaved:
            self.changed()

    def changed(self) -> None:
        """Save soon; whatever changes until then goes along."""
        self._unsaved = True
        if self._saver is None and self._keeping:
            self._saver = self._spawn(self._save_soon(), name="save circuits")

    async def close(self) -> None:
        """Save a last time, if `begin` was called."""
        if self._keeping:
            self._keeping = False
            await self._save()

    async def _save_soon(self) -> None:
        try:
            while self._unsaved and self._keeping:
                await asyncio.sleep(RETRY if self._failing else DELAY)
                await self._save()
        finally:
            self._saver = None

    async def _save(self) -> None:
        async with self._writing:
            self._unsaved = False
            exported = await in_slices(self._exported())
            saved = {name: circuit for name, circuit in exported if circuit is not None}
            try:
                await asyncio.to_thread(state_file.save, self._path, saved, self._clock)
            except OSError as error:
                self._failed(error)
            else:
                self._failing = False

    def _exported(self) -> Iterator[tuple[str, SavedCircuit | None]]:
        for name, circuit in self._circuits().items():
            yield name, circuit.export(self._clock.monotonic())

    def _failed(self, error: OSError) -> None:
        if not self._failing:
            log.warning("overrides and open circuits are not saved, trying again: %s", error)
        self._failing = self._unsaved = True


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
