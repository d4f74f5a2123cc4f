import pytest

from sidecar.core.http.trace_context import TRACEPARENT

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00f067aa0ba902b7"
KNOWN = b"-%b-%b-01" % (TRACE, PARENT)


@pytest.mark.parametrize("field", [b"00" + KNOWN, b"01" + KNOWN, b"fe" + KNOWN + b"-more"])
def test_the_parts_are_found(field: bytes) -> None:
    found = TRACEPARENT.match(field)

    assert found is not None
    assert found.group("trace", "parent", "flags") == (TRACE, PARENT, b"01")


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"ff" + KNOWN,
        b"00" + KNOWN + b"-more",
        b"00" + KNOWN + b"1",
        b"00" + KNOWN + b"\n",
        b"01" + KNOWN + b"more",
        b"00" + KNOWN[:-1],
        b"00" + KNOWN.upper(),
        b"00-%b-%b-01" % (bytes(32).replace(b"\0", b"0"), PARENT),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00" + KNOWN + b", 00" + KNOWN,
        b" 00" + KNOWN,
    ],
)
def test_what_the_specification_forbids_is_no_trace(field: bytes) -> None:
    assert TRACEPARENT.match(field) is None
