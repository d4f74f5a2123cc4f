"""Requests in flight, so that one that hangs counts as slow before it ends (breaker.md 5), without a timer each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.core.circuit.permit import Describe, Permit


class InFlight:
    """`permits` of one generation, oldest first, until the head of their response arrives.

    None is overdue before `check_at`, so most requests cost one comparison.
    """

    __slots__ = ("check_at", "permits")

    def __init__(self) -> None:
        self.permits: dict[Permit, Describe | None] = {}
        self.check_at = 0.0

    def pop_overdue(self, now: float, slow_after: float) -> tuple[Permit, Describe | None] | None:
        """Take out the oldest if it has been in flight for longer than `slow_after` seconds."""
        oldest = next(iter(self.permits), None)
        if oldest is not None and now - oldest.started > slow_after:
            return oldest, self.permits.pop(oldest)
        self.check_at = slow_after + (now if oldest is None else oldest.started)
        return None
