"""What happened lately, for people: a bounded ring of events with ever-growing ids."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING

from sidecar.core.circuit.explanation import Cause
from sidecar.core.redaction import NOTHING_REDACTED
from sidecar.core.report import sentence, transition_report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.redaction import Redaction
    from sidecar.core.report import Moment

RING_SIZE = 1000
NO_DETAILS: Mapping[str, object] = MappingProxyType({})
OVERRIDE_CAUSES = frozenset({Cause.OVERRIDE_SET, Cause.OVERRIDE_REMOVED, Cause.OVERRIDE_EXPIRED})


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `at` is seconds since 1970 UTC; `details` holds plain JSON values."""

    id: int
    at: float
    kind: str
    message: str
    circuit: str | None
    details: Mapping[str, object]


class EventRing:
    """The last `size` events, oldest first.

    `first_id` lets a new process go on above the ids of the one before, so that a reader who resumes after a restart
    neither misses an event nor mistakes one for another. `redaction` is for the URLs in events.
    """

    __slots__ = ("_events", "_listeners", "_next_id", "_redaction")

    def __init__(self, size: int = RING_SIZE, *, first_id: int = 1, redaction: Redaction = NOTHING_REDACTED) -> None:
        self._events: deque[Event] = deque(maxlen=size)
        self._next_id = first_id
        self._redaction = redaction
        self._listeners: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._events)

    def append(
        self,
        at: float,
        kind: str,
        message: str,
        *,
        circuit: str | None = None,
        details: Mapping[str, object] = NO_DETAILS,
    ) -> Event:
        """Add an event, forget the oldest when full, and wake every listener."""
        redacted = self._redaction
        event = Event(self._next_id, at, kind, redacted(message), circuit, redacted.mapping(details))
        self._next_id += 1
        self._events.append(event)
        for listener in tuple(self._listeners):
            listener()
        return event

    def after(self, last_id: int) -> list[Event]:
        """Every kept event younger than `last_id`; all of them when that id was never given here."""
        if not self._events or last_id >= self._next_id:
            return list(self._events)
        seen = last_id - self._events[0].id + 1
        return list(islice(self._events, max(0, seen), None))

    @property
    def last_id(self) -> int:
        """The id of the youngest event ever added; one less than the first id while there was none."""
        return self._next_id - 1

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each event; returns what ends that. It must not raise."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


def record_transition(ring: EventRing, transition: Transition, moment: Moment) -> Event:
    """Add what happened to a circuit: of kind `override` when an operator's word began or ended, else `transition`."""
    return ring.append(
        moment.wall + transition.at - moment.monotonic,
        "override" if transition.cause in OVERRIDE_CAUSES else "transition",
        sentence(transition),
        circuit=transition.circuit,
        details=transition_report(transition, moment),
    )
