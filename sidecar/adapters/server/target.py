"""The request target and Host (RFC 9112 §3.2, RFC 9110 §7.2): which authority and path a request is for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")


@dataclass(frozen=True, slots=True)
class Target:
    """An authority (may be empty in HTTP/1.0) and a path with its query, byte-exact; or `*`."""

    authority: bytes
    path: bytes
    absolute: bool = False


@lru_cache(maxsize=256)
def host_is_valid(host: bytes) -> bool:
    """Whether `host` is `uri-host [":" port]`; a repeated field, combined by a comma, is not."""
    return _HOST.fullmatch(host) is not None


def parse_target(method: str, target: bytes, host: bytes) -> Target | None:
    """Read what is not origin-form: absolute-form (its authority wins over `host`) or asterisk-form; else None."""
    if target == b"*":
        return Target(host, target) if method == "OPTIONS" else None
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return None
    authority, path = match.groups()
    if not authority or authority.startswith(b":") or not host_is_valid(authority):
        return None
    return Target(authority, path if path.startswith(b"/") else b"/" + path, absolute=True)
