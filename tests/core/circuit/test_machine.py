"""The automatic machine through the circuit that owns it: breaker.md, lines 1–17 and 25."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import HEALTHY, Permit, Role, Verdict
from sidecar.core.config import Backoff, CountWindow, TimeWindow
from tests.support.circuits import OPEN_FOR, SETTINGS, Bench, sample

S, F, T = Outcome.SUCCESS, Outcome.FAILURE, Outcome.THROTTLED
IGNORED, CANCELLED, NOT_SENT = Outcome.IGNORED, Outcome.CANCELLED, Outcome.NOT_SENT
NO_VERDICT = [IGNORED, CANCELLED, NOT_SENT]
BACKOFF = Backoff(2.0, 100.0, 0.0)


# §1: what each outcome does


@pytest.mark.parametrize(
    ("outcome", "consecutive", "requests", "failures"),
    [(S, 0, 3, 2), (F, 3, 3, 3), (T, 2, 3, 3), (IGNORED, 2, 2, 2), (CANCELLED, 2, 2, 2), (NOT_SENT, 2, 2, 2)],
    ids=lambda value: value.value if isinstance(value, Outcome) else str(value),
)
def test_each_outcome_counts_in_closed_as_the_table_says(
    outcome: Outcome, consecutive: int, requests: int, failures: int
) -> None:
    bench = Bench(failure_threshold=9)
    for end in (F, F, outcome):
        bench.call(end, 0.0)
    window = bench.circuit.snapshot(0.0).window
    assert (window.consecutive_failures, window.requests, window.failures) == (consecutive, requests, failures)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(S, "closed"), (F, "open"), *[(end, "half_open") for end in (T, *NO_VERDICT)]],
    ids=lambda value: value.value if isinstance(value, Outcome) else str(value),
)
def test_each_outcome_of_a_probe_does_as_the_table_says(outcome: Outcome, state: str) -> None:
    bench = Bench()
    probe = bench.half_open()
    bench.end(probe, outcome, 11.0)
    assert bench.state == state
    assert bench.circuit.snapshot(11.0).probes_in_flight == 0


def test_a_slow_healthy_probe_counts_as_healthy() -> None:
    bench = Bench(slow_rate=0.1, slow_after=1.0)
    bench.end(bench.half_open(), S, 14.0)
    assert bench.state == "closed"


@pytest.mark.parametrize(("took", "slow"), [(2.0, 0), (2.1, 1)], ids=["as long as slow_after", "longer"])
@pytest.mark.parametrize("outcome", [S, F], ids=["success", "failure"])
def test_slow_means_longer_than_slow_after(outcome: Outcome, took: float, slow: int) -> None:
    bench = Bench()
    bench.call(outcome, 0.0, took=took)
    assert bench.circuit.snapshot(3.0).window.slow == bench.circuit.counters.calls["slow"] == slow


def test_a_slow_429_is_throttled_and_not_slow() -> None:
    bench = Bench()
    bench.call(T, 0.0, took=9.0)
    assert bench.circuit.snapshot(9.0).window.slow == bench.circuit.counters.calls["slow"] == 0


def test_slowness_is_measured_to_the_head_not_to_the_end_of_a_long_body() -> None:
    bench = Bench(slow_rate=0.1)
    permit = bench.admit(0.0)
    bench.head(permit, 0.5)
    bench.circuit.tick(60.0)
    bench.end(permit, S, 60.0)
    assert bench.circuit.snapshot(60.0).window.slow == 0


@pytest.mark.parametrize(
    ("sent", "head", "slow"),
    [(5.0, 7.0, 0), (5.0, 7.1, 1), (None, 60.0, 0), (0.0, 2.1, 1)],
    ids=["as long as slow_after since it was sent", "longer", "never sent", "sent at once"],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_slow_is_what_the_upstream_takes_once_the_request_is_sent(
    sent: float | None,
    head: float,
    slow: int,
    streamed: bool,  # noqa: FBT001 - a column of the table
) -> None:
    bench = Bench(probe_timeout=100.0)
    permit = bench.circuit.ask(0.0, safe=True)
    assert isinstance(permit, Permit)
    if sent is not None:
        bench.circuit.sent(permit, sent)
    if streamed:
        bench.head(permit, head)
    bench.end(permit, S, head)
    assert bench.circuit.snapshot(head).window.slow == bench.circuit.counters.calls["slow"] == slow


# 1, 2: generations


@pytest.mark.parametrize("late", [S, F, T, *NO_VERDICT], ids=lambda end: end.value)
@pytest.mark.parametrize("state", ["open", "half_open", "closed"])
def test_a_result_of_an_older_generation_is_dropped(state: str, late: Outcome) -> None:
    bench = Bench()
    old = bench.admit(0.0)
    bench.trip(0.0)
    if state != "open":
        probe = bench.admit(OPEN_FOR)
        if state == "closed":
            bench.end(probe, S, OPEN_FOR)
    before = bench.circuit.snapshot(12.0), bench.steps
    bench.end(old, late, 12.0, retry_after=90.0)
    assert (bench.circuit.snapshot(12.0), bench.steps) == before


def test_an_old_probe_hands_back_no_permit_of_the_new_generation() -> None:
    bench = Bench(half_open_probes=2)
    first = bench.half_open()
    second = bench.admit(OPEN_FOR)
    bench.end(first, F, OPEN_FOR)
    third = bench.admit(OPEN_FOR + 20.0)
    bench.end(second, S, OPEN_FOR + 20.0)
    assert bench.circuit.snapshot(OPEN_FOR + 20.0).probes_in_flight == 1
    assert bench.state == "half_open"
    bench.end(third, S, OPEN_FOR + 20.0)
    assert bench.state == "closed"


def test_each_transition_starts_with_empty_counts() -> None:
    bench = Bench()
    bench.half_open()
    window = bench.circuit.snapshot(OPEN_FOR).window
    assert (window.requests, window.failures, window.consecutive_failures) == (0, 0, 0)


@pytest.mark.parametrize("role", ["normal", "probe", "older"])
def test_a_permit_settled_twice_is_a_programmer_error(role: str) -> None:
    bench = Bench()
    permit = bench.admit(0.0)
    if role != "normal":
        bench.trip()
        permit = bench.admit(OPEN_FOR) if role == "probe" else permit
    bench.end(permit, CANCELLED, OPEN_FOR)
    with pytest.raises(RuntimeError, match="settled twice"):
        bench.end(permit, S, OPEN_FOR)


# 3–6: tripping. Which numbers cross is test_tally.py's


def test_consecutive_failures_open() -> None:
    bench = Bench()
    for _ in range(3):
        bench.call(F, 1.0)
    assert bench.steps == [("closed", "open", "failure_threshold")]
    assert bench.refused(1.0).why == "the circuit is open: 3 consecutive failures, failure_threshold is 3"


def test_a_failure_rate_opens_and_a_success_may_be_the_call_that_does() -> None:
    bench = Bench(failure_threshold=None, failure_rate=0.5)
    for end in (F, F, S, S):
        bench.call(end, 0.0)
    assert bench.steps == [("closed", "open", "failure_rate")]


def test_six_slow_failures_trip_whatever_the_window() -> None:
    bench = Bench(failure_threshold=5, window=TimeWindow(30.0))
    for count in range(5):
        bench.call(F, count * 20.0, took=20.0)
    assert bench.steps == [("closed", "open", "failure_threshold")]


SLOW: dict[str, object] = {"failure_threshold": None, "slow_rate": 0.5, "slow_after": 2.0, "minimum_requests": 4}


@pytest.mark.parametrize("by", ["ask", "settle", "tick", "head"])
def test_requests_that_hang_count_as_slow_before_they_end(by: str) -> None:
    bench = Bench(**SLOW)
    hanging = [bench.admit(0.0) for _ in range(4)]
    other = bench.admit(1.9)
    match by:
        case "ask":
            bench.refused(2.1)
        case "settle":
            bench.end(other, S, 2.1)
        case "tick":
            bench.circuit.tick(2.1)
        case _:
            bench.head(other, 2.1)
    assert bench.steps == [("closed", "open", "slow_rate")]
    for permit in hanging:
        bench.end(permit, F, 5.0)
    assert len(bench.events) == 1


def test_requests_in_flight_are_not_slow_before_slow_after() -> None:
    bench = Bench(**SLOW)
    for _ in range(4):
        bench.admit(0.0)
    bench.circuit.tick(2.0)
    assert bench.circuit.snapshot(2.0).window.slow == 0


def test_while_a_request_is_being_sent_it_is_not_slow() -> None:
    bench = Bench(**SLOW)
    permits = [bench.circuit.ask(0.0, safe=True) for _ in range(4)]
    bench.circuit.tick(60.0)
    assert bench.circuit.snapshot(60.0).window.slow == 0
    for permit in permits:
        assert isinstance(permit, Permit)
        bench.circuit.sent(permit, 60.0)
    bench.circuit.tick(62.0)
    assert bench.state == "closed"
    bench.circuit.tick(62.1)
    assert bench.steps == [("closed", "open", "slow_rate")]


def test_a_request_that_is_sent_anew_hangs_since_then_and_counts_once() -> None:
    bench = Bench(**SLOW)
    permit = bench.admit(0.0)
    bench.circuit.sent(permit, 1.5)
    bench.circuit.tick(3.5)
    assert bench.circuit.snapshot(3.5).window.slow == 0
    bench.circuit.tick(3.6)
    bench.circuit.sent(permit, 4.0)
    bench.circuit.tick(9.0)
    assert bench.circuit.snapshot(9.0).window.slow == 1


def test_a_request_that_hangs_counts_as_slow_once() -> None:
    bench = Bench(**SLOW)
    permit = bench.admit(0.0)
    for now in (3.0, 4.0, 5.0):
        bench.circuit.tick(now)
    bench.end(permit, F, 6.0)
    window = bench.circuit.snapshot(6.0).window
    assert (window.requests, window.failures, window.slow) == (1, 1, 1)


def test_a_trip_by_hanging_requests_shows_them_as_samples() -> None:
    bench = Bench(**SLOW)
    for now in (0.0, 0.1, 0.2, 0.3):
        bench.admit(now)
    bench.circuit.tick(2.5)
    assert [kept.at for kept in bench.events[0].samples] == [0.0, 0.1, 0.2, 0.3]


def test_a_hundred_concurrent_failures_are_one_transition() -> None:
    bench = Bench()
    permits = [bench.admit(0.0) for _ in range(100)]
    for permit in permits:
        bench.end(permit, F, 1.0)
    assert bench.steps == [("closed", "open", "failure_threshold")]
    assert bench.circuit.counters.transitions == {("open", "failure_threshold"): 1}


# 7–15: half-open


def test_the_request_that_finds_the_open_period_over_is_the_probe() -> None:
    bench = Bench()
    bench.trip(0.0)
    bench.refused(OPEN_FOR - 0.001)
    assert bench.state == "open"
    assert bench.admit(OPEN_FOR).role is Role.PROBE
    assert bench.steps[-1] == ("open", "half_open", "open_duration_elapsed")


@pytest.mark.parametrize("probes", [1, 3])
def test_fifty_callers_at_expiry_get_as_many_permits_as_there_are_probes(probes: int) -> None:
    bench = Bench(half_open_probes=probes)
    bench.trip(0.0)
    verdicts = [bench.circuit.ask(OPEN_FOR, safe=True) for _ in range(50)]
    assert sum(isinstance(verdict, Permit) for verdict in verdicts) == probes
    assert bench.circuit.counters.rejected == 50 - probes


@pytest.mark.parametrize(("probes", "needed"), [(1, 1), (1, 3), (3, 3), (2, 5)])
def test_enough_successful_probes_close(probes: int, needed: int) -> None:
    bench = Bench(half_open_probes=probes, success_threshold=needed)
    bench.trip(0.0)
    for count in range(needed):
        assert bench.state == ("half_open" if count else "open")
        bench.call(S, OPEN_FOR)
    assert bench.steps[-1] == ("half_open", "closed", "probes_succeeded")


def test_one_failed_probe_reopens_for_longer() -> None:
    bench = Bench(success_threshold=3)
    bench.trip(0.0)
    bench.call(S, 10.0)
    bench.call(F, 10.0)
    assert bench.steps[-1] == ("half_open", "open", "probe_failed")
    assert bench.circuit.snapshot(10.0).next_probe_at == 30.0
    assert bench.events[-1].detail == "a probe failed: GET /items answered 503"


def test_a_failed_probe_without_a_sample_reopens_all_the_same() -> None:
    bench = Bench()
    bench.circuit.settle(bench.half_open(), F, 10.0)
    assert bench.events[-1].detail == "a probe failed"


def test_a_probe_without_a_verdict_is_given_up_and_its_late_result_dropped() -> None:
    bench = Bench()
    lost = bench.half_open()
    bench.refused(OPEN_FOR + 4.9)
    probe = bench.admit(OPEN_FOR + 5.0)
    bench.end(lost, F, OPEN_FOR + 5.0)
    assert bench.state == "half_open"
    bench.end(probe, S, OPEN_FOR + 5.1)
    assert bench.state == "closed"


@pytest.mark.parametrize("late", [S, F, CANCELLED], ids=lambda end: end.value)
def test_a_reclaimed_permit_stays_reclaimed(late: Outcome) -> None:
    bench = Bench()
    lost = bench.half_open()
    bench.circuit.tick(OPEN_FOR + 5.0)
    bench.end(lost, late, OPEN_FOR + 5.0)
    assert bench.state == "half_open"
    bench.admit(OPEN_FOR + 5.0)
    bench.refused(OPEN_FOR + 5.0)


FAILING = Verdict(F, lambda: sample(0.0), 50.0)


@pytest.mark.parametrize("by", ["ask", "tick", "head", "settle"])
@pytest.mark.parametrize(
    ("verdict", "state"),
    [(HEALTHY, "closed"), (FAILING, "open"), (Verdict(T), "half_open"), (Verdict(IGNORED), "half_open")],
    ids=["good", "failing", "throttled", "ignored"],
)
def test_a_probe_whose_body_outlasts_probe_timeout_is_judged_by_its_head(verdict: Verdict, state: str, by: str) -> None:
    bench = Bench(half_open_probes=2)
    probe, other = bench.half_open(), bench.admit(OPEN_FOR + 1.0)
    bench.head(probe, OPEN_FOR + 4.0, verdict)
    due = OPEN_FOR + 5.0
    bench.circuit.tick(due - 0.001)
    assert (bench.state, bench.circuit.snapshot(due - 0.001).probes_in_flight) == ("half_open", 2)
    match by:
        case "ask":
            bench.circuit.ask(due, safe=True)
        case "tick":
            bench.circuit.tick(due)
        case "head":
            bench.head(other, due)
        case _:
            bench.end(other, CANCELLED, due)
    assert bench.state == state
    assert bench.circuit.counters.calls[verdict.outcome.value] == (1 + 3 if verdict.outcome is F else 1)
    before = bench.circuit.snapshot(due), bench.steps
    bench.end(probe, F, due)
    assert (bench.circuit.snapshot(due), bench.steps) == before
    if state == "open":
        assert before[0].next_probe_at == due + 50.0
    with pytest.raises(RuntimeError, match="settled twice"):
        bench.end(probe, F, due)


@pytest.mark.parametrize(("outcome", "state"), [(S, "closed"), (F, "open"), (CANCELLED, "half_open")], ids=str)
def test_a_probe_s_body_that_ends_in_time_is_judged_by_its_end(outcome: Outcome, state: str) -> None:
    bench = Bench()
    probe = bench.head(bench.half_open(), OPEN_FOR)
    bench.end(probe, outcome, OPEN_FOR + 4.9)
    assert bench.state == state


def test_the_end_of_a_body_that_nobody_looked_at_in_time_is_too_late() -> None:
    bench = Bench()
    probe = bench.head(bench.half_open(), OPEN_FOR)
    bench.end(probe, F, OPEN_FOR + 60.0)
    assert bench.state == "closed"


@pytest.mark.parametrize(("probes", "needed"), [(1, 1), (1, 4), (3, 3), (2, 5)])
def test_endless_healthy_answers_close_within_a_bound(probes: int, needed: int) -> None:
    bench = Bench(half_open_probes=probes, success_threshold=needed)
    bench.trip(0.0)
    now = OPEN_FOR
    while bench.state != "closed":
        verdict = bench.circuit.ask(now, safe=True)
        if isinstance(verdict, Permit) and verdict.role is Role.PROBE:
            bench.head(verdict, now)
        now += 0.25
    # The probes of one round start a step apart.
    assert now <= OPEN_FOR + 5.0 * -(-needed // probes) + 0.25 * probes


def test_a_probe_without_a_head_is_given_up_although_another_s_body_flows() -> None:
    bench = Bench(half_open_probes=2, success_threshold=2)
    lost, flowing = bench.half_open(), bench.admit(OPEN_FOR)
    bench.head(flowing, OPEN_FOR + 1.0)
    bench.circuit.tick(OPEN_FOR + 5.0)
    snapshot = bench.circuit.snapshot(OPEN_FOR + 5.0)
    assert (snapshot.state.value, snapshot.probe_successes, snapshot.probes_in_flight) == ("half_open", 1, 0)
    bench.head(lost, OPEN_FOR + 5.0)
    bench.end(lost, F, OPEN_FOR + 6.0)
    assert bench.state == "half_open"


def test_a_late_end_of_a_long_body_touches_nothing_of_a_new_generation() -> None:
    bench = Bench(half_open_probes=2, success_threshold=2)
    probe, failing = bench.half_open(), bench.admit(OPEN_FOR)
    bench.head(probe, OPEN_FOR)
    bench.end(failing, F, OPEN_FOR + 1.0)
    next_probe_at = bench.circuit.snapshot(OPEN_FOR + 1.0).next_probe_at or 0.0
    bench.admit(next_probe_at)
    bench.circuit.tick(next_probe_at)
    assert bench.circuit.snapshot(next_probe_at).probe_successes == 0
    bench.end(probe, F, next_probe_at)
    assert bench.state == "half_open"


@pytest.mark.parametrize(
    ("verdict", "window"),
    [
        (HEALTHY, (3, 2, 0)), (FAILING, (3, 3, 3)), (Verdict(T), (3, 3, 2)), (Verdict(IGNORED), (2, 2, 2)),
    ],
    ids=["good", "failing", "throttled", "ignored"],
)  # fmt: skip
def test_in_closed_a_body_that_outlasts_probe_timeout_counts_then_by_its_head(
    verdict: Verdict, window: tuple[int, int, int]
) -> None:
    bench = Bench(failure_threshold=9)
    for _ in range(2):
        bench.call(F, 0.0)
    permit = bench.head(bench.admit(0.0), 2.0, verdict)
    bench.circuit.tick(6.9)
    assert bench.circuit.snapshot(6.9).window.requests == 2
    bench.circuit.tick(7.0)
    bench.end(permit, F, 60.0)
    seen = bench.circuit.snapshot(60.0).window
    assert (seen.requests, seen.failures, seen.consecutive_failures) == window


def test_endless_answers_end_in_the_order_of_their_heads() -> None:
    bench = Bench(failure_threshold=2)
    first, second, third = (bench.admit(0.0) for _ in range(3))
    for now, permit in ((1.0, second), (2.0, first), (3.0, third)):
        bench.head(permit, now, FAILING)
    bench.circuit.tick(6.5)
    assert bench.state == "closed"
    bench.circuit.tick(7.5)
    assert bench.steps == [("closed", "open", "failure_threshold")]
    bench.circuit.tick(99.0)
    assert bench.circuit.counters.calls["failure"] == 3
    for permit in (first, second, third):
        bench.end(permit, S, 99.0)
    assert len(bench.events) == 1


def test_a_shorter_probe_timeout_applies_to_bodies_that_flow_already() -> None:
    bench = Bench()
    bench.head(bench.half_open(), OPEN_FOR)
    bench.circuit.tick(OPEN_FOR)
    bench.circuit.reconfigure(replace(SETTINGS, probe_timeout=1.0), {}, OPEN_FOR)
    bench.circuit.ask(OPEN_FOR + 1.0, safe=True)
    assert bench.state == "closed"


@pytest.mark.parametrize("outcome", NO_VERDICT, ids=lambda end: end.value)
def test_a_probe_without_verdict_gives_its_permit_to_the_next_request(outcome: Outcome) -> None:
    bench = Bench(minimum_requests=100)
    bench.end(bench.half_open(), outcome, OPEN_FOR)
    bench.call(S, OPEN_FOR)
    assert bench.state == "closed"


def test_a_throttled_probe_waits_as_long_as_the_upstream_asks() -> None:
    bench = Bench()
    bench.end(bench.half_open(), T, 10.0, retry_after=20.0)
    assert (bench.state, bench.refused(29.0).retry_after) == ("half_open", 1)
    assert bench.circuit.snapshot(15.0).next_probe_at == 30.0
    bench.call(S, 30.0)
    assert bench.state == "closed"


@pytest.mark.parametrize("asked", [None, 0.0], ids=["nothing", "zero"])
def test_a_throttled_probe_without_a_wish_lets_the_next_one_probe(asked: float | None) -> None:
    bench = Bench()
    bench.end(bench.half_open(), T, 10.0, retry_after=asked)
    assert bench.admit(10.0).role is Role.PROBE


def test_a_throttled_probe_cannot_hold_the_circuit_beyond_the_maximum() -> None:
    bench = Bench()
    bench.end(bench.half_open(), T, 10.0, retry_after=1e9)
    assert bench.admit(10.0 + BACKOFF.max).role is Role.PROBE


@pytest.mark.parametrize(
    ("last_safe", "asked_at", "admitted"),
    [(None, 10.0, True), (5.0, 10.0, False), (5.0, 14.9, False), (5.0, 15.0, True)],
    ids=["no safe request at all", "a safe one lately", "still lately", "none for open_duration"],
)
def test_an_unsafe_request_probes_only_when_no_safe_one_can(
    last_safe: float | None,
    asked_at: float,
    admitted: bool,  # noqa: FBT001 - a column of the table
) -> None:
    bench = Bench()
    while bench.state == "closed":
        bench.end(bench.admit(0.0, safe=False), F, 0.0)
    if last_safe is not None:
        bench.refused(last_safe)
    verdict = bench.circuit.ask(asked_at, safe=False)
    assert isinstance(verdict, Permit) is admitted


def test_a_safe_request_takes_the_probe_that_an_unsafe_one_was_refused() -> None:
    bench = Bench()
    bench.trip(0.0)
    bench.refused(9.0)
    assert bench.refused(10.0, safe=False).why == "the circuit keeps its probe for a request with a safe method"
    assert bench.admit(10.0).role is Role.PROBE


def test_the_next_admitted_request_is_known_to_be_a_probe() -> None:
    bench = Bench()
    assert not bench.circuit.probing(0.0)
    bench.trip(0.0)
    assert (bench.circuit.probing(9.9), bench.circuit.probing(10.0)) == (False, True)
    bench.admit(10.0)
    assert bench.circuit.probing(10.0)


def test_settings_without_any_probe_cannot_wedge_the_circuit() -> None:
    bench = Bench(half_open_probes=0, success_threshold=0)
    bench.end(bench.half_open(), S, OPEN_FOR)
    assert bench.state == "closed"


# 16, 17: periods


def periods(bench: Bench, count: int) -> list[float]:
    """Lengths of the first `count` open periods when every probe fails."""
    now, lengths = 0.0, []
    bench.trip(now)
    for _ in range(count):
        until = bench.circuit.snapshot(now).next_probe_at or 0.0
        lengths.append(until - now)
        now = until
        bench.call(F, now)
    return lengths


def test_the_open_period_grows_up_to_its_maximum() -> None:
    assert periods(Bench(), 6) == [10.0, 20.0, 40.0, 80.0, 100.0, 100.0]


@pytest.mark.parametrize(
    ("closed_for", "period"), [(9.9, 20.0), (10.0, 10.0)], ids=["shorter than the last", "as long as the last"]
)
def test_growth_starts_anew_after_a_closed_time_as_long_as_the_last_period(closed_for: float, period: float) -> None:
    bench = Bench()
    bench.end(bench.half_open(), S, 10.0)
    bench.trip(10.0 + closed_for)
    now = 10.0 + closed_for
    assert (bench.circuit.snapshot(now).next_probe_at or 0.0) - now == pytest.approx(period)


@pytest.mark.parametrize(
    ("asked", "period"), [(None, 10.0), (3.0, 10.0), (40.0, 40.0), (1e9, 100.0)], ids=["none", "less", "more", "huge"]
)
def test_retry_after_of_the_tripping_failure_lengthens_the_period(asked: float | None, period: float) -> None:
    bench = Bench()
    for _ in range(2):
        bench.call(F, 0.0, retry_after=77.0)
    bench.call(F, 0.0, retry_after=asked)
    assert bench.circuit.snapshot(0.0).next_probe_at == period


@pytest.mark.parametrize("took", [0.0, 3.0], ids=["in time", "slow"])
def test_retry_after_of_a_success_that_trips_lengthens_nothing(took: float) -> None:
    bench = Bench(failure_threshold=None, failure_rate=0.5, minimum_requests=2)
    bench.call(F, 0.0)
    bench.call(S, 0.0, took=took, retry_after=40.0)
    assert bench.circuit.snapshot(took).next_probe_at == took + OPEN_FOR


def test_retry_after_of_the_failed_probe_lengthens_the_period() -> None:
    bench = Bench()
    bench.end(bench.half_open(), F, 10.0, retry_after=50.0)
    assert bench.circuit.snapshot(10.0).next_probe_at == 60.0


@pytest.mark.parametrize(("now", "told"), [(0.0, 10), (0.1, 10), (9.0, 1), (9.99, 1)])
def test_the_client_is_told_the_real_time_left_rounded_up(now: float, told: int) -> None:
    bench = Bench()
    bench.trip(0.0)
    assert bench.refused(now).retry_after == told == bench.circuit.snapshot(now).retry_after


# The ramp of issue item 4


def test_after_closing_with_a_ramp_the_admitted_share_grows() -> None:
    bench = Bench(ramp=10.0)
    bench.end(bench.half_open(), S, 10.0)
    assert bench.state == "closed"
    admitted = [isinstance(bench.circuit.ask(10.0 + i / 100, safe=True), Permit) for i in range(1000)]
    assert 0 <= sum(admitted[:100]) <= 10
    assert 90 <= sum(admitted[-100:]) <= 100
    assert isinstance(bench.circuit.ask(20.0, safe=True), Permit)


def test_a_reset_ends_a_ramp() -> None:
    bench = Bench(ramp=10.0)
    bench.end(bench.half_open(), S, 10.0)
    bench.refused(10.0)
    bench.circuit.reset(11.0)
    assert all(isinstance(bench.circuit.ask(11.0, safe=True), Permit) for _ in range(50))


# 25: reload


def test_changed_settings_keep_state_timers_and_window() -> None:
    bench = Bench()
    bench.trip(0.0)
    bench.circuit.reconfigure(replace(SETTINGS, open_duration=99.0, failure_threshold=7), {}, 1.0)
    assert bench.admit(OPEN_FOR).role is Role.PROBE


def test_changed_thresholds_judge_what_the_window_holds() -> None:
    bench = Bench()
    for _ in range(2):
        bench.call(F, 0.0)
    bench.circuit.reconfigure(replace(SETTINGS, failure_threshold=2, window=CountWindow(5)), {}, 1.0)
    assert bench.circuit.snapshot(1.0).window.failures == 2
    bench.call(F, 1.0)
    assert bench.state == "open"


def test_in_flight_requests_are_settled_across_a_reload() -> None:
    bench = Bench()
    permits = [bench.admit(0.0) for _ in range(3)]
    bench.circuit.reconfigure(replace(SETTINGS, slow_rate=0.5, slow_after=0.1), {}, 1.0)
    for permit in permits:
        bench.end(permit, F, 2.0)
    assert bench.steps == [("closed", "open", "failure_threshold")]


@pytest.mark.parametrize("before", [None, 0.5], ids=["slow_rate switched on", "slow_rate kept"])
def test_a_shorter_slow_after_applies_to_requests_in_flight_since(before: float | None) -> None:
    bench = Bench(**{**SLOW, "slow_rate": before})
    bench.circuit.reconfigure(replace(bench.circuit.settings, slow_rate=0.5, slow_after=0.5), {}, 0.0)
    for _ in range(4):
        bench.admit(0.0)
    bench.circuit.tick(0.6)
    assert bench.state == "open"


def test_what_is_overdue_by_a_shorter_slow_after_counts_at_that_instant() -> None:
    bench = Bench(**SLOW)
    for _ in range(4):
        bench.admit(0.0)
    bench.circuit.tick(1.0)
    bench.circuit.reconfigure(replace(bench.circuit.settings, slow_after=0.5), {}, 1.0)
    bench.circuit.tick(1.0)
    assert bench.state == "open"


def test_slow_rate_switched_off_forgets_what_is_in_flight() -> None:
    bench = Bench(**SLOW)
    permits = [bench.admit(0.0) for _ in range(4)]
    bench.circuit.reconfigure(replace(bench.circuit.settings, slow_rate=None), {}, 1.0)
    bench.circuit.tick(60.0)
    for permit in permits:
        bench.end(permit, S, 60.0)
    assert bench.state == "closed"
    assert bench.circuit.snapshot(60.0).window.slow == 4
