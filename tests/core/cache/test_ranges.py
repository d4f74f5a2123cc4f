"""Ranges of a stored answer of ten octets, 0123456789."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.cache.ranges import answer_range, requested_spans
from tests.support.stored_entries import entry, headers

SPANS: dict[str, list[tuple[int, int]] | None] = {
    "bytes=0-0": [(0, 1)],
    "bytes=2-5": [(2, 6)],
    "bytes=2-": [(2, 10)],
    "bytes=2-99": [(2, 10)],
    "bytes=-3": [(7, 10)],
    "bytes=-99": [(0, 10)],
    "Bytes=1-2": [(1, 3)],
    "bytes=0-1, 4-5 ,-1": [(0, 2), (4, 6), (9, 10)],
    "bytes=0-1,, ,4-5,": [(0, 2), (4, 6)],
    "bytes=10-": [],
    "bytes=99-100, 20-": [],
    "bytes=-0": [],
    "bytes=0-1,99-": [(0, 2)],
    "bytes=5-2": None,
    "bytes=0-1,5-2": None,
    "bytes=": None,
    "bytes=,": None,
    "bytes=a-b": None,
    "bytes=1": None,
    "bytes=-": None,
    "bytes=1 - 2": None,
    "bytes=+1-2": None,
    "bytes 0-1": None,
    "lines=0-1": None,
    "bytes=0-" + "9" * 19: None,
    "bytes=" + ",".join(["0-0"] * 100): [(0, 1)] * 100,
    "bytes=" + ",".join(["0-0"] * 101): None,
}


@pytest.mark.parametrize(("text", "spans"), SPANS.items())
def test_which_octets_are_asked_for(text: str, spans: list[tuple[int, int]] | None) -> None:
    assert requested_spans(text.encode(), 10) == spans


@given(st.binary(min_size=1, max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_what_slicing_gives(body: bytes, first: int, last: int) -> None:
    part = answer_range(headers(Range=f"bytes={first}-{last}"), entry(body))
    if last < first:
        assert part is None
    elif first >= len(body):
        assert part is not None
        assert (part.head.status, part.body) == (416, b"")
    else:
        assert part is not None
        assert part.body == body[first : last + 1]
        end = min(last, len(body) - 1)
        assert part.head.headers.get(b"content-range") == b"bytes %d-%d/%d" % (first, end, len(body))


def test_a_single_range_keeps_the_fields_and_has_its_own_length() -> None:
    part = answer_range(headers(Range="bytes=2-4"), entry(ETag='"v"', Content_Type="text/plain"))
    assert part is not None
    assert (part.head.status, part.body) == (206, b"234")
    assert dict(part.head.headers) == {
        b"ETag": b'"v"',
        b"Content-Type": b"text/plain",
        b"Content-Length": b"3",
        b"Content-Range": b"bytes 2-4/10",
    }


def test_several_ranges_come_as_parts_in_the_order_asked_for() -> None:
    part = answer_range(headers(Range="bytes=7-8,0-1"), entry(Content_Type="text/plain"))
    assert part is not None
    kind = part.head.headers.get(b"content-type") or b""
    boundary = re.fullmatch(rb"multipart/byteranges; boundary=([0-9]{20})", kind)
    assert boundary is not None
    assert part.body == (
        b"\r\n--%b\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-8/10\r\n\r\n78"
        b"\r\n--%b\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01"
        b"\r\n--%b--\r\n" % ((boundary[1],) * 3)
    )
    assert part.head.headers.get(b"content-length") == b"%d" % len(part.body)


def test_the_boundary_does_not_occur_in_the_body() -> None:
    body = b"%020d" % 40 + b"%020d" % 41
    part = answer_range(headers(Range="bytes=0-1,3-4"), entry(body))
    assert part is not None
    assert (part.head.headers.get(b"content-type") or b"").partition(b"boundary=")[2] not in body


def test_a_range_that_cannot_be_satisfied_is_told_the_size() -> None:
    part = answer_range(headers(Range="bytes=10-"), entry(ETag='"v"', Content_Type="text/plain"))
    assert part is not None
    assert dict(part.head.headers) == {b"ETag": b'"v"', b"Content-Length": b"0", b"Content-Range": b"bytes */10"}


WHOLE: dict[str, dict[str, str]] = {
    "not understood": {"Range": "lines=0-1"},
    "more than there is": {"Range": "bytes=0-,0-"},
    "a thousand overlapping ranges": {"Range": "bytes=" + ",".join(["0-4"] * 1000)},
    "If-Range of another tag": {"Range": "bytes=0-1", "If_Range": '"w"'},
    "If-Range of a weak tag": {"Range": "bytes=0-1", "If_Range": 'W/"v"'},
    "If-Range of a later date": {"Range": "bytes=0-1", "If_Range": "Sun, 09 Sep 2001 01:00:01 GMT"},
    "If-Range of nonsense": {"Range": "bytes=0-1", "If_Range": "x"},
}
DATED = {"Last_Modified": "Sun, 09 Sep 2001 01:00:00 GMT", "Date": "Sun, 09 Sep 2001 01:01:00 GMT"}


@pytest.mark.parametrize("asked", WHOLE.values(), ids=WHOLE.keys())
def test_when_the_whole_is_sent_instead(asked: dict[str, str]) -> None:
    assert answer_range(headers(**asked), entry(ETag='"v"', **DATED)) is None  # type: ignore[arg-type]  # field names


def test_if_range_holds_for_the_same_strong_validator() -> None:
    by_tag = answer_range(headers(Range="bytes=0-1", If_Range='"v"'), entry(ETag='"v"'))
    by_date = answer_range(headers(Range="bytes=0-1", If_Range=DATED["Last_Modified"]), entry(**DATED))  # type: ignore[arg-type]
    assert by_tag is not None
    assert by_date is not None


def test_a_date_too_near_its_message_is_no_strong_validator() -> None:
    near = {**DATED, "Date": "Sun, 09 Sep 2001 01:00:59 GMT"}
    asked = headers(Range="bytes=0-1", If_Range=DATED["Last_Modified"])
    assert answer_range(asked, entry(**near)) is None  # type: ignore[arg-type]  # field names


def test_what_is_empty_has_no_ranges() -> None:
    assert answer_range(headers(Range="bytes=0-0"), entry(b"")) is None


def test_only_a_200_has_ranges() -> None:
    assert answer_range(headers(Range="bytes=0-1"), entry(status=404)) is None
