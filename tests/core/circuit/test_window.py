from __future__ import annotations

import random

import pytest

from sidecar.core.circuit.window import CallsWindow, RollingWindow, TimedWindow, new_window, refitted
from sidecar.core.config import CountWindow, TimeWindow, Window

YEAR = 365 * 86_400.0


def totals(window: RollingWindow, now: float = 0.0) -> tuple[int, int, int]:
    view = window.view(now)
    return view.requests, view.failures, view.slow


def test_a_count_window_holds_the_last_n_calls() -> None:
    window = CallsWindow(3)
    for failed in (True, True, False, False, True):
        window.add(0.0, failed=failed, slow=not failed)
    assert totals(window) == (3, 1, 2)


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.0, 2.5, 30.0, 33.3, 3600.0])
def test_a_call_on_a_bucket_edge_belongs_to_the_new_bucket(seconds: float) -> None:
    width = max(round(seconds * 1_000_000) // 10, 100_000)
    for epoch in (1, 3, 7, 1001, 123_457):
        window = TimedWindow(seconds, (epoch - 1) * width / 1_000_000)
        first = window.add((epoch * width - 1) / 1_000_000, failed=False, slow=False)
        on_edge = window.add(epoch * width / 1_000_000, failed=False, slow=False)
        assert (first, on_edge) == (epoch - 1, epoch)


@pytest.mark.parametrize(
    ("seconds", "buckets"),
    [(30.0, 10), (1.0, 10), (0.5, 5), (0.25, 3), (0.01, 1)],
    ids=["30s", "1s", "0.5s", "0.25s", "10ms"],
)
def test_a_time_window_has_ten_buckets_of_at_least_100_ms(seconds: float, buckets: int) -> None:
    window = TimedWindow(seconds, 0.0)
    marks = {window.add(step * 0.01, failed=False, slow=False) for step in range(int(seconds * 100))}
    assert len(marks) <= buckets
    assert len(window._calls) == buckets


def test_calls_age_out_of_a_time_window_bucket_by_bucket() -> None:
    window = TimedWindow(10.0, 0.0)
    for second in range(10):
        window.add(float(second), failed=second % 2 == 0, slow=False)
    assert totals(window, 9.9) == (10, 5, 0)
    assert totals(window, 12.0) == (7, 3, 0)
    assert totals(window, 19.0) == (0, 0, 0)


def test_reading_a_time_window_changes_nothing() -> None:
    window = TimedWindow(10.0, 0.0)
    window.add(0.0, failed=True, slow=True)
    assert totals(window, 1000.0) == (0, 0, 0)
    assert totals(window, 1.0) == (1, 1, 1)


def test_a_time_that_lags_behind_falls_into_the_present_bucket() -> None:
    window = TimedWindow(10.0, 100.0)
    window.add(105.0, failed=False, slow=False)
    window.add(104.0, failed=True, slow=False)
    assert totals(window, 105.0) == (2, 1, 0)


def test_an_idle_year_costs_no_loop_over_its_buckets() -> None:
    window = TimedWindow(1.0, 0.0)
    window.add(0.0, failed=True, slow=True)
    assert len(window._outdated(window._epoch_of(YEAR))) == 10
    window.add(YEAR, failed=False, slow=False)
    assert totals(window, YEAR) == (1, 0, 0)


@pytest.mark.parametrize("seconds", [0.25, 1.0, 30.0])
def test_after_many_random_operations_the_totals_equal_the_sum_of_the_buckets(seconds: float) -> None:
    chance = random.Random(4)
    window = TimedWindow(seconds, 0.0)
    now, marks = 0.0, [0]
    for _ in range(100_000):
        now += chance.choice((0.0, 0.0, 0.001, 0.09, seconds / 3, seconds * 2))
        if chance.random() < 0.1:
            window.amend(chance.choice(marks[-5:]), now)
        else:
            marks.append(window.add(now, failed=chance.random() < 0.3, slow=chance.random() < 0.2))
    assert (window.requests, window.failures, window.slow) == (
        sum(window._calls), sum(window._failed), sum(window._slow),
    )  # fmt: skip
    assert window.requests >= window.failures >= 0
    assert window.slow >= 0


def test_after_many_random_operations_a_count_window_equals_the_calls_it_holds() -> None:
    chance = random.Random(5)
    window = CallsWindow(37)
    calls: list[list[bool]] = []
    for _ in range(100_000):
        if calls and chance.random() < 0.1:
            back = chance.randrange(1, 60)
            held = back <= min(len(calls), 37)
            assert window.amend(len(calls) - back, 0.0) is held
            if held:
                calls[-back][0] = True
        else:
            call = [chance.random() < 0.3, chance.random() < 0.2]
            calls.append(call)
            window.add(0.0, failed=call[0], slow=call[1])
    last = calls[-37:]
    assert totals(window) == (37, sum(failed for failed, _ in last), sum(slow for _, slow in last))


@pytest.mark.parametrize("window", [CountWindow(5), TimeWindow(5.0)], ids=["calls", "time"])
def test_a_cleared_window_is_empty_and_goes_on_counting(window: Window) -> None:
    rolling = new_window(window, 0.0)
    mark = rolling.add(0.0, failed=True, slow=True)
    rolling.clear()
    assert totals(rolling) == (0, 0, 0)
    assert not rolling.amend(mark, 0.0)
    for _ in range(7):
        rolling.add(1.0, failed=True, slow=False)
    assert rolling.requests == rolling.failures == (5 if isinstance(window, CountWindow) else 7)


@pytest.mark.parametrize(
    ("before", "after", "requests", "failures"),
    [
        (CountWindow(10), CountWindow(4), 4, 2),
        (CountWindow(10), CountWindow(20), 10, 5),
        (TimeWindow(10.0), TimeWindow(5.0), 5, 3),
        (TimeWindow(10.0), TimeWindow(60.0), 10, 5),
        (CountWindow(10), TimeWindow(10.0), 0, 0),
        (TimeWindow(10.0), CountWindow(10), 0, 0),
    ],
    ids=["fewer calls", "more calls", "less time", "more time", "calls to time", "time to calls"],
)
def test_a_changed_window_keeps_what_fits(before: Window, after: Window, requests: int, failures: int) -> None:
    window = new_window(before, 0.0)
    for second in range(10):
        window.add(float(second), failed=second % 2 == 1, slow=False)
    assert totals(refitted(window, after, 9.0), 9.0)[:2] == (requests, failures)


def test_a_longer_window_does_not_revive_what_had_aged_out() -> None:
    window = TimedWindow(10.0, 0.0)
    window.add(0.0, failed=True, slow=True)
    assert totals(refitted(window, TimeWindow(60.0), 20.0), 20.0) == (0, 0, 0)


def test_an_empty_count_window_stays_empty_at_another_size() -> None:
    assert totals(CallsWindow(4).resized(2)) == (0, 0, 0)


def test_a_resized_count_window_evicts_in_the_order_of_arrival() -> None:
    window = CallsWindow(4)
    for failed in (True, True, True, False, False, True):
        window.add(0.0, failed=failed, slow=False)
    smaller = window.resized(3)
    assert totals(smaller) == (3, 1, 0)
    smaller.add(0.0, failed=False, slow=False)
    smaller.add(0.0, failed=False, slow=False)
    assert totals(smaller) == (3, 1, 0)
    smaller.add(0.0, failed=False, slow=False)
    assert totals(smaller) == (3, 0, 0)
