"""Listeners that would collide, or stand open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.config.problem import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.config import Address, Config

EVERY_INTERFACE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def listener_findings(config: Config) -> Iterator[Finding]:
    """Addresses taken twice, an upstream that is this sidecar, an open control listener."""
    yield from _collisions(config)
    yield from _loops(config)
    if not config.admin.token_file:
        for address in config.admin.listen:
            if not is_loopback(address):
                message = f"the admin API on {address} can be reached from outside without a token"
                yield Finding("", "", "admin.listen", message, f"write 127.0.0.1:{address.port}, or set token_file")


def is_loopback(address: Address) -> bool:
    """Whether only this host can connect."""
    return bool(address.unix_path) or address.host.lower() in LOOPBACK or address.host.startswith("127.")


def overlap(one: Address, other: Address) -> bool:
    """Whether both cannot be bound at once."""
    if one.unix_path or other.unix_path:
        return one.unix_path == other.unix_path
    if one.port != other.port or one.port == 0:
        return False
    return one.host.lower() == other.host.lower() or bool({one.host, other.host} & EVERY_INTERFACE)


def _collisions(config: Config) -> Iterator[Finding]:
    seen: list[tuple[str, Address]] = []
    for owner, addresses in _listeners(config):
        for address in addresses:
            for other_owner, other in seen:
                if overlap(address, other):
                    message = f"{owner}.listen {address} collides with {other_owner}.listen {other}"
                    hint = "give each listener an address of its own"
                    yield Finding("", "", f"{owner}.listen", message, hint, Severity.ERROR)
            seen.append((owner, address))


def _listeners(config: Config) -> tuple[tuple[str, tuple[Address, ...]], ...]:
    return (
        ("proxy", config.proxy.listen),
        ("admin", config.admin.listen),
        ("telemetry", config.telemetry.listen),
    )


def _loops(config: Config) -> Iterator[Finding]:
    for upstream in config.upstreams:
        for endpoint in upstream.endpoints:
            for address in config.proxy.listen:
                same_socket = bool(endpoint.unix_path) and endpoint.unix_path == address.unix_path
                same_port = address.port and endpoint.port == address.port and endpoint.host in LOOPBACK
                if same_socket or (same_port and (is_loopback(address) or address.host in EVERY_INTERFACE)):
                    message = f"upstream {upstream.name} is this sidecar's own listener: requests would go in circles"
                    hint = "write the address of the service itself"
                    yield Finding("upstream", upstream.name, "", message, hint, Severity.ERROR)
