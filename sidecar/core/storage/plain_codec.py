"""Plain values (`stored.Plain`) as bytes that may come back from anywhere: lengths are checked, nothing is executed.

One letter for the type, then: a signed 64-bit integer, a double, or a 32-bit length with so many bytes or members.
All numbers big-endian.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.core.cache.stored import Plain

    Member = str | bytes | int | float | Plain | None

DEPTH_LIMIT = 4
LETTER = struct.Struct(">c")
WHOLE = struct.Struct(">cq")
REAL = struct.Struct(">cd")
LENGTH = struct.Struct(">cI")


def encode(value: Member, into: list[bytes]) -> None:
    """Append the bytes of `value` to `into`. Raises ValueError for what does not fit: huge numbers, not-a-number."""
    try:
        if value is None:
            into.append(b"n")
        elif isinstance(value, bytes):
            into += (LENGTH.pack(b"b", len(value)), value)
        elif isinstance(value, str):
            text = value.encode()
            into += (LENGTH.pack(b"s", len(text)), text)
        elif isinstance(value, float):
            into.append(REAL.pack(b"f", _finite(value)))
        elif isinstance(value, int):
            into.append(WHOLE.pack(b"i", value))
        else:
            into.append(LENGTH.pack(b"t", len(value)))
            for member in value:
                encode(member, into)
    except struct.error as error:
        raise ValueError(str(error)) from error


def decode(octets: bytes, start: int = 0) -> Member:
    """The value at `start`, which ends where `octets` end. Raises ValueError when they are nothing of the kind."""
    try:
        value, end = _value(octets, start, DEPTH_LIMIT)
    except struct.error as error:
        raise ValueError(str(error)) from error
    if end != len(octets):
        raise ValueError("bytes after the value")
    return value


def _value(octets: bytes, at: int, depth: int) -> tuple[Member, int]:
    letter = octets[at : at + 1]
    if letter == b"n":
        return None, at + LETTER.size
    if letter == b"i":
        return WHOLE.unpack_from(octets, at)[1], at + WHOLE.size
    if letter == b"f":
        return _finite(REAL.unpack_from(octets, at)[1]), at + REAL.size
    length: int = LENGTH.unpack_from(octets, at)[1]
    at += LENGTH.size
    if length > len(octets) - at:
        raise ValueError("a length beyond the end")
    if letter == b"t":
        return _members(octets, at, length, depth)
    return _content(letter, octets[at : at + length]), at + length


def _content(letter: bytes, content: bytes) -> str | bytes:
    if letter == b"b":
        return content
    if letter == b"s":
        return content.decode()
    raise ValueError("an unknown type")


def _members(octets: bytes, at: int, count: int, depth: int) -> tuple[Plain, int]:
    if not depth:
        raise ValueError("nested too deeply")
    members = []
    for _ in range(count):
        member, at = _value(octets, at, depth - 1)
        members.append(member)
    return tuple(members), at


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
