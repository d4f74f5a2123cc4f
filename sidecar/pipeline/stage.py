"""What a stage is made from, and the form of the function that puts one around the stages within."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sidecar.core.redaction import NOTHING_REDACTED

if TYPE_CHECKING:
    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.config import ProxySettings, RouteConfig
    from sidecar.core.redaction import Redaction
    from sidecar.pipeline.ports import CacheStore, Clock, Handler, Spawn
    from sidecar.pipeline.record import AccessLog
    from sidecar.pipeline.stats import RouteStats


@dataclass(frozen=True, slots=True)
class Parts:
    """What the stacks of all routes share. `access_log` is told of each finished request; None: nobody is.
    `redaction` is for whatever is kept of a request's target; `traced`: somebody makes spans of requests.
    """

    proxy: ProxySettings
    clock: Clock
    spawn: Spawn
    store: CacheStore
    access_log: AccessLog | None
    redaction: Redaction = NOTHING_REDACTED
    traced: bool = False


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
