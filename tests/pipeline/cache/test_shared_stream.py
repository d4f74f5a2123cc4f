"""One body that several read: whoever is slow, memory is bounded and nobody is held up for ever."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.pipeline.cache.shared_stream import SharedStream
from sidecar.pipeline.errors import ClientTooSlow
from sidecar.pipeline.message import BodyEnd
from tests.support.cache_world import ScriptedBody, read_all, until

PIECE = b"x" * 1000


def stream(pieces: int, *, limit: int = 10_000, patience: float = 5.0) -> tuple[SharedStream, ScriptedBody, list[str]]:
    source = ScriptedBody([PIECE] * pieces, None)
    left: list[str] = []
    return SharedStream(source, limit, lambda: left.append("left"), patience), source, left


async def test_within_the_limit_nobody_waits_for_anybody() -> None:
    shared, source, _ = stream(10)
    slow = shared.open()
    assert await shared.pump() == PIECE * 10
    assert source.ends == [BodyEnd.COMPLETE]
    assert await read_all(slow) == PIECE * 10


async def test_a_hundred_megabytes_pass_in_bounded_memory_at_the_pace_of_the_slowest() -> None:
    shared, _, _ = stream(100_000)
    fast, slow = shared.open(), shared.open()
    most = 0

    async def read(reader: object, *, lazy: bool) -> int:
        nonlocal most
        total = 0
        while piece := await reader.read():  # type: ignore[attr-defined]  # a Body
            total += len(piece)
            most = max(most, shared.buffered)
            if lazy:
                await asyncio.sleep(0)
        return total

    whole, *totals = await asyncio.gather(shared.pump(), read(fast, lazy=False), read(slow, lazy=True))
    assert (whole, totals) == (None, [100_000_000, 100_000_000])
    assert most <= 10_000 + len(PIECE)


async def test_past_the_limit_nobody_new_may_join() -> None:
    shared, _, _ = stream(20)
    reader = shared.open()
    pump = asyncio.ensure_future(shared.pump())
    joinable = [shared.joinable]
    for _ in range(12):
        await reader.read()
    await asyncio.sleep(0)
    joinable.append(shared.joinable)
    assert joinable == [True, False]
    await read_all(reader)
    await pump


async def test_a_reader_that_reads_nothing_is_cut_off_so_that_the_others_go_on() -> None:
    shared, _, _ = stream(30, patience=0.01)
    stuck, reader = shared.open(), shared.open()
    pump = asyncio.ensure_future(shared.pump())
    assert await read_all(reader) == PIECE * 30
    assert await pump is None
    with pytest.raises(ClientTooSlow):
        await stuck.read()


async def test_a_slow_reader_that_leaves_makes_room() -> None:
    shared, _, left = stream(30)
    stuck, reader = shared.open(), shared.open()
    pump = asyncio.ensure_future(shared.pump())
    reading = asyncio.ensure_future(read_all(reader))
    await until(lambda: not shared.joinable)
    stuck.close()
    assert await reading == PIECE * 30
    await pump
    assert left == []


async def test_a_closed_reader_wakes_up_to_the_end() -> None:
    never = asyncio.Event()
    source = ScriptedBody([never], None)
    left: list[str] = []
    shared = SharedStream(source, 100, lambda: left.append("left"))
    reader = shared.open()
    pump = asyncio.ensure_future(shared.pump())
    reading = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    reader.close()
    assert await reading == b""
    assert left == ["left"]
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)
    assert source.ends == [BodyEnd.ABANDONED]


async def test_trailers_are_shared() -> None:
    shared, source, _ = stream(1)
    source.trailers.append((b"Digest", b"x"))
    assert shared.open().trailers == [(b"Digest", b"x")]
    await shared.pump()
