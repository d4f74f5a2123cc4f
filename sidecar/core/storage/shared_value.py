"""A stored answer as the value that sidecars share, which may come back damaged, foreign, or of another version.

Magic, version, and the CRC-32 of all that follows: the position of its writer in the fleet's purges, the writer's wall
clock, whether the payload is compressed, its length, and the payload: `stored.to_plain`, encoded. Its times are the
writer's; who reads it knows how long ago it was written, and so needs no clock that agrees with the writer's.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple, cast

from sidecar.core.cache.stored import from_plain, to_plain
from sidecar.core.storage.plain_codec import decode, encode

if TYPE_CHECKING:
    from sidecar.core.cache.stored import Plain, StoredResponse

MAGIC, VERSION = b"CSCV", 1
PREAMBLE = struct.Struct(">4sBI")
HEAD = struct.Struct(">Qd?I")
COMPRESSED_FROM = 4096
"""Octets of payload."""
LEVEL = 1
LARGEST = 4 * 1024 * 1024
"""Octets of payload that are written or read at most."""
LINE_BREAKS = frozenset(b"\r\n")


class SharedValue(NamedTuple):
    """What was read: the answer, and the position in the fleet's purges up to which its writer knew of no such."""

    stored: StoredResponse
    position: int


def write_value(stored: StoredResponse, position: int, now: float, wall: float) -> bytes:
    """The value. Raises ValueError for what no value can hold."""
    parts: list[bytes] = []
    encode(to_plain(stored, now, wall), parts)
    payload = b"".join(parts)
    size = len(payload)
    if size > LARGEST:
        raise ValueError(f"{size} octets, more than {LARGEST}")
    compressed = False
    if size >= COMPRESSED_FROM and b"content-encoding" not in stored.head.headers.index:
        smaller = zlib.compress(payload, LEVEL)
        if compressed := len(smaller) < size:
            payload = smaller
    content = HEAD.pack(position, wall, compressed, size) + payload
    return PREAMBLE.pack(MAGIC, VERSION, zlib.crc32(content)) + content


def read_value(octets: bytes, key: bytes, elapsed: float, now: float) -> SharedValue:
    """The answer to `key`, written `elapsed` seconds ago, in the times of this process. Raises ValueError when the
    value is damaged, of another version, or of another key.
    """
    try:
        magic, version, checksum = PREAMBLE.unpack_from(octets)
        if (magic, version) != (MAGIC, VERSION):
            raise ValueError("not a value of this version")
        content = octets[PREAMBLE.size :]
        if zlib.crc32(content) != checksum:
            raise ValueError("the checksum is wrong")
        position, written, compressed, size = HEAD.unpack_from(content)
        payload = content[HEAD.size :]
        if size > LARGEST:
            raise ValueError("too long")
        if compressed:
            payload = zlib.decompressobj().decompress(payload, size)
        if len(payload) != size:
            raise ValueError("the length is wrong")
        stored = from_plain(cast("Plain", decode(payload)), now, written + elapsed)
    except (struct.error, zlib.error, TypeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    _check(stored, key)
    return SharedValue(stored, position)


def _check(stored: StoredResponse, key: bytes) -> None:
    """Raise ValueError for an answer that is not one to `key`, or that would break the framing of a response."""
    head = stored.head
    if stored.key != key:
        raise ValueError("the answer to another key")
    if head.headers.get(b"content-length") not in {None, b"%d" % len(stored.body)}:
        raise ValueError("a body of another length")
    texts = (head.reason, *(text for field in head.headers for text in field))
    if not all(map(LINE_BREAKS.isdisjoint, texts)):
        raise ValueError("a line break in a field")
