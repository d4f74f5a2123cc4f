"""Where to listen and where to connect, read strictly: nothing that a URL library would quietly repair."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

from sidecar.config.units import BadValue, quoted
from sidecar.core.config import DEFAULT_PORTS, Address, Endpoint

HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?", re.ASCII)
PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL | re.ASCII)
PATH = re.compile(r"(?:/[!$%&'()*+,;=:@~A-Za-z0-9._-]*)*", re.ASCII)
UNIX_PATH = re.compile(r"[^\x00-\x1f\x7f]{1,107}")
"""What fits `sun_path`, with its final NUL."""
LAST_PORT = 65535
BRACKETS = "an IPv6 address with a port is written [::1]:4100"


def host_and_port(text: str) -> tuple[str, int | None]:
    """`name`, `name:80`, `[::1]`, `[::1]:80` → host without brackets, and the port if one is given."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadValue(f"{quoted(text)} is not an address", BRACKETS)
        _check_ipv6(host)
        return host, _port(rest[1:]) if rest else None
    host, colon, port = text.partition(":")
    if ":" in port:
        raise BadValue(f"{quoted(text)} is not an address", BRACKETS)
    if HOST_NAME.fullmatch(host) is None:
        hint = "write an internationalized name in its xn-- form" if host and not host.isascii() else ""
        raise BadValue(f"{quoted(host)} is not a host name or address", hint)
    return host, _port(port) if colon else None


def _check_ipv6(host: str) -> None:
    try:
        IPv6Address(host)
    except AddressValueError:
        raise BadValue(f"{quoted(host)} is not an IPv6 address") from None


def _port(text: str) -> int:
    if PORT.fullmatch(text) is None or int(text) > LAST_PORT:
        raise BadValue(f"{quoted(text)} is not a port", f"write a number from 0 to {LAST_PORT}")
    return int(text)


def listen_address(text: str) -> Address:
    """A listener: `127.0.0.1:4100`, `[::1]:0`, `localhost:4100`, `unix:/run/proxy.sock`."""
    if text.startswith("unix:"):
        return Address(unix_path=unix_path(text))
    if text.startswith((":", "*:")) and ":" not in text[2:]:
        raise BadValue(f"{quoted(text)} names no host", f"write 0.0.0.0:{text.rpartition(':')[2]} for every interface")
    if PORT.fullmatch(text):
        raise BadValue(f"{quoted(text)} names no host", f"write 127.0.0.1:{text}")
    host, port = host_and_port(text)
    if port is None:
        raise BadValue(f"{quoted(text)} names no port", "write host:port; port 0 takes any free one")
    return Address(host, port)


def endpoint(text: str) -> Endpoint:
    """One address of an upstream: `http://name[:port][/base]`, `https://…`, or `unix:/path.sock`."""
    if text.startswith("unix:"):
        return Endpoint("http", "", 0, unix_path=unix_path(text))
    found = URL.fullmatch(text)
    if found is None:
        raise BadValue("not a URL", "write http://host:port, https://host or unix:/path.sock")
    scheme = found["scheme"].lower()
    if scheme not in DEFAULT_PORTS:
        raise BadValue(f"the scheme {quoted(scheme)} is not supported", "write http://, https:// or unix:/path.sock")
    if "@" in found["authority"]:
        raise BadValue("user name and password do not belong in an upstream's URL")
    host, port = host_and_port(found["authority"])
    if port == 0:
        raise BadValue("port 0 cannot be connected to")
    return Endpoint(scheme, host.lower(), port or DEFAULT_PORTS[scheme], base_path=_base_path(found["rest"]))


def _base_path(rest: str) -> str:
    if "?" in rest or "#" in rest:
        raise BadValue("an upstream's URL has no query and no fragment", "write scheme, host, port and path only")
    if PATH.fullmatch(rest) is None:
        raise BadValue(f"{quoted(rest)} is not a URL path", "percent-encode what is not a URL character")
    return rest.removesuffix("/")


def unix_path(text: str) -> str:
    """The path that `unix:/path.sock` or `unix:///path.sock` names."""
    path = text.removeprefix("unix:").removeprefix("//")
    if not path.startswith("/") or UNIX_PATH.fullmatch(path) is None:
        raise BadValue(f"{quoted(text)} is not a Unix socket", "write unix:/absolute/path.sock, 107 characters at most")
    return path
