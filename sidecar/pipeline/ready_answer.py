"""Answers from memory that stay the same for a while, so that who asks for one again gets it again as it is.

Within a second neither Age nor ttl of a stored answer counts on: to the same head the same octets go out, unless the
store or the circuit says otherwise. That takes a look at both, and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.core.circuit.permit import Refusal
    from sidecar.core.stored import StoredResponse
    from sidecar.pipeline.cached_route import CircuitView
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.exchange import Source
    from sidecar.pipeline.ports import CacheStore
    from sidecar.pipeline.record import RepeatedLine
    from sidecar.pipeline.stats import Tally


class Grounds:
    """What an answer from memory rests on, besides the time: `circuit`'s refusal, if it stands in for that or, with
    `refusal`, is just that; and what the store holds, if it was looked at. None of it holds from `until` on, monotonic
    seconds. `safe`: the request's method asks for no change.
    """

    __slots__ = ("_changes", "_circuit", "_key", "_refusal", "_safe", "_store", "_variants", "until")

    def __init__(
        self,
        circuit: CircuitView | None = None,
        until: float = inf,
        *,
        refusal: Refusal | None = None,
        safe: bool = True,
    ) -> None:
        self.until = until
        self._circuit = circuit
        self._refusal = refusal
        self._safe = safe
        self._store: CacheStore | None = None

    def also(self, store: CacheStore, key: bytes, variants: Sequence[StoredResponse]) -> Grounds:
        """On this, too: that `store` holds exactly `variants` under `key`."""
        self._store = store
        self._changes = store.changes
        self._key = key
        self._variants = variants
        return self

    def hold(self, now: float) -> bool:
        """Whether a look at `now` would find the same; a refusal counts then."""
        store = self._store
        if now >= self.until or (store is not None and self._changes != store.changes and self._replaced(store)):
            return False
        circuit, refusal = self._circuit, self._refusal
        if circuit is None:
            return True
        if refusal is None:
            return circuit.refuses(now, safe=True)
        return circuit.repeats(refusal, now, safe=self._safe)

    def _replaced(self, store: CacheStore) -> bool:
        self._changes = store.changes
        return store.get(self._key) is not self._variants


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


class Refused(NamedTuple):
    """Why a request will certainly not be answered, and what that rests on."""

    error: ProxyError
    grounds: Grounds


class Ready(ABC):
    """What goes out to everyone who sends one head for as long as its grounds hold, with how it is counted and logged
    (`note`, None: not at all).
    """

    __slots__ = ("_holds", "_monotonic", "_note", "_tally")

    def __init__(
        self, grounds: Grounds, tally: Tally, note: RepeatedLine | None, monotonic: Callable[[], float]
    ) -> None:
        self._holds = grounds.hold
        self._tally = tally
        self._note = note
        self._monotonic = monotonic

    def again(self, now: float, request_id: bytes, client: str) -> bytes | None:
        """The octets for one more request, which began `now`; None when they are no longer the answer."""
        return self.give(now, request_id, client) if self._holds(now) else None

    @abstractmethod
    def give(self, now: float, request_id: bytes, client: str) -> bytes:
        """The octets, counted and logged."""

    def _given(self, now: float, age: int, sent: int, request_id: bytes, client: str) -> None:
        duration = self._monotonic() - now
        self._tally.add(duration, age)
        if self._note is not None:
            self._note(duration, sent, request_id, client)


class ReadyAnswer(Ready):
    """All the octets of a stored answer."""

    __slots__ = ("_age", "_octets", "_sent")

    def __init__(
        self, octets: bytes, found: Recalled, tally: Tally, note: RepeatedLine | None, monotonic: Callable[[], float]
    ) -> None:
        super().__init__(found.grounds, tally, note, monotonic)
        self._octets = octets
        self._sent = len(found.stored.body)
        self._age = found.age

    def give(self, now: float, request_id: bytes, client: str) -> bytes:
        """See `Ready`."""
        self._given(now, self._age, self._sent, request_id, client)
        return self._octets


class ReadyRefusal(Ready):
    """A refusal, of which only the request's id differs from one to the next. `octets` as `refusal_format` gives it."""

    __slots__ = ("_format", "_size")

    def __init__(
        self,
        octets: tuple[bytes, int],
        grounds: Grounds,
        tally: Tally,
        note: RepeatedLine | None,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(grounds, tally, note, monotonic)
        self._format, self._size = octets

    def give(self, now: float, request_id: bytes, client: str) -> bytes:
        """See `Ready`."""
        sent = self._size + len(request_id)
        self._given(now, 0, sent, request_id, client)
        return self._format % (sent, request_id, request_id)
