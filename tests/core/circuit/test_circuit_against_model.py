"""Random interleavings against a naive model (breaker.md §7), and the invariant that no state can wedge."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sidecar.core.circuit.circuit import Circuit
from sidecar.core.circuit.explanation import OverrideMode, Transition
from sidecar.core.circuit.hooks import Hooks
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import HEALTHY, Permit, Verdict
from sidecar.core.circuit.transitions import possible_transitions
from sidecar.core.config import Backoff, BreakerSettings, CountWindow, TimeWindow
from tests.support.circuits import require_row
from tests.support.naive_circuit import NaiveCircuit, Ticket

BASE = BreakerSettings(
    failure_threshold=3,
    failure_rate=0.5,
    slow_rate=None,
    slow_after=2.0,
    window=TimeWindow(10.0),
    minimum_requests=4,
    open_duration=8.0,
    backoff=Backoff(2.0, 40.0, 0.0),
    half_open_probes=2,
    success_threshold=2,
    probe_timeout=4.0,
)
VARIANTS = [
    BASE,
    replace(BASE, slow_rate=0.5, failure_threshold=None),
    replace(BASE, slow_rate=0.75, slow_after=1.0, window=CountWindow(6)),
    replace(BASE, window=CountWindow(5), failure_threshold=None, half_open_probes=1),
    replace(BASE, window=TimeWindow(40.0), failure_rate=0.75, success_threshold=3),
    replace(BASE, failure_rate=None, open_duration=1.0, probe_timeout=0.5, half_open_probes=3, success_threshold=1),
]
ACTS = st.sampled_from([*OverrideMode, *["let go"] * 6, "reset", *VARIANTS])
POSSIBLE = {each for settings in VARIANTS for each in possible_transitions(settings, restorable=False)}
STEPS_PER_RUN = 10_000
REQUEST_TIME = 0.25


class CircuitAgainstModel(RuleBasedStateMachine):
    steps_taken = 0

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.events: list[Transition] = []
        hooks = Hooks(lambda: 0.5, self._note, lambda error: pytest.fail(str(error)))
        self.circuit = Circuit("model", BASE, hooks, self.now)
        self.model = NaiveCircuit(BASE, self.now, since=self.now, open_until=self.now)
        self.requests: list[tuple[Permit, Ticket]] = []
        self.bodies_are_endless = False

    def _note(self, event: Transition) -> None:
        require_row(event)
        self.events.append(event)

    @initialize(variant=st.sampled_from(VARIANTS), endless=st.booleans())
    def it_starts_with_some_settings(self, variant: BreakerSettings, endless: bool) -> None:  # noqa: FBT001 - drawn by name
        self.bodies_are_endless = endless
        self.circuit.reconfigure(variant, {}, self.now)
        self.model.reconfigure(variant)

    @invariant()
    def nothing_happens_that_the_metrics_did_not_expect(self) -> None:
        assert {(event.target, event.cause) for event in self.events} <= POSSIBLE

    @rule(seconds=st.sampled_from([0.125, 0.5, 1.0, 2.0, 2.125, 8.0, 16.0, 40.0, 31_536_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.model.now = self.now

    @rule()
    def the_open_period_ends(self) -> None:
        next_probe_at = self.circuit.snapshot(self.now).next_probe_at
        self.time_passes(max((next_probe_at or self.now) - self.now, 0.0))

    @rule(seconds=st.sampled_from([0.0, 1.5, 3.0]), outcome=st.sampled_from([Outcome.SUCCESS, Outcome.FAILURE]))
    def a_burst(self, seconds: float, outcome: Outcome) -> None:
        self.requests_come(safe=True, count=5)
        self.time_passes(seconds)
        self.all_requests_end(outcome)

    @rule(safe=st.booleans(), count=st.integers(1, 4))
    def requests_come(self, safe: bool, count: int) -> None:  # noqa: FBT001 - drawn by name
        for _ in range(count):
            certain = self.circuit.peek(self.now, safe=safe)
            verdict = self.circuit.ask(self.now, safe=safe)
            ticket = self.model.ask(safe=safe)
            assert isinstance(verdict, Permit) is (ticket is not None)
            if isinstance(verdict, Permit) and ticket is not None:
                assert certain is None
                assert verdict.role.value == ticket.role
                self.requests.append((verdict, ticket))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def a_request_is_sent_whole(self, data: st.DataObject) -> None:
        permit, ticket = data.draw(st.sampled_from(self.requests))
        if permit.slow is None:
            self.circuit.sent(permit, self.now)
            self.model.sent(ticket)

    @rule()
    def all_requests_are_sent_whole(self) -> None:
        for permit, ticket in self.requests:
            if permit.slow is None:
                self.circuit.sent(permit, self.now)
                self.model.sent(ticket)

    @rule(safe=st.booleans())
    def somebody_looks_whether_it_refuses(self, safe: bool) -> None:  # noqa: FBT001 - drawn by name
        self.the_circuit_ticks()
        rejected = self.circuit.counters.rejected
        certain = self.circuit.peek(self.now, safe=safe)
        assert self.circuit.peek(self.now, safe=safe) == certain
        assert self.circuit.counters.rejected == rejected

    @precondition(lambda self: self.requests)
    @rule(
        data=st.data(),
        outcome=st.sampled_from([Outcome.SUCCESS, Outcome.FAILURE, *Outcome]),
        retry_after=st.sampled_from([None, None, 0.0, 20.0, 1e9]),
    )
    def a_request_ends(self, data: st.DataObject, outcome: Outcome, retry_after: float | None) -> None:
        permit, ticket = self.requests.pop(data.draw(st.integers(0, len(self.requests) - 1)))
        self.circuit.settle(permit, outcome, self.now, retry_after=retry_after)
        self.model.settle(ticket, outcome.value, retry_after)

    @precondition(lambda self: self.requests)
    @rule(
        data=st.data(),
        outcome=st.sampled_from([Outcome.SUCCESS, Outcome.SUCCESS, *Outcome]),
        retry_after=st.sampled_from([None, 20.0]),
    )
    def a_head_arrives(self, data: st.DataObject, outcome: Outcome, retry_after: float | None) -> None:
        permit, ticket = data.draw(st.sampled_from(self.requests))
        if permit.slow is None:
            self.circuit.answered(permit, self.now, Verdict(outcome, None, retry_after))
            self.model.answered(ticket, outcome.value, retry_after)

    @rule(outcome=st.sampled_from([Outcome.SUCCESS, Outcome.FAILURE]))
    def all_requests_end(self, outcome: Outcome) -> None:
        while self.requests:
            permit, ticket = self.requests.pop(0)
            self.circuit.settle(permit, outcome, self.now)
            self.model.settle(ticket, outcome.value, None)

    @rule()
    def the_circuit_ticks(self) -> None:
        self.circuit.tick(self.now)
        self.model.expire()
        self.model.catch_up()

    @rule(act=ACTS, ttl=st.sampled_from([1.0, 20.0]))
    def an_operator_acts(self, act: OverrideMode | str | BreakerSettings, ttl: float) -> None:
        if isinstance(act, OverrideMode):
            self.circuit.override(act, "", "", ttl, self.now)
            self.model.force(act.value, ttl)
        elif isinstance(act, BreakerSettings):
            self.circuit.reconfigure(act, {}, self.now)
            self.model.reconfigure(act)
        elif act == "reset":
            self.circuit.reset(self.now)
            self.model.reset()
        else:
            self.circuit.release_override(self.now)
            self.model.release()

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        type(self).steps_taken += 1
        snapshot = self.circuit.snapshot(self.now)
        window = snapshot.window
        assert snapshot.state.value == self.model.state
        assert (window.requests, window.failures, window.slow, window.consecutive_failures) == self.model.window()
        assert [(e.source.value, e.target.value, e.cause.value) for e in self.events] == self.model.steps
        in_time = [probe for probe in self.model.probes if self.now < probe.started + self.model.settings.probe_timeout]
        assert snapshot.probes_in_flight == len(in_time) <= max(variant.half_open_probes for variant in VARIANTS)
        if self.model.state == "open":
            assert snapshot.next_probe_at == self.model.open_until

    @invariant()
    def each_request_is_counted_once_it_is_settled(self) -> None:
        assert [permit.settled for permit, _ in self.requests] == [ticket.settled for _, ticket in self.requests]

    @invariant()
    def no_total_is_negative_or_larger_than_the_whole(self) -> None:
        window = self.circuit.snapshot(self.now).window
        assert 0 <= window.failures <= window.requests
        assert 0 <= window.slow <= window.requests

    @invariant()
    def transitions_are_counted_once_each(self) -> None:
        assert sum(self.circuit.counters.transitions.values()) == len(self.events)

    def teardown(self) -> None:
        """Whatever happened: with a healthy upstream and requests arriving, it is closed within the bound."""
        self.circuit.release_override(self.now)
        for permit, _ in self.requests:
            if permit.verdict is not None:
                # A bad head from before is not the healthy upstream's.
                self.circuit.settle(permit, Outcome.CANCELLED, self.now)
        limits = self.circuit.settings
        snapshot = self.circuit.snapshot(self.now)
        left = max((snapshot.next_probe_at or self.now) - self.now, 0.0)
        rounds = limits.success_threshold if self.bodies_are_endless else 1
        deadline = self.now + left + (1 + rounds) * limits.probe_timeout + limits.success_threshold * REQUEST_TIME
        while self.circuit.state.value != "closed":
            assert self.now <= deadline, "the circuit is wedged"
            verdict = self.circuit.ask(self.now, safe=True)
            self.now += REQUEST_TIME
            if isinstance(verdict, Permit):
                if self.bodies_are_endless:
                    self.circuit.answered(verdict, self.now, HEALTHY)
                else:
                    self.circuit.settle(verdict, Outcome.SUCCESS, self.now)


def test_no_interleaving_differs_from_the_naive_model() -> None:
    in_profile = settings().max_examples
    CircuitAgainstModel.steps_taken = 0
    run_state_machine_as_test(
        CircuitAgainstModel,
        settings=settings(
            max_examples=max(160, in_profile),
            stateful_step_count=100,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert CircuitAgainstModel.steps_taken >= STEPS_PER_RUN
