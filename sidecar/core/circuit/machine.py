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
from sidecar.core.circuit.explanation import SETTINGS, Cause, LastProbe, SavedCircuit, State, Trip, WindowView, span
from sidecar.core.circuit.half_open import Probes
from sidecar.core.circuit.in_flight import InFlight
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Describe, Permit, Refusal, Role
from sidecar.core.circuit.ramp import Ramp
from sidecar.core.circuit.tally import Crossing, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.core.circuit.explanation import Sample
    from sidecar.core.config import BreakerSettings

    Moved: TypeAlias = Callable[["Move", float], None]

LONG_AGO = float("-inf")
FIRST_GENERATION = 1
_CLOSED = State.CLOSED
_OPEN = State.OPEN
_HALF_OPEN = State.HALF_OPEN
_NORMAL = Role.NORMAL
_SUCCESS = Outcome.SUCCESS
_FAILURE = Outcome.FAILURE
_THROTTLED = Outcome.THROTTLED
SAY_NOTHING = frozenset({Outcome.CANCELLED, Outcome.NOT_SENT})
"""Ends of a probe that tell nothing of the upstream."""
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

    `last_safe` is when the latest request with a safe method arrived. `trip` is why it left closed, until it is closed
    again; `last_trip` the trip that it recovered from. All times are monotonic seconds.
    """

    __slots__ = (
        "_moved", "_period", "_ramp", "_random", "_refusal", "_said", "generation", "in_flight", "last_probe",
        "last_safe", "last_trip", "open_until", "probes", "refs", "reopenings", "settings", "since", "state", "tally",
        "trip",
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
        self.last_trip: Trip | None = None
        self.last_probe: LastProbe | None = None
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
            left = self.open_until - now
            self._refusal = Refusal(_OPEN, f"the circuit is open: {self._why_open()}", left)
            self._said = now, self.open_until - math.ceil(left) + 1
        return self._refusal

    def ask(self, now: float, *, safe: bool) -> Permit | Refusal:
        """Admit or refuse; what time has brought about by `now` must have been told before."""
        refusal = self.refusal(now, safe=safe)
        self.note(now, safe=safe, refused=refusal is not None)
        if refusal is not None:
            return refusal
        if self.state is _CLOSED:
            return Permit(_NORMAL, self.generation, now)
        if self.state is _OPEN:
            waited = f"the circuit was open for {span(now - self.since)}"
            self._move(Move(_OPEN, State.HALF_OPEN, Cause.OPEN_DURATION_ELAPSED, waited), now)
        return self.probes.take(self.generation, now)

    def note(self, now: float, *, safe: bool, refused: bool) -> None:
        """Take note of a request that came by."""
        if safe:
            self.last_safe = now
        if self._ramp is not None:
            self._ramp.count(now, refused=refused)
            if self._ramp.over(now):
                self._ramp = None

    def sent(self, permit: Permit, now: float, describe: Describe | None) -> None:
        """The request is under way whole: should it hang from now on, it counts as slow before it ends."""
        if (
            self.in_flight is not None
            and permit.role is _NORMAL
            and permit.generation == self.generation
            and permit.mark is None
        ):
            self.in_flight.add(permit, now, describe)

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

    def succeeded(self, now: float) -> None:
        """A normal request of this generation ended well in time. It may lift the window to its minimum."""
        crossing = self.tally.record_success(now)
        if crossing is not None:
            self._open(crossing, now, None)

    def watch(self, now: float) -> None:
        """Count what has been in flight for too long."""
        in_flight = self.in_flight
        if in_flight is None:
            return
        while (first := in_flight.first()) is not None and now - first[1] > self.settings.slow_after:
            permit, _, describe = first
            in_flight.discard(permit)
            crossing = self.tally.record_in_flight(permit, now, describe)
            if crossing is not None:
                self._open(crossing, now, None)

    def give_up(self, probe: Permit, now: float) -> None:
        """End a probe that has not even a head to show; what it still brings is dropped."""
        if self.probes.give_back(probe):
            self.last_probe = LastProbe(now)

    def next_look(self, now: float) -> float:
        """Before when time alone changes nothing here, whatever is asked meanwhile."""
        look_at = self.probes.longest(now) + self.settings.probe_timeout
        if self.in_flight is None:
            return look_at
        return min(look_at, self.in_flight.longest(now) + self.settings.slow_after)

    def reset(self, now: float, detail: str, cause: Cause = Cause.RESET) -> None:
        """Closed, with an empty window and no memory of earlier open periods."""
        self.reopenings = 0
        self._period = 0.0
        self._ramp = None
        self._move(Move(self.state, State.CLOSED, cause, detail), now)

    def reopen(self, open_until: float, saved: SavedCircuit, now: float) -> None:
        """Take up an open period that began in an earlier process."""
        longest = self.settings.backoff.max
        self.reopenings = saved.reopenings
        self.open_until = min(open_until, now + longest)
        self._period = max(self.open_until - now, 0.0)
        self.trip = saved.trip
        self._move(Move(self.state, State.OPEN, Cause.RESTORED, f"open before the restart: {self._why_open()}"), now)

    def reconfigure(self, settings: BreakerSettings, refs: Mapping[str, str], now: float) -> None:
        """Go on under changed settings: state and timers stay, and what fits of the window (breaker.md 25)."""
        self.tally.reconfigure(settings, now)
        if settings.slow_rate is None:
            self.in_flight = None
        elif self.in_flight is None:
            self.in_flight = InFlight()
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
        if outcome not in SAY_NOTHING:
            self.last_probe = LastProbe(now, outcome, None if describe is None else describe())
        if outcome is _SUCCESS:
            self._probe_succeeded(now)
        elif outcome is _FAILURE:
            self._probe_failed(now, retry_after)
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

    def _probe_failed(self, now: float, retry_after: float | None) -> None:
        assert self.last_probe is not None
        sample = self.last_probe.sample
        samples = () if sample is None else (sample,)
        crossing = Crossing(Cause.PROBE_FAILED, f"a probe failed{_how(sample)}", NOTHING, samples)
        self._open(crossing, now, retry_after)

    def _why_open(self) -> str:
        """What opened it, and what the last probe since met."""
        trip, probe = self.trip, self.last_probe
        why = "no reason recorded" if trip is None else trip.detail
        if probe is None or probe.outcome is not _FAILURE or (trip is not None and probe.at <= trip.at):
            return why
        return f"{why}; the last probe failed{_how(probe.sample)}"

    def _open(self, crossing: Crossing, now: float, asked: float | None) -> None:
        """Open for the next period; the count of reopenings starts anew after a closed time as long as the last."""
        source = self.state
        recovered = source is _CLOSED and now - self.since >= self._period
        self.reopenings = 0 if recovered else self.reopenings + 1
        self._period = open_period(self.settings, self.reopenings, self._random, asked)
        self._ramp = None
        self.open_until = now + self._period
        if source is _CLOSED:
            self.trip = Trip(
                crossing.cause, now, crossing.detail, crossing.window, crossing.samples, self.ref(crossing.cause)
            )
        self._move(Move(source, _OPEN, crossing.cause, crossing.detail, crossing.window, crossing.samples), now)

    def _move(self, move: Move, now: float) -> None:
        self.state = move.target
        if move.target is _CLOSED and self.trip is not None:
            self.last_trip, self.trip = self.trip, None
        self._refusal = None
        self.generation += 1
        self.since = now
        self.tally.clear()
        self.probes.clear()
        if self.in_flight is not None:
            self.in_flight.clear()
        self._moved(move, now)


def _how(sample: Sample | None) -> str:
    if sample is None:
        return ""
    return f": {sample.method} {sample.path} {sample.error or f'answered {sample.status}'}"
