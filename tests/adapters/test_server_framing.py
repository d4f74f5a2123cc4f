"""Requests whose framing a peer could read differently are refused, and nothing of them reaches the upstream.

Each case is sent whole and byte by byte, and is followed by a request that a smuggler would hope for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.origin import READ, STALL

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

    from tests.conftest import StartOrigin, StartSidecar

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

BAD = frozenset({400})
BAD_OR_UNKNOWN_CODING = frozenset({400, 501})
BAD_OR_TOO_LARGE = frozenset({400, 413})
BAD_OR_VERSION = frozenset({400, 505})
BAD_OR_METHOD = frozenset({400, 405, 501})


def post(*lines: bytes, body: bytes = b"0\r\n\r\n") -> bytes:
    return b"\r\n".join([b"POST /x HTTP/1.1", b"Host: a", *lines, b"", body])


def get(*lines: bytes, start: bytes = b"GET /x HTTP/1.1", host: bytes = b"Host: a") -> bytes:
    return b"\r\n".join([start, host, *lines, b"", b""])


def case(name: str, data: bytes, statuses: frozenset[int] = BAD) -> ParameterSet:
    return pytest.param(data, statuses, id=name)


CHUNKED = b"Transfer-Encoding: chunked"

TRANSFER_CODING = [
    case("te-then-cl", post(CHUNKED, b"Content-Length: 5")),
    case("cl-then-te", post(b"Content-Length: 5", CHUNKED)),
    case("cl-0-and-te", post(b"Content-Length: 0", CHUNKED)),
    case("te-on-http10", post(CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0")),
    case("te-twice", post(CHUNKED, CHUNKED)),
    case("te-list-twice", post(b"Transfer-Encoding: chunked, chunked")),
    case("te-chunked-not-last", post(b"Transfer-Encoding: chunked, gzip"), BAD_OR_UNKNOWN_CODING),
    case("te-chunked-not-last-two-lines", post(CHUNKED, b"Transfer-Encoding: gzip"), BAD_OR_UNKNOWN_CODING),
    case("te-gzip-then-chunked", post(b"Transfer-Encoding: gzip, chunked"), frozenset({501})),
    case("te-gzip-then-chunked-two-lines", post(b"Transfer-Encoding: gzip", CHUNKED), frozenset({501})),
    case("te-gzip", post(b"Transfer-Encoding: gzip"), BAD_OR_UNKNOWN_CODING),
    case("te-identity", post(b"Transfer-Encoding: identity"), BAD_OR_UNKNOWN_CODING),
    case("te-identity-then-chunked", post(b"Transfer-Encoding: identity, chunked"), BAD_OR_UNKNOWN_CODING),
    case("te-identity-with-cl", post(b"Transfer-Encoding: identity", b"Content-Length: 5"), BAD_OR_UNKNOWN_CODING),
    case("te-xchunked", post(b"Transfer-Encoding: xchunked"), BAD_OR_UNKNOWN_CODING),
    case("te-chunkedx", post(b"Transfer-Encoding: chunkedx"), BAD_OR_UNKNOWN_CODING),
    case("te-quoted", post(b'Transfer-Encoding: "chunked"'), BAD_OR_UNKNOWN_CODING),
    case("te-with-parameter", post(b"Transfer-Encoding: chunked;q=1"), BAD_OR_UNKNOWN_CODING),
    case("te-empty", post(b"Transfer-Encoding:"), BAD_OR_UNKNOWN_CODING),
    case("te-empty-with-cl", post(b"Transfer-Encoding:", b"Content-Length: 5"), BAD_OR_UNKNOWN_CODING),
    case("te-comma-only", post(b"Transfer-Encoding: ,"), BAD_OR_UNKNOWN_CODING),
    case("te-vertical-tab", post(b"Transfer-Encoding: \x0bchunked"), BAD_OR_UNKNOWN_CODING),
    case("te-form-feed", post(b"Transfer-Encoding: chunked\x0c"), BAD_OR_UNKNOWN_CODING),
    case("te-nbsp", post(b"Transfer-Encoding: \xa0chunked"), BAD_OR_UNKNOWN_CODING),
    case("te-nel", post(b"Transfer-Encoding: chunked\x85"), BAD_OR_UNKNOWN_CODING),
    case("te-nul", post(b"Transfer-Encoding: chunked\x00")),
    case("te-space-before-colon", post(b"Transfer-Encoding : chunked")),
    case("te-folded", post(b"Transfer-Encoding:\r\n chunked")),
    case("te-two-words", post(b"Transfer-Encoding: chunked chunked"), BAD_OR_UNKNOWN_CODING),
    case("te-on-get-with-cl", get(CHUNKED, b"Content-Length: 0") + b"0\r\n\r\n"),
]

CONTENT_LENGTH = [
    case("cl-twice-equal", post(b"Content-Length: 5", b"Content-Length: 5")),
    case("cl-twice-different", post(b"Content-Length: 5", b"Content-Length: 6")),
    case("cl-twice-case", post(b"Content-Length: 5", b"content-length: 5")),
    case("cl-list", post(b"Content-Length: 5, 5")),
    case("cl-plus", post(b"Content-Length: +5")),
    case("cl-minus", post(b"Content-Length: -5")),
    case("cl-minus-zero", post(b"Content-Length: -0")),
    case("cl-hex", post(b"Content-Length: 0x5")),
    case("cl-hex-digit", post(b"Content-Length: a")),
    case("cl-fraction", post(b"Content-Length: 5.0")),
    case("cl-exponent", post(b"Content-Length: 5e0")),
    case("cl-underscore", post(b"Content-Length: 1_0")),
    case("cl-inner-space", post(b"Content-Length: 1 0")),
    case("cl-trailing-comma", post(b"Content-Length: 5,")),
    case("cl-semicolon", post(b"Content-Length: 5;")),
    case("cl-quoted", post(b'Content-Length: "5"')),
    case("cl-empty", post(b"Content-Length:")),
    case("cl-blank", post(b"Content-Length:   ")),
    case("cl-vertical-tab", post(b"Content-Length: 5\x0b")),
    case("cl-nbsp", post(b"Content-Length: 5\xa0")),
    case("cl-superscript", post(b"Content-Length: \xb2")),
    case("cl-arabic-digit", post("Content-Length: ٥".encode())),
    case("cl-nul", post(b"Content-Length: 5\x00")),
    case("cl-2-to-64", post(b"Content-Length: 18446744073709551616"), BAD_OR_TOO_LARGE),
    case("cl-2-to-64-plus-5", post(b"Content-Length: 18446744073709551621"), BAD_OR_TOO_LARGE),
    case("cl-thirty-digits", post(b"Content-Length: " + b"9" * 30), BAD_OR_TOO_LARGE),
    case("cl-space-before-colon", post(b"Content-Length : 5")),
    case("cl-folded", post(b"Content-Length: 1\r\n 0")),
]

LINES = [
    case("bare-lf-everywhere", get().replace(b"\r\n", b"\n")),
    case("bare-lf-after-request-line", get().replace(b"\r\n", b"\n", 1)),
    case("bare-lf-after-field", get(b"X: 1\nY: 2")),
    case("bare-lf-ends-head", b"GET /x HTTP/1.1\r\nHost: a\r\n\n"),
    case("lf-lf-ends-head", b"GET /x HTTP/1.1\r\nHost: a\n\n"),
    case("bare-cr-in-value", get(b"X: a\rb")),
    case("bare-cr-before-field", get(b"\rX: a")),
    case("bare-cr-ends-head", b"GET /x HTTP/1.1\r\nHost: a\r\n\rX"),
    case("cr-cr-lf", get(b"X: a\r")),
    case("bare-cr-in-target", get(start=b"GET /\rx HTTP/1.1")),
    case("bare-cr-after-version", get(start=b"GET /x HTTP/1.1\r")),
    case("fold-by-space", get(b"X: a\r\n b")),
    case("fold-by-tab", get(b"X: a\r\n\tb")),
    case("fold-of-host", get(b"X: a", host=b"Host: a\r\n b")),
    case("fold-to-blank-line", get(b"X: a\r\n ")),
    case("fold-hides-length", post(b"X: a\r\n Content-Length: 5")),
    case("space-before-first-field", get(host=b" Host: a")),
    case("tab-before-first-field", get(b"X: 1", host=b"\tHost: a")),
    case("space-before-colon", get(b"X : 1")),
    case("tab-before-colon", get(b"X\t: 1")),
    case("space-in-name", get(b"X Y: 1")),
    case("empty-name", get(b": 1")),
    case("no-colon", get(b"X")),
    case("nul-in-value", get(b"X: a\x00b")),
    case("nul-in-name", get(b"X\x00Y: 1")),
    case("nul-in-target", get(start=b"GET /\x00x HTTP/1.1")),
    case("control-in-value", get(b"X: a\x01b")),
    case("escape-in-value", get(b"X: \x1b[31m")),
    case("delete-in-value", get(b"X: a\x7fb")),
    case("vertical-tab-in-value", get(b"X: a\x0bb")),
    *[
        case(f"name-with-{octet:#04x}", get(b"X" + bytes([octet]) + b"Y: 1"))
        for octet in b'"(),/;<=>?@[\\]{}\x7f\x80\xa0\xff\x01'
    ],
]

REQUEST_LINE = [
    case("http09", b"GET /x\r\n\r\n", BAD_OR_VERSION),
    case("http09-explicit", get(start=b"GET /x HTTP/0.9"), BAD_OR_VERSION),
    case("http20", get(start=b"GET /x HTTP/2.0"), BAD_OR_VERSION),
    case("http2-no-minor", get(start=b"GET /x HTTP/2"), BAD_OR_VERSION),
    case("http30", get(start=b"GET /x HTTP/3.0"), BAD_OR_VERSION),
    case("http110", get(start=b"GET /x HTTP/1.10"), BAD_OR_VERSION),
    case("http-11.1", get(start=b"GET /x HTTP/11.1"), BAD_OR_VERSION),
    case("http-leading-zero", get(start=b"GET /x HTTP/01.1"), BAD_OR_VERSION),
    case("http-lower-case", get(start=b"GET /x http/1.1"), BAD_OR_VERSION),
    case("http-no-minor", get(start=b"GET /x HTTP/1"), BAD_OR_VERSION),
    case("http-no-version", get(start=b"GET /x HTTP/"), BAD_OR_VERSION),
    case("http-space-in-version", get(start=b"GET /x HTTP/ 1.1"), BAD_OR_VERSION),
    case("http-junk-after-version", get(start=b"GET /x HTTP/1.1x"), BAD_OR_VERSION),
    case("http-space-after-version", get(start=b"GET /x HTTP/1.1 "), BAD_OR_VERSION),
    case("other-protocol", get(start=b"GET /x ICE/1.0"), BAD_OR_VERSION),
    case("rtsp", get(start=b"DESCRIBE /x RTSP/1.0"), frozenset({400, 501, 505})),
    case("http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frozenset({400, 501, 505})),
    case("tls-client-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), BAD_OR_METHOD),
    case("two-spaces-before-target", get(start=b"GET  /x HTTP/1.1")),
    case("two-spaces-after-target", get(start=b"GET /x  HTTP/1.1")),
    case("tabs-as-separators", get(start=b"GET\t/x\tHTTP/1.1"), BAD_OR_METHOD),
    case("vertical-tab-as-separator", get(start=b"GET\x0b/x HTTP/1.1"), BAD_OR_METHOD),
    case("leading-space", get(start=b" GET /x HTTP/1.1"), BAD_OR_METHOD),
    case("no-target", get(start=b"GET HTTP/1.1")),
    case("empty-target", get(start=b"GET  HTTP/1.1")),
    case("space-in-target", get(start=b"GET /x y HTTP/1.1")),
    case("method-with-parenthesis", get(start=b"GE(T /x HTTP/1.1"), BAD_OR_METHOD),
    case("method-with-nul", get(start=b"GE\x00T /x HTTP/1.1"), BAD_OR_METHOD),
    case("connect", get(start=b"CONNECT a:443 HTTP/1.1"), BAD_OR_METHOD),
    case("connect-path", get(start=b"CONNECT /x HTTP/1.1"), BAD_OR_METHOD),
    case("trace", get(start=b"TRACE /x HTTP/1.1"), BAD_OR_METHOD),
]

TARGET = [
    case("asterisk-get", get(start=b"GET * HTTP/1.1")),
    case("authority-form", get(start=b"GET a:80 HTTP/1.1")),
    case("no-leading-slash", get(start=b"GET x HTTP/1.1")),
    case("at-sign", get(start=b"GET @b/x HTTP/1.1")),
    case("backslash", get(start=b"GET \\x HTTP/1.1")),
    case("query-only", get(start=b"GET ?x HTTP/1.1")),
    case("absolute-without-host", get(start=b"GET http:///x HTTP/1.1")),
    case("absolute-one-slash", get(start=b"GET http:/x HTTP/1.1")),
    case("absolute-bad-port", get(start=b"GET http://a:b/x HTTP/1.1")),
    case("absolute-host-with-backslash", get(start=b"GET http://a\\b/x HTTP/1.1")),
    case("absolute-unclosed-ip", get(start=b"GET http://[::1/x HTTP/1.1")),
    case("absolute-other-scheme", get(start=b"GET ftp://a/x HTTP/1.1"), frozenset({400, 404, 501})),
    case("fragment", get(start=b"GET /x#y HTTP/1.1")),
    case("delete-in-target", get(start=b"GET /x\x7f HTTP/1.1")),
    case("control-in-target", get(start=b"GET /x\x01 HTTP/1.1")),
]

HOST = [
    case("host-missing", b"GET /x HTTP/1.1\r\nX: a\r\n\r\n"),
    case("host-missing-no-fields", b"GET /x HTTP/1.1\r\n\r\n"),
    case("host-missing-absolute", b"GET http://a/x HTTP/1.1\r\nX: a\r\n\r\n"),
    case("host-twice-equal", get(b"Host: a")),
    case("host-twice-different", get(b"Host: b")),
    case("host-twice-case", get(b"host: a")),
    case("host-twice-absolute", get(b"Host: a", start=b"GET http://a/x HTTP/1.1")),
    case("host-twice-http10", get(b"Host: b", start=b"GET /x HTTP/1.0")),
    *[
        case(f"host-{name}", get(host=b"Host: " + value))
        for name, value in {
            "list": b"a, b",
            "space": b"a b",
            "path": b"a/b",
            "slash": b"a/",
            "query": b"a?b",
            "fragment": b"a#b",
            "userinfo": b"u@a",
            "userinfo-password": b"u:p@a",
            "scheme": b"http://a",
            "backslash": b"a\\b",
            "port-not-digits": b"a:b",
            "port-signed": b"a:+80",
            "port-twice": b"a:80:80",
            "ip-unclosed": b"[::1",
            "ip-unopened": b"::1]",
            "ip-junk-after": b"[::1]a",
            "ip-not-an-address": b"[a]",
            "quote": b'a"b',
            "angle": b"<a>",
            "non-ascii": b"a\xff",
        }.items()
    ],
]

REFUSED = [*TRANSFER_CODING, *CONTENT_LENGTH, *LINES, *REQUEST_LINE, *TARGET, *HOST]


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(("data", "statuses"), REFUSED)
async def test_refuses_and_closes_and_forwards_nothing(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    data: bytes,
    statuses: frozenset[int],
    bytewise: bool,  # noqa: FBT001 - a table's column
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await (client.send_bytewise if bytewise else client.send)(data + SMUGGLED)
    response = await client.response()

    assert response.status in statuses
    assert response.get("content-type") == b"application/problem+json"
    assert response.get("proxy-status") == b"sidecar; error=http_request_error"
    assert await client.has_closed()
    assert await sidecar.is_well()
    assert origin.lines == ["GET /good"]


async def test_the_asterisk_form_is_for_nobody_behind_a_proxy(
    start_origin: StartOrigin, start_sidecar: StartSidecar
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)

    response = await sidecar.exchange(get(start=b"OPTIONS * HTTP/1.1"))

    assert response.status in {400, 404, 501}
    assert origin.connections == []


def chunked(body: bytes) -> bytes:
    return post(CHUNKED, body=body)


BAD_CHUNKS = [
    case("size-not-hex", chunked(b"g\r\nhello\r\n0\r\n\r\n")),
    case("size-empty", chunked(b"\r\nhello\r\n0\r\n\r\n")),
    case("size-negative", chunked(b"-5\r\nhello\r\n0\r\n\r\n")),
    case("size-signed", chunked(b"+5\r\nhello\r\n0\r\n\r\n")),
    case("size-prefixed", chunked(b"0x5\r\nhello\r\n0\r\n\r\n")),
    case("size-underscore", chunked(b"0_5\r\nhello\r\n0\r\n\r\n")),
    case("size-leading-space", chunked(b" 5\r\nhello\r\n0\r\n\r\n")),
    case("size-trailing-space", chunked(b"5 \r\nhello\r\n0\r\n\r\n")),
    case("size-trailing-tab", chunked(b"5\t\r\nhello\r\n0\r\n\r\n")),
    case("size-2-to-64-plus-5", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), BAD_OR_TOO_LARGE),
    case("size-thousand-digits", chunked(b"f" * 1000 + b"\r\nhello\r\n0\r\n\r\n"), BAD_OR_TOO_LARGE),
    case("size-bare-lf", chunked(b"5\nhello\r\n0\r\n\r\n")),
    case("size-bare-cr", chunked(b"5\rhello\r\n0\r\n\r\n")),
    case("size-cr-cr-lf", chunked(b"5\r\r\nhello\r\n0\r\n\r\n")),
    case("size-nul", chunked(b"5\x00\r\nhello\r\n0\r\n\r\n")),
    case("data-too-long", chunked(b"5\r\nhelloX\r\n0\r\n\r\n")),
    case("data-then-bare-lf", chunked(b"5\r\nhello\n0\r\n\r\n")),
    case("data-then-bare-cr", chunked(b"5\r\nhello\r0\r\n\r\n")),
    case("data-then-nothing", chunked(b"5\r\nhello0\r\n\r\n")),
    case("extension-bare-lf", chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n")),
    case("extension-bare-cr", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    case("extension-nul", chunked(b"5;a\x00b\r\nhello\r\n0\r\n\r\n")),
    case("extension-without-name", chunked(b"5;\r\nhello\r\n0\r\n\r\n")),
    case("extension-without-value", chunked(b"5;a=\r\nhello\r\n0\r\n\r\n")),
    case("extension-trailing-space", chunked(b"5;a=b \r\nhello\r\n0\r\n\r\n")),
    case("extension-vertical-tab", chunked(b"5\x0b;a\r\nhello\r\n0\r\n\r\n")),
    case("extension-crlf-in-quotes", chunked(b'5;a="\r\n0\r\n\r\n"\r\nhello\r\n0\r\n\r\n')),
    case("last-chunk-trailing-space", chunked(b"5\r\nhello\r\n0 \r\n\r\n")),
    case("last-chunk-bare-lf", chunked(b"5\r\nhello\r\n0\n\r\n")),
    case("last-chunk-lf-lf", chunked(b"5\r\nhello\r\n0\r\n\n")),
    case("last-chunk-twice", chunked(b"5\r\nhello\r\n0\r\n0\r\n\r\n")),
    case("trailer-content-length", chunked(b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n")),
    case("trailer-transfer-encoding", chunked(b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    case("trailer-host", chunked(b"5\r\nhello\r\n0\r\nHost: b\r\n\r\n")),
    case("trailer-folded", chunked(b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n")),
    case("trailer-space-before-colon", chunked(b"5\r\nhello\r\n0\r\nA : b\r\n\r\n")),
    case("trailer-bare-lf", chunked(b"5\r\nhello\r\n0\r\nA: b\n\r\n")),
    case("trailer-nul", chunked(b"5\r\nhello\r\n0\r\nA: \x00\r\n\r\n")),
    case("trailer-no-colon", chunked(b"5\r\nhello\r\n0\r\nA\r\n\r\n")),
]


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(("data", "statuses"), BAD_CHUNKS)
async def test_a_malformed_chunk_ends_both_sides_and_never_completes_the_request(
    start_origin: StartOrigin,
    start_sidecar: StartSidecar,
    data: bytes,
    statuses: frozenset[int],
    bytewise: bool,  # noqa: FBT001 - a table's column
) -> None:
    origin = await start_origin()
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()

    await (client.send_bytewise if bytewise else client.send)(data + SMUGGLED)
    response = await client.response()

    assert response.status in statuses
    assert await client.has_closed()
    assert await sidecar.is_well()
    assert await sidecar.is_quiet()
    assert origin.lines == ["GET /good"]
    assert all(connection.ended for connection in origin.connections if connection.rest)


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"5\r\nhelloX"], ids=["size", "end"])
async def test_a_malformed_chunk_after_dispatch_ends_the_exchange_at_once(
    start_origin: StartOrigin, start_sidecar: StartSidecar, chunk: bytes
) -> None:
    origin = await start_origin((READ, STALL))
    sidecar = await start_sidecar(origin)
    client = await sidecar.connect()
    await client.send(chunked(b"5\r\nhello\r\n"))
    await origin.until(lambda seen: seen.connections and b"hello" in seen.connections[0].received)

    await client.send(chunk)

    assert (await client.response()).status == 400
    assert await client.has_closed()
    assert await origin.ended() is not None
    assert origin.connections[0].aborted
    assert origin.requests == []
