"""How an address is written: `host:port`, an IPv6 address in brackets (RFC 3986 §3.2.2), or `unix:` and a path."""

from __future__ import annotations


def host_text(host: str) -> str:
    """A host as it stands before a port, in a URL or a Host field."""
    return f"[{host}]" if ":" in host else host


def host_port(host: str, port: int) -> str:
    """`host:port`."""
    return f"{host_text(host)}:{port}"


def unix_text(path: str) -> str:
    """The Unix socket at `path`."""
    return f"unix:{path}"


def bound_text(address: tuple[str, int] | str) -> str:
    """What a socket is bound to: host and port, or a text already."""
    return address if isinstance(address, str) else host_port(*address)
