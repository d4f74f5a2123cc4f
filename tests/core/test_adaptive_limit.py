from __future__ import annotations

from math import inf

import pytest

from sidecar.core.adaptive_limit import PATIENCE, AdaptiveLimit

MOST = 100


class OneRequest:
    def __init__(self, sent_at: float = inf) -> None:
        self.sent_at = sent_at


class Bench:
    """A limit, and traffic whose requests take as long as is said."""

    def __init__(self, most: int = MOST) -> None:
        self.now = 1000.0
        self.adaptive = AdaptiveLimit(most, self.now)

    @property
    def limit(self) -> int:
        return self.adaptive.limit

    def serve(self, seconds: float, latency: float, per_second: float = 50) -> list[int]:
        """Requests end, `per_second` of them, each after `latency`; the limits that there were."""
        limits = []
        for _ in range(int(seconds * per_second)):
            self.now += 1 / per_second
            request = OneRequest(self.now - latency)
            self.adaptive.begun(request)
            self.adaptive.answered(request, self.now, self.now)
            self.adaptive.judge(self.now)
            limits.append(self.limit)
        return limits

    def begin_interval(self) -> None:
        """What has been measured so far is judged by."""
        self.now += PATIENCE
        assert self.adaptive.judge(self.now)


def test_it_begins_with_all_slots_and_keeps_them_while_nothing_is_slow() -> None:
    bench = Bench()
    assert set(bench.serve(30, latency=0.02)) == {MOST}


@pytest.mark.parametrize("times", [3, 5, 20])
@pytest.mark.parametrize("usual", [0.005, 0.05, 0.3])
@pytest.mark.parametrize("most", [4, 100])
def test_it_falls_by_a_fifth_within_six_seconds_when_latency_grows_several_fold(
    times: int, usual: float, most: int
) -> None:
    bench = Bench(most)
    bench.serve(5, latency=usual)
    bench.serve(6, latency=usual * times)
    assert 1 <= bench.limit <= 0.8 * most


@pytest.mark.parametrize("per_second", [1, 3, 500])
def test_it_falls_at_any_rate_of_requests(per_second: float) -> None:
    bench = Bench()
    bench.serve(5, latency=0.02, per_second=per_second)
    bench.serve(6, latency=0.2, per_second=per_second)
    assert bench.limit <= 0.8 * MOST


def test_it_stays_within_its_bounds_and_recovers() -> None:
    bench = Bench()
    bench.serve(5, latency=0.02)
    for latency in (0.1, 0.5, 2.0, 9.0, 30.0, 99.0, 300.0, 1000.0):
        bench.serve(5, latency=latency)
    assert bench.limit == 1
    grown = bench.serve(20, latency=0.02)
    assert grown == sorted(grown)
    assert grown[-1] == MOST


def test_it_may_be_bounded_more_narrowly_and_wider() -> None:
    bench = Bench()
    bench.adaptive.bound(10)
    assert bench.limit == 10
    bench.adaptive.bound(20)
    assert bench.limit == 10
    assert bench.serve(5, latency=0.02)[-1] == 20


def test_an_upstream_that_is_slower_for_good_is_not_held_down_for_ever() -> None:
    bench = Bench()
    bench.serve(5, latency=0.02)
    assert bench.serve(10, latency=0.1)[-1] <= MOST / 2
    assert bench.serve(300, latency=0.1)[-1] == MOST


def test_a_fall_that_changes_nothing_is_not_repeated_until_it_becomes_worse() -> None:
    bench = Bench()
    bench.serve(5, latency=0.02)
    assert set(bench.serve(20, latency=0.2)[100:]) == {MOST // 2}
    assert bench.serve(5, latency=0.3)[-1] == MOST // 4


def test_it_falls_for_as_long_as_that_helps() -> None:
    """An upstream that serves 50 requests/s, and works on any number at a time, so that they wait for each other."""
    bench = Bench()
    bench.serve(5, latency=0.02, per_second=50)
    limits = [bench.limit]
    for _ in range(10):
        limits += bench.serve(1, latency=bench.limit / 50, per_second=50)
    assert bench.limit <= 4
    assert all(later >= 1 for later in limits)


def test_a_few_that_take_long_tell_nothing_where_there_are_no_others() -> None:
    bench = Bench()
    bench.serve(5, latency=0.02)
    bench.begin_interval()
    for _ in range(4):
        bench.adaptive.begun(OneRequest(bench.now))
    assert bench.adaptive.busy
    bench.now += 9.0
    assert not bench.adaptive.judge(bench.now)


def test_one_slow_answer_among_many_is_no_slowness() -> None:
    bench = Bench()
    bench.serve(2, latency=0.02)
    for _ in range(10):
        bench.serve(0.02, latency=9.0)
        assert bench.serve(1, latency=0.02)[-1] == MOST


def test_an_upstream_that_answers_nothing_any_more_is_seen() -> None:
    bench = Bench()
    bench.serve(5, latency=0.02)
    bench.begin_interval()
    for _ in range(10):
        bench.adaptive.begun(OneRequest(bench.now))
    bench.now += 5.0
    assert bench.adaptive.judge(bench.now)
    assert bench.limit <= 0.8 * MOST
    assert bench.adaptive.latency == pytest.approx(5.0)


def test_a_request_that_its_client_is_still_sending_tells_nothing() -> None:
    bench = Bench()
    bench.serve(5, latency=0.02)
    bench.begin_interval()
    for _ in range(10):
        bench.adaptive.begun(OneRequest())
    bench.now += 5.0
    assert not bench.adaptive.judge(bench.now)
    assert bench.limit == MOST


def test_time_runs_from_when_a_request_was_sent_or_began() -> None:
    bench = Bench()
    for sent_at in (bench.now - 0.25, inf):
        request = OneRequest(sent_at)
        bench.adaptive.begun(request)
        bench.adaptive.answered(request, bench.now - 0.25, bench.now)
    bench.now += 2.0
    assert bench.adaptive.judge(bench.now)
    assert bench.adaptive.latency == bench.adaptive.no_load == pytest.approx(0.25)


def test_who_gave_up_after_longer_than_usual_counts_and_failures_and_the_hasty_do_not() -> None:
    bench = Bench()
    bench.serve(5, latency=0.02)
    bench.begin_interval()
    for _ in range(20):
        for end in (bench.adaptive.failed, lambda it: bench.adaptive.unanswered(it, bench.now)):
            request = OneRequest(bench.now - 0.001)
            bench.adaptive.begun(request)
            end(request)
    bench.now += 2.0
    assert not bench.adaptive.judge(bench.now)
    for _ in range(5):
        request = OneRequest(bench.now - 1.0)
        bench.adaptive.begun(request)
        bench.adaptive.unanswered(request, bench.now)
    assert bench.adaptive.judge(bench.now)
    assert bench.limit == MOST // 2


def test_after_a_long_rest_nothing_is_held_against_anybody() -> None:
    bench = Bench()
    bench.serve(5, latency=0.02)
    bench.serve(10, latency=2.0)
    bench.begin_interval()
    low = bench.limit
    bench.now += 9.0
    assert not bench.adaptive.judge(bench.now)
    assert bench.limit == low
    bench.now += 2.0
    assert bench.adaptive.judge(bench.now)
    assert bench.limit == MOST


def test_it_keeps_no_more_times_than_it_needs() -> None:
    bench = Bench()
    for _ in range(10_000):
        request = OneRequest(bench.now - 0.02)
        bench.adaptive.begun(request)
        bench.adaptive.answered(request, bench.now, bench.now)
    bench.now += 0.5
    assert bench.adaptive.judge(bench.now)
    assert bench.adaptive.latency == pytest.approx(0.02)


def test_it_says_what_it_comes_from() -> None:
    bench = Bench()
    assert bench.adaptive.why == "100 of 100: nothing was measured yet"
    bench.serve(5, latency=0.02)
    bench.serve(1, latency=0.1)
    assert bench.adaptive.why.startswith(f"{bench.limit} of 100: the median answer takes 100 ms, and 20")
