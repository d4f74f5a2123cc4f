from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.storage.plain_codec import decode, encode

LEAVES = (
    st.none()
    | st.binary()
    | st.text()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
TREES = st.tuples(LEAVES, st.lists(st.lists(LEAVES, max_size=3).map(tuple), max_size=3).map(tuple))


def encoded(value: object) -> bytes:
    parts: list[bytes] = []
    encode(value, parts)  # type: ignore[arg-type]  # what it refuses is part of the test
    return b"".join(parts)


@given(TREES)
def test_a_plain_value_comes_back(value: object) -> None:
    assert decode(encoded(value)) == value


@given(TREES, st.data())
def test_any_shortened_value_is_refused(value: object, data: st.DataObject) -> None:
    octets = encoded(value)
    cut = data.draw(st.integers(0, len(octets) - 1))
    with pytest.raises(ValueError):  # noqa: PT011 - the text is for people
        decode(octets[:cut])


@given(st.binary(max_size=60))
def test_any_octets_are_a_value_or_refused(octets: bytes) -> None:
    with suppress(ValueError):
        decode(octets)


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"nn", id="two values"),
        pytest.param(b"b\xff\xff\xff\xffx", id="a length beyond the end"),
        pytest.param(b"t\xff\xff\xff\xff", id="four billion members"),
        pytest.param(b"t\x00\x00\x00\x01" * 100 + b"n", id="nested too deeply"),
        pytest.param(b"s\x00\x00\x00\x01\xff", id="no UTF-8"),
        pytest.param(b"?\x00\x00\x00\x00", id="unknown type"),
        pytest.param(b"f\x7f\xf8\x00\x00\x00\x00\x00\x00", id="not a number"),
        pytest.param(b"f\x7f\xf0\x00\x00\x00\x00\x00\x00", id="infinity"),
        pytest.param(b"i\x00", id="a cut integer"),
    ],
)
def test_hostile_octets_are_refused(octets: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is for people
        decode(octets)


@pytest.mark.parametrize("value", [2**63, float("nan"), float("-inf")], ids=["huge", "nan", "infinite"])
def test_numbers_that_no_file_can_hold_are_refused(value: float) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is for people
        encoded((value,))
