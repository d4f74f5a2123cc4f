"""The fleet, where `redis` is configured: only then is its client loaded, which an extra of the package brings."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from sidecar import __version__
from sidecar.core.fleet.fleet import Fleet
from sidecar.core.fleet.messages import Member
from sidecar.pipeline.fleet.coordinator import Coordinator
from sidecar.pipeline.stats import FleetStats

if TYPE_CHECKING:
    from sidecar.core.circuit.gate import ProbeEnd
    from sidecar.core.config import Config
    from sidecar.core.fleet_settings import RedisSettings
    from sidecar.pipeline.fleet.ports import FleetStore
    from sidecar.pipeline.ports import Clock
    from sidecar.pipeline.runtime import Runtime


class MissingExtra(Exception):
    """A library that the configuration needs is not installed."""


def join_fleet(config: Config, runtime: Runtime) -> Coordinator | None:
    """What keeps this sidecar in step with its fleet; None where it is alone. Raises MissingExtra."""
    settings = config.redis
    if settings is None:
        return None
    me = Member(config.fleet.pod_id or f"{socket.gethostname()}-{os.getpid()}", __version__, 0.0)
    stats = FleetStats()
    store = _store(settings, me, stats, runtime.clock)

    def ended(circuit: str, end: ProbeEnd) -> None:
        coordinator.leases.ended(circuit, end)

    coordinator = Coordinator(Fleet(config.fleet, me, ended), store, runtime, settings, stats)
    return coordinator


def _store(settings: RedisSettings, me: Member, stats: FleetStats, clock: Clock) -> FleetStore:
    try:
        from sidecar.adapters.redis.fleet_store import RedisFleetStore  # noqa: PLC0415 - it weighs 7 MB
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "redis":
            raise
        message = "`redis` is configured, but its client is not installed: it comes with circuit-sidecar[redis]"
        raise MissingExtra(message) from error
    return RedisFleetStore(settings, me, stats, clock)
