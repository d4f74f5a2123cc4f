from __future__ import annotations

import pytest

from sidecar.core.config import ForwardedMode, Rewrite
from sidecar.core.http.forwarding import (
    FORBIDDEN_TRAILERS,
    HOP_BY_HOP,
    NEVER_CONNECTION_OPTIONS,
    RequestForwarder,
    connection_options,
    end_to_end,
    max_forwards,
    passed_before,
    rewrite_target,
    trailers_allowed,
    withheld,
)
from sidecar.core.http.heads import Headers, RequestHead

Lines = list[tuple[bytes, bytes]]

KEPT: Lines = [(b"X-One", b"1"), (b"accept", b"*/*")]


def head(*fields: tuple[bytes, bytes], minor: int = 1, target: bytes = b"/a") -> RequestHead:
    return RequestHead("GET", target, Headers([*fields]), b"client.example", minor)


def onward_lines(sent: RequestHead) -> bytes:
    """The fields that are sent on, without those that this hop adds."""
    octets = RequestForwarder(ForwardedMode.OFF, "sidecar").octets(sent, sent.target, b"", b"")
    return octets.partition(b"\r\n")[2].rpartition(b"Via: 1.1 sidecar\r\n\r\n")[0]


# What stops here


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP), ids=bytes.decode)
def test_a_hop_by_hop_field_never_crosses(name: bytes) -> None:
    fields = [KEPT[0], (name.title(), b"x"), KEPT[1]]
    assert list(end_to_end(Headers(fields))) == KEPT
    assert onward_lines(head(*fields)) == b"X-One: 1\r\naccept: */*\r\n"


@pytest.mark.parametrize(
    ("connection", "stop"),
    [
        ([b"close"], set()),
        ([b"Keep-Alive"], set()),
        ([b"keep-alive, Upgrade"], set()),
        ([b"X-One"], {b"x-one"}),
        ([b"close, x-one,X-TWO"], {b"x-one", b"x-two"}),
        ([b"close", b"X-One"], {b"x-one"}),
        ([b" , ,\tx-one"], {b"x-one"}),
        ([b""], set()),
    ],
    ids=["close", "keep-alive", "upgrade", "named", "several", "two lines", "empty members", "empty"],
)
def test_what_connection_names_stops_here(connection: list[bytes], stop: set[bytes]) -> None:
    fields = [(b"X-One", b"1"), (b"x-two", b"2"), (b"X-Three", b"3"), *[(b"Connection", value) for value in connection]]
    headers = Headers(fields)
    assert connection_options(headers) & {b"x-one", b"x-two", b"x-three"} == stop
    crossing = [name for name, _ in fields if name.lower() not in stop | {b"connection"}]
    assert [name for name, _ in end_to_end(headers)] == crossing
    assert [line.split(b":")[0] for line in onward_lines(head(*fields)).split(b"\r\n")[:-1]] == crossing


@pytest.mark.parametrize("name", sorted(NEVER_CONNECTION_OPTIONS - {b"host"}), ids=bytes.decode)
def test_a_field_meant_for_everybody_crosses_though_connection_names_it(name: bytes) -> None:
    fields = [(b"Connection", b"close, " + name), (name, b"x")]
    assert list(end_to_end(Headers(fields))) == [(name, b"x")]
    assert onward_lines(head(*fields)) == name + b": x\r\n"


def test_a_section_with_nothing_to_drop_is_the_same_object() -> None:
    headers = Headers(KEPT)
    assert end_to_end(headers) is headers
    assert connection_options(headers) == frozenset()


@pytest.mark.parametrize(
    ("fields", "hidden"),
    [
        ({b"A": b"1"}, False),
        ({b"A": b"1", b"Connection": b"keep-alive"}, False),
        ({b"A": b"1", b"Connection": b"close, B"}, False),
        ({b"TE": b"trailers", b"Connection": b"TE"}, False),
        ({b"Cookie": b"1", b"Connection": b"Cookie"}, False),
        ({b"A": b"1", b"Connection": b"close, a"}, True),
    ],
)
def test_connection_may_withhold_fields_that_would_cross(fields: dict[bytes, bytes], *, hidden: bool) -> None:
    assert withheld(Headers(list(fields.items()))) is hidden


def test_no_expectation_of_http_1_0_is_passed_on() -> None:
    expecting = (b"Expect", b"100-continue")
    assert onward_lines(head(expecting)) == b"Expect: 100-continue\r\n"
    assert onward_lines(head(expecting, minor=0)) == b""


@pytest.mark.parametrize(
    ("value", "limit", "sent"),
    [
        (b"0", 0, None),
        (b"000", 0, None),
        (b"1", 1, b"0"),
        (b"010", 10, b"9"),
        (b"999999999", 999_999_999, b"999999998"),
        (b"1000000000", 1_000_000_000, b"999999999"),
        (b"9" * 5000, 1_000_000_000, b"999999999"),
        (b"", None, b""),
        (b"-1", None, b"-1"),
        (b"+1", None, b"+1"),
        (b"1 0", None, b"1 0"),
        (b"1.0", None, b"1.0"),
        (b"0x1", None, b"0x1"),
        (b"\xb2", None, b"\xb2"),
        (b"many", None, b"many"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_max_forwards_counts_down(value: bytes, limit: int | None, sent: bytes | None) -> None:
    asked = RequestHead("OPTIONS", b"/", Headers([(b"A", b"1"), (b"max-Forwards", value), (b"B", b"2")]), b"a")
    assert max_forwards(asked) == limit
    if sent is not None:
        assert onward_lines(asked) == b"A: 1\r\nmax-Forwards: %b\r\nB: 2\r\n" % sent


def test_max_forwards_means_nothing_twice_or_with_other_methods() -> None:
    twice = [(b"Max-Forwards", b"0"), (b"Max-Forwards", b"0")]
    assert max_forwards(RequestHead("OPTIONS", b"/", Headers(twice))) is None
    assert max_forwards(RequestHead("OPTIONS", b"/", Headers())) is None
    for method in ("GET", "POST", "options", "LIST"):
        asked = RequestHead(method, b"/", Headers(twice[:1]))
        assert max_forwards(asked) is None
        assert onward_lines(asked) == b"Max-Forwards: 0\r\n"


@pytest.mark.parametrize("name", [b"content-length", b"transfer-encoding", b"host", b"trailer", b"set-cookie"])
def test_framing_routing_and_control_are_no_trailers(name: bytes) -> None:
    assert name in FORBIDDEN_TRAILERS
    assert b"x-checksum" not in FORBIDDEN_TRAILERS


# The target


@pytest.mark.parametrize(
    ("strip", "add", "target", "rewritten"),
    [
        ("", "", b"/catalog//a/../%2F?x=/%20", b"/catalog//a/../%2F?x=/%20"),
        ("/catalog", "", b"/catalog/items?x=1", b"/items?x=1"),
        ("/catalog", "", b"/catalog", b"/"),
        ("/catalog", "", b"/catalog?x=1", b"/?x=1"),
        ("/catalog", "", b"/catalog/", b"/"),
        ("/catalog", "", b"/catalogue/items", b"/catalogue/items"),
        ("/catalog", "", b"/Catalog/items", b"/Catalog/items"),
        ("/catalog", "", b"/other", b"/other"),
        ("/catalog", "", b"/catalog//evil.example/x", b"//evil.example/x"),
        ("/catalog", "", b"/catalog@evil.example/", b"/catalog@evil.example/"),
        ("/catalog/", "", b"/catalog/items", b"/items"),
        ("/catalog/", "", b"/catalog/@evil.example", b"/@evil.example"),
        ("/catalog/", "", b"/catalog/http://evil.example/", b"/http://evil.example/"),
        ("/catalog/", "", b"/catalog", b"/catalog"),
        ("/", "", b"/items", b"/items"),
        ("", "/v2", b"/items?x=1", b"/v2/items?x=1"),
        ("", "/v2/", b"/items", b"/v2/items"),
        ("", "/", b"/items", b"/items"),
        ("/catalog", "/v2", b"/catalog/items", b"/v2/items"),
        ("/catalog", "/v2", b"/catalog", b"/v2/"),
        ("/catalog", "/v2", b"*", b"*"),
        ("/caf\u00e9", "", "/caf\u00e9/x".encode(), b"/x"),
    ],
)  # fmt: skip
def test_a_prefix_is_taken_off_whole_segments_only(strip: str, add: str, target: bytes, rewritten: bytes) -> None:
    assert rewrite_target(target, Rewrite(strip, add)) == rewritten


# The head that is sent


def test_the_head_names_this_hop_last_and_the_version_received() -> None:
    forwarder = RequestForwarder(ForwardedMode.OFF, "sidecar")
    received = head((b"Host", b"old"), (b"Via", b"1.0 fred"), (b"X-One", b"1"))
    sent = forwarder.octets(received, b"/b", b"Host: new\r\n", b"X-Hop: here\r\n")
    assert sent == (
        b"GET /b HTTP/1.1\r\nHost: new\r\nVia: 1.0 fred\r\nX-One: 1\r\nVia: 1.1 sidecar\r\nX-Hop: here\r\n\r\n"
    )
    assert forwarder.octets(head(minor=0), b"/", b"", b"").endswith(b"\r\nVia: 1.0 sidecar\r\n\r\n")


FORWARDED = b'Forwarded: for=%b;host="client.example";proto=https\r\n'
X_FORWARDED = b"X-Forwarded-For: %b\r\nX-Forwarded-Host: client.example\r\nX-Forwarded-Proto: https\r\n"


@pytest.mark.parametrize(
    ("mode", "client", "lines"),
    [
        (ForwardedMode.OFF, "10.0.0.1", b""),
        (ForwardedMode.FORWARDED, "10.0.0.1", FORWARDED % b"10.0.0.1"),
        (ForwardedMode.FORWARDED, "::1", FORWARDED % b'"[::1]"'),
        (ForwardedMode.FORWARDED, "", FORWARDED % b"unknown"),
        (ForwardedMode.X_FORWARDED, "10.0.0.1", X_FORWARDED % b"10.0.0.1"),
        (ForwardedMode.X_FORWARDED, "::1", X_FORWARDED % b"::1"),
        (ForwardedMode.X_FORWARDED, "", X_FORWARDED % b"unknown"),
        (ForwardedMode.BOTH, "10.0.0.1", FORWARDED % b"10.0.0.1" + X_FORWARDED % b"10.0.0.1"),
    ],
)
def test_the_upstream_is_told_about_the_client_as_configured(mode: ForwardedMode, client: str, lines: bytes) -> None:
    forwarder = RequestForwarder(mode, "sidecar")
    assert forwarder.client_lines(head(), client, "https") == lines
    assert forwarder.tells_client is bool(lines)


# What a head says about the way


@pytest.mark.parametrize(
    ("via", "passed"),
    [
        ([], False),
        ([b"1.1 sidecar"], True),
        ([b"1.1 SideCar"], True),
        ([b"HTTP/1.1  sidecar (comment)"], True),
        ([b"1.0 fred, 1.1 sidecar"], True),
        ([b"1.0 fred", b"1.1 sidecar"], True),
        ([b"1.1 sidecar2"], False),
        ([b"1.1 my.sidecar"], False),
        ([b"sidecar"], False),
        ([b"1.1 fred (sidecar)"], False),
        ([b","], False),
    ],
    ids=str,
)
def test_via_tells_whether_this_proxy_has_seen_the_message(via: list[bytes], *, passed: bool) -> None:
    assert passed_before(Headers([(b"Via", value) for value in via]), b"sidecar") is passed


@pytest.mark.parametrize(
    ("te", "allowed"),
    [
        ([], False), ([b""], False), ([b"trailers"], True), ([b"Trailers, deflate;q=0.5"], True),
        ([b"gzip", b"trailers"], True), ([b"gzip"], False), ([b"xtrailers"], False),
    ],
)  # fmt: skip
def test_trailer_fields_go_only_to_a_client_that_announced_to_take_them(te: list[bytes], *, allowed: bool) -> None:
    assert trailers_allowed(Headers([(b"TE", value) for value in te])) is allowed
