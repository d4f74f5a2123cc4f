"""What sidecars of a fleet tell each other over Redis, as values. Spans are in seconds, so that no clocks are compared.

A *round* numbers the states of one circuit of the fleet, a *stamp* the operators' words about it, a *version* all that
changed: each is larger than any before, also after Redis has lost its data, because they are its time in microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sidecar.core.circuit.explanation import OverrideMode, State


class Version(NamedTuple):
    """`epoch` numbers the data set of Redis, `number` the changes to it."""

    epoch: int = 0
    number: int = 0


NO_VERSION = Version()


@dataclass(frozen=True, slots=True)
class Record:
    """One circuit as the fleet has it. `left`: of the open period. `by` is the pod that brought it there."""

    circuit: str
    round: int
    state: State
    left: float = 0.0
    reopenings: int = 0
    by: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """An operator's word about one circuit, for the whole fleet. `mode` None: the override was removed.

    `left`: how long it still holds; None: until removed.
    """

    circuit: str
    stamp: int
    mode: OverrideMode | None
    reason: str = ""
    actor: str = ""
    left: float | None = None

    @property
    def live(self) -> bool:
        """Whether it forces anything."""
        return self.mode is not None and (self.left is None or self.left > 0)


@dataclass(frozen=True, slots=True)
class Vote:
    """A pod's own judgement that a circuit should be open, good for `ttl`; 0: withdrawn.

    `round`: the newest that the pod knew; a vote from before the fleet's circuit closed does not count. `left`,
    `detail` and `reopenings` are what the fleet takes up should this vote make the quorum complete.
    """

    ttl: float
    round: int
    left: float = 0.0
    reopenings: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Named:
    """A circuit with news: calls, failures and slow calls since the last time, for a pool with buckets of `bucket`
    seconds, and perhaps a vote.
    """

    circuit: str
    bucket: float
    counts: tuple[int, int, int] = (0, 0, 0)
    vote: Vote | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """All that a pod has to say at once. `members`: how many it has seen lately, `quorum` how many have to vote.

    `known`: the version that it has seen all changes up to. `heartbeat`: say that it lives.
    """

    known: Version
    members: int
    quorum: int
    heartbeat: bool = False
    named: tuple[Named, ...] = ()


class Pooled(NamedTuple):
    """The numbers of all pods with news of a circuit."""

    requests: int = 0
    failures: int = 0
    slow: int = 0
    votes: int = 0


NOTHING_POOLED = Pooled()


@dataclass(frozen=True, slots=True)
class News:
    """What came back: everything that changed after the version that was known. `clock`: Redis' time."""

    version: Version
    clock: float
    members: int
    records: tuple[Record, ...] = ()
    words: tuple[Word, ...] = ()
    pooled: tuple[tuple[str, Pooled], ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """What was told to all at once: a record or a word, the version it made, and the one before. `freed`: a lease of
    this circuit was returned.
    """

    version: Version = NO_VERSION
    before: Version = NO_VERSION
    record: Record | None = None
    word: Word | None = None
    freed: str = ""


@dataclass(frozen=True, slots=True)
class LeaseWish:
    """A pod wants to probe: at most `limit` leases at once, each for `ttl` at most. `round`: the newest it knows."""

    circuit: str
    id: str
    round: int
    limit: int
    ttl: float


@dataclass(frozen=True, slots=True)
class LeaseAnswer:
    """Whether it may, for which round, or how long it has to wait."""

    granted: bool
    record: Record
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a probe ended. `outcome`: success, failure, release (decides nothing), or hold (the upstream asked to wait).

    `left`, `reopenings` and `detail` are of the open period that a failure begins, `left` alone of a hold. `closes`:
    the pod's own circuit is closed by it. `threshold`: successes that close the fleet's.
    """

    circuit: str
    id: str
    round: int
    outcome: str
    left: float = 0.0
    reopenings: int = 0
    detail: str = ""
    closes: bool = False
    threshold: int = 1


@dataclass(frozen=True, slots=True)
class Member:
    """A pod of the fleet; `seen`: seconds since it was last heard of."""

    id: str
    version: str
    seen: float


@dataclass(frozen=True, slots=True)
class CircuitView:
    """One circuit across the fleet. `voters`: pods that opened their own; `probing`: those that hold a lease."""

    record: Record | None = None
    voters: tuple[str, ...] = ()
    probing: tuple[str, ...] = ()
    pooled: Pooled = NOTHING_POOLED


@dataclass(frozen=True, slots=True)
class FleetView:
    """The fleet as an operator looks at it. `fresh`: Redis said so just now."""

    members: tuple[Member, ...] = ()
    circuits: dict[str, CircuitView] = field(default_factory=dict)
    fresh: bool = False
