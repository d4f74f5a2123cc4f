"""The onion of one route: which stages a request passes, in which order, and why each stands where it does.

Each stage is a `Handler`: `async def handle(request) -> Response`. Every request is awaited through all of them, from
the outermost in, until one of them answers; there is no other way to an answer. A stage is added here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.pipeline import breaker_stage, observe_stage, trace_stage
from sidecar.pipeline.cache import stage as cache_stage

if TYPE_CHECKING:
    from sidecar.pipeline.ports import Handler
    from sidecar.pipeline.stage import RouteParts, Wrap

STAGES: tuple[Wrap, ...] = (
    # Spans tell of each attempt, so they are noted where nothing stands between them and the network.
    trace_stage.around,
    # The circuit decides whether the upstream is asked at all, and learns from every answer. One that is switched off
    # stands here too, because an operator may force it open (breaker.md 24).
    breaker_stage.around,
    # The cache comes before the circuit: what it can answer costs no permit, and it stands in when the circuit refuses.
    cache_stage.around,
    # Whatever happened inside, it is counted, logged and answered here.
    observe_stage.around,
)
"""Innermost first."""


def build_stack(upstream: Handler, parts: RouteParts) -> Handler:
    """The stages of one route around `upstream`, which speaks to the network."""
    handler = upstream
    for wrap in STAGES:
        handler = wrap(handler, parts)
    return handler
