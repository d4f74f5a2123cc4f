"""The wheel is turned by hand here, but for the two tests about its timer."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from math import inf
from typing import TYPE_CHECKING, ClassVar

import pytest

from sidecar.pipeline.deadlines import Deadlined, DeadlineWheel
from tests.support.stages import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TICK = DeadlineWheel.TICK


class Item(Deadlined):
    """Counts how often it was told, and how often a set had to look for its place."""

    __slots__ = ("__weakref__", "reaction", "told")

    placed: ClassVar[int] = 0

    def __init__(self, reaction: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.told = 0
        self.reaction = reaction

    def __hash__(self) -> int:
        Item.placed += 1
        return id(self)

    def expired(self) -> None:
        self.told += 1
        if self.reaction is not None:
            self.reaction()


class Bench:
    """A wheel and its clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.wheel = DeadlineWheel(self.clock)

    def item(self, seconds: float, reaction: Callable[[], None] | None = None) -> Item:
        made = Item(reaction)
        self.set(made, seconds)
        return made

    def set(self, item: Item, seconds: float) -> None:
        """The deadline is `seconds` from now."""
        self.wheel.set(item, self.clock.now + seconds)

    def after(self, seconds: float) -> None:
        """Let time pass and serve what is due."""
        self.clock.now += seconds
        self.wheel.turn()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.wheel.close()


async def test_an_item_is_told_once_within_a_tick_after_its_deadline(bench: Bench) -> None:
    item = bench.item(1.01)
    bench.after(1.0)
    assert item.told == 0
    bench.after(0.01 + TICK)
    assert item.told == 1
    bench.after(100.0)
    assert item.told == 1


@pytest.mark.parametrize("seconds", [0.0, -5.0], ids=["now", "in the past"])
async def test_a_deadline_that_is_over_is_told_at_the_next_turn(bench: Bench, seconds: float) -> None:
    item = bench.item(seconds)
    bench.after(TICK)
    assert item.told == 1


async def test_a_deadline_without_end_is_never_told(bench: Bench) -> None:
    item = bench.item(inf)
    bench.after(1e9)
    assert item.told == 0
    assert item.deadline == inf


async def test_a_later_deadline_is_only_written_down_until_the_old_one_comes_up(bench: Bench) -> None:
    item = bench.item(1.0)
    Item.placed = 0
    for _ in range(1000):
        bench.clock.now += 0.0009
        bench.set(item, 1.0)
    assert Item.placed == 0
    bench.after(0.2)
    assert (item.told, Item.placed) == (0, 1)
    bench.after(0.8 + TICK)
    assert item.told == 1


async def test_an_earlier_deadline_moves_at_once(bench: Bench) -> None:
    item = bench.item(60.0)
    bench.set(item, 1.0)
    bench.after(1.0 + TICK)
    assert item.told == 1
    bench.after(60.0)
    assert item.told == 1


async def test_a_deadline_that_was_taken_away_is_not_told(bench: Bench) -> None:
    item = bench.item(1.0)
    bench.set(item, inf)
    bench.after(2.0)
    assert item.told == 0
    bench.set(item, 1.0)
    bench.after(1.0 + TICK)
    assert item.told == 1


async def test_a_forgotten_item_is_not_told_and_is_freed(bench: Bench) -> None:
    item, stays = bench.item(1.0), bench.item(1.0)
    alive = weakref.ref(item)
    bench.wheel.forget(item)
    del item
    gc.collect()
    assert alive() is None
    bench.after(1.0 + TICK)
    assert stays.told == 1


async def test_forgetting_what_is_not_watched_does_nothing(bench: Bench) -> None:
    item = Item()
    bench.wheel.forget(item)
    bench.wheel.forget(item)
    assert item.deadline == inf


async def test_an_item_that_was_told_may_set_itself_anew(bench: Bench) -> None:
    item = Item()
    item.reaction = lambda: bench.set(item, 1.0)
    bench.set(item, 1.0)
    for told in range(1, 4):
        bench.after(1.0 + TICK)
        assert item.told == told


async def test_an_item_that_was_told_may_forget_another_that_is_due_in_the_same_turn(bench: Bench) -> None:
    items: list[Item] = []

    def forget_the_others() -> None:
        for item in items:
            if not item.told:
                bench.wheel.forget(item)

    items += [bench.item(1.0, forget_the_others) for _ in range(10)]
    bench.after(1.0 + TICK)
    assert sum(item.told for item in items) == 1


async def test_an_item_that_fails_is_logged_and_takes_nobody_with_it(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    items = [bench.item(1.0, fail) for _ in range(3)]
    with caplog.at_level(logging.ERROR):
        bench.after(1.0 + TICK)
    assert [item.told for item in items] == [1, 1, 1]
    assert len(caplog.records) == 3
    assert caplog.records[0].exc_info is not None


async def test_one_turn_serves_every_slot_that_is_due_in_order(bench: Bench) -> None:
    order: list[float] = []
    for seconds in (3.0, 1.0, 2.0, 4.0):
        bench.item(seconds, lambda seconds=seconds: order.append(seconds))  # type: ignore[misc]  # binds the loop's value
    bench.after(3.5)
    assert order == [1.0, 2.0, 3.0]


async def test_ten_thousand_deadlines_cost_one_placing_each_and_one_slot_together(bench: Bench) -> None:
    Item.placed = 0
    items = [bench.item(30.0) for _ in range(10_000)]
    assert Item.placed == 10_000
    for item in items:
        bench.set(item, 60.0)
    assert Item.placed == 10_000
    assert len(bench.wheel._order) == 1
    bench.after(30.0 + TICK)
    assert Item.placed == 20_000
    bench.after(30.0 + TICK)
    assert Item.placed == 20_000
    assert {item.told for item in items} == {1}
    assert (bench.wheel._order, bench.wheel._slots) == ([], {})


async def test_the_timer_turns_the_wheel(bench: Bench) -> None:
    told = asyncio.Event()
    bench.item(0.0, told.set)
    bench.clock.now += TICK
    async with asyncio.timeout(5):
        await told.wait()
    assert bench.wheel._timer is None


async def test_one_timer_is_armed_for_the_first_slot(bench: Bench) -> None:
    bench.item(60.0)
    later = bench.wheel._timer
    bench.item(120.0)
    assert bench.wheel._timer is later
    bench.item(30.0)
    assert later is not None
    assert later.cancelled()
    timer = bench.wheel._timer
    bench.wheel.turn()
    assert bench.wheel._timer is timer


async def test_a_closed_wheel_tells_nobody(bench: Bench) -> None:
    item = bench.item(1.0)
    timer = bench.wheel._timer
    bench.wheel.close()
    bench.wheel.close()
    bench.after(2.0)
    assert timer is not None
    assert timer.cancelled()
    assert item.told == 0


async def test_what_has_a_deadline_says_what_happens_then() -> None:
    with pytest.raises(NotImplementedError):
        Deadlined().expired()
