"""What the sidecar's two readers make of octets that arrive in given pieces, as plain values to compare."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from sidecar.adapters.server.request import RequestReader
from sidecar.adapters.upstream.response import ResponseReader
from sidecar.core.config import ClientLimits
from sidecar.pipeline.errors import ClientGone, ProxyError
from tests.support.messages import Malformed, take_request, take_response

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.support.messages import Field, WireResponse

PADDED_SIZE = re.compile(rb"(?<=\r\n)([0-9A-Fa-f]{1,16}) +(?=\r\n)")
LIMITS = ClientLimits(head_size=2048, header_count=20, target_size=256, body_size=10_000)


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One request as the reader understood it; `status` is the refusal's, 0 for none."""

    method: str
    target: bytes
    fields: tuple[Field, ...]
    body: bytes
    complete: bool
    status: int


@dataclass(frozen=True, slots=True)
class ReadResponse:
    """The response as the reader understood it; `error` is the reason label, "" for none."""

    status: int
    fields: tuple[Field, ...]
    interims: tuple[int, ...]
    body: bytes
    complete: bool
    error: str


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` cut at each place (taken modulo its length), in order, nothing empty."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


def every_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def read_requests(pieces: Sequence[bytes]) -> list[ReadRequest]:
    """Feed the pieces as a connection would that answers nothing."""
    reader = RequestReader(LIMITS)
    for piece in pieces:
        reader.feed(piece)
        if reader.switching:
            reader.resume()
    incoming = list(reader.arrived)
    reader.eof(ClientGone())
    return [
        ReadRequest(
            method=one.head.method if one.head else "",
            target=one.head.target if one.head else b"",
            fields=tuple(one.head.headers) if one.head else (),
            body=b"".join(one.pieces) if one.complete else b"",
            complete=one.complete,
            status=_refusal(one.error, one.head is None),
        )
        for one in incoming
    ]


def _refusal(error: ProxyError | None, headless: bool) -> int:  # noqa: FBT001 - one caller
    """The status of a refusal. Whether junk is a bad request or an unknown method may depend on how much of it came."""
    if error is None or isinstance(error, ClientGone):
        return 0
    return 400 if headless and error.status == 501 else error.status


def read_response(pieces: Sequence[bytes], method: str = "GET", *, closed: bool = False) -> ReadResponse:
    """Feed the pieces as one exchange would; `closed`: the upstream ends the connection after them."""
    reader = ResponseReader()
    reader.start(method)
    error = ""
    try:
        for piece in pieces:
            reader.feed(piece)
        if closed:
            reader.eof()
    except ProxyError as refused:
        error = refused.reason
    whole = reader.complete and not error
    return ReadResponse(
        status=reader.head.status if reader.head and not error else 0,
        fields=tuple(reader.head.headers) if reader.head and not error else (),
        interims=tuple(head.status for head in reader.interims) if not error else (),
        body=b"".join(reader.pieces) if whole else b"",
        complete=whole,
        error=error,
    )


Verdict: TypeAlias = "str | None"


def disputed_request(data: bytes) -> Verdict:
    """Why the reader and the strict parser of the tests disagree about the first request in `data`, or None.

    The reader may refuse more; what it accepts whole must be delimited the same way by whoever reads it next.
    """
    read = read_requests([data])
    if not read or not read[0].complete or read[0].status:
        return None
    rest = data
    while rest.startswith(b"\r\n"):
        rest = rest[2:]
    line, _, fields = rest.partition(b"\r\n")
    if line.endswith(b" HTTP/1.0"):
        named = b"\r\nhost:" in (b"\r\n" + fields).partition(b"\r\n\r\n")[0].lower()
        line, fields = line[:-1] + b"1", fields if named else b"Host: a\r\n" + fields
    try:
        taken = take_request(line + b"\r\n" + fields)
    except Malformed as error:
        return f"accepted: {error}"
    if taken is None:
        return "accepted, but incomplete"
    return None if taken[0].body == read[0].body else f"body {read[0].body!r} or {taken[0].body!r}"


def _take_padded(data: bytes, method: str) -> tuple[WireResponse, int] | None:
    """What `take_response` finds; where that fails, without the spaces that may follow a chunk's size."""
    try:
        return take_response(data, method, ended=False)
    except Malformed:
        return take_response(PADDED_SIZE.sub(rb"\1", data), method, ended=False)


def disputed_response(data: bytes, method: str) -> Verdict:
    """The same about a response, where HTTP/1.0, a missing reason phrase with its space, and spaces after a chunk's
    size are let through.
    """
    read = read_response([data], method)
    if not read.complete or read.status == 204:
        return None  # fields that a 204 must not have are dropped, which is tested elsewhere
    strict = re.sub(rb"HTTP/1\.[01] ([0-9]{3})(?=\r\n)", rb"HTTP/1.1 \1 ", data.replace(b"HTTP/1.0 ", b"HTTP/1.1 ", 1))
    try:
        taken = _take_padded(strict, method)
    except Malformed as error:
        return f"accepted: {error}"
    if taken is None:
        return "accepted, but incomplete"
    return None if taken[0].body == read.body else f"body {read.body!r} or {taken[0].body!r}"
