from __future__ import annotations

import asyncio

import pytest

from sidecar.pipeline.errors import ConnectionLost, ProxyError
from sidecar.pipeline.message import BodyEnd
from sidecar.pipeline.streams import HIGH_WATER, LOW_WATER, StreamBody
from tests.support.stages import FakeSink

PIECE = bytes(LOW_WATER)
CUT = ConnectionLost("cut")


class FakeValve:
    """Remembers what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_body(self) -> None:
        self.calls.append("pause")

    def resume_body(self) -> None:
        self.calls.append("resume")

    def body_abandoned(self) -> None:
        self.calls.append("abandoned")


class Stream:
    """A body with its valve, and how it ended."""

    def __init__(self, length: int | None = None) -> None:
        self.valve = FakeValve()
        self.body = StreamBody(length, self.valve)
        self.ends: list[BodyEnd | ProxyError] = []
        self.body.on_end(self.ends.append)

    def fill(self) -> None:
        """Feed until the valve closes."""
        while self.body.flowing:
            self.body.feed(PIECE)


async def test_pieces_are_read_in_order_and_then_the_end() -> None:
    stream = Stream()
    seen: list[bytes] = []
    stream.body.on_piece(seen.append)
    for piece in (b"a", b"bc"):
        stream.body.feed(piece)
    stream.body.feed_end()
    assert [await stream.body.read() for _ in range(4)] == [b"a", b"bc", b"", b""]
    assert seen == [b"a", b"bc"]
    assert stream.ends == [BodyEnd.COMPLETE]
    assert stream.valve.calls == []


async def test_a_reader_that_is_early_waits() -> None:
    stream = Stream()
    reading = asyncio.ensure_future(stream.body.read())
    await asyncio.sleep(0)
    assert not reading.done()
    stream.body.feed(b"a")
    stream.body.feed(b"b")
    assert await reading == b"a"
    assert await stream.body.read() == b"b"
    reading = asyncio.ensure_future(stream.body.read())
    await asyncio.sleep(0)
    stream.body.feed_end()
    assert await reading == b""


async def test_a_cancelled_reader_loses_nothing() -> None:
    stream = Stream()
    reading = asyncio.ensure_future(stream.body.read())
    await asyncio.sleep(0)
    reading.cancel()
    stream.body.feed(b"a")
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await stream.body.read() == b"a"


# Backpressure


async def test_the_valve_closes_above_high_water_and_opens_at_low_water() -> None:
    stream = Stream()
    stream.body.feed(bytes(HIGH_WATER))
    assert stream.body.flowing
    stream.body.feed(PIECE)
    stream.body.feed(PIECE)
    assert (stream.valve.calls, stream.body.flowing) == (["pause"], False)
    await stream.body.read()
    assert stream.valve.calls == ["pause"]
    await stream.body.read()
    assert (stream.valve.calls, stream.body.flowing) == (["pause", "resume"], True)
    await stream.body.read()
    assert stream.valve.calls == ["pause", "resume"]


async def test_the_valve_closes_and_opens_again_and_again() -> None:
    stream = Stream()
    for _ in range(3):
        stream.fill()
        while not stream.body.flowing:
            await stream.body.read()
    assert stream.valve.calls == ["pause", "resume"] * 3


async def test_a_source_that_has_ended_is_not_held_back() -> None:
    stream = Stream()
    stream.fill()
    stream.body.feed_end()
    assert stream.valve.calls == ["pause", "resume"]
    while await stream.body.read():
        pass
    assert stream.valve.calls == ["pause", "resume"]
    assert stream.ends == [BodyEnd.COMPLETE]


# Cut short


async def test_an_error_drops_what_is_buffered_and_is_raised_at_every_read() -> None:
    stream = Stream()
    stream.fill()
    stream.body.feed_end(CUT)
    assert stream.valve.calls == ["pause", "resume"]
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            await stream.body.read()
    assert stream.ends == [CUT]


async def test_an_error_wakes_the_reader() -> None:
    stream = Stream()
    reading = asyncio.ensure_future(stream.body.read())
    await asyncio.sleep(0)
    stream.body.feed_end(CUT)
    with pytest.raises(ConnectionLost):
        await reading
    assert stream.ends == [CUT]


async def test_only_the_first_end_of_the_source_counts() -> None:
    stream = Stream()
    stream.body.feed(b"a")
    stream.body.feed_end()
    stream.body.feed_end(CUT)
    assert [await stream.body.read() for _ in range(2)] == [b"a", b""]
    assert stream.ends == [BodyEnd.COMPLETE]


# Given up


async def test_a_reader_that_gives_up_tells_the_source_once() -> None:
    stream = Stream()
    stream.fill()
    for _ in range(2):
        stream.body.close()
    assert stream.valve.calls == ["pause", "abandoned"]
    assert stream.ends == [BodyEnd.ABANDONED]
    assert await stream.body.read() == b""


async def test_what_still_comes_for_nobody_is_dropped() -> None:
    stream = Stream()
    stream.body.close()
    stream.body.feed(bytes(2 * HIGH_WATER))
    stream.body.feed_end()
    assert stream.valve.calls == ["abandoned"]
    assert await stream.body.read() == b""


async def test_giving_up_wakes_a_reader_that_waits() -> None:
    stream = Stream()
    reading = asyncio.ensure_future(stream.body.read())
    await asyncio.sleep(0)
    stream.body.close()
    assert await reading == b""
    assert stream.ends == [BodyEnd.ABANDONED]


@pytest.mark.parametrize("error", [None, CUT], ids=["complete", "cut"])
async def test_a_source_that_ended_first_never_hears_that_its_reader_gave_up(error: ProxyError | None) -> None:
    stream = Stream()
    stream.body.feed(b"a")
    stream.body.feed_end(error)
    stream.body.close()
    assert stream.valve.calls == []
    assert stream.ends == [BodyEnd.ABANDONED]


# Poured


async def test_what_is_there_is_poured_before_what_comes_and_nothing_is_held_back_meanwhile() -> None:
    stream, sink = Stream(), FakeSink()
    seen: list[bytes] = []
    stream.body.on_piece(seen.append)
    stream.body.feed(b"a")
    pouring = asyncio.ensure_future(stream.body.pour(sink))
    await asyncio.sleep(0)
    assert sink.got == [b"a", "flush"]
    stream.body.feed(b"b")
    assert sink.got == [b"a", "flush", b"b"]
    stream.body.feed(b"c")
    stream.body.feed_end()
    await pouring
    assert sink.got == [b"a", "flush", b"b", b"c"]
    assert seen == [b"a", b"b", b"c"]
    assert (stream.ends, stream.valve.calls) == ([BodyEnd.COMPLETE], [])


async def test_a_complete_body_is_poured_without_waiting() -> None:
    stream, sink = Stream(), FakeSink()
    stream.body.feed(b"a")
    stream.body.feed_end()
    await stream.body.pour(sink)
    assert sink.got == [b"a"]


async def test_a_full_sink_gets_nothing_more_until_it_has_room_and_then_all_in_order() -> None:
    stream, sink = Stream(), FakeSink(full_after=1)
    pouring = asyncio.ensure_future(stream.body.pour(sink))
    await asyncio.sleep(0)
    for piece in (b"a", b"b", b"c"):
        stream.body.feed(piece)
    stream.body.feed_end()
    for got in ([b"a"], [b"a", b"b"], [b"a", b"b", b"c"]):
        await asyncio.sleep(0)
        assert sink.got == ["flush", *got]
        sink.drain()
        await asyncio.sleep(0)
    await pouring
    assert stream.ends == [BodyEnd.COMPLETE]


async def test_a_full_sink_closes_the_valve_and_an_emptied_one_opens_it() -> None:
    stream, sink = Stream(), FakeSink(full_after=1)
    pouring = asyncio.ensure_future(stream.body.pour(sink))
    await asyncio.sleep(0)
    stream.fill()
    assert stream.valve.calls == ["pause"]
    stream.body.feed_end()
    while not pouring.done():
        if sink.drained is not None:
            sink.drain()
        await asyncio.sleep(0)
    assert stream.valve.calls == ["pause", "resume"]
    assert stream.ends == [BodyEnd.COMPLETE]


async def test_a_cut_body_is_poured_no_further() -> None:
    stream, sink = Stream(), FakeSink()
    pouring = asyncio.ensure_future(stream.body.pour(sink))
    await asyncio.sleep(0)
    stream.body.feed(b"a")
    stream.body.feed_end(CUT)
    with pytest.raises(ConnectionLost):
        await pouring
    assert sink.got == ["flush", b"a"]
    assert stream.ends == [CUT]


async def test_a_cancelled_pouring_hands_nothing_over_any_more() -> None:
    stream, sink = Stream(), FakeSink()
    pouring = asyncio.ensure_future(stream.body.pour(sink))
    await asyncio.sleep(0)
    pouring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pouring
    stream.body.feed(b"a")
    stream.body.close()
    assert sink.got == ["flush"]
    assert stream.ends == [BodyEnd.ABANDONED]


async def test_closing_after_the_clean_end_changes_nothing() -> None:
    stream = Stream(0)
    stream.body.feed_end()
    assert await stream.body.read() == b""
    stream.body.close()
    assert (stream.ends, stream.body.end, stream.valve.calls) == ([BodyEnd.COMPLETE], BodyEnd.COMPLETE, [])


async def test_a_reader_that_was_cancelled_is_handed_nothing_more() -> None:
    """It learns of it later than the connection feeds on, and what it pours into may be closed by then."""
    stream, sink = Stream(), FakeSink()
    pouring = asyncio.ensure_future(stream.body.pour(sink))
    await asyncio.sleep(0)
    stream.body.feed(b"a")
    pouring.cancel()
    stream.body.feed(b"b")
    with pytest.raises(asyncio.CancelledError):
        await pouring
    assert sink.got == ["flush", b"a"]
