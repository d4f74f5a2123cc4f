"""What a request head must be beyond what llhttp sees to (RFC 9112 §2–6, §9.3, RFC 9110 §7.2, §7.8, §10.1.1).

What belongs here: judging one head that is whole, its target and Host among it. Nothing here knows a connection. Every
check raises the ProxyError that the client gets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sidecar.adapters.server.limits import TARGET_TOO_LONG, TOO_MANY_FIELDS
from sidecar.core.http.framing import is_chunked, is_length
from sidecar.core.http.heads import STANDARD_METHODS, RequestHead, list_members
from sidecar.core.http.methods import NEVER_FORWARDED
from sidecar.pipeline.errors import (
    BadRequest,
    BodyTooLarge,
    CodingUnknown,
    ExpectationFailed,
    HeadTooLarge,
    MethodUnknown,
    TargetTooLong,
    VersionUnsupported,
)

if TYPE_CHECKING:
    from sidecar.core.config import ClientLimits
    from sidecar.core.http.heads import Headers

METHODS = {name.encode(): name for name in STANDARD_METHODS}
"""Those that llhttp is shown as they are; for others see `with_method_of_parser`."""
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")


def make_head(name: bytes, raw: bytes, headers: Headers, limits: ClientLimits) -> RequestHead:
    """The head whose octets are `raw`, with the method `name`. llhttp has found nothing wrong with it.

    But llhttp forgives spaces around the target, a bare LF before the line and other protocols' names: not so here.
    """
    begin = 0 if raw.startswith(name) else len(raw) - len(raw.lstrip(b"\r\n"))
    end = raw.find(b"\r\n", begin)
    words = raw[begin:end].split(b" ")
    if len(words) != 3 or words[0] != name:
        raise BadRequest("the request line is malformed")
    _, target, version = words
    minor = 1 if version == b"HTTP/1.1" else minor_version(version)
    if len(target) > limits.target_size:
        raise TargetTooLong(TARGET_TOO_LONG)
    if len(headers.fields) > limits.header_count:
        raise HeadTooLarge(TOO_MANY_FIELDS)
    method = METHODS.get(name) or name.decode("ascii")
    if method in NEVER_FORWARDED:
        raise MethodUnknown(f"{method} is not done here")
    host = headers.index.get(b"host")
    if host is None:
        if minor == 1:
            raise BadRequest("the Host field is missing")
        host = b""
    elif not host_is_valid(host):
        # Repeated lines are one value with a comma here (RFC 9112 §3.2).
        raise BadRequest("the Host field is repeated or invalid")
    if target.startswith(b"/") and b"#" not in target:
        return RequestHead(method, target, headers, host, minor)
    unusual = parse_target(method, target, host)
    if unusual is None:
        raise BadRequest("the request target is invalid")
    return RequestHead(method, unusual.path, headers, unusual.authority, minor, unusual.absolute)


def minor_version(version: bytes) -> int:
    """The 1 of HTTP/1.1 or the 0 of HTTP/1.0 (RFC 9112 §2.3)."""
    if not version.startswith(b"HTTP/"):
        raise BadRequest("the request line is malformed")
    if version == b"HTTP/0.9":
        raise BadRequest("HTTP/0.9 is not spoken here")
    if version != b"HTTP/1.0":
        raise VersionUnsupported(f"{version.decode('latin-1')} is not spoken here; use HTTP/1.1")
    return 0


def content_length(head: RequestHead, limit: int | None) -> int | None:
    """Octets of content: declared, 0 for none, None when chunked (RFC 9112 §6.3)."""
    index = head.headers.index
    coding = index.get(b"transfer-encoding")
    if coding is not None:
        check_coding(coding, head.minor_version)
        return None
    value = index.get(b"content-length")
    if value is None:
        return 0
    if not is_length(value):
        raise BadRequest("the Content-Length is invalid")
    length = int(value)
    if limit is not None and length > limit:
        raise BodyTooLarge(f"the request body exceeds {limit} bytes")
    return length


def check_coding(coding: bytes, minor: int) -> None:
    """Chunked, once, or it is not understood (RFC 9112 §6.1)."""
    if minor == 0:
        raise BadRequest("Transfer-Encoding has no meaning in HTTP/1.0")
    if is_chunked(coding):
        return
    if b"chunked" in list_members(coding)[:-1]:
        raise BadRequest("chunked must be the last transfer coding, once")
    raise CodingUnknown("no transfer coding but chunked is understood")


def expects_continue(head: RequestHead, length: int | None) -> bool:
    """Whether the client may wait for 100 before it sends its content; HTTP/1.0 has no expectations."""
    value = head.headers.index.get(b"expect")
    if value is None or head.minor_version == 0:
        return False
    expectations = list_members(value)
    if not expectations:
        return False
    if expectations != [b"100-continue"]:
        raise ExpectationFailed("no expectation but 100-continue is understood")
    return length != 0


def wanted_upgrade(head: RequestHead, length: int | None) -> bytes:
    """What to ask the upstream to switch to, whatever the method (RFC 9110 §7.8). Never HTTP/2 in the clear: it would
    bypass every rule here. And nothing when there is content, or may be: whether chunks hold any is known too late.
    """
    value = head.headers.index.get(b"upgrade", b"")
    if head.minor_version == 0 or length != 0:
        return b""
    if b"upgrade" not in list_members(head.headers.index.get(b"connection", b"")):
        return b""
    return b"" if any(member.startswith(b"h2c") for member in list_members(value)) else value


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
