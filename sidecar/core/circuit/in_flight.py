"""Requests that wait for something, so that time alone can tell on them without a timer each."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from sidecar.core.circuit.permit import Describe, Permit

Wait: TypeAlias = "tuple[Permit, float, Describe | None]"
"""Who waits, since when, and what makes its sample."""


class InFlight:
    """Permits with the time since when they wait, longest first.

    Times must not decrease from one `add` to the next: the first is then the first for whom time is up.
    """

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        self._waits: dict[Permit, Wait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def add(self, permit: Permit, now: float, describe: Describe | None = None) -> None:
        """From `now` on `permit` waits, also if it waited before."""
        self._waits.pop(permit, None)
        self._waits[permit] = permit, now, describe

    def discard(self, permit: Permit) -> None:
        """It waits no longer, if it did."""
        self._waits.pop(permit, None)

    def clear(self) -> None:
        """None waits any longer."""
        self._waits.clear()

    def first(self) -> Wait | None:
        """Who waits longest."""
        return next(iter(self._waits.values()), None)

    def longest(self, now: float) -> float:
        """Since when the first waits; `now` when there is none, since whoever comes will have waited for less."""
        first = self.first()
        return now if first is None else first[1]
