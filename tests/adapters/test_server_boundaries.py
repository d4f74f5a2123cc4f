"""Where segments are cut changes nothing: requests fed in any pieces are understood as when fed whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adapters.test_server_accepts import CASES
from tests.adapters.test_server_framing import BAD_CHUNKS, REFUSED
from tests.support.readers import cut, disputed_request, every_byte, read_requests

GOOD = [case.sent for case in CASES.values()]
BAD = [sent for case in (*REFUSED, *BAD_CHUNKS) if isinstance(sent := case.values[0], bytes)]
PLACES = st.lists(st.integers(0, 100_000), max_size=12)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Some good requests, perhaps a bad one, perhaps one with a flaw nobody thought of."""
    parts: list[bytes] = draw(st.lists(st.sampled_from(GOOD), max_size=3))
    if draw(st.booleans()):
        parts.append(draw(st.sampled_from(BAD)))
    stream = b"".join(parts)
    if stream and draw(st.booleans()):
        at = draw(st.integers(0, len(stream)))
        stream = stream[:at] + draw(st.binary(max_size=4)) + stream[at + draw(st.integers(0, 2)) :]
    return stream


@settings(max_examples=400, deadline=None)
@given(streams(), PLACES)
def test_requests_cut_anywhere_are_read_as_when_whole(stream: bytes, places: list[int]) -> None:
    assert read_requests(cut(stream, places)) == read_requests([stream])


@settings(max_examples=150, deadline=None)
@given(streams())
def test_requests_fed_byte_by_byte_are_read_as_when_whole(stream: bytes) -> None:
    assert read_requests(every_byte(stream)) == read_requests([stream])


@pytest.mark.parametrize("data", [*GOOD, *BAD], ids=lambda data: repr(data[:60]))
def test_every_case_cut_once_at_every_boundary_is_read_as_when_whole(data: bytes) -> None:
    whole = read_requests([data])
    for at in range(1, min(len(data), 400)):
        assert read_requests([data[:at], data[at:]]) == whole, at


@settings(max_examples=400, deadline=None)
@given(streams())
def test_what_is_accepted_is_delimited_the_same_by_a_strict_parser(stream: bytes) -> None:
    assert disputed_request(stream) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), PLACES)
def test_arbitrary_octets_are_refused_the_same_however_they_are_cut(data: bytes, places: list[int]) -> None:
    assert read_requests(cut(data, places)) == read_requests([data])
