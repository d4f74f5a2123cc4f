"""What a real socket cannot time: a slot that comes free in the very turn in which its waiter gives up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.core.config import BulkheadSettings, ProxySettings
from sidecar.pipeline.bulkhead_stage import BulkheadStage, around
from sidecar.pipeline.errors import BulkheadFull
from sidecar.pipeline.stage import Parts, RouteParts
from sidecar.pipeline.stats import RouteStats, UpstreamStats
from tests.support.circuits import Bench
from tests.support.fake_store import FakeStore
from tests.support.routes import route
from tests.support.stages import ManualClock, Records, ScriptedHandler, request, response

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from sidecar.core.bulkhead import Bulkhead

AT_ONCE = 1e-12
"""A wait that ends in the next turn of the loop."""


def spawn(work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
    raise NotImplementedError


class Scene:
    """The stage around a handler, with its one slot taken."""

    def __init__(self, queue_timeout: float) -> None:
        self.clock = ManualClock(0.0)
        settings = BulkheadSettings(max_concurrent=1, max_queue=5, queue_timeout=queue_timeout)
        self.stats = RouteStats("r")
        parts = Parts(ProxySettings(), self.clock, spawn, FakeStore(), Records())
        self.inner = ScriptedHandler(response())
        config = route(bulkhead=settings)
        stage = around(self.inner, RouteParts(config, Bench(0.0).circuit, self.stats, UpstreamStats("a"), parts))
        assert isinstance(stage, BulkheadStage)
        self.stage = stage
        assert self.bulkhead.take()

    @property
    def bulkhead(self) -> Bulkhead:
        assert self.stats.bulkhead is not None
        return self.stats.bulkhead

    def free(self) -> None:
        self.bulkhead.free(self.clock.now)


async def test_who_is_admitted_in_the_turn_in_which_its_time_ends_goes_on() -> None:
    scene = Scene(AT_ONCE)
    asked = asyncio.create_task(scene.stage.handle(request()))
    asyncio.get_running_loop().call_soon(scene.free)
    assert (await asked).head.status == 200
    assert (scene.bulkhead.in_use, scene.bulkhead.queued) == (0, 0)


async def test_who_is_admitted_and_cancelled_in_one_turn_passes_the_slot_on() -> None:
    scene = Scene(3600.0)
    leaver = asyncio.create_task(scene.stage.handle(request()))
    stayer = asyncio.create_task(scene.stage.handle(request(b"/stays")))
    await asyncio.sleep(0)
    scene.free()
    leaver.cancel()
    assert (await stayer).head.status == 200
    assert leaver.cancelled() or (await asyncio.gather(leaver, return_exceptions=True))
    assert [asked.head.target for asked in scene.inner.asked] == [b"/stays"]
    assert (scene.bulkhead.in_use, scene.bulkhead.queued) == (0, 0)


async def test_who_is_shed_after_it_was_cancelled_is_told_nothing() -> None:
    scene = Scene(3600.0)
    leaver = asyncio.create_task(scene.stage.handle(request()))
    await asyncio.sleep(0)
    leaver.cancel()
    # Its task has not run yet: it still has its place.
    scene.free()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert (scene.bulkhead.in_use, scene.bulkhead.queued) == (0, 0)


async def test_who_gets_no_slot_in_time_is_refused() -> None:
    scene = Scene(AT_ONCE)
    with pytest.raises(BulkheadFull, match="queue_timeout"):
        await scene.stage.handle(request())
    assert scene.stats.bulkhead_rejected == {"normal": 1}
    assert (scene.bulkhead.in_use, scene.bulkhead.queued) == (1, 0)
