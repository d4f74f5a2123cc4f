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


def lag(loop: Loop) -> tuple[LoopLag, list[float]]:
    told: list[float] = []
    measuring = LoopLag(loop.call_later, lambda: loop.now, told.append)
    measuring.start()
    return measuring, told


def test_the_longest_delay_of_the_last_while_is_told() -> None:
    loop = Loop()
    _, told = lag(loop)
    for late in (0.0, 0.25, 0.0):
        loop.fire(late)
    assert told == [0.0, 0.25, 0.25]
    for _ in range(PERIOD):
        loop.fire(0.0)
    assert told[-1] == 0.0
    loop.real.close()


def test_a_timer_that_is_early_is_no_lag() -> None:
    loop = Loop()
    _, told = lag(loop)
    loop.fire(-0.001)
    assert told == [0.0]
    loop.real.close()


def test_stopping_cancels_the_timer() -> None:
    loop = Loop()
    measuring, _ = lag(loop)
    loop.fire(0.0)
    measuring.stop()
    assert loop.handles[-1].cancelled()
    loop.real.close()
