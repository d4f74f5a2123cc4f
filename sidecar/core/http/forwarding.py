"""What a proxy changes in a head before passing it on (RFC 9110 §7.6, RFC 9112 §3.2).

Everything else crosses byte-exact: targets, values, case, order, repeats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.config import ForwardedMode
from sidecar.core.http.heads import Headers, field_line, list_members

if TYPE_CHECKING:
    from sidecar.core.config import Rewrite
    from sidecar.core.http.heads import Field, RequestHead

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that speak to the next hop only (RFC 9110 §7.6.1, §11.7)."""

NEVER_CONNECTION_OPTIONS = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expires",
        b"forwarded",
        b"host",
        b"location",
        b"set-cookie",
        b"vary",
        b"via",
    }
)
"""Fields meant for every recipient: naming one in Connection does not make it hop-by-hop (RFC 9110 §7.6.1)."""

FORBIDDEN_TRAILERS = (
    HOP_BY_HOP
    | NEVER_CONNECTION_OPTIONS
    | {
        b"age",
        b"expect",
        b"max-forwards",
        b"pragma",
        b"range",
        b"retry-after",
        b"trailer",
        b"www-authenticate",
    }
)
"""Fields that frame, route, authenticate or control: not allowed after the content (RFC 9110 §6.5.1)."""

MOST_FORWARDS = 10**9 - 1
"""Max-Forwards that say more are passed on as this (RFC 9110 §7.6.2)."""
_REQUEST_DROPS = HOP_BY_HOP | {b"host"}
_PLAIN_CONNECTION = frozenset({b"keep-alive", b"close", b"upgrade", b"keep-alive, upgrade"})


def connection_options(headers: Headers) -> frozenset[bytes]:
    """The fields that Connection names and that must stop here."""
    value = headers.index.get(b"connection")
    if value is None or value.lower() in _PLAIN_CONNECTION:
        return frozenset()
    return frozenset(list_members(value)) - NEVER_CONNECTION_OPTIONS


def withheld(headers: Headers) -> bool:
    """Whether Connection takes away fields that would cross otherwise: the next hop hears another request than this."""
    if b"connection" not in headers.index:
        return False
    return not (connection_options(headers) - HOP_BY_HOP).isdisjoint(headers.index)


def end_to_end(headers: Headers) -> Headers:
    """`headers` without what was meant for this hop only; the same object when there is nothing to drop."""
    index = headers.index
    drops = HOP_BY_HOP
    named = index.get(b"connection")
    if named is not None and named.lower() not in _PLAIN_CONNECTION:
        drops = drops | connection_options(headers)
    return headers if drops.isdisjoint(index) else headers.without(drops)


def max_forwards(head: RequestHead) -> int | None:
    """How often an OPTIONS request may be forwarded, this time included (RFC 9110 §7.6.2); 0: not at all.

    None when nothing limits it: other methods ignore the field, and what is no number in it is no limit.
    """
    if head.method != "OPTIONS":
        return None
    value = head.headers.index.get(b"max-forwards")
    if value is None or not value.isdigit():
        return None
    digits = value.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= len(str(MOST_FORWARDS)) else MOST_FORWARDS + 1


def counted_down(head: RequestHead, fields: list[Field]) -> list[Field]:
    """`fields` of the OPTIONS request `head` with one less in Max-Forwards, where that limits it."""
    limit = max_forwards(head)
    if limit is None:
        return fields
    left = b"%d" % (limit - 1)
    return [(name, left if name.lower() == b"max-forwards" else value) for name, value in fields]


def rewrite_target(target: bytes, rewrite: Rewrite) -> bytes:
    """The path and query for the upstream: `strip_prefix` (whole segments) taken off, `add_prefix` put before.

    What is left always begins with a slash, so that it can never be read as an authority or a scheme; `*` stays.
    """
    if target == b"*" or not (rewrite.strip_prefix or rewrite.add_prefix):
        return target
    prefix = rewrite.strip_prefix.encode()
    if prefix and target.startswith(prefix):
        rest = target[len(prefix) :]
        if prefix.endswith(b"/") or rest[:1] in (b"", b"/", b"?"):
            target = rest if rest.startswith(b"/") else b"/" + rest
    return rewrite.add_prefix.rstrip("/").encode() + target


class RequestForwarder:
    """Makes the bytes of a request head. What depends on the endpoint (Host, base path) is handed in."""

    __slots__ = ("_forwarded", "_via", "tells_client")

    def __init__(self, forwarded: ForwardedMode, via: str) -> None:
        self._forwarded = forwarded
        self.tells_client = forwarded is not ForwardedMode.OFF
        """Whether `client_lines` says anything."""
        self._via = (b"Via: 1.0 %b\r\n" % via.encode(), b"Via: 1.1 %b\r\n" % via.encode())

    def octets(self, head: RequestHead, target: bytes, host_line: bytes, more: bytes) -> bytes:
        """The whole head for the rewritten `target`. `host_line` is the Host field, `more` are this hop's own lines."""
        headers = head.headers
        drops = _REQUEST_DROPS
        named = headers.index.get(b"connection")
        if named is not None and named.lower() not in _PLAIN_CONNECTION:
            drops = drops | connection_options(headers)
        if head.minor_version == 0:
            # No expectation was meant (RFC 9110 §10.1.1).
            drops = drops | {b"expect"}
        fields = headers.without(drops).fields
        if head.method == "OPTIONS":
            fields = counted_down(head, fields)
        lines = b"\r\n".join((*map(field_line, fields), b""))
        via = self._via[head.minor_version]
        return b"%b %b HTTP/1.1\r\n%b%b%b%b\r\n" % (head.method.encode(), target, host_line, lines, via, more)

    def client_lines(self, head: RequestHead, client: str, scheme: str) -> bytes:
        """Forwarded (RFC 7239) and X-Forwarded-* as configured; b"" when off."""
        lines = b""
        address, host, proto = client.encode(), head.authority, scheme.encode()
        if self._forwarded in (ForwardedMode.FORWARDED, ForwardedMode.BOTH):
            node = b'"[%b]"' % address if b":" in address else address or b"unknown"
            lines += b'Forwarded: for=%b;host="%b";proto=%b\r\n' % (node, host, proto)
        if self._forwarded in (ForwardedMode.X_FORWARDED, ForwardedMode.BOTH):
            lines += b"X-Forwarded-For: %b\r\nX-Forwarded-Host: %b\r\nX-Forwarded-Proto: %b\r\n" % (
                address or b"unknown",
                host,
                proto,
            )
        return lines


def passed_before(headers: Headers, via: bytes) -> bool:
    """Whether Via says that the proxy with the pseudonym `via` has seen this message (RFC 9110 §7.6.3)."""
    value = headers.index.get(b"via")
    if value is None:
        return False
    for member in value.split(b","):
        words = member.split()
        if len(words) > 1 and words[1].lower() == via.lower():
            return True
    return False


def trailers_allowed(headers: Headers) -> bool:
    """Whether the client announced that it takes trailer fields (`TE: trailers`, RFC 9110 §10.1.4)."""
    value = headers.index.get(b"te")
    return value is not None and b"trailers" in list_members(value)
