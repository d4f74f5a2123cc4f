from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.circuit.explanation import WindowView
from sidecar.core.traffic import BUCKET, KEPT, RouteCounts, TrafficHistory, percentile

BOUNDS = (0.01, 0.1, 1.0)
SOURCES = ("upstream", "cache", "circuit")


def counts(name: str = "catalog", *, window: WindowView | None = None, **numbers: Any) -> RouteCounts:
    plain: dict[str, Any] = {
        "judged": 0,
        "failures": 0,
        "durations": (0, 0, 0, 0),
        "cache_requests": 0,
        "cache_hits": 0,
    }
    sources = numbers.pop("sources", {})
    return RouteCounts(name, sources, window=window or WindowView(), **{**plain, **numbers})


class World:
    """A history that is read at the times a test says."""

    def __init__(self) -> None:
        self.history = TrafficHistory(SOURCES, BOUNDS)

    def read(self, now: float, *routes: RouteCounts) -> None:
        self.history.begin(now)
        for route in routes:
            self.history.note(route)
        self.history.finish()

    def overview(self) -> Any:
        return self.history.overview(str)

    def by_source(self) -> list[dict[str, int]]:
        return [bucket["sources"] for bucket in self.overview()["buckets"]]

    def circuit(self, name: str = "catalog") -> Any:
        (found,) = [each for each in self.history.circuits() if each["name"] == name]
        return found

    def busy(self) -> list[object]:
        return [each["name"] for each in self.history.busy_circuits()]


def test_before_the_first_reading_there_is_nothing_to_tell() -> None:
    world = World()
    assert world.overview() == {
        "at": "0.0",
        "bucket_seconds": BUCKET,
        "sources": list(SOURCES),
        "buckets": [],
        "lately": {
            "seconds": 0.0,
            "sources": {},
            "latency": {"p50": None, "p90": None, "p99": None},
            "cache": {"requests": 0, "hits": 0},
        },
    }
    assert (list(world.history.circuits()), world.busy()) == ([], [])


def test_a_bucket_holds_what_was_counted_since_the_reading_before_and_how_long_that_was() -> None:
    world = World()
    world.read(100.0, counts(sources={"upstream": 3}))
    world.read(102.0, counts(sources={"upstream": 5, "cache": 1}))
    world.read(110.0, counts(sources={"upstream": 5, "cache": 4}))
    world.read(112.0, counts(sources={"upstream": 6, "cache": 4}))
    assert world.by_source() == [{"upstream": 5, "cache": 4}, {"upstream": 1}]
    assert [(it["at"], it["seconds"]) for it in world.overview()["buckets"]] == [("100.0", 10.0), ("110.0", 2.0)]


@pytest.mark.parametrize(
    ("last", "now", "bucket"),
    [(99.0, 100.9, "90.0"), (99.0, 101.1, "100.0"), (90.1, 100.1, "90.0"), (99.9, 101.9, "100.0")],
)
def test_what_was_counted_over_the_end_of_a_bucket_belongs_to_where_most_of_the_time_was(
    last: float, now: float, bucket: str
) -> None:
    world = World()
    world.read(last)
    world.read(now, counts(sources={"upstream": 1}))
    told = world.overview()["buckets"][-1]
    assert (told["at"], told["seconds"], told["sources"]) == (bucket, round(now - last, 3), {"upstream": 1})


def test_ten_minutes_are_kept() -> None:
    world = World()
    for number in range(KEPT + 5):
        world.read(number * BUCKET + 9, counts(sources={"upstream": number}))
    assert world.by_source() == [{"upstream": 1}] * KEPT
    assert world.overview()["buckets"][0]["at"] == str(5 * BUCKET)
    assert world.circuit()["requests"] == [1] * KEPT


@pytest.mark.parametrize("pause", [3, KEPT - 1, KEPT, KEPT + 1, 1000])
def test_buckets_in_which_nobody_read_are_empty(pause: int) -> None:
    world = World()
    world.read(0.0, counts(sources={"upstream": 7}))
    world.read(pause * BUCKET + 5, counts(sources={"upstream": 9}))
    told = world.by_source()
    assert len(told) == min(pause + 1, KEPT)
    assert told[-1] == {"upstream": 2}
    assert [each for each in told[1:-1] if each] == []
    assert told[0] == ({"upstream": 7} if pause < KEPT else {})


def test_a_route_that_began_anew_counts_from_nothing() -> None:
    world = World()
    world.read(0.0, counts(sources={"upstream": 9}, judged=9))
    world.read(19.0, counts(sources={"upstream": 2}, judged=2))
    assert world.by_source()[-1] == {"upstream": 2}


def test_a_route_that_is_gone_is_forgotten_but_what_it_answered_was_answered() -> None:
    world = World()
    world.read(0.0, counts(sources={"upstream": 9}), counts("orders", sources={"upstream": 1}))
    world.read(2.0, counts("orders", sources={"upstream": 1}))
    assert [each["name"] for each in world.history.circuits()] == ["orders"]
    assert world.by_source() == [{"upstream": 10}]


def test_a_circuit_tells_its_buckets_its_window_and_what_its_clients_got_lately() -> None:
    world = World()
    world.read(0.0, counts(sources={"upstream": 4}, judged=4, failures=1))
    window = WindowView(6, 3, 0, 2)
    world.read(65.0, counts(sources={"upstream": 6, "circuit": 8}, judged=6, failures=3, window=window))
    assert world.circuit() == {
        "name": "catalog",
        "requests": [4, 0, 0, 0, 0, 0, 10],
        "judged": [4, 0, 0, 0, 0, 0, 2],
        "failures": [1, 0, 0, 0, 0, 0, 2],
        "lately": {"upstream": 2, "circuit": 8},
        "window": {
            "requests": 6,
            "failures": 3,
            "slow": 0,
            "failure_rate": 0.5,
            "slow_rate": 0.0,
            "consecutive_failures": 2,
        },
    }


def test_lately_has_all_circuits_together() -> None:
    world = World()
    world.read(0.0, counts(sources={"cache": 100}, cache_requests=100, cache_hits=100))
    first = counts(sources={"cache": 101}, cache_requests=102, cache_hits=101, durations=(3, 0, 0, 0))
    for now in (10.0, 20.0, 30.0, 40.0, 50.0):
        world.read(now, counts(sources={"cache": 100}, cache_requests=100, cache_hits=100))
    world.read(55.0, first, counts("orders", sources={"circuit": 4}, durations=(0, 1, 0, 0)))
    world.read(62.0, first, counts("orders", sources={"circuit": 5}, durations=(0, 1, 0, 0)))
    told = world.overview()["lately"]
    assert told["seconds"] == 32.0
    assert told["sources"] == {"cache": 1, "circuit": 5}
    assert told["cache"] == {"requests": 2, "hits": 1}
    assert told["latency"]["p50"] == pytest.approx(0.01 * 2 / 3)
    assert told["latency"]["p99"] == pytest.approx(0.01 + 0.09 * 0.96)


def test_only_busy_circuits_are_told_with_the_newest_bucket() -> None:
    world = World()
    idle = counts("idle")
    world.read(0.0, idle, counts("asked", sources={"upstream": 1}), counts("shaken", window=WindowView(0, 0, 0, 1)))
    assert world.busy() == ["asked", "shaken"]
    assert [each["requests"] for each in world.history.busy_circuits()] == [[1], [0]]
    world.read(61.0, idle, counts("asked", sources={"upstream": 1}), counts("shaken"))
    assert world.busy() == []


def test_a_reading_under_way_is_not_told() -> None:
    world = World()
    world.read(0.0, counts(sources={"upstream": 1}))
    world.history.begin(1.0)
    assert [each["name"] for each in world.history.circuits()] == ["catalog"]


def test_listeners_hear_of_each_reading_until_they_stop() -> None:
    world = World()
    heard: list[int] = []
    stop = world.history.listen(lambda: heard.append(world.history.taken))
    world.read(0.0)
    world.read(2.0)
    watched = [world.history.is_watched]
    stop()
    assert [*watched, world.history.is_watched] == [True, False]
    world.read(4.0)
    assert heard == [1, 2]


@pytest.mark.parametrize(
    ("counted", "share", "value"),
    [
        ((0, 0, 0, 0), 0.5, None),
        ((10, 0, 0, 0), 0.5, 0.005),
        ((10, 0, 0, 0), 1.0, 0.01),
        ((0, 10, 0, 0), 0.5, 0.055),
        ((9, 0, 1, 0), 0.9, 0.01),
        ((0, 0, 0, 3), 0.5, 1.0),
        ((1, 0, 0, 99), 0.99, 1.0),
    ],
)
def test_percentiles_lie_evenly_between_two_bounds(counted: tuple[int, ...], share: float, value: float | None) -> None:
    assert percentile(BOUNDS, counted, share) == (None if value is None else pytest.approx(value))
