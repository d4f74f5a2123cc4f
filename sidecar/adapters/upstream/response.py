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

from sidecar.core.chunked import ChunkedDecoder, sole_chunk
from sidecar.core.connection_auth import challenges_connection
from sidecar.core.forwarding import FORBIDDEN_TRAILERS, end_to_end
from sidecar.core.http import Headers, ResponseHead, list_members
from sidecar.pipeline.errors import ConnectionLost, ProtocolError

if TYPE_CHECKING:
    from sidecar.core.http import Field

MAX_HEAD = 128 * 1024
MAX_FIELDS = 500
MAX_INTERIM = 50
END_OF_HEAD = b"\r\n\r\n"
STATUS_LINE = b"HTTP/1."
MAX_TRAILERS = 64
SWITCHING_PROTOCOLS = 101
_REASON = re.compile(rb"[\t \x21-\x7e\x80-\xff]*")
_NO_CONTENT = frozenset({204, 304})


class Framing(Enum):
    """What delimits a response body (RFC 9112 §6.3)."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3
    SWITCHED = 4


class ResponseReader:
    """Reads one response at a time; `start` prepares for the next.

    After `feed`: `interims` and `pieces` hold what is new (the owner takes them), `head` is set once it is there,
    `complete` once the body is. `excess` says that the upstream sent more than one response: the connection must not
    be used again.
    """

    __slots__ = (
        "_chunked",
        "_fields",
        "_interim",
        "_interim_count",
        "_method",
        "_parser",
        "_raw",
        "_reason",
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
        self.start("GET")

    def start(self, method: str, upgrade: bytes = b"") -> None:
        """Expect the response to a `method` request; a 101 only to what the Upgrade value `upgrade` names."""
        self._method = method
        self._upgrade = list_members(upgrade) if upgrade else ()
        self._remaining = -1
        self.head: ResponseHead | None = None
        self.length: int | None = None
        self.pieces: list[bytes] = []
        self.complete = self.excess = self.started = False
        self._raw = self._reason = self.switched = b""
        self._fields: list[Field] = []
        self._interim_count = 0
        self._chunked: ChunkedDecoder | None = None
        self._interim = self.keep_alive = False
        self.framing = Framing.NONE
        self.keep_alive_hint: bytes | None = None
        self.interims: list[ResponseHead] = []
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> None:
        """Read on. Raises ProtocolError when this can be no HTTP/1.1 response."""
        self.started = True
        while data:
            if self._remaining >= 0:
                self._count_down(data)
                return
            if self.complete:
                self.excess = True
                return
            if self.head is None:
                data = self._read_head(data)
            else:
                self._read_content(data)
                return

    def eof(self) -> None:
        """The connection closed in good order. Raises ConnectionLost unless that ends a close-delimited body."""
        if self.complete:
            return
        if self.head is None or self.framing is not Framing.CLOSE:
            raise ConnectionLost("the upstream closed the connection before its response was complete")
        self.complete = True

    def close(self) -> None:
        """Nothing more will be fed: parser and reader hold each other no longer."""
        self._parser = None

    def _read_head(self, data: bytes) -> bytes:
        """Give llhttp no more than this head, so that it is known where each message begins and ends."""
        before = len(self._raw)
        raw = self._raw + data if before else data
        if not raw.startswith(STATUS_LINE[: len(raw)]):
            raise ProtocolError("the upstream's response does not begin with a status line")
        end = raw.find(END_OF_HEAD, max(0, before - 3))
        cut = len(data) if end < 0 else end + len(END_OF_HEAD) - before
        self._raw = raw[: before + cut]
        if len(self._raw) > MAX_HEAD:
            raise ProtocolError("the upstream's response head is too large")
        self._parse(data[:cut])
        if self.head is None:
            if end >= 0:
                self._raw = b""
            return data[cut:]
        if self.framing is Framing.SWITCHED:
            self.switched = data[cut:]
            return b""
        if self.length is not None and self.framing is Framing.LENGTH:
            self._begin_content(self.length)
        return data[cut:]

    def _begin_content(self, length: int) -> None:
        self._remaining = length
        if length == 0:
            self._remaining = -1
            self.complete = True

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
        if self.framing is Framing.CLOSE:
            self.pieces.append(data)
            return
        content = sole_chunk(data) if self._chunked is None else None
        if content is None:
            self._read_chunks(data)
        else:
            self.pieces.append(content)
            self.complete = True

    def _read_chunks(self, data: bytes) -> None:
        decoder = self._chunked
        if decoder is None:
            decoder = self._chunked = ChunkedDecoder(MAX_HEAD, padded=True)
        content = decoder.feed(data)
        if content:
            self.pieces.append(content)
        if decoder.fault:
            raise ProtocolError(f"the upstream's response is malformed: {decoder.fault}")
        if decoder.complete:
            self._take_trailers(decoder.trailers)
            self.excess = decoder.rest != b""
            self.complete = True
            self._chunked = None

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpResponseParser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._parser = None
        except httptools.HttpParserError as error:
            self._parser = None
            self._parse_failed(error)

    def _parse_failed(self, error: httptools.HttpParserError) -> None:
        if isinstance(error.__context__, ProtocolError):
            raise error.__context__
        if not self.complete:
            raise ProtocolError(f"the upstream's response is malformed: {error}")
        self.excess = True

    # What httptools calls

    def on_message_begin(self) -> None:
        """A status line begins."""
        if self.complete:
            self.excess = True
        self._fields = []
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        """The reason phrase, perhaps in parts."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field line of a head."""
        self._fields.append((name, value.rstrip(b" \t")))
        if len(self._fields) > MAX_FIELDS:
            raise ProtocolError("the upstream's response has too many header fields")

    def on_headers_complete(self) -> None:
        """The head is there."""
        if self.complete:
            return
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if not _REASON.fullmatch(self._reason):
            raise ProtocolError("the upstream's reason phrase holds control characters")
        minor = self._minor_version(parser.get_http_version())
        headers = Headers(self._fields)
        if status < 200 and status != SWITCHING_PROTOCOLS:
            self._on_interim(status, headers)
        else:
            self._on_final(status, headers, minor)

    def on_message_complete(self) -> None:
        """The end of an interim response or of the final one."""
        if self._interim:
            self._interim = False
        elif self.framing is not Framing.CLOSE:
            self.complete = True

    # Decisions

    def _minor_version(self, version: str) -> int:
        if version == "1.1":
            return 1
        if version != "1.0":
            raise ProtocolError(f"the upstream answered with HTTP/{version}")
        return 0

    def _on_interim(self, status: int, headers: Headers) -> None:
        self._interim = True
        self._interim_count += 1
        if status < 100 or self._interim_count > MAX_INTERIM:
            raise ProtocolError("the upstream sent an endless run of interim responses")
        self.interims.append(ResponseHead(status, end_to_end(headers), self._reason))

    def _on_final(self, status: int, headers: Headers, minor: int) -> None:
        self.framing = self._frame(status, headers, minor)
        self.keep_alive = self._persists(headers, minor)
        self.keep_alive_hint = headers.index.get(b"keep-alive")
        forwardable, bound = self._forwardable(status, headers), challenges_connection(headers)
        self.head = ResponseHead(status, forwardable, self._reason, connection_bound=bound)
        if self.framing is Framing.NONE:
            self.complete = True
        # llhttp waits for content that does not come, or not through it.
        self._parser = None

    def _frame(self, status: int, headers: Headers, minor: int) -> Framing:
        index = headers.index
        if status == SWITCHING_PROTOCOLS:
            if index.get(b"upgrade", b"").lower() not in self._upgrade:
                raise ProtocolError("the upstream switched protocols unasked")
            return Framing.SWITCHED
        if self._method == "HEAD" or status in _NO_CONTENT:
            return Framing.NONE
        coding = index.get(b"transfer-encoding")
        if coding is not None:
            if minor == 0 or coding.lower() != b"chunked":
                raise ProtocolError("the upstream used a transfer coding that cannot be decoded")
            return Framing.CHUNKED
        length = index.get(b"content-length")
        if length is None:
            return Framing.CLOSE
        self.length = int(length)
        return Framing.LENGTH

    def _persists(self, headers: Headers, minor: int) -> bool:
        if self.framing in (Framing.CLOSE, Framing.SWITCHED):
            return False
        options = headers.index.get(b"connection", b"")
        if b"proxy-connection" in headers.index:
            options += b"," + headers.index[b"proxy-connection"]
        if not options:
            return minor == 1
        return b"close" not in (members := list_members(options)) and (minor == 1 or b"keep-alive" in members)

    def _forwardable(self, status: int, headers: Headers) -> Headers:
        forwardable = end_to_end(headers)
        if self.framing is Framing.SWITCHED:
            return forwardable.plus((b"Connection", b"Upgrade"), (b"Upgrade", headers.index[b"upgrade"]))
        if status == HTTPStatus.NO_CONTENT and b"content-length" in headers.index:
            # Forbidden there (RFC 9110 §8.6); on HEAD and 304 it tells what a GET would have had.
            return forwardable.without({b"content-length"})
        return forwardable

    def _take_trailers(self, trailers: list[Field]) -> None:
        if len(trailers) > MAX_TRAILERS:
            raise ProtocolError("the upstream's response has too many trailer fields")
        self.trailers = [field for field in trailers if field[0].lower() not in FORBIDDEN_TRAILERS]
