"""The onion of one route: which stages a request passes, in which order, and why each stands where it does.

Each stage is a `Handler`: `async def handle(request) -> Response`. Every request is awaited through all of them, from
the outermost in, until one of them answers; there is no other way to an answer. A stage is added here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.pipeline import (
    breaker_stage,
    bulkhead_stage,
    deadline_stage,
    fallback_stage,
    fault_stage,
    observe_stage,
    rate_limit_stage,
    retry_stage,
    trace_stage,
)
from sidecar.pipeline.cache import stage as cache_stage
from sidecar.pipeline.fleet import lease_stage

if TYPE_CHECKING:
    from sidecar.pipeline.ports import Handler
    from sidecar.pipeline.stage import RouteParts, Wrap

STAGES: tuple[Wrap, ...] = (
    # Spans tell of each attempt, so they are noted where nothing stands between them and the network.
    trace_stage.around,
    # The circuit decides whether the upstream is asked at all, and learns from every answer. One that is switched off
    # stands here too, because an operator may force it open (breaker.md 24).
    breaker_stage.around,
    # A probe of a circuit that a fleet shares gets its lease right before the circuit is asked, so that nobody who is
    # refused holds one.
    lease_stage.around,
    # Each attempt asks the circuit and is an outcome of its own, so repeating stands outside it; the cache and whoever
    # collapses into it see one request.
    retry_stage.around,
    # A slot is held for all attempts together. Waiting for one, or being refused one, is no outcome of the circuit's.
    bulkhead_stage.around,
    # A request without a token takes no slot and waits for none.
    rate_limit_stage.around,
    # What the cache can answer costs no token, no slot and no permit; and it stands in when the bulkhead or the circuit
    # refuses, or the upstream fails in the end.
    cache_stage.around,
    # A fault hits a request as if the upstream and all that stands before it failed: also what the cache would answer.
    fault_stage.around,
    # A fallback is the last word: a stale stored answer comes before it, and an injected fault calls for it.
    fallback_stage.around,
    # The deadline bounds all that is done for a request; where it has passed when the request comes, nothing is.
    deadline_stage.around,
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
