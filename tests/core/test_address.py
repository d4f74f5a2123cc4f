"""One owner of how addresses are written, and everybody who writes some through it."""

from __future__ import annotations

import pytest

from sidecar.adapters.upstream.connecting import Target
from sidecar.core.address import bound_text, host_port, host_text, unix_text
from sidecar.core.config import Address, Endpoint


@pytest.mark.parametrize(
    ("host", "alone", "with_port"),
    [
        ("shop.svc", "shop.svc", "shop.svc:80"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:80"),
        ("::1", "[::1]", "[::1]:80"),
        ("fe80::1%eth0", "[fe80::1%eth0]", "[fe80::1%eth0]:80"),
    ],
)
def test_an_ipv6_address_stands_in_brackets(host: str, alone: str, with_port: str) -> None:
    assert (host_text(host), host_port(host, 80), bound_text((host, 80))) == (alone, with_port, with_port)
    assert str(Address(host, 80)) == str(Target(host, 80)) == with_port
    assert Endpoint("http", host, 80).authority == Endpoint("https", host, 443).authority == alone
    assert Endpoint("https", host, 80).authority == with_port
    assert str(Endpoint("https", host, 80, base_path="/v2")) == f"https://{with_port}/v2"


def test_a_unix_socket_is_named_by_its_path() -> None:
    text = "unix:/run/proxy.sock"
    assert unix_text("/run/proxy.sock") == bound_text(text) == text
    assert str(Address(unix_path="/run/proxy.sock")) == str(Target("/run/proxy.sock", None)) == text
    assert str(Endpoint("http", "", 0, unix_path="/run/proxy.sock")) == text
