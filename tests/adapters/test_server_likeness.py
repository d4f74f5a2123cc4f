"""What is taken for a known request but for its identifiers is one, in the judgement of the reader of it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.adapters.server.likeness import IDENTIFIERS, LONGEST, MOST_MISSES, PAUSE, Alike, Likeness
from sidecar.adapters.server.request import RequestReader
from sidecar.core.config import ClientLimits
from sidecar.pipeline.memo import Memo
from tests.support.garbage import collected

if TYPE_CHECKING:
    from sidecar.core.http import Field, RequestHead

LIMITS = ClientLimits(header_count=12, head_size=4096)
TRACE = b"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def head(*lines: bytes, start: bytes = b"GET /a HTTP/1.1") -> bytes:
    return b"\r\n".join([start, *lines, b"", b""])


def learned(octets: bytes, likeness: Likeness | None = None) -> Alike | None:
    """What comes of the same octets the third time."""
    likeness = likeness or Likeness(LIMITS)
    likeness.find(octets)
    likeness.find(octets)
    return likeness.find(octets)


def others(head: RequestHead) -> list[Field]:
    """Its fields without identifiers."""
    return [field for field in head.headers if field[0].lower() not in IDENTIFIERS]


def judged(octets: bytes, found: Alike) -> None:
    """`octets` are exactly one plain request, and `found` says of it what the reader says."""
    reader = RequestReader(LIMITS, Memo())
    reader.feed(octets)
    (read,) = reader.arrived
    assert read.plain
    assert not reader.partial
    known, real, made = found.known.head, read.head, found.head()
    assert real is not None
    assert (known.method, known.target, known.authority) == (real.method, real.target, real.authority)
    assert (known.minor_version, known.absolute_form) == (real.minor_version, real.absolute_form)
    assert others(known) == others(real)
    assert found.request_id == real.headers.index.get(b"x-request-id", b"")
    if made is not None:
        assert made == real
        assert made.headers.index == real.headers.index


STARTS = st.sampled_from(
    [
        b"GET /a HTTP/1.1",
        b"GET http://a/b HTTP/1.1",
        b"GET /a HTTP/1.0",
        b"POST /a HTTP/1.1",
        b"HEAD /a?b HTTP/1.1",
        b"GET /a",
        b"Traceparent: x",
        b"",
        b"\r\nGET /a HTTP/1.1",
    ]
)
NAMES = st.sampled_from([*sorted(IDENTIFIERS), b"TRACEPARENT", b"X-Request-ID", b"b3 ", b"b3\t", b"xb3", b"b3x", b""])
VALUES = st.one_of(
    st.sampled_from([b"", b" ", b"a b", b"a\tb", b"a\x00b", b"a\nb", b"a\rb", b"\xe9", b"a,b", b'"', b"x" * 2000]),
    st.binary(max_size=6),
)
IDENTIFYING = st.builds(
    lambda name, colon, value: name + colon + value, NAMES, st.sampled_from([b": ", b":", b" : "]), VALUES
)
PLAIN = st.sampled_from(
    [
        b"Host: a",
        b"Accept: */*",
        b"Connection: keep-alive",
        b"Connection: close",
        b"Connection: traceparent",
        b"Content-Length: 0",
        b"Content-Length: 13",
        b"Transfer-Encoding: chunked",
        b"Upgrade: websocket",
        b" folded",
        b"no colon",
        b"",
    ]
)
ENDS = st.sampled_from(
    [b"\r\n\r\n", b"\r\n\r\n", b"\r\n\r\n", b"\r\n", b"\n\n", b"\r\n\r\nTraceparent: x\r\n", b"\r\n\r\nb3: 1\r\n\r\n"]
)
BREAKS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n"])


@settings(max_examples=2000, deadline=None)
@given(data=st.data())
def test_what_is_found_is_what_the_reader_reads(data: st.DataObject) -> None:
    lines = [b"Host: a"] if data.draw(st.booleans()) else []
    lines += data.draw(st.lists(st.one_of(PLAIN, IDENTIFYING, IDENTIFYING), max_size=6))
    octets = data.draw(STARTS)
    for line in data.draw(st.permutations(lines)):
        octets += data.draw(BREAKS) + line
    octets += data.draw(ENDS)
    found = learned(octets)
    if found is not None:
        judged(octets, found)


@pytest.mark.parametrize(
    "octets",
    [
        head(b"Host: a", TRACE),
        head(TRACE, b"Host: a"),
        head(b"Host: a", *[name + b":1" for name in sorted(IDENTIFIERS)][:10]),
        head(b"Host: a", b"x-REQUEST-id: \t4bf9:2/f=+", b"b3:", b"Baggage: a=b, c=d;e"),
        head(b"Host: a", b'X-Request-Id: "a b" ', TRACE),
    ],
    ids=["last", "first", "many", "request id", "an id to be quoted"],
)
def test_a_head_is_known_by_the_rest_of_it(octets: bytes) -> None:
    found = learned(octets)
    assert found is not None
    judged(octets, found)
    assert found.head() is not None


def test_a_field_in_two_places_is_for_the_reader() -> None:
    found = learned(head(b"Host: a", b"B3: \xe9", b"B3: 1"))
    assert found is not None
    assert found.head() is None


def test_heads_of_which_nothing_is_known_are_soon_let_pass() -> None:
    likeness = Likeness(LIMITS)
    known = head(b"Host: a", TRACE)
    for _ in range(MOST_MISSES):
        assert learned(known, likeness) is not None
        assert likeness.find(head(b"Host: a")) is None
    for _ in range(MOST_MISSES - 1):
        assert likeness.find(head(b"Host: a")) is None
    assert [likeness.find(known) is not None for _ in range(PAUSE + 2)] == [*[False] * PAUSE, True, True]


def test_whatever_the_identifiers_are() -> None:
    likeness = Likeness(LIMITS)
    for number in range(2):
        assert likeness.find(head(b"Host: a", b"Traceparent: %d" % number)) is None
    found = [likeness.find(head(b"Host: a", b"X-Request-Id: %d" % number, b"B3: %d" % number)) for number in range(3)]
    assert [one and one.request_id for one in found] == [b"0", b"1", b"2"]
    assert len({id(one.known) for one in found if one is not None}) == 1
    assert likeness.find(head(b"Host: b", b"B3: 1")) is None


@pytest.mark.parametrize(
    "octets",
    [
        head(b"Host: a"),
        head(b"Host: a", b"X-Request-Id: one", b"X-Request-Id: two"),
        head(b"Host: a", b'X-Request-Id: "quoted"'),
        head(b"Host: a", b"Traceparent: \xe9"),
        head(b"Host: a", TRACE) + b"\r\n",
        head(b"Host: a", TRACE)[:-2],
        head(b"Host: a") + TRACE + b"\r\n",
        b"\r\n" + head(b"Host: a", TRACE),
        b"\r\n" + TRACE + b"\r\n" + head(b"Host: a"),
        head(b"Host: a", TRACE, b" folded"),
        head(b"Host: a", b"Content-Length: 1", TRACE),
        head(b"Host: a", b"Connection: close", TRACE),
        head(b"Host: a", *[b"B3: 1"] * 12),
        head(b"Host: a", b"B3: " + b"1" * LONGEST),
    ],
    ids=[
        "nothing to leave out", "two ids", "only an id to be quoted", "no ASCII", "more after it", "less than it",
        "behind the end", "an empty line before it", "before the first line", "folded", "content", "the last request",
        "too many", "too large",
    ],
)  # fmt: skip
def test_the_rest_is_for_the_reader(octets: bytes) -> None:
    assert learned(octets) is None


@pytest.mark.parametrize("name", [b"traceparent", b"x-request-id"])
def test_what_the_configuration_reads_is_no_identifier(name: bytes) -> None:
    octets = head(b"Host: a", name + b": 1")
    assert learned(octets) is not None
    assert learned(octets, Likeness(LIMITS, frozenset({name}))) is None


def test_learning_leaves_nothing_to_the_garbage_collector() -> None:
    with collected() as garbage:
        assert learned(head(b"Host: a", TRACE)) is not None
        assert learned(head(b"Host: a", b"Content-Length: 1", TRACE)) is None
        assert learned(head(b"no host", TRACE)) is None
    assert not garbage


def test_the_configuration_may_read_them_all() -> None:
    likeness = Likeness(LIMITS, IDENTIFIERS)
    assert learned(head(b"Host: a", TRACE), likeness) is None
    assert learned(head(b"Host: a", b": no name"), likeness) is None


def test_the_limits_of_the_listener_hold() -> None:
    octets = head(b"Host: a", TRACE)
    assert learned(octets, Likeness(ClientLimits(head_size=len(octets)))) is not None
    assert learned(octets, Likeness(ClientLimits(head_size=len(octets) - 1))) is None
