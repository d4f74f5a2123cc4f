"""When one side leaves in the middle, the other side learns it, and a cut answer never looks whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.client import GOOD
from tests.support.origin import AGAIN, CLOSE, GATE, OK, READ, READ_HEAD, RESET, STALL, Do, Endlessly, Script

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar

POST_LENGTH = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf!"
POST_CHUNKED = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf!\r\n"
POST_MID_CHUNK = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf!"
HEAD_10 = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("leave", ["half_close", "close", "reset"])
@pytest.mark.parametrize("data", [POST_LENGTH, POST_CHUNKED, POST_MID_CHUNK], ids=["length", "chunked", "mid-chunk"])
async def test_an_upload_that_the_client_breaks_off_never_completes_upstream(
    start_origin: StartOrigin, start_sidecar: StartSidecar, data: bytes, leave: str
) -> None:
    origin = await start_origin((READ_HEAD, STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(data)
    await origin.until(lambda seen: seen.connections and b"half!" in seen.connections[0].received)

    getattr(client, leave)()

    assert await origin.ended() is not None
    assert origin.connections[0].aborted
    assert origin.requests == []
    assert b"0\r\n\r\n" not in origin.connections[0].received
    assert await sidecar.is_quiet()


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize(
    "script",
    [(READ, STALL), (READ, HEAD_10 + b"half!", STALL), (READ, CHUNKED + b"5\r\nhalf!\r\n", STALL)],
    ids=["before-head", "in-length-body", "in-chunked-body"],
)
async def test_a_client_that_leaves_frees_the_upstream_connection(
    start_origin: StartOrigin, start_sidecar: StartSidecar, script: Script, leave: str
) -> None:
    origin = await start_origin(script)
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(GOOD)
    await origin.until(lambda seen: seen.requests)
    if len(script) > 2:
        await client.until(lambda: b"half!" in client.unread)

    getattr(client, leave)()

    assert await origin.ended() is not None
    assert await sidecar.is_quiet()
    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_circuit_calls_total", outcome="failure") == 0
    assert metrics.total("sidecar_circuit_calls_total", outcome="cancelled") == 1


async def test_a_client_that_leaves_during_an_endless_answer_frees_the_upstream(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, CHUNKED, Endlessly(b"400\r\n" + bytes(1024) + b"\r\n")))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(GOOD)
    await client.until(lambda: len(client.unread) > 1_000_000)

    client.reset()

    assert await origin.ended() is not None


async def test_a_client_that_leaves_with_requests_pipelined_leaves_nothing_behind(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(GOOD * 20)
    await origin.until(lambda seen: seen.requests)

    client.reset()

    assert await origin.ended() is not None
    assert await sidecar.is_quiet()
    assert len(origin.requests) == 1


CUT_BODIES = {
    "length-closed": (HEAD_10 + b"half!", CLOSE),
    "length-reset": (HEAD_10 + b"half!", RESET),
    "length-nothing-closed": (HEAD_10, CLOSE),
    "chunked-closed": (CHUNKED + b"5\r\nhalf!\r\n", CLOSE),
    "chunked-reset": (CHUNKED + b"5\r\nhalf!\r\n", RESET),
    "chunked-mid-chunk-closed": (CHUNKED + b"9\r\nhalf!", CLOSE),
    "chunked-mid-size-closed": (CHUNKED + b"5\r\nhalf!\r\n0", CLOSE),
    "chunked-last-chunk-unfinished": (CHUNKED + b"5\r\nhalf!\r\n0\r\n", CLOSE),
    "chunked-in-trailers-closed": (CHUNKED + b"5\r\nhalf!\r\n0\r\nX-Sum: 1\r\n", CLOSE),
    "until-close-reset": (b"HTTP/1.1 200 OK\r\n\r\nhalf!", RESET),
}
CLIENTS = {
    "http11": GOOD,
    "http11-close": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "http10": b"GET / HTTP/1.0\r\n\r\n",
}


@pytest.mark.parametrize("request_head", CLIENTS.values(), ids=CLIENTS.keys())
@pytest.mark.parametrize(("sent", "leave"), CUT_BODIES.values(), ids=CUT_BODIES.keys())
async def test_an_answer_that_the_upstream_cuts_looks_cut(
    start_origin: StartOrigin, start_sidecar: StartSidecar, sent: bytes, leave: Do, request_head: bytes
) -> None:
    origin = await start_origin((READ, sent, GATE, leave), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(request_head)
    assert (await client.head()).status == 200

    origin.gate.set()

    assert await client.was_cut()
    assert await sidecar.is_well()
    assert len(origin.connections) == 2


@pytest.mark.parametrize("request_head", CLIENTS.values(), ids=CLIENTS.keys())
@pytest.mark.parametrize(("sent", "leave"), CUT_BODIES.values(), ids=CUT_BODIES.keys())
async def test_a_head_and_its_cut_arriving_together_are_an_error_or_a_cut(
    start_origin: StartOrigin, start_sidecar: StartSidecar, sent: bytes, leave: Do, request_head: bytes
) -> None:
    origin = await start_origin((READ, sent, leave), (READ, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(request_head)

    if (await client.head()).status == 200:
        assert await client.was_cut()
    else:
        response = await client.response()
        assert response.status == 502
        assert response.get("proxy-status") == b"sidecar; error=connection_terminated"
    assert await sidecar.is_well()


async def test_a_cut_answer_counts_as_a_failure(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, HEAD_10 + b"half!", GATE, RESET))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(GOOD)
    await client.head()
    origin.gate.set()
    assert await client.was_cut()

    assert await sidecar.is_quiet()
    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_circuit_calls_total", outcome="failure") == 1
    assert metrics.total("sidecar_circuit_calls_total", outcome="success") == 0


async def test_pipelined_requests_behind_a_cut_answer_are_not_answered(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, HEAD_10 + b"half!", GATE, CLOSE))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(GOOD * 3)
    await client.head()
    origin.gate.set()

    assert await client.was_cut()
    assert client.unread.count(b"HTTP/1.1") == 1
