from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.bulkhead import LOW, NORMAL, Bulkhead, Waiting
from sidecar.core.config import BulkheadSettings

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = BulkheadSettings(max_queue=3)
NOW = 100.0


class Bench:
    """A bulkhead, and what those who wait were told, by name."""

    def __init__(self, most: int = 1, **settings: Any) -> None:
        self.bulkhead = Bulkhead(replace(SETTINGS, **settings), most, NOW)
        self.told: list[tuple[str, bool]] = []
        self.waiting: dict[str, Waiting] = {}

    def fill(self) -> None:
        while self.bulkhead.take():
            pass

    def wait(self, name: str, priority: str = NORMAL, *, until: float = NOW + 1, now: float = NOW) -> bool:
        waiting = Waiting(priority, until, lambda admitted: self.told.append((name, admitted)))
        self.waiting[name] = waiting
        return self.bulkhead.wait(waiting, now)

    def free(self, times: int = 1, now: float = NOW) -> list[tuple[str, bool]]:
        """Give slots back; who was told what."""
        self.told.clear()
        for _ in range(times):
            self.bulkhead.free(now)
        return self.told


def test_there_are_as_many_slots_as_configured() -> None:
    bench = Bench(most=2)
    assert [bench.bulkhead.take() for _ in range(3)] == [True, True, False]
    bench.free()
    assert (bench.bulkhead.in_use, bench.bulkhead.limit) == (1, 2)
    assert bench.bulkhead.take()


def test_a_free_slot_goes_to_who_waits_longest() -> None:
    bench = Bench()
    bench.fill()
    assert all(bench.wait(name) for name in "abc")
    assert bench.bulkhead.queued == 3
    assert bench.free(2) == [("a", True), ("b", True)]
    assert (bench.bulkhead.in_use, bench.bulkhead.queued) == (1, 1)


def test_the_queue_is_bounded() -> None:
    bench = Bench()
    bench.fill()
    assert [bench.wait(name) for name in "abcd"] == [True, True, True, False]
    assert not Bench(max_queue=0).wait("a")


def test_low_ones_are_admitted_after_all_others() -> None:
    bench = Bench()
    bench.fill()
    bench.wait("first low", LOW)
    bench.wait("second low", LOW)
    bench.wait("normal")
    assert bench.free(3) == [("normal", True), ("first low", True), ("second low", True)]


def test_a_full_queue_sheds_its_newest_low_one_for_another() -> None:
    bench = Bench()
    bench.fill()
    for name in ("a", "b", "c"):
        bench.wait(name, LOW)
    assert bench.wait("d")
    assert bench.told == [("c", False)]
    assert bench.free(3) == [("d", True), ("a", True), ("b", True)]


def test_nobody_is_shed_for_a_low_one_nor_a_normal_one_for_anybody() -> None:
    bench = Bench()
    bench.fill()
    for name, priority in (("a", NORMAL), ("b", NORMAL), ("c", LOW)):
        bench.wait(name, priority)
    assert not bench.wait("d", LOW)
    assert bench.wait("e")
    assert not bench.wait("f")
    assert bench.told == [("c", False)]


def test_who_gives_up_frees_the_place_and_is_told_nothing() -> None:
    bench = Bench()
    bench.fill()
    for name in "abc":
        bench.wait(name)
    bench.bulkhead.give_up(bench.waiting["a"])
    bench.bulkhead.give_up(bench.waiting["a"])
    assert bench.wait("d")
    assert bench.free(1) == [("b", True)]


def test_who_has_waited_too_long_is_not_admitted() -> None:
    bench = Bench()
    bench.fill()
    bench.wait("late", until=NOW + 0.1)
    bench.wait("in time", until=NOW + 9)
    assert bench.free(now=NOW + 0.1) == [("late", False), ("in time", True)]
    assert bench.bulkhead.in_use == 1


def test_who_has_waited_too_long_keeps_no_place() -> None:
    bench = Bench()
    bench.fill()
    for name, priority in (("a", NORMAL), ("b", LOW), ("c", NORMAL)):
        bench.wait(name, priority, until=NOW + 0.1)
    assert bench.wait("d", now=NOW + 0.2)
    assert bench.told == [("a", False), ("c", False), ("b", False)]
    assert bench.bulkhead.queued == 1


def test_more_slots_admit_who_waits_and_fewer_take_none_away() -> None:
    bench = Bench()
    bench.fill()
    for name in "abc":
        bench.wait(name)
    bench.bulkhead.resize(3, NOW)
    assert bench.told == [("a", True), ("b", True)]
    bench.bulkhead.resize(1, NOW)
    assert bench.bulkhead.in_use == 3
    assert bench.free(2) == []
    assert bench.free(1) == [("c", True)]


def test_other_settings_keep_who_is_in_and_who_waits() -> None:
    bench = Bench(most=2)
    bench.fill()
    bench.wait("a")
    bench.bulkhead.configure(replace(SETTINGS, max_queue=1), 3, NOW)
    assert bench.told == [("a", True)]
    assert bench.bulkhead.in_use == 3
    assert [bench.wait(name) for name in "bc"] == [True, False]


def test_a_limit_can_begin_to_adapt_go_on_and_cease() -> None:
    bench = Bench(most=8, adaptive=True)
    adaptive = bench.bulkhead.adaptive
    assert adaptive is not None
    bench.bulkhead.configure(replace(SETTINGS, adaptive=True), 4, NOW)
    assert bench.bulkhead.adaptive is adaptive
    assert bench.bulkhead.limit == adaptive.limit == 4
    bench.bulkhead.configure(SETTINGS, 6, NOW)
    assert bench.bulkhead.limit == 6


class Model:
    """Requests of a bulkhead counted naively: nobody is lost, told twice, or admitted beyond the limit."""

    def __init__(self, most: int) -> None:
        self.bulkhead = Bulkhead(SETTINGS, most, NOW)
        self.now = NOW
        self.running = 0
        self.waiting: list[Waiting] = []

    def enter(self, number: int) -> None:
        if self.bulkhead.take():
            self.running += 1
            return

        def decided(admitted: bool) -> None:  # noqa: FBT001 - as a Waiting is told
            self.waiting.remove(one)
            assert one.admitted == admitted
            self.running += admitted

        one = Waiting(LOW if number % 2 else NORMAL, self.now + 2, decided)
        if self.bulkhead.wait(one, self.now):
            self.waiting.append(one)

    def end(self, _number: int) -> None:
        if self.running:
            self.running -= 1
            self.bulkhead.free(self.now)

    def give_up(self, number: int) -> None:
        if self.waiting:
            self.bulkhead.give_up(self.waiting.pop(number % len(self.waiting)))

    def resize(self, number: int) -> None:
        self.bulkhead.resize(number + 1, self.now)

    def pass_time(self, number: int) -> None:
        self.now += number / 2


@pytest.mark.parametrize("most", [1, 3])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([Model.enter, Model.end, Model.give_up, Model.resize, Model.pass_time]), st.integers(0, 5)
        ),
        max_size=60,
    )
)
def test_whatever_happens_slots_and_places_add_up(
    most: int, steps: list[tuple[Callable[[Model, int], None], int]]
) -> None:
    model = Model(most)
    for step, number in steps:
        step(model, number)
        assert model.bulkhead.in_use == model.running
        assert model.bulkhead.queued == len(model.waiting) <= SETTINGS.max_queue
        assert not (model.waiting and model.bulkhead.in_use < model.bulkhead.limit)
