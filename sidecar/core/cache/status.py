"""What the cache did, as one member of Cache-Status (RFC 9211); metrics use the same words."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Forward(StrEnum):
    """Why a request went upstream (RFC 9211 §2.2). A member is its word."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    REQUEST = "request"
    STALE = "stale"


HIT = "hit"
HIT_STALE = "hit-stale"
"""The metrics' word for a hit past its freshness; on the wire that is a negative ttl."""
COLLAPSED = "collapsed"


class Forwarded(NamedTuple):
    """A member about a request that went upstream. `status` is the upstream's, where the client saw another."""

    reason: Forward
    status: int | None = None
    stored: bool = False
    collapsed: bool = False
    detail: str = ""


def forwarded_line(name: bytes, member: Forwarded, key: bytes | None = None) -> bytes:
    """The whole field line. `name` identifies this cache; `key` is given in debug only."""
    text = f"; fwd={member.reason}"
    if member.status is not None:
        text += f"; fwd-status={member.status}"
    if member.stored:
        text += "; stored"
    if member.collapsed:
        text += "; collapsed"
    parameters = detail_parameter(member.detail) + (b"" if key is None else key_parameter(key))
    return b"Cache-Status: %b%b%b\r\n" % (name, text.encode(), parameters)


def hit_lines_format(name: bytes) -> bytes:
    """The Age and Cache-Status lines of an answer from the store, open for age, ttl and further parameters."""
    return b"Age: %%d\r\nCache-Status: %b; hit; ttl=%%d%%b\r\n" % name.replace(b"%", b"%%")


def detail_parameter(detail: str) -> bytes:
    """The detail parameter, a token where it can be one (RFC 9211 §2.8); b"" for none."""
    if not detail:
        return b""
    word = detail.encode()
    return b"; detail=" + (word if detail.isidentifier() else sf_string(word))


def key_parameter(key: bytes) -> bytes:
    """The key parameter (RFC 9211 §2.7)."""
    return b"; key=" + sf_string(key)


def sf_string(value: bytes) -> bytes:
    """`value` as a Structured Fields string (RFC 8941 §3.3.3); octets outside printable ASCII become `?`."""
    printable = bytes([octet if 0x20 <= octet < 0x7F else 0x3F for octet in value])
    return b'"' + printable.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
