from __future__ import annotations

import pytest

from sidecar.adapters.server.response import (
    encode_last_chunk,
    length_line,
)
from sidecar.core.http.heads import Headers, ResponseHead

FIELDS = Headers([(b"X-One", b"1"), (b"set-cookie", b"a"), (b"Set-Cookie", b"b")])


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [
        (200, b"", b"HTTP/1.1 200 OK\r\n"),
        (200, b"Fine", b"HTTP/1.1 200 Fine\r\n"),
        (404, b"Caf\xe9", b"HTTP/1.1 404 Caf\xe9\r\n"),
        (503, b"", b"HTTP/1.1 503 Service Unavailable\r\n"),
        (599, b"", b"HTTP/1.1 599 \r\n"),
    ],
    ids=["phrase of the status", "own phrase", "octets of its own", "another", "unknown status"],
)
def test_the_status_line_has_the_upstreams_phrase_or_else_the_usual_one(
    status: int, reason: bytes, line: bytes
) -> None:
    assert ResponseHead(status, Headers(), reason).octets == line


def test_the_last_chunk_carries_the_trailers() -> None:
    assert encode_last_chunk([]) == b"0\r\n\r\n"
    assert encode_last_chunk([(b"X-Sum", b"1"), (b"x-two", b"2")]) == b"0\r\nX-Sum: 1\r\nx-two: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "fields", "line"),
    [
        (200, [], b"Content-Length: 7\r\n"),
        (404, [], b"Content-Length: 7\r\n"),
        (200, [(b"content-length", b"9")], b""),
        (204, [], b""),
        (304, [], b""),
        (101, [], b""),
    ],
)
def test_a_whole_body_has_its_length_unless_the_head_says_it_or_must_not(
    status: int, fields: list[tuple[bytes, bytes]], line: bytes
) -> None:
    assert length_line(ResponseHead(status, Headers(fields)), 7) == line
