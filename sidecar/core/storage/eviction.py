"""Which stored answer goes when there is no room: S3-FIFO (Yang et al., SOSP 2023), over numbered slots.

What is new enters a small queue, a tenth of the bytes; only what is used again there moves on to the main queue, so a
scan passes through without touching the hot set. What left the small queue unused is remembered by fingerprint for a
while, and goes straight to the main queue when it returns. Knows sizes and uses, not what is stored.
"""

from __future__ import annotations

from array import array

from sidecar.core.storage.links import Links

SMALL, MAIN = 0, 1
"""The heads of the two queues; slots are numbered after them."""
FIRST_SLOT = 2
SMALL_SHARE = 10
MAX_USES = 3
IN_MAIN = 4
PROMOTION_USES = 2
CHANCES = 1024
"""How many slots one round may spare because they were used: bounds its time whatever the load."""

FINGERPRINT = 0xFFFF_FFFF
BY_VALUE = (range(IN_MAIN + 1, IN_MAIN + MAX_USES + 1), range(IN_MAIN, IN_MAIN + 1), range(1, IN_MAIN), range(1))
"""The weights of slots in classes, the most valuable first."""


class Ghosts:
    """Fingerprints of the last slots that left the small queue: a direct-mapped table, 8 bytes each."""

    __slots__ = ("_clock", "_table")

    def __init__(self, capacity: int = 1024) -> None:
        self._table = array("Q", bytes(8 * capacity))
        self._clock = 0

    def add(self, fingerprint: int, window: int) -> None:
        """Remember `fingerprint` until about `window` others came after it."""
        if window > len(self._table):
            # Both halves then find what the old table held, so nothing has to be placed anew.
            self._table *= 2
        self._clock = (self._clock + 1) & FINGERPRINT
        self._table[fingerprint % len(self._table)] = self._clock << 32 | fingerprint

    def take(self, fingerprint: int, window: int) -> bool:
        """Whether `fingerprint` is among the last `window`; it is forgotten then."""
        place = fingerprint % len(self._table)
        ghost = self._table[place]
        if ghost & FINGERPRINT != fingerprint or not ghost:
            return False
        self._table[place] = 0
        return (self._clock - (ghost >> 32)) & FINGERPRINT < window


class EvictionQueues:
    """The slots in use, their sizes in bytes, and the order in which they go.

    `weights` holds 0–3 uses, plus IN_MAIN for a slot of the main queue: the more, the more valuable. Slot numbers are
    dense and used again.
    """

    __slots__ = (
        "_fingerprints",
        "_free",
        "_ghosts",
        "_links",
        "_main_bytes",
        "_small_target",
        "bytes",
        "sizes",
        "weights",
    )

    def __init__(self, capacity: int) -> None:
        self.bytes = 0
        self.sizes = array("Q", (0, 0))
        self.weights = bytearray(2)
        self._fingerprints = array("I", (0, 0))
        self._free = array("I")
        self._links = Links(2)
        self._ghosts = Ghosts()
        self._main_bytes = 0
        self._small_target = capacity // SMALL_SHARE

    def __len__(self) -> int:
        return len(self.sizes) - FIRST_SLOT - len(self._free)

    @property
    def end(self) -> int:
        """One more than the highest slot that was ever in use."""
        return len(self.sizes)

    def add(self, size: int, fingerprint: int, weight: int = 0) -> int:
        """Take a slot for `size` bytes with the low 32 bits of a hash; `weight` is what a former life had."""
        fingerprint &= FINGERPRINT
        if self._ghosts.take(fingerprint, len(self)):
            weight |= IN_MAIN
        slot = self._number()
        self.sizes[slot] = size
        self.weights[slot] = weight
        self._fingerprints[slot] = fingerprint
        self.bytes += size
        if weight & IN_MAIN:
            self._main_bytes += size
        self._links.insert_before(MAIN if weight & IN_MAIN else SMALL, slot)
        return slot

    def _number(self) -> int:
        if self._free:
            return self._free.pop()
        self.sizes.append(0)
        self.weights.append(0)
        self._fingerprints.append(0)
        return len(self.sizes) - 1

    def use(self, slot: int) -> None:
        """Count one use of `slot`."""
        if self.weights[slot] & MAX_USES != MAX_USES:
            self.weights[slot] += 1

    def resize(self, slot: int, size: int) -> None:
        """Change the bytes of `slot`; its place stays."""
        change = size - self.sizes[slot]
        self.sizes[slot] = size
        self.bytes += change
        if self.weights[slot] & IN_MAIN:
            self._main_bytes += change

    def remove(self, slot: int) -> None:
        """Give `slot` back; its size can be read until it is taken again."""
        self._links.unlink(slot)
        size = self.sizes[slot]
        self.bytes -= size
        if self.weights[slot] & IN_MAIN:
            self._main_bytes -= size
        self.weights[slot] = 0
        self._free.append(slot)

    def evict(self, needed: int, limit: int) -> list[int]:
        """Give back the least valuable slots, up to `limit` of them, until `needed` bytes are free; which they were."""
        chances = CHANCES
        target = max(0, self.bytes - needed)
        victims: list[int] = []
        while self.bytes > target and len(victims) < limit:
            slot = self._hand()
            while chances and self._spare(slot):
                chances -= 1
                slot = self._hand()
            if not self.weights[slot] & IN_MAIN:
                self._ghosts.add(self._fingerprints[slot], len(self))
            self.remove(slot)
            victims.append(slot)
        return victims

    def _hand(self) -> int:
        """The oldest slot of the queue that has to give: the small one when it has its share, or all there is."""
        small = self.bytes - self._main_bytes
        queue = SMALL if small > self._small_target or not self._main_bytes else MAIN
        return self._links.after[queue]

    def _spare(self, slot: int) -> bool:
        """Whether `slot` was used enough to stay; it then stands at the end of the main queue with fewer uses."""
        weight = self.weights[slot]
        if weight & IN_MAIN:
            if weight == IN_MAIN:
                return False
            self.weights[slot] = weight - 1
        elif weight < PROMOTION_USES:
            return False
        else:
            self.weights[slot] = IN_MAIN
            self._main_bytes += self.sizes[slot]
        self._links.unlink(slot)
        self._links.insert_before(MAIN, slot)
        return True
