"""Look-up tables for millions of entries that never stop the process for long.

A large dict takes tens of milliseconds when it grows, and a container that the garbage collector tracks costs as much
in each of its full passes. So these spread their entries over many dicts, and hold only bytes and numbers: CPython
does not track a dict of such.
"""

from __future__ import annotations

SHARDS = 256
SHELF_BITS = 11


class Shards:
    """A mapping of bytes to whole numbers, spread by hash over `shards`."""

    __slots__ = ("shards",)

    def __init__(self) -> None:
        self.shards: list[dict[bytes, int]] = [{} for _ in range(SHARDS)]

    def get(self, key: bytes) -> int | None:
        """The number of `key`, or None."""
        return self.shards[hash(key) % SHARDS].get(key)

    def set(self, key: bytes, number: int) -> None:
        """Make `number` that of `key`. The key object of the first call is kept."""
        self.shards[hash(key) % SHARDS][key] = number

    def remove(self, key: bytes) -> None:
        """Forget `key`, which is there."""
        del self.shards[hash(key) % SHARDS][key]


class Shelves:
    """Byte strings by small number, 2048 to a dict."""

    __slots__ = ("_shelves",)

    def __init__(self) -> None:
        self._shelves: list[dict[int, bytes]] = []

    def __getitem__(self, number: int) -> bytes:
        return self._shelves[number >> SHELF_BITS][number]

    def __setitem__(self, number: int, octets: bytes) -> None:
        place = number >> SHELF_BITS
        while place >= len(self._shelves):
            self._shelves.append({})
        self._shelves[place][number] = octets

    def take(self, number: int) -> bytes:
        """Take out what `number` has."""
        shelf = self._shelves[number >> SHELF_BITS]
        octets = shelf[number]
        # Not deleted: numbers come back, and a dict grows when deleted keys are set again.
        shelf[number] = b""
        return octets
