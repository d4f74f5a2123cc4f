"""A fleet of real processes: a shared trip, a fresh pod, a killed one, and a Redis that stands still under load."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.caching_origin import CachingOrigin, caching_origin
from tests.support.fleet import SICK, WELL, all_are, answer, pod_config, shown, state_of, trip
from tests.support.redis_server import RedisServer, redis_server
from tests.support.wire import comes_true, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import LaunchSidecar
    from tests.support.running import SidecarProcess

SEEN_BY_ALL = 0.15 + 0.25
"""Seconds after the quorum: through the subscription, and one look at the fleet."""


class Yard:
    """Redis, the origin, and as many processes as a test launches."""

    def __init__(self, server: RedisServer, origin: CachingOrigin, launch: LaunchSidecar) -> None:
        self.server = server
        self.origin = origin
        self._launch = launch
        self.pods: list[SidecarProcess] = []

    async def launch(self, count: int, **blocks: Any) -> list[SidecarProcess]:
        for _ in range(count):
            # One after the other: their start is mostly CPU, of which there may be little.
            pod = await self._launch(pod_config(self.origin.url, self.server.url, f"pod-{len(self.pods)}", **blocks))
            self.pods.append(await pod.ready())

        async def complete() -> bool:
            counts = [(await pod.metrics()).total("sidecar_fleet_members") for pod in self.pods]
            return set(counts) == {len(self.pods)}

        await comes_true(complete, every=0.1)
        return self.pods


@pytest.fixture
async def yard(tmp_path: Path, launch_sidecar: LaunchSidecar) -> AsyncIterator[Yard]:
    async with redis_server(tmp_path) as server, caching_origin(answer) as origin:
        yield Yard(server, origin, launch_sidecar)


async def refuses(pod: SidecarProcess) -> None:
    """Wait until it refuses a request that would be answered."""

    async def refused() -> bool:
        return (await pod.get(WELL)).status == 503

    await comes_true(refused, every=0.005)


async def test_five_processes_open_together_and_close_together(yard: Yard) -> None:
    pods = await yard.launch(5, breaker={"open_duration": "1s"})
    await trip(pods[0])
    assert [await state_of(pod) for pod in pods] == ["open", *["closed"] * 4]
    for _ in range(2):
        await pods[1].get(SICK)
    await pods[1].get(SICK)
    began = time.monotonic()
    await asyncio.gather(*(refuses(pod) for pod in pods))
    assert time.monotonic() - began < SEEN_BY_ALL
    yard.origin.requests.clear()

    async def probed() -> bool:
        answers = await asyncio.gather(*(pod.get(WELL) for pod in pods for _ in range(4)))
        return 200 in {one.status for one in answers}

    await comes_true(probed)
    await all_are(pods, "closed")


async def test_a_fresh_process_is_ready_with_what_the_fleet_knows(yard: Yard) -> None:
    pods = await yard.launch(2, breaker={"open_duration": "20s"})
    await trip(pods[0])
    await trip(pods[1])
    await all_are(pods, "open")
    order = {"mode": "observe", "ttl": "5m", "actor": "ann"}
    fresh = (await yard.launch(1, breaker={"open_duration": "20s"}))[-1]
    assert await state_of(fresh) == "open"
    assert (await fresh.get(WELL)).status == 503
    await pods[0].api("PUT", "/v1/circuits/all/override", order)

    async def reached() -> bool:
        return ((await shown(fresh))["override"] or {}).get("actor") == "ann"

    await comes_true(reached)
    assert (await fresh.get(WELL)).status == 200


async def test_a_killed_holder_of_a_lease_keeps_nobody_from_probing(yard: Yard) -> None:
    pods = await yard.launch(2, breaker={"probe_timeout": "500ms"})
    await trip(pods[0])
    await trip(pods[1])
    await all_are(pods, "open")
    await asyncio.sleep(0.45)
    yard.origin.requests.clear()
    client = await pods[0].connect()
    client.transport.write(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: len(yard.origin.requests) == 1)
    pods[0].process.send_signal(signal.SIGKILL)

    async def another() -> bool:
        return (await pods[1].get(WELL)).status == 200

    await comes_true(another, within=0.5 + 2.0)


async def test_a_frozen_redis_costs_no_request_under_load(yard: Yard) -> None:
    (pod,) = await yard.launch(1)

    async def load(seconds: float) -> list[float]:
        client, took = await pod.connect(), []
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            assert (await client.exchange(b"GET /well HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
            took.append(time.monotonic() - began)
        return took

    yard.server.freeze()
    took = await load(3.0)
    yard.server.thaw()
    slowest = sorted(took)[-max(1, len(took) // 100)]
    assert slowest < 0.25, "requests wait for no call of Redis, each of which takes a second"
    assert (await pod.metrics()).total("sidecar_redis_errors_total", kind="timeout") > 0
