import pytest

from sidecar.config.addresses import endpoint, listen_address
from sidecar.config.units import BadValue
from sidecar.core.config import Address, Endpoint


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:4100", Address("127.0.0.1", 4100)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("localhost:80", Address("localhost", 80)),
        ("[::1]:0", Address("::1", 0)),
        ("[::]:65535", Address("::", 65535)),
        ("unix:/run/a b.sock", Address(unix_path="/run/a b.sock")),
        ("unix:///run/proxy.sock", Address(unix_path="/run/proxy.sock")),
    ],
)
def test_a_listen_address_is_read(text: str, address: Address) -> None:
    assert listen_address(text) == address


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("4100", "write 127.0.0.1:4100"),
        (":4100", "write 0.0.0.0:4100 for every interface"),
        ("*:4100", "write 0.0.0.0:4100 for every interface"),
        ("::1:4100", "an IPv6 address with a port is written [::1]:4100"),
        ("127.0.0.1", "write host:port; port 0 takes any free one"),
        ("127.0.0.1:65536", "write a number from 0 to 65535"),
        ("127.0.0.1:-1", "write a number from 0 to 65535"),
        ("127.0.0.1:", "write a number from 0 to 65535"),
        ("[::1", "an IPv6 address with a port is written [::1]:4100"),
        ("[::1]4100", "an IPv6 address with a port is written [::1]:4100"),
        ("[zz]:1", ""),
        ("a b:1", ""),
        ("a\r\nb:1", ""),
        ("bücher.example:1", "write an internationalized name in its xn-- form"),
        ("unix:relative.sock", "write unix:/absolute/path.sock, 107 characters at most"),
        ("unix:/" + "x" * 107, "write unix:/absolute/path.sock, 107 characters at most"),
    ],
)
def test_what_is_no_listen_address_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(BadValue) as refused:
        listen_address(text)
    assert refused.value.hint == hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://catalog.shop.svc:8080", Endpoint("http", "catalog.shop.svc", 8080)),
        ("http://Catalog", Endpoint("http", "catalog", 80)),
        ("HTTPS://a_b.example/", Endpoint("https", "a_b.example", 443)),
        ("http://[::1]:81", Endpoint("http", "::1", 81)),
        ("http://a/base/%2F/", Endpoint("http", "a", 80, base_path="/base/%2F")),
        ("unix:/run/app.sock", Endpoint("http", "", 0, unix_path="/run/app.sock")),
    ],
)
def test_an_endpoint_is_read(text: str, expected: Endpoint) -> None:
    assert endpoint(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "catalog:8080",
        "//catalog",
        "ftp://a",
        "http://",
        "http://:80",
        "http://a:0",
        "http://a:99999",
        "http://user:secret@a",
        "http://a?x=1",
        "http://a/#f",
        "http://a/b c",
        "http://a\r\nX: y",
        "http://a/\r\nX: y",
        "http://ä.example",
        "http://[::1",
        "unix:",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        endpoint(text)


def test_a_password_in_a_url_is_not_repeated_in_the_message() -> None:
    with pytest.raises(BadValue) as refused:
        endpoint("http://user:secret@a")
    assert "secret" not in str(refused.value) + refused.value.hint
