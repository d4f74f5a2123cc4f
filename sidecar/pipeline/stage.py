"""What a stage is made from, and the form of the function that puts one around the stages within."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.config import ProxySettings, RouteConfig
    from sidecar.pipeline.ports import CacheStore, Clock, Handler, ProbeLeases, SharedLook, Spawn
    from sidecar.pipeline.record import AccessLog
    from sidecar.pipeline.stats import RouteStats


@dataclass(frozen=True, slots=True)
class Parts:
    """What the stacks of all routes share. `access_log` is told of each finished request; None: nobody is. `leases`
    are those of a fleet; None: this sidecar is alone. `shared_store` is the fleet's behind `store`, if there is one.
    """

    proxy: ProxySettings
    clock: Clock
    spawn: Spawn
    store: CacheStore
    access_log: AccessLog | None
    leases: ProbeLeases | None = None
    shared_store: SharedLook | None = None


@dataclass(frozen=True, slots=True)
class RouteParts:
    """What the stages of one route are made from."""

    route: RouteConfig
    circuit: Circuit
    stats: RouteStats
    shared: Parts


class Wrap(Protocol):
    """Puts one stage around `inner`; gives `inner` itself back where the route's configuration has no use for it."""

    def __call__(self, inner: Handler, parts: RouteParts) -> Handler:
        """The handler that the next stage is put around."""
