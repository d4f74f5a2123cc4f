"""Who made an answer."""

from __future__ import annotations

from enum import Enum


class Source(Enum):
    """Who made the answer: the `source` label of sidecar_requests_total, as the plain attribute `label`."""

    UPSTREAM = "upstream"
    CACHE = "cache"
    STALE = "stale"
    CIRCUIT = "circuit"
    BULKHEAD = "bulkhead"
    RATE_LIMIT = "rate_limit"
    FALLBACK = "fallback"
    FAULT = "fault"
    ERROR = "error"
    SIDECAR = "sidecar"
    """The sidecar itself, with nothing amiss."""

    def __init__(self, label: str) -> None:
        self.label = label
