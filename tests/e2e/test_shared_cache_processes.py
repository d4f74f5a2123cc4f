"""The fleet's cache through real processes: what a sidecar can answer that was started when it was too late to ask."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tests.support.caching_origin import caching_origin
from tests.support.fleet import pod_config
from tests.support.redis_server import redis_server
from tests.support.shared_cache import SHARED, Pages, body, has_written
from tests.support.wire import comes_true

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import LaunchSidecar

SOON = 1.0


async def test_a_pod_that_was_started_during_the_outage_answers_stale(
    tmp_path: Path, launch_sidecar: LaunchSidecar
) -> None:
    async with redis_server(tmp_path) as server:
        pages = Pages()
        pages.fields = ["Cache-Control: max-age=1"]
        async with caching_origin(pages) as origin:
            one = await (await launch_sidecar(pod_config(origin.url, server.url, "one", **SHARED))).ready()
            assert await body(one, "/offers") == b"1"
            await has_written(one, 1)
        # The upstream is dead from here on, and so is the only sidecar that ever asked it.
        one.terminate()
        assert await one.exit_code() == 0
        fresh = await (await launch_sidecar(pod_config(origin.url, server.url, "fresh", **SHARED))).ready()

        async def stale() -> bool:
            return b"ttl=-" in ((await fresh.get("/offers")).get("cache-status") or b"")

        await comes_true(stale)
        answers = [await fresh.get("/offers") for _ in range(6)]
        assert {(answer.status, answer.body) for answer in answers} == {(200, b"1")}
        answer = answers[-1]
        assert b"circuit_open" in (answer.get("cache-status") or b"")
        assert int(answer.get("age") or 0) >= 1
        assert (await fresh.get("/never")).status in {502, 503}


async def test_a_purge_reaches_all_processes_within_a_second(tmp_path: Path, launch_sidecar: LaunchSidecar) -> None:
    async with redis_server(tmp_path) as server, caching_origin(Pages()) as origin:
        pods = [
            await (await launch_sidecar(pod_config(origin.url, server.url, f"pod-{number}", **SHARED))).ready()
            for number in range(3)
        ]
        assert await body(pods[0], "/offers") == b"1"
        await has_written(pods[0], 1)
        assert {await body(pod, "/offers") for pod in pods} == {b"1"}
        await pods[2].api("DELETE", "/v1/cache?tag=offers")
        began = time.monotonic()

        async def all_anew() -> bool:
            return b"1" not in await asyncio.gather(*(body(pod, "/offers") for pod in pods))

        await comes_true(all_anew)
        assert time.monotonic() - began < SOON
