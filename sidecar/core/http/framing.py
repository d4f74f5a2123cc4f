"""What delimits an HTTP/1.1 message and whether its connection persists (RFC 9112 §6, §9.3), for both roles alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sidecar.core.http.heads import list_members

if TYPE_CHECKING:
    from collections.abc import Mapping

END_OF_HEAD = b"\r\n\r\n"
CHUNKED_LINE = b"Transfer-Encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"
"""The end of chunked content that has no trailers (§7.1)."""
SWITCHING_PROTOCOLS = 101
NO_CONTENT = frozenset({204, 304})
"""Final statuses whose responses have no content, whatever their fields say (RFC 9110 §6.4.1)."""
LENGTH_DIGITS = 18
"""Digits of a Content-Length that are read: more would be no size of anything."""
MAX_TRAILERS = 64
FRAMING_FIELDS = frozenset({b"connection", b"content-length", b"proxy-connection", b"transfer-encoding"})
"""Fields that decide on either; without them a request has no content and an HTTP/1.1 connection persists."""


is_length = re.compile(rb"[0-9]{1,%d}" % LENGTH_DIGITS).fullmatch
"""Whether a Content-Length is one: no number, signed, repeated and absurd ones declare nothing (§6.3)."""


def is_chunked(coding: bytes) -> bool:
    """Whether a Transfer-Encoding is chunked and nothing else: what is more is not understood here (§6.1)."""
    return coding.lower() == b"chunked"


def persists(index: Mapping[bytes, bytes], minor: int) -> bool:
    """Whether another message may follow this one on its connection (§9.3). `index`: its fields, `minor`: of HTTP/1.x.

    Proxy-Connection is heeded where Connection would be: some clients say only that.
    """
    options = index.get(b"connection", b"")
    if b"proxy-connection" in index:
        options += b"," + index[b"proxy-connection"]
    if not options:
        return minor == 1
    if options.lower() == b"keep-alive":
        return True
    members = list_members(options)
    return b"close" not in members and (minor == 1 or b"keep-alive" in members)
