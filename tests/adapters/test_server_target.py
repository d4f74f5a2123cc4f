from __future__ import annotations

import pytest

from sidecar.adapters.server.head import Target, host_is_valid, parse_target


@pytest.mark.parametrize(
    ("method", "target", "read"),
    [
        ("OPTIONS", b"*", Target(b"host", b"*")),
        ("GET", b"*", None),
        ("GET", b"http://b/x", Target(b"b", b"/x", absolute=True)),
        ("GET", b"HTTP://b:8080/x", Target(b"b:8080", b"/x", absolute=True)),
        ("GET", b"https://b", Target(b"b", b"/", absolute=True)),
        ("GET", b"http://b?q=/x", Target(b"b", b"/?q=/x", absolute=True)),
        ("GET", b"http://b//x/../%2f", Target(b"b", b"//x/../%2f", absolute=True)),
        ("GET", b"http://[::1]:80/", Target(b"[::1]:80", b"/", absolute=True)),
        ("GET", b"http:///x", None),
        ("GET", b"http://:80/x", None),
        ("GET", b"http://u@b/x", None),
        ("GET", b"http://u:p@b/x", None),
        ("GET", b"http://b/x#y", None),
        ("GET", b"http://b\\c/x", None),
        ("GET", b"http:/b/x", None),
        ("GET", b"ftp://b/x", None),
        ("GET", b"b:80", None),
        ("GET", b"x", None),
        ("GET", b"", None),
    ],
    ids=repr,
)
def test_a_target_that_is_no_path_is_absolute_or_an_asterisk(method: str, target: bytes, read: Target | None) -> None:
    assert parse_target(method, target, b"host") == read


@pytest.mark.parametrize(
    ("host", "valid"),
    [
        (b"", True), (b"a", True), (b"A.example", True), (b"a:1", True), (b"a:65535", True), (b"a:", True),
        (b"127.0.0.1:80", True), (b"[::1]", True), (b"[fe80::1]:80", True), (b"a_b~c", True), (b"caf%C3%A9", True),
        (b"a:123456", False), (b"a:-1", False), (b"a:b", False), (b"a b", False), (b"a,b", False), (b"a, a", False),
        (b"a/b", False), (b"a?b", False), (b"a#b", False), (b"u@a", False), (b"::1", False), (b"[::1", False),
        (b"[]", False), (b"a\x85", False), (b"a\n", False), (b"caf\xc3\xa9", False),
    ],
    ids=repr,
)  # fmt: skip
def test_a_host_is_a_name_or_an_address_with_perhaps_a_port(host: bytes, *, valid: bool) -> None:
    assert host_is_valid(host) is valid
