from __future__ import annotations

import asyncio

import pytest

from sidecar.pipeline.errors import ConnectionLost, ProxyError
from sidecar.pipeline.message import Body, BodyEnd, Duplex
from sidecar.pipeline.source import Source
from tests.support.cache_world import ScriptedBody, until
from tests.support.stages import FakeSink, ToldBody, request, response

ENDS: list[BodyEnd | ProxyError] = [BodyEnd.COMPLETE, BodyEnd.ABANDONED, ConnectionLost("cut")]


@pytest.mark.parametrize("end", ENDS, ids=["complete", "abandoned", "cut"])
def test_each_listener_hears_the_end_once_and_the_source_is_freed_once(end: BodyEnd | ProxyError) -> None:
    body = ToldBody(3)
    heard: list[BodyEnd | ProxyError] = []
    body.on_end(heard.append)
    body.on_end(heard.append)
    body.end_with(end)
    body.end_with(BodyEnd.COMPLETE)
    body.close()
    assert heard == [end, end]
    assert (body.end, body.released) == (end, 1)


def test_a_listener_that_comes_after_the_end_hears_it_at_once() -> None:
    body = ToldBody()
    body.close()
    heard: list[BodyEnd | ProxyError] = []
    body.on_end(heard.append)
    assert heard == [BodyEnd.ABANDONED]


def test_a_listener_that_closes_the_body_is_not_called_again() -> None:
    body = ToldBody()
    heard: list[BodyEnd | ProxyError] = []

    def close_again(end: BodyEnd | ProxyError) -> None:
        heard.append(end)
        body.close()

    body.on_end(close_again)
    body.end_with(BodyEnd.COMPLETE)
    assert heard == [BodyEnd.COMPLETE]


def test_a_listener_finds_the_source_freed() -> None:
    body = ToldBody()
    seen: list[tuple[BodyEnd | ProxyError | None, int]] = []
    body.on_end(lambda _: seen.append((body.end, body.released)))
    body.close()
    assert seen == [(BodyEnd.ABANDONED, 1)]


def test_every_piece_passes_every_listener_until_the_end() -> None:
    body = ToldBody()
    first: list[bytes] = []
    second: list[bytes] = []
    body.on_piece(first.append)
    body.pass_on(b"a")
    body.on_piece(second.append)
    body.pass_on(b"b")
    body.close()
    body.pass_on(b"late")
    assert (first, second) == ([b"a", b"b"], [b"b"])


async def test_a_kind_of_body_says_how_it_is_read_and_sent() -> None:
    with pytest.raises(NotImplementedError):
        await Body(None).read()
    with pytest.raises(NotImplementedError):
        await Duplex(None).send(b"x")
    with pytest.raises(NotImplementedError):
        Duplex(None).send_eof()
    body = Body(None)
    body.close()
    assert body.end is BodyEnd.ABANDONED


async def test_a_body_is_poured_at_the_pace_of_its_sink() -> None:
    sink = FakeSink(full_after=2)
    pouring = asyncio.ensure_future(ScriptedBody([b"a", b"b", b"c"], None).pour(sink))
    await until(lambda: sink.drained is not None)
    assert sink.got == ["flush", b"a", b"b"]
    sink.drain()
    await pouring
    assert sink.got == ["flush", b"a", b"b", b"c"]


def test_nothing_has_ended_before_it_does() -> None:
    assert ToldBody().end is None


def test_a_new_request_has_no_route_and_a_new_response_no_error() -> None:
    asked, answered = request(), response()
    assert (asked.route_name, asked.upgrade, asked.on_interim) == (None, b"", None)
    assert asked.rewrite.strip_prefix == ""
    assert (answered.source, answered.error, answered.extra, answered.prepared) == (Source.UPSTREAM, None, b"", None)


def test_the_sources_are_the_labels_of_the_metric() -> None:
    assert {source.label for source in Source} == {
        "upstream", "cache", "stale", "circuit", "bulkhead", "rate_limit", "fallback", "fault", "error", "sidecar",
    }  # fmt: skip
