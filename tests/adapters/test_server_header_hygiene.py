"""Which fields cross the sidecar: end-to-end ones exactly as sent, hop-by-hop ones never (RFC 9110 §7.6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.origin import AGAIN, READ, RawOrigin

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar
    from tests.support.messages import Field

OWN_REQUEST_FIELDS = {b"host", b"via", b"x-request-id"}
OWN_RESPONSE_FIELDS = {b"via", b"date", b"x-request-id", b"content-length", b"connection"}


def passed_on(origin: RawOrigin) -> list[Field]:
    """What the upstream got of the request's fields, without those the sidecar makes itself."""
    return [field for field in origin.request.fields if field[0].lower() not in OWN_REQUEST_FIELDS]


DROPPED = {
    "connection-listed": ("Connection: X-Drop", "X-Drop: 1"),
    "connection-listed-case": ("Connection: x-DROP", "X-Drop: 1"),
    "connection-listed-before": ("X-Drop: 1", "Connection: X-Drop"),
    "connection-listed-among-others": ("Connection: close, X-Drop ,,\tX-Other", "X-Drop: 1", "X-Other: 2"),
    "connection-two-lines": ("Connection: X-Drop", "X-Drop: 1", "Connection: X-Other", "X-Other: 2"),
    "connection-listed-repeats": ("Connection: X-Drop", "X-Drop: 1", "x-drop: 2"),
    "keep-alive": ("Keep-Alive: timeout=5",),
    "proxy-connection": ("Proxy-Connection: keep-alive",),
    "te": ("TE: gzip", "Connection: TE"),
    "te-not-listed": ("TE: gzip",),
    "upgrade-not-listed": ("Upgrade: websocket",),
    "upgrade-h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    "proxy-authenticate-listed": ("Connection: Proxy-Authorization", "Proxy-Authorization: Basic eA=="),
}


@pytest.mark.parametrize("lines", DROPPED.values(), ids=DROPPED.keys())
async def test_hop_by_hop_request_fields_stop_here(
    start_origin: StartOrigin, start_sidecar: StartSidecar, lines: tuple[str, ...]
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    response = await sidecar.get("/", "A: 1", *lines, "B: 2")

    assert response.status == 200
    assert passed_on(origin) == [(b"A", b"1"), (b"B", b"2")]


@pytest.mark.parametrize("line", ["Cookie: a=b", "Authorization: Bearer x"], ids=["cookie", "authorization"])
async def test_connection_cannot_strip_an_end_to_end_field(
    start_origin: StartOrigin, start_sidecar: StartSidecar, line: str
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    name, _, value = line.partition(": ")

    await sidecar.get("/", f"Connection: {name}", line)

    assert passed_on(origin) == [(name.encode(), value.encode())]


async def test_connection_cannot_strip_host(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, upstream={"preserve_host": True})

    await sidecar.get("/", "Connection: Host")

    assert origin.request.get("host") == b"a"


async def test_connection_cannot_strip_the_framing(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    await sidecar.exchange(
        b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello"
    )

    assert origin.request.body == b"hello"
    assert origin.connections[0].rest == b""


async def test_names_values_order_and_repeats_pass_as_sent(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    lines = [
        "B: 1",
        "a: 2",
        "b: 3",
        "A: 4, 5",
        "X_Y: 6",
        "X-Y: 7",
        "x-y: 8",
        "!#$%&'*+-.^_`|~: 9",
        "Content_Length: 10",
    ]

    await sidecar.get("/", *lines)

    assert [b": ".join(field).decode() for field in passed_on(origin)] == lines


async def test_tracing_fields_pass_untouched(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    await sidecar.get("/", parent, "tracestate: a=b,c=d")

    assert [b": ".join(field).decode() for field in passed_on(origin)] == [parent, "tracestate: a=b,c=d"]


async def test_a_request_id_is_passed_on(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    await sidecar.get("/", "X-Request-Id: mine")

    assert origin.request.get("x-request-id") == b"mine"


async def test_a_missing_request_id_is_made_and_differs_each_time(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    for _ in range(2):
        await sidecar.get()

    first, second = (request.get("x-request-id") for request in origin.requests)
    assert first is not None
    assert second is not None
    assert len(first) >= 8
    assert first != second


async def test_nothing_tells_the_upstream_about_the_client_by_default(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    await sidecar.get()

    assert passed_on(origin) == []


async def test_via_is_added_on_both_sides(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    response = await sidecar.get()

    assert origin.request.get("via") == b"1.1 sidecar"
    assert response.get("via") == b"1.1 sidecar"


async def test_via_of_others_is_kept_before_ours(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, b"HTTP/1.1 200 OK\r\nVia: 1.1 theirs\r\nContent-Length: 0\r\n\r\n", AGAIN))
    sidecar = await start_sidecar(origin)

    response = await sidecar.get("/", "Via: 1.0 first, 1.1 second")

    assert b", ".join(origin.request.all("via")) == b"1.0 first, 1.1 second, 1.1 sidecar"
    assert b", ".join(response.all("via")) == b"1.1 theirs, 1.1 sidecar"


async def test_via_names_the_version_that_the_client_spoke(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    await sidecar.exchange(b"GET / HTTP/1.0\r\n\r\n")

    assert origin.request.get("via") == b"1.0 sidecar"


async def test_a_request_that_passed_here_before_is_a_loop(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    await sidecar.get()
    ours = origin.request.get("via")
    assert ours is not None

    response = await sidecar.get("/", f"Via: 1.1 other, {ours.decode()}")

    assert response.status == 508
    assert response.get("proxy-status") == b"sidecar; error=proxy_loop_detected"
    assert len(origin.requests) == 1


RESPONSE_DROPPED = {
    "connection-listed": b"Connection: X-Drop\r\nX-Drop: 1\r\n",
    "connection-two-lines": b"Connection: X-Drop\r\nX-Drop: 1\r\nConnection: X-Other\r\nX-Other: 1\r\n",
    "connection-close": b"Connection: close, X-Drop\r\nX-Drop: 1\r\n",
    "keep-alive": b"Keep-Alive: timeout=5\r\n",
    "proxy-connection": b"Proxy-Connection: close\r\n",
    "upgrade": b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    "upgrade-not-listed": b"Upgrade: h2c\r\n",
    "te": b"Connection: TE\r\nTE: trailers\r\n",
}


@pytest.mark.parametrize("lines", RESPONSE_DROPPED.values(), ids=RESPONSE_DROPPED.keys())
async def test_hop_by_hop_response_fields_stop_here(
    start_origin: StartOrigin, start_sidecar: StartSidecar, lines: bytes
) -> None:
    origin = await start_origin(
        (READ, b"HTTP/1.1 200 OK\r\nA: 1\r\n" + lines + b"B: 2\r\nContent-Length: 2\r\n\r\nok", AGAIN)
    )
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    response = await client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

    assert [field for field in response.fields if field[0].lower() not in OWN_RESPONSE_FIELDS] == [
        (b"A", b"1"),
        (b"B", b"2"),
    ]
    assert "connection" not in response, "the upstream's connection is not the client's"
    assert await client.is_usable()


async def test_response_names_values_order_and_repeats_pass_as_sent(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    lines = [
        b"Set-Cookie: a=1",
        b"b: 2",
        b"set-cookie: b=2; Expires=Wed, 21 Oct 2015 07:28:00 GMT",
        b"B: 3",
        b"X_Y: 4",
        b"X-Y: caf\xe9",
    ]
    origin = await start_origin(
        (READ, b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"Content-Length: 0", b"", b""]), AGAIN)
    )
    sidecar = await start_sidecar(origin)

    response = await sidecar.get()

    passed = [b": ".join(field) for field in response.fields if field[0].lower() not in OWN_RESPONSE_FIELDS]
    assert passed == lines


async def test_connection_of_the_upstream_cannot_strip_the_framing(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin(
        (READ, b"HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nok", AGAIN)
    )
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    response = await client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

    assert response.body == b"ok"
    assert await client.is_usable()


async def test_date_server_and_encoding_are_the_upstreams(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    answer = (
        b"HTTP/1.1 200 Fine\r\nDate: Mon, 01 Jan 2001 00:00:00 GMT\r\nServer: theirs/1\r\n"
        b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"
    )
    origin = await start_origin((READ, answer))
    sidecar = await start_sidecar(origin)

    response = await sidecar.get()

    assert response.get("date") == b"Mon, 01 Jan 2001 00:00:00 GMT"
    assert response.get("server") == b"theirs/1"
    assert response.get("content-encoding") == b"gzip"
    assert (response.reason, response.body) == (b"Fine", b"\x1f\x8b")


FORWARDED = {
    "forwarded": ("forwarded", {"forwarded"}),
    "x-forwarded": ("x-forwarded", {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}),
    "both": ("both", {"forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}),
}


@pytest.mark.parametrize(("mode", "names"), FORWARDED.values(), ids=FORWARDED.keys())
async def test_forwarded_fields_are_added_when_told_so(
    start_origin: StartOrigin, start_sidecar: StartSidecar, mode: str, names: set[str]
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, proxy={"forwarded": mode})

    await sidecar.get()

    assert {name.lower().decode() for name, _ in passed_on(origin)} == names
