"""Sidecars that share one Redis, in this process, before an origin that answers as each request asks it to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.support.caching_origin import CachingOrigin, caching_origin, message
from tests.support.running import ROUTE, InProcess, config_text
from tests.support.wire import comes_true

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable

    from tests.support.messages import WireRequest
    from tests.support.redis_server import RedisServer
    from tests.support.running import Sidecar

BREAKER: dict[str, Any] = {
    "failure_threshold": 3,
    "failure_rate": None,
    "open_duration": "400ms",
    "backoff": {"multiplier": 1, "jitter": 0, "max": "1m"},
    "success_threshold": 1,
    "probe_timeout": "2s",
}
NAMESPACE = "shop"
KEY = f"{{{NAMESPACE}}}:"
SICK, WELL, HANG = "/sick", "/well", "/hang"


def answer(request: WireRequest) -> bytes | None:
    """The path says how the origin behaves."""
    if request.target.startswith(HANG.encode()):
        return None
    return message(status=503 if request.target.startswith(SICK.encode()) else 200)


def pod_config(
    origin: str,
    redis: str,
    pod: str,
    *,
    breaker: dict[str, Any] | None = None,
    fleet: dict[str, Any] | None = None,
    redis_block: dict[str, Any] | None = None,
    upstream: dict[str, Any] | None = None,
    **top: Any,
) -> str:
    """The configuration of one sidecar of the fleet."""
    blocks = {
        "redis": {"url": redis, "namespace": NAMESPACE, **(redis_block or {})},
        "fleet": {"pod_id": pod, **(fleet or {})},
        **top,
    }
    return config_text(origin, upstream={"breaker": {**BREAKER, **(breaker or {})}, **(upstream or {})}, top=blocks)


async def state_of(pod: Sidecar) -> str:
    return str((await shown(pod))["state"])


async def shown(pod: Sidecar) -> Any:
    return await pod.api("GET", f"/v1/circuits/{ROUTE}")


async def all_are(pods: Iterable[Sidecar], state: str, within: float = 5.0) -> None:
    """Wait until the circuits of all have this state."""
    for pod in pods:

        async def there(pod: Sidecar = pod) -> bool:
            return await state_of(pod) == state

        await comes_true(there, within=within)


async def trip(pod: Sidecar, times: int = 3) -> None:
    """Let the pod's own circuit open."""
    for _ in range(times):
        assert (await pod.get(SICK)).status == 503
    assert await state_of(pod) == "open"


class FleetScene:
    """Redis, the origin, and the sidecars so far."""

    def __init__(self, server: RedisServer, origin: CachingOrigin) -> None:
        self.server = server
        self.origin = origin
        self.pods: list[InProcess] = []

    async def start(self, count: int = 1, *, url: str | None = None, **blocks: Any) -> list[InProcess]:
        """So many more sidecars."""
        for _ in range(count):
            text = pod_config(self.origin.url, url or self.server.url, f"pod-{len(self.pods)}", **blocks)
            self.pods.append(await InProcess.start(text))
        return self.pods

    async def joined(self) -> None:
        """Wait until each knows of all and hears what is told to all."""
        for pod in self.pods:

            async def complete(pod: InProcess = pod) -> bool:
                return (await pod.metrics()).total("sidecar_fleet_members") == len(self.pods)

            await comes_true(complete, within=6.0)

        async def listening() -> bool:
            return bool((await self.server.ask("PUBSUB", "NUMSUB", f"{KEY}events"))[1] == len(self.pods))

        await comes_true(listening)

    async def errors(self, pod: InProcess) -> Collection[str]:
        """The kinds of what went wrong with Redis."""
        samples = (await pod.metrics()).samples.items()
        return {
            dict(labels)["kind"] for (name, labels), value in samples if name == "sidecar_redis_errors_total" and value
        }

    def probes(self) -> int:
        """Requests that reached the origin since its memory was cleared."""
        return len(self.origin.requests)

    async def stop(self, *pods: InProcess) -> None:
        for pod in pods or tuple(self.pods):
            pod.hang_up()
            await pod.stop()
            self.pods.remove(pod)


@asynccontextmanager
async def fleet_scene(server: RedisServer) -> AsyncIterator[FleetScene]:
    async with caching_origin(answer) as origin:
        scene = FleetScene(server, origin)
        try:
            yield scene
        finally:
            await scene.stop()
