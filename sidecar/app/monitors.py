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
    from collections.abc import Callable, Coroutine, Iterator

    from sidecar.adapters.upstream.handler import Upstream
    from sidecar.app.routes import RouteSet
    from sidecar.core.config import Config, UpstreamConfig
    from sidecar.pipeline.ports import Clock, Spawn

log = logging.getLogger(__name__)

TOP_UP = 5.0
"""Seconds between looks at how many warm connections are left."""


@dataclass(frozen=True, slots=True)
class _Work:
    """One endless task; it begins anew when `depends_on` is no longer equal to what it was."""

    name: str
    depends_on: tuple[object, ...]
    run: Callable[[], Coroutine[Any, Any, None]]


class Monitors:
    """The background tasks of all upstreams. `top_up` is the time between looks at warm connections, seconds."""

    def __init__(self, clock: Clock, spawn: Spawn, top_up: float = TOP_UP) -> None:
        self._clock = clock
        self._spawn = spawn
        self._top_up = top_up
        self._running: dict[str, tuple[_Work, asyncio.Task[None]]] = {}

    def follow(self, config: Config, routes: RouteSet) -> None:
        """Begin what `config` asks for, end what it no longer asks for, and leave alone what did not change."""
        wanted = {work.name: work for upstream in config.upstreams for work in self._works(upstream, routes)}
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

    def _works(self, config: UpstreamConfig, routes: RouteSet) -> Iterator[_Work]:
        upstream = routes.upstreams[config.name]
        if config.health is not None:
            monitor = HealthMonitor(
                config.health,
                config.endpoints,
                partial(routes.circuits_of, config.name),
                self._clock,
                upstream.endpoints.tls,
                config.tls.server_name,
            )
            yield _Work(f"health of {config.name}", (upstream, config.health), monitor.run)
        if config.pool.warm:
            yield _Work(f"warm {config.name}", (upstream,), partial(keep_warm, upstream, self._top_up))


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
