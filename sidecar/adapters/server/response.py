"""Response heads → octets, with the framing that the client understands (RFC 9112 §6)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from sidecar.core.http import reason_phrase

if TYPE_CHECKING:
    from sidecar.core.http import Field, ResponseHead
    from sidecar.pipeline.exchange import Response

STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, reason_phrase(status).encode()) for status in HTTPStatus}
NO_CONTENT = frozenset({204, 304})
CLOSE = b"Connection: close\r\n"
KEEP_ALIVE = b"Connection: keep-alive\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SWITCHING_PROTOCOLS = HTTPStatus.SWITCHING_PROTOCOLS
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def status_line(head: ResponseHead) -> bytes:
    """The status line; the upstream's own reason phrase where it has one."""
    if head.reason:
        return b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)
    return STATUS_LINES.get(head.status) or b"HTTP/1.1 %d \r\n" % head.status


def encode_head(response: Response, hop_lines: bytes) -> bytes:
    """The whole head with its empty line; `hop_lines` is what this connection adds."""
    prepared = response.prepared
    if prepared is not None:
        return b"%b%b%b\r\n" % (prepared, response.extra, hop_lines)
    head = response.head
    return b"%b%b%b%b\r\n" % (status_line(head), head.headers.lines, response.extra, hop_lines)


def encode_interim(head: ResponseHead) -> bytes:
    """A 1xx head (RFC 9110 §15.2)."""
    return b"%b%b\r\n" % (status_line(head), head.headers.lines)


def encode_last_chunk(trailers: list[Field]) -> bytes:
    """The end of a chunked body (RFC 9112 §7.1)."""
    return b"0\r\n" + b"".join([b"%b: %b\r\n" % field for field in trailers]) + b"\r\n"


def length_line(head: ResponseHead, length: int) -> bytes:
    """Content-Length for a body of `length` octets that is all there, unless the head has it or must not."""
    if b"content-length" in head.headers.index or head.status in NO_CONTENT or head.status < HTTPStatus.OK:
        return b""
    return b"Content-Length: %d\r\n" % length
