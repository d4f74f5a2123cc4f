"""The automatic machine under a circuit: closed → open → half-open → closed (breaker.md §2).

    closed     a crossed threshold → open
    open       the first request that may probe after `open_until` → half-open
    half-open  enough successful probes → closed; one failed probe → open, for longer

Every move starts a new generation with empty counts, so a result of an older one changes nothing. The machine knows
no override, no mode and no listener: those are the circuit's (breaker.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.circuit.backoff import open_period
from sidecar.core.circuit.half_open import Probes
from sidecar.core.circuit.in_flight import InFlight
from sidecar.core.circuit.permit import Describe, Permit, Refusal, Role
from sidecar.core.circuit.ramp import Ramp
from sidecar.core.circuit.tally import Crossing, Tally
from sidecar.core.explanation import SETTINGS, Cause, Sample, State, Trip, WindowView, span
from sidecar.core.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.core.config import BreakerSettings

    Moved: TypeAlias = Callable[["Move", float], None]

LONG_AGO = float("-inf")
FIRST_GENERATION = 1
_CLOSED = State.CLOSED
_OPEN = State.OPEN
_NORMAL = Role.NORMAL
_SUCCESS = Outcome.SUCCESS
_FAILURE = Outcome.FAILURE
_THROTTLED = Outcome.THROTTLED
NOTHING = WindowView()


@dataclass(frozen=True, slots=True)
class Move:
    """One step of the machine, told after it is complete."""

    source: State
    target: State
    cause: Cause
    detail: str
    window: WindowView = NOTHING
    samples: tuple[Sample, ...] = ()


class Machine:
    """State, generation, tally and probes of one circuit. `moved` hears of each move and must not raise.

    `last_safe` is when the latest request with a safe method arrived. All times are monotonic seconds.
    """

    __slots__ = (
        "_moved", "_period", "_ramp", "_random", "_refusal", "_said", "generation", "in_flight", "last_safe",
        "open_until", "probes", "refs", "reopenings", "settings", "since", "state", "tally", "trip",
    )  # fmt: skip

    def __init__(
        self,
        settings: BreakerSettings,
        refs: Mapping[str, str],
        now: float,
        *,
        random: Callable[[], float],
        moved: Moved,
    ) -> None:
        self.settings = settings
        self.refs = refs
        self.state = State.CLOSED
        self.generation = FIRST_GENERATION
        self.since = now
        self.open_until = now
        self.reopenings = 0
        self.last_safe = LONG_AGO
        self.trip: Trip | None = None
        self.tally = Tally(settings, now)
        self.probes = Probes()
        self.in_flight = InFlight() if settings.slow_rate is not None else None
        self._moved = moved
        self._random = random
        self._period = 0.0
        self._ramp: Ramp | None = None
        self._refusal: Refusal | None = None
        self._said = now, now
        """From when until when an open circuit's refusal is the same."""

    @property
    def wide_open(self) -> bool:
        """Whether every request is admitted as it comes."""
        return self.state is _CLOSED and self._ramp is None

    def refusal(self, now: float, *, safe: bool) -> Refusal | None:
        """What `ask` would refuse at `now`; changes nothing."""
        if self.state is _CLOSED:
            if self._ramp is None or not self._ramp.refuses(now):
                return None
            return Refusal(_CLOSED, "the circuit has just closed and admits a growing share of requests", 0.0)
        if self.state is _OPEN:
            if now < self.open_until:
                return self.while_open(now)
        elif now < self.probes.held_until:
            left = self.probes.held_until - now
            return Refusal(State.HALF_OPEN, "the circuit is half-open and the upstream asked to wait", left)
        elif not self.probes.free(now, self.settings):
            return Refusal(State.HALF_OPEN, "the circuit is half-open and its probes are under way", 0.0)
        if not safe and now < self.last_safe + self.settings.open_duration:
            return Refusal(self.state, "the circuit keeps its probe for a request with a safe method", 0.0)
        return None

    def while_open(self, now: float) -> Refusal:
        """The refusal of an open circuit: the same object for as long as it says the same in whole seconds."""
        since, until = self._said
        if self._refusal is None or not since <= now < until:
            why = self.trip.detail if self.trip is not None else "no reason recorded"
            left = self.open_until - now
            self._refusal = Refusal(_OPEN, f"the circuit is open: {why}", left)
            self._said = now, self.open_until - math.ceil(left) + 1
        return self._refusal

    def ask(self, now: float, *, safe: bool, describe: Describe | None) -> Permit | Refusal:
        """Admit or refuse; `describe` makes a sample of a request that is slow while in flight."""
        refusal = self.refusal(now, safe=safe)
        self.note(now, safe=safe, refused=refusal is not None)
        if refusal is not None:
            return refusal
        if self.state is _CLOSED:
            return self.admit(now, describe)
        if self.state is _OPEN:
            waited = f"the circuit was open for {span(now - self.since)}"
            self._move(Move(_OPEN, State.HALF_OPEN, Cause.OPEN_DURATION_ELAPSED, waited), now)
        self.probes.reclaim(now, self.settings.probe_timeout)
        return self.probes.take(self.generation, now)

    def admit(self, now: float, describe: Describe | None) -> Permit:
        """A permit of the closed state."""
        permit = Permit(_NORMAL, self.generation, now)
        if self.in_flight is not None:
            self.in_flight.permits[permit] = describe
        return permit

    def note(self, now: float, *, safe: bool, refused: bool) -> None:
        """Take note of a request that came by."""
        if safe:
            self.last_safe = now
        if self._ramp is not None:
            self._ramp.count(now, refused=refused)
            if self._ramp.over(now):
                self._ramp = None

    def answered(self, permit: Permit, now: float) -> None:
        """The response head arrived: slowness is decided, however long the body takes."""
        permit.slow = now - permit.started > self.settings.slow_after
        if self.in_flight is not None:
            self.watch(now)
            self.in_flight.permits.pop(permit, None)

    def settle(
        self,
        permit: Permit,
        outcome: Outcome,
        now: float,
        *,
        slow: bool,
        describe: Describe | None,
        retry_after: float | None,
    ) -> None:
        """Learn how a permitted request ended, unless it belongs to an older generation."""
        if self.in_flight is not None:
            self.in_flight.permits.pop(permit, None)
            self.watch(now)
        if permit.generation != self.generation:
            return
        if permit.role is not _NORMAL:
            self._settle_probe(permit, outcome, now, describe, retry_after)
        elif outcome is _SUCCESS or outcome is _FAILURE or outcome is _THROTTLED:
            crossing = self.tally.record(
                permit, outcome, now, slow=slow and outcome is not _THROTTLED, describe=describe
            )
            if crossing is not None:
                self._open(crossing, now, retry_after)

    def watch(self, now: float) -> None:
        """Count what has been in flight for too long."""
        in_flight = self.in_flight
        if in_flight is None or now <= in_flight.check_at:
            return
        while (overdue := in_flight.pop_overdue(now, self.settings.slow_after)) is not None:
            crossing = self.tally.record_in_flight(overdue[0], now, overdue[1])
            if crossing is not None:
                self._open(crossing, now, None)

    def reset(self, now: float, detail: str, cause: Cause = Cause.RESET) -> None:
        """Closed, with an empty window and no memory of earlier open periods."""
        self.reopenings = 0
        self._period = 0.0
        self._ramp = None
        self.trip = None
        self._move(Move(self.state, State.CLOSED, cause, detail), now)

    def reopen(self, trip: Trip | None, open_until: float, reopenings: int, now: float) -> None:
        """Take up an open period that began in an earlier process."""
        longest = self.settings.backoff.max
        self.reopenings = reopenings
        self.open_until = min(open_until, now + longest)
        self._period = max(self.open_until - now, 0.0)
        self.trip = trip
        why = trip.detail if trip is not None else "no reason recorded"
        self._move(Move(self.state, State.OPEN, Cause.RESTORED, f"open before the restart: {why}"), now)

    def reconfigure(self, settings: BreakerSettings, refs: Mapping[str, str], now: float) -> None:
        """Go on under changed settings: state and timers stay, and what fits of the window (breaker.md 25)."""
        self.tally.reconfigure(settings, now)
        if settings.slow_rate is None:
            self.in_flight = None
        elif self.in_flight is None:
            self.in_flight = InFlight()
        else:
            self.in_flight.check_at = LONG_AGO
        self.settings = settings
        self.refs = refs

    def probing(self, now: float) -> bool:
        """Whether the next admitted request would be a probe; changes nothing."""
        return self.state is State.HALF_OPEN or (self.state is _OPEN and now >= self.open_until)

    def next_probe_at(self, now: float) -> float | None:
        """When a request may probe next, if that is not up to the probes in flight; changes nothing."""
        if self.state is _OPEN:
            return self.open_until
        return self.probes.held_until if now < self.probes.held_until else None

    def ref(self, cause: Cause) -> str | None:
        """`file:line` of the setting that decides `cause`, or of the nearest block that a file names."""
        return self.refs.get(SETTINGS.get(cause, "breaker")) or self.refs.get("breaker") or self.refs.get("")

    def _settle_probe(
        self, permit: Permit, outcome: Outcome, now: float, describe: Describe | None, retry_after: float | None
    ) -> None:
        if not self.probes.give_back(permit):
            return
        if outcome is _SUCCESS:
            self._probe_succeeded(now)
        elif outcome is _FAILURE:
            samples = (describe(),) if describe is not None else ()
            detail = f"a probe failed{_how(samples)}"
            self._open(Crossing(Cause.PROBE_FAILED, detail, NOTHING, samples), now, retry_after)
        elif outcome is _THROTTLED and retry_after is not None:
            self.probes.hold(now + min(retry_after, self.settings.backoff.max))

    def _probe_succeeded(self, now: float) -> None:
        self.probes.successes += 1
        if self.probes.successes < self.settings.success_threshold:
            return
        if self.settings.ramp:
            self._ramp = Ramp(now, self.settings.ramp)
        limit = self.settings.success_threshold
        detail = f"{self.probes.successes} successful probes, success_threshold is {limit}"
        self._move(Move(State.HALF_OPEN, _CLOSED, Cause.PROBES_SUCCEEDED, detail), now)

    def _open(self, crossing: Crossing, now: float, asked: float | None) -> None:
        """Open for the next period; the count of reopenings starts anew after a closed time as long as the last."""
        source = self.state
        recovered = source is _CLOSED and now - self.since >= self._period
        self.reopenings = 0 if recovered else self.reopenings + 1
        self._period = open_period(self.settings, self.reopenings, self._random, asked)
        self._ramp = None
        self.open_until = now + self._period
        self.trip = Trip(
            crossing.cause, now, crossing.detail, crossing.window, crossing.samples, self.ref(crossing.cause)
        )
        self._move(Move(source, _OPEN, crossing.cause, crossing.detail, crossing.window, crossing.samples), now)

    def _move(self, move: Move, now: float) -> None:
        self.state = move.target
        self._refusal = None
        self.generation += 1
        self.since = now
        self.tally.clear()
        self.probes.clear()
        if self.in_flight is not None:
            self.in_flight.permits.clear()
        self._moved(move, now)


def _how(samples: tuple[Sample, ...]) -> str:
    if not samples:
        return ""
    sample = samples[0]
    return f": {sample.method} {sample.path} {sample.error or f'answered {sample.status}'}"
