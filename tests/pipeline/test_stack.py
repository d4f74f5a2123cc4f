"""Which stages a route's stack has, seen from outside; what each does is its own test's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.core.circuit.explanation import OverrideMode
from sidecar.core.config import BreakerMode, BreakerSettings, CacheMode, CacheSettings, ProxySettings
from sidecar.pipeline.errors import ConnectionRefused
from sidecar.pipeline.stack import build_stack
from sidecar.pipeline.stage import Parts, RouteParts
from sidecar.pipeline.stats import RouteStats, UpstreamStats
from tests.support.cache_world import Origin, Reply, WorldClock, receive
from tests.support.circuits import Bench
from tests.support.fake_store import FakeStore
from tests.support.routes import route
from tests.support.stages import Records, request

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.support.cache_world import Answer

FRESH = Reply(fields={"Cache-Control": "max-age=60"})
FAILING = Reply(error=ConnectionRefused("refused"))


class Onion:
    """A whole stack around a scripted upstream."""

    def __init__(self, *replies: Reply, cache: CacheMode = CacheMode.OFF, mode: BreakerMode = BreakerMode.ENFORCE):
        self.clock = WorldClock()
        self.bench = Bench(self.clock.now, mode=mode, failure_threshold=1)
        self.origin = Origin(self.clock, list(replies))
        self.store = FakeStore()
        self.stats = RouteStats("catalog")
        log = Records()
        self.records = log.all
        parts = Parts(ProxySettings(via="edge"), self.clock, self._spawn, self.store, log)
        config = route("catalog", cache=CacheSettings(cache), breaker=BreakerSettings(mode))
        self.stack = build_stack(
            self.origin, RouteParts(config, self.bench.circuit, self.stats, UpstreamStats("catalog"), parts)
        )

    async def ask(self) -> Answer:
        asked = request(started=self.clock.now)
        return await receive(await self.stack.handle(asked))

    async def ask_each(self, count: int) -> list[tuple[int, str]]:
        """Status and source of so many answers, one after another."""
        return [(answer.status, answer.source.label) for answer in [await self.ask() for _ in range(count)]]

    def _spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, name=name)


async def test_with_everything_on_a_stored_answer_costs_no_permit_and_stands_in_for_a_failing_upstream() -> None:
    onion = Onion(FRESH, FAILING, cache=CacheMode.STANDARD)
    assert await onion.ask_each(2) == [(200, "upstream"), (200, "cache")]
    assert onion.bench.circuit.counters.calls["success"] == 1
    onion.clock.now += 61.0
    assert await onion.ask_each(3) == [(200, "stale")] * 3
    assert onion.bench.state == "open"
    assert len(onion.origin.requests) == 2
    assert len(onion.records) == 5


async def test_with_the_cache_off_nothing_is_looked_up_or_stored() -> None:
    onion = Onion(FRESH)
    answers = [await onion.ask() for _ in range(2)]
    assert [answer["Cache-Status"] for answer in answers] == [None, None]
    assert len(onion.origin.requests) == 2
    assert onion.store.stats.entries == 0


async def test_without_a_cache_a_refusal_reaches_the_client_as_an_answer() -> None:
    onion = Onion(FAILING)
    assert await onion.ask_each(3) == [(502, "error"), (503, "circuit"), (503, "circuit")]
    assert len(onion.origin.requests) == 1
    assert sum(onion.stats.requests.values()) == len(onion.records) == 3


@pytest.mark.parametrize("mode", [BreakerMode.OFF, BreakerMode.OBSERVE], ids=lambda mode: mode.value)
async def test_a_circuit_that_does_not_enforce_refuses_nobody_until_an_operator_forces_it_open(
    mode: BreakerMode,
) -> None:
    onion = Onion(FAILING, mode=mode)
    assert await onion.ask_each(5) == [(502, "error")] * 5
    onion.bench.circuit.override(OverrideMode.FORCED_OPEN, "drill", "ann", 60.0, onion.clock.now)
    assert await onion.ask_each(2) == [(503, "circuit")] * 2
    assert len(onion.origin.requests) == 5


async def test_whatever_happened_the_answer_names_this_sidecar() -> None:
    onion = Onion(FRESH, cache=CacheMode.STANDARD)
    assert [(await onion.ask())["Via"] for _ in range(2)] == ["1.1 edge"] * 2
    refused = Onion(FAILING)
    assert (await refused.ask())["Proxy-Status"] == "edge; error=connection_refused"
