"""Fallbacks: what they stand in for, and what the circuit of a fallback upstream is called.

A stored answer comes before any fallback, since the cache stands within. What the client did wrong, and what the
sidecar says in its own name (no route, shutting down), is never replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.circuit.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

REFUSALS = frozenset({"circuit", "bulkhead", "rate_limit"})
"""Sources of refusals that a fallback replaces."""
OWN_LIMITS = frozenset({"pool_exhausted"})
"""Reasons of errors that are refusals, too, under the source `error`."""
FAULT = "fault"
CIRCUIT_PREFIX = "fallback:"
"""No route's name has a colon, so the circuit of a fallback upstream is never taken for a route's."""

TEXT = "text/plain; charset=utf-8"
CONTENT_TYPES = {
    "css": "text/css",
    "gif": "image/gif",
    "html": "text/html; charset=utf-8",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": TEXT,
    "webp": "image/webp",
    "xml": "application/xml",
}


def content_type(file: str | None) -> str:
    """What a fixed answer's content is, unless its `headers` say it: by the suffix of its file, else text."""
    if file is None:
        return TEXT
    return CONTENT_TYPES.get(file.rpartition(".")[2].lower(), "application/octet-stream")


def replaces_error(outcome: Outcome, source: str, reason: str, status: int, failures: AbstractSet[int]) -> bool:
    """Whether a fallback stands in for an error, known by what the circuit learns of it, its `source` and `reason`
    labels and its status: any failure of the upstream, and a refusal. An injected abort is replaced where an answer
    with its status would be.
    """
    if source == FAULT:
        return status in failures
    return outcome is Outcome.FAILURE or source in REFUSALS or reason in OWN_LIMITS


def replaces_answer(source: str, status: int, failures: AbstractSet[int]) -> bool:
    """Whether a fallback stands in for an answer: where its status is a failure. What an injected fault does to the
    client's connection is no answer.
    """
    return status in failures and source != FAULT


def circuit_name(upstream: str, implicit_routes: AbstractSet[str]) -> str:
    """The circuit that a fallback upstream is asked through: that of its implicit route, which has its name, or else
    one of its own, `fallback:<upstream>`.
    """
    return upstream if upstream in implicit_routes else f"{CIRCUIT_PREFIX}{upstream}"


def upstream_of(circuit: str) -> str | None:
    """The upstream that a circuit belongs to which is no route's; None for a route's circuit."""
    return circuit.removeprefix(CIRCUIT_PREFIX) if circuit.startswith(CIRCUIT_PREFIX) else None
