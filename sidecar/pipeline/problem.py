"""The response that tells a client why it got no upstream answer: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json
import math
import re
from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING, NamedTuple

from sidecar.core.http.heads import PHRASES, Headers, ResponseHead
from sidecar.pipeline.errors import forget_frames
from sidecar.pipeline.message import Response

if TYPE_CHECKING:
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.message import Request


def respond(error: ProxyError, request: Request | None, via: str) -> Response:
    """The problem+json answer (RFC 9457) that tells the client why, with Proxy-Status (RFC 9209).

    Its head holds the fields that all answers to this kind of error share; what is its own stands in `extra`.
    """
    # The response holds the error, whose traceback would hold all that the request passed, and the response.
    forget_frames(error)
    kind = type(error), error.status, via
    fixed = _fixed.get(kind)
    if fixed is None:
        fixed = _fixed[kind] = _make_fixed(error, via)
    body = fixed.problem + _particulars(error, request)
    lines = b"%bContent-Length: %d\r\n" % (_retry_line(error), len(body))
    if request is not None:
        lines += b"X-Request-Id: %b\r\n" % request.request_id
    return Response(fixed.head, body, source=error.source, extra=lines, prepared=fixed.prepared, error=error)


class _Fixed(NamedTuple):
    """What the answers to one kind of error have in common; made once, because refusing must be cheap."""

    problem: bytes
    head: ResponseHead
    prepared: bytes


def _retry_line(error: ProxyError) -> bytes:
    """Retry-After, when it makes sense to ask again (RFC 9110 §10.2.3)."""
    return b"" if error.retry_after is None else b"Retry-After: %d\r\n" % max(1, math.ceil(error.retry_after))


_NO_STRING = re.compile(r"[^ -~]")
_fixed: dict[tuple[type[ProxyError], int, str], _Fixed] = {}


def proxy_status(via: str, error: str, details: str = "", received: int | None = None) -> bytes:
    """The value of Proxy-Status (RFC 9209 §2): `received` is the status of an answer that is not passed on."""
    value = f"{via}; error={error}" if error else via
    if received is not None:
        value += f"; received-status={received}"
    if details:
        # A structured-field string has visible ASCII only (RFC 9651 §3.3.3).
        text = _NO_STRING.sub("?", details)
        value += '; details="{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))
    return value.encode()


def _make_fixed(kind: ProxyError, via: str) -> _Fixed:
    phrase = PHRASES.get(kind.status, b"").decode() or "Error"
    problem = {
        "type": f"urn:circuit-sidecar:problem:{kind.reason}",
        "title": phrase,
        "status": kind.status,
        "reason": kind.reason,
    }
    headers = Headers(
        [
            (b"Content-Type", b"application/problem+json"),
            (b"Cache-Control", b"no-store"),
            (b"Proxy-Status", proxy_status(via, kind.proxy_status, kind.details)),
        ]
    )
    head = ResponseHead(kind.status, headers, phrase.encode())
    return _Fixed(json.dumps(problem)[:-1].encode(), head, head.octets)


def _particulars(error: ProxyError, request: Request | None) -> bytes:
    """The rest of the problem object: what is about this one request."""
    if request is None:
        return f', "detail": {quote(error.detail)}, "route": null, "circuit": null}}\n'.encode()
    route = "null" if request.route_name is None else quote(request.route_name)
    request_id = quote(request.request_id.decode("latin-1"))
    return (
        f', "detail": {quote(error.detail)}, "route": {route}, "circuit": {route}, "request_id": {request_id}}}\n'
    ).encode()
