"""Warm connections: open before a request needs them (`pool.warm`)."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from sidecar.app.monitors import Work
from sidecar.pipeline.errors import ProxyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.adapters.upstream.handler import Upstream
    from sidecar.core.config import Config

log = logging.getLogger(__name__)

TOP_UP = 5.0
"""Seconds between looks at how many warm connections are left."""


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
