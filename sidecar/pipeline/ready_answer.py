"""Answers from memory that stay the same for a while, so that who asks for one again gets it again as it is.

Within a second neither Age nor ttl of a stored answer counts on: to the same head the same octets go out, unless the
store or the circuit says otherwise. That takes a look at both, and nothing else.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.core.stored import StoredResponse
    from sidecar.pipeline.cached_route import CircuitView
    from sidecar.pipeline.exchange import Source
    from sidecar.pipeline.ports import CacheStore
    from sidecar.pipeline.record import RepeatedLine
    from sidecar.pipeline.stats import Tally


class Grounds:
    """What a recalled answer rests on: that `store` holds exactly `variants` of its key, the time, and the refusal of
    `circuit` if it stands in for that. None of it holds from `until` on, monotonic seconds.
    """

    __slots__ = ("_changes", "_circuit", "_store", "_variants", "until")

    def __init__(
        self,
        store: CacheStore,
        variants: Sequence[StoredResponse],
        circuit: CircuitView | None = None,
        until: float = inf,
    ) -> None:
        self._store = store
        self._changes = store.changes
        self._variants = variants
        self._circuit = circuit
        self.until = until

    def hold(self, now: float) -> bool:
        """Whether a look at `now` would find the same; a refusal that it stands in for counts."""
        if now >= self.until or (self._changes != self._store.changes and self._replaced()):
            return False
        return self._circuit is None or self._circuit.refuses(now, safe=True)

    def _replaced(self) -> bool:
        self._changes = self._store.changes
        return self._store.get(self._variants[0].key) is not self._variants


class Recalled(NamedTuple):
    """A stored answer as it is, the Age and Cache-Status lines that go with it, its age in whole seconds, whether it is
    fresh or stale, what the cache calls that, and what all this rests on.
    """

    stored: StoredResponse
    lines: bytes
    age: int
    source: Source
    result: str
    grounds: Grounds


class ReadyAnswer:
    """All the `octets` of a stored answer, with how it is counted and logged (`note`, None: not at all)."""

    __slots__ = ("_age", "_holds", "_monotonic", "_note", "_tally", "octets")

    def __init__(
        self,
        octets: bytes,
        found: Recalled,
        tally: Tally,
        note: RepeatedLine | None,
        monotonic: Callable[[], float],
    ) -> None:
        self.octets = octets
        self._holds = found.grounds.hold
        self._age = found.age
        self._tally = tally
        self._note = note
        self._monotonic = monotonic

    def again(self, now: float, request_id: bytes, client: str) -> bytes | None:
        """The octets for one more request, which began `now`; None when they are no longer the answer."""
        return self.give(now, request_id, client) if self._holds(now) else None

    def give(self, now: float, request_id: bytes, client: str) -> bytes:
        """The octets, counted and logged."""
        duration = self._monotonic() - now
        self._tally.add(duration, self._age)
        if self._note is not None:
            self._note(duration, request_id, client)
        return self.octets
