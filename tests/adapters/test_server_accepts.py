"""What a correct client may send passes, re-serialized and byte-exact where it matters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import StartOrigin, StartSidecar


@dataclass(frozen=True)
class Passes:
    """A request as sent, and what the upstream must see of it."""

    sent: bytes
    line: str
    body: bytes = b""
    fields: dict[str, bytes] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

INNER = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

CASES = {
    "get": Passes(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x", absent=("content-length", "transfer-encoding")),
    "get-with-body": Passes(b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok", "GET /x", b"ok"),
    "length": Passes(HEAD + b"Content-Length: 5\r\n\r\nhello", "POST /x", b"hello", {"content-length": b"5"}),
    "length-0": Passes(HEAD + b"Content-Length: 0\r\n\r\n", "POST /x", fields={"content-length": b"0"}),
    "length-spaced": Passes(HEAD + b"Content-Length: \t 5 \t\r\n\r\nhello", "POST /x", b"hello"),
    "post-without-body": Passes(HEAD + b"\r\n", "POST /x"),
    "chunked": Passes(CHUNKED + b"5\r\nhello\r\n3\r\n, y\r\n0\r\n\r\n", "POST /x", b"hello, y"),
    "chunked-hex": Passes(
        CHUNKED + b"A\r\n0123456789\r\n1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n", "POST /x", b"0123456789" + b"x" * 26
    ),
    "chunked-leading-zeros": Passes(CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n", "POST /x", b"hello"),
    "chunked-empty": Passes(CHUNKED + b"0\r\n\r\n", "POST /x"),
    "chunked-extension": Passes(CHUNKED + b'5;a=b;c="d e"\r\nhello\r\n0;z\r\n\r\n', "POST /x", b"hello"),
    "chunked-extension-spaced": Passes(
        CHUNKED + b'5 ; a = b\t;\tc\t=\t"d \\" e"\r\nhello\r\n0 ; z = "y"\r\n\r\n', "POST /x", b"hello"
    ),
    "chunked-extension-spaced-and-trailer": Passes(
        CHUNKED + b"5 ;a\r\nhello\r\n0\t;z\r\nX-Sum: 1\r\n\r\n", "POST /x", b"hello", absent=("x-sum",)
    ),
    "expect-nothing": Passes(HEAD + b"Expect:\r\nContent-Length: 5\r\n\r\nhello", "POST /x", b"hello"),
    "expect-nothing-twice": Passes(HEAD + b"Expect: ,\r\nContent-Length: 5\r\n\r\nhello", "POST /x", b"hello"),
    "unknown-method": Passes(b"BREW /x HTTP/1.1\r\nHost: a\r\n\r\n", "BREW /x"),
    "lower-case-method": Passes(b"get /x HTTP/1.1\r\nHost: a\r\n\r\n", "get /x"),
    "unknown-method-chunked": Passes(
        b"\r\nLIST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "LIST /x",
        b"hello",
    ),
    "chunked-case": Passes(HEAD + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "POST /x", b"hello"),
    "one-byte-chunks": Passes(
        CHUNKED + b"".join(b"1\r\n%c\r\n" % c for c in b"hello") + b"0\r\n\r\n", "POST /x", b"hello"
    ),
    "body-looks-like-a-request": Passes(HEAD + b"Content-Length: %d\r\n\r\n" % len(INNER) + INNER, "POST /x", INNER),
    "leading-empty-line": Passes(b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x"),
    "empty-value": Passes(b"GET /x HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", "GET /x", fields={"x": b""}),
    "value-spaced": Passes(b"GET /x HTTP/1.1\r\nHost: a\r\nX: \t a b\tc \t\r\n\r\n", "GET /x", fields={"x": b"a b\tc"}),
    "value-obs-text": Passes(
        b"GET /x HTTP/1.1\r\nHost: a\r\nX: caf\xe9\x80\r\n\r\n", "GET /x", fields={"x": b"caf\xe9\x80"}
    ),
    "value-utf8": Passes("GET /x HTTP/1.1\r\nHost: a\r\nX: ☃\r\n\r\n".encode(), "GET /x", fields={"x": "☃".encode()}),
    "http10": Passes(b"GET /x HTTP/1.0\r\n\r\n", "GET /x"),
    "http10-post": Passes(b"POST /x HTTP/1.0\r\nContent-Length: 2\r\n\r\nok", "POST /x", b"ok"),
    "put": Passes(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok", "PUT /x", b"ok"),
    "delete": Passes(b"DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n", "DELETE /x"),
    "options": Passes(b"OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS /x"),
    "patch": Passes(b"PATCH /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok", "PATCH /x", b"ok"),
    "absolute-form": Passes(b"GET http://b/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?y"),
    "absolute-form-case": Passes(b"GET HTTP://B/X HTTP/1.1\r\nHost: b\r\n\r\n", "GET /X"),
    "absolute-form-no-path": Passes(b"GET http://b HTTP/1.1\r\nHost: b\r\n\r\n", "GET /"),
    "absolute-form-only-query": Passes(b"GET http://b?q HTTP/1.1\r\nHost: b\r\n\r\n", "GET /?q"),
    "absolute-form-port": Passes(b"GET http://b:81/x HTTP/1.1\r\nHost: b:81\r\n\r\n", "GET /x"),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_passes_one_request_upstream(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    case: Passes,
    bytewise: bool,  # noqa: FBT001 - a table's column
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await (client.send_bytewise if bytewise else client.send)(case.sent)
    response = await client.response()

    assert response.status == 200
    request = origin.request
    assert (request.line, request.body) == (case.line, case.body)
    assert {name: request.get(name) for name in case.fields} == case.fields
    assert [name for name in case.absent if name in request] == []
    assert request.get("host") == f"127.0.0.1:{origin.port}".encode()


TARGETS = [
    b"/", b"//", b"//a//b", b"/a/./b/../c", b"/..", b"/%2F%2f", b"/%2e%2e/", b"/a%00b", b"/a;b=c", b"/a?", b"/a?b?c",
    b"/?a=1&a=2", b"/a?b=/../c", b"/~!$&'()*+,;=:@-._", b"/A/b/C", b"/%", b"/%zz", b"/a+b", b"/a%20b", b"/@b", b"/:80",
    b"//other.example/x", b"/http://b/", b"/a|b", b"/[a]", b"/{a}", b'/"a"', b"/<a>", b"/a^b", b"/a`b", b"/a\\b",
    b"/" + b"a" * 8000,
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=[target[:20].decode() for target in TARGETS])
async def test_targets_pass_byte_exact(start_origin: StartOrigin, start_sidecar: StartSidecar, target: bytes) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    response = await sidecar.exchange(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")

    assert response.status == 200
    assert [request.target for request in origin.requests] == [target]


HOSTS = ["a", "A.Example", "a:80", "a:65535", "1.2.3.4", "[::1]", "[::1]:80", "xn--bcher-kva.example", "a_b", "a-b.c."]


@pytest.mark.parametrize("host", HOSTS)
async def test_a_valid_host_passes_and_is_kept_when_told_so(
    start_origin: StartOrigin, start_sidecar: StartSidecar, host: str
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, upstream={"preserve_host": True})

    response = await sidecar.exchange(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    assert response.status == 200
    assert origin.request.get("host") == host.encode()


@pytest.mark.parametrize("condition", ["shop.example", "shop.example.", "shop.example.:80"])
@pytest.mark.parametrize("absolute", [False, True], ids=["host", "absolute-form"])
async def test_a_host_with_a_final_dot_routes_as_without_and_passes_as_it_is(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    condition: str,
    absolute: bool,  # noqa: FBT001 - a table's column
) -> None:
    origin = await start_origin()
    upstreams = {"origin": {"url": origin.url, "preserve_host": True}}
    routes = [{"name": "shop", "match": {"prefix": "/", "host": condition}, "upstream": "origin"}]
    sidecar = await start_sidecar(None, top={"upstreams": upstreams, "routes": routes})

    for host in (b"Shop.Example.:80", b"shop.example:80"):
        start = b"http://%b/x" % host if absolute else b"/x"
        response = await sidecar.exchange(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (start, host))
        assert response.status == 200
        assert origin.requests[-1].get("host") == host
    said = await sidecar.api("GET", "/v1/explain?url=http://shop.example.:80/x")
    assert said["route"] == "shop"


async def test_the_absolute_target_wins_over_host(start_origin: StartOrigin, start_sidecar: StartSidecar) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, upstream={"preserve_host": True})

    await sidecar.exchange(b"GET http://wins.example:81/x HTTP/1.1\r\nHost: loses.example\r\n\r\n")

    assert origin.request.get("host") == b"wins.example:81"
    assert origin.request.line == "GET /x"


async def test_user_information_in_an_absolute_target_never_goes_upstream(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin, upstream={"preserve_host": True})

    await sidecar.exchange(b"GET http://user:secret@b/x HTTP/1.1\r\nHost: b\r\n\r\n")

    assert all(b"secret" not in connection.received for connection in origin.connections)
