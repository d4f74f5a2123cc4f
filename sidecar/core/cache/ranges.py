"""Range requests answered from a complete stored representation (RFC 9110 §14).

Ranges are answered one by one in the order asked for. When they are very many, or together come to more than the
representation itself, it is sent whole: that is what bounds the work that one request can ask for (§17.15).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.cache.conditional import REPRESENTATION_FIELDS, strong_tag
from sidecar.core.cache.freshness import date_of
from sidecar.core.http.heads import Headers, ResponseHead

if TYPE_CHECKING:
    from sidecar.core.cache.stored import StoredResponse

_SPEC = re.compile(rb"(?P<first>[0-9]{1,18})-(?P<last>[0-9]{0,18})|-(?P<suffix>[0-9]{1,18})")
_RANGES = re.compile(rb"bytes=(?P<specs>.*)", re.IGNORECASE)
MOST_RANGES = 100
STRONG_DATE_MARGIN = 60
"""Seconds by which Date must follow Last-Modified for it to be a strong validator (RFC 9110 §8.8.2.2)."""

Span: TypeAlias = tuple[int, int]
"""First octet, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a range request gets: 206 or 416 with its body."""

    head: ResponseHead
    body: bytes


def answer_range(request: Headers, stored: StoredResponse) -> Part | None:
    """The partial answer to a GET with Range, or None when the whole is to be sent."""
    spans = requested_spans(request.index[b"range"], len(stored.body))
    # No part of an empty representation can be named in Content-Range.
    rangeable = stored.head.status == 200 and stored.body
    if not rangeable or spans is None or not _range_applies(request, stored):
        return None
    if not spans:
        return _unsatisfiable(stored)
    if sum(end - start for start, end in spans) > len(stored.body):
        return None
    return _single(stored, spans[0]) if len(spans) == 1 else _multipart(stored, spans)


def requested_spans(value: bytes, size: int) -> list[Span] | None:
    """The satisfiable ones of the byte ranges in `value`; None when it is to be ignored (§14.2)."""
    found = _RANGES.fullmatch(value.strip(b" \t"))
    if found is None:
        return None
    # Empty members of a list count for nothing (§5.6.1).
    members = [member for text in found["specs"].split(b",") if (member := text.strip(b" \t"))]
    if not 0 < len(members) <= MOST_RANGES:
        return None
    spans = []
    for member in members:
        spec = _SPEC.fullmatch(member)
        if spec is None:
            return None
        span = _span(spec, size)
        if span is None:
            return None
        if span[0] < span[1]:
            spans.append(span)
    return spans


def _span(spec: re.Match[bytes], size: int) -> Span | None:
    if spec["suffix"] is not None:
        return max(0, size - int(spec["suffix"])), size
    first = int(spec["first"])
    if not spec["last"]:
        return first, size
    last = int(spec["last"])
    return None if last < first else (first, min(last + 1, size))


def _range_applies(request: Headers, stored: StoredResponse) -> bool:
    """Whether If-Range, if any, still names the stored representation, by strong comparison (§13.1.5)."""
    condition = request.index.get(b"if-range")
    if condition is None:
        return True
    fields = stored.head.headers
    if condition.startswith((b'"', b"W/")):
        return strong_tag(condition) and condition == fields.index.get(b"etag")
    if condition != fields.index.get(b"last-modified"):
        return False
    modified = date_of(fields, b"last-modified", stored.stored_wall)
    made = date_of(fields, b"date", stored.stored_wall)
    return modified is not None and made is not None and made >= modified + STRONG_DATE_MARGIN


def _unsatisfiable(stored: StoredResponse) -> Part:
    fields = stored.head.headers.without(REPRESENTATION_FIELDS)
    head = fields.plus((b"Content-Length", b"0"), (b"Content-Range", b"bytes */%d" % len(stored.body)))
    return Part(ResponseHead(416, head, b"Range Not Satisfiable"), b"")


def _single(stored: StoredResponse, span: Span) -> Part:
    body = stored.body[span[0] : span[1]]
    fields = stored.head.headers.without({b"content-length", b"accept-ranges"}).plus(
        (b"Content-Length", b"%d" % len(body)), (b"Content-Range", _content_range(stored, span))
    )
    return Part(ResponseHead(206, fields, b"Partial Content"), body)


def _multipart(stored: StoredResponse, spans: list[Span]) -> Part:
    boundary = _boundary(stored.body)
    kind = stored.head.headers.index.get(b"content-type")
    kind_line = b"" if kind is None else b"Content-Type: %b\r\n" % kind
    parts = [
        b"\r\n--%b\r\n%bContent-Range: %b\r\n\r\n%b"
        % (boundary, kind_line, _content_range(stored, span), stored.body[span[0] : span[1]])
        for span in spans
    ]
    body = b"".join((*parts, b"\r\n--%b--\r\n" % boundary))
    fields = stored.head.headers.without({b"content-length", b"content-type", b"accept-ranges"}).plus(
        (b"Content-Length", b"%d" % len(body)), (b"Content-Type", b"multipart/byteranges; boundary=" + boundary)
    )
    return Part(ResponseHead(206, fields, b"Partial Content"), body)


def _content_range(stored: StoredResponse, span: Span) -> bytes:
    return b"bytes %d-%d/%d" % (span[0], span[1] - 1, len(stored.body))


def _boundary(body: bytes) -> bytes:
    """A delimiter that does not occur in `body` (RFC 2046 §5.1.1)."""
    number = len(body)
    while b"%020d" % number in body:
        number += 1
    return b"%020d" % number
