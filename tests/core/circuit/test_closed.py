from __future__ import annotations

import pytest

from sidecar.core.circuit.closed import Crossing, Ramp, RecentCalls
from sidecar.core.circuit.explanation import Cause
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit, Role
from sidecar.core.config import BreakerSettings, CountWindow, TimeWindow
from tests.support.circuits import sample

S, F, T = Outcome.SUCCESS, Outcome.FAILURE, Outcome.THROTTLED
OFF = BreakerSettings(failure_threshold=None, failure_rate=None, slow_rate=None, window=CountWindow(10))


def record(recent: RecentCalls, outcome: Outcome, now: float = 0.0, *, slow: bool = False) -> Crossing | None:
    permit = Permit(Role.NORMAL, 1, now)
    return recent.record(permit, outcome, now, slow=slow, describe=lambda: sample(now))


def settings(**changes: object) -> BreakerSettings:
    return BreakerSettings(**{"failure_threshold": None, "failure_rate": None, "window": CountWindow(10), **changes})  # type: ignore[arg-type]  # the case tables name fields


@pytest.mark.parametrize(
    ("changes", "ends", "expected"),
    [
        ({"failure_threshold": 3}, [F, F, F], Cause.FAILURE_THRESHOLD),
        ({"failure_threshold": 3}, [F, F, S, F, F], None),
        ({"failure_threshold": 3}, [F, F, T, F], Cause.FAILURE_THRESHOLD),
        ({"failure_threshold": 3}, [T, T, T, T], None),
        ({"failure_rate": 0.5, "minimum_requests": 4}, [F, F, F], None),
        ({"failure_rate": 0.5, "minimum_requests": 4}, [F, F, S, S], Cause.FAILURE_RATE),
        ({"failure_rate": 0.5, "minimum_requests": 4}, [T, T, S, S], Cause.FAILURE_RATE),
        ({"failure_rate": 0.5, "minimum_requests": 4}, [F, S, S, S], None),
        ({"failure_rate": 0.3, "minimum_requests": 10}, [F, F, F, *[S] * 7], Cause.FAILURE_RATE),
        ({"failure_threshold": 4, "failure_rate": 0.5, "minimum_requests": 4}, [F] * 4, Cause.FAILURE_THRESHOLD),
        ({}, [F] * 20, None),
    ],
    ids=[
        "consecutive failures", "a success resets the count", "throttled does not reset it",
        "throttled does not raise it", "below the minimum a rate decides nothing",
        "a success that lifts the window to the minimum can trip", "throttled counts for the rate",
        "share below the rate", "share exactly the rate", "two thresholds at once: the first named", "all off",
    ],
)  # fmt: skip
def test_the_last_call_crosses(changes: dict[str, object], ends: list[Outcome], expected: Cause | None) -> None:
    recent = RecentCalls(settings(**changes), 0.0)
    crossings = [record(recent, end) for end in ends]
    assert crossings[:-1] == [None] * (len(ends) - 1)
    assert (crossings[-1].cause if crossings[-1] else None) is expected


def test_slow_share_crosses_also_with_successes_alone() -> None:
    recent = RecentCalls(settings(slow_rate=0.5, minimum_requests=4, slow_after=2.0), 0.0)
    assert [record(recent, S, slow=slow) for slow in (True, True, False)] == [None] * 3
    crossing = record(recent, S)
    assert crossing is not None
    assert crossing.cause is Cause.SLOW_RATE
    assert crossing.detail == "2 of 4 requests among the last 10 took longer than 2s (50%), slow_rate is 50%"


def test_the_consecutive_count_does_not_decay_with_the_window() -> None:
    recent = RecentCalls(settings(failure_threshold=5, window=TimeWindow(30.0)), 0.0)
    crossings = [record(recent, F, 20.0 * count) for count in range(5)]
    assert crossings[-1] is not None
    assert crossings[-1].detail == "5 consecutive failures, failure_threshold is 5"


def test_seven_percent_of_a_hundred_is_reached_by_seven() -> None:
    recent = RecentCalls(settings(failure_rate=0.07, minimum_requests=100, window=CountWindow(100)), 0.0)
    crossings = [record(recent, F if count < 7 else S) for count in range(100)]
    assert crossings[-1] is not None
    assert crossings[-1].detail == "7 of 100 requests among the last 100 failed (7%), failure_rate is 7%"


def test_a_rate_over_time_names_its_extent() -> None:
    recent = RecentCalls(settings(failure_rate=0.5, minimum_requests=2, window=TimeWindow(0.5)), 0.0)
    record(recent, S)
    crossing = record(recent, F)
    assert crossing is not None
    assert crossing.detail == "1 of 2 requests in the last 0.5s failed (50%), failure_rate is 50%"


def test_at_most_ten_samples_are_kept_and_only_of_what_crossed() -> None:
    recent = RecentCalls(settings(failure_threshold=12, window=CountWindow(100)), 0.0)
    crossing = None
    for count in range(12):
        crossing = record(recent, F, float(count))
    assert crossing is not None
    assert [kept.at for kept in crossing.samples] == [float(at) for at in range(2, 12)]


def test_samples_that_left_the_window_explain_no_rate() -> None:
    recent = RecentCalls(settings(failure_rate=0.5, minimum_requests=2, window=TimeWindow(10.0)), 0.0)
    record(recent, F, 0.0)
    record(recent, S, 20.0)
    crossing = record(recent, F, 20.0)
    assert crossing is not None
    assert [kept.at for kept in crossing.samples] == [20.0]


@pytest.mark.parametrize(("end", "failures"), [(S, 0), (F, 1), (T, 1)], ids=["success", "failure", "throttled"])
def test_a_call_counted_as_slow_in_flight_is_one_call_when_it_ends(end: Outcome, failures: int) -> None:
    recent = RecentCalls(OFF, 0.0)
    permit = Permit(Role.NORMAL, 1, 0.0)
    recent.hangs(permit, 3.0, None)
    recent.record(permit, end, 4.0, slow=True, describe=None)
    view = recent.view(4.0)
    assert (view.requests, view.failures, view.slow) == (1, failures, 1)


@pytest.mark.parametrize(("end", "failures"), [(S, 0), (F, 1)], ids=["success", "failure"])
def test_a_call_counted_as_slow_long_ago_counts_anew_as_its_kind(end: Outcome, failures: int) -> None:
    recent = RecentCalls(settings(window=TimeWindow(10.0)), 0.0)
    permit = Permit(Role.NORMAL, 1, 0.0)
    recent.hangs(permit, 3.0, None)
    recent.record(permit, end, 60.0, slow=True, describe=None)
    view = recent.view(60.0)
    assert (view.requests, view.failures, view.slow) == (1, failures, 0)


def test_a_mark_of_a_replaced_window_means_nothing_in_the_new_one() -> None:
    recent = RecentCalls(OFF, 0.0)
    permit = Permit(Role.NORMAL, 1, 0.0)
    recent.hangs(permit, 3.0, None)
    recent.reconfigure(settings(window=TimeWindow(10.0)), 4.0)
    recent.record(permit, F, 4.0, slow=True, describe=None)
    view = recent.view(4.0)
    assert (view.requests, view.failures, view.slow) == (1, 1, 0)


def test_a_request_that_was_slow_in_flight_and_then_failed_is_one_sample() -> None:
    recent = RecentCalls(settings(failure_threshold=1), 0.0)
    permit = Permit(Role.NORMAL, 1, 0.0)
    recent.hangs(permit, 3.0, lambda: sample(3.0, "one"))
    crossing = recent.record(permit, F, 4.0, slow=True, describe=lambda: sample(4.0, "one"))
    assert crossing is not None
    assert [kept.at for kept in crossing.samples] == [4.0]


def test_in_a_ramp_the_admitted_share_grows_from_none_to_all() -> None:
    ramp = Ramp(0.0, 10.0)
    admitted = []
    for second in range(10):
        passed = 0
        for step in range(100):
            now = second + step / 100
            refused = ramp.refusal(now) is not None
            ramp.count(now, refused=refused)
            passed += not refused
        admitted.append(passed)
    assert all(abs(passed - (second * 10 + 5)) <= 1 for second, passed in enumerate(admitted))


def test_a_ramp_is_over_after_its_duration() -> None:
    ramp = Ramp(5.0, 10.0)
    assert (ramp.over(14.9), ramp.over(15.0)) == (False, True)
    assert ramp.refusal(15.0) is None


def test_asking_what_a_ramp_refuses_changes_nothing() -> None:
    ramp = Ramp(0.0, 10.0)
    assert None not in [ramp.refusal(9.0) for _ in range(50)]
