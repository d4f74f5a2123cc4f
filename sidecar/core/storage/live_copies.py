"""Unpacked copies of the answers that are in frequent use, bounded in bytes and in number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.storage.packing import live_size

if TYPE_CHECKING:
    from sidecar.core.cache.stored import StoredResponse

COPIES_LIMIT = 2048
"""Keys; the garbage collector visits some ten objects of each in a full pass."""
ONE_IN = 8


class Copy:
    """The unpacked variants of one key in `slots`, as they stand in purge generation `generation`."""

    __slots__ = ("generation", "responses", "size", "slots")

    def __init__(self, generation: int, slots: list[int], responses: tuple[StoredResponse, ...]) -> None:
        self.generation = generation
        self.slots = slots
        self.responses = responses
        self.size = sum(map(live_size, responses))


class LiveCopies:
    """Copies by key, at most `capacity` bytes of them.

    Once they are all taken, one newcomer in eight gets in, in place of the oldest: what is asked for often soon does,
    and a working set that is larger than this does not have every copy made in vain.
    """

    __slots__ = ("_capacity", "_copies", "_full", "_turned_away", "bytes", "get")

    def __init__(self, capacity: int) -> None:
        self.bytes = 0
        self._capacity = capacity
        self._copies: dict[bytes, Copy] = {}
        self.get = self._copies.get
        """The copy for a key, or None: the dict's own method, since every hit asks."""
        self._full = False
        self._turned_away = 0

    def admits(self) -> bool:
        """Whether a copy that is made now would be kept."""
        if not self._full:
            return True
        self._turned_away = (self._turned_away + 1) % ONE_IN
        return not self._turned_away

    def add(self, key: bytes, copy: Copy) -> None:
        """Keep `copy` in place of what `key` had, unless it is larger than all that may be kept."""
        self.drop(key)
        if copy.size > self._capacity:
            return
        while self.bytes + copy.size > self._capacity or len(self._copies) >= COPIES_LIMIT:
            self._full = True
            self.drop(next(iter(self._copies)))
        self._copies[key] = copy
        self.bytes += copy.size

    def drop(self, key: bytes) -> None:
        """Forget the copy for `key`, if there is one."""
        copy = self._copies.pop(key, None)
        if copy is not None:
            self.bytes -= copy.size
