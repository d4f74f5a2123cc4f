"""Sidecars that share one Redis as their cache, before an origin whose answers can be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.caching_origin import message
from tests.support.fleet import KEY
from tests.support.wire import comes_true

if TYPE_CHECKING:
    from tests.support.fleet import FleetScene
    from tests.support.messages import WireRequest
    from tests.support.running import InProcess, Sidecar

SHARED: dict[str, Any] = {"cache": {"store": "redis"}, "upstream": {"cache": {"mode": "standard"}}}
"""Blocks for `pod_config`."""
ENTRIES = f"{KEY}cache:e:*"


class Pages:
    """Makes up the origin's answers: the body is the number of the answer, the tags are the parts of the path."""

    def __init__(self) -> None:
        self.count = 0
        self.fields = ["Cache-Control: max-age=60"]
        self.padding = b""
        self.down = False

    def __call__(self, request: WireRequest) -> bytes | None:
        if self.down:
            return message(status=503)
        self.count += 1
        tags = " ".join(request.target.decode().strip("/").split("/"))
        return message(b"%d%b" % (self.count, self.padding), *self.fields, f"Surrogate-Key: {tags}")


async def start_pods(scene: FleetScene, count: int = 2, **blocks: Any) -> list[InProcess]:
    """So many more sidecars that have the fleet's store behind their memory."""
    return await scene.start(count, **{**SHARED, **blocks})


async def looks(pod: Sidecar, result: str) -> float:
    """How many looks into the fleet's store brought this."""
    return (await pod.metrics()).total("sidecar_shared_cache_reads_total", result=result)


async def writes(pod: Sidecar, result: str = "stored") -> float:
    """What became of so many answers for the fleet's store."""
    return (await pod.metrics()).total("sidecar_shared_cache_writes_total", result=result)


async def has_written(pod: Sidecar, count: int) -> None:
    """Wait until the pod has written so many answers to the fleet's store."""

    async def done() -> bool:
        return await writes(pod) >= count

    await comes_true(done)


async def body(pod: Sidecar, target: str = "/1", *lines: str) -> bytes:
    """What a client of the pod gets."""
    answer = await pod.get(target, *lines)
    assert answer.status == 200, answer.body
    return answer.body
