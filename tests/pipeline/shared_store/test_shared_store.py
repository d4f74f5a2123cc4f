"""One sidecar and a scripted fleet's store: when it looks, when it does not, and what it says and hears."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.core.storage.purging import PurgeRule
from sidecar.core.storage.shared_purges import ALL, FLEETS_STORE, write_rule
from sidecar.core.storage.shared_value import write_value
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.fleet.ports import StoreUnavailable
from sidecar.pipeline.runtime import Runtime
from sidecar.pipeline.shared_store.ports import Batch, Found, News
from sidecar.pipeline.shared_store.shared_store import READS_BREAKER, SharedStore
from sidecar.pipeline.stats import SharedStoreStats
from sidecar.pipeline.tasks import Tasks
from tests.support.fake_store import FakeStore
from tests.support.stored_answers import StillClock, answer
from tests.support.wire import eventually, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from sidecar.core.cache.stored import Selecting, StoredResponse
    from sidecar.pipeline.ports import Purged, WriteToken

KEY = answer().key
TOO_SOON = 0.005
"""Seconds: a deadline that certainly passes."""
AMPLE = 5.0


class Memory(FakeStore):
    """A store that tells its follower."""

    def put(self, stored: StoredResponse, token: WriteToken) -> bool:
        kept = super().put(stored, token)
        if kept and self.follower is not None:
            self.follower.kept(stored)
        return kept

    def invalidate(self, key: bytes, variants: Collection[Selecting] | None = None) -> int:
        if self.follower is not None:
            self.follower.invalidated(key, variants)
        return super().invalidate(key, variants)

    def purge(self, **selectors: str | bytes | None) -> Purged:
        if self.follower is not None:
            self.follower.purged(PurgeRule(**selectors))  # type: ignore[arg-type]  # the same
        return super().purge(**selectors)  # type: ignore[arg-type]  # the same


class Far:
    """The fleet's store, as a test says it is."""

    def __init__(self) -> None:
        self.found = Found((), 0)
        self.broken: StoreUnavailable | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads: list[bytes] = []
        self.batches: list[tuple[int, Batch]] = []
        self.position = 1
        self.newest = 0
        self.purges: list[tuple[int, bytes, bool]] = []
        self.gone: list[bytes] = []
        self.heard: Callable[[int], None] = lambda _: None
        self.closed = False

    async def read(self, key: bytes) -> Found:
        self.reads.append(key)
        await self._answer()
        return self.found

    async def exchange(self, known: int, batch: Batch) -> News:
        self.batches.append((known, batch))
        await self._answer()
        written = sum(len(change.writes) for change in batch.changes)
        return News(self.position, self.newest, ["stored"] * written, self.purges, self.gone)

    async def version(self) -> int | None:
        await self._answer()
        return self.position

    async def listen(self, heard: Callable[[int], None]) -> None:
        self.heard = heard
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True

    async def _answer(self) -> None:
        if self.broken is not None:
            raise self.broken
        await self.gate.wait()


class World:
    """One sidecar's memory with the fleet's store behind it."""

    def __init__(self, read_timeout: float | None = AMPLE) -> None:
        self.clock = StillClock()
        self.memory = Memory()
        self.far = Far()
        self.tasks = Tasks()
        self.stats = SharedStoreStats()
        runtime = Runtime(self.clock, DeadlineWheel(self.clock), self.tasks.spawn)
        self.shared = SharedStore(self.memory, self.far, runtime, self.stats, read_timeout)

    def has(self, stored: StoredResponse, position: int = 1, elapsed: float = 0.0) -> None:
        """The fleet's store has it."""
        value = write_value(stored, position, self.clock.now, self.clock.time)
        self.far.found = Found([(elapsed, value)], self.far.newest)

    def hears(self, position: int, rule: bytes = b"", gone: bytes = b"", *, own: bool = False) -> None:
        """Somebody else purged, or invalidated."""
        self.far.position = position
        if gone:
            self.far.gone = [gone]
        else:
            self.far.newest, self.far.purges = position, [(position, rule, own)]
        self.far.heard(position)

    def put(self, stored: StoredResponse) -> None:
        assert self.memory.put(stored, self.memory.begin(stored.key))

    def written(self) -> list[bytes]:
        return [change.key for _, batch in self.far.batches for change in batch.changes if change.writes]

    def cleared(self) -> list[bytes]:
        return [change.key for _, batch in self.far.batches for change in batch.changes if change.clear]

    def kept(self) -> list[bytes]:
        return [stored.body for stored in self.memory.all()]


@pytest.fixture
async def world(no_task_leaks: None) -> AsyncIterator[World]:  # noqa: ARG001 - torn down after it
    world = World()
    await world.shared.join()
    yield world
    await world.shared.leave()
    assert world.far.closed
    await world.tasks.cancel_all()


def timing_out(world: World) -> None:
    world.far.gate.clear()
    world.shared._read_timeout = TOO_SOON


# Looking


async def test_what_is_found_comes_into_memory_and_is_not_written_back(world: World) -> None:
    world.has(answer())
    assert await world.shared.look(KEY)
    assert world.kept() == [b"body"]
    await world.shared.told(writes=True)
    assert world.written() == []


async def test_what_does_not_come_in_time_is_a_miss_and_helps_the_next_request(world: World) -> None:
    world.has(answer())
    timing_out(world)
    assert not await world.shared.look(KEY)
    assert KEY in world.memory.unread
    assert (world.stats.reads["timeout"], world.kept()) == (1, [])
    world.far.gate.set()
    await eventually(world.kept)


async def test_a_store_that_is_too_slow_is_not_asked_for_a_while(world: World) -> None:
    timing_out(world)
    limit = READS_BREAKER.failure_threshold
    assert limit
    for number in range(limit + 5):
        await world.shared.look(b"%d" % number)
    assert len(world.far.reads) == limit
    assert world.stats.reads["skipped"] == 5
    world.far.gate.set()
    world.clock.now += READS_BREAKER.open_duration * 1.5
    world.shared._read_timeout = AMPLE
    assert not await world.shared.look(b"probe")
    assert world.stats.reads["miss"] == 1
    await world.shared.look(b"closed again")
    assert world.stats.reads["miss"] == 2


async def test_a_look_that_fails_is_a_miss(world: World) -> None:
    world.far.broken = StoreUnavailable("connection", "gone")
    assert not await world.shared.look(KEY)
    assert world.stats.reads["error"] == 1


async def test_a_client_that_leaves_takes_the_look_from_nobody_else(world: World) -> None:
    world.has(answer())
    world.far.gate.clear()
    leaving = asyncio.ensure_future(world.shared.look(KEY))
    staying = asyncio.ensure_future(world.shared.look(KEY))
    await eventually(lambda: world.far.reads)
    leaving.cancel()
    world.far.gate.set()
    assert await staying
    assert world.far.reads == [KEY]


async def test_nothing_is_read_before_it_is_known_what_was_purged(no_task_leaks: None) -> None:  # noqa: ARG001
    world = World()
    world.far.broken = StoreUnavailable("connection", "gone")
    await world.shared.join()
    world.far.broken = None
    world.has(answer())
    assert not await world.shared.look(KEY)
    assert (world.far.reads, world.stats.reads["skipped"]) == ([], 1)
    await world.shared.leave()
    await world.tasks.cancel_all()


async def test_a_key_that_is_still_to_be_told_of_is_not_read(world: World) -> None:
    world.has(answer(body=b"older"))
    world.far.gate.clear()
    world.memory.invalidate(KEY)
    assert not await world.shared.look(KEY)
    assert world.far.reads == []
    world.far.gate.set()


async def test_nothing_is_read_while_a_purge_is_still_to_be_told(world: World) -> None:
    world.far.gate.clear()
    world.memory.purge(tag=b"t")
    assert not await world.shared.look(KEY)
    assert world.far.reads == []
    world.far.gate.set()


async def test_an_answer_that_is_invalidated_while_it_is_read_does_not_come(world: World) -> None:
    world.has(answer())
    world.far.gate.clear()
    looking = asyncio.ensure_future(world.shared.look(KEY))
    await eventually(lambda: world.far.reads)
    world.memory.invalidate(KEY)
    world.far.gate.set()
    assert not await looking
    assert world.kept() == []


async def test_an_answer_that_a_purge_covers_does_not_come(world: World) -> None:
    world.hears(10, write_rule(PurgeRule(tag=b"t")))
    await eventually(lambda: world.shared.position == 10)
    for position, expected in ((9, False), (10, True)):
        world.has(answer(tags=(b"t",)), position)
        assert await world.shared.look(KEY) == expected


async def test_an_answer_beside_a_purge_that_is_not_known_here_does_not_come_until_it_is(world: World) -> None:
    world.has(answer())
    world.far.found = world.far.found._replace(newest=10)
    assert not await world.shared.look(KEY)
    assert world.stats.reads["behind"] == 1
    world.far.position = world.far.newest = 10
    world.far.purges = [(10, write_rule(PurgeRule(tag=b"other")), False)]
    await eventually(lambda: world.shared.position == 10)
    assert await world.shared.look(KEY)


async def test_what_can_answer_nothing_any_more_does_not_come(world: World) -> None:
    world.has(answer(keep_until=world.clock.now + 10), elapsed=11)
    assert not await world.shared.look(KEY)


# Telling


async def test_what_memory_keeps_and_forgets_is_told(world: World) -> None:
    world.put(answer(1))
    world.put(answer(2))
    world.memory.invalidate(answer(2).key)
    world.memory.purge(tag=b"t")
    assert await world.shared.told(writes=True)
    assert world.written() == [answer(1).key]
    assert world.cleared() == [answer(2).key]
    assert [rule for _, batch in world.far.batches for rule in batch.rules] == [write_rule(PurgeRule(tag=b"t"))]
    assert world.stats.writes["stored"] == 1


async def test_all_is_told_only_when_the_last_has_arrived(world: World) -> None:
    world.put(answer(1))
    world.far.gate.clear()
    telling = asyncio.ensure_future(world.shared.told(AMPLE, writes=True))
    await eventually(world.written)
    await turns(10)
    assert not telling.done()
    world.far.gate.set()
    assert await telling
    assert world.stats.writes["stored"] == 1


async def test_what_cannot_be_told_is_told_later(world: World) -> None:
    world.far.broken = StoreUnavailable("connection", "gone")
    world.put(answer(1))
    world.memory.purge(tag=b"t")
    assert not await world.shared.told()
    world.far.broken = None
    await eventually(lambda: world.written() == [answer(1).key], within=AMPLE)
    assert world.far.batches[-2][1].rules == [write_rule(PurgeRule(tag=b"t"))], "a purge goes first"
    assert await world.shared.told(writes=True)


async def test_an_unread_key_that_the_upstream_no_longer_has_is_cleared(world: World) -> None:
    world.shared.unknown(KEY)
    world.memory.invalidate(KEY, [])
    assert KEY not in world.memory.unread
    world.memory.invalidate(answer(2).key, [])
    assert await world.shared.told(writes=True)
    assert world.cleared() == [KEY]


async def test_where_answers_are_not_shared_purges_are(no_task_leaks: None) -> None:  # noqa: ARG001
    world = World(read_timeout=None)
    await world.shared.join()
    world.put(answer(1))
    world.memory.invalidate(answer(2).key)
    world.memory.purge(tag=b"t")
    assert await world.shared.told()
    assert [batch.changes for _, batch in world.far.batches if batch.changes] == []
    assert [rule for _, batch in world.far.batches for rule in batch.rules] == [write_rule(PurgeRule(tag=b"t"))]
    world.hears(10, write_rule(PurgeRule(url=answer(1).url)))
    await eventually(lambda: not world.kept())
    await world.shared.leave()
    await world.tasks.cancel_all()


# Hearing


@pytest.mark.parametrize(
    ("rule", "own", "left"),
    [
        (write_rule(PurgeRule(tag=b"t")), False, 1),
        (write_rule(PurgeRule(tag=b"t")), True, 2),
        (ALL, False, 0),
        (b"from a later version", False, 0),
        (FLEETS_STORE, False, 2),
    ],
)
async def test_what_others_purge_goes_here_too(world: World, rule: bytes, own: bool, left: int) -> None:  # noqa: FBT001
    world.put(answer(1, tags=(b"t",)))
    world.put(answer(2))
    world.hears(10, rule, own=own)
    await eventually(lambda: world.shared.position == 10)
    assert len(world.kept()) == left


async def test_what_others_invalidate_goes_here_too_and_fetches_of_it_lose(world: World) -> None:
    world.put(answer())
    token = world.memory.begin(KEY)
    world.hears(10, gone=KEY)
    await eventually(lambda: not world.kept())
    assert not world.memory.put(answer(), token)
    await world.shared.told(writes=True)
    assert world.cleared() == [], "what others said is not said again"


async def test_what_the_store_has_forgotten_of_purges_is_told_again(world: World) -> None:
    rule = write_rule(PurgeRule(tag=b"t"))
    world.hears(10, rule)
    await eventually(lambda: world.shared.position == 10)
    world.far.newest, world.far.purges = 0, []
    world.put(answer())
    await world.shared.told(writes=True)
    assert [batch.again for _, batch in world.far.batches if batch.again] == [((10, rule),)]
