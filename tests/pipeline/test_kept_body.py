from __future__ import annotations

import asyncio

import pytest

from sidecar.pipeline.errors import ClientGone
from sidecar.pipeline.kept_body import KeptBody
from sidecar.pipeline.message import Body, BodyEnd
from sidecar.pipeline.streams import StreamBody
from tests.support.wire import turns


class OpenValve:
    def __init__(self) -> None:
        self.abandoned = 0

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def body_abandoned(self) -> None:
        self.abandoned += 1


def sent(*pieces: bytes, length: int | None = None, end: bool = True) -> tuple[StreamBody, OpenValve]:
    valve = OpenValve()
    body = StreamBody(length, valve)
    for piece in pieces:
        body.feed(piece)
    if end:
        body.feed_end()
    return body, valve


async def whole(body: Body) -> bytes:
    pieces = []
    while piece := await body.read():
        pieces.append(piece)
    return b"".join(pieces)


async def test_what_was_read_is_read_again() -> None:
    source, _ = sent(b"ab", b"cd")
    kept = KeptBody(source, 4)
    for _ in range(3):
        body = kept.from_start()
        assert await whole(body) == b"abcd"
        assert body.end is BodyEnd.COMPLETE
        assert await body.read() == b""
    assert kept.replayable


async def test_an_attempt_that_ended_in_the_middle_is_followed_by_a_whole_one() -> None:
    source, valve = sent(b"ab", end=False)
    kept = KeptBody(source, 10)
    first = kept.from_start()
    assert await first.read() == b"ab"
    first.close()
    source.feed(b"cd")
    source.feed_end()
    assert await whole(kept.from_start()) == b"abcd"
    assert valve.abandoned == 0


async def test_a_piece_that_a_reader_waited_for_which_gave_up_goes_to_the_next() -> None:
    source, _ = sent(end=False)
    kept = KeptBody(source, 10)
    first = kept.from_start()
    waiting = asyncio.ensure_future(first.read())
    await turns(1)
    reading = asyncio.ensure_future(whole(kept.from_start()))
    await turns(1)
    source.feed(b"ab")
    source.feed_end()
    assert await waiting == b""
    assert await reading == b"ab"
    assert first.end is BodyEnd.ABANDONED


async def test_a_piece_that_comes_while_nobody_reads_is_kept() -> None:
    source, _ = sent(end=False)
    kept = KeptBody(source, 10)
    first = kept.from_start()
    waiting = asyncio.ensure_future(first.read())
    await turns(1)
    first.close()
    source.feed(b"ab")
    source.feed_end()
    assert await waiting == b""
    assert await whole(kept.from_start()) == b"ab"


async def test_it_is_whole_once_the_latest_reader_has_read_it_to_its_end() -> None:
    source, _ = sent(b"ab")
    kept = KeptBody(source, 10)
    seen = [kept.whole]
    await whole(kept.from_start())
    seen.append(kept.whole)
    kept.from_start()
    assert [*seen, kept.whole] == [False, True, False]


async def test_every_reader_has_the_trailers() -> None:
    source, _ = sent(b"ab")
    source.trailers.append((b"x-sum", b"1"))
    kept = KeptBody(source, 10)
    for _ in range(2):
        body = kept.from_start()
        await whole(body)
        assert body.trailers == [(b"x-sum", b"1")]


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    source, _ = sent(end=False)
    kept = KeptBody(source, 10)
    reading = asyncio.ensure_future(kept.from_start().read())
    await asyncio.sleep(0)
    reading.cancel()
    source.feed(b"ab")
    await asyncio.gather(reading, return_exceptions=True)
    source.feed_end()
    assert await whole(kept.from_start()) == b"ab"


@pytest.mark.parametrize(("size", "limit", "replayable"), [(4, 4, True), (5, 4, False), (1, 0, False), (0, 0, True)])
async def test_more_than_the_limit_is_not_kept(size: int, limit: int, *, replayable: bool) -> None:
    source, _ = sent(*[b"x"] * size)
    kept = KeptBody(source, limit)
    assert await whole(kept.from_start()) == b"x" * size
    assert kept.replayable is replayable
    assert len(kept.pieces) == (size if replayable else 0)


async def test_nothing_is_kept_of_a_body_that_is_declared_longer() -> None:
    source, _ = sent(b"ab", length=5, end=False)
    kept = KeptBody(source, 4)
    assert kept.replayable, "nothing of it was read"
    await kept.from_start().read()
    assert (kept.replayable, kept.pieces) == (False, [])


async def test_a_body_that_nobody_has_begun_to_read_is_the_same_one() -> None:
    source, _ = sent(b"ab")
    kept = KeptBody(source, 0)
    assert kept.from_start() is kept.from_start()
    kept.from_start().close()
    assert await whole(kept.from_start()) == b"ab"


async def test_the_client_is_told_that_the_rest_is_not_wanted_once_no_attempt_follows() -> None:
    source, valve = sent(b"ab", end=False)
    kept = KeptBody(source, 10)
    kept.from_start().close()
    assert valve.abandoned == 0
    kept.settle()
    assert (valve.abandoned, source.end) == (1, BodyEnd.ABANDONED)


async def test_the_last_attempt_reads_on_and_gives_up_for_good() -> None:
    source, valve = sent(b"ab", end=False)
    kept = KeptBody(source, 10)
    body = kept.from_start()
    await body.read()
    kept.settle()
    source.feed(b"cd")
    assert (await body.read(), valve.abandoned, kept.pieces) == (b"cd", 0, [])
    body.close()
    assert valve.abandoned == 1


async def test_a_client_that_left_is_an_error_for_every_attempt() -> None:
    source, _ = sent(b"ab", end=False)
    kept = KeptBody(source, 10)
    body = kept.from_start()
    await body.read()
    source.feed_end(ClientGone("gone"))
    for _ in range(2):
        with pytest.raises(ClientGone):
            await whole(body)
        assert isinstance(body.end, ClientGone)
        body = kept.from_start()


async def test_an_attempt_that_is_over_gives_nothing_up_for_the_one_that_reads() -> None:
    source, valve = sent(b"ab", end=False)
    kept = KeptBody(source, 10)
    first = kept.from_start()
    await first.read()
    second = kept.from_start()
    kept.settle()
    first.close()
    source.feed_end()
    assert (await whole(second), valve.abandoned) == (b"ab", 0)
