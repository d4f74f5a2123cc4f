"""Cache-Status lines (RFC 9211)."""

from __future__ import annotations

import pytest

from sidecar.core.cache.status import (
    Forward,
    Forwarded,
    detail_parameter,
    forwarded_line,
    hit_lines_format,
    key_parameter,
    sf_string,
)

LINES: dict[bytes, Forwarded] = {
    b"fwd=uri-miss; stored": Forwarded(Forward.URI_MISS, stored=True),
    b"fwd=vary-miss; collapsed": Forwarded(Forward.VARY_MISS, collapsed=True),
    b"fwd=stale; fwd-status=304; stored": Forwarded(Forward.STALE, status=304, stored=True),
    b"fwd=bypass; detail=upgrade": Forwarded(Forward.BYPASS, detail="upgrade"),
    b'fwd=request; detail="no-store asked for"': Forwarded(Forward.REQUEST, detail="no-store asked for"),
}


@pytest.mark.parametrize(("text", "member"), LINES.items())
def test_a_forwarded_request(text: bytes, member: Forwarded) -> None:
    assert forwarded_line(b"sidecar", member) == b"Cache-Status: sidecar; " + text + b"\r\n"


def test_a_hit() -> None:
    lines = hit_lines_format(b"side%car") % (7, -3, detail_parameter("circuit_open"))
    assert lines == b"Age: 7\r\nCache-Status: side%car; hit; ttl=-3; detail=circuit_open\r\n"


def test_the_key_in_debug() -> None:
    line = forwarded_line(b"sidecar", Forwarded(Forward.METHOD), b'r http://u/"\\\xff\n')
    assert line == b'Cache-Status: sidecar; fwd=method; key="r http://u/\\"\\\\??"\r\n'
    assert key_parameter(b"k") == b'; key="k"'


def test_no_octet_can_break_out_of_a_string() -> None:
    assert sf_string(bytes(range(256))).strip(b'"').count(b"\r") == 0
