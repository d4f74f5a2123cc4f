"""Redis misbehaves in every way it can. No request fails or waits because of it, each sidecar goes on by itself, a
metric and a few lines say so, and soon after the trouble all agree again: what stands then opens the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import RedisError

from sidecar.adapters.config_file import load_text
from sidecar.app import build
from tests.support.fleet import KEY, SICK, WELL, FleetScene, all_are, fleet_scene, pod_config, shown, state_of, trip
from tests.support.redis_server import RedisServer, cluster_node, free_port, redis_cluster, redis_server
from tests.support.running import InProcess
from tests.support.unreliable_link import Mood, UnreliableLink, unreliable_link
from tests.support.wire import comes_true

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

LONG_OPEN = {"open_duration": "30s"}
QUICK = 0.9
"""Seconds that a request may take on a machine that does much else: less than any call of Redis that fails."""
CONVERGED = 5.0
MOST_LINES = 20


class Stage:
    """Three sidecars that reach Redis over a link; one has opened its own circuit."""

    def __init__(self, scene: FleetScene, link: UnreliableLink, folder: Path, stack: AsyncExitStack) -> None:
        self.scene = scene
        self.server = scene.server
        self.link = link
        self.folder = folder
        self.stack = stack
        self.busy: asyncio.Task[Any] | None = None

    async def another_server(self, *options: str) -> RedisServer:
        server = RedisServer(self.folder, "redis", *options)
        self.stack.push_async_callback(server.stop)
        return await server.start()

    async def lead_to(self, server: RedisServer) -> None:
        self.link.target = server.port
        self.link.cut()


@pytest.fixture
async def stage(tmp_path: Path, no_task_leaks: None) -> AsyncIterator[Stage]:  # noqa: ARG001 - torn down after it
    async with (
        AsyncExitStack() as stack,
        redis_server(tmp_path) as server,
        unreliable_link(server.port) as link,
        fleet_scene(server) as scene,
    ):
        stage = Stage(scene, link, tmp_path, stack)
        await scene.start(3, url=link.url, breaker=LONG_OPEN)
        await scene.joined()
        await trip(scene.pods[0])
        yield stage


# The troubles: how each begins and how it ends


async def _down(stage: Stage) -> None:
    await stage.server.stop()


async def _up(stage: Stage) -> None:
    await stage.server.start()


async def _freeze(stage: Stage) -> None:
    stage.server.freeze()


async def _thaw(stage: Stage) -> None:
    stage.server.thaw()


async def _slow(stage: Stage) -> None:
    stage.link.mood, stage.link.delay = Mood.SLOW, 1.5


async def _swallow(stage: Stage) -> None:
    stage.link.mood = Mood.SWALLOW


async def _silent(stage: Stage) -> None:
    stage.link.mood = Mood.SWALLOW
    stage.link.cut()


async def _pass(stage: Stage) -> None:
    stage.link.mood = Mood.PASS


async def _flush(stage: Stage) -> None:
    await stage.server.ask("FLUSHALL")


async def _nothing(_: Stage) -> None:
    pass


async def _failover(stage: Stage) -> None:
    await stage.lead_to(await stage.another_server())


async def _full(stage: Stage) -> None:
    await stage.server.ask("CONFIG", "SET", "maxmemory", "1")


async def _roomy(stage: Stage) -> None:
    await stage.server.ask("CONFIG", "SET", "maxmemory", "0")


async def _replica(stage: Stage) -> None:
    await stage.server.ask("REPLICAOF", "127.0.0.1", free_port())


async def _master_down(stage: Stage) -> None:
    await stage.server.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    await _replica(stage)


async def _master(stage: Stage) -> None:
    await stage.server.ask("REPLICAOF", "NO", "ONE")


async def _lock(stage: Stage) -> None:
    await stage.server.ask("CONFIG", "SET", "requirepass", "sesame")
    stage.server.password = "sesame"
    stage.link.cut()


async def _unlock(stage: Stage) -> None:
    await stage.server.ask("CONFIG", "SET", "requirepass", "")
    stage.server.password = None


async def _wrong_types(stage: Stage) -> None:
    for key in await stage.server.ask("KEYS", f"{KEY}*"):
        kind = await stage.server.ask("TYPE", key)
        await stage.server.ask("DEL", key)
        await stage.server.ask(*(("LPUSH", key, "x") if kind == b"string" else ("SET", key, "x")))


async def _garbage(stage: Stage) -> None:
    await stage.server.ask("SET", f"{KEY}v", "\x00garbage")
    await stage.server.ask("HSET", f"{KEY}c:all", "state", "open", "round", "1e999", "until", "x")
    await stage.server.ask("HSET", f"{KEY}o", "all", '{"mode": "forced_open"}')
    await stage.server.ask("PUBLISH", f"{KEY}events", "{]")


async def _busy(stage: Stage) -> None:
    await stage.server.ask("CONFIG", "SET", "busy-reply-threshold", "20")
    stage.busy = asyncio.create_task(stage.server.ask("EVAL", "while true do end", 0))
    await asyncio.sleep(0.05)


async def _kill_script(stage: Stage) -> None:
    await stage.server.ask("SCRIPT", "KILL")
    assert stage.busy is not None
    with suppress(RedisError):
        await stage.busy


async def _load(stage: Stage) -> None:
    await stage.server.ask("DEBUG", "POPULATE", 12_000)
    await stage.server.ask("SAVE")
    await stage.server.stop()
    await stage.server.launch("--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024")


async def _loaded(stage: Stage) -> None:
    async def answers() -> bool:
        with suppress(RedisError):
            return bool(await stage.server.ask("DBSIZE"))
        return False

    await comes_true(answers, within=20.0)


async def _forget_scripts(stage: Stage) -> None:
    await stage.server.ask("SCRIPT", "FLUSH")


async def _kill_subscribers(stage: Stage) -> None:
    await stage.server.ask("CLIENT", "KILL", "TYPE", "pubsub")


async def _elsewhere(stage: Stage) -> None:
    """A node of a Cluster that serves no slot."""
    node = cluster_node(stage.folder, "--cluster-require-full-coverage", "no")
    stage.stack.push_async_callback(node.stop)
    await node.start()
    other = "f" * 40
    config = stage.folder / f"redis-{node.port}" / "nodes.conf"
    await node.stop()
    config.write_text(
        config.read_text() + f"{other} 127.0.0.1:{free_port()}@{free_port()} master - 0 0 1 connected 0-16383\n"
    )
    await node.start()
    await stage.lead_to(node)


async def _home(stage: Stage) -> None:
    await stage.lead_to(stage.server)


@dataclass(frozen=True)
class Trouble:
    """How it begins and ends, and the kind of error that it shows as; None: it shows as none."""

    begin: Callable[[Stage], Awaitable[None]]
    end: Callable[[Stage], Awaitable[None]]
    kind: str | None


TROUBLES = {
    "goes down and comes back with nothing": Trouble(_down, _up, "connection"),
    "frozen": Trouble(_freeze, _thaw, "timeout"),
    "slow": Trouble(_slow, _pass, "timeout"),
    "half-open connections": Trouble(_swallow, _pass, "timeout"),
    "accepts and never answers": Trouble(_silent, _pass, "timeout"),
    "FLUSHALL": Trouble(_flush, _nothing, None),
    "failover to an empty replica": Trouble(_failover, _nothing, "connection"),
    "OOM": Trouble(_full, _roomy, "oom"),
    "READONLY": Trouble(_replica, _master, "readonly"),
    "MASTERDOWN": Trouble(_master_down, _master, "master_down"),
    "WRONGTYPE": Trouble(_wrong_types, _nothing, "wrong_type"),
    "garbage": Trouble(_garbage, _nothing, "garbage"),
    "wrong password": Trouble(_lock, _unlock, "auth"),
    "BUSY": Trouble(_busy, _kill_script, "busy"),
    "LOADING": Trouble(_load, _loaded, "loading"),
    "NOSCRIPT": Trouble(_forget_scripts, _nothing, None),
    "subscriber killed": Trouble(_kill_subscribers, _nothing, "connection"),
    "MOVED": Trouble(_elsewhere, _home, "moved"),
}


async def quickly(pod: InProcess, path: str) -> int:
    """The status of a request that does not wait."""
    began = time.monotonic()
    response = await pod.get(path)
    assert time.monotonic() - began < QUICK
    return response.status


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
async def test_a_trouble_costs_no_request_and_all_agree_soon_after(
    stage: Stage, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sidecar.adapters.redis")
    alone, other, third = stage.scene.pods
    await trouble.begin(stage)

    for _ in range(10):
        assert await quickly(other, WELL) == 200
    assert await quickly(alone, WELL) == 503, "its circuit goes on by itself"
    assert await state_of(alone) == "open"
    if trouble.kind is not None:

        async def noticed() -> bool:
            await quickly(third, WELL)
            return any([trouble.kind in await stage.scene.errors(pod) for pod in stage.scene.pods])

        await comes_true(noticed, within=8.0, every=0.05)
    await trip(other)
    assert await quickly(other, WELL) == 503

    await trouble.end(stage)
    began = time.monotonic()
    await all_are([third], "open", within=CONVERGED)
    assert time.monotonic() - began < CONVERGED
    await all_are(stage.scene.pods, "open", within=1.0)

    async def in_step() -> bool:
        return (await third.metrics()).total("sidecar_redis_up") == 1 and (await shown(third))["fleet"]["votes"] == 2

    await comes_true(in_step, within=CONVERGED)
    lines = [record for record in caplog.records if record.name.startswith("sidecar.adapters.redis")]
    assert len(lines) <= MOST_LINES * len(stage.scene.pods)
    assert bool(lines) is (trouble.kind is not None)


@pytest.fixture
async def scene(tmp_path: Path, no_task_leaks: None) -> AsyncIterator[FleetScene]:  # noqa: ARG001 - torn down after it
    async with redis_server(tmp_path) as server, fleet_scene(server) as scene:
        yield scene


async def test_redis_down_at_the_start_keeps_nobody_from_starting(scene: FleetScene) -> None:
    await scene.server.stop()
    began = time.monotonic()
    pods = await scene.start(3, breaker=LONG_OPEN)
    assert time.monotonic() - began < 3 * 1.5
    assert (await pods[0].metrics()).total("sidecar_redis_up") == 0
    assert [await quickly(pod, WELL) for pod in pods] == [200, 200, 200]
    await trip(pods[0])
    await trip(pods[1])
    await scene.server.start()
    await all_are(pods, "open", within=CONVERGED)


async def test_probes_go_on_without_redis_one_for_each_pod(scene: FleetScene) -> None:
    pods = await scene.start(2)
    await scene.joined()
    await trip(pods[0])
    await trip(pods[1])
    await all_are(pods, "open")
    scene.server.freeze()
    await asyncio.sleep(0.45)
    began = time.monotonic()
    assert (await pods[0].get(WELL)).status == 200
    assert time.monotonic() - began < QUICK, "a lease is waited for briefly"
    assert await state_of(pods[0]) == "closed"
    assert (await pods[1].get(SICK)).body == b"ok"
    scene.server.thaw()

    async def agreed() -> bool:
        await pods[1].get(WELL)
        return [await state_of(pod) for pod in pods] == ["closed", "closed"]

    await comes_true(agreed, within=CONVERGED)


async def test_an_override_that_could_not_be_told_is_told_when_redis_is_back(scene: FleetScene) -> None:
    pods = await scene.start(2)
    await scene.joined()
    await scene.server.stop()
    await pods[0].api("PUT", "/v1/circuits/all/override", {"mode": "forced_open", "ttl": "never", "actor": "ann"})
    assert await quickly(pods[0], WELL) == 503
    await scene.server.start()

    async def told() -> bool:
        return ((await shown(pods[1]))["override"] or {}).get("actor") == "ann"

    await comes_true(told, within=CONVERGED)


async def test_overrides_outlive_a_redis_that_forgot_them(scene: FleetScene) -> None:
    pods = await scene.start(2)
    await scene.joined()
    await pods[0].api("PUT", "/v1/circuits/all/override", {"mode": "forced_open", "ttl": "never", "actor": "ann"})
    await scene.server.ask("FLUSHALL")

    async def known_again() -> bool:
        return bool(await scene.server.ask("HEXISTS", f"{KEY}o", "all"))

    await comes_true(known_again, within=CONVERGED)
    fresh = (await scene.start())[-1]
    assert (await shown(fresh))["override"]["actor"] == "ann"


async def test_a_lone_sick_pod_does_not_become_the_majority_of_a_redis_that_forgot_all(scene: FleetScene) -> None:
    pods = await scene.start(3, breaker=LONG_OPEN)
    await scene.joined()
    await trip(pods[0])
    for _ in range(3):
        await scene.server.ask("FLUSHALL")
        await asyncio.sleep(0.4)
    await scene.joined()
    assert [await state_of(pod) for pod in pods] == ["open", "closed", "closed"]


async def test_an_acl_user_that_may_not_subscribe_hears_by_looking(
    scene: FleetScene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.server.ask("ACL", "SETUSER", "app", "on", "nopass", "~{shop}:*", "+@all", "-subscribe", "resetchannels")
    pods = await scene.start(3, url=f"redis://app:x@127.0.0.1:{scene.server.port}", breaker=LONG_OPEN)
    await trip(pods[0])
    await trip(pods[1])
    await all_are(pods, "open", within=2.0)
    assert await scene.errors(pods[2]) == {"permission"}
    # One line of each for the circuits, and one for the cache.
    assert sum("permission" in record.getMessage() for record in caplog.records) <= 6


@pytest.mark.parametrize("off", [60.0, -60.0])
async def test_a_pod_whose_clock_is_wrong_is_a_member_like_others(scene: FleetScene, off: float) -> None:
    class Wrong:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def wall() -> float:
            return time.time() + off

    (right,) = await scene.start(breaker=LONG_OPEN)
    config = load_text(pod_config(scene.origin.url, scene.server.url, "pod-1", breaker=LONG_OPEN), {}).config
    assert config is not None
    app = build(config, Wrong())
    await app.start()
    wrong = InProcess(app.addresses, app=app)
    scene.pods.append(wrong)
    await scene.joined()
    await wrong.api("PUT", "/v1/circuits/all/override", {"mode": "observe", "ttl": "500ms"})

    async def overridden() -> bool:
        return (await shown(right))["override"] is not None

    await comes_true(overridden)

    async def over() -> bool:
        return [(await shown(pod))["override"] for pod in (right, wrong)] == [None, None]

    await comes_true(over, within=3.0)
    await trip(right)
    await trip(wrong)
    await all_are([right, wrong], "open")
    assert 25 <= (await shown(right))["retry_after"] <= 30
    assert 25 <= (await shown(wrong))["retry_after"] <= 30


async def test_a_cluster_of_three_serves_a_fleet(tmp_path: Path, no_task_leaks: None) -> None:  # noqa: ARG001
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(redis_cluster(tmp_path))
        scene = await stack.enter_async_context(fleet_scene(nodes[0]))
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        pods = await scene.start(3, url=url, breaker=LONG_OPEN)

        async def known() -> bool:
            return (await pods[0].metrics()).total("sidecar_fleet_members") == 3

        await comes_true(known, within=5.0)
        await trip(pods[0])
        await trip(pods[1])
        await all_are(pods, "open", within=2.0)
        assert await scene.errors(pods[2]) == set()
