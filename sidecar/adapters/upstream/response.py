"""Octets from an upstream connection → one response: its interim heads, its head, its body, its end (RFC 9112 §4–7).

llhttp does the grammar of heads, `core.chunked` that of chunks; what is let through and a proxy must not is decided
here. Spaces that pad a chunk's size, which some servers send, are forgiven. The reader knows no connection and no
clock: after each `feed` its owner looks at what is there.
"""

from __future__ import annotations

import re
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools

from sidecar.core.http.chunked import ChunkedDecoder, plain_chunks
from sidecar.core.http.connection_auth import CHALLENGES, challenges_connection
from sidecar.core.http.forwarding import FORBIDDEN_TRAILERS, HOP_BY_HOP, end_to_end
from sidecar.core.http.framing import (
    END_OF_HEAD,
    MAX_TRAILERS,
    NO_CONTENT,
    SWITCHING_PROTOCOLS,
    is_chunked,
    is_length,
    persists,
)
from sidecar.core.http.heads import FieldLines, Headers, ResponseHead, list_members
from sidecar.pipeline.errors import ConnectionLost, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.core.http.heads import Field

MAX_HEAD = 128 * 1024
MAX_FIELDS = 500
MAX_INTERIM = 50
STATUS_LINE = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: ([\t \x21-\x7e\x80-\xff]*))?\r\n")
"""The version and the reason phrase of what llhttp takes for a status line (RFC 9112 §4)."""


class Framing(Enum):
    """What delimits a response body (RFC 9112 §6.3)."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3
    SWITCHED = 4


NEVER_PERSISTS = frozenset({Framing.CLOSE, Framing.SWITCHED})
_NONE, _LENGTH, _CLOSE, _SWITCHED = Framing.NONE, Framing.LENGTH, Framing.CLOSE, Framing.SWITCHED


class ResponseReader:
    """Reads one response at a time; `start` prepares for the next.

    After `feed`: `interims` and `pieces` hold what is new (the owner takes them), `head` is set once it is there,
    `complete` once the body is. `excess` says that the upstream sent more than one response: the connection must not
    be used again.
    """

    __slots__ = (
        "_chunked",
        "_interim_count",
        "_lines",
        "_method",
        "_parser",
        "_raw",
        "_remaining",
        "_upgrade",
        "complete",
        "excess",
        "framing",
        "head",
        "interims",
        "keep_alive",
        "keep_alive_hint",
        "length",
        "pieces",
        "started",
        "switched",
        "trailers",
    )

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = None
        self._raw = self.switched = b""
        self._remaining = -1
        self._lines = FieldLines()
        self._chunked: ChunkedDecoder | None = None
        self.framing = _NONE
        self.length: int | None = None
        self.keep_alive = self.excess = False
        self.keep_alive_hint: bytes | None = None
        self.pieces: list[bytes] = []
        self.interims: list[ResponseHead] = []
        self.trailers: list[Field] = []
        self.start("GET")

    def start(self, method: str, upgrade: bytes = b"") -> None:
        """Expect the response to a `method` request; a 101 only to what the Upgrade value `upgrade` names.

        The response before this one was read to its end and taken: what is not set here each head sets, or its end.
        """
        self._method = method
        self._upgrade = list_members(upgrade) if upgrade else ()
        self._interim_count = 0
        self.head: ResponseHead | None = None
        self.complete = self.started = False
        if self.trailers:
            self.trailers = []

    def feed(self, data: bytes) -> None:
        """Read on. Raises ProtocolError when this can be no HTTP/1.1 response."""
        self.started = True
        while data and self.head is None:
            data = self._read_head(data)
        if not data:
            return
        if self._remaining >= 0:
            self._count_down(data)
        elif self.complete:
            self.excess = True
        else:
            self._read_content(data)

    def eof(self) -> None:
        """The connection closed in good order. Raises ConnectionLost unless that ends a close-delimited body."""
        if self.complete:
            return
        if self.head is None or self.framing is not _CLOSE:
            raise ConnectionLost("the upstream closed the connection before its response was complete")
        self.complete = True

    def _read_head(self, data: bytes) -> bytes:
        """Give llhttp no more than this head, so that it is known where each message begins and ends."""
        before = len(self._raw)
        raw = self._raw + data if before else data
        if not raw.startswith(STATUS_LINE) and not STATUS_LINE.startswith(raw):
            raise ProtocolError("the upstream's response does not begin with a status line")
        end = raw.find(END_OF_HEAD, before - 3 if before > 3 else 0)
        size = len(raw) if end < 0 else end + 4
        if size > MAX_HEAD:
            raise ProtocolError("the upstream's response head is too large")
        self._raw = head = raw[:size]
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpResponseParser(self._lines)
        try:
            parser.feed_data(raw[before:size])
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise ProtocolError(f"the upstream's response is malformed: {error}") from None
        if end < 0:
            return b""
        # llhttp would wait for content, which is not shown to it.
        self._parser = None
        self._raw = b""
        self._take_head(head)
        rest = raw[size:]
        if self.head is None:
            return rest
        if rest and len(rest) == self.length:
            self.pieces.append(rest)
            self.complete = True
            return b""
        return self._begin_content(rest)

    def _begin_content(self, rest: bytes) -> bytes:
        if self.framing is _SWITCHED:
            self.switched = rest
            return b""
        if self.length:
            self._remaining = self.length
        elif self.length == 0:
            self.complete = True
        return rest

    def _count_down(self, data: bytes) -> None:
        """A length-delimited body needs no parser: counting is four times cheaper."""
        remaining = self._remaining - len(data)
        if remaining < 0:
            self.excess = True
            data = data[: self._remaining]
        self.pieces.append(data)
        if remaining <= 0:
            self.complete = True
            remaining = -1
        self._remaining = remaining

    def _read_content(self, data: bytes) -> None:
        if self.framing is _CLOSE:
            self.pieces.append(data)
            return
        if self._chunked is None:
            end = plain_chunks(data, self.pieces)
            if end < 0:
                self.complete = True
                return
            data = data[end:]
        if data:
            self._read_chunks(data)

    def _read_chunks(self, data: bytes) -> None:
        """Chunks that are cut, or that more than plain ones follow."""
        decoder = self._chunked
        if decoder is None:
            decoder = self._chunked = ChunkedDecoder(MAX_HEAD, padded=True)
        decoder.feed_into(data, self.pieces)
        if decoder.fault:
            raise ProtocolError(f"the upstream's response is malformed: {decoder.fault}")
        if decoder.complete:
            self._take_trailers(decoder.trailers)
            self.excess = decoder.rest != b""
            self.complete = True
            self._chunked = None

    def _take_head(self, raw: bytes) -> None:
        """The head `raw` is there, interim or final. llhttp has found nothing wrong with it."""
        line = _STATUS_LINE.match(raw)
        if line is None:
            raise _wrong_line(raw)
        version, code, phrase = line.groups(b"")
        status, minor = int(code), (0 if version == b"0" else 1)
        lines = self._lines
        headers = Headers(lines.fields, lines.index)
        lines.fields, lines.index = [], {}
        if len(headers.fields) > MAX_FIELDS:
            raise ProtocolError("the upstream's response has too many header fields")
        if status < 200 and status != SWITCHING_PROTOCOLS:
            self._on_interim(status, headers, phrase)
            return
        index = headers.index
        framing = self.framing = self._frame(status, index, minor)
        self.keep_alive_hint = index.get(b"keep-alive")
        bound = not CHALLENGES.isdisjoint(index) and challenges_connection(headers)
        plain = index.get(b"connection", b"keep-alive") == b"keep-alive" and b"proxy-connection" not in index
        if plain and minor == 1:
            # What nearly every upstream says of this hop.
            self.keep_alive = framing not in NEVER_PERSISTS
            forwardable = headers.without(HOP_BY_HOP)
        else:
            self.keep_alive = framing not in NEVER_PERSISTS and persists(index, minor)
            forwardable = end_to_end(headers)
        if framing is _SWITCHED:
            forwardable = forwardable.plus((b"Connection", b"Upgrade"), (b"Upgrade", index[b"upgrade"]))
        elif framing is _NONE:
            self.complete = True
            if status == HTTPStatus.NO_CONTENT:
                # Content-Length is forbidden there (RFC 9110 §8.6); on HEAD and 304 it tells what a GET would have had.
                forwardable = forwardable.without({b"content-length"})
        self.head = ResponseHead(status, forwardable, phrase, connection_bound=bound)

    # Decisions

    def _on_interim(self, status: int, headers: Headers, reason: bytes) -> None:
        self._interim_count += 1
        if status < 100 or self._interim_count > MAX_INTERIM:
            raise ProtocolError("the upstream sent an endless run of interim responses")
        self.interims.append(ResponseHead(status, end_to_end(headers), reason))

    def _frame(self, status: int, index: Mapping[bytes, bytes], minor: int) -> Framing:
        self.length = None
        if status == SWITCHING_PROTOCOLS:
            if index.get(b"upgrade", b"").lower() not in self._upgrade:
                raise ProtocolError("the upstream switched protocols unasked")
            return _SWITCHED
        if self._method == "HEAD" or status in NO_CONTENT:
            return _NONE
        coding = index.get(b"transfer-encoding")
        if coding is not None:
            if minor == 0 or not is_chunked(coding):
                raise ProtocolError("the upstream used a transfer coding that cannot be decoded")
            return Framing.CHUNKED
        value = index.get(b"content-length")
        if value is None:
            return _CLOSE
        if not is_length(value):
            raise ProtocolError("the upstream's Content-Length is invalid")
        self.length = int(value)
        return _LENGTH

    def _take_trailers(self, trailers: list[Field]) -> None:
        if len(trailers) > MAX_TRAILERS:
            raise ProtocolError("the upstream's response has too many trailer fields")
        self.trailers = [field for field in trailers if field[0].lower() not in FORBIDDEN_TRAILERS]


def _wrong_line(raw: bytes) -> ProtocolError:
    version = raw[5:8]
    if version not in (b"1.0", b"1.1"):
        return ProtocolError(f"the upstream answered with HTTP/{version.decode('latin-1')}")
    return ProtocolError("the upstream's reason phrase holds control characters")
