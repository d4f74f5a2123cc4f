"""What fallbacks name, shared by all routes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from sidecar.pipeline.ports import Handler


class StandInUpstream(NamedTuple):
    """Another upstream behind a circuit of its own. `failures`: statuses of its answers that are as good as none;
    `total`: seconds that it may take.
    """

    handler: Handler
    failures: AbstractSet[int]
    total: float = inf


@dataclass(frozen=True, slots=True)
class FallbackSources:
    """What fallbacks name: upstreams, and the contents of files by path. A reload changes the mappings in place."""

    upstreams: dict[str, StandInUpstream] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget all; a request under way that misses one passes over that fallback."""
        self.upstreams.clear()
        self.files.clear()
