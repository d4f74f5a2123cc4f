"""A circuit that a fleet shares: what it asks of its gate, and what the gate hears of its probes."""

from __future__ import annotations

import pytest

from sidecar.core.circuit.explanation import OverrideMode
from sidecar.core.circuit.gate import ELSEWHERE, Gate, Lease, ProbeEnd
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit, Refusal, Role
from sidecar.core.config import BreakerMode
from tests.support.circuits import OPEN_FOR, Bench

LEASE = Lease("a|1", 7)


class Shared(Bench):
    """A circuit with a gate, which the fleet holds open for ten seconds."""

    def __init__(self, *, fleet: bool = True, **changes: object) -> None:
        super().__init__(0.0, **changes)
        self.ended: list[ProbeEnd] = []
        self.gate = self.circuit.gate = Gate(self.ended.append)
        if fleet:
            self.gate.shared = True
            self.circuit.open_with_fleet(OPEN_FOR, 0, "two sidecars say so", 0.0)

    def probe(self, now: float = OPEN_FOR, lease: Lease = LEASE) -> Permit:
        self.gate.lend(lease)
        permit = self.admit(now)
        assert permit.role is Role.PROBE
        return permit


def test_a_closed_circuit_opens_with_the_fleet_for_the_fleets_time() -> None:
    bench = Shared()
    assert bench.steps == [("closed", "open", "fleet_opened")]
    refusal = bench.refused(4.0)
    assert (refusal.retry_after, refusal.why) == (6, "the circuit is open: two sidecars say so")
    trip = bench.circuit.snapshot(1.0).trip
    assert trip is not None
    assert (trip.cause.value, trip.detail) == ("fleet_opened", "two sidecars say so")


def test_an_open_circuit_goes_on_with_the_fleets_time_without_an_event() -> None:
    bench = Shared(fleet=False)
    bench.trip()
    bench.circuit.open_with_fleet(20.0, 3, "more say so", 5.0)
    assert bench.steps == [("closed", "open", "failure_threshold")]
    snapshot = bench.circuit.snapshot(5.0)
    assert (snapshot.next_probe_at, snapshot.reopenings) == (25.0, 3)
    assert snapshot.trip is not None
    assert snapshot.trip.cause.value == "failure_threshold"


def test_no_word_of_the_fleet_opens_it_for_longer_than_its_own_longest_period() -> None:
    bench = Shared(fleet=False)
    bench.circuit.open_with_fleet(10**9, 0, "for ever", 0.0)
    assert bench.circuit.snapshot(0.0).next_probe_at == 100.0


def test_a_circuit_that_the_fleet_closes_admits_again() -> None:
    bench = Shared()
    bench.gate.shared = False
    bench.circuit.close_with_fleet("probes succeeded", 3.0)
    assert bench.steps[-1] == ("open", "closed", "fleet_closed")
    assert bench.admit(3.0).role is Role.NORMAL
    bench.circuit.close_with_fleet("again", 3.0)
    assert len(bench.steps) == 2


def test_it_closes_with_the_fleet_as_gently_as_by_its_own_probes() -> None:
    bench = Shared(ramp=10.0)
    bench.circuit.close_with_fleet("probes succeeded", 3.0)
    assert isinstance(bench.circuit.ask(3.0, safe=True), Refusal)


def test_without_a_lease_nobody_probes() -> None:
    bench = Shared()
    assert bench.circuit.wants_lease(OPEN_FOR, safe=True)
    assert bench.circuit.ask(OPEN_FOR, safe=True) == ELSEWHERE
    assert bench.state == "open"
    assert bench.circuit.counters.rejected == 1


def test_one_lease_is_one_probe() -> None:
    bench = Shared(half_open_probes=5)
    bench.probe()
    assert bench.gate.leases == (LEASE,)
    assert bench.circuit.ask(OPEN_FOR, safe=True) == ELSEWHERE
    assert not bench.gate.take_back(LEASE)


def test_a_lease_that_no_probe_took_is_taken_back_and_no_other() -> None:
    bench = Shared(half_open_probes=5)
    mine, yours = Lease("a|1", 7), Lease("a|2", 7)
    bench.gate.lend(mine)
    bench.gate.lend(yours)
    bench.admit(OPEN_FOR)
    assert bench.gate.leases == (mine,)
    assert not bench.gate.take_back(mine)
    assert bench.gate.take_back(yours)
    assert bench.circuit.ask(OPEN_FOR, safe=True) == ELSEWHERE


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.SUCCESS, "closed"),
        (Outcome.FAILURE, "open"),
        (Outcome.CANCELLED, "half_open"),
        (Outcome.NOT_SENT, "half_open"),
        (Outcome.IGNORED, "half_open"),
    ],
)
def test_the_gate_hears_once_how_a_probe_ended_when_the_circuit_has_moved(outcome: Outcome, state: str) -> None:
    bench = Shared()
    permit = bench.probe()
    bench.end(permit, outcome, OPEN_FOR + 1)
    assert bench.state == state
    assert bench.ended == [ProbeEnd(LEASE, outcome)]
    assert bench.gate.leases == ()


def test_the_upstreams_wish_to_wait_is_passed_on() -> None:
    bench = Shared()
    bench.end(bench.probe(), Outcome.THROTTLED, OPEN_FOR, retry_after=4.0)
    assert bench.ended == [ProbeEnd(LEASE, Outcome.THROTTLED, 4.0)]


def test_a_probe_that_is_given_up_is_told_as_one_without_a_verdict() -> None:
    bench = Shared(probe_timeout=5.0)
    permit = bench.probe()
    bench.circuit.tick(OPEN_FOR + 5.0)
    assert bench.ended == [ProbeEnd(LEASE, Outcome.CANCELLED)]
    bench.end(permit, Outcome.SUCCESS, OPEN_FOR + 6.0)
    assert bench.state == "half_open"
    assert bench.ended[1:] == [ProbeEnd(None, Outcome.SUCCESS)]


def test_a_probe_of_an_older_generation_is_told_as_one_without_a_verdict() -> None:
    bench = Shared()
    permit = bench.probe()
    bench.circuit.reset(OPEN_FOR)
    bench.end(permit, Outcome.FAILURE, OPEN_FOR + 1)
    assert bench.ended == [ProbeEnd(LEASE, Outcome.CANCELLED)]


def test_a_probe_that_steps_aside_frees_its_lease_and_its_verdict_still_counts() -> None:
    bench = Shared()
    permit = bench.probe()
    bench.circuit.step_aside(permit)
    bench.circuit.step_aside(permit)
    assert bench.ended == [ProbeEnd(LEASE, Outcome.CANCELLED)]
    assert bench.circuit.wants_lease(OPEN_FOR, safe=True)
    bench.end(permit, Outcome.SUCCESS, OPEN_FOR + 1)
    assert bench.ended[1:] == [ProbeEnd(LEASE, Outcome.SUCCESS)]
    assert bench.state == "closed"


def test_a_lease_is_wanted_only_where_it_would_help() -> None:
    bench = Shared()
    circuit, gate = bench.circuit, bench.gate
    assert not circuit.wants_lease(OPEN_FOR - 1, safe=True)
    gate.asking = 1
    assert not circuit.wants_lease(OPEN_FOR, safe=True)
    gate.asking = 0
    gate.hold_until = OPEN_FOR + 1
    assert not circuit.wants_lease(OPEN_FOR, safe=True)
    assert circuit.peek(OPEN_FOR, safe=True) == ELSEWHERE
    assert circuit.wants_lease(OPEN_FOR + 1, safe=True)
    assert circuit.peek(OPEN_FOR + 1, safe=True) is None
    gate.shared = False
    assert not circuit.wants_lease(OPEN_FOR + 1, safe=True)
    gate.shared = True
    circuit.override(OverrideMode.FORCED_CLOSED, "", "", None, OPEN_FOR + 1)
    assert not circuit.wants_lease(OPEN_FOR + 1, safe=True)


def test_an_unsafe_request_wants_no_lease_while_a_safe_one_may_come() -> None:
    bench = Shared()
    bench.refused(1.0)
    assert not bench.circuit.wants_lease(OPEN_FOR, safe=False)
    assert bench.circuit.wants_lease(OPEN_FOR + 1.0, safe=False)


def test_a_probe_under_way_here_leaves_as_many_leases_as_probes_are_left() -> None:
    bench = Shared(half_open_probes=2)
    bench.probe()
    assert bench.circuit.wants_lease(OPEN_FOR, safe=True)
    bench.gate.asking = 1
    assert not bench.circuit.wants_lease(OPEN_FOR, safe=True)


def test_a_circuit_that_stands_alone_says_so_with_one_object_for_all_refusals() -> None:
    bench = Shared(fleet=False)
    bench.trip()
    one, other = bench.circuit.ask(0.5, safe=True), bench.circuit.ask(0.6, safe=True)
    assert isinstance(one, Refusal)
    assert one is other
    assert "local_only" in one.detail
    assert bench.circuit.peek(0.5, safe=True) == one


def test_a_circuit_that_stands_alone_probes_without_a_lease() -> None:
    bench = Shared(fleet=False)
    permit = bench.half_open()
    bench.end(permit, Outcome.SUCCESS, OPEN_FOR)
    assert bench.state == "closed"
    assert bench.ended == [ProbeEnd(None, Outcome.SUCCESS)]


@pytest.mark.parametrize("mode", [BreakerMode.OBSERVE, BreakerMode.OFF])
def test_one_that_refuses_nobody_has_no_gate_to_wait_at(mode: BreakerMode) -> None:
    bench = Bench(0.0, mode=mode)
    assert not bench.circuit.wants_lease(0.0, safe=True)
