import asyncio
from collections.abc import Callable

from sidecar.adapters.loop_lag import INTERVAL, PERIOD, LoopLag


class Loop:
    """Time, and timers that fire as late as a test wants."""

    def __init__(self) -> None:
        self.now = 50.0
        self.real = asyncio.new_event_loop()
        self.callbacks: list[Callable[[], None]] = []
        self.handles: list[asyncio.TimerHandle] = []

    def call_later(self, _delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self.callbacks.append(callback)
        self.handles.append(asyncio.TimerHandle(self.now, callback, (), self.real))
        return self.handles[-1]

    def fire(self, late: float) -> None:
        self.now += INTERVAL + late
        self.callbacks.pop()()


def lag(loop: Loop) -> LoopLag:
    measuring = LoopLag(loop.call_later, lambda: loop.now)
    measuring.start()
    return measuring


def test_the_longest_delay_of_the_last_while_is_told() -> None:
    loop = Loop()
    measuring = lag(loop)
    told = [measuring.longest]
    for late in (0.0, 0.25, 0.0):
        loop.fire(late)
        told.append(measuring.longest)
    assert told == [0.0, 0.0, 0.25, 0.25]
    for _ in range(PERIOD):
        loop.fire(0.0)
    assert measuring.longest == 0.0
    loop.real.close()


def test_a_timer_that_is_early_is_no_lag() -> None:
    loop = Loop()
    measuring = lag(loop)
    loop.fire(-0.001)
    assert measuring.longest == 0.0
    loop.real.close()


def test_stopping_cancels_the_timer() -> None:
    loop = Loop()
    measuring = lag(loop)
    loop.fire(0.0)
    measuring.stop()
    assert loop.handles[-1].cancelled()
    loop.real.close()
