"""What a head must be beyond what llhttp sees to, rule by rule; how it is refused on the wire is others' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.adapters.server.head import (
    check_coding,
    content_length,
    expects_continue,
    minor_version,
    wanted_upgrade,
)
from sidecar.adapters.server.request import RequestReader
from sidecar.core.http.framing import LENGTH_DIGITS, persists
from sidecar.core.http.heads import Headers, RequestHead
from sidecar.pipeline.errors import (
    BadRequest,
    BodyTooLarge,
    CodingUnknown,
    ExpectationFailed,
    ProxyError,
    VersionUnsupported,
)
from tests.support.readers import LIMITS

if TYPE_CHECKING:
    from sidecar.adapters.server.arriving import ArrivingRequest


def head(*fields: tuple[bytes, bytes], method: str = "GET", minor: int = 1) -> RequestHead:
    return RequestHead(method, b"/", Headers([*fields]), b"a", minor)


def read(start: bytes) -> ArrivingRequest:
    reader = RequestReader(LIMITS)
    reader.feed(start + b"\r\nHost: a\r\n\r\n")
    (one,) = reader.arrived
    return one


# The request line


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"GET / HTTP/1.1", 0),
        (b"\r\nGET / HTTP/1.1", 0),
        (b"\r\n\r\n\r\nGET / HTTP/1.1", 0),
        (b"\nGET / HTTP/1.1", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b"GET / ICE/1.1", 400),
        (b"GET / RTSP/1.1", 400),
        (b"GET / HTTP/1.0", 0),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 400),
        (b"TRACE / HTTP/1.1", 501),
        (b"PROPFIND / HTTP/1.1", 0),
        (b"LIST / HTTP/1.1", 0),
        (b"\r\n\r\nLIST / HTTP/1.1", 0),
        (b"\nLIST / HTTP/1.1", 400),
        (b"LIST  / HTTP/1.1", 400),
        (b"LIST /  HTTP/1.1", 400),
        (b"LIST / ICE/1.1", 400),
        (b"SOURCE / ICE/1.1", 400),
        (b"DESCRIBE / RTSP/1.0", 400),
        (b"LIST / HTTP/2.0", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"LIST * HTTP/1.1", 400),
    ],
    ids=repr,
)
def test_the_request_line_is_exact(start: bytes, status: int) -> None:
    error = read(start).error
    assert (error.status if error else 0) == status


@pytest.mark.parametrize(
    ("target", "understood"),
    [
        (b"/a//b/../%2F?x=/?y", b"/a//b/../%2F?x=/?y"),
        (b"//evil.example/x", b"//evil.example/x"),
        (b"http://b:81/x?y", b"/x?y"),
        (b"http://b?y", b"/?y"),
        (b"*", None),
        (b"/a#b", None),
        (b"http://u@b/", None),
        (b"ftp://b/", None),
        (b"b:80", None),
    ],
    ids=repr,
)
def test_the_target_is_a_path_or_names_its_authority(target: bytes, understood: bytes | None) -> None:
    one = read(b"GET %b HTTP/1.1" % target)
    assert (one.head.target if one.head else None) == understood
    assert isinstance(one.error, BadRequest) is (understood is None)


@pytest.mark.parametrize(
    ("version", "outcome"),
    [(b"1.0", 0), (b"0.9", BadRequest), (b"2.0", VersionUnsupported), (b"1.2", VersionUnsupported)],
)
def test_versions(version: bytes, outcome: int | type[ProxyError]) -> None:
    if isinstance(outcome, int):
        assert minor_version(b"HTTP/" + version) == outcome
    else:
        with pytest.raises(outcome):
            minor_version(b"HTTP/" + version)


# Host


@pytest.mark.parametrize(
    ("host", "minor", "accepted"),
    [
        (b"a", 1, b"a"), (b"a:80", 1, b"a:80"), (b"[::1]:80", 1, b"[::1]:80"), (b"", 1, b""), (None, 0, b""),
        (None, 1, None), (b"a, b", 1, None), (b"a, a", 1, None), (b"a/b", 1, None), (b"u@a", 1, None),
        (b"a b", 1, None), (b"a:x", 0, None),
    ],
)  # fmt: skip
def test_the_host_is_there_once_and_is_a_host(host: bytes | None, minor: int, accepted: bytes | None) -> None:
    reader = RequestReader(LIMITS)
    line = b"" if host is None else b"Host: %b\r\n" % host
    reader.feed(b"GET / HTTP/1.%d\r\n%b\r\n" % (minor, line))
    (one,) = reader.arrived
    assert (one.head.authority if one.head else None) == accepted
    assert isinstance(one.error, BadRequest) is (accepted is None)


# Content


@pytest.mark.parametrize(
    ("fields", "minor", "outcome"),
    [
        ([], 1, 0),
        ([(b"Content-Length", b"0")], 1, 0),
        ([(b"Content-Length", b"0100")], 1, 100),
        ([(b"Content-Length", b"100")], 0, 100),
        ([(b"Content-Length", b"101")], 1, BodyTooLarge),
        ([(b"Content-Length", b"1" * (LENGTH_DIGITS + 1))], 1, BadRequest),
        ([(b"Content-Length", b"+1")], 1, BadRequest),
        ([(b"Content-Length", b"1, 1")], 1, BadRequest),
        ([(b"Content-Length", b"1_0")], 1, BadRequest),
        ([(b"Content-Length", b"\xb2")], 1, BadRequest),
        ([(b"Content-Length", b"")], 1, BadRequest),
        ([(b"Transfer-Encoding", b"chunked")], 1, None),
        ([(b"Transfer-Encoding", b"Chunked")], 1, None),
        ([(b"Transfer-Encoding", b"chunked")], 0, BadRequest),
        ([(b"Transfer-Encoding", b"gzip")], 1, CodingUnknown),
    ],
    ids=repr,
)
def test_how_long_the_content_is(
    fields: list[tuple[bytes, bytes]], minor: int, outcome: int | type[ProxyError] | None
) -> None:
    asked = head(*fields, minor=minor)
    if isinstance(outcome, type):
        with pytest.raises(outcome):
            content_length(asked, 100)
    else:
        assert content_length(asked, 100) == outcome


def test_without_a_limit_any_length_will_do() -> None:
    assert content_length(head((b"Content-Length", b"9" * LENGTH_DIGITS)), None) == int("9" * LENGTH_DIGITS)


@pytest.mark.parametrize(
    ("coding", "error"),
    [
        (b"chunked, chunked", BadRequest),
        (b"chunked, gzip", BadRequest),
        (b"gzip, chunked", CodingUnknown),
        (b"xchunked", CodingUnknown),
        (b"chunked;q=1", CodingUnknown),
        (b"\x0bchunked", CodingUnknown),
        (b"identity", CodingUnknown),
        (b"", CodingUnknown),
    ],
    ids=repr,
)
def test_chunked_once_and_last_or_it_is_not_understood(coding: bytes, error: type[ProxyError]) -> None:
    with pytest.raises(error):
        check_coding(coding, 1)


# The connection


@pytest.mark.parametrize(
    ("connection", "proxy_connection", "in_1_1", "in_1_0"),
    [
        (None, None, True, False),
        (b"close", None, False, False),
        (b"Keep-Alive", None, True, True),
        (b"keep-alive, close", None, False, False),
        (b"x-one", None, True, False),
        (None, b"close", False, False),
        (None, b"keep-alive", True, True),
        (b"keep-alive", b"close", False, False),
    ],
)
def test_whether_another_request_may_follow(
    connection: bytes | None, proxy_connection: bytes | None, *, in_1_1: bool, in_1_0: bool
) -> None:
    named = ((b"Connection", connection), (b"Proxy-Connection", proxy_connection))
    fields = [(name, value) for name, value in named if value is not None]
    assert (persists(Headers(fields).index, 1), persists(Headers(fields).index, 0)) == (in_1_1, in_1_0)


@pytest.mark.parametrize(
    ("value", "minor", "length", "outcome"),
    [
        (None, 1, 5, False),
        (b"100-continue", 1, 5, True),
        (b"100-Continue", 1, None, True),
        (b"100-continue", 1, 0, False),
        (b"100-continue", 0, 5, False),
        (b"200-ok", 0, 5, False),
        (b"200-ok", 1, 5, None),
        (b"100-continue, 100-continue", 1, 5, None),
        (b"", 1, 5, False),
        (b" , ,", 1, 5, False),
        (b", 100-continue,", 1, 5, True),
        (b"100-continue, x", 1, 5, None),
    ],
)
def test_whether_the_client_waits_for_100(
    value: bytes | None, minor: int, length: int | None, *, outcome: bool | None
) -> None:
    asked = head(*([] if value is None else [(b"Expect", value)]), minor=minor)
    if outcome is None:
        with pytest.raises(ExpectationFailed):
            expects_continue(asked, length)
    else:
        assert expects_continue(asked, length) is outcome


UPGRADE = [(b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"websocket")]


@pytest.mark.parametrize(
    ("fields", "method", "minor", "length", "wanted"),
    [
        (UPGRADE, "GET", 1, 0, b"websocket"),
        (UPGRADE, "POST", 1, 0, b"websocket"),
        (UPGRADE, "LIST", 1, 0, b"websocket"),
        (UPGRADE, "POST", 1, 5, b""),
        (UPGRADE, "GET", 0, 0, b""),
        (UPGRADE, "GET", 1, 5, b""),
        (UPGRADE, "GET", 1, None, b""),
        (UPGRADE[1:], "GET", 1, 0, b""),
        (UPGRADE[:1], "GET", 1, 0, b""),
        ([UPGRADE[0], (b"Upgrade", b"websocket, H2C")], "GET", 1, 0, b""),
        ([UPGRADE[0], (b"Upgrade", b"h2c-17")], "GET", 1, 0, b""),
    ],
    ids=[
        "wanted", "by POST", "by any method", "by POST with content",
        "in HTTP/1.0", "with content", "with chunks", "not in Connection", "to nothing",
        "h2c too", "h2c draft",
    ],
)  # fmt: skip
def test_which_protocol_the_upstream_is_asked_to_switch_to(
    fields: list[tuple[bytes, bytes]], method: str, minor: int, length: int | None, wanted: bytes
) -> None:
    assert wanted_upgrade(head(*fields, method=method, minor=minor), length) == wanted
