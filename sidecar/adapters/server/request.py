"""Octets from a client connection → requests (RFC 9112 §2–7), refusing whatever could be read in two ways.

llhttp does the grammar; what it lets through and a proxy must not is decided here. The reader knows no connection and
no clock: after each `feed` its owner takes what `arrived`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httptools

from sidecar.adapters.server.target import Target, host_is_valid, parse_target
from sidecar.core.forwarding import FORBIDDEN_TRAILERS
from sidecar.core.http import Headers, RequestHead, list_members
from sidecar.pipeline.errors import (
    BadRequest,
    BodyTooLarge,
    CodingUnknown,
    ExpectationFailed,
    HeadTooLarge,
    MethodUnknown,
    ProxyError,
    TargetTooLong,
    VersionUnsupported,
)

if TYPE_CHECKING:
    from sidecar.core.config import ClientLimits
    from sidecar.core.http import Field
    from sidecar.pipeline.streams import StreamBody

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")}
NOT_PROXIED = frozenset({"CONNECT", "TRACE"})
MAX_TRAILERS = 64
CHUNK_LINE = 24
"""Octets around one chunk's data that need no explanation: a long size, two CRLF."""
_OTHER_PROTOCOL = re.compile(rb"^[A-Z-]+ [^ \r\n]+ (?!HTTP/)", re.MULTILINE)
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,40}(?: |$)")
_CHUNKED_STATE = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class Incoming:
    """One request as it arrives. Until a `body` takes over, content gathers in `pieces`.

    `length`: declared octets of content, 0 for none, None when chunked. `error`: why it can be no request, or why its
    content broke off.
    """

    __slots__ = ("body", "complete", "error", "expects_continue", "head", "keep_alive", "length", "pieces", "upgrade")

    def __init__(self, head: RequestHead | None, length: int | None = 0, *, keep_alive: bool = False) -> None:
        self.head = head
        self.length = length
        self.keep_alive = keep_alive
        self.pieces: list[bytes] = []
        self.body: StreamBody | None = None
        self.complete = False
        self.expects_continue = False
        self.upgrade = b""
        self.error: ProxyError | None = None

    def feed(self, piece: bytes) -> None:
        """Content has come."""
        if self.body is None:
            self.pieces.append(piece)
        else:
            self.body.feed(piece)

    def finish(self, error: ProxyError | None = None) -> None:
        """The content is whole, or `error` says why it never will be."""
        self.complete = error is None
        self.error = error
        if self.body is not None:
            self.body.feed_end(error)


class RequestReader:
    """Reads the requests of one connection, one after another.

    `arrived`: requests whose head is complete, oldest first; the owner takes them out. `partial`: some of the next head
    is here. `ended`: no further request will be read. `switching`: the last request asks to switch protocols, and what
    comes of that decides what the octets in `early`, which followed it, are.
    """

    __slots__ = (
        "_body_size",
        "_chunks",
        "_current",
        "_fields",
        "_head_size",
        "_last_host",
        "_limits",
        "_muted",
        "_parser",
        "_raw_head",
        "_raw_size",
        "_reason",
        "_remaining",
        "_target",
        "_trailers",
        "arrived",
        "early",
        "ended",
        "partial",
        "switching",
    )

    def __init__(self, limits: ClientLimits) -> None:
        self._limits = limits
        self._last_host: bytes | None = None
        self._current: Incoming | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._muted = False
        self._remaining = -1
        self._reason: ProxyError | None = None
        self._raw_head = b""
        self._head_size = 0
        self._reset_body()
        self.arrived: list[Incoming] = []
        self.partial = False
        self.ended = False
        self.early = b""
        self.switching = False
        self._reset_head()

    @property
    def counting(self) -> bool:
        """Whether what comes is content that needs no parser."""
        return self._remaining >= 0

    @property
    def in_body(self) -> bool:
        """Whether a request's content is still to come."""
        return self._current is not None

    def feed(self, data: bytes) -> None:
        """Read on. Never raises: what is wrong arrives as an `Incoming` with an error, after what was right."""
        while data and not self.ended:
            data = self._count_down(data) if self._remaining >= 0 else self._parse(data)

    def resume(self) -> None:
        """The switch of protocols was refused: what followed is ordinary HTTP after all."""
        data, self.early = self.early, b""
        self.switching = self.ended = False
        self._renew()
        self.feed(data)

    def eof(self, error: ProxyError) -> None:
        """The client will send no more; a content that is not whole ends with `error`."""
        self.ended = True
        if self._current is not None:
            current, self._current = self._current, None
            current.finish(error)

    # Reading

    def _count_down(self, data: bytes) -> bytes:
        assert self._current is not None
        remaining = self._remaining
        if len(data) < remaining:
            self._remaining = remaining - len(data)
            self._current.feed(data)
            return b""
        self._current.feed(data[:remaining])
        self._remaining = -1
        self._renew()
        self._message_complete()
        return data[remaining:]

    def _parse(self, data: bytes) -> bytes:
        in_head = self._current is None
        if in_head:
            self.partial = True
            self._head_size += len(data)
            self._raw_head = self._raw_head + data if self._raw_head else data
        else:
            self._raw_size += len(data)
        rest = b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = self._upgraded(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._failed(error, data)
            return b""
        self._after_parse()
        return rest

    def _after_parse(self) -> None:
        current = self._current
        if current is None:
            if self.partial and self._head_size > self._limits.head_size:
                self._refuse(HeadTooLarge("the request head is too large"))
        elif current.length is not None:
            self._pass_by_parser(current.length)
        elif self._raw_size - self._body_size - CHUNK_LINE * (self._chunks + 2) > self._limits.head_size:
            self._refuse(BadRequest("the chunk extensions are too large"))

    def _pass_by_parser(self, length: int) -> None:
        self._remaining = length - self._body_size
        if self._remaining == 0:
            self._remaining = -1
            self._renew()
            self._message_complete()

    def _upgraded(self, rest: bytes) -> bytes:
        """llhttp takes any `Upgrade` for the end of HTTP; it is only when we will ask the upstream to switch."""
        request = self.arrived[-1] if self._current is None else self._current
        if request.upgrade:
            self.early = rest
            self.switching = self.ended = True
            return b""
        self._renew()
        if self._current is not None and self._current.length is None:
            self._prime_chunked()
        return rest

    def _prime_chunked(self) -> None:
        """Bring the new parser to where the content begins."""
        self._muted = True
        self._parser.feed_data(_CHUNKED_STATE)
        self._muted = False

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._reset_head()

    def _reset_head(self) -> None:
        self._target = b""
        self._fields: list[Field] = []

    def _failed(self, error: httptools.HttpParserError, data: bytes) -> None:
        if self.ended:
            return
        if self._reason is not None:
            self._refuse(self._reason)
        elif isinstance(error, httptools.HttpParserInvalidMethodError) and _TOKEN.match(self._raw_head):
            self._refuse(MethodUnknown("the request method is not known"))
        elif b"HTTP/2" in data and self._target == b"*":
            self._refuse(VersionUnsupported("HTTP/2 is not spoken here; use HTTP/1.1"))
        else:
            self._refuse(BadRequest(f"the request is malformed: {error}"))

    def _refuse(self, error: ProxyError) -> None:
        self.ended = True
        current, self._current = self._current, None
        if current is not None:
            current.finish(error)
        else:
            refused = Incoming(None)
            refused.error = error
            self.arrived.append(refused)

    def _reject(self, error: ProxyError) -> None:
        """From inside a parser callback: stop the parser."""
        self._reason = error
        raise error

    # What httptools calls

    def on_message_begin(self) -> None:
        """A request line begins."""
        if not self._muted:
            self.partial = True
            self._reset_head()

    def on_url(self, part: bytes) -> None:
        """The request target, perhaps in parts."""
        if self._muted:
            return
        self._target += part
        if len(self._target) > self._limits.target_size:
            self._reject(TargetTooLong("the request target is too long"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field line of the head or of the trailer section."""
        if self._muted:
            return
        if self._current is not None:
            self._trailer(name)
            return
        self._fields.append((name, value.rstrip(b" \t")))
        if len(self._fields) > self._limits.header_count:
            self._reject(HeadTooLarge("the request has too many header fields"))

    def on_headers_complete(self) -> None:
        """The head is there."""
        if self._muted:
            return
        self._check_size()
        parser = self._parser
        version = parser.get_http_version()
        minor = 1 if version == "1.1" else self._old_version(version)
        name = parser.get_method()
        method = METHODS.get(name) or name.decode("ascii")
        if method in NOT_PROXIED:
            self._reject(MethodUnknown(f"{method} is not done here"))
        headers = Headers(self._fields)
        target = self._checked_target(method, headers, minor)
        head = RequestHead(method, target.path, headers, target.authority, minor, target.absolute)
        self._begin(head, headers.index)

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._chunks += 1

    def on_body(self, piece: bytes) -> None:
        """Content."""
        current = self._current
        assert current is not None
        self._body_size += len(piece)
        limit = self._limits.body_size
        if limit is not None and self._body_size > limit:
            self._reject(BodyTooLarge(f"the request body exceeds {limit} bytes"))
        current.feed(piece)

    def on_message_complete(self) -> None:
        """The request is whole, unless llhttp stopped early for an Upgrade that will be ignored."""
        if self._current is not None and not self._content_to_come(self._current.length):
            self._message_complete()

    # Decisions

    def _content_to_come(self, length: int | None) -> bool:
        if length is None:
            return not self._chunks
        return self._body_size < length

    def _check_size(self) -> None:
        limit = self._limits.head_size
        if self._head_size > limit:
            size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._fields)
            if size > limit:
                self._reject(HeadTooLarge("the request head is too large"))
        raw = self._raw_head
        if (b" RTSP/" in raw or b" ICE/" in raw) and _OTHER_PROTOCOL.search(raw):
            self._reject(BadRequest("the request is not HTTP"))

    def _old_version(self, version: str) -> int:
        if version == "1.0":
            return 0
        if version == "0.9":
            self._reject(BadRequest("HTTP/0.9 is not spoken here"))
        self._reject(VersionUnsupported(f"HTTP/{version} is not spoken here; use HTTP/1.1"))
        raise AssertionError

    def _checked_target(self, method: str, headers: Headers, minor: int) -> Target:
        host = headers.index.get(b"host")
        if host is None:
            if minor == 1:
                self._reject(BadRequest("the Host field is missing"))
        elif host != self._last_host:
            if not host_is_valid(host):
                self._reject(BadRequest("the Host field is repeated or invalid"))
            self._last_host = host
        target = parse_target(method, self._target, host or b"")
        if target is None:
            self._reject(BadRequest("the request target is invalid"))
        assert target is not None
        return target

    def _begin(self, head: RequestHead, index: dict[bytes, bytes]) -> None:
        length: int | None = 0
        if b"transfer-encoding" in index:
            self._check_coding(index[b"transfer-encoding"], head.minor_version)
            length = None
        elif b"content-length" in index:
            length = self._check_length(index[b"content-length"])
        self._current = current = Incoming(head, length, keep_alive=self._persists(head, index))
        if b"expect" in index and head.minor_version:
            self._check_expectation(current, index[b"expect"])
        if b"upgrade" in index and length == 0:
            current.upgrade = self._wanted_upgrade(head, index)
        self.arrived.append(current)
        self.partial = False
        self._raw_head = b""
        self._head_size = 0
        self._reset_body()

    def _reset_body(self) -> None:
        self._body_size = self._raw_size = self._chunks = self._trailers = 0

    def _check_coding(self, coding: bytes, minor: int) -> None:
        if minor == 0:
            self._reject(BadRequest("Transfer-Encoding has no meaning in HTTP/1.0"))
        if coding.lower() == b"chunked":
            return
        if b"chunked" in list_members(coding)[:-1]:
            self._reject(BadRequest("chunked must be the last transfer coding, once"))
        self._reject(CodingUnknown("no transfer coding but chunked is understood"))

    def _check_length(self, value: bytes) -> int:
        if not value.isdigit() or len(value) > 18:
            self._reject(BadRequest("the Content-Length is invalid"))
        length = int(value)
        limit = self._limits.body_size
        if limit is not None and length > limit:
            self._reject(BodyTooLarge(f"the request body exceeds {limit} bytes"))
        return length

    def _persists(self, head: RequestHead, index: dict[bytes, bytes]) -> bool:
        options = index.get(b"connection")
        if options is None:
            return head.minor_version == 1
        members = list_members(options)
        return b"close" not in members and (head.minor_version == 1 or b"keep-alive" in members)

    def _check_expectation(self, current: Incoming, value: bytes) -> None:
        if value.lower() != b"100-continue":
            self._reject(ExpectationFailed("no expectation but 100-continue is understood"))
        current.expects_continue = current.length != 0

    def _wanted_upgrade(self, head: RequestHead, index: dict[bytes, bytes]) -> bytes:
        """What to ask the upstream to switch to. Never HTTP/2 in the clear: it would bypass every rule here."""
        value = index[b"upgrade"]
        if head.method != "GET" or head.minor_version == 0 or not self._parser.should_upgrade():
            return b""
        return b"" if any(member.startswith(b"h2c") for member in list_members(value)) else value

    def _trailer(self, name: bytes) -> None:
        """Trailer fields of requests are checked and dropped: nothing tells that the upstream takes them."""
        self._trailers += 1
        if self._trailers > MAX_TRAILERS:
            self._reject(HeadTooLarge("the request has too many trailer fields"))
        if name.lower() in FORBIDDEN_TRAILERS:
            self._reject(BadRequest(f"{name.decode('latin-1')} is not allowed as a trailer field"))

    def _message_complete(self) -> None:
        current, self._current = self._current, None
        assert current is not None
        current.finish()
        if not current.keep_alive:
            self.ended = True
