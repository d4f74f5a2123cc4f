"""What goes on for each upstream whether or not requests come: its health probes, and its warm connections."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sidecar.adapters.health import HealthMonitor
from sidecar.pipeline.errors import ProxyError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping

    from sidecar.adapters.upstream.handler import Upstream
    from sidecar.core.config import Config
    from sidecar.pipeline.data_plane import ProbeControl
    from sidecar.pipeline.ports import Clock, Spawn

log = logging.getLogger(__name__)

TOP_UP = 5.0
"""Seconds between looks at how many warm connections are left."""


@dataclass(frozen=True, slots=True)
class Work:
    """One endless task; it begins anew when `depends_on` is no longer equal to what it was."""

    name: str
    depends_on: tuple[object, ...]
    run: Callable[[], Coroutine[Any, Any, None]]


class Monitors:
    """Endless tasks, as the configuration in force wants them."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._running: dict[str, tuple[Work, asyncio.Task[None]]] = {}

    def follow(self, works: Iterable[Work]) -> None:
        """Begin what `works` has, end what it no longer has, and leave alone what did not change."""
        wanted = {work.name: work for work in works}
        for name, (work, task) in list(self._running.items()):
            if name not in wanted or wanted[name].depends_on != work.depends_on:
                task.cancel()
                del self._running[name]
        for name, work in wanted.items():
            if name not in self._running:
                self._running[name] = (work, self._spawn(work.run(), name=name))

    def close(self) -> None:
        """End everything."""
        for _, task in self._running.values():
            task.cancel()
        self._running.clear()


def health_probes(
    config: Config, circuits: ProbeControl, clock: Clock, tls: Callable[[str], ssl.SSLContext | None]
) -> Iterator[Work]:
    """The health probes of the upstreams that have some; `tls` gives the context for an upstream's https endpoints."""
    for upstream in config.upstreams:
        if upstream.health is not None:
            monitor = HealthMonitor(upstream, upstream.health, circuits, clock, partial(tls, upstream.name))
            yield Work(f"health of {upstream.name}", (upstream.health, upstream.endpoints, upstream.tls), monitor.run)


def warm_connections(config: Config, upstreams: Mapping[str, Upstream]) -> Iterator[Work]:
    """The care for warm connections to the upstreams that want some."""
    for wanted in config.upstreams:
        if wanted.pool.warm:
            upstream = upstreams[wanted.name]
            yield Work(f"warm {wanted.name}", (upstream,), partial(keep_warm, upstream, TOP_UP))


async def keep_warm(upstream: Upstream, every: float) -> None:
    """Keep `pool.warm` connections open to each address, looking every `every` seconds, for as long as the task lives.

    A failure is told when it begins: requests find out for themselves, and open what they need.
    """
    failing = False
    while True:
        try:
            await upstream.warm_up()
        except ProxyError as error:
            if not failing:
                log.warning("upstream %s: no connections ahead of requests: %s", upstream.config.name, error.detail)
            failing = True
        else:
            failing = False
        await asyncio.sleep(every)
