"""A sidecar's side of the fleet's store: looks into it, writes behind, and hears what others purge."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING

from sidecar.core.circuit.circuit import Circuit
from sidecar.core.circuit.hooks import Hooks
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit
from sidecar.core.config import BreakerSettings
from sidecar.core.storage.shared_purges import FLEETS_STORE, FleetPurges, read_rule
from sidecar.core.storage.shared_value import read_value, write_value
from sidecar.pipeline.fleet.ports import StoreUnavailable
from sidecar.pipeline.shared_store.behind import WriteBehind
from sidecar.pipeline.shared_store.ports import Batch, KeyChange, Write

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sidecar.core.cache.stored import Selecting, StoredResponse
    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.storage.purging import PurgeRule
    from sidecar.pipeline.ports import CacheStore, WriteToken
    from sidecar.pipeline.runtime import Runtime
    from sidecar.pipeline.shared_store.behind import Change
    from sidecar.pipeline.shared_store.ports import FarStore, Found, News
    from sidecar.pipeline.stats import SharedStoreStats

LOOK_EVERY = 0.5
"""Seconds between looks at the position of the latest event: a purge reaches everybody within a second."""
LONGEST_PAUSE = 1.5
"""Seconds between tries while the store fails."""
START_TIMEOUT = 1.0
CLOSE_TIMEOUT = 1.0
TELL_TIMEOUT = 1.0
READS_AT_ONCE = 24
UNREAD_KEPT = 4096
PATIENCE = 3
"""Tries in a row that fail, after which answers are not sent again."""
LONGEST_TTL = 30 * 86400.0
PURGES_LAST = 29 * 86400 * 1_000_000
"""Positions, which are microseconds: where a purge is older than this, no answer is."""
NEWER = 0.1
"""Seconds by which an answer must be younger than the one in memory to take its place."""
THREADED = 64 * 1024
"""Octets from which on values are made, or read, in a thread."""
READS_BREAKER = BreakerSettings(failure_threshold=5, failure_rate=None, open_duration=1.0, success_threshold=1)
"""The circuit before the looks of requests. A look that takes longer than `read_timeout` is a failure."""


class SharedStore:
    """Behind `memory`, which tells it what it keeps and forgets (`StoreFollower`).

    `read_timeout`: how long a request waits for a look, in seconds; None: the sidecars share no answers, but purges.
    """

    def __init__(
        self, memory: CacheStore, far: FarStore, runtime: Runtime, stats: SharedStoreStats, read_timeout: float | None
    ) -> None:
        self.stats = stats
        self.shares_answers = read_timeout is not None
        self._memory = memory
        self._far = far
        self._clock = runtime.clock
        self._spawn = runtime.spawn
        self._read_timeout = read_timeout
        self._behind = WriteBehind()
        self._purges = FleetPurges()
        self._known = 0
        self._joined = False
        self._deaf = False
        self._echo = False
        self._reads: dict[bytes, Reading] = {}
        self._unread: OrderedDict[bytes, None] = OrderedDict()
        hooks = Hooks(random.random, _unheard, _failed)
        self._circuit = Circuit("shared store", READS_BREAKER, hooks, self._clock.monotonic())
        self._wake = asyncio.Event()
        self._failures = 0
        self._told = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        memory.follower = self
        memory.unread = self._unread

    @property
    def position(self) -> int:
        """Up to which event of the fleet everything is known here."""
        return self._known

    # What memory tells

    def kept(self, stored: StoredResponse) -> None:
        """Memory keeps it: so shall the fleet's store."""
        self._unread.pop(stored.key, None)
        if self.shares_answers and not self._echo:
            self._behind.put(stored)
            self._changed()

    def invalidated(self, key: bytes, variants: Collection[Selecting] | None) -> None:
        """Memory has forgotten all variants of `key`, or these."""
        if self._echo or not self.shares_answers:
            return
        unread = self._unread.pop(key, self) is None
        if variants is None or (variants and not unread):
            self._behind.invalidate(key, variants)
        elif unread:
            # Nobody knows whether there is anything, so it may be forgotten where there is too much to be told.
            self._behind.invalidate(key, None, needed=False)
        self._changed()

    def purged(self, rule: PurgeRule) -> None:
        """Memory was purged."""
        if not self._echo:
            self._behind.purge(rule)
            self._changed()

    def _changed(self) -> None:
        self.stats.queued = len(self._behind)
        self.stats.writes["dropped"] = self._behind.dropped
        if not self._failures:
            self._wake.set()

    # What a request asks

    async def look(self, key: bytes) -> bool:
        """Whether something came into memory that the fleet's store has under `key`. Waits for `read_timeout`."""
        if key in self._behind:
            # What is there is older than what memory has been told.
            return False
        reading = self._reads.get(key) or self._begin(key)
        if reading is None:
            self._leave_unread(key, "skipped")
            return False
        await asyncio.wait({reading.task}, timeout=self._read_timeout)
        if not reading.task.done():
            self._settle(reading, Outcome.FAILURE)
            self._leave_unread(key, "timeout")
            return False
        self._count(key, reading.result)
        return reading.result == "hit"

    def _begin(self, key: bytes) -> Reading | None:
        """A new look, if there may be one now."""
        if not self._joined or self._behind.telling or len(self._reads) >= READS_AT_ONCE:
            return None
        permit = self._circuit.ask(self._clock.monotonic(), safe=True)
        if not isinstance(permit, Permit):
            return None
        reading = self._reads[key] = Reading(permit)
        reading.task = self._spawn(self._read(key, reading), name="look into the shared store")
        return reading

    async def _read(self, key: bytes, reading: Reading) -> None:
        token = self._memory.begin(key)
        try:
            found = await self._far.read(key)
            self._settle(reading, Outcome.SUCCESS)
            reading.result = await self._take(key, found, token)
        except StoreUnavailable:
            self._settle(reading, Outcome.FAILURE)
        finally:
            self._settle(reading, Outcome.CANCELLED)
            del self._reads[key]

    def _settle(self, reading: Reading, outcome: Outcome) -> None:
        if reading.permit is not None:
            self._circuit.settle(reading.permit, outcome, self._clock.monotonic())
            reading.permit = None

    async def _take(self, key: bytes, found: Found, token: WriteToken) -> str:
        """Bring what was found into memory, unless it was purged or there is something newer; what came of it."""
        if found.newest > self._purges.newest:
            # Others have purged something that has not been heard of here.
            self._deaf = True
            self._wake.set()
            return "behind"
        self.stats.reads["damaged"] += found.damaged
        taken = False
        for elapsed, octets in reversed(found.values):
            try:
                if len(octets) < THREADED:
                    value = read_value(octets, key, elapsed, self._clock.monotonic())
                else:
                    value = await asyncio.to_thread(read_value, octets, key, elapsed, self._clock.monotonic())
            except ValueError:
                self.stats.reads["damaged"] += 1
                continue
            taken |= self._bring(value.stored, value.position, token)
        return "hit" if taken else "miss"

    def _bring(self, stored: StoredResponse, position: int, token: WriteToken) -> bool:
        if (
            stored.keep_until <= self._clock.monotonic()
            or stored.key in self._behind
            or self._purges.covered(position, stored.route, stored.url, stored.tags)
        ):
            return False
        for one in self._memory.get(stored.key):
            if one.selecting == stored.selecting and stored.born < one.born + NEWER:
                return False
        self._echo = True
        try:
            return self._memory.put(stored, token)
        finally:
            self._echo = False

    def _count(self, key: bytes, result: str) -> None:
        if result in ("hit", "miss"):
            self.stats.reads[result] += 1
            self._unread.pop(key, None)
        else:
            self._leave_unread(key, result)

    def _leave_unread(self, key: bytes, why: str) -> None:
        self.stats.reads[why] += 1
        self.unknown(key)

    def unknown(self, key: bytes) -> None:
        """The upstream is asked for `key`, and nobody has looked whether there is anything here."""
        self._unread[key] = None
        if len(self._unread) > UNREAD_KEPT:
            self._unread.popitem(last=False)

    # What goes on behind the requests

    async def join(self) -> None:
        """Hear what was purged, unless the store does not answer in time; before that, nothing is read there."""
        self._tasks.append(self._spawn(self._far.listen(self._hear), name="listen to the shared store"))
        first = self._spawn(self._round(), name="join the shared store")
        await asyncio.wait({first}, timeout=START_TIMEOUT)
        if not first.done():
            first.cancel()
        self._tasks.append(self._spawn(self._run(), name="write to the shared store"))

    async def leave(self) -> None:
        """Write what is still to be written, if that is soon done, and let go of the store."""
        if self._joined and not self._failures and len(self._behind):
            await self.told(CLOSE_TIMEOUT, writes=True)
        tasks = [*self._tasks, *(reading.task for reading in self._reads.values())]
        self._tasks = []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._far.close()

    async def told(self, timeout: float = TELL_TIMEOUT, *, writes: bool = False) -> bool:  # noqa: ASYNC109 - no raise
        """Wait until the store has been told of every purge, and of all `writes`; whether it has. Where the store fails
        it will be, as soon as it answers.
        """
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                while self._behind.telling or (writes and self._behind):
                    if self._failures:
                        return False
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            return False
        return True

    def _hear(self, position: int) -> None:
        if position != self._known:
            self._deaf = True
            self._wake.set()

    async def _run(self) -> None:
        while True:
            pause = min(LOOK_EVERY * 2 ** min(self._failures, 4), LONGEST_PAUSE)
            try:
                async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - no secret
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self._round()

    async def _round(self) -> None:
        """Say and hear what is new."""
        try:
            if self._quiet() and await self._far.version() == self._known and self._quiet():
                return
            while await self._exchange():
                self._told.set()
        except StoreUnavailable:
            self._failures += 1
        else:
            self._failures = 0
        finally:
            self._told.set()

    def _quiet(self) -> bool:
        """Whether there is nothing to say, and nothing missed that is known of."""
        return self._joined and not self._failures and not self._deaf and not self._behind

    async def _exchange(self) -> bool:
        """Tell some of what is to be told; whether there is more."""
        rules = self._behind.take_rules()
        # Before the first exchange nobody knows what was purged, and before a purge is told what comes after it.
        changes = {} if rules or not self._joined else self._behind.take()
        try:
            batch = Batch(rules, changes=await self._prepared(changes))
            news = await self._far.exchange(self._known, batch)
        except BaseException:
            self._behind.failed(give_up=self._failures >= PATIENCE)
            raise
        self._behind.done()
        self._hear_news(news)
        for result in news.results:
            self.stats.writes[result] += 1
        self.stats.queued = len(self._behind)
        if news.newest < self._purges.newest > news.position - PURGES_LAST:
            await self._far.exchange(self._known, Batch(again=tuple(self._purges.all())))
        return bool(self._behind)

    async def _prepared(self, changes: dict[bytes, Change]) -> list[KeyChange]:
        """The changes with their values. Large ones are made in a thread, from what cannot change meanwhile."""
        known, now, wall = self._known, self._clock.monotonic(), self._clock.wall()
        work = [
            (key, change.clear, [name_of(one) for one in change.drops], list(change.puts.values()))
            for key, change in changes.items()
        ]

        def prepare() -> list[KeyChange]:
            return [
                KeyChange(key, clear, drops, list(_writes(puts, known, now, wall))) for key, clear, drops, puts in work
            ]

        if sum(change.bytes for change in changes.values()) < THREADED:
            return prepare()
        return await asyncio.to_thread(prepare)

    def _hear_news(self, news: News) -> None:
        """Do here what others did."""
        self._echo = True
        try:
            for position, octets, own in news.purges:
                if self._purges.learn(position, octets) and not own and octets != FLEETS_STORE:
                    rule = read_rule(octets)
                    self._behind.scrub(rule)
                    self._memory.purge(route=rule.route, url=rule.url, prefix=rule.prefix, tag=rule.tag)
            for key in news.gone:
                self._behind.scrub_key(key)
                self._memory.invalidate(key)
        finally:
            self._echo = False
        self._known = news.position
        self._joined, self._deaf = True, False


class Reading:
    """A look under way. `permit` is the circuit's, None once it is settled."""

    __slots__ = ("permit", "result", "task")

    task: asyncio.Task[None]

    def __init__(self, permit: Permit) -> None:
        self.permit: Permit | None = permit
        self.result = "error"


def name_of(selecting: Selecting) -> bytes:
    """The variant's name in the fleet's store."""
    return sha256(repr(selecting).encode()).hexdigest()[:16].encode()


def _writes(puts: Iterable[StoredResponse], known: int, now: float, wall: float) -> Iterable[Write]:
    for stored in puts:
        ttl = min(stored.keep_until - now, LONGEST_TTL)
        if ttl > 0:
            try:
                yield Write(name_of(stored.selecting), ttl, write_value(stored, known, now, wall))
            except ValueError:
                continue  # A number that no value can hold, or too much of it: it is this sidecar's alone.


def _unheard(transition: Transition) -> None:
    """Looks that are not made are counted."""


def _failed(error: Exception) -> None:
    """Nobody listens who could fail."""
