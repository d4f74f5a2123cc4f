"""Where segments are cut changes nothing: a response fed in any pieces is understood as when fed whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adapters.test_server_bodies import ANSWERS
from tests.adapters.test_upstream_failures import MALFORMED, SPOILED_BODIES
from tests.support.readers import cut, disputed_response, every_byte, read_response

GOOD = [b"".join(step for step in answer.script if isinstance(step, bytes)) for answer in ANSWERS.values()]
BAD = [
    data
    for broken in MALFORMED.values()
    if (data := b"".join(step for step in broken.script if isinstance(step, bytes))) and len(data) < 1000
] + [data for data in SPOILED_BODIES.values() if len(data) < 1000]
INTERIM = [b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"]
PLACES = st.lists(st.integers(0, 100_000), max_size=12)
METHODS = st.sampled_from(["GET", "HEAD", "POST"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Perhaps interim answers, an answer good or bad, perhaps a flaw, perhaps more than one answer."""
    parts = draw(st.lists(st.sampled_from(INTERIM), max_size=2))
    parts += draw(st.lists(st.sampled_from(GOOD + BAD), min_size=1, max_size=2))
    stream = b"".join(parts)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(stream)))
        stream = stream[:at] + draw(st.binary(max_size=4)) + stream[at + draw(st.integers(0, 2)) :]
    return stream


@settings(max_examples=400, deadline=None)
@given(streams(), METHODS, PLACES, st.booleans())
def test_a_response_cut_anywhere_is_read_as_when_whole(
    stream: bytes,
    method: str,
    places: list[int],
    closed: bool,  # noqa: FBT001 - drawn by Hypothesis
) -> None:
    assert read_response(cut(stream, places), method, closed=closed) == read_response([stream], method, closed=closed)


@pytest.mark.parametrize("data", [*GOOD, *BAD], ids=lambda data: repr(data[:60]))
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_case_fed_byte_by_byte_is_read_as_when_whole(data: bytes, method: str) -> None:
    assert read_response(every_byte(data), method) == read_response([data], method)


@settings(max_examples=400, deadline=None)
@given(streams(), METHODS)
def test_what_is_accepted_is_delimited_the_same_by_a_strict_parser(stream: bytes, method: str) -> None:
    assert disputed_response(stream, method) is None
