"""Response heads → octets, with the framing that the client understands (RFC 9112 §6)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from sidecar.core.http.framing import NO_CONTENT

if TYPE_CHECKING:
    from sidecar.core.http.heads import Field, ResponseHead

CLOSE = b"Connection: close\r\n"
KEEP_ALIVE = b"Connection: keep-alive\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def encode_last_chunk(trailers: list[Field]) -> bytes:
    """The end of a chunked body (RFC 9112 §7.1)."""
    return b"0\r\n" + b"".join([b"%b: %b\r\n" % field for field in trailers]) + b"\r\n"


def length_line(head: ResponseHead, length: int) -> bytes:
    """Content-Length for a body of `length` octets that is all there, unless the head has it or must not."""
    if b"content-length" in head.headers.index or head.status in NO_CONTENT or head.status < HTTPStatus.OK:
        return b""
    return b"Content-Length: %d\r\n" % length
