"""The chunked transfer coding, decoded (RFC 9112 §7.1): octets in, content out, and a verdict.

It serves requests and responses alike and knows neither. llhttp could do this but refuses the white space that
RFC 9112 §7.1.1 permits around the `;` and `=` of chunk extensions. The grammar is taken literally: CRLF and nothing
else ends a line, a size is one to sixteen hexadecimal digits. One thing beyond it is taken where the owner says so:
spaces after a size that has no extensions, with which some servers pad the line that they had reserved for it.

Where the octets were cut changes nothing: what can be no chunked content is refused at the same place whether it comes
at once or octet by octet.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.core.http.heads import Field

SIZE_DIGITS = 16
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"[\t !#-\[\]-~\x80-\xff]*+(?:\\[\t -~\x80-\xff][\t !#-\[\]-~\x80-\xff]*+)*"'
_SIZE = rb"([0-9A-Fa-f]{1,16})"
_EXTENSION = rb"[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_LINE = re.compile(rb"%b(?:%b)*" % (_SIZE, _EXTENSION))
_LINE_OR_PADDED = re.compile(rb"%b(?: *|(?:%b)+)" % (_SIZE, _EXTENSION))
_PLAIN_LINE = re.compile(_SIZE + rb"\r\n").match
_LINE_BEGUN = re.compile(rb"[0-9A-Fa-f]{1,16}(?:[ \t;]|\r?\Z)").match
_NAME = re.compile(_TOKEN).fullmatch
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


# What comes next. Plain numbers: members of an Enum cost a look-up each, here several per chunk.
_SIZE_LINE, _DATA, _DATA_END, _TRAILERS = range(4)
_SOLE_END = b"\r\n0\r\n\r\n"
_TOO_LARGE = "the chunk extensions or trailers are too large"


def sole_chunk(data: bytes) -> bytes | None:
    """The content, when `data` is one chunk and the last one without anything unusual, as most short messages are."""
    line = _PLAIN_LINE(data)
    if line is None or not data.endswith(_SOLE_END):
        return None
    begin, end = line.end(), len(data) - len(_SOLE_END)
    return data[begin:end] if begin + int(line[1], 16) == end else None


def plain_chunks(data: bytes, pieces: list[bytes]) -> int:
    """Take the whole chunks without anything unusual that `data` begins with, as most messages consist of.

    Where they end, and with them what is known of the content; -1 when the last chunk is behind them and nothing else.
    A `ChunkedDecoder` reads on from there, with the same result as if it had read all.
    """
    at = 0
    while (line := _PLAIN_LINE(data, at)) is not None:
        begin = line.end()
        end = begin + int(line[1], 16)
        if not data.startswith(b"\r\n", end):
            return at
        if begin == end:
            return -1 if end + 2 == len(data) else at
        pieces.append(data[begin:end])
        at = end + 2
    return at


class ChunkedDecoder:
    """Decodes one message's content.

    After each `feed`: `fault` says what is wrong ("" while nothing is), `complete` whether the content is whole; then
    `rest` are the octets behind it and `trailers` the trailer fields as received. Nothing is to be fed after either.
    """

    __slots__ = ("_budget", "_held", "_line", "_remaining", "_state", "complete", "fault", "rest", "trailers")

    def __init__(self, budget: int, *, padded: bool = False) -> None:
        """`budget`: octets that chunk extensions and trailers may have in all. `padded`: see the module."""
        self._budget = budget
        self._line = _LINE_OR_PADDED if padded else _LINE
        self._state = _SIZE_LINE
        self._held = b""
        """What has come of a line that has not ended."""
        self._remaining = 0
        """Octets of data to come, in the state `_DATA`."""
        self.complete = False
        self.fault = ""
        self.rest = b""
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> bytes:
        """The content in `data`; what comes before a fault is content."""
        pieces: list[bytes] = []
        self.feed_into(data, pieces)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def feed_into(self, data: bytes, pieces: list[bytes]) -> None:
        """Append the content in `data` to `pieces`, piece by piece: joining large ones costs more than decoding."""
        remaining, at = self._remaining, 0
        if remaining > len(data):
            self._remaining -= len(data)
            if data:
                pieces.append(data)
            return
        if remaining and data.startswith(b"\r\n", remaining):
            pieces.append(data[:remaining])
            at = remaining + 2
            self._remaining = 0
            self._state = _SIZE_LINE
        known = len(self._held)
        if known:
            data, self._held = self._held + data, b""
        size = len(data)
        while at < size:
            state = self._state
            if state == _SIZE_LINE:
                at = self._read_chunks(data, at, known, pieces)
            elif state == _DATA:
                at = self._read_data(data, at, pieces)
            elif state == _DATA_END:
                at = self._read_data_end(data, at)
            else:
                at = self._read_trailer(data, at, known)
            if self.fault or self.complete:
                break

    def _read_chunks(self, data: bytes, at: int, known: int, pieces: list[bytes]) -> int:
        """Lines without extensions and their data, as almost all are, one after another; then the line that differs."""
        while (line := _PLAIN_LINE(data, at)) is not None:
            begin = line.end()
            size = int(line[1], 16)
            end = begin + size
            if not size:
                self._state = _TRAILERS
                return self._read_trailer(data, begin, 0) if begin < len(data) else begin
            if not data.startswith(b"\r\n", end):
                self._state = _DATA
                self._remaining = size
                return self._read_data(data, begin, pieces)
            pieces.append(data[begin:end])
            at = end + 2
        return self._read_size(data, at, known) if at < len(data) else at

    def _read_size(self, data: bytes, at: int, known: int) -> int:
        end = data.find(b"\r\n", max(at, known - 1))
        if end < 0:
            return self._hold(data, at, known)
        line = self._line.fullmatch(data, at, end)
        if line is None:
            self.fault = "a chunk's size or extensions are malformed"
        elif self._spend(end - line.end(1)):
            self._remaining = int(line[1], 16)
            self._state = _DATA if self._remaining else _TRAILERS
        return end + 2

    def _read_data(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        piece = data[at : at + self._remaining]
        if piece:
            pieces.append(piece)
        self._remaining -= len(piece)
        if not self._remaining:
            self._state = _DATA_END
        return at + len(piece)

    def _read_data_end(self, data: bytes, at: int) -> int:
        found = data[at : at + 2]
        if found == b"\r\n":
            self._state = _SIZE_LINE
        elif found == b"\r":
            self._held = found
        else:
            self.fault = "a chunk's data does not end with its size"
        return at + 2

    def _read_trailer(self, data: bytes, at: int, known: int) -> int:
        if data.startswith(b"\r\n", at):
            self.complete = True
            self.rest = data[at + 2 :]
            return at + 2
        end = data.find(b"\r\n", max(at, known - 1))
        if end < 0:
            return self._hold(data, at, known)
        name, colon, value = data[at:end].partition(b":")
        if not colon or _NAME(name) is None or _CONTROL(value) is not None:
            self.fault = "a trailer field is malformed"
        elif self._spend(end + 2 - at):
            self.trailers.append((name, value.strip(b" \t")))
        return end + 2

    def _hold(self, data: bytes, at: int, known: int) -> int:
        """Keep the beginning of a line, unless none can begin so. What is `known` of it has been looked at."""
        held = data[at:]
        ended = len(held) - held.endswith(b"\r")
        is_size = self._state == _SIZE_LINE
        if is_size and _LINE_BEGUN(held[: SIZE_DIGITS + 1]) is None:
            self.fault = "a chunk's size is malformed"
        elif _CONTROL(held, max(0, known - 1 - at), ended) is not None:
            self.fault = "a line of the chunked content holds a control character"
        elif ended - is_size * SIZE_DIGITS > self._budget:
            self.fault = _TOO_LARGE
        self._held = held
        return len(data)

    def _spend(self, octets: int) -> bool:
        self._budget -= octets
        if self._budget < 0:
            self.fault = _TOO_LARGE
        return self._budget >= 0
