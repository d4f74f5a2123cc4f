"""Every stage of the stack is asked for every request that reaches its depth, whatever answers it and however often
the same head came before: a barrier is put at each depth, and real traffic is sent through a real socket.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from sidecar.pipeline import stack
from sidecar.pipeline.source import Source
from tests.support import real_traffic
from tests.support.real_traffic import requests
from tests.support.running import InProcess, config_text
from tests.support.wire import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from sidecar.pipeline.message import Request, Response
    from sidecar.pipeline.ports import Handler
    from sidecar.pipeline.stage import RouteParts
    from tests.support.client import RawClient
    from tests.support.messages import WireResponse

DEPTHS = range(len(stack.STAGES) + 1)
"""0 is around the upstream, the last one outermost."""
NAMES = [
    "upstream", "trace", "breaker", "lease", "retry", "bulkhead", "rate limit", "cache", "fault", "fallback",
    "deadline", "observe",
]  # fmt: skip
"""What the barrier of each depth stands around."""
BREAKER = {"failure_threshold": 2, "open_duration": "1h"}
CACHE = {"mode": "standard", "stale_ttl": "1h"}
EVERYTHING = {
    "retry": {"attempts": 2, "on": "timeout"},
    "bulkhead": {"max_concurrent": 100},
    "rate_limit": {"rate": "10000/s"},
    "timeouts": {"total": "1m"},
}
"""All that is optional is there, and nothing here times out."""
ROUNDS = 10
SAME = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


class Barrier:
    """A stage that counts, and holds each request until it is let through."""

    def __init__(self, inner: Handler, passed: list[bytes]) -> None:
        self._inner = inner
        self._passed = passed

    async def handle(self, request: Request) -> Response:
        self._passed.append(request.head.target)
        # A suspension, so that nothing within may rely on being reached at once.
        await asyncio.sleep(0)
        return await self._inner.handle(request)


class Scene:
    """A sidecar with a barrier at one depth, in front of a real origin."""

    def __init__(self, site: real_traffic.Site, client: RawClient, passed: list[bytes]) -> None:
        self.site = site
        self.client = client
        self._passed = passed

    async def send(self, asked: Iterable[bytes]) -> list[WireResponse]:
        return [await self.client.exchange(one) for one in asked]

    def passed(self) -> int:
        """How many requests came by the barrier since the last question."""
        count = len(self._passed)
        self._passed.clear()
        return count

    async def open_the_circuit(self) -> None:
        """Let the upstream fail as often as that takes; afterwards it is there again, and nobody asks it."""
        self.site.fails = True
        await self.send([SAME % b"/private/fails"] * 2)
        self.site.fails = False
        self.passed()


@asynccontextmanager
async def barrier_at(depth: int, patch: pytest.MonkeyPatch, *, max_age: int = 3600) -> AsyncIterator[Scene]:
    passed: list[bytes] = []

    def around(inner: Handler, parts: RouteParts) -> Handler:  # noqa: ARG001 - a stage's signature
        return Barrier(inner, passed)

    patch.setattr(stack, "STAGES", (*stack.STAGES[:depth], around, *stack.STAGES[depth:]))
    async with real_traffic.Site() as site:
        site.max_age = max_age
        upstream = {"breaker": BREAKER, "cache": CACHE, **EVERYTHING}
        sidecar = await InProcess.start(config_text(site.url, upstream=upstream))
        try:
            yield Scene(site, await sidecar.connect(), passed)
        finally:
            sidecar.hang_up()
            assert await sidecar.is_quiet()
            await sidecar.stop()


KINDS = {
    "the same head": [SAME % b"/private/1"] * ROUNDS,
    "heads alike but for their ids": [
        b"GET /private/1 HTTP/1.1\r\nHost: a\r\nX-Request-Id: %d\r\n\r\n" % number for number in range(ROUNDS)
    ],
    "real heads": list(islice(requests(b"/private/", 5), ROUNDS)),
    "real posts": list(islice(requests(b"/private/", 5, method=b"POST"), ROUNDS)),
}
STORED = {
    "the same head": [SAME % b"/public/1"] * ROUNDS,
    "real heads": list(islice(requests(b"/public/", 3), ROUNDS)),
}


@pytest.mark.parametrize("depth", DEPTHS, ids=NAMES)
@pytest.mark.parametrize("asked", KINDS.values(), ids=KINDS.keys())
async def test_what_is_proxied_passes_every_depth(
    depth: int, asked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with barrier_at(depth, monkeypatch) as scene:
        answers = await scene.send(asked)
        assert {answer.status for answer in answers} == {200}
        assert scene.passed() == scene.site.asked == ROUNDS


@pytest.mark.parametrize("depth", DEPTHS, ids=NAMES)
@pytest.mark.parametrize("asked", STORED.values(), ids=STORED.keys())
async def test_a_hit_passes_every_depth_around_the_cache_and_none_within(
    depth: int, asked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with barrier_at(depth, monkeypatch) as scene:
        await scene.send(asked)
        fetched = scene.site.asked
        assert scene.passed() == (ROUNDS if depth >= NAMES.index("cache") else fetched)
        answers = await scene.send(asked)
        assert all(b"; hit" in (answer.get("cache-status") or b"") for answer in answers)
        assert scene.passed() == (ROUNDS if depth >= NAMES.index("cache") else 0)


@pytest.mark.parametrize("depth", DEPTHS, ids=NAMES)
@pytest.mark.parametrize("asked", STORED.values(), ids=STORED.keys())
async def test_a_stale_answer_passes_every_depth_up_to_the_circuit(
    depth: int, asked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with barrier_at(depth, monkeypatch, max_age=0) as scene:
        await scene.send(asked)
        await scene.open_the_circuit()
        answers = await scene.send(asked)
        assert all(b"detail=circuit_open" in (answer.get("cache-status") or b"") for answer in answers)
        assert scene.passed() == (0 if depth < NAMES.index("breaker") else ROUNDS)


@pytest.mark.parametrize("depth", DEPTHS, ids=NAMES)
@pytest.mark.parametrize("asked", KINDS.values(), ids=KINDS.keys())
async def test_a_refusal_passes_every_depth_up_to_the_circuit(
    depth: int, asked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with barrier_at(depth, monkeypatch) as scene:
        await scene.open_the_circuit()
        answers = await scene.send(asked)
        assert {answer.status for answer in answers} == {503}
        assert scene.passed() == (0 if depth < NAMES.index("breaker") else ROUNDS)


@pytest.mark.parametrize("depth", DEPTHS, ids=NAMES)
async def test_a_failure_passes_every_depth(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with barrier_at(depth, monkeypatch) as scene:
        scene.site.fails = True
        assert [answer.status for answer in await scene.send([SAME % b"/private/1"] * 2)] == [502] * 2
        assert scene.passed() == scene.site.asked == 2


async def test_a_stage_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What CONTRIBUTING promises: a stage added to the tuple answers, from its first request to its last."""

    class Teapot:
        def __init__(self, inner: Handler) -> None:
            self._inner = inner

        async def handle(self, request: Request) -> Response:
            response = await self._inner.handle(request)
            response.source = Source.FALLBACK
            response.extra += b"X-Teapot: yes\r\n"
            return response

    monkeypatch.setattr(stack, "STAGES", (*stack.STAGES[:-1], lambda inner, _: Teapot(inner), stack.STAGES[-1]))
    async with real_traffic.Site() as site:
        sidecar = await InProcess.start(config_text(site.url, upstream={"cache": CACHE}))
        client = await sidecar.connect()
        try:
            asked = [SAME % b"/public/1"] * ROUNDS + [SAME % b"/private/1"] * ROUNDS
            answers = [await client.exchange(one) for one in asked]
            assert [answer.get("x-teapot") for answer in answers] == [b"yes"] * 2 * ROUNDS
            counted = (await sidecar.metrics()).total("sidecar_requests_total", source="fallback")
            assert counted == 2 * ROUNDS
        finally:
            sidecar.hang_up()
            await sidecar.stop()


async def test_a_client_that_leaves_ends_the_walk_at_every_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    started, cancelled = asyncio.Event(), []

    class Waits:
        async def handle(self, request: Request) -> Response:
            started.set()
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                cancelled.append(request.head.target)
                raise
            raise AssertionError("nobody left")

    monkeypatch.setattr(stack, "STAGES", (lambda _, __: Waits(), *stack.STAGES))
    sidecar = await InProcess.start(config_text("http://127.0.0.1:9"))
    client = await sidecar.connect()
    await client.send(SAME % b"/leaves")
    await started.wait()
    client.reset()
    await eventually(lambda: cancelled)
    assert cancelled == [b"/leaves"]
    assert await sidecar.is_quiet()
    await sidecar.stop()
