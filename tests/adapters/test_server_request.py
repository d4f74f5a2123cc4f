"""The reader of requests where its owner relies on more than the requests themselves."""

from __future__ import annotations

import pytest

from sidecar.adapters.server.request import RequestReader
from sidecar.pipeline.errors import ClientGone
from tests.support.readers import LIMITS, cut, every_byte, read_requests

GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n%b\r\n"
CHUNKED = b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"f" * (LIMITS.target_size + 1)


def fields(count: int) -> bytes:
    return b"".join(b"f%d: x\r\n" % number for number in range(count))


MOST = fields(LIMITS.header_count - 1)
AT_THE_LIMIT = b"x: " + b"a" * (LIMITS.head_size - len(GET % (b"", b"")) - 5) + b"\r\n"
WRONG = {
    "long target, invalid early": (b"GET f^" + LONG + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "long target, invalid at its limit": (b"GET " + LONG[1:] + b"^ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "long target, invalid beyond its limit": (b"GET " + LONG + b"/x HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "long target after empty lines": (b"\r\n\r\nGET " + LONG + b"/x HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "long target after a chunked body": (CHUNKED + b"0\r\n\r\n" + b"GET " + LONG + b"/x HTTP/1.1\r\n\r\n", 414),
    "longest target, malformed field": (GET % (b"a" * (LIMITS.target_size - 1), b"Bad Name: x\r\n"), 400),
    "most fields, the last malformed": (GET % (b"", fields(LIMITS.header_count - 2) + b"Bad Name: x\r\n"), 400),
    "malformed beyond the most fields": (GET % (b"", MOST + b"g: x\r\nBad Name: x\r\n"), 431),
    "malformed at its first octet beyond the most fields": (GET % (b"", MOST + b"g: x\r\n(: x\r\n"), 400),
    "malformed beyond the largest head": (GET % (b"", AT_THE_LIMIT[:-2] + b"aaaaa\x00\r\n"), 431),
    "malformed at the last octet of the largest head": (GET % (b"", AT_THE_LIMIT[:-2] + b"aaa\x00\r\n"), 400),
    "malformed at its first octet beyond the largest head": (GET % (b"", AT_THE_LIMIT[:-2] + b"aaaa\x00\r\n"), 431),
    "empty lines, then a long target": (b"\r\n" * 1000 + GET % (b"a" * 300, b""), 431),
    "empty lines, then an unknown method": (b"\r\n" * 1024 + b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 431),
    "malformed within the largest head": (GET % (b"", AT_THE_LIMIT[:-6] + b"\x00aaaaaa\r\n"), 400),
    "one octet too many": (GET % (b"", b"y" + AT_THE_LIMIT), 431),
    "empty lines, then a long target of an unknown method": (b"\r\n" * 9 + b"FOO " + LONG + b"/ HTTP/1.1\r\n\r\n", 414),
    "unknown method, invalid beyond the limit of its target": (b"FOO " + LONG + b"^ HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "unknown method, malformed beyond the most fields": (
        b"FOO / HTTP/1.1\r\nHost: a\r\n" + MOST + b"g: x\r\nBad Name: x\r\n\r\n",
        431,
    ),
    "a head without end or method": (b"\r\n" * 1500, 431),
    "chunk extension too large": (CHUNKED + b"1;" + b"a" * 3000 + b"\r\nx\r\n0\r\n\r\n", 400),
}


@pytest.mark.parametrize(("data", "status"), WRONG.values(), ids=WRONG)
def test_a_limit_is_what_is_refused_when_it_is_exceeded_before_the_octet_that_is_wrong(
    data: bytes, status: int
) -> None:
    whole = read_requests([data])
    assert whole[-1].status == status
    assert read_requests(every_byte(data)) == whole
    for place in range(len(data) - 1, 0, -97):
        assert read_requests(cut(data, [place])) == whole


@pytest.mark.parametrize(
    "data",
    [GET % (b"", AT_THE_LIMIT), GET % (b"a" * (LIMITS.target_size - 1), b""), GET % (b"", MOST)],
    ids=["head", "target", "fields"],
)
def test_what_is_at_a_limit_is_accepted_however_it_comes(data: bytes) -> None:
    for pieces in ([data], every_byte(data), [data + data]):
        assert [one.status for one in read_requests(pieces)] == [0] * (2 if len(pieces[0]) > len(data) else 1)


def test_empty_lines_are_read_at_once_and_count_as_head() -> None:
    feeds = 0

    class Counting(RequestReader):
        def _read_head(self, data: bytes) -> bytes:
            nonlocal feeds
            feeds += 1
            return super()._read_head(data)

    reader = Counting(LIMITS)
    reader.feed(b"\r\n" * LIMITS.head_size)
    assert feeds <= 2
    assert [one.error.status for one in reader.arrived if one.error] == [431]


UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [[UPGRADE + b"early"], [UPGRADE, b"early"], [UPGRADE + b"e", b"ar", b"ly"], every_byte(UPGRADE + b"early")],
    ids=["with the head", "after it", "both", "byte by byte"],
)
def test_what_follows_a_wish_to_switch_protocols_is_kept_in_order(pieces: list[bytes]) -> None:
    reader = RequestReader(LIMITS)
    for piece in pieces:
        reader.feed(piece)
    assert (reader.switching, reader.early) == (True, b"early")
    assert [one.upgrade for one in reader.arrived] == [b"websocket"]


def test_after_a_refused_switch_what_followed_is_http() -> None:
    reader = RequestReader(LIMITS)
    reader.feed(UPGRADE + GET % (b"next", b""))
    reader.resume()
    assert [one.head.target for one in reader.arrived if one.head] == [b"/ws", b"/next"]
    assert (reader.switching, reader.early, reader.ended) == (False, b"", False)


def test_a_content_that_breaks_off_ends_with_the_reason() -> None:
    reader = RequestReader(LIMITS)
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc")
    assert reader.counting
    gone = ClientGone()
    reader.eof(gone)
    reader.eof(ClientGone())
    (one,) = reader.arrived
    assert (one.complete, one.error, b"".join(one.pieces)) == (False, gone, b"abc")
    assert reader.ended
