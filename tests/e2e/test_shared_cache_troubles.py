"""Redis misbehaves while it is the fleet's cache: every request is answered, from memory or by the upstream, and hardly
waits; a purge made meanwhile is told as soon as it can be; and soon after the trouble all share again.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import RedisError

from tests.support.fleet import KEY, FleetScene, fleet_scene
from tests.support.redis_server import RedisServer, free_port, redis_cluster, redis_server
from tests.support.shared_cache import ENTRIES, Pages, body, has_written, looks, start_pods, writes
from tests.support.unreliable_link import Mood, UnreliableLink, unreliable_link
from tests.support.wire import comes_true

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

CONVERGED = 5.0
READ_TIMEOUT = 0.02
A_LITTLE = 0.03
"""Seconds that a request takes besides, on a machine that does much else."""
LONGEST = 0.9
"""Seconds: less than any call of Redis that fails."""
REQUESTS = 40
MOST_LINES = 20


class Stage:
    """Two sidecars that reach Redis over a link. Both have /kept in memory, and it is in Redis."""

    def __init__(self, scene: FleetScene, pages: Pages, link: UnreliableLink, stack: AsyncExitStack) -> None:
        self.scene = scene
        self.server = scene.server
        self.pages = pages
        self.link = link
        self.stack = stack
        self.busy: asyncio.Task[Any] | None = None
        self.number = 0

    def fresh_target(self) -> str:
        self.number += 1
        return f"/fresh/{self.number}"


@pytest.fixture
async def stage(tmp_path: Path, no_task_leaks: None) -> AsyncIterator[Stage]:  # noqa: ARG001 - torn down after it
    async with (
        AsyncExitStack() as stack,
        redis_server(tmp_path) as server,
        unreliable_link(server.port) as link,
        fleet_scene(server) as scene,
    ):
        scene.origin.answer = pages = Pages()
        one, other = await start_pods(scene, 2, url=link.url)
        assert await body(one, "/kept") == b"1"
        await has_written(one, 1)
        assert await body(other, "/kept") == b"1"
        yield Stage(scene, pages, link, stack)


async def _nothing(_: Stage) -> None:
    pass


async def _down(stage: Stage) -> None:
    await stage.server.stop()


async def _up(stage: Stage) -> None:
    await stage.server.start()


async def _freeze(stage: Stage) -> None:
    stage.server.freeze()


async def _thaw(stage: Stage) -> None:
    stage.server.thaw()


async def _slow(stage: Stage) -> None:
    stage.link.mood, stage.link.delay = Mood.SLOW, 0.2


async def _swallow(stage: Stage) -> None:
    stage.link.mood = Mood.SWALLOW


async def _silent(stage: Stage) -> None:
    stage.link.mood = Mood.SWALLOW
    stage.link.cut()


async def _pass(stage: Stage) -> None:
    stage.link.mood = Mood.PASS


async def _flush(stage: Stage) -> None:
    await stage.server.ask("FLUSHALL")


async def _forget_scripts(stage: Stage) -> None:
    await stage.server.ask("SCRIPT", "FLUSH")


async def _failover(stage: Stage) -> None:
    server = RedisServer(stage.server._folder.parent, "redis")
    stage.stack.push_async_callback(server.stop)
    await server.start()
    stage.link.target = server.port
    stage.link.cut()


async def _full(stage: Stage) -> None:
    await stage.server.ask("CONFIG", "SET", "maxmemory", "1")


async def _roomy(stage: Stage) -> None:
    await stage.server.ask("CONFIG", "SET", "maxmemory", "0")


async def _replica(stage: Stage) -> None:
    await stage.server.ask("REPLICAOF", "127.0.0.1", free_port())


async def _master(stage: Stage) -> None:
    await stage.server.ask("REPLICAOF", "NO", "ONE")


async def _busy(stage: Stage) -> None:
    await stage.server.ask("CONFIG", "SET", "busy-reply-threshold", "50")
    stage.busy = asyncio.ensure_future(stage.server.ask("EVAL", "while true do end", 0))


async def _idle(stage: Stage) -> None:
    await stage.server.ask("SCRIPT", "KILL")
    assert stage.busy is not None
    with suppress(RedisError):
        await stage.busy


async def _garbage(stage: Stage) -> None:
    """Every key of the cache is of another kind, and there are sorted sets full of nonsense."""
    for key in await stage.server.ask("KEYS", f"{KEY}cache:*"):
        await stage.server.ask("SET", key, "\0garbage")
    for log in ("purges", "gone"):
        await stage.server.ask("DEL", f"{KEY}cache:{log}")
        await stage.server.ask("ZADD", f"{KEY}cache:{log}", "9e18", "\0garbage", "inf", "x\n\0", "-5", "y")


async def _wrong_types(stage: Stage) -> None:
    for key in await stage.server.ask("KEYS", f"{KEY}cache:*"):
        await stage.server.ask("DEL", key)
        await stage.server.ask("LPUSH", key, "x")


@dataclass(frozen=True)
class Trouble:
    begins: Callable[[Stage], Awaitable[None]]
    ends: Callable[[Stage], Awaitable[None]] = _nothing
    keeps: bool = True
    """Whether Redis has afterwards what it had before."""


TROUBLES = {
    "down": Trouble(_down, _up, keeps=False),
    "frozen": Trouble(_freeze, _thaw),
    "slow": Trouble(_slow, _pass),
    "half-open connections": Trouble(_swallow, _pass),
    "a server that never answers": Trouble(_silent, _pass),
    "FLUSHALL": Trouble(_flush, keeps=False),
    "NOSCRIPT": Trouble(_forget_scripts),
    "failover to an empty one": Trouble(_failover, keeps=False),
    "OOM": Trouble(_full, _roomy),
    "READONLY": Trouble(_replica, _master),
    "BUSY": Trouble(_busy, _idle),
    "garbage": Trouble(_garbage, keeps=False),
    "WRONGTYPE": Trouble(_wrong_types, keeps=False),
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_no_request_fails_or_waits_and_all_share_again_soon(
    stage: Stage, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = stage.scene.pods
    caplog.set_level(logging.INFO)
    trouble = TROUBLES[name]
    await trouble.begins(stage)
    took = []
    for number in range(REQUESTS):
        pod, began = (one, other)[number % 2], time.monotonic()
        await body(pod, stage.fresh_target())
        took.append(time.monotonic() - began)
    assert await body(one, "/kept") == b"1"
    assert max(took) < LONGEST
    assert statistics.median(took) < READ_TIMEOUT + A_LITTLE
    await one.api("DELETE", "/v1/cache?url=/kept")
    await trouble.ends(stage)

    async def purged() -> bool:
        return await body(other, "/kept") != b"1"

    await comes_true(purged, within=CONVERGED)

    async def shared() -> bool:
        target = stage.fresh_target()
        fetched = await body(one, target)
        await asyncio.sleep(0.05)
        return await body(other, target) == fetched

    await comes_true(shared, within=CONVERGED)
    (fresh,) = (await start_pods(stage.scene, 1, url=stage.link.url))[-1:]
    assert await body(fresh, "/kept") != b"1"
    lines = [record for record in caplog.records if "stored answer" in record.getMessage()]
    assert len(lines) <= MOST_LINES


async def test_a_purge_that_redis_has_forgotten_is_told_again(stage: Stage) -> None:
    """An eviction or a failover may lose the memory of a purge, and keep what it covers."""
    one, _ = stage.scene.pods
    (entry,) = await stage.server.ask("KEYS", ENTRIES)
    await one.api("DELETE", "/v1/cache?url=/kept")
    saved = await stage.server.ask("DUMP", entry)
    await stage.server.ask("FLUSHALL")
    await stage.server.ask("RESTORE", entry, 60_000, saved)

    async def told() -> bool:
        return bool(await stage.server.ask("ZCARD", f"{KEY}cache:purges"))

    await comes_true(told, within=CONVERGED)
    (fresh,) = (await start_pods(stage.scene, 1, url=stage.link.url))[-1:]
    assert await body(fresh, "/kept") != b"1"
    assert await looks(fresh, "miss") == 1


async def test_a_sidecar_starts_without_redis_and_shares_once_it_is_there(stage: Stage) -> None:
    await stage.server.stop()
    fresh = (await start_pods(stage.scene, 1, url=stage.link.url))[-1]
    await body(fresh, "/fresh")
    assert await looks(fresh, "skipped") == 1
    await stage.server.start()

    async def shared() -> bool:
        target = stage.fresh_target()
        fetched = await body(stage.scene.pods[0], target)
        await asyncio.sleep(0.05)
        return await body(fresh, target) == fetched

    await comes_true(shared, within=CONVERGED)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda value: value[:-5],
    "foreign": lambda _: b"garbage",
    "empty": lambda _: b"",
    "flipped": lambda value: value[:-1] + bytes([value[-1] ^ 1]),
    "another version": lambda value: value.replace(b"CSCV\1", b"CSCV\2"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_value_is_a_miss_and_counted(stage: Stage, damage: str) -> None:
    one, other = stage.scene.pods
    await body(one, "/a")
    await has_written(one, 2)
    for key in await stage.server.ask("KEYS", ENTRIES):
        name = await stage.server.ask("HGET", key, "order")
        value = await stage.server.ask("HGET", key, name)
        await stage.server.ask("HSET", key, name, DAMAGES[damage](value))
    assert await body(other, "/a") == b"3"
    assert (await looks(other, "damaged"), await looks(other, "miss")) == (1, 1)


async def test_the_answer_to_another_key_is_a_miss(stage: Stage) -> None:
    one, other = stage.scene.pods
    (kept,) = await stage.server.ask("KEYS", ENTRIES)
    await body(one, "/a")
    await has_written(one, 2)
    (entry,) = set(await stage.server.ask("KEYS", ENTRIES)) - {kept}
    await stage.server.ask("COPY", kept, entry, "REPLACE")
    assert await body(other, "/a") == b"3"
    assert await looks(other, "damaged") == 1


async def test_answers_that_a_full_redis_refuses_are_counted(stage: Stage) -> None:
    one, other = stage.scene.pods
    await _full(stage)
    fetched = await body(one, "/full")

    async def failed() -> bool:
        return await writes(one, "failed") == 1

    await comes_true(failed)
    assert await body(other, "/full") != fetched
    assert await body(other, "/kept") == b"1"


async def test_a_cluster_of_three_keeps_the_answers_of_a_fleet(tmp_path: Path, no_task_leaks: None) -> None:  # noqa: ARG001
    async with redis_cluster(tmp_path) as nodes, fleet_scene(nodes[0]) as scene:
        scene.origin.answer = Pages()
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        one, other = await start_pods(scene, 2, url=url, redis_block={"read_timeout": "1s"})
        assert await body(one, "/1") == b"1"
        await has_written(one, 1)
        assert await body(other, "/1") == b"1"
        await other.api("DELETE", "/v1/cache?tag=1")

        async def purged() -> bool:
            return await body(one, "/1") == b"2"

        await comes_true(purged, within=1.0)
