"""How response and request bodies are framed on each side (RFC 9112 §6), and trailers (§7.1.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.origin import AGAIN, CLOSE, GATE, READ, Script

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """What the upstream sends, and what an HTTP/1.1 client gets."""

    script: Script
    status: int = 200
    body: bytes = b""
    framing: str = "length"
    length: bytes | None = None
    method: str = "GET"


ANSWERS = {
    "length": Answer((READ, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", AGAIN), body=b"hello", length=b"5"),
    "length-0": Answer((READ, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", AGAIN), length=b"0"),
    "length-in-pieces": Answer(
        (READ, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"he", b"llo", AGAIN), body=b"hello", length=b"5"
    ),
    "chunked": Answer((READ, CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n", AGAIN), body=b"hello", framing="chunked"),
    "chunked-whole": Answer(
        (READ, CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", AGAIN), body=b"hello", framing="chunked"
    ),
    "chunked-extension": Answer(
        (READ, CHUNKED + b'5;a="b"\r\nhello\r\n0;c\r\n\r\n', AGAIN), body=b"hello", framing="chunked"
    ),
    "chunked-extension-spaced": Answer(
        (READ, CHUNKED + b"5 ;", b'\ta = "b c" ; d\r', b"\nhello\r\n0\t; c\r\n\r\n", AGAIN),
        body=b"hello",
        framing="chunked",
    ),
    "chunked-size-padded": Answer(
        (READ, CHUNKED + b"5  ", b"    \r\nhello\r\n0       \r\n\r\n", AGAIN), body=b"hello", framing="chunked"
    ),
    "chunked-empty": Answer((READ, CHUNKED + b"0\r\n\r\n", AGAIN), framing="chunked"),
    "close-delimited": Answer((READ, b"HTTP/1.1 200 OK\r\n\r\nhello", CLOSE), body=b"hello", framing="chunked"),
    "close-delimited-empty": Answer((READ, b"HTTP/1.1 200 OK\r\n\r\n", CLOSE), framing="chunked"),
    "close-delimited-http10": Answer((READ, b"HTTP/1.0 200 OK\r\n\r\nhello", CLOSE), body=b"hello", framing="chunked"),
    "length-http10": Answer(
        (READ, b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", CLOSE), body=b"hello", length=b"5"
    ),
    "204": Answer((READ, b"HTTP/1.1 204 No Content\r\n\r\n", AGAIN), 204, framing="none"),
    "304": Answer((READ, b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', AGAIN), 304, framing="none"),
    "304-length": Answer(
        (READ, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", AGAIN), 304, framing="none", length=b"5"
    ),
    "head-length": Answer(
        (READ, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", AGAIN), framing="none", length=b"5", method="HEAD"
    ),
    "head-chunked": Answer((READ, CHUNKED, AGAIN), framing="none", method="HEAD"),
    "head-nothing": Answer((READ, b"HTTP/1.1 200 OK\r\n\r\n", AGAIN), framing="none", method="HEAD"),
    "empty-reason": Answer((READ, b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", AGAIN), body=b"ok", length=b"2"),
    "no-reason": Answer((READ, b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", AGAIN), body=b"ok", length=b"2"),
    "status-299": Answer((READ, b"HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok", AGAIN), 299, b"ok", length=b"2"),
    "status-404": Answer(
        (READ, b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", AGAIN), 404, b"no", length=b"2"
    ),
    "status-500": Answer((READ, b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno", AGAIN), 500, b"no", length=b"2"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_relays_the_answer_and_keeps_the_connection(
    start_origin: StartOrigin, start_sidecar: StartSidecar, answer: Answer
) -> None:
    origin = await start_origin(answer.script)
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    response = await client.exchange(f"{answer.method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode(), answer.method)

    assert (response.status, response.body) == (answer.status, answer.body)
    assert response.payload.framing in {answer.framing, "length" if answer.framing == "chunked" else ""}
    whole = b"%d" % len(answer.body) if answer.framing == "chunked" else answer.length
    assert response.get("content-length") in {answer.length, whole}
    origin.then((READ, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", AGAIN))
    await client.send(f"{answer.method} /next HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert (await client.response(answer.method)).status in {200, answer.status}


@pytest.mark.parametrize("name", ["length", "chunked", "chunked-empty", "close-delimited", "close-delimited-http10"])
async def test_an_http10_client_gets_no_chunks(
    start_origin: StartOrigin, start_sidecar: StartSidecar, name: str
) -> None:
    answer = ANSWERS[name]
    origin = await start_origin(answer.script)
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    response = await client.exchange(b"GET / HTTP/1.0\r\n\r\n")

    assert response.body == answer.body
    assert "transfer-encoding" not in response
    assert await client.has_closed()


async def test_an_http10_client_cannot_keep_a_connection_whose_end_delimits_the_body(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, CHUNKED, b"5\r\nhello\r\n", GATE, b"0\r\n\r\n", AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    await client.until(lambda: b"hello" in client.unread)
    origin.gate.set()
    response = await client.response()

    assert (response.body, response.get("connection")) == (b"hello", b"close")
    assert await client.has_closed()


TRAILERS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n"


async def test_response_trailers_reach_a_client_that_takes_them(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, TRAILERS, AGAIN))
    sidecar = await start_sidecar(origin)

    response = await sidecar.get("/", "TE: trailers", "Connection: TE")

    assert response.trailers == ((b"X-Sum", b"42"),)


async def test_the_upstream_learns_that_trailers_are_taken(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, TRAILERS, AGAIN))
    sidecar = await start_sidecar(origin)

    await sidecar.get("/", "TE: trailers, deflate;q=0.5", "Connection: TE")

    assert origin.request.get("te") == b"trailers"
    assert b"te" in (origin.request.get("connection") or b"").lower()


@pytest.mark.parametrize("lines", [(), ("TE: gzip", "Connection: TE")], ids=["no-te", "other-te"])
async def test_response_trailers_are_dropped_for_a_client_that_did_not_ask(
    start_origin: StartOrigin, start_sidecar: StartSidecar, lines: tuple[str, ...]
) -> None:
    origin = await start_origin((READ, TRAILERS, AGAIN))
    sidecar = await start_sidecar(origin)

    response = await sidecar.get("/", *lines)

    assert (response.body, response.trailers) == (b"ok", ())


@pytest.mark.parametrize(
    "name", ["Content-Length", "Transfer-Encoding", "Host", "Set-Cookie", "Connection", "Trailer", "Content-Type"]
)
async def test_forbidden_response_trailers_never_reach_the_client(
    start_origin: StartOrigin, start_sidecar: StartSidecar, name: str
) -> None:
    last = f"2\r\nok\r\n0\r\nX-Sum: 42\r\n{name}: 1\r\n\r\n".encode()
    origin = await start_origin((READ, CHUNKED + last, CLOSE))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n")
    await client.until(lambda: client.ended)

    assert name.lower().encode() + b": 1\r\n" not in client.unread.lower()


async def test_request_trailers_never_become_fields(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    await sidecar.exchange(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n"
    )

    assert origin.request.body == b"ok"
    assert "x-sum" not in origin.request
    assert origin.request.trailers in {((b"X-Sum", b"42"),), ()}


async def test_a_streamed_request_body_flows_before_it_is_complete(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    await origin.until(lambda seen: seen.connections and b"first" in seen.connections[0].received)
    await client.send(b"6\r\nsecond\r\n0\r\n\r\n")

    assert (await client.response("POST")).status == 200
    assert origin.request.body == b"firstsecond"


async def test_a_streamed_response_body_flows_before_it_is_complete(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, CHUNKED, b"5\r\nfirst\r\n", GATE, b"6\r\nsecond\r\n0\r\n\r\n", AGAIN))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.until(lambda: b"first" in client.unread)
    origin.gate.set()

    assert (await client.response()).body == b"firstsecond"
