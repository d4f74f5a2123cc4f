"""The circuit of one route: `ask` → Permit | Refusal, `settle`, override, snapshot (breaker.md §2–6).

A circuit is the automatic machine (machine.py) and what lies above it: the mode, an operator's override, the
counters, and the listener. While requests are admitted against the machine, it runs on underneath on what it sees.

Two questions are asked of it: `ask` is the request itself, and counts; `peek` is somebody who wants to know what `ask`
would refuse, and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.circuit.counters import Counters
from sidecar.core.circuit.explanation import (
    Cause,
    CircuitSnapshot,
    Override,
    OverrideMode,
    SavedCircuit,
    Standing,
    State,
    Transition,
)
from sidecar.core.circuit.machine import Machine, Move
from sidecar.core.circuit.outcome import TOO_MANY_REQUESTS, Outcome
from sidecar.core.circuit.override import OverrideLayer, because, refusal
from sidecar.core.circuit.permit import Describe, Permit, Refusal, Role, Verdict
from sidecar.core.config import NO_REFS, BreakerMode, BreakerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.core.circuit.gate import Gate
    from sidecar.core.circuit.hooks import Hooks


NO_GENERATION = 0
_NORMAL = Role.NORMAL
_SUCCESS = Outcome.SUCCESS
_CLOSED = State.CLOSED
_OFF = BreakerMode.OFF
_ENFORCE = BreakerMode.ENFORCE


class Circuit:
    """One route's circuit. Every method takes `now`, monotonic seconds, and never waits."""

    __slots__ = (
        "_hooks", "_machine", "_overrides", "_slow_after", "_waits", "counters", "gate", "name", "remarkable",
        "watches_slow",
    )  # fmt: skip

    watches_slow: bool
    """Whether slow requests may open it, also while in flight: then samples of them are wanted."""
    gate: Gate | None
    """What a fleet says of probes; None where the circuit is shared with nobody."""
    remarkable: frozenset[int]
    """Statuses with which an answer is anything else than a success (see `outcome.of_status`)."""

    def __init__(
        self, name: str, settings: BreakerSettings, hooks: Hooks, now: float, refs: Mapping[str, str] = NO_REFS
    ) -> None:
        self.name = name
        self.gate = None
        self.counters = Counters()
        self._hooks = hooks
        self._overrides = OverrideLayer(self._override_changed)
        self._machine = Machine(settings, refs, now, random=hooks.random, moved=self._moved)
        self._waits = self._machine.waits
        self._take_up(settings)

    @property
    def settings(self) -> BreakerSettings:
        """The settings in force."""
        return self._machine.settings

    @property
    def state(self) -> State:
        """The automatic state; changes nothing."""
        return self._machine.state

    @property
    def needs_tick(self) -> bool:
        """Whether time alone may change something that somebody should hear of."""
        return self.watches_slow or self._overrides.current is not None or bool(self._waits)

    def ask(self, now: float, *, safe: bool) -> Permit | Refusal:
        """Admit a request, with a permit to be settled once, or refuse it. `safe`: its method asks for no change."""
        if now >= self._waits.look_at:
            self._catch_up(now)
        machine = self._machine
        mode = machine.settings.mode
        if mode is _OFF or self._overrides.current is not None:
            return self._ask_above(now, safe=safe)
        if machine.state is _CLOSED and machine.ramp is None:
            # What nearly all requests meet, in fewer steps than by `machine.ask`.
            if safe:
                machine.last_safe = now
            return Permit(_NORMAL, machine.generation, now)
        answer = machine.ask(now, safe=safe) if self.gate is None else self._ask_gated(self.gate, now, safe=safe)
        if isinstance(answer, Permit):
            return answer
        if mode is not _ENFORCE:
            return self._observed(now)
        self.counters.rejected += 1
        return answer

    def wants_lease(self, now: float, *, safe: bool) -> bool:
        """Whether a request would be a probe if only the fleet gave it a lease, which may be asked for now."""
        gate, machine = self.gate, self._machine
        if gate is None or machine.state is _CLOSED:
            return False
        if now >= self._waits.look_at:
            self._catch_up(now)
        return gate.may_ask(now, machine.probes.left(machine.settings)) and self.would_probe(now, safe=safe)

    def would_probe(self, now: float, *, safe: bool) -> bool:
        """Whether `ask` admits a request as a probe once it is lent a lease; changes nothing."""
        machine = self._machine
        if machine.state is _CLOSED or self._overrides.current is not None:
            return False
        return machine.refusal(now, safe=safe) is None

    def peek(self, now: float, *, safe: bool) -> Refusal | None:
        """What `ask` would certainly refuse at `now`; changes nothing and counts nothing."""
        machine = self._machine
        override = None if self._overrides.current is None else self._overrides.live(now)
        if override is not None:
            forced_open = override.mode is OverrideMode.FORCED_OPEN
            return refusal(override, now, machine.settings.open_duration) if forced_open else None
        if (machine.state is _CLOSED and machine.ramp is None) or machine.settings.mode is not _ENFORCE:
            return None
        refused = machine.refusal(now, safe=safe)
        if self.gate is None or machine.state is _CLOSED:
            return refused
        return self.gate.on_hold(now) if refused is None else self.gate.explained(refused)

    def probing(self, now: float) -> bool:
        """Whether the next admitted request would be a probe; changes nothing."""
        machine = self._machine
        if machine.state is _CLOSED or machine.settings.mode is not _ENFORCE:
            return False
        return self._overrides.live(now) is None and machine.probing(now)

    def step_aside(self, permit: Permit) -> None:
        """The client of a permitted request may have left: if it is a probe, it keeps no other from probing."""
        if self._machine.probes.step_aside(permit) and self.gate is not None:
            self.gate.stepped_aside(permit)

    def sent(self, permit: Permit, now: float, describe: Describe | None = None) -> None:
        """The request was sent whole, and the upstream's time begins. Need not be told unless `watches_slow`, where
        `permit.sent_at` is set before the permit is answered or settled.

        `describe` makes the request's sample should it be slow while in flight.
        """
        permit.sent_at = now
        self._machine.sent(permit, now, describe)

    def answered(self, permit: Permit, now: float, verdict: Verdict) -> None:
        """The head of a response whose body is still to come arrived: slow or not is decided here.

        It is settled when the body ends, or as `verdict` says when the body outlasts `probe_timeout`: a probe's from
        its start on, so that no circuit waits longer for it, another's from its head on.
        """
        permit.slow = now - permit.sent_at > self._slow_after
        if now >= self._waits.look_at:
            self._catch_up(now)
        self._waits.sent.discard(permit)
        permit.verdict = verdict
        self._waits.flowing.add(permit, now)

    def settle(
        self,
        permit: Permit,
        outcome: Outcome,
        now: float,
        *,
        describe: Describe | None = None,
        retry_after: float | None = None,
    ) -> None:
        """End a permit. `describe` makes the sample of a failing or slow request, `retry_after` is the upstream's
        wish in seconds. Changes nothing when the body outlasted `probe_timeout`: that was the verdict. Raises
        RuntimeError when the permit was settled before.
        """
        waits = self._waits
        if self.watches_slow:
            waits.sent.discard(permit)
        if now >= waits.look_at:
            self._catch_up(now)
        if permit.settled:
            self._settled_before(permit)
            return
        if permit.verdict is not None:
            waits.flowing.discard(permit)
        slow = permit.slow
        if slow is None:
            slow = now - permit.sent_at > self._slow_after
        if outcome is not _SUCCESS or slow or permit.role is not _NORMAL or permit.mark is not None:
            self._end(permit, Verdict(outcome, describe, retry_after), now, slow=slow)
            return
        # What nearly all requests end as, in fewer steps than by `_end`.
        permit.settled = True
        self.counters.successes += 1
        machine = self._machine
        if permit.generation == machine.generation:
            recent = machine.recent
            window = recent.window
            window.add(now, failed=False, slow=False)
            recent.consecutive = 0
            # A success can make a count complete in which others failed.
            if (window.failures or window.slow) and (crossing := recent.crossing(now)) is not None:
                machine.open(crossing, now)

    def tick(self, now: float) -> None:
        """Let time do what no request has: end an override, count requests that hang, end probes and long bodies."""
        self._overrides.expire(now)
        self._catch_up(now)

    def override(
        self,
        mode: OverrideMode,
        reason: str,
        actor: str,
        ttl: float | None,
        now: float,
        *,
        fleet: bool = False,
        stamp: int = 0,
    ) -> Override:
        """Force the circuit for `ttl` seconds (None: until removed), in place of an earlier override. `fleet`: the
        whole fleet's is forced, by the word numbered `stamp`.
        """
        self._overrides.expire(now)
        override = Override(mode, reason, actor, now, None if ttl is None else now + ttl, fleet, stamp)
        self._overrides.begin(override, Cause.OVERRIDE_SET, self.state, now)
        return override

    def override_in_force(self, now: float) -> Override | None:
        """The override that holds; changes nothing."""
        return self._overrides.live(now)

    def release_override(self, now: float) -> None:
        """Back to the automatic state, which was kept underneath."""
        self._overrides.expire(now)
        self._overrides.end(Cause.OVERRIDE_REMOVED, now)

    def reset(self, now: float, actor: str = "", reason: str = "") -> None:
        """Closed, with an empty window; an override stays."""
        self._overrides.expire(now)
        self._machine.reset(now, f"reset by {actor or 'unknown'}{because(reason)}")

    def open_with_fleet(self, left: float, reopenings: int, why: str, now: float) -> None:
        """Open for `left` seconds, because the fleet is."""
        self._machine.open_with_fleet(left, reopenings, why, now)

    def close_with_fleet(self, why: str, now: float) -> None:
        """Closed, because the fleet is."""
        self._machine.close_with_fleet(why, now)

    def reconfigure(self, settings: BreakerSettings, refs: Mapping[str, str], now: float) -> None:
        """Go on under changed settings; state and timers stay, and what fits of the window (breaker.md 25)."""
        self._machine.reconfigure(settings, refs, now)
        self._take_up(settings)
        if settings.mode is _OFF and self.state is not _CLOSED:
            self._machine.reset(now, "breaker.mode is off", Cause.SWITCHED_OFF)

    def snapshot(self, now: float) -> CircuitSnapshot:
        """Everything there is to know at `now`; changes nothing."""
        machine, override = self._machine, self._overrides.live(now)
        refused = self.peek(now, safe=True)
        return CircuitSnapshot(
            name=self.name,
            mode=self.settings.mode,
            state=machine.state,
            effective_state=self._overrides.effective(now, self.settings.mode, machine.state),
            override=override,
            since=machine.since,
            next_probe_at=machine.next_probe_at(now),
            retry_after=None if refused is None else refused.retry_after,
            window=machine.recent.view(now),
            trip=machine.trip,
            last_trip=machine.last_trip,
            last_probe=machine.last_probe,
            probes_in_flight=machine.probes.in_flight(now, machine.settings.probe_timeout),
            probe_successes=machine.probes.successes,
            reopenings=machine.reopenings,
            would_have=self.counters.would_have,
            config_ref=machine.refs.get("breaker") or machine.refs.get(""),
        )

    def export(self, now: float) -> SavedCircuit | None:
        """What a new process should know; None when it need not know anything. Changes nothing."""
        machine, override = self._machine, self._overrides.live(now)
        told = machine.last_trip, machine.last_probe
        if machine.state is not State.CLOSED:
            return SavedCircuit(machine.open_period.until, machine.reopenings, machine.trip, override, *told)
        return None if override is None and told == (None, None) else SavedCircuit(None, 0, None, override, *told)

    def restore(self, saved: SavedCircuit, now: float) -> None:
        """Go on where an earlier process ended; what ended meanwhile is not taken up."""
        machine = self._machine
        machine.last_trip, machine.last_probe = saved.last_trip, saved.last_probe
        if saved.open_until is not None and self.settings.mode is not _OFF:
            machine.reopen(saved.open_until, saved, now)
        if saved.override is not None and not saved.override.ended(now):
            self._overrides.begin(saved.override, Cause.RESTORED, self.state, now)

    def _ask_gated(self, gate: Gate, now: float, *, safe: bool) -> Permit | Refusal:
        """`machine.ask` where a probe needs a lease of the fleet."""
        machine = self._machine
        closed = machine.state is _CLOSED
        if not closed and gate.shut and machine.refusal(now, safe=safe) is None:
            machine.passed_over(now, safe=safe)
            return gate.refusal()
        answer = machine.ask(now, safe=safe)
        if isinstance(answer, Refusal):
            return answer if closed else gate.explained(answer)
        if answer.role is Role.PROBE:
            gate.began(answer)
        return answer

    def _ask_above(self, now: float, *, safe: bool) -> Permit | Refusal:
        """`ask` where an override is set or the breaker is off."""
        self._overrides.expire(now)
        override, machine = self._overrides.current, self._machine
        if override is not None and override.mode is OverrideMode.FORCED_OPEN:
            machine.passed_over(now, safe=safe)
            self.counters.rejected += 1
            return refusal(override, now, machine.settings.open_duration)
        if machine.settings.mode is _OFF:
            return Permit(Role.WAVED, NO_GENERATION, now)
        if override is None:
            return self.ask(now, safe=safe)
        answer = machine.ask(now, safe=safe)
        if isinstance(answer, Permit):
            return answer
        if override.mode is OverrideMode.OBSERVE:
            return self._observed(now)
        return Permit(Role.WAVED, NO_GENERATION, now)

    def _observed(self, now: float) -> Permit:
        """Admit what would have been refused if the circuit did more than observe."""
        self.counters.would_refuse += 1
        return Permit(Role.OBSERVED, NO_GENERATION, now)

    def _catch_up(self, now: float) -> None:
        """Do what time has brought about: requests that hang are slow, bodies that flow on are settled by their heads,
        and probes that are overdue end, as such a body or as nothing.
        """
        while (permit := self._waits.due(now)) is not None:
            if permit.verdict is not None:
                self._outlasts(permit, permit.verdict, now)
            elif permit.role is Role.PROBE:
                self._machine.give_up(permit, now)
                if self.gate is not None:
                    self.gate.ended(permit, Outcome.CANCELLED)
            else:
                self._machine.hangs(permit, now)

    def _outlasts(self, permit: Permit, verdict: Verdict, now: float) -> None:
        """Settle a request whose body is not waited for any longer."""
        self._waits.flowing.discard(permit)
        permit.outlasted = True
        self._end(permit, verdict, now, slow=bool(permit.slow))

    def _settled_before(self, permit: Permit) -> None:
        """The end of a request that has its verdict: expected once of a body that outlasted it."""
        if not permit.outlasted:
            raise RuntimeError(f"circuit {self.name}: a permit was settled twice")
        permit.outlasted = False

    def _end(self, permit: Permit, verdict: Verdict, now: float, *, slow: bool) -> None:
        """Count how a request ended, and let the machine learn it."""
        permit.settled = True
        self.counters.settled(permit, verdict.outcome, slow=slow)
        counts = permit.generation == self._machine.generation
        self._machine.settle(permit, verdict, now, slow=slow)
        if self.gate is not None and permit.role is Role.PROBE:
            # Of a probe that the machine no longer waits for, nothing is told but its end.
            self.gate.ended(permit, verdict.outcome if counts else Outcome.CANCELLED, verdict.retry_after)

    def _moved(self, move: Move, now: float) -> None:
        opened = move.target is State.OPEN
        self.counters.would_open += opened and self._overrides.observes(now, self.settings.mode)
        self._publish(
            Transition(
                circuit=self.name,
                source=move.source,
                target=move.target,
                cause=move.cause,
                at=now,
                detail=move.detail,
                window=move.window,
                samples=move.samples,
                next_probe_in=self._machine.open_period.until - now if opened else None,
                config_ref=self._machine.ref(move.cause),
                enforced=self.settings.mode is _ENFORCE and self._overrides.live(now) is None,
            )
        )

    def _override_changed(self, source: Standing, cause: Cause, detail: str, now: float) -> None:
        window = self._machine.recent.view(now)
        self._publish(Transition(self.name, source, self._overrides.standing(self.state), cause, now, detail, window))

    def _publish(self, transition: Transition) -> None:
        self.counters.moved(transition.target, transition.cause)
        self.counters.listener_errors += not self._hooks.tell(transition)

    def _take_up(self, settings: BreakerSettings) -> None:
        """Keep at hand what each request asks of the settings."""
        self._slow_after = settings.slow_after
        self.watches_slow = settings.slow_rate is not None
        self.remarkable = settings.failures | settings.ignore | {TOO_MANY_REQUESTS}
