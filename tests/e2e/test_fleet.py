"""Several sidecars and one Redis: what one learns all know, and probes are not multiplied."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import SICK, WELL, FleetScene, all_are, fleet_scene, shown, state_of, trip
from tests.support.redis_server import redis_server
from tests.support.wire import comes_true, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.running import InProcess

GET_HANG = b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def scene(tmp_path: Path, no_task_leaks: None) -> AsyncIterator[FleetScene]:  # noqa: ARG001 - torn down after it
    async with redis_server(tmp_path) as server, fleet_scene(server) as scene:
        yield scene


async def opened(scene: FleetScene, count: int = 3, **blocks: Any) -> list[InProcess]:
    """So many sidecars whose circuit two have opened for all."""
    pods = await scene.start(count, **blocks)
    await scene.joined()
    await trip(pods[0])
    await trip(pods[1])
    await all_are(pods, "open")
    scene.origin.requests.clear()
    return pods


# Who decides


async def test_a_sick_pod_stays_alone_and_is_told_so(scene: FleetScene) -> None:
    pods = await scene.start(3)
    await scene.joined()
    await trip(pods[0])

    async def voted() -> bool:
        return bool((await shown(pods[2]))["fleet"]["votes"] == 1)

    await comes_true(voted)
    assert [await state_of(pod) for pod in pods] == ["open", "closed", "closed"]
    assert (await shown(pods[1]))["fleet"]["disagree"] == ["pod-0"]
    refused = await pods[0].get(WELL)
    assert refused.status == 503
    assert b"local_only" in refused.body
    assert (await pods[1].get(WELL)).status == 200


async def test_the_quorum_opens_everybodys_at_once(scene: FleetScene) -> None:
    pods = await scene.start(3)
    await scene.joined()
    await trip(pods[0])
    await trip(pods[1])
    began = time.monotonic()
    await all_are(pods, "open")
    assert time.monotonic() - began < 0.4
    refused = await pods[2].get(WELL)
    assert b"the fleet opened it: 3 consecutive failures" in refused.body
    assert b"local_only" not in refused.body
    assert b"local_only" not in (await pods[0].get(WELL)).body
    seen = (await shown(pods[2]))["fleet"]
    assert (seen["state"], seen["votes"], seen["disagree"], seen["fresh"]) == ("open", 2, [], True)
    assert {member["id"] for member in seen["members"]} == {"pod-0", "pod-1", "pod-2"}
    assert set(seen["members"][0]) == {"id", "version", "seen"}
    assert seen["window"]["failures"] == 6


async def test_any_first_trip_opens_all_where_that_is_configured(scene: FleetScene) -> None:
    pods = await scene.start(3, fleet={"trip": "any"})
    await scene.joined()
    await trip(pods[0])
    await all_are(pods, "open")


async def test_trips_that_are_local_concern_nobody_else(scene: FleetScene) -> None:
    pods = await scene.start(3, fleet={"trip": "local"})
    await scene.joined()
    await trip(pods[0])
    await trip(pods[1])

    async def told() -> bool:
        return bool((await shown(pods[2]))["fleet"]["window"]["failures"] == 6)

    await comes_true(told)
    assert await state_of(pods[2]) == "closed"
    assert b"local_only" not in (await pods[0].get(WELL)).body


async def test_a_fleet_of_one_is_its_own_quorum(scene: FleetScene) -> None:
    (pod,) = await scene.start()
    await trip(pod)

    async def shared() -> bool:
        return bool((await shown(pod))["fleet"]["state"] == "open")

    await comes_true(shared)


async def test_a_fresh_pod_has_taken_up_what_is_open_and_for_how_long_when_it_is_ready(scene: FleetScene) -> None:
    pods = await opened(scene, 2, breaker={"open_duration": "20s"})
    fresh = (await scene.start())[-1]
    assert await state_of(fresh) == "open"
    left = (await shown(fresh))["retry_after"]
    assert left <= (await shown(pods[0]))["retry_after"] <= left + 1


# Probes


async def test_one_probe_for_all_and_its_success_closes_all(scene: FleetScene) -> None:
    pods = await opened(scene, 3)

    async def probed() -> bool:
        statuses = [pod.get(WELL) for pod in pods for _ in range(10)]
        return 200 in [one.status for one in await asyncio.gather(*statuses)]

    await comes_true(probed)
    await all_are(pods, "closed")
    assert (await shown(pods[2]))["last_trip"]["cause"] == "fleet_opened"


async def test_a_crowd_at_the_end_of_the_period_sends_one_probe_in_the_whole_fleet(scene: FleetScene) -> None:
    pods = await opened(scene, 3)
    clients = [await pod.connect() for pod in pods for _ in range(20)]
    await asyncio.sleep(0.5)
    for client in clients:
        client.transport.write(GET_HANG)
    await eventually(lambda: sum(client.received.startswith(b"HTTP/1.1 503") for client in clients) == len(clients) - 1)
    assert scene.probes() == 1

    async def led() -> bool:
        return (await shown(pods[0]))["fleet"]["leader"] is not None

    await comes_true(led)


async def test_a_failed_probe_keeps_the_door_shut_for_all_for_the_next_period(scene: FleetScene) -> None:
    pods = await opened(scene, 3, breaker={"backoff": {"multiplier": 10, "jitter": 0, "max": "1m"}})

    async def failed() -> bool:
        return (await pods[0].get(SICK)).body == b"ok"

    await comes_true(failed)

    async def shut() -> bool:
        return all([((await shown(pod))["retry_after"] or 0) >= 3 for pod in pods])

    await comes_true(shut, within=1.0)
    assert [(await pod.get(WELL)).status for pod in pods] == [503, 503, 503]
    assert scene.probes() == 1


async def test_probes_of_several_pods_close_together(scene: FleetScene) -> None:
    pods = await opened(scene, 3, breaker={"success_threshold": 2})
    await asyncio.sleep(0.45)
    assert (await pods[0].get(WELL)).status == 200
    assert await state_of(pods[0]) == "half_open"

    async def second() -> bool:
        return (await pods[1].get(WELL)).status == 200

    await comes_true(second)
    await all_are(pods, "closed")
    assert scene.probes() == 2


async def test_a_cancelled_client_frees_its_lease_although_everybody_asks_for_it(scene: FleetScene) -> None:
    """A lease that every refused request renews would never be free."""
    pods = await opened(scene, 2)
    await asyncio.sleep(0.45)
    client = await pods[0].connect()
    client.transport.write(GET_HANG)
    await eventually(lambda: scene.probes() == 1)
    refused = await asyncio.gather(*(pods[1].get(WELL) for _ in range(20)))
    assert {one.status for one in refused} == {503}
    client.transport.abort()

    async def another() -> bool:
        return (await pods[1].get(WELL)).status == 200

    await comes_true(another, within=1.0)
    await all_are(pods, "closed")


async def test_a_probe_that_hangs_gives_its_lease_up_in_time(scene: FleetScene) -> None:
    pods = await opened(scene, 2, breaker={"probe_timeout": "300ms"})
    await asyncio.sleep(0.45)
    client = await pods[0].connect()
    client.transport.write(GET_HANG)
    await eventually(lambda: scene.probes() == 1)

    async def another() -> bool:
        return (await pods[1].get(WELL)).status == 200

    await comes_true(another, within=2.3)
    await all_are(pods, "closed")


async def test_a_background_health_probe_is_one_for_all(scene: FleetScene) -> None:
    pods = await opened(scene, 2)
    assert all([await state_of(pod) == "open" for pod in pods])
    probing = [pod.app.data.probes for pod in pods if pod.app is not None]
    await asyncio.sleep(0.45)
    due = [await probes.due("origin") for probes in probing]
    assert due == [True, False]
    assert [pod.app.data.routes.circuits["all"].counters.rejected for pod in pods if pod.app is not None] == [0, 0]


async def test_a_reset_is_one_for_all(scene: FleetScene) -> None:
    pods = await opened(scene, 3, breaker={"open_duration": "20s"})
    await pods[2].api("POST", "/v1/circuits/all/reset", {"actor": "ann"})
    await all_are(pods, "closed")
    assert [(await pod.get(WELL)).status for pod in pods] == [200, 200, 200]


# Operators


async def override(pod: InProcess, mode: str, **more: object) -> Any:
    return (await pod.api("PUT", "/v1/circuits/all/override", {"mode": mode, "actor": "ann", **more}))["override"]


async def overrides(scene: FleetScene) -> list[tuple[str, str, str] | None]:
    found = [(await shown(pod))["override"] for pod in scene.pods]
    return [one and (one["mode"], one["actor"], one["scope"]) for one in found]


async def overridden(scene: FleetScene, *expected: tuple[str, str, str] | None) -> None:
    async def so() -> bool:
        return await overrides(scene) == list(expected)

    await comes_true(so, within=2.0)


ANN = ("forced_open", "ann", "fleet")


async def test_an_override_reaches_all_and_ends_for_all(scene: FleetScene) -> None:
    pods = await scene.start(3)
    await scene.joined()
    await override(pods[0], "forced_open", ttl="1500ms", reason="drill")
    await overridden(scene, ANN, ANN, ANN)
    assert b"forced_open" in (await pods[2].get(WELL)).body
    fresh = (await scene.start())[-1]
    assert (await shown(fresh))["override"]["actor"] == "ann", "before it is ready"
    await overridden(scene, None, None, None, None)


async def test_an_override_can_be_taken_back_by_any_pod(scene: FleetScene) -> None:
    pods = await scene.start(2)
    await scene.joined()
    await override(pods[0], "forced_open", ttl="never")
    await overridden(scene, ANN, ANN)
    await pods[1].api("DELETE", "/v1/circuits/all/override")
    await overridden(scene, None, None)
    fresh = (await scene.start())[-1]
    assert (await shown(fresh))["override"] is None


async def test_an_override_may_be_for_one_pod_and_gives_way_to_the_fleets(scene: FleetScene) -> None:
    pods = await scene.start(2)
    await scene.joined()
    mine = ("observe", "ann", "pod")
    await override(pods[0], "observe", scope="pod")
    await overridden(scene, mine, None)
    await override(pods[1], "forced_open")
    await overridden(scene, ANN, ANN)
    await override(pods[0], "observe", scope="pod")
    await overridden(scene, mine, ANN)
    await pods[0].api("DELETE", "/v1/circuits/all/override")
    await overridden(scene, ANN, ANN)
    await pods[0].api("DELETE", "/v1/circuits/all/override?scope=fleet")
    await overridden(scene, None, None)


async def test_overrides_are_for_the_pod_alone_where_that_is_configured(scene: FleetScene) -> None:
    pods = await scene.start(2, fleet={"overrides": "pod"})
    await scene.joined()
    await override(pods[0], "forced_open")
    await overridden(scene, ("forced_open", "ann", "pod"), None)
    await override(pods[0], "forced_open", scope="fleet")
    await overridden(scene, ANN, ANN)


async def test_the_last_word_holds(scene: FleetScene) -> None:
    pods = await scene.start(2)
    await scene.joined()
    for number, pod in enumerate([pods[0], pods[1], pods[0], pods[1]]):
        await override(pod, "forced_open" if number % 2 else "forced_closed", reason=str(number))
    await overridden(scene, ANN, ANN)
    assert [(await shown(pod))["override"]["reason"] for pod in pods] == ["3", "3"]


async def test_an_override_outlives_a_restart_in_the_state_file_until_redis_says_otherwise(
    scene: FleetScene, tmp_path: Path
) -> None:
    state = str(tmp_path / "state")
    (pod,) = await scene.start(state_dir=state)
    await override(pod, "forced_open", ttl="never")
    await scene.stop()
    await scene.server.ask("FLUSHALL")
    (pod,) = await scene.start(state_dir=state)
    assert await overrides(scene) == [ANN]
    fresh = (await scene.start())[-1]
    assert (await shown(fresh))["override"]["actor"] == "ann"
    await scene.stop(pod)
    await fresh.api("DELETE", "/v1/circuits/all/override")
    back = (await scene.start(state_dir=state))[-1]
    assert (await shown(back))["override"] is None


# The price


async def test_a_quiet_fleet_asks_as_seldom_as_configured_however_many_requests_there_are(scene: FleetScene) -> None:
    (pod,) = await scene.start(redis_block={"sync_interval": "100ms"})
    await scene.joined()
    before, began = (await pod.metrics()).total("sidecar_redis_commands_total"), time.monotonic()
    client = await pod.connect()
    for _ in range(300):
        assert (await client.exchange(b"GET /well HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    await asyncio.sleep(1.0)
    commands = (await pod.metrics()).total("sidecar_redis_commands_total") - before
    assert commands <= (time.monotonic() - began) / 0.08 + 3


async def test_who_leaves_is_gone_at_once(scene: FleetScene) -> None:
    pods = await scene.start(2)
    await scene.joined()
    await scene.stop(pods[1])
    assert [one["id"] for one in (await shown(pods[0]))["fleet"]["members"]] == ["pod-0"]


async def test_every_series_is_there_from_the_start(scene: FleetScene) -> None:
    (pod,) = await scene.start()
    metrics = await pod.metrics()
    assert metrics.total("sidecar_redis_up") == 1
    kinds = {dict(labels)["kind"] for name, labels in metrics.samples if name == "sidecar_redis_errors_total"}
    assert {"timeout", "connection", "oom", "readonly", "busy", "loading", "auth", "permission"} <= kinds
    assert metrics.total("sidecar_redis_errors_total") == 0
    causes = {
        dict(labels).get("cause") for name, labels in metrics.samples if name == "sidecar_circuit_transitions_total"
    }
    assert {"fleet_opened", "fleet_closed"} <= causes
