"""What is still to be written to the fleet's store: bounded, by key, and the latest word about each key only.

Answers that find no room are dropped, which costs a hit somewhere. Invalidations are not: where there are too many to
be remembered, everything in the fleet's store is purged in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.storage.shared_purges import EVERYTHING, FLEETS_STORE, write_rule

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sidecar.core.cache.stored import Selecting, StoredResponse
    from sidecar.core.storage.purging import PurgeRule

MOST_BYTES = 16 * 1024 * 1024
MOST_KEYS = 8192
MOST_RULES = 256
BATCH_KEYS = 64
BATCH_BYTES = 512 * 1024
OVERHEAD = 512


class Change:
    """What is to become of one key: all of it goes if `clear`, or some variants; then some come."""

    __slots__ = ("clear", "drops", "puts")

    def __init__(self) -> None:
        self.clear = False
        self.drops: dict[Selecting, None] = {}
        self.puts: dict[Selecting, StoredResponse] = {}

    @property
    def bytes(self) -> int:
        """Octets of its answers, about."""
        return sum(size_of(stored) for stored in self.puts.values())

    def before(self, later: Change) -> None:
        """Make `later` say what both do, this one first."""
        if later.clear:
            return
        kept = {selecting: stored for selecting, stored in self.puts.items() if selecting not in later.drops}
        later.clear = self.clear
        later.drops = {**self.drops, **later.drops}
        later.puts = {**kept, **later.puts}


class WriteBehind:
    """The queue. What was taken out of it is `sent` until `done`, or until `failed` puts it back."""

    def __init__(self) -> None:
        self.rules: dict[bytes, None] = {}
        self.dropped = 0
        self.bytes = 0
        self._waiting: dict[bytes, Change] = {}
        self._sent: dict[bytes, Change] = {}
        self._sent_rules: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent) + len(self.rules) + len(self._sent_rules)

    @property
    def telling(self) -> bool:
        """Whether there is a purge that the fleet's store has not been told of."""
        return bool(self.rules or self._sent_rules)

    def __contains__(self, key: bytes) -> bool:
        """Whether the fleet's store has not yet been told all about `key`."""
        return key in self._waiting or key in self._sent

    def put(self, stored: StoredResponse) -> None:
        """Write it."""
        size = size_of(stored)
        if self.bytes + size > MOST_BYTES:
            self.dropped += 1
            # What it would replace there is not to come back.
            self.invalidate(stored.key, [stored.selecting], needed=False)
            return
        change = self._change(stored.key)
        if change is None:
            self.dropped += 1
            return
        self._take_out(change, stored.selecting)
        change.puts[stored.selecting] = stored
        self.bytes += size

    def invalidate(self, key: bytes, variants: Collection[Selecting] | None, *, needed: bool = True) -> None:
        """Let every variant of `key`, or these, go; `needed`: it must not be forgotten."""
        change = self._change(key)
        if change is None:
            if needed:
                self._told_all(FLEETS_STORE)
            return
        for selecting in tuple(change.puts) if variants is None else variants:
            self._take_out(change, selecting)
        if variants is None:
            change.clear = True
            change.drops.clear()
        else:
            change.drops |= dict.fromkeys(variants)

    def purge(self, rule: PurgeRule) -> None:
        """Tell everybody of a purge."""
        self.scrub(rule)
        self.rules[write_rule(rule)] = None
        if len(self.rules) > MOST_RULES:
            self._told_all(write_rule(EVERYTHING))

    def scrub(self, rule: PurgeRule) -> None:
        """Write nothing that `rule` covers."""
        for change in self._changes():
            for stored in tuple(change.puts.values()):
                if rule.covers(stored.route, stored.url, stored.tags):
                    self._take_out(change, stored.selecting)

    def scrub_key(self, key: bytes) -> None:
        """Write nothing of `key` that is here now."""
        for changes in (self._waiting, self._sent):
            if (change := changes.get(key)) is not None:
                for selecting in tuple(change.puts):
                    self._take_out(change, selecting)

    def take_rules(self) -> list[bytes]:
        """The purges to be told now. They go before all else: an answer that came after them is not covered."""
        self._sent_rules, self.rules = self.rules, {}
        return list(self._sent_rules)

    def take(self) -> dict[bytes, Change]:
        """The next keys to be told of."""
        size = 0
        while self._waiting and len(self._sent) < BATCH_KEYS and size < BATCH_BYTES:
            key = next(iter(self._waiting))
            change = self._sent[key] = self._waiting.pop(key)
            size += change.bytes
        return self._sent

    def done(self) -> None:
        """What was sent has arrived."""
        self.bytes -= sum(change.bytes for change in self._sent.values())
        self._sent = {}
        self._sent_rules = {}

    def failed(self, *, give_up: bool = False) -> None:
        """Nobody knows whether what was sent has arrived: it is to be sent again, unless there is something newer. To
        `give_up` is to send no answers again, lest one that cannot be sent keeps all others from it.
        """
        sent, self._sent = self._sent, {}
        for key, change in sent.items():
            if give_up:
                self.dropped += len(change.puts)
                change.drops |= dict.fromkeys(change.puts)
                change.puts.clear()
            if (later := self._waiting.get(key)) is not None:
                change.before(later)
            else:
                self._waiting[key] = change
        self.rules = {**self._sent_rules, **self.rules}
        self._sent_rules = {}
        self.bytes = sum(change.bytes for change in self._waiting.values())

    def _changes(self) -> Iterator[Change]:
        yield from self._waiting.values()
        yield from self._sent.values()

    def _change(self, key: bytes) -> Change | None:
        """What waits for `key`; None when there is no room for another."""
        change = self._waiting.get(key)
        if change is None and len(self._waiting) < MOST_KEYS:
            change = self._waiting[key] = Change()
        return change

    def _take_out(self, change: Change, selecting: Selecting) -> None:
        stored = change.puts.pop(selecting, None)
        if stored is not None:
            self.bytes -= size_of(stored)

    def _told_all(self, rule: bytes) -> None:
        """One purge of everything says all that waits but the answers, and those are not worth more."""
        self.dropped += sum(len(change.puts) for change in self._waiting.values())
        self.bytes -= sum(change.bytes for change in self._waiting.values())
        self._waiting.clear()
        if rule != FLEETS_STORE:
            self.rules.clear()
        self.rules[rule] = None


def size_of(stored: StoredResponse) -> int:
    """Octets that it takes here, about."""
    return OVERHEAD + len(stored.body) + len(stored.prepared) + len(stored.key)
