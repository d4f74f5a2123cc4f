"""What lies above the automatic machine: modes, overrides, counters, events, snapshots (breaker.md 21–28)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sidecar.core.circuit.circuit import Circuit
from sidecar.core.circuit.explanation import LastProbe, OverrideMode, SavedCircuit, Transition
from sidecar.core.circuit.hooks import Hooks
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit, Refusal, Role, Verdict
from sidecar.core.config import BreakerMode
from tests.support.circuits import OPEN_FOR, SETTINGS, Bench, sample

if TYPE_CHECKING:
    from collections.abc import Callable

S, F, CANCELLED, NOT_SENT = Outcome.SUCCESS, Outcome.FAILURE, Outcome.CANCELLED, Outcome.NOT_SENT
FORCED_OPEN, FORCED_CLOSED, OBSERVE = OverrideMode.FORCED_OPEN, OverrideMode.FORCED_CLOSED, OverrideMode.OBSERVE


def force(bench: Bench, mode: OverrideMode, now: float, ttl: float | None = 60.0) -> None:
    bench.circuit.override(mode, "deploy", "ann", ttl, now)


# 21: reading


@pytest.mark.parametrize("state", ["closed", "open", "due", "half_open", "flowing", "forced_open"])
def test_reading_changes_nothing_and_consumes_no_permit(state: str) -> None:
    bench = Bench()
    now = 1.0
    if state != "closed":
        bench.trip(0.0)
    if state in ("half_open", "flowing"):
        probe = bench.admit(OPEN_FOR)
        if state == "flowing":
            bench.head(probe, OPEN_FOR)
    if state in ("due", "half_open", "flowing"):
        now = OPEN_FOR + 1.0
    if state == "forced_open":
        force(bench, FORCED_OPEN, 0.0)
    before = bench.circuit.snapshot(now), list(bench.events), bench.circuit.counters.rejected
    for later in (now, now + 3.0, now + 1e7, now):
        bench.circuit.snapshot(later)
        bench.circuit.peek(later, safe=True)
        bench.circuit.probing(later)
        bench.circuit.export(later)
    assert (bench.circuit.snapshot(now), bench.events, bench.circuit.counters.rejected) == before


def test_a_look_at_the_refusal_counts_and_acquires_nothing() -> None:
    bench = Bench()
    assert bench.circuit.peek(0.0, safe=True) is None
    bench.trip(0.0)
    assert bench.circuit.ask(1.0, safe=True) == bench.circuit.peek(1.0, safe=True)
    assert bench.circuit.counters.rejected == 1
    assert bench.circuit.peek(OPEN_FOR, safe=True) is None
    assert bench.circuit.snapshot(OPEN_FOR).probes_in_flight == 0


# 22–24: overrides


def _tripped_and(bench: Bench, mode: OverrideMode) -> None:
    bench.trip()
    force(bench, mode, 0.0)


def _probing(bench: Bench) -> None:
    bench.trip()
    bench.admit(OPEN_FOR)


STANDINGS: dict[str, tuple[dict[str, object], Callable[[Bench], None], float]] = {
    "closed": ({}, lambda _: None, 0.0),
    "open": ({}, Bench.trip, 1.0),
    "open period over": ({}, Bench.trip, OPEN_FOR),
    "half-open, probe under way": ({}, _probing, OPEN_FOR + 1.0),
    "forced open": ({}, lambda bench: force(bench, FORCED_OPEN, 0.0), 1.0),
    "open, forced closed": ({}, lambda bench: _tripped_and(bench, FORCED_CLOSED), 1.0),
    "open, observed": ({}, lambda bench: _tripped_and(bench, OBSERVE), 1.0),
    "observing": ({"mode": BreakerMode.OBSERVE}, Bench.trip, 1.0),
}


@pytest.mark.parametrize(("changes", "prepare", "now"), STANDINGS.values(), ids=STANDINGS.keys())
def test_asking_refuses_what_the_look_says_and_counts_that(
    changes: dict[str, object], prepare: Callable[[Bench], None], now: float
) -> None:
    bench = Bench(**changes)
    prepare(bench)
    certain = bench.circuit.peek(now, safe=True) is not None
    before = bench.circuit.counters.rejected

    assert isinstance(bench.circuit.ask(now, safe=True), Refusal) is certain

    assert bench.circuit.counters.rejected - before == certain


def test_forced_open_refuses_all() -> None:
    bench = Bench()
    force(bench, FORCED_OPEN, 0.0)
    refusal = bench.refused(1.5)
    assert refusal.why == "the circuit is forced_open for 60s by ann: deploy"
    assert refusal.retry_after == 59
    assert bench.circuit.snapshot(1.0).effective_state is FORCED_OPEN
    assert bench.circuit.snapshot(1.0).state.value == "closed"


def test_forced_open_without_an_end_has_clients_ask_again_after_open_duration() -> None:
    bench = Bench()
    force(bench, FORCED_OPEN, 0.0, ttl=None)
    assert bench.refused(1e6).retry_after == OPEN_FOR


def test_forced_open_refuses_also_where_the_breaker_is_off() -> None:
    bench = Bench(mode=BreakerMode.OFF)
    force(bench, FORCED_OPEN, 0.0)
    bench.refused(0.0)


def test_forced_closed_admits_all_while_the_machine_runs_on_underneath() -> None:
    bench = Bench()
    force(bench, FORCED_CLOSED, 0.0)
    for _ in range(9):
        bench.call(F, 0.0)
    assert bench.circuit.snapshot(0.0).effective_state is FORCED_CLOSED
    assert bench.steps == [("closed", "forced_closed", "override_set"), ("closed", "open", "failure_threshold")]
    assert not bench.events[1].enforced
    bench.circuit.release_override(1.0)
    bench.refused(1.0)


def test_under_forced_closed_requests_probe_and_close_the_circuit() -> None:
    bench = Bench()
    bench.trip(0.0)
    force(bench, FORCED_CLOSED, 0.0)
    probe, waved = bench.admit(OPEN_FOR), bench.admit(OPEN_FOR)
    assert (probe.role, waved.role) == (Role.PROBE, Role.WAVED)
    bench.end(waved, F, OPEN_FOR)
    assert bench.state == "half_open"
    bench.end(probe, S, OPEN_FOR)
    assert bench.state == "closed"


@pytest.mark.parametrize("by", ["mode", "override"])
def test_observing_admits_all_and_counts_what_it_would_have_done(by: str) -> None:
    bench = Bench(mode=BreakerMode.OBSERVE if by == "mode" else BreakerMode.ENFORCE)
    if by == "override":
        force(bench, OBSERVE, 0.0)
    for end in [F] * 3 + [F, F, F, S, CANCELLED]:
        bench.call(end, 0.0)
    snapshot = bench.circuit.snapshot(0.0)
    assert snapshot.would_have.sentence == "would have opened 1 time, refused 5 requests, avoided 3 failures"
    assert (snapshot.state.value, snapshot.effective_state.value) == ("open", "closed")
    assert (snapshot.retry_after, bench.circuit.counters.rejected) == (None, 0)
    assert not bench.events[-1].enforced


def test_an_override_expires_by_itself_with_an_event() -> None:
    bench = Bench()
    force(bench, FORCED_OPEN, 0.0)
    bench.refused(59.9)
    assert bench.circuit.snapshot(60.0).override is None
    bench.admit(60.0)
    assert bench.steps[-1] == ("forced_open", "closed", "override_expired")
    assert bench.events[-1].detail == "the forced_open override by ann expired: deploy"


def test_an_override_expires_also_when_no_request_comes() -> None:
    bench = Bench()
    force(bench, OBSERVE, 0.0)
    bench.circuit.tick(60.0)
    bench.circuit.tick(61.0)
    assert bench.steps[1:] == [("observe", "closed", "override_expired")]


def test_only_what_time_alone_may_change_needs_ticks() -> None:
    bench = Bench()
    needed = [bench.circuit.needs_tick]
    force(bench, OBSERVE, 0.0)
    needed.append(bench.circuit.needs_tick)
    bench.circuit.tick(60.0)
    needed.append(bench.circuit.needs_tick)
    bench.head(bench.admit(60.0), 60.0)
    needed.append(bench.circuit.needs_tick)
    bench.circuit.tick(65.0)
    needed.append(bench.circuit.needs_tick)
    assert needed == [False, True, False, True, False]
    probing = Bench()
    probing.half_open()
    assert probing.circuit.needs_tick
    assert Bench(slow_rate=0.5).circuit.needs_tick


def test_a_removed_override_tells_so_once() -> None:
    bench = Bench()
    force(bench, FORCED_OPEN, 0.0)
    for _ in range(2):
        bench.circuit.release_override(1.0)
    assert bench.steps[1:] == [("forced_open", "closed", "override_removed")]


def test_an_override_takes_the_place_of_an_earlier_one() -> None:
    bench = Bench()
    force(bench, FORCED_OPEN, 0.0)
    bench.circuit.override(FORCED_CLOSED, "", "", None, 1.0)
    bench.admit(1.0)
    assert bench.events[-1].detail == "forced_closed until removed by unknown"
    assert bench.steps[-1] == ("forced_open", "forced_closed", "override_set")


@pytest.mark.parametrize("now", [9.999, 10.0, 10.001, 1e6])
def test_no_request_passes_after_forced_open_whatever_the_automatic_half_open_does(now: float) -> None:
    bench = Bench()
    bench.trip(0.0)
    force(bench, FORCED_OPEN, 9.0, ttl=None)
    for safe in (True, False):
        bench.refused(now, safe=safe)
    assert bench.state == "open"
    assert not bench.circuit.probing(now)


def test_releasing_forced_open_returns_to_the_state_underneath() -> None:
    bench = Bench()
    force(bench, FORCED_OPEN, 0.0)
    bench.circuit.release_override(1.0)
    assert bench.admit(1.0).role is Role.NORMAL


def test_an_override_survives_a_reload_and_a_reset() -> None:
    bench = Bench()
    bench.trip(0.0)
    force(bench, FORCED_OPEN, 0.0)
    bench.circuit.reconfigure(replace(SETTINGS, open_duration=3.0), {}, 1.0)
    bench.circuit.reset(2.0, "bob")
    bench.refused(2.0)
    assert bench.steps[-1] == ("open", "closed", "reset")
    assert bench.events[-1].detail == "reset by bob"
    bench.circuit.reset(2.5, reason="fixed")
    assert bench.events[-1].detail == "reset by unknown: fixed"


def test_a_reset_closes_with_an_empty_window_and_starts_the_growth_anew() -> None:
    bench = Bench()
    bench.end(bench.half_open(), F, 10.0)
    bench.circuit.reset(11.0)
    snapshot = bench.circuit.snapshot(11.0)
    assert (snapshot.state.value, snapshot.window.requests, snapshot.trip) == ("closed", 0, None)
    assert snapshot.reopenings == 0
    bench.trip(11.0)
    assert bench.circuit.snapshot(11.0).next_probe_at == 21.0


# Modes


def test_mode_off_admits_all_and_does_no_circuit_work() -> None:
    bench = Bench(mode=BreakerMode.OFF)
    for _ in range(20):
        bench.call(F, 0.0)
    assert bench.steps == []
    assert bench.circuit.snapshot(0.0).window.requests == 0


def test_switching_off_closes_an_open_circuit() -> None:
    bench = Bench()
    bench.trip(0.0)
    bench.circuit.reconfigure(replace(SETTINGS, mode=BreakerMode.OFF), {"breaker.mode": "sidecar.yaml:9"}, 1.0)
    assert bench.steps[-1] == ("open", "closed", "switched_off")
    assert bench.events[-1].config_ref == "sidecar.yaml:9"
    bench.admit(1.0)


def test_switching_from_observe_to_enforce_refuses_at_once_what_was_open_underneath() -> None:
    bench = Bench(mode=BreakerMode.OBSERVE)
    bench.trip(0.0)
    bench.circuit.reconfigure(SETTINGS, {}, 1.0)
    bench.refused(1.0)


# 27, 28: explanation


def test_a_trip_is_explained_with_numbers_samples_next_probe_and_where_the_setting_stands() -> None:
    bench = Bench()
    for now in (1.0, 2.0, 3.0):
        bench.call(F, now)
    (event,) = bench.events
    assert event.detail == "3 consecutive failures, failure_threshold is 3"
    assert (event.at, event.next_probe_in, event.config_ref) == (3.0, 10.0, "sidecar.yaml:7")
    assert [sample.at for sample in event.samples] == [1.0, 2.0, 3.0]
    assert (event.window.requests, event.window.failures, event.window.consecutive_failures) == (3, 3, 3)
    trip = bench.circuit.snapshot(4.0).trip
    assert trip is not None
    assert (trip.detail, trip.samples, trip.config_ref) == (event.detail, event.samples, event.config_ref)


TRIP = "3 consecutive failures, failure_threshold is 3"
PROBE_FAILED = "the last probe failed: GET /items answered 503"


def test_failed_probes_do_not_hide_why_it_is_open() -> None:
    bench = Bench()
    bench.trip(0.0)
    before = bench.circuit.snapshot(1.0)
    assert before.trip is not None
    assert (before.trip.window.requests, before.last_probe, before.last_trip) == (3, None, None)
    assert bench.refused(1.0).why == f"the circuit is open: {TRIP}"
    now = 0.0
    for _ in range(3):
        now = bench.circuit.snapshot(now).next_probe_at or 0.0
        bench.call(F, now)
        after = bench.circuit.snapshot(now)
        assert (after.trip, after.last_trip) == (before.trip, None)
        assert after.last_probe == LastProbe(now, F, sample(now))
        assert bench.refused(now).why == f"the circuit is open: {TRIP}; {PROBE_FAILED}"
    assert bench.events[-1].detail == "a probe failed: GET /items answered 503"


@pytest.mark.parametrize("by", ["probes", "reset", "switched off"])
def test_a_trip_is_kept_until_it_is_closed_again_and_as_the_last_one_after_that(by: str) -> None:
    bench = Bench(success_threshold=2)
    probe = bench.half_open()
    bench.end(probe, S, OPEN_FOR)
    trip = bench.circuit.snapshot(OPEN_FOR).trip
    assert trip is not None
    match by:
        case "probes":
            bench.call(S, OPEN_FOR + 1.0)
        case "reset":
            bench.circuit.reset(OPEN_FOR + 1.0)
        case _:
            bench.circuit.reconfigure(replace(SETTINGS, mode=BreakerMode.OFF), {}, OPEN_FOR + 1.0)
            bench.circuit.reconfigure(SETTINGS, {}, OPEN_FOR + 1.0)
    closed = bench.circuit.snapshot(OPEN_FOR + 1.0)
    assert (closed.state.value, closed.trip, closed.last_trip) == ("closed", None, trip)
    bench.trip(50.0)
    again = bench.circuit.snapshot(50.0)
    assert again.trip is not None
    assert (again.trip.at, again.last_trip) == (50.0, trip)
    assert bench.refused(50.0).why == f"the circuit is open: {TRIP}"
    bench.circuit.reset(51.0)
    assert bench.circuit.snapshot(51.0).last_trip == again.trip


@pytest.mark.parametrize(
    ("end", "told"),
    [*[(end, True) for end in (S, F, Outcome.THROTTLED, Outcome.IGNORED)], (CANCELLED, False), (NOT_SENT, False)],
    ids=lambda value: value.value if isinstance(value, Outcome) else str(value),
)
def test_the_last_probe_is_one_that_met_the_upstream(
    end: Outcome,
    told: bool,  # noqa: FBT001 - a column of the table
) -> None:
    bench = Bench(success_threshold=9)
    bench.end(bench.half_open(), end, 11.0)
    expected = LastProbe(11.0, end, sample(11.0)) if told else None
    assert bench.circuit.snapshot(11.0).last_probe == expected


def test_a_probe_that_brought_nothing_in_time_is_the_last_one() -> None:
    bench = Bench()
    probe = bench.half_open()
    bench.circuit.tick(OPEN_FOR + 5.0)
    bench.end(probe, F, OPEN_FOR + 6.0)
    assert bench.circuit.snapshot(OPEN_FOR + 6.0).last_probe == LastProbe(OPEN_FOR + 5.0)


def test_a_probe_whose_body_flows_on_is_the_last_one() -> None:
    bench = Bench()
    bench.head(bench.half_open(), OPEN_FOR, Verdict(S, lambda: sample(1.0)))
    bench.circuit.tick(OPEN_FOR + 5.0)
    assert bench.circuit.snapshot(OPEN_FOR + 5.0).last_probe == LastProbe(OPEN_FOR + 5.0, S, sample(1.0))


@pytest.mark.parametrize(
    ("refs", "expected"),
    [
        ({"breaker.failure_threshold": "f:3", "breaker": "f:2", "": "f:1"}, "f:3"),
        ({"breaker": "f:2", "": "f:1"}, "f:2"),
        ({"": "f:1"}, "f:1"),
        ({}, None),
    ],
    ids=["the setting", "its block", "the route", "nowhere"],
)
def test_the_reference_is_to_the_nearest_place_a_file_names(refs: dict[str, str], expected: str | None) -> None:
    events: list[Transition] = []
    circuit = Circuit("c", SETTINGS, Hooks(lambda: 0.5, events.append, lambda _: None), 0.0, refs)
    for _ in range(3):
        permit = circuit.ask(0.0, safe=True)
        assert isinstance(permit, Permit)
        circuit.settle(permit, F, 0.0)
    assert events[0].config_ref == expected


def test_every_settled_request_is_counted_by_outcome_also_late_ones() -> None:
    bench = Bench()
    late = bench.admit(0.0)
    bench.trip(0.0)
    bench.end(late, CANCELLED, 60.0)
    calls = bench.circuit.counters.calls
    assert (calls["failure"], calls["cancelled"], calls["success"], calls["slow"]) == (3, 1, 0, 0)
    assert set(calls) == {"success", "failure", "slow", "throttled", "ignored", "cancelled", "not_sent"}


def test_a_listener_that_raises_never_disturbs_the_machine() -> None:
    failures: list[Exception] = []

    def listener(_: Transition) -> None:
        raise ValueError("full disk")

    circuit = Circuit("c", SETTINGS, Hooks(lambda: 0.5, listener, failures.append), 0.0)
    for _ in range(3):
        permit = circuit.ask(0.0, safe=True)
        assert isinstance(permit, Permit)
        circuit.settle(permit, F, 0.0)
    assert circuit.peek(1.0, safe=True) is not None
    assert circuit.counters.listener_errors == 1
    assert [str(failure) for failure in failures] == ["full disk"]


# 23: a restart


def test_an_open_circuit_goes_on_after_a_restart() -> None:
    before = Bench()
    before.end(before.half_open(), F, 10.0)
    saved = before.circuit.export(11.0)
    assert saved is not None
    after = Bench(11.0)
    after.circuit.restore(saved, 11.0)
    assert after.refused(11.0).why == before.refused(11.0).why
    assert after.steps == [("closed", "open", "restored")]
    after.call(F, 30.0)
    assert after.circuit.snapshot(30.0).next_probe_at == 70.0


def test_what_it_tells_of_trips_and_probes_survives_a_restart() -> None:
    before = Bench()
    before.end(before.half_open(), S, 10.0)
    closed = before.circuit.export(11.0)
    before.trip(12.0)
    opened = before.circuit.export(13.0)
    for saved, at in ((closed, 11.0), (opened, 13.0)):
        assert saved is not None
        after = Bench(at)
        after.circuit.restore(saved, at)
        told = after.circuit.snapshot(at)
        assert (told.trip, told.last_trip, told.last_probe) == (saved.trip, saved.last_trip, saved.last_probe)
        assert told.last_trip is not None
        assert told.last_probe is not None
        assert after.circuit.export(at) == saved


def test_after_a_restart_without_a_reason_failed_probes_still_tell_what_they_met() -> None:
    bench = Bench()
    bench.circuit.restore(SavedCircuit(open_until=5.0), 0.0)
    bench.call(F, 5.0)
    assert bench.circuit.snapshot(5.0).trip is None
    assert bench.refused(5.0).why == f"the circuit is open: no reason recorded; {PROBE_FAILED}"


def test_growth_goes_on_when_a_circuit_trips_soon_after_a_restored_period() -> None:
    bench = Bench()
    bench.circuit.restore(SavedCircuit(open_until=19.0, reopenings=1), 0.0)
    bench.call(S, 19.0)
    bench.trip(20.0)
    assert bench.circuit.snapshot(20.0).next_probe_at == 60.0


def test_a_half_open_circuit_probes_at_once_after_a_restart() -> None:
    before = Bench()
    before.half_open()
    saved = before.circuit.export(OPEN_FOR)
    assert saved is not None
    after = Bench(OPEN_FOR)
    after.circuit.restore(saved, OPEN_FOR)
    assert after.admit(OPEN_FOR).role is Role.PROBE


def test_a_closed_circuit_without_override_needs_no_saving() -> None:
    bench = Bench()
    assert bench.circuit.export(0.0) is None
    force(bench, FORCED_OPEN, 0.0)
    assert bench.circuit.export(60.0) is None


@pytest.mark.parametrize(("now", "taken_up"), [(59.0, True), (60.0, False)], ids=["still on", "ended meanwhile"])
def test_an_override_survives_a_restart_until_it_ends(now: float, taken_up: bool) -> None:  # noqa: FBT001 - a column of the table
    before = Bench()
    force(before, FORCED_OPEN, 0.0)
    saved = before.circuit.export(1.0)
    assert saved is not None
    after = Bench(now)
    after.circuit.restore(saved, now)
    assert after.steps == ([("closed", "forced_open", "restored")] if taken_up else [])


def test_a_saved_period_beyond_the_maximum_is_cut_to_it() -> None:
    bench = Bench()
    bench.circuit.restore(SavedCircuit(open_until=1e9), 0.0)
    assert bench.circuit.snapshot(0.0).next_probe_at == 100.0
    assert bench.refused(0.0).why == "the circuit is open: no reason recorded"


def test_a_circuit_that_is_off_now_does_not_take_up_an_open_period() -> None:
    bench = Bench(mode=BreakerMode.OFF)
    bench.circuit.restore(SavedCircuit(open_until=50.0), 0.0)
    assert bench.state == "closed"
