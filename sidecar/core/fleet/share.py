"""One circuit's part in the fleet: what its sidecar owes the others, and what it takes up from them.

A vote says that this sidecar opened its circuit by its own judgement. It stands while the circuit is not closed, and
for as long as the failures that opened it would be in the window. It is renewed while it stands, so that it ends with
the process. What the fleet decides is a record with a round; only a newer round is taken up, so what arrives late or
twice changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.circuit.explanation import Cause, State
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.config import TimeWindow
from sidecar.core.fleet.messages import Named, Pooled, Verdict, Vote

if TYPE_CHECKING:
    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.circuit.explanation import CircuitSnapshot, Transition
    from sidecar.core.circuit.gate import Gate, ProbeEnd
    from sidecar.core.fleet.messages import Record

VOTE_TTL = 3.0
VOTE_EVERY = 1.0
BUCKETS = 10
SPAN_OF_COUNT = 30.0
"""Seconds that pooled numbers look back where the circuit's own window is a number of calls."""
LONGEST_DETAIL = 300
"""Characters of a reason that travel."""
NEVER = float("inf")
LONG_AGO = float("-inf")
OWN_JUDGEMENT = frozenset({Cause.FAILURE_THRESHOLD, Cause.FAILURE_RATE, Cause.SLOW_RATE, Cause.PROBE_FAILED})
VERDICTS = frozenset({Outcome.SUCCESS, Outcome.FAILURE})
ENDS_JUDGEMENT = frozenset({Cause.FLEET_CLOSED, Cause.RESET, Cause.SWITCHED_OFF})


class Share:
    """What stands between `circuit` and the fleet. `pod`: this sidecar's name. `gate` None: nothing is shared but
    the view. `record` is the fleet's, as last heard of at monotonic `heard`.
    """

    __slots__ = (
        "_judged", "_lingers", "_news_until", "_pod", "_told", "_vote_at", "circuit", "gate", "heard", "pooled",
        "record",
    )  # fmt: skip

    def __init__(self, circuit: Circuit, pod: str, gate: Gate | None, now: float) -> None:
        self.circuit = circuit
        self.gate = gate
        self.record: Record | None = None
        self.heard = now
        self.pooled = Pooled()
        self._pod = pod
        self._told = circuit.counters.tally
        self._news_until = LONG_AGO
        self._judged = gate is not None and circuit.state is not State.CLOSED
        """Whether the circuit was opened here, and is not closed again."""
        self._lingers = LONG_AGO
        self._vote_at = LONG_AGO if self._judged else NEVER

    @property
    def round(self) -> int:
        """The newest round heard of."""
        return 0 if self.record is None else self.record.round

    @property
    def span(self) -> float:
        """Seconds that the window looks back."""
        window = self.circuit.settings.window
        return window.seconds if isinstance(window, TimeWindow) else SPAN_OF_COUNT

    def voting(self, now: float) -> bool:
        """Whether the vote stands."""
        return self._judged or now < self._lingers

    def moved(self, transition: Transition) -> bool:
        """The circuit had a transition; whether the fleet should hear of it at once."""
        if self.gate is None:
            return False
        if transition.cause in OWN_JUDGEMENT:
            window = self.circuit.settings.window
            self._lingers = transition.at + window.seconds if isinstance(window, TimeWindow) else LONG_AGO
            self._judged = True
            self._vote_at = LONG_AGO
            return True
        if transition.cause in ENDS_JUDGEMENT:
            return self._withdraw()
        if transition.target is State.CLOSED:
            self._judged = False
        elif transition.cause is Cause.RESTORED and transition.target is State.OPEN:
            trip = self.circuit.snapshot(transition.at).trip
            self._judged = trip is not None and trip.cause in OWN_JUDGEMENT
            self._vote_at = LONG_AGO if self._judged else NEVER
        return False

    def owed(self, now: float) -> Named | None:
        """What the fleet should hear of this circuit at `now`; None while there is nothing."""
        counts = self.circuit.counters.tally
        if counts[1] != self._told[1]:
            if now >= self._news_until:
                self._include_window(counts, now)
            self._news_until = now + self.span
        vote = self._vote(now) if now >= self._vote_at else None
        if now >= self._news_until:
            self._told = counts
        elif counts != self._told:
            new, old = counts, self._told
            return Named(
                self.circuit.name, self.span / BUCKETS, (new[0] - old[0], new[1] - old[1], new[2] - old[2]), vote
            )
        return None if vote is None else Named(self.circuit.name, self.span / BUCKETS, vote=vote)

    def told(self, named: Named, now: float) -> None:
        """The fleet has heard `named`."""
        told, more = self._told, named.counts
        self._told = told[0] + more[0], told[1] + more[1], told[2] + more[2]
        if named.vote is not None:
            self._vote_at = now + VOTE_EVERY if named.vote.ttl else NEVER

    def vote_again(self) -> None:
        """Redis may have forgotten the vote."""
        if self._vote_at != NEVER:
            self._vote_at = LONG_AGO

    def take(self, record: Record, now: float) -> bool:
        """Do as the fleet does, unless this was heard before; whether it was new."""
        if record.round <= self.round:
            return False
        self.record, self.heard = record, now
        gate = self.gate
        if gate is None:
            return True
        gate.hold_until = LONG_AGO
        gate.shared = record.state is not State.CLOSED
        if record.state is State.CLOSED:
            self._withdraw()
            self.circuit.close_with_fleet(f"the fleet closed it: {record.detail} ({record.by})", now)
        elif self._adopts(record):
            left = record.left if record.state is State.OPEN else 0.0
            why = f"the fleet opened it: {record.detail} ({record.by})"
            self.circuit.open_with_fleet(left, record.reopenings, why, now)
        return True

    def verdict(self, end: ProbeEnd, now: float) -> Verdict | None:
        """What the fleet should hear of a probe that ended; None where nothing."""
        lease, name = end.lease, self.circuit.name
        if self.gate is None or (lease is None and not self.gate.shared):
            return None
        lease_id, round_ = ("", self.round) if lease is None else (lease.id, lease.round)
        if end.outcome is Outcome.THROTTLED and end.retry_after is not None:
            return Verdict(name, lease_id, round_, "hold", min(end.retry_after, self.circuit.settings.backoff.max))
        if end.outcome not in VERDICTS:
            return None if lease is None else Verdict(name, lease_id, round_, "release")
        snapshot = self.circuit.snapshot(now)
        return Verdict(
            name,
            lease_id,
            round_,
            end.outcome.value,
            left=self._left(snapshot, now),
            reopenings=snapshot.reopenings,
            detail=self._why(snapshot),
            closes=snapshot.state is State.CLOSED,
            threshold=self.circuit.settings.success_threshold,
        )

    def _adopts(self, record: Record) -> bool:
        """What this sidecar brought about itself it has done; a probe of its own goes on while others may probe."""
        if record.by == self._pod and self.circuit.state is not State.CLOSED:
            return False
        return record.state is State.OPEN or self.circuit.state is State.CLOSED

    def _withdraw(self) -> bool:
        """The vote stands no longer; whether it had been told."""
        self._judged = False
        self._lingers = LONG_AGO
        told = self._vote_at != NEVER
        self._vote_at = LONG_AGO if told else NEVER
        return told

    def _vote(self, now: float) -> Vote:
        if not self.voting(now):
            return Vote(0.0, self.round)
        snapshot = self.circuit.snapshot(now)
        return Vote(VOTE_TTL, self.round, self._left(snapshot, now), snapshot.reopenings, self._why(snapshot))

    def _left(self, snapshot: CircuitSnapshot, now: float) -> float:
        """Seconds of the open period that are left."""
        until = snapshot.next_probe_at if snapshot.state is State.OPEN else None
        return 0.0 if until is None else max(0.0, until - now)

    def _why(self, snapshot: CircuitSnapshot) -> str:
        """Why it is not closed, in the words of whoever found out first."""
        if snapshot.trip is None:
            return ""
        if self.record is not None and snapshot.trip.cause is Cause.FLEET_OPENED:
            return self.record.detail
        return snapshot.trip.detail[:LONGEST_DETAIL]

    def _include_window(self, counts: tuple[int, int, int], now: float) -> None:
        """The first news after a quiet time tell of all that the window holds."""
        window = self.circuit.snapshot(now).window
        held = window.requests, window.failures, window.slow
        told = self._told
        self._told = (
            min(told[0], counts[0] - held[0]),
            min(told[1], counts[1] - held[1]),
            min(told[2], counts[2] - held[2]),
        )
