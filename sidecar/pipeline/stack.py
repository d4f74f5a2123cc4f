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
)
from sidecar.pipeline.cache import stage as cache_stage

if TYPE_CHECKING:
    from sidecar.pipeline.ports import Handler
    from sidecar.pipeline.stage import RouteParts, Wrap

STAGES: tuple[Wrap, ...] = (
    # The circuit decides whether the upstream is asked at all, and learns from every answer. One that is switched off
    # stands here too, because an operator may force it open (breaker.md 24).
    breaker_stage.around,
    # Each attempt asks the circuit and is an outcome of its own, so repeating stands outside it; the cache and whoever
    # collapses into it see one request.
    retry_stage.around,
    # A slot is held for all attempts together. Waiting for one, or being refused one, is no outcome of the circuit's.
    bulkhead_stage.around,
    # A request without a token takes no slot and waits for none.
    rate_limit_stage.around,
    # The cache comes before the circuit: what it can answer costs no permit, and it stands in when the circuit refuses.
    cache_stage.around,
    # A fault hits a request as if the upstream and all that stands before it failed: also what the cache would answer.
    fault_stage.around,
    # A fallback is the last word: a stale stored answer comes before it, and an injected fault calls for it.
    fallback_stage.around,
    # The client's deadline bounds all that is done for the request, and an expired one gets no answer of any kind.
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
