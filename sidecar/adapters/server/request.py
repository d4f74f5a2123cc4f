"""Octets from a client connection → requests (RFC 9112 §2–7), refusing whatever could be read in two ways.

llhttp does the grammar of heads but for the method, which `core.methods` judges; `core.chunked` that of chunks;
`head.py` what is let through and a proxy must not. The reader knows no connection and no clock: after each `feed` its
owner takes what `arrived`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from sidecar.adapters.server.arriving import ArrivingRequest, UnreadableRequest, first_line
from sidecar.adapters.server.head import (
    METHODS,
    content_length,
    expects_continue,
    make_head,
    wanted_upgrade,
)
from sidecar.adapters.server.limits import exceeded_limit
from sidecar.core.http.chunked import ChunkedDecoder, sole_chunk
from sidecar.core.http.forwarding import FORBIDDEN_TRAILERS
from sidecar.core.http.framing import END_OF_HEAD, FRAMING_FIELDS, MAX_TRAILERS, persists
from sidecar.core.http.heads import FieldLines, Headers
from sidecar.core.http.methods import MethodFlaw, find_method, with_method_of_parser
from sidecar.pipeline.errors import (
    BadRequest,
    BodyTooLarge,
    HeadTooLarge,
    MethodUnknown,
    ProxyError,
)

if TYPE_CHECKING:
    from sidecar.core.config import ClientLimits
    from sidecar.core.http.heads import Field

CR = 0x0D
MALFORMED = "the request is malformed"
UNUSUAL_FIELDS = FRAMING_FIELDS | {b"expect", b"upgrade"}
"""Fields without which a request is nothing but its head, and another may follow."""


class RequestReader:
    """Reads the requests of one connection, one after another.

    `arrived`: requests whose head is complete, oldest first; the owner takes them out. `partial`: some of the next head
    is here. `ended`: no further request will be read. `switching`: the last request asks to switch protocols, and what
    comes of that decides what the octets in `early`, which followed it, are.
    """

    __slots__ = (
        "_body_size", "_chunked", "_current", "_limits", "_lines", "_method", "_parser", "_raw", "_remaining",
        "arrived", "early", "ended", "partial", "switching",
    )  # fmt: skip

    def __init__(self, limits: ClientLimits) -> None:
        self._limits = limits
        self._current: ArrivingRequest | None = None
        self._lines = FieldLines()
        self._parser = httptools.HttpRequestParser(self._lines)
        self._remaining = -1
        self._raw = b""
        """The octets of this head so far."""
        self._method = b""
        """Its method, once that is here; before, llhttp has seen nothing of the head."""
        self._chunked: ChunkedDecoder | None = None
        """Reads the content that has begun to come in chunks."""
        self._body_size = 0
        self.arrived: list[ArrivingRequest] = []
        self.partial = False
        self.ended = False
        self.early = b""
        self.switching = False

    @property
    def counting(self) -> bool:
        """Whether what comes is content that needs no parser."""
        return self._remaining >= 0

    @property
    def first_line(self) -> tuple[str, bytes]:
        """Method and target of the head that is being read, as far as they can be told; only for the log."""
        return first_line(self._raw)

    def feed(self, data: bytes) -> None:
        """Read on. Never raises: what is wrong arrives as an `ArrivingRequest` with an error, after what was right."""
        while data and not self.ended:
            if self._current is None:
                data = self._read_head(data)
            elif self._remaining >= 0:
                data = self._count_down(data)
            else:
                data = self._read_chunks(data)
        if self.switching:
            self.early += data

    def resume(self) -> None:
        """The switch of protocols was refused: what followed is ordinary HTTP after all."""
        data, self.early = self.early, b""
        self.switching = self.ended = False
        self.feed(data)

    def eof(self, error: ProxyError) -> None:
        """The client will send no more; a content that is not whole ends with `error`."""
        self.ended = True
        if self._current is not None:
            current, self._current = self._current, None
            current.finish(error)

    # Reading

    def _read_head(self, data: bytes) -> bytes:
        """Give llhttp no more than this head, so that it is known where each message begins and ends."""
        before = len(self._raw)
        raw = self._raw + data if before else data
        searched = before - 3 if before > 3 else 0
        if raw[0] == CR:
            # Empty lines before the request line (RFC 9112 §2.2) end no head.
            searched = max(searched, len(raw) - len(raw.lstrip(b"\r\n")))
        end = raw.find(END_OF_HEAD, searched)
        size = len(raw) if end < 0 else end + 4
        if size > self._limits.head_size:
            end, size = -1, self._limits.head_size
        self._raw = head = raw[:size]
        self.partial = True
        space = head.find(b" ")
        if self._method:
            part = raw[before:size]
        elif space > 0 and head[:space] in METHODS:
            self._method, part = head[:space], head
        else:
            part = self._begin_line(head)
        if not part:
            self._check_partial(head, whole=size == len(raw))
            return b""
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserUpgrade:
            # llhttp takes any Upgrade for the end of HTTP; it is only when we will ask the upstream to switch.
            self._parser = httptools.HttpRequestParser(self._lines)
        except httptools.HttpParserError as error:
            self._refuse(exceeded_limit(self._shown_head(), self._limits) or BadRequest(f"{MALFORMED}: {error}"))
            return b""
        if end >= 0:
            return self._begin_request(head, raw[size:])
        self._check_partial(head, whole=size == len(raw))
        return b""

    def _check_partial(self, head: bytes, *, whole: bool) -> None:
        """Refuse a head whose end has not come when it is too large already. `whole`: it is all that has come."""
        limits = self._limits
        if self.ended or (whole and len(head) <= limits.target_size and head.count(b"\r\n") <= limits.header_count):
            return
        exceeded = exceeded_limit(self._shown_head(), limits) if self._method else None
        if exceeded or not whole:
            self._refuse(exceeded or HeadTooLarge("the request head is too large"))

    def _begin_line(self, raw: bytes) -> bytes:
        """What to show llhttp of a head that begins with `raw`: nothing while its method is not there."""
        found = find_method(raw)
        if isinstance(found, MethodFlaw):
            self._refuse(BadRequest(found.value) if found is MethodFlaw.MALFORMED else MethodUnknown(found.value))
        elif found is not None:
            self._method, end = found
            return raw if self._method in METHODS else with_method_of_parser(raw, end)
        return b""

    def _begin_request(self, raw: bytes, rest: bytes) -> bytes:
        """The head `raw` is there; `rest` is what follows it."""
        method, self._raw, self._method = self._method, b"", b""
        self.partial = False
        lines = self._lines
        headers = Headers(lines.fields, lines.index)
        lines.fields, lines.index = [], {}
        try:
            head = make_head(method, raw, headers, self._limits)
            index = head.headers.index
            if UNUSUAL_FIELDS.isdisjoint(index):
                # There is nothing to it but its head: it is whole.
                persistent = head.minor_version == 1
                self.arrived.append(ArrivingRequest(head, 0, keep_alive=persistent, complete=True))
                self.ended = not persistent
                return rest
            length = content_length(head, self._limits.body_size)
            current = ArrivingRequest(head, length, keep_alive=persists(index, head.minor_version))
            current.expects_continue = expects_continue(head, length)
        except ProxyError as error:
            self.ended = True
            self.arrived.append(UnreadableRequest(error, first_line(raw)))
            return b""
        self.arrived.append(current)
        self._current = current
        self._body_size = 0
        if b"upgrade" in index:
            current.upgrade = wanted_upgrade(head, length)
            if current.upgrade:
                self.early = self._end_message(current, rest)
                self.switching = self.ended = True
                return b""
        return self._begin_content(current, rest) if length != 0 else self._end_message(current, rest)

    def _begin_content(self, current: ArrivingRequest, rest: bytes) -> bytes:
        """Content is counted, and not shown to llhttp, which therefore begins anew behind it."""
        self._parser = httptools.HttpRequestParser(self._lines)
        length = current.length
        if length is None:
            return rest
        if len(rest) < length:
            self._remaining = length
            return rest
        current.pieces.append(rest[:length])
        return self._end_message(current, rest[length:])

    def _count_down(self, data: bytes) -> bytes:
        assert self._current is not None
        remaining = self._remaining
        if len(data) < remaining:
            self._remaining = remaining - len(data)
            self._current.feed(data)
            return b""
        self._current.feed(data[:remaining])
        self._remaining = -1
        return self._end_message(self._current, data[remaining:])

    def _read_chunks(self, data: bytes) -> bytes:
        decoder = self._chunked
        if decoder is None:
            content = sole_chunk(data)
            if content is not None:
                self._take_content(content)
                return self._end_chunks(b"")
            decoder = self._chunked = ChunkedDecoder(self._limits.head_size)
        content = decoder.feed(data)
        if content:
            self._take_content(content)
        if decoder.fault and not self.ended:
            self._refuse(BadRequest(f"the request body is malformed: {decoder.fault}"))
        if not decoder.complete or self.ended:
            return b""
        error = checked_trailers(decoder.trailers)
        if error is not None:
            self._refuse(error)
            return b""
        return self._end_chunks(decoder.rest)

    def _take_content(self, content: bytes) -> None:
        self._body_size += len(content)
        limit = self._limits.body_size
        if limit is not None and self._body_size > limit:
            self._refuse(BodyTooLarge(f"the request body exceeds {limit} bytes"))
        elif self._current is not None:
            self._current.feed(content)

    def _end_chunks(self, rest: bytes) -> bytes:
        current = self._current
        if current is None:
            return b""
        self._chunked = None
        return self._end_message(current, rest)

    def _end_message(self, current: ArrivingRequest, rest: bytes) -> bytes:
        """The request is whole; `rest` is what follows it."""
        self._current = None
        current.complete = True
        if current.body is not None:
            current.body.feed_end()
        if not current.keep_alive:
            self.ended = True
        return rest

    def _shown_head(self) -> bytes:
        """The octets of this head so far, as llhttp is shown them."""
        found = find_method(self._raw)
        assert isinstance(found, tuple)
        return self._raw if found[0] in METHODS else with_method_of_parser(self._raw, found[1])

    def _refuse(self, error: ProxyError) -> None:
        self.ended = True
        current, self._current = self._current, None
        if current is not None:
            current.finish(error)
        else:
            self.arrived.append(UnreadableRequest(error, self.first_line))


def checked_trailers(trailers: list[Field]) -> ProxyError | None:
    """What is wrong with a request's trailer fields. They are dropped: nothing tells that the upstream takes them."""
    if len(trailers) > MAX_TRAILERS:
        return HeadTooLarge("the request has too many trailer fields")
    for name, _ in trailers:
        if name.lower() in FORBIDDEN_TRAILERS:
            return BadRequest(f"{name.decode('latin-1')} is not allowed as a trailer field")
    return None
