"""Methods are not a list (RFC 9110 §9.1): what is a token is forwarded, and nothing else is known about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.origin import AGAIN, CLOSE, OK, READ, WELL_BEHAVED

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar

METHODS = [
    "LIST", "PURGE", "QUERY", "BREW", "get", "M-SEARCH", "SOURCE", "DESCRIBE", "ANNOUNCE", "PLAY", "PROPFIND", "MKCOL",
    "VERSION-CONTROL", "P", "PO", "POSTS", "GETX", "CONNECTED", "!#$%&'*+-.^_`|~09", "M" * 32,
]  # fmt: skip
FRESH = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok"
CACHED = {"cache": {"mode": "standard"}}


def asked(method: str, target: str = "/x", content: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(content) if content else b""
    return b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (method.encode(), target.encode(), length, content)


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("method", METHODS)
async def test_any_method_passes_with_its_content_and_leaves_the_connection_usable(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    method: str,
    bytewise: bool,  # noqa: FBT001 - a table's column
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await (client.send_bytewise if bytewise else client.send)(asked(method, content=b"hello"))

    assert (await client.response()).status == 200
    assert [(one.line, one.body) for one in origin.requests] == [(f"{method} /x", b"hello")]
    assert await client.is_usable()


async def test_methods_pass_when_pipelined_after_empty_lines_and_chunks(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    client = await (await start_sidecar(origin)).connect()
    chunks = b"PURGE /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"

    await client.send(b"\r\n\r\n" + asked("LIST", "/1") + chunks + b"\r\n" + asked("GET", "/3") + asked("QUERY", "/4"))

    assert [(await client.response()).status for _ in range(4)] == [200] * 4
    assert origin.lines == ["LIST /1", "PURGE /2", "GET /3", "QUERY /4"]
    assert origin.requests[1].body == b"hello"


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"TRACE /x", 501),
        (b"CONNECT a:443", 501),
        (b"PRI /x", 501),
        (b"M" * 33 + b" /x", 501),
        (b"GE(T /x", 400),
        (b"GET, /x", 400),
        (b"GE\x00T /x", 400),
        (b"G\xc3\x84T /x", 400),
        (b"\tGET /x", 400),
        (b"LIST  /x", 400),
        (b"LIST x", 400),
        (b"LIST /x#y", 400),
    ],
    ids=repr,
)
async def test_what_is_no_method_or_is_never_forwarded_is_refused(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    start: bytes,
    status: int,
    bytewise: bool,  # noqa: FBT001 - a table's column
) -> None:
    origin = await start_origin()
    client = await (await start_sidecar(origin)).connect()

    await (client.send_bytewise if bytewise else client.send)(start + b" HTTP/1.1\r\nHost: a\r\n\r\n" + asked("GET"))

    assert (await client.response()).status == status
    assert await client.has_closed()
    assert origin.requests == []


async def test_nothing_of_an_unknown_method_is_stored_and_its_success_invalidates(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin((READ, FRESH, AGAIN))
    sidecar = await start_sidecar(origin, upstream=CACHED)

    for method in ("LIST", "LIST", "GET", "GET", "LIST", "GET"):
        assert (await sidecar.exchange(asked(method))).status == 200

    assert origin.lines == ["LIST /x", "LIST /x", "GET /x", "LIST /x", "GET /x"]


async def test_a_failed_unknown_method_invalidates_nothing(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    refused = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
    origin = await start_origin((READ, FRESH, READ, refused, READ, FRESH))
    sidecar = await start_sidecar(origin, upstream=CACHED)

    statuses = [(await sidecar.exchange(asked(method))).status for method in ("GET", "LIST", "GET")]

    assert statuses == [200, 405, 200]
    assert origin.lines == ["GET /x", "LIST /x"]


async def test_an_unknown_method_is_not_sent_twice(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin((READ, OK, READ, CLOSE), WELL_BEHAVED)
    client = await (await start_sidecar(origin)).connect()

    assert (await client.exchange(asked("GET"))).status == 200
    assert (await client.exchange(asked("LIST"))).status == 502
    assert origin.lines == ["GET /x", "LIST /x"]


async def test_unknown_methods_count_as_one(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar(await start_origin())

    for method in ("LIST", "PURGE", "get"):
        await sidecar.exchange(asked(method))

    metrics = await sidecar.metrics()
    assert metrics.total("sidecar_requests_total", method="_OTHER", code="200") == 3
    assert metrics.total("sidecar_requests_total") == 3


@pytest.mark.parametrize(("method", "status"), [("LIST", 200), ("list", 404), ("GET", 404)])
async def test_a_route_may_ask_for_any_method(
    start_origin: StartOrigin, start_sidecar: StartSidecar, method: str, status: int
) -> None:
    origin = await start_origin()
    routes = [{"name": "lists", "match": {"prefix": "/", "methods": ["LIST"]}, "upstream": "origin"}]
    sidecar = await start_sidecar(None, top={"upstreams": {"origin": {"url": origin.url}}, "routes": routes})

    assert (await sidecar.exchange(asked(method))).status == status
    said = await sidecar.api("GET", f"/v1/explain?method={method}&url=/x")
    assert (said["route"] == "lists") is (status == 200)
