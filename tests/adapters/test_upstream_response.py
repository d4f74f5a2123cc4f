"""The reader of responses: what delimits a body, whether the connection may be used again, what is not believed."""

from __future__ import annotations

import pytest

from sidecar.adapters.upstream.response import MAX_FIELDS, MAX_HEAD, MAX_INTERIM, Framing, ResponseReader
from sidecar.core.http.framing import MAX_TRAILERS
from sidecar.pipeline.errors import ConnectionLost, ProtocolError
from tests.support.readers import every_byte

Fed = list[bytes]


def head(status: bytes = b"200 OK", *lines: bytes, version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"HTTP/%b %b" % (version, status), *lines, b"", b""])


def reading(data: bytes, method: str = "GET", upgrade: bytes = b"", *, bytewise: bool = False) -> ResponseReader:
    reader = ResponseReader()
    reader.start(method, upgrade)
    for piece in every_byte(data) if bytewise else [data]:
        reader.feed(piece)
    return reader


LENGTH = b"Content-Length: 3"
CHUNKED = b"Transfer-Encoding: chunked"


# What delimits the body (RFC 9112 §6.3)


@pytest.mark.parametrize(
    ("method", "data", "framing", "body"),
    [
        ("GET", head(b"200 OK", LENGTH) + b"abc", Framing.LENGTH, b"abc"),
        ("GET", head(b"200 OK", b"Content-Length: 0"), Framing.LENGTH, b""),
        ("GET", head(b"200 OK", CHUNKED) + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", Framing.CHUNKED, b"abc"),
        ("GET", head(b"200 OK", CHUNKED) + b"3\r\nabc\r\n0\r\n\r\n", Framing.CHUNKED, b"abc"),
        ("GET", head(b"200 OK", CHUNKED) + b'3 ;\ta = "b c"\r\nabc\r\n0\t; z\r\n\r\n', Framing.CHUNKED, b"abc"),
        ("GET", head(b"200 OK", CHUNKED) + b"3   \r\nabc\r\n0   \r\n\r\n", Framing.CHUNKED, b"abc"),
        ("GET", head(b"204 No Content"), Framing.NONE, b""),
        ("GET", head(b"204 No Content", LENGTH), Framing.NONE, b""),
        ("GET", head(b"304 Not Modified", LENGTH), Framing.NONE, b""),
        ("GET", head(b"304 Not Modified", CHUNKED), Framing.NONE, b""),
        ("HEAD", head(b"200 OK", LENGTH), Framing.NONE, b""),
        ("HEAD", head(b"200 OK", CHUNKED), Framing.NONE, b""),
    ],
    ids=[
        "length", "no octets", "chunked", "one chunk", "chunk extensions", "padded chunk sizes",
        "204", "204 with a length", "304 with a length", "304 chunked", "HEAD",
        "HEAD chunked",
    ],
)  # fmt: skip
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "byte by byte"])
def test_a_response_is_complete_where_its_framing_says(
    method: str, data: bytes, framing: Framing, body: bytes, *, bytewise: bool
) -> None:
    reader = reading(data, method, bytewise=bytewise)
    assert (reader.framing, b"".join(reader.pieces)) == (framing, body)
    assert (reader.complete, reader.excess, reader.keep_alive) == (True, False, True)


def test_a_body_that_nothing_delimits_ends_with_the_connection() -> None:
    reader = reading(head() + b"abc")
    assert (reader.framing, reader.complete, reader.keep_alive) == (Framing.CLOSE, False, False)
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    reader.eof()
    assert reader.complete
    assert b"".join(reader.pieces) == b"abcHTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"HTTP/1.1 200", head(b"200 OK", LENGTH), head(b"200 OK", LENGTH) + b"ab", head(b"100 Continue"),
        head(b"200 OK", CHUNKED) + b"3\r\nabc\r\n", head(b"200 OK", CHUNKED) + b"3\r\nabc\r\n0\r\n",
    ],
    ids=["nothing", "part of a head", "no body", "part of a body", "interim", "no last chunk", "no end of trailers"],
)  # fmt: skip
def test_a_connection_that_closes_before_the_end_is_lost(data: bytes) -> None:
    with pytest.raises(ConnectionLost):
        reading(data).eof()


def test_a_complete_response_does_not_mind_the_end() -> None:
    reader = reading(head(b"200 OK", LENGTH) + b"abc")
    reader.eof()
    assert reader.complete


def test_a_204_loses_the_length_it_must_not_have_and_others_keep_it() -> None:
    for data, method, kept in (
        (head(b"204 No Content", LENGTH), "GET", False),
        (head(b"304 Not Modified", LENGTH), "GET", True),
        (head(b"200 OK", LENGTH), "HEAD", True),
    ):
        received = reading(data, method).head
        assert received is not None
        assert (b"content-length" in received.headers) is kept


# Whether the connection may be used again


@pytest.mark.parametrize(
    ("lines", "version", "persists"),
    [
        ([], b"1.1", True),
        ([], b"1.0", False),
        ([b"Connection: close"], b"1.1", False),
        ([b"Connection: Keep-Alive"], b"1.0", True),
        ([b"Connection: keep-alive, close"], b"1.1", False),
        ([b"Proxy-Connection: close"], b"1.1", False),
        ([b"Connection: x"], b"1.0", False),
    ],
    ids=repr,
)
def test_whether_the_upstream_keeps_the_connection(lines: Fed, version: bytes, *, persists: bool) -> None:
    reader = reading(head(b"200 OK", LENGTH, *lines, version=version) + b"abc")
    assert reader.keep_alive is persists


def test_how_long_it_keeps_it_is_for_the_owner() -> None:
    assert reading(head(b"200 OK", LENGTH, b"Keep-Alive: timeout=5")).keep_alive_hint == b"timeout=5"
    assert reading(head(b"200 OK", LENGTH)).keep_alive_hint is None


@pytest.mark.parametrize(
    ("data", "method"),
    [
        (head(b"200 OK", LENGTH) + b"abcd", "GET"),
        (head(b"200 OK", LENGTH) + b"abc" + head(b"200 OK", LENGTH), "GET"),
        (head(b"204 No Content") + b"x", "GET"),
        (head(b"304 Not Modified") + b"\r\n", "GET"),
        (head(b"200 OK", LENGTH) + b"abc", "HEAD"),
        (head(b"200 OK", CHUNKED) + b"0\r\n\r\n\r\n", "GET"),
        (head(b"200 OK", CHUNKED) + b"1\r\na\r\n0\r\nX: 1\r\n\r\n\r\n", "GET"),
        (head(b"200 OK", CHUNKED) + b"0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "GET"),
    ],
    ids=[
        "octet",
        "response",
        "after 204",
        "empty line",
        "body to HEAD",
        "empty line after chunks",
        "empty line after trailers",
        "after chunks",
    ],
)
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "byte by byte"])
def test_more_than_one_response_spoils_the_connection_but_not_the_response(
    data: bytes, method: str, *, bytewise: bool
) -> None:
    reader = reading(data, method, bytewise=bytewise)
    assert (reader.complete, reader.excess) == (True, True)


# Interim responses, switched protocols, trailers


def test_interim_heads_come_before_the_final_one_without_their_hop_by_hop_fields() -> None:
    interim = head(b"103 Early Hints", b"Link: <a>", b"Connection: x-one", b"X-One: 1")
    reader = reading(interim + head(b"100 Continue") + head(b"200 OK", LENGTH) + b"abc")
    assert [(one.status, list(one.headers)) for one in reader.interims] == [(103, [(b"Link", b"<a>")]), (100, [])]
    assert (reader.head is not None and reader.head.status, reader.complete) == (200, True)


def test_an_endless_run_of_interim_heads_is_refused() -> None:
    reading(head(b"102 Processing") * MAX_INTERIM)
    with pytest.raises(ProtocolError):
        reading(head(b"102 Processing") * (MAX_INTERIM + 1))


def test_a_switch_that_was_asked_for_leaves_what_follows_to_the_new_protocol() -> None:
    data = head(b"101 Switching Protocols", b"Connection: upgrade", b"Upgrade: WebSocket") + b"\x81\x00"
    reader = reading(data, upgrade=b"websocket, x/2")
    assert (reader.framing, reader.switched, reader.keep_alive) == (Framing.SWITCHED, b"\x81\x00", False)
    assert reader.head is not None
    assert list(reader.head.headers) == [(b"Connection", b"Upgrade"), (b"Upgrade", b"WebSocket")]


@pytest.mark.parametrize(
    ("upgrade", "lines"),
    [
        (b"", [b"Connection: upgrade", b"Upgrade: websocket"]),
        (b"websocket", [b"Connection: upgrade", b"Upgrade: h2c"]),
        (b"websocket", [b"Connection: upgrade"]),
    ],
    ids=["unasked", "to something else", "to nothing"],
)
def test_another_switch_is_refused(upgrade: bytes, lines: Fed) -> None:
    with pytest.raises(ProtocolError):
        reading(head(b"101 Switching Protocols", *lines), upgrade=upgrade)


def test_trailers_cross_unless_they_frame_route_or_control() -> None:
    trailers = b"X-Sum: 1 \r\nHost: x\r\nSet-Cookie: a\r\nx-two: 2\r\n"
    reader = reading(head(b"200 OK", CHUNKED) + b"1\r\na\r\n0\r\n" + trailers + b"\r\n")
    assert (reader.trailers, reader.complete) == ([(b"X-Sum", b"1"), (b"x-two", b"2")], True)


# What is not believed


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 200 O\x7fK\r\n\r\n",
        head(b"200 OK", b"Content-Length: +3"),
        head(b"200 OK", b"Content-Length: 3", b"Content-Length: 3"),
        head(b"200 OK", b"Content-Length: 3", CHUNKED),
        head(b"200 OK", b"Transfer-Encoding: gzip, chunked"),
        head(b"200 OK", b"Transfer-Encoding: gzip"),
        head(b"200 OK", CHUNKED, version=b"1.0"),
        head(b"200 OK", b"X One: 1"),
        head(b"200 OK", b"X: a\x00b"),
        head(b"200 OK", b"X: a", b" folded"),
        head(b"200 OK", CHUNKED) + b"x\r\n",
        head(b"200 OK", CHUNKED) + b"1\t\r\na\r\n0\r\n\r\n",
        head(b"200 OK", CHUNKED) + b"1 \na\r\n0\r\n\r\n",
        head(b"200 OK", CHUNKED) + b" 1\r\na\r\n0\r\n\r\n",
        head(b"200 OK", CHUNKED) + b"1;a \r\na\r\n0\r\n\r\n",
        head(b"200 OK", CHUNKED) + b"1;a=\r\na\r\n0\r\n\r\n",
        head(b"200 OK", CHUNKED) + b"0\r\nX: a\r\n b\r\n\r\n",
        head(b"200 OK", CHUNKED) + b"1\r\nab\r\n",
    ],
    ids=repr,
)
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "byte by byte"])
def test_what_is_no_strict_response_is_refused(data: bytes, *, bytewise: bool) -> None:
    with pytest.raises(ProtocolError):
        reading(data, bytewise=bytewise)


@pytest.mark.parametrize(
    "data",
    [
        head(b"200 OK", b"X: " + b"a" * MAX_HEAD),
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD,
        head(b"200 OK", *[b"X: 1"] * (MAX_FIELDS + 1)),
        head(b"200 OK", CHUNKED) + b"1;" + b"a" * (MAX_HEAD + 1000),
        head(b"200 OK", CHUNKED) + b"0\r\n" + b"X: 1\r\n" * (MAX_TRAILERS + 1) + b"\r\n",
    ],
    ids=["head", "head without end", "fields", "chunk extension", "trailers"],
)
def test_what_grows_beyond_its_bound_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        reading(data)


def test_a_defect_of_a_body_after_its_head_is_told_when_it_comes() -> None:
    reader = reading(head(b"200 OK", CHUNKED) + b"1\r\na\r\n")
    with pytest.raises(ProtocolError):
        reader.feed(b"\r\n")
    assert not reader.complete
