"""The automatic machine under a circuit: closed → open → half-open → closed (breaker.md §2).

What may happen. Every move is a row of `transitions.AUTOMATIC`: `_move` looks (state, cause) up there and raises where
there is no row. What a request meets depends on the state alone:

    closed     admitted, and counted in the window when it ends (closed.py); after closing perhaps only a growing share
    open       refused until the period is over (open.py); whoever asks then moves it to half-open and is the probe
    half-open  admitted as a probe while a permit is left, else refused at once, never queued (half_open.py)

In which order. A request asks, is sent, is answered, and is settled. Before each of these steps the circuit has what
time brought about by then done first (waits.py), so a step never meets a state that should have changed before it.
A move sets state, generation and start, empties the window, the probes and what waits to be slow, and is told last:
who hears of it sees it complete. In `settle` a call is counted first and judged after that, so that one call causes at
most one move.

What must never happen:

    a result of an older generation counts   each move begins a new generation, a permit carries the one that it was
                                             given in, and `settle` compares them before anything else
    a circuit stays half-open for ever       each probe ends by `probe_timeout`, as the head of its answer says or as
                                             nothing, and its permit is free again
    more probes than `half_open_probes`      only `Probes.take` gives a probe's permit, after `refusal` found one free

Why it is cheap. There is no timer and no task; state moves when somebody asks or settles. In closed a request costs a
few comparisons, one permit, and one addition to a bucket; thresholds are looked at only while the window holds a
failed or slow call. While it is open, a refusal is one object for each second (`OpenPeriod`).

The machine knows no override, no mode and no listener: those are the circuit's (circuit.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.circuit.closed import Crossing, Ramp, RecentCalls
from sidecar.core.circuit.explanation import SETTINGS, Cause, LastProbe, SavedCircuit, State, Trip, WindowView, span
from sidecar.core.circuit.half_open import Probes
from sidecar.core.circuit.open import OpenPeriod, period_length
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Describe, Permit, Refusal, Role, Verdict
from sidecar.core.circuit.transitions import next_state
from sidecar.core.circuit.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.core.circuit.explanation import Sample
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
SAY_NOTHING = frozenset({Outcome.CANCELLED, Outcome.NOT_SENT})
"""Ends of a probe that tell nothing of the upstream."""
NOTHING = WindowView()
NEVER_OPEN = OpenPeriod(LONG_AGO, "")
KEPT_FOR_SAFE = {
    state: Refusal(state, "the circuit keeps its probe for a request with a safe method")
    for state in (State.OPEN, State.HALF_OPEN)
}


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
    """State, generation, recent calls and probes of one circuit. `moved` hears of each move and must not raise.

    `last_safe` is when the latest request with a safe method arrived. `trip` is why it left closed, until it is closed
    again; `last_trip` the trip that it recovered from. All times are monotonic seconds.
    """

    __slots__ = (
        "_moved", "_period", "_random", "generation", "last_probe", "last_safe", "last_trip", "open_period", "probes",
        "ramp", "recent", "refs", "reopenings", "settings", "since", "state", "trip", "waits",
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
        self.reopenings = 0
        self.last_safe = LONG_AGO
        self.trip: Trip | None = None
        self.last_trip: Trip | None = None
        self.last_probe: LastProbe | None = None
        self.recent = RecentCalls(settings, now)
        self.ramp: Ramp | None = None
        self.open_period = NEVER_OPEN
        self.probes = Probes()
        self.waits = Waits(settings, self.probes)
        self._moved = moved
        self._random = random
        self._period = 0.0

    def refusal(self, now: float, *, safe: bool) -> Refusal | None:
        """What `ask` would refuse at `now`; changes nothing."""
        state = self.state
        if state is _CLOSED:
            return None if self.ramp is None else self.ramp.refusal(now)
        refusal = self.open_period.refusal(now) if state is _OPEN else self.probes.refusal(now, self.settings)
        if refusal is None and not safe and now < self.last_safe + self.settings.open_duration:
            return KEPT_FOR_SAFE[state]
        return refusal

    def ask(self, now: float, *, safe: bool) -> Permit | Refusal:
        """Admit or refuse; what time has brought about by `now` must have been done before."""
        refusal = self.refusal(now, safe=safe)
        if safe:
            self.last_safe = now
        if self.ramp is not None:
            self._count_in_ramp(now, refused=refusal is not None)
        if refusal is not None:
            return refusal
        if self.state is _CLOSED:
            return Permit(_NORMAL, self.generation, now)
        if self.state is _OPEN:
            self._move(Cause.OPEN_DURATION_ELAPSED, f"the circuit was open for {span(now - self.since)}", now)
        return self.probes.take(self.generation, now)

    def passed_over(self, now: float, *, safe: bool) -> None:
        """Take note of a request that somebody else refused."""
        if safe:
            self.last_safe = now
        if self.ramp is not None:
            self._count_in_ramp(now, refused=True)

    def sent(self, permit: Permit, now: float, describe: Describe | None) -> None:
        """The request is under way whole: should it hang from now on, it counts as slow before it ends."""
        normal = permit.role is _NORMAL and permit.generation == self.generation
        if normal and permit.mark is None and self.settings.slow_rate is not None:
            self.waits.sent.add(permit, now, describe)

    def settle(self, permit: Permit, verdict: Verdict, now: float, *, slow: bool) -> None:
        """Learn how a permitted request ended, unless it belongs to an older generation."""
        if permit.generation != self.generation:
            return
        outcome = verdict.outcome
        if permit.role is not _NORMAL:
            self._settle_probe(permit, verdict, now)
        elif outcome is _SUCCESS or outcome is _FAILURE or outcome is _THROTTLED:
            slow = slow and outcome is not _THROTTLED
            crossing = self.recent.record(permit, outcome, now, slow=slow, describe=verdict.describe)
            if crossing is not None:
                # Only a failure's Retry-After is about the upstream's health (breaker.md 16).
                self.open(crossing, now, None if outcome is _SUCCESS else verdict.retry_after)

    def hangs(self, permit: Permit, now: float) -> None:
        """Count a request as slow that has been in flight for too long."""
        wait = self.waits.sent.discard(permit)
        crossing = self.recent.hangs(permit, now, None if wait is None else wait[2])
        if crossing is not None:
            self.open(crossing, now)

    def give_up(self, probe: Permit, now: float) -> None:
        """End a probe that has not even a head to show; what it still brings is dropped."""
        if self.probes.give_back(probe):
            self.last_probe = LastProbe(now)

    def open(self, crossing: Crossing, now: float, asked: float | None = None) -> None:
        """Open for the next period, for `asked` seconds at least if the upstream said so.

        The count of reopenings starts anew after a closed time as long as the last period.
        """
        closed = self.state is _CLOSED
        recovered = closed and now - self.since >= self._period
        self.reopenings = 0 if recovered else self.reopenings + 1
        self._period = period_length(self.settings, self.reopenings, self._random, asked)
        self.ramp = None
        if closed:
            self.trip = Trip(
                crossing.cause, now, crossing.detail, crossing.window, crossing.samples, self.ref(crossing.cause)
            )
        self.open_period = OpenPeriod(now + self._period, self._why_open())
        self._move(crossing.cause, crossing.detail, now, crossing.window, crossing.samples)

    def reset(self, now: float, detail: str, cause: Cause = Cause.RESET) -> None:
        """Closed, with an empty window and no memory of earlier open periods."""
        self.reopenings = 0
        self._period = 0.0
        self.ramp = None
        self._move(cause, detail, now)

    def reopen(self, open_until: float, saved: SavedCircuit, now: float) -> None:
        """Take up an open period that began in an earlier process."""
        longest = self.settings.backoff.max
        self.reopenings = saved.reopenings
        self._period = max(min(open_until - now, longest), 0.0)
        self.trip = saved.trip
        why = self._why_open()
        self.open_period = OpenPeriod(min(open_until, now + longest), why)
        self._move(Cause.RESTORED, f"open before the restart: {why}", now)

    def open_with_fleet(self, left: float, reopenings: int, why: str, now: float) -> None:
        """Open for `left` seconds as the fleet does; one that is open goes on with the fleet's period."""
        self._period = min(left, self.settings.backoff.max)
        self.reopenings = reopenings
        self.open_period = OpenPeriod(now + self._period, why)
        if self.state is _CLOSED:
            self.ramp = None
            self.trip = Trip(Cause.FLEET_OPENED, now, why, NOTHING)
        if self.state is not _OPEN:
            self._move(Cause.FLEET_OPENED, why, now)

    def close_with_fleet(self, why: str, now: float) -> None:
        """Closed, because the probes of the whole fleet succeeded."""
        if self.state is not _CLOSED:
            self._begin_ramp(now)
            self._move(Cause.FLEET_CLOSED, why, now)

    def reconfigure(self, settings: BreakerSettings, refs: Mapping[str, str], now: float) -> None:
        """Go on under changed settings: state and timers stay, and what fits of the window (breaker.md 25)."""
        self.recent.reconfigure(settings, now)
        self.waits.limit(settings)
        self.settings = settings
        self.refs = refs

    def probing(self, now: float) -> bool:
        """Whether the next admitted request would be a probe; changes nothing."""
        return self.state is State.HALF_OPEN or (self.state is _OPEN and now >= self.open_period.until)

    def next_probe_at(self, now: float) -> float | None:
        """When a request may probe next, if that is not up to the probes in flight; changes nothing."""
        if self.state is _OPEN:
            return self.open_period.until
        return self.probes.held_until if now < self.probes.held_until else None

    def ref(self, cause: Cause) -> str | None:
        """`file:line` of the setting that decides `cause`, or of the nearest block that a file names."""
        return self.refs.get(SETTINGS.get(cause, "breaker")) or self.refs.get("breaker") or self.refs.get("")

    def _settle_probe(self, permit: Permit, verdict: Verdict, now: float) -> None:
        if not self.probes.give_back(permit):
            return
        outcome, describe, retry_after = verdict
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
        self._begin_ramp(now)
        limit = self.settings.success_threshold
        detail = f"{self.probes.successes} successful probes, success_threshold is {limit}"
        self._move(Cause.PROBES_SUCCEEDED, detail, now)

    def _begin_ramp(self, now: float) -> None:
        if self.settings.ramp:
            self.ramp = Ramp(now, self.settings.ramp)

    def _probe_failed(self, now: float, retry_after: float | None) -> None:
        assert self.last_probe is not None
        sample = self.last_probe.sample
        samples = () if sample is None else (sample,)
        crossing = Crossing(Cause.PROBE_FAILED, f"a probe failed{_how(sample)}", NOTHING, samples)
        self.open(crossing, now, retry_after)

    def _why_open(self) -> str:
        """What opened it, and what the last probe since met."""
        trip, probe = self.trip, self.last_probe
        why = "no reason recorded" if trip is None else trip.detail
        if probe is None or probe.outcome is not _FAILURE or (trip is not None and probe.at <= trip.at):
            return why
        return f"{why}; the last probe failed{_how(probe.sample)}"

    def _count_in_ramp(self, now: float, *, refused: bool) -> None:
        assert self.ramp is not None
        self.ramp.count(now, refused=refused)
        if self.ramp.over(now):
            self.ramp = None

    def _move(
        self, cause: Cause, detail: str, now: float, window: WindowView = NOTHING, samples: tuple[Sample, ...] = ()
    ) -> None:
        """Go where the table says. Raises RuntimeError where it says nothing."""
        source, target = self.state, next_state(self.state, cause)
        self.state = target
        if target is _CLOSED and self.trip is not None:
            self.last_trip, self.trip = self.trip, None
        self.generation += 1
        self.since = now
        self.recent.clear()
        self.probes.clear()
        self.waits.sent.clear()
        self._moved(Move(source, target, cause, detail, window, samples), now)


def _how(sample: Sample | None) -> str:
    if sample is None:
        return ""
    return f": {sample.method} {sample.path} {sample.error or f'answered {sample.status}'}"
