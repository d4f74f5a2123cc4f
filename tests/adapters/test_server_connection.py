"""The life of a client's connection: kept, closed, pipelined, in HTTP/1.0 and HTTP/1.1 (RFC 9112 §9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.origin import AGAIN, GATE, OK, READ

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar

HOST = b"Host: a\r\n"


def get(target: str, *lines: bytes) -> bytes:
    return b"GET " + target.encode() + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


async def test_a_connection_serves_many_requests_over_one_upstream_connection(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    for number in range(20):
        assert (await client.exchange(get(f"/{number}"))).status == 200

    assert origin.lines == [f"GET /{number}" for number in range(20)]
    assert len(origin.connections) == 1


CLOSING = {
    "http11-close": (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", True),
    "http11-close-case": (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", True),
    "http11-close-in-list": (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n", True),
    "http11-close-second-line": (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", True),
    "http11-keep-alive": (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", False),
    "http11-closed-in-name-only": (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", False),
    "http10": (b"GET / HTTP/1.0\r\n\r\n", True),
    "http10-keep-alive": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    "http10-close-wins": (b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", True),
}


@pytest.mark.parametrize(("data", "closes"), CLOSING.values(), ids=CLOSING.keys())
async def test_closes_when_the_client_asks_for_it(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    data: bytes,
    closes: bool,  # noqa: FBT001 - a table's column
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    response = await client.exchange(data)

    assert response.status == 200
    if closes:
        assert response.get("connection") == b"close"
        assert await client.has_closed()
    else:
        if b"HTTP/1.0" in data:
            assert (response.get("connection") or b"").lower() == b"keep-alive"
        assert await client.is_usable()


async def test_bytes_after_connection_close_are_no_request(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(get("/last", b"Connection: close") + get("/beyond"))

    assert (await client.response()).status == 200
    assert await client.has_closed()
    assert origin.lines == ["GET /last"]


async def test_pipelined_requests_are_answered_in_order(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow", AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(b"".join(get(f"/{number}") for number in range(100)))

    for _ in range(100):
        assert (await client.response()).body == b"slow"
    assert origin.lines == [f"GET /{number}" for number in range(100)]


async def test_a_pipelined_refusal_waits_for_its_turn(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(get("/first") + get("/second") + b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + get("/third"))
    await origin.until(lambda seen: seen.requests)
    origin.gate.set()

    assert [(await client.response()).status for _ in range(3)] == [200, 200, 400]
    assert await client.has_closed()
    assert origin.lines == ["GET /first", "GET /second"]


async def test_a_pipelined_body_belongs_to_its_request(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    post = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nbody%d"
    chunked = b"PUT /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbody%d\r\n0\r\n\r\n"

    await client.send(b"".join((post if number % 2 else chunked) % (number, number) for number in range(8)))

    for _ in range(8):
        assert (await client.response("POST")).status == 200
    assert [(request.target, request.body) for request in origin.requests] == [
        (b"/%d" % number, b"body%d" % number) for number in range(8)
    ]


async def test_a_client_that_half_closes_after_its_request_still_gets_a_prompt_answer(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, GATE, OK, AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(get("/"))
    client.half_close()
    await origin.until(lambda seen: seen.requests)
    origin.gate.set()

    assert (await client.response()).body == b"ok"
    assert await client.has_closed()


async def test_a_client_that_connects_and_leaves_is_no_request(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    client.half_close()

    assert await client.has_closed()
    assert origin.connections == []


async def test_an_answer_of_the_sidecar_itself_keeps_a_sound_connection(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, route={"match": {"prefix": "/good"}})
    client = await sidecar.connect()

    response = await client.exchange(get("/nowhere"))

    assert response.status == 404
    assert response.get("proxy-status") == b"sidecar; error=http_request_error"
    assert await client.is_usable()


async def test_the_body_of_a_refused_request_is_not_taken_for_the_next_one(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, route={"match": {"prefix": "/good"}})
    client = await sidecar.connect()
    smuggled = get("/good")

    await client.send(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled)

    assert (await client.response("POST")).status == 404
    client.half_close()
    assert await client.has_closed()
    assert origin.connections == []
