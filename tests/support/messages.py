"""A strict reader of HTTP/1.1 messages on the wire (RFC 9112), for judging what the sidecar sends.

It shares nothing with the sidecar: one regular expression per grammar rule, and no leniency at all. Whatever a
careful peer could misread raises `Malformed`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

Field: TypeAlias = tuple[bytes, bytes]

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.1")
FIELD_LINE = re.compile(
    rb"(" + TOKEN + rb"):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*"
)
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})([\t ]*;[\t \x21-\x7e\x80-\xff]*)?")
DIGITS = re.compile(rb"[0-9]{1,18}")


class Malformed(AssertionError):
    """The peer sent something that is no strictly valid HTTP/1.1 message."""


@dataclass(frozen=True, slots=True)
class Payload:
    """The octets of a body with framing removed, its trailer fields, and how it was framed."""

    body: bytes = b""
    trailers: tuple[Field, ...] = ()
    framing: str = "none"
    chunks: int = 0


@dataclass(frozen=True, slots=True)
class _Message:
    fields: tuple[Field, ...]
    payload: Payload = field(default_factory=Payload)

    @property
    def body(self) -> bytes:
        return self.payload.body

    @property
    def trailers(self) -> tuple[Field, ...]:
        return self.payload.trailers

    def all(self, name: str) -> list[bytes]:
        """Each field line's value of `name`, in order."""
        return values(self.fields, name)

    def get(self, name: str) -> bytes | None:
        """The only value of `name`; None when absent. Two lines of it are an error of the test or the peer."""
        found = self.all(name)
        if len(found) > 1:
            raise Malformed(f"{name} occurs {len(found)} times: {found}")
        return found[0] if found else None

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))


@dataclass(frozen=True, slots=True)
class WireRequest(_Message):
    """One whole request as an origin received it."""

    method: str = ""
    target: bytes = b""

    @property
    def line(self) -> str:
        """`METHOD target`, for short assertions."""
        return f"{self.method} {self.target.decode('latin-1')}"


@dataclass(frozen=True, slots=True)
class WireResponse(_Message):
    """One response as a client received it; `interim` are the 1xx heads that came before it."""

    status: int = 0
    reason: bytes = b""
    interim: tuple[WireResponse, ...] = ()


def values(fields: tuple[Field, ...], name: str) -> list[bytes]:
    wanted = name.lower().encode()
    return [value for key, value in fields if key.lower() == wanted]


def take_head(data: bytes) -> tuple[bytes, tuple[Field, ...], int] | None:
    """Start line, fields and length of the head that `data` begins with; None while it is incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if (line := re.search(rb"(?<!\r)\n|\r(?=[^\n])|\x00", data)) is not None:
            raise Malformed(f"bare CR, bare LF or NUL at {line.start()} of {data[:200]!r}")
        return None
    start, *lines = data[:end].split(b"\r\n")
    return start, tuple(_field(line) for line in lines), end + 4


def _field(line: bytes) -> Field:
    if (match := FIELD_LINE.fullmatch(line)) is None:
        raise Malformed(f"not a field line: {line!r}")
    return match[1], match[2]


def take_chunked(data: bytes) -> tuple[Payload, int] | None:
    """The chunked body that `data` begins with and its length on the wire; None while it is incomplete."""
    pieces: list[bytes] = []
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        if (match := CHUNK_SIZE.fullmatch(data[at:end])) is None:
            raise Malformed(f"not a chunk size: {data[at:end][:80]!r}")
        size, at = int(match[1], 16), end + 2
        if size == 0:
            return _take_trailers(data, at, pieces)
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise Malformed(f"chunk does not end in CRLF: {data[at + size :][:20]!r}")
        pieces.append(data[at : at + size])
        at += size + 2
    return None


def _take_trailers(data: bytes, at: int, pieces: list[bytes]) -> tuple[Payload, int] | None:
    trailers: list[Field] = []
    while (end := data.find(b"\r\n", at)) >= 0:
        if end == at:
            return Payload(b"".join(pieces), tuple(trailers), "chunked", len(pieces)), end + 2
        trailers.append(_field(data[at:end]))
        at = end + 2
    return None


def take_framed(fields: tuple[Field, ...], data: bytes) -> tuple[Payload, int] | None:
    """The body that `fields` delimit: chunked, by length, or none. None while it is incomplete."""
    codings, lengths = values(fields, "transfer-encoding"), values(fields, "content-length")
    if len(codings) + len(lengths) > 1:
        raise Malformed(f"ambiguous framing: {codings} {lengths}")
    if codings:
        if codings[0].lower() != b"chunked":
            raise Malformed(f"transfer coding {codings[0]!r}")
        return take_chunked(data)
    if not lengths:
        return Payload(), 0
    length = content_length(lengths[0])
    return None if len(data) < length else (Payload(data[:length], framing="length"), length)


def content_length(value: bytes) -> int:
    if DIGITS.fullmatch(value) is None:
        raise Malformed(f"Content-Length {value!r}")
    return int(value)


def take_request(data: bytes) -> tuple[WireRequest, int] | None:
    """The request that `data` begins with and its length; None while it is incomplete."""
    if (head := take_head(data)) is None:
        return None
    start, fields, size = head
    if (match := REQUEST_LINE.fullmatch(start)) is None:
        raise Malformed(f"not a request line: {start!r}")
    if len(values(fields, "host")) != 1:
        raise Malformed(f"Host lines: {values(fields, 'host')}")
    if (framed := take_framed(fields, data[size:])) is None:
        return None
    payload, length = framed
    return WireRequest(fields, payload, match[1].decode(), match[2]), size + length


def take_requests(data: bytes) -> tuple[list[WireRequest], bytes]:
    """Every whole request in `data`, and the rest."""
    requests: list[WireRequest] = []
    while data and (taken := take_request(data)) is not None:
        requests.append(taken[0])
        data = data[taken[1] :]
    return requests, data


def take_response(data: bytes, method: str, *, ended: bool) -> tuple[WireResponse, int] | None:
    """The final response to `method` that `data` begins with, after its interim ones; None while it is incomplete.

    `ended`: the connection closed cleanly after `data`, which alone completes a close-delimited body.
    """
    interim: list[WireResponse] = []
    used = 0
    while (taken := take_response_head(data[used:])) is not None:
        head, size = taken
        used += size
        if head.status >= 200 or head.status == 101:
            if (body := _response_body(head, method, data[used:], ended=ended)) is None:
                return None
            payload, length = body
            return WireResponse(head.fields, payload, head.status, head.reason, tuple(interim)), used + length
        interim.append(head)
    return None


def take_response_head(data: bytes) -> tuple[WireResponse, int] | None:
    """The response head, interim or final, that `data` begins with."""
    if (head := take_head(data)) is None:
        return None
    start, fields, size = head
    if (match := STATUS_LINE.fullmatch(start)) is None:
        raise Malformed(f"not a status line: {start!r}")
    status = int(match[1])
    if (status < 200 or status == 204) and (values(fields, "transfer-encoding") or values(fields, "content-length")):
        raise Malformed(f"a {status} with framing fields: {fields}")
    return WireResponse(fields, Payload(), status, match[2]), size


def _response_body(head: WireResponse, method: str, data: bytes, *, ended: bool) -> tuple[Payload, int] | None:
    """RFC 9112 §6.3."""
    if method == "HEAD" or head.status in {101, 204, 304}:
        return Payload(), 0
    if head.all("transfer-encoding") or head.all("content-length"):
        return take_framed(head.fields, data)
    if "close" not in b",".join(head.all("connection")).decode("latin-1").lower():
        raise Malformed(f"a close-delimited body without Connection: close: {head.fields}")
    return (Payload(data, framing="close"), len(data)) if ended else None
