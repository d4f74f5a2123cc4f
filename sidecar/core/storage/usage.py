"""What a store holds of each route and each tag, kept current with every entry."""

from __future__ import annotations

from sidecar.core.storage.tables import Shards

SIZE_CLASS_BITS = 7
NOBODY = 0
COUNT_BITS = 32
COUNT_MASK = (1 << COUNT_BITS) - 1
TAG_OVERHEAD = 112


class RouteUse:
    """One route's entries: how many, their bytes, and where the ring of them starts (`oldest`, or NOBODY).

    `retired` entries were purged all at once and wait to be reclaimed.
    """

    __slots__ = ("_classes", "bytes", "entries", "oldest", "retired", "route")

    def __init__(self, route: str) -> None:
        self.route = route
        self.entries = 0
        self.bytes = 0
        self.oldest = NOBODY
        self.retired = False
        self._classes: dict[int, int] = {}

    def add(self, size: int) -> None:
        """Count an entry of `size` bytes in."""
        self.entries += 1
        self.bytes += size
        size_class = rounded_up(size)
        self._classes[size_class] = self._classes.get(size_class, 0) + 1

    def remove(self, size: int) -> None:
        """Count an entry of `size` bytes out."""
        self.entries -= 1
        self.bytes -= size
        size_class = rounded_up(size)
        self._classes[size_class] -= 1
        if not self._classes[size_class]:
            del self._classes[size_class]

    @property
    def largest(self) -> int:
        """Bytes of the largest entry, at most 1/64 too many; 0 when there is none."""
        return max(self._classes, default=0)


def rounded_up(size: int) -> int:
    """`size` with all but its leading bits rounded up: few different values, so that their maximum is cheap."""
    shift = max(0, size.bit_length() - SIZE_CLASS_BITS)
    return -(-size >> shift) << shift


class TagCounts:
    """How many entries have each tag; `bytes` is what the counters themselves take.

    A counter starts anew when its tag is purged. What was put in an older generation is then no longer counted, so its
    removal, which may come much later, does not count either.
    """

    __slots__ = ("_counters", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self._counters = Shards()

    def add(self, tag: bytes, generation: int) -> None:
        """Count an entry with `tag`, put in `generation`, in."""
        counter = self._counters.get(tag)
        if counter is None:
            counter = generation << COUNT_BITS
            self.bytes += tag_size(tag)
        self._counters.set(tag, counter + 1)

    def remove(self, tag: bytes, generation: int) -> None:
        """Count an entry with `tag`, put or checked in `generation`, out."""
        counter = self._counters.get(tag)
        if counter is None or counter >> COUNT_BITS > generation:
            return
        if counter & COUNT_MASK == 1:
            self.take(tag)
        else:
            self._counters.set(tag, counter - 1)

    def take(self, tag: bytes) -> int:
        """How many entries have `tag`, none of which is counted any more."""
        counter = self._counters.get(tag)
        if counter is None:
            return 0
        self._counters.remove(tag)
        self.bytes -= tag_size(tag)
        return counter & COUNT_MASK


def tag_size(tag: bytes) -> int:
    """Bytes of memory that the counter of `tag` takes."""
    return TAG_OVERHEAD + len(tag)
