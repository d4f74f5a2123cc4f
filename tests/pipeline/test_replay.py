"""One source, one reader after another."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.pipeline.errors import ClientGone
from sidecar.pipeline.message import Body, BodyEnd
from sidecar.pipeline.replay import ReplayableBody
from sidecar.pipeline.streams import StreamBody
from tests.support.wire import turns


class Valve:
    def __init__(self) -> None:
        self.abandoned = 0

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def body_abandoned(self) -> None:
        self.abandoned += 1


class World:
    def __init__(self, *, limit: int = 5, length: int | None = None) -> None:
        self.valve = Valve()
        self.source = StreamBody(length, self.valve)
        self.replay = ReplayableBody(self.source, limit)

    def reader(self) -> Body:
        reader = self.replay.read_anew()
        assert reader is not None
        return reader


async def whole(body: Body) -> bytes:
    pieces = []
    while piece := await body.read():
        pieces.append(piece)
    return b"".join(pieces)


async def test_each_reader_gets_the_whole() -> None:
    world = World()
    first = world.reader()
    world.source.feed(b"abc")
    assert await first.read() == b"abc"
    first.close()
    second = world.reader()
    world.source.feed(b"de")
    world.source.feed_end()
    assert await whole(second) == b"abcde"
    assert world.replay.whole
    assert await whole(world.reader()) == b"abcde"
    assert second.end is BodyEnd.COMPLETE


async def test_a_body_longer_than_the_limit_is_read_once() -> None:
    world = World()
    first = world.reader()
    world.source.feed(b"abc")
    await first.read()
    world.source.feed(b"def")
    assert await first.read() == b"def"
    assert world.replay.read_anew() is None
    assert world.valve.abandoned == 1


async def test_one_that_is_announced_to_be_too_long_is_read_once_even_if_nothing_was_read() -> None:
    world = World(length=6)
    world.reader()
    assert world.replay.read_anew() is None


async def test_a_piece_that_a_reader_waited_for_which_gave_up_goes_to_the_next() -> None:
    world = World()
    first = world.reader()
    waiting = asyncio.create_task(first.read())
    await turns(1)
    second = world.reader()
    reading = asyncio.create_task(whole(second))
    await turns(1)
    world.source.feed(b"ab")
    world.source.feed_end()
    assert await waiting == b""
    assert await reading == b"ab"
    assert first.end is BodyEnd.ABANDONED


async def test_a_reader_that_is_cancelled_while_it_waits_loses_nothing() -> None:
    world = World()
    first = world.reader()
    waiting = asyncio.create_task(first.read())
    await turns(1)
    waiting.cancel()
    reading = asyncio.create_task(whole(world.reader()))
    await turns(3)
    world.source.feed(b"ab")
    world.source.feed_end()
    assert await reading == b"ab"
    assert waiting.cancelled()


async def test_who_breaks_the_body_off_breaks_it_off_for_every_reader() -> None:
    world = World()
    world.source.feed_end(ClientGone("left"))
    for _ in range(2):
        reader = world.reader()
        with pytest.raises(ClientGone):
            await reader.read()
        assert isinstance(reader.end, ClientGone)


@pytest.mark.parametrize("settled_first", [True, False], ids=["settled, then closed", "closed, then settled"])
async def test_after_the_last_reader_the_source_is_given_up(*, settled_first: bool) -> None:
    world = World()
    reader = world.reader()
    for step in (world.replay.settle, reader.close) if settled_first else (reader.close, world.replay.settle):
        assert world.valve.abandoned == 0
        step()
    assert world.valve.abandoned == 1


async def test_who_still_reads_goes_on_after_it_was_settled() -> None:
    world = World()
    reader = world.reader()
    world.replay.settle()
    world.source.feed(b"abcdef")
    world.source.feed_end()
    assert await whole(reader) == b"abcdef"
    assert world.valve.abandoned == 0
